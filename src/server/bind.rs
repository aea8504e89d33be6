//! Sockets, before privileges are dropped: at each address one for each worker, which the kernel spreads connections over.

use super::acme;
use crate::policy::{Door, Policy};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

/// Connections the kernel completes before we have accepted them.
const BACKLOG: i32 = 4096;
/// A client that vanished without a word is noticed after about this long; IDLE sessions last for hours.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(300)).with_interval(Duration::from_secs(60)).with_retries(5);

/// Sockets that listen, each with the listener it belongs to.
#[derive(Debug, Default)]
pub struct Bound {
    /// What listens at each address.
    pub addresses: Vec<BoundAddress>,
    /// The admin address, if there is one.
    pub admin: Option<TcpListener>,
    /// What is needed to get certificates from a public CA, if that is wanted.
    pub acme: Option<acme::Means>,
    /// What the operator should know, once there is a log.
    pub notes: Vec<String>,
}

/// An address that is listened on.
#[derive(Debug)]
pub struct BoundAddress {
    /// What it is for.
    pub door: Door,
    /// The address as it is configured. The sockets' own may differ: port 0 is another one when it is bound, and `[::]`
    /// may have become 0.0.0.0.
    pub configured: SocketAddr,
    /// The sockets, one for each worker.
    pub sockets: Vec<TcpListener>,
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

/// Binds every address of the policy, with a socket for each of so many workers.
///
/// # Errors
/// All addresses that cannot be bound, at once.
pub fn bind(policy: &Policy, workers: usize) -> Result<Bound, Vec<BindError>> {
    let mut bound = Bound::default();
    let mut errors = Vec::new();
    for door in policy.doors() {
        for &configured in door.addresses() {
            match listen_for(configured, workers) {
                Ok((sockets, note)) => {
                    bound.notes.extend(note);
                    bound.addresses.push(BoundAddress { door: door.clone(), configured, sockets });
                }
                Err(error) => errors.push(BindError { listener: door.name().to_owned(), address: configured, error }),
            }
        }
    }
    if let Some(address) = policy.admin.address {
        match listen(address) {
            Ok((socket, _)) => bound.admin = Some(socket),
            Err(error) => errors.push(BindError { listener: "admin".to_owned(), address, error }),
        }
    }
    if let Some(acme) = &policy.tls.acme {
        let socket = acme.challenge.address().map(|address| {
            listen(address).map_err(|error| BindError { listener: "tls.acme".to_owned(), address, error })
        });
        match socket.transpose() {
            Ok(listening) => {
                let (socket, note) = listening.unzip();
                bound.notes.extend(note.flatten());
                bound.acme = Some(acme::Means::of(acme, socket));
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(bound) } else { Err(errors) }
}

/// Listens on one address with a socket for each of so many workers. Whoever else is there, another gatepost too, is found.
///
/// SO_REUSEPORT lets everything of the same user in, so the first socket is bound and listens without it: that is refused
/// where anybody is. Only then does it let in its own kind.
///
/// # Errors
/// The system's.
pub fn listen_for(address: SocketAddr, workers: usize) -> io::Result<(Vec<TcpListener>, Option<String>)> {
    let (first, note) = listen(address)?;
    let mut sockets = vec![first];
    if workers > 1 {
        // Port 0 is another one by now, and `[::]` may be 0.0.0.0.
        let address = sockets[0].local_addr()?;
        SockRef::from(&sockets[0]).set_reuse_port(true)?;
        for _ in 1..workers {
            sockets.push(listen_as(address, Sharing::WithOurOwn)?);
        }
    }
    Ok((sockets, note))
}

/// Listens on one address. `[::]` takes IPv4 too; on a host without IPv6 it becomes 0.0.0.0, and the note says so.
///
/// # Errors
/// The system's.
pub fn listen(address: SocketAddr) -> io::Result<(TcpListener, Option<String>)> {
    match listen_as(address, Sharing::WithNobody) {
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() && is_without_ipv6(&error) => {
            let instead = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            let note = format!("this host has no IPv6: listening on {instead} instead of {address}");
            Ok((listen_as(instead, Sharing::WithNobody)?, Some(note)))
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

/// Whom an address is shared with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    WithNobody,
    WithOurOwn,
}

fn listen_as(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restart must not wait for the connections of the last run to be forgotten.
    socket.set_reuse_address(true)?;
    if sharing == Sharing::WithOurOwn {
        socket.set_reuse_port(true)?;
    }
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
    fn who_comes_second_is_refused_however_many_sockets_either_has() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            for (ours, theirs) in [(1, 1), (1, 3), (3, 1), (3, 3)] {
                let (taken, _) = listen_for(address.parse().expect("an address"), ours).expect("a free port");
                assert_eq!(taken.len(), ours);
                let here = taken[0].local_addr().expect("bound");
                assert!(taken.iter().all(|socket| socket.local_addr().is_ok_and(|address| address == here)));
                let error = listen_for(here, theirs).expect_err("it is taken");
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{address} {ours} {theirs}");
                let ipv4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), here.port());
                assert!(listen_for(ipv4, theirs).is_err(), "{address} takes IPv4 too");
            }
        }
    }

    #[test]
    fn connections_are_spread_over_the_sockets() {
        let (sockets, _) = listen_for("[::]:0".parse().expect("an address"), 2).expect("a free port");
        let port = sockets[0].local_addr().expect("bound").port();
        let clients = (0..100).map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens"));
        let clients: Vec<_> = clients.collect();
        let queued = |socket: &TcpListener| std::iter::from_fn(|| socket.accept().ok()).count();
        let queued: Vec<_> = sockets.iter().map(queued).collect();
        assert_eq!(queued.iter().sum::<usize>(), clients.len());
        assert!(queued.iter().all(|queued| *queued > 0), "{queued:?}");
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
