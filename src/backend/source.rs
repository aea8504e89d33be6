//! Our end of a connection to a backend: which of our addresses it is dialled from.

use nix::sys::socket::{setsockopt, sockopt};
use socket2::SockRef;
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::net::{TcpSocket, TcpStream};

/// Dials an address from one of ours of its family: the one whose turn it is, or the next where that has no port left to
/// this address. Without addresses of ours the system chooses.
pub(super) async fn dial(address: SocketAddr, source: &[IpAddr], turn: usize) -> io::Result<TcpStream> {
    if source.is_empty() {
        return TcpStream::connect(address).await;
    }
    let ours: Vec<IpAddr> = source.iter().copied().filter(|ours| ours.is_ipv4() == address.is_ipv4()).collect();
    let mut last = none_of_its_family(address);
    for at in 0..ours.len() {
        match dial_from(address, ours[turn.wrapping_add(at) % ours.len()]).await {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => last = error,
            done => return done,
        }
    }
    Err(last)
}

async fn dial_from(address: SocketAddr, ours: IpAddr) -> io::Result<TcpStream> {
    let socket = socket_for(address)?;
    socket.bind(SocketAddr::new(ours, 0)).map_err(|error| named(ours, error))?;
    socket.connect(address).await.map_err(|error| named(ours, error))
}

/// Dials an address from the client's own, so that the server sees the client. The way back must lead through this host, and
/// the process must have CAP_NET_ADMIN or CAP_NET_RAW.
pub(super) async fn dial_as(address: SocketAddr, client: IpAddr) -> io::Result<TcpStream> {
    if client.is_ipv4() != address.is_ipv4() {
        return Err(io::Error::other(format!(
            "the client {client} is of another family: it cannot be dialled from there"
        )));
    }
    let socket = socket_for(address)?;
    SockRef::from(&socket).set_ip_transparent_v4(true).map_err(|error| {
        let cure = "client_address: transparent takes the capability CAP_NET_ADMIN or CAP_NET_RAW";
        io::Error::new(error.kind(), format!("{error}: {cure}"))
    })?;
    socket.bind(SocketAddr::new(client, 0)).map_err(|error| named(client, error))?;
    socket.connect(address).await.map_err(|error| named(client, error))
}

/// A socket whose port is chosen when it connects: 64k ports to each address of a backend's, not in all.
fn socket_for(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    Ok(socket)
}

fn named(ours: IpAddr, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("from {ours}: {error}"))
}

fn none_of_its_family(address: SocketAddr) -> io::Error {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    io::Error::other(format!("no address in `source` is {family}, as this one is"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn seen_from(source: &[&str], turn: usize) -> io::Result<IpAddr> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let source: Vec<IpAddr> = source.iter().map(|address| address.parse().expect("an address")).collect();
        let _dialled = dial(listener.local_addr()?, &source, turn).await?;
        Ok(listener.accept().await?.1.ip())
    }

    #[tokio::test]
    async fn our_addresses_are_dialled_from_in_turn_and_by_the_family_of_the_other() {
        let ours = ["127.0.0.21", "::1", "127.0.0.22"];
        let mut seen = Vec::new();
        for turn in 0..4 {
            seen.push(seen_from(&ours, turn).await.expect("a connection").to_string());
        }
        assert_eq!(seen, ["127.0.0.21", "127.0.0.22", "127.0.0.21", "127.0.0.22"]);
        let none = seen_from(&["::1"], 0).await.expect_err("no address to dial from").to_string();
        assert!(none.contains("no address in `source` is IPv4"), "{none}");
    }

    #[tokio::test]
    async fn an_address_that_is_not_ours_leaves_its_turn_to_the_next() {
        let seen = seen_from(&["192.0.2.77", "127.0.0.23"], 0).await.expect("a connection");
        assert_eq!(seen.to_string(), "127.0.0.23");
        let alone = seen_from(&["192.0.2.77"], 0).await.expect_err("not an address of ours").to_string();
        assert!(alone.starts_with("from 192.0.2.77: "), "{alone}");
    }
}
