//! A set of addresses as sorted ranges: membership costs the same few steps for ten networks and for a hundred thousand.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};

/// Addresses, with union and subtraction.
///
/// IPv4 is held as its v4-mapped block `::ffff:0:0/96`, so one sorted list serves both families and a
/// v4-mapped address or network is its IPv4 self without any further rule. The converse is cut off: an
/// IPv6 network that is wider than that block, such as `::/0`, holds no IPv4.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressSet {
    /// Inclusive, sorted, without overlap or touch.
    ranges: Vec<(u128, u128)>,
}

/// `::ffff:0:0/96`, first and last.
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

impl AddressSet {
    /// Every address of both families.
    pub fn everyone() -> Self {
        Self { ranges: vec![(0, u128::MAX)] }
    }

    /// Whether the address is in it; a v4-mapped one counts as the IPv4 address it holds.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = number(address);
        let behind = self.ranges.partition_point(|(first, _)| *first <= address);
        self.ranges[..behind].last().is_some_and(|(_, last)| address <= *last)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether it holds the internet of a family: all of IPv4, or of what IPv6 gives out (`2000::/3`, RFC 4291 section 2.4).
    pub fn holds_an_internet(&self) -> bool {
        let given_out = (0x2 << 124, (0x4 << 124) - 1);
        let holds = |part: (u128, u128)| self.ranges.iter().any(|range| range.0 <= part.0 && part.1 <= range.1);
        holds(MAPPED) || holds(given_out)
    }

    /// What is in any of them.
    pub fn union<'a>(sets: impl IntoIterator<Item = &'a Self>) -> Self {
        Self::merged(sets.into_iter().flat_map(|set| &set.ranges).copied().collect())
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::with_capacity(self.ranges.len());
        let mut cuts = other.ranges.iter().peekable();
        for &(mut first, last) in &self.ranges {
            while cuts.next_if(|(_, cut_last)| *cut_last < first).is_some() {}
            let mut whole = true;
            while let Some(&&(cut_first, cut_last)) = cuts.peek().filter(|(cut_first, _)| *cut_first <= last) {
                if first < cut_first {
                    left.push((first, cut_first - 1));
                }
                if cut_last >= last {
                    whole = false;
                    break;
                }
                first = cut_last + 1;
                cuts.next();
            }
            if whole {
                left.push((first, last));
            }
        }
        Self { ranges: left }
    }

    fn merged(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
                _ => merged.push((first, last)),
            }
        }
        merged.shrink_to_fit();
        Self { ranges: merged }
    }
}

impl FromIterator<IpNet> for AddressSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let mut ranges = Vec::new();
        for net in nets {
            let (first, last) = (number(net.network()), number(net.broadcast()));
            if first < MAPPED.0 && last >= MAPPED.1 {
                ranges.push((first, MAPPED.0 - 1));
                ranges.extend((last > MAPPED.1).then_some((MAPPED.1 + 1, last)));
            } else {
                ranges.push((first, last));
            }
        }
        Self::merged(ranges)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
    .to_bits()
}

/// Reads `192.0.2.7`, `10.0.0.0/8`, `10.0.0.0/255.0.0.0`, `2001:db8::/32`, `[::1]`, `[2001:db8::]/32`.
/// Bits behind the prefix are ignored; a v4-mapped network becomes the IPv4 network it holds.
pub fn parse_network(text: &str) -> Option<IpNet> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => IpAddr::V6(inner.parse::<Ipv6Addr>().ok()?),
        None => address.parse().ok()?,
    };
    let net = match prefix {
        None => IpNet::from(address),
        Some(mask) if mask.contains('.') => IpNet::with_netmask(address, mask.parse().ok()?).ok()?,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => IpNet::new(address, digits.parse().ok()?).ok()?,
        Some(_) => return None,
    };
    Some(
        match net {
            IpNet::V6(v6) => match v6.addr().to_ipv4_mapped() {
                Some(v4) if v6.prefix_len() >= 96 => IpNet::new(IpAddr::V4(v4), v6.prefix_len() - 96).ok()?,
                _ => net,
            },
            IpNet::V4(_) => net,
        }
        .trunc(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(nets: &[&str]) -> AddressSet {
        nets.iter().map(|net| parse_network(net).expect(net)).collect()
    }

    #[test]
    fn a_network_reads_as_people_write_it() {
        let cases = [
            ("192.0.2.7", "192.0.2.7/32"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("131.155.72.0/255.255.254.0", "131.155.72.0/23"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("[::1]", "::1/128"),
            ("[3ffe:505:2:1::]/64", "3ffe:505:2:1::/64"),
            ("::ffff:10.0.0.5", "10.0.0.5/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ];
        for (text, net) in cases {
            assert_eq!(parse_network(text).map(|net| net.to_string()).as_deref(), Some(net), "{text}");
        }
        for bad in [
            "",
            "10.",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "[10.0.0.1]",
            "mail.example.net",
            "10.0.0.0/255.0.255.0",
            "::1/129",
        ] {
            assert_eq!(parse_network(bad), None, "{bad}");
        }
    }

    #[test]
    fn all_of_ipv6_holds_no_ipv4() {
        let six = set(&["::/0"]);
        assert!(six.contains("2001:db8::1".parse().expect("an address")));
        assert!(!six.contains("192.0.2.1".parse().expect("an address")));
        assert!(!six.contains("::ffff:192.0.2.1".parse().expect("an address")));
        assert!(set(&["0.0.0.0/0"]).contains("::ffff:192.0.2.1".parse().expect("an address")));
    }

    #[test]
    fn neighbours_grow_together() {
        assert_eq!(set(&["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16"]), set(&["10.0.0.0/8"]));
        assert!(AddressSet::everyone().without(&AddressSet::everyone()).is_empty());
    }

    /// Networks crowded into a few octets, so that they overlap, touch and nest.
    fn nets() -> impl Strategy<Value = Vec<IpNet>> {
        let four = (0u32..64, 24u8..=32).prop_map(|(low, prefix)| {
            IpNet::new(IpAddr::V4((0x0a00_0000 | low).into()), prefix).expect("a prefix in bounds")
        });
        let six = (0u128..64, prop_oneof![120u8..=128, Just(0u8), Just(80u8)])
            .prop_map(|(low, prefix)| IpNet::new(IpAddr::V6(low.into()), prefix).expect("a prefix in bounds"));
        proptest::collection::vec(prop_oneof![four, six], 0..12)
    }

    fn addresses() -> impl Iterator<Item = IpAddr> {
        let four = (0u32..300).map(|low| IpAddr::V4((0x0a00_0000u32 | low).into()));
        let six = (0u128..300).chain([u128::MAX, MAPPED.0 - 1, MAPPED.1 + 1]).map(|n| IpAddr::V6(n.into()));
        four.chain(six)
    }

    fn oracle(nets: &[IpNet], address: IpAddr) -> bool {
        nets.iter().any(|net| net.contains(&address))
    }

    proptest! {
        #[test]
        fn membership_agrees_with_a_plain_loop(a in nets(), b in nets()) {
            let (set_a, set_b): (AddressSet, AddressSet) = (a.iter().copied().collect(), b.iter().copied().collect());
            let (union, without) = (AddressSet::union([&set_a, &set_b]), set_a.without(&set_b));
            for address in addresses() {
                let (in_a, in_b) = (oracle(&a, address), oracle(&b, address));
                prop_assert_eq!(set_a.contains(address), in_a, "{}", address);
                prop_assert_eq!(union.contains(address), in_a || in_b, "{} in the union", address);
                prop_assert_eq!(without.contains(address), in_a && !in_b, "{} in the difference", address);
            }
        }
    }
}
