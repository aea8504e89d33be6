//! A mail server as a client reaches it: a URL, a connection, and the dialogue up to TLS and just behind it.
//!
//! [`Wire`] is the connection and what is said on it. STARTTLS consumes the plain one: there is no variable left through
//! which something heard in the clear could be taken for what was said under TLS.

mod dial;
mod target;
mod wire;

pub(super) use dial::dial;
pub(super) use target::{Elsewhere, Target};
pub(super) use wire::{Fault, Wire};

use crate::tls::Trust;
use rustls::RootCertStore;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Who is trusted: the CAs of a file, or the system's.
///
/// # Errors
/// A sentence that says what is wrong with the file.
pub(super) fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let trust = ca.map_or(Trust::System, |file| Trust::File(PathBuf::from(file)));
    trust.roots().map_err(|error| match ca {
        Some(file) => format!("--ca {}: {error}", file.display()),
        None => format!("the system's CAs: {error}"),
    })
}

/// Our name in EHLO: the address, which is always true (RFC 5321 section 4.1.3).
pub(super) fn ehlo(address: Option<SocketAddr>) -> String {
    match address.map(|address| address.ip().to_canonical()) {
        Some(IpAddr::V4(ip)) => format!("[{ip}]"),
        Some(IpAddr::V6(ip)) => format!("[IPv6:{ip}]"),
        None => "[127.0.0.1]".to_owned(),
    }
}
