//! TLS on the client's side of the gateway: which certificate a client is shown, what is wrong with one, how a
//! new one takes the place of the old, and what a handshake came to. On the other side: which server is believed.
//!
//! ```text
//! CertificateFiles --load--> Identity + findings --> Certificates (chosen by SNI and key type)
//! PrivateCa --identity-----> Identity                    |
//! acme::Folder (a public CA's) --load--> Identity        |
//!                                                  ServerTls.config(alpn) --> rustls
//! a file of CAs --read--> ClientCa ----believe--------> ServerTls.config_for(alpn, demand) --> rustls --> Holder
//! Watched.poll(now): looks at the files again and swaps the Certificates under every listener at once
//! ```
//!
//! [`witness`] and [`examine_presented`] are for looking at somebody else's server: whatever is wrong with what it shows.
//!
//! Everything here is a function or a value: no socket, no task, no timer. The time is an argument, and files are
//! read where the doc says so, so a caller does that on a thread that may block. The cryptography is always
//! [`provider`]'s; the process-wide default of rustls is neither read nor set.

mod acme;
mod ca;
mod certificates;
mod chain;
mod client;
mod client_ca;
mod disk;
mod facts;
mod files;
mod finding;
mod hello;
mod holder;
mod identity;
mod name;
mod presented;
mod server;
mod shown;
mod staple;
#[cfg(test)]
mod testing;
mod watch;

pub use acme::{
    AcmeError, Folder, InvalidRecord, LeftRecord, Proofs, Request, Tries, TxtRecord, Window, certificate_id, renewal,
};
pub use ca::{CaError, Issued, PrivateCa, Root};
pub use certificates::Certificates;
pub use chain::Link;
pub use client::{Trust, TrustError, client_config, server_name, words};
pub use client_ca::{ClientCa, ClientCaWarning, Demand, WatchedClientCa};
pub use disk::DiskError;
pub use facts::{FAILURE_REASONS, Facts, failure_reason, failure_words};
pub use files::CertificateFiles;
pub use finding::{ChainFinding, Severity};
pub use hello::{TooOld, client_hello_version};
pub use holder::Holder;
pub use identity::{Checked, Identity, KeyKind};
pub use name::{InvalidName, Name};
pub use presented::{Presented, examine_presented, witness};
pub use server::{Alpn, MinVersion, ServerTls, Settings, hearing_the_name};
pub use shown::{Shown, show};
pub use staple::StapleFault;
pub use watch::{Change, SETTLING, Source, Watched};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use std::sync::{Arc, LazyLock};

/// Gives the one provider of cryptography: aws-lc-rs with rustls' own suites, which are AEAD with ephemeral keys
/// and nothing else (RFC 9325), and X25519MLKEM768 as the first key exchange.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}
