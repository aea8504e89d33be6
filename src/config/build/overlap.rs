//! What cannot be at the same time: two listeners on one address, and a backend that is ourselves.

use super::super::report::{Report, Spot};
use super::backends::Backends;
use super::listeners::Built;
use super::webmail::Placed;
use crate::policy::ServerName;
use crate::policy::portal::PageKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) fn look_at(
    listeners: &[Built],
    others: &[(Spot, SocketAddr)],
    backends: &Backends,
    webmails: &[Placed],
    hostname: Option<&str>,
    report: &mut Report,
) {
    let listening: Vec<(Spot, SocketAddr)> = listeners
        .iter()
        .flat_map(|built| {
            let spot = built.spot.key("address");
            built.addresses.iter().enumerate().map(move |(index, address)| (spot.item(index), *address))
        })
        .collect();
    let all: Vec<_> = listening.iter().chain(others).collect();
    for (index, (spot, address)) in all.iter().enumerate() {
        if let Some((other, taken)) = all[..index].iter().find(|(_, other)| overlap(*address, *other)) {
            // The default addresses of the administration and of ACME are written nowhere: the listener has to give way.
            let (spot, other) = if report.was_written(spot) { (spot, other) } else { (other, spot) };
            let (mine, theirs) =
                if address == taken { (address, String::new()) } else { (address, format!(", which is {taken}")) };
            let cure = if leads_already(spot, other, listeners) {
                "leave the listener out, since browsers are led to the page from there too"
            } else {
                "write another address or port"
            };
            report.error(spot, format_args!("`{mine}` is taken already by {other}{theirs}: {cure}"));
        }
    }
    let own = own_addresses();
    for backend in backends.values().flatten() {
        for (protocol, servers) in &backend.servers {
            let spot = Spot::top("backends").key(&backend.name).key(protocol.as_str());
            for (index, server) in servers.iter().enumerate() {
                look_at_server(&spot.item(index), server, &listening, &own, hostname, report);
            }
        }
    }
    for placed in webmails {
        look_at_server(&placed.to, &placed.webmail.server, &listening, &own, hostname, report);
    }
}

/// Whether a listener that leads to the page stands where ACME's does, which leads there itself.
fn leads_already(spot: &Spot, other: &Spot, listeners: &[Built]) -> bool {
    let leads = listeners.iter().filter(|built| built.page.as_ref().is_some_and(|page| page.kind == PageKind::Lead));
    let acme = Spot::top("tls").key("acme").key("http_address");
    *other == acme && leads.map(|built| built.spot.key("address")).any(|address| spot.is_below(&address))
}

fn look_at_server(
    spot: &Spot,
    server: &ServerName,
    listening: &[(Spot, SocketAddr)],
    own: &[IpAddr],
    hostname: Option<&str>,
    report: &mut Report,
) {
    let addresses: Vec<IpAddr> = match server.host.parse() {
        Ok(address) => vec![address],
        Err(_) if server.host == "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        Err(_) => Vec::new(),
    };
    if addresses.iter().any(IpAddr::is_unspecified) {
        report.error(spot, format_args!("`{server}` is no address to connect to: write the server's own"));
        return;
    }
    for address in addresses {
        let mine = address.is_loopback() || own.contains(&address);
        let server_address = SocketAddr::new(address, server.port);
        let door = listening.iter().find(|(_, listener)| {
            listener.port() != 0
                && listener.port() == server.port
                && if listener.ip().is_unspecified() {
                    mine && covers(*listener, server_address)
                } else {
                    listener.ip() == address
                }
        });
        if let Some((other, _)) = door {
            report.error(spot, format_args!("`{server}` is our own {other}: the gateway would connect to itself"));
            return;
        }
    }
    if hostname == Some(server.host.as_str()) && listening.iter().any(|(_, listener)| listener.port() == server.port) {
        let message = format!(
            "`{server}` has our own hostname and a port we listen on: unless it resolves to another host in here, the gateway would connect to itself"
        );
        report.warning(spot, message);
    }
}

/// Whether binding both would fail, or leave it to chance who gets a connection. Port 0 is a free one each time.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0 && a.port() == b.port() && (covers(a, b) || covers(b, a))
}

/// Whether a connection to `address` may come in at `listener`. `[::]` takes IPv4 too.
fn covers(listener: SocketAddr, address: SocketAddr) -> bool {
    match listener.ip() {
        IpAddr::V6(any) if any.is_unspecified() => true,
        IpAddr::V4(any) if any.is_unspecified() => address.is_ipv4(),
        one => one == address.ip(),
    }
}

fn own_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let four = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            four.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_overlaps_each_of_its_family_and_the_one_of_ipv6_both() {
        let cases = [
            ("[::]:993", "[::]:993", true),
            ("[::]:993", "0.0.0.0:993", true),
            ("[::]:993", "192.0.2.1:993", true),
            ("[::]:993", "[2001:db8::1]:993", true),
            ("0.0.0.0:993", "192.0.2.1:993", true),
            ("0.0.0.0:993", "[2001:db8::1]:993", false),
            ("192.0.2.1:993", "192.0.2.2:993", false),
            ("[::]:993", "[::]:995", false),
            ("[::]:0", "[::]:0", false),
        ];
        for (a, b, expected) in cases {
            let (a, b) = (a.parse().expect(a), b.parse().expect(b));
            assert_eq!((overlap(a, b), overlap(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
