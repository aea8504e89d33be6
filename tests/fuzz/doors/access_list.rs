//! Access lists, as a file has them.

use super::{Input, wire};
use gatepost::policy::access::{AddressSet, Purpose, parse_list, parse_network};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The door. Holds for every text: no panic; a complaint names a line that is there, and there are at most twenty; an
/// address is on the list if the first line that holds it, looked for one by one, says so.
pub fn door(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let Ok(text) = std::str::from_utf8(input.text) else { return };
    let purpose = if input.settings[0] & 1 == 1 { Purpose::Deny } else { Purpose::Allow };
    let set = match parse_list(text, &daemons(), purpose) {
        Ok(set) => set,
        Err(bad) => {
            assert!((1..=20).contains(&bad.len()), "{} complaints", bad.len());
            for bad in bad {
                assert!((1..=text.lines().count()).contains(&bad.line), "line {} of {text:?}", bad.line);
                wire::assert_harmless(&bad.message, 2048);
            }
            return;
        }
    };
    // A backslash joins lines: then there is no telling which line it was.
    if text.contains('\\') {
        return;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<Line> = text.lines().map(|line| Line::read(line, purpose)).collect();
    for address in addresses(&lines, input.seed) {
        let decided = lines.iter().find_map(|line| line.decides(address));
        assert_eq!(set.contains(address), decided == Some(true), "{address} in {text:?}");
    }
}

fn daemons() -> Vec<String> {
    ["pops", "ipop3d", "gatepost"].map(str::to_owned).to_vec()
}

/// A line on its own.
enum Line {
    /// One network: looked at without any set of ours.
    Network(IpAddr, u8),
    /// Whom it lets on the list, and whom it leaves to the lines behind it.
    Rule { members: AddressSet, left: AddressSet },
}

impl Line {
    fn read(line: &str, purpose: Purpose) -> Self {
        // Not the first line, where a byte order mark would be taken off.
        let read =
            |line: &str| parse_list(&format!("\n{line}"), &daemons(), purpose).expect("a line of a list that was read");
        // A comment begins a line, or stands behind white space.
        let comment = line.find('#').filter(|&at| line[..at].chars().next_back().is_none_or(char::is_whitespace));
        match parse_network(line[..comment.unwrap_or(line.len())].trim()) {
            Some(network) => Line::Network(network.addr(), network.prefix_len()),
            None => {
                let everyone_else = "0.0.0.0/0\n::/0\n";
                let with_the_rest = read(&format!("{line}\n{everyone_else}"));
                let members = read(line);
                Line::Rule { left: with_the_rest.without(&members), members }
            }
        }
    }

    /// Whether an address is on the list, if this line says.
    fn decides(&self, address: IpAddr) -> Option<bool> {
        match self {
            Line::Network(network, prefix) => begins_alike(*network, address, *prefix).then_some(true),
            Line::Rule { members, left } => {
                if members.contains(address) {
                    Some(true)
                } else {
                    (!left.contains(address)).then_some(false)
                }
            }
        }
    }
}

/// Bit by bit.
fn begins_alike(network: IpAddr, address: IpAddr, prefix: u8) -> bool {
    let prefix = u32::from(prefix);
    match (network, address.to_canonical()) {
        (IpAddr::V4(network), IpAddr::V4(address)) => (network.to_bits() ^ address.to_bits()).leading_zeros() >= prefix,
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits() ^ address.to_bits()).leading_zeros() >= prefix,
        _ => false,
    }
}

/// Both ends of every network and their neighbours, and some from anywhere.
fn addresses(lines: &[Line], seed: u32) -> Vec<IpAddr> {
    let mut addresses = vec![
        IpAddr::V4(Ipv4Addr::from_bits(seed)),
        IpAddr::V6(Ipv4Addr::from_bits(seed).to_ipv6_mapped()),
        IpAddr::V6(Ipv6Addr::from_bits(u128::from(seed) << 96)),
        IpAddr::V6(Ipv6Addr::from_bits(u128::from(seed))),
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1)),
    ];
    for line in lines {
        let Line::Network(network, prefix) = line else { continue };
        let prefix = u32::from(*prefix);
        match network {
            IpAddr::V4(first) => {
                let (first, size) = (first.to_bits(), u32::MAX.checked_shr(prefix).unwrap_or(0));
                let ends = [first, first | size, first.wrapping_sub(1), (first | size).wrapping_add(1)];
                addresses.extend(ends.map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))));
            }
            IpAddr::V6(first) => {
                let (first, size) = (first.to_bits(), u128::MAX.checked_shr(prefix).unwrap_or(0));
                let ends = [first, first | size, first.wrapping_sub(1), (first | size).wrapping_add(1)];
                addresses.extend(ends.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))));
            }
        }
    }
    addresses
}
