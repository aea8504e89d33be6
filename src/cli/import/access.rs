//! Rules of which the first that fits decides, as our two lists: `deny`, looked at first, and `allow`.

use ipnet::IpNet;

/// Whom a listener lets in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lists {
    /// Empty: everyone.
    pub(super) allow: Vec<String>,
    pub(super) deny: Vec<String>,
    /// Nobody may come in, which an empty list cannot say.
    pub(super) nobody: bool,
}

/// One rule: whether it lets in, and whom it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allows: bool,
    /// `None`: everyone.
    pub(super) network: Option<IpNet>,
}

/// Pieces beyond this are not cut any further: no list of a person is like that.
const MOST_PIECES: usize = 10_000;
/// The most pairs of an allowed network and a denied one that are held against each other.
const MOST_COMPARED: usize = 10_000_000;

/// Makes the lists; `None` where there are too many rules to be sorted out. `otherwise`: whether those may come in about whom no rule says anything.
pub(super) fn first_match(rules: &[Rule], otherwise: bool) -> Option<Lists> {
    let (mut allow, mut deny): (Vec<IpNet>, Vec<IpNet>) = (Vec::new(), Vec::new());
    let mut rest = otherwise;
    let (allowing, denying): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|rule| rule.allows);
    if allowing.len().saturating_mul(denying.len()) > MOST_COMPARED {
        return None;
    }
    for rule in rules {
        match (rule.allows, rule.network) {
            (allows, None) => {
                rest = allows;
                break;
            }
            (true, Some(network)) => allow.push(network),
            // Our deny list is looked at first: what an earlier rule let in must not be on it.
            (false, Some(network)) => {
                let mut pieces = vec![network];
                for allowed in &allow {
                    pieces = pieces.into_iter().flat_map(|piece| without(piece, *allowed)).collect();
                    if pieces.len() > MOST_PIECES {
                        return None;
                    }
                }
                deny.extend(pieces);
            }
        }
    }
    // Who is on no list stays out anyway; only what lies inside an allowed network needs to be denied.
    if !rest {
        deny.retain(|network| allow.iter().any(|allowed| allowed.contains(network) || network.contains(allowed)));
    }
    let nobody = !rest && allow.is_empty();
    let write = |networks: Vec<IpNet>| networks.into_iter().map(written).collect();
    Some(Lists { allow: if rest { Vec::new() } else { write(allow) }, deny: write(deny), nobody })
}

/// A network without another: what is left of it, in pieces.
pub(super) fn without(network: IpNet, other: IpNet) -> Vec<IpNet> {
    if other.contains(&network) {
        return Vec::new();
    }
    if !network.contains(&other) {
        return vec![network];
    }
    let Ok(halves) = network.subnets(network.prefix_len() + 1) else { return Vec::new() };
    halves.flat_map(|half| without(half, other)).collect()
}

/// A single address is written without its length.
pub(super) fn written(network: IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() { network.addr().to_string() } else { network.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::access::parse_network;
    use proptest::prelude::*;

    fn rules(text: &str) -> Vec<Rule> {
        text.split_whitespace()
            .map(|word| {
                let (sign, network) = word.split_at(1);
                let network = (network != "all").then(|| parse_network(network).expect(word));
                Rule { allows: sign == "+", network }
            })
            .collect()
    }

    #[test]
    fn rules_become_lists() {
        for (text, otherwise, allow, deny) in [
            ("", true, "", ""),
            ("+10.0.0.0/8 -all", true, "10.0.0.0/8", ""),
            ("-10.0.0.1 +10.0.0.0/8 -all", true, "10.0.0.0/8", "10.0.0.1"),
            ("-192.0.2.7", true, "", "192.0.2.7"),
            ("-192.0.2.7 -all", true, "", ""),
            ("+10.0.0.0/31 -10.0.0.0/30", true, "", "10.0.0.2/31"),
            ("+10.0.0.0/8 -10.0.0.0/8", false, "10.0.0.0/8", ""),
            ("+2001:db8::/32 -all", true, "2001:db8::/32", ""),
            ("-10.0.0.1 +all -10.0.0.2", true, "", "10.0.0.1"),
        ] {
            let lists = first_match(&rules(text), otherwise).expect(text);
            assert_eq!((lists.allow.join(" ").as_str(), lists.deny.join(" ").as_str()), (allow, deny), "{text}");
            assert_eq!(lists.nobody, text == "-192.0.2.7 -all", "{text}");
        }
    }

    fn some_rules() -> impl Strategy<Value = Vec<Rule>> {
        let network = (0u32..64, 26u8..=32).prop_map(|(low, prefix)| {
            IpNet::new(std::net::IpAddr::V4((0x0a00_0000 | low).into()), prefix).expect("in bounds").trunc()
        });
        let rule = (any::<bool>(), proptest::option::weighted(0.9, network));
        proptest::collection::vec(rule.prop_map(|(allows, network)| Rule { allows, network }), 0..8)
    }

    proptest! {
        #[test]
        fn the_lists_let_in_whom_the_rules_let_in(rules in some_rules(), otherwise: bool) {
            let lists = first_match(&rules, otherwise).expect("few pieces");
            let holds = |list: &[String], address| {
                list.iter().any(|text| parse_network(text).expect("ours").contains(&address))
            };
            for low in 0u32..70 {
                let address = std::net::IpAddr::V4((0x0a00_0000 | low).into());
                let fits = |rule: &&Rule| rule.network.is_none_or(|network| network.contains(&address));
                let expected = rules.iter().find(fits).map_or(otherwise, |rule| rule.allows);
                let said = !lists.nobody
                    && !holds(&lists.deny, address)
                    && (lists.allow.is_empty() || holds(&lists.allow, address));
                prop_assert_eq!(said, expected, "{}", address);
            }
        }
    }
}
