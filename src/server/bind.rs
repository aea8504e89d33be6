//! Sockets, before privileges are dropped.

use crate::policy::{Listener, Policy};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// Connections the kernel completes before we have accepted them.
const BACKLOG: i32 = 4096;
/// A client that vanished without a word is noticed after about this long; IDLE sessions last for hours.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(300)).with_interval(Duration::from_secs(60)).with_retries(5);

/// Sockets that listen, each with the listener it belongs to.
#[derive(Debug, Default)]
pub struct Bound {
    /// One for each address.
    pub sockets: Vec<BoundSocket>,
    /// The admin address, if there is one.
    pub admin: Option<TcpListener>,
    /// What the operator should know, once there is a log.
    pub notes: Vec<String>,
}

/// A socket that listens.
#[derive(Debug)]
pub struct BoundSocket {
    /// What it is for.
    pub listener: Arc<Listener>,
    /// The address as it is configured. The socket's own may differ: port 0 is another one when it is bound, and `[::]`
    /// may have become 0.0.0.0.
    pub configured: SocketAddr,
    /// The socket.
    pub socket: TcpListener,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (listener {listener}): {error}{}", hint(error))]
pub struct BindError {
    /// The listener's name.
    pub listener: String,
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub error: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program listens there: `ss -ltnp` names it",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 want root at start (runtime.user drops it) or CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "; this host has no such address",
        _ => "",
    }
}

/// Binds every address of the policy.
///
/// # Errors
/// All addresses that cannot be bound, at once.
pub fn bind(policy: &Policy) -> Result<Bound, Vec<BindError>> {
    let mut bound = Bound::default();
    let mut errors = Vec::new();
    for listener in &policy.listeners {
        for &configured in &listener.addresses {
            match listen(configured) {
                Ok((socket, note)) => {
                    bound.notes.extend(note);
                    bound.sockets.push(BoundSocket { listener: Arc::clone(listener), configured, socket });
                }
                Err(error) => errors.push(BindError { listener: listener.name.clone(), address: configured, error }),
            }
        }
    }
    if let Some(address) = policy.admin.address {
        match listen(address) {
            Ok((socket, _)) => bound.admin = Some(socket),
            Err(error) => errors.push(BindError { listener: "admin".to_owned(), address, error }),
        }
    }
    if errors.is_empty() { Ok(bound) } else { Err(errors) }
}

/// Listens on one address. `[::]` takes IPv4 too; on a host without IPv6 it becomes 0.0.0.0, and the note says so.
///
/// # Errors
/// The system's.
pub fn listen(address: SocketAddr) -> io::Result<(TcpListener, Option<String>)> {
    match listen_as(address) {
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() && is_without_ipv6(&error) => {
            let instead = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            let note = format!("this host has no IPv6: listening on {instead} instead of {address}");
            Ok((listen_as(instead)?, Some(note)))
        }
        result => Ok((result?, None)),
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    use nix::errno::Errno;
    error
        .raw_os_error()
        .map(Errno::from_raw)
        .is_some_and(|errno| matches!(errno, Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
}

fn listen_as(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restart must not wait for the connections of the last run to be forgotten.
    socket.set_reuse_address(true)?;
    // Both are inherited by what is accepted, which saves two calls a session.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unspecified_address_takes_ipv4_too() {
        let (socket, _) = listen("[::]:0".parse().expect("an address")).expect("a free port");
        let port = socket.local_addr().expect("bound").port();
        std::net::TcpStream::connect(("127.0.0.1", port)).expect("IPv4 gets in");
    }

    #[test]
    fn an_address_in_use_is_named_with_what_to_do() {
        let (taken, _) = listen("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let address = taken.local_addr().expect("bound");
        let error = BindError {
            listener: "imaps".to_owned(),
            address,
            error: listen(address).map(|_| ()).expect_err("it is taken"),
        };
        let text = error.to_string();
        assert!(text.contains(&address.to_string()) && text.contains("imaps") && text.contains("ss -ltnp"), "{text}");
    }
}
