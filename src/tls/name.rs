//! The names a certificate is for.

use rustls::pki_types::DnsName;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A name in a certificate's SAN extension: the only place a client looks for one (RFC 9525 section 2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// A host name in lower case without the last dot; its first label may be `*`.
    Dns(String),
    /// An address, for clients that are set up with one. Such clients send no SNI.
    Ip(IpAddr),
}

impl Name {
    /// Tells whether a certificate with this name is valid for `host`: a name or an address as somebody would type
    /// it. `*` stands for exactly one label (RFC 9525 section 6.3).
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Ip(ip) => host.parse() == Ok(*ip),
            Self::Dns(name) => {
                let host = canonical(host);
                match name.strip_prefix("*.") {
                    None => *name == host,
                    // `a/b.example.net` would be covered, too, and is no name.
                    Some(parent) => {
                        host.split_once('.').is_some_and(|(_, rest)| rest == parent)
                            && DnsName::try_from(host.as_str()).is_ok()
                    }
                }
            }
        }
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        let name = canonical(text);
        let host = name.strip_prefix("*.").unwrap_or(&name);
        match DnsName::try_from(host) {
            Ok(_) if host.contains('*') => Err(InvalidName(text.to_owned())),
            Ok(_) => Ok(Self::Dns(name)),
            Err(_) => Err(InvalidName(text.to_owned())),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// A text that is neither a host name nor an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither a host name nor an address; write a name such as mail.example.net or *.example.net \
     (an international one in its xn-- form)"
)]
pub struct InvalidName(pub String);

/// Brings a host name into the form it is compared in: lower case, without the dot at the end.
pub(super) fn canonical(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Lists names for a sentence, and stops before the sentence gets lost in them.
pub(super) fn list(names: &[Name]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).map(Name::to_string).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_covers_itself_and_a_star_exactly_one_label() {
        for (name, host, covered) in [
            ("mail.example.net", "mail.example.net", true),
            ("mail.example.net", "MAIL.Example.NET.", true),
            ("mail.example.net", "imap.example.net", false),
            ("*.example.net", "mail.example.net", true),
            ("*.example.net", "a.mail.example.net", false),
            ("*.example.net", "example.net", false),
            ("*.example.net", ".example.net", false),
            ("*.example.net", "a@b.example.net", false),
            ("*.example.net", "3232235777/x.example.net", false),
            ("*.example.net", "[2001:db8::bad]/x.example.net", false),
            ("*.example.net", "*.example.net", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("2001:db8::1", "2001:DB8:0::1", true),
            ("192.0.2.1", "mail.example.net", false),
        ] {
            let parsed: Name = name.parse().expect("a valid name");
            assert_eq!(parsed.covers(host), covered, "{name} covers {host}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "mail example", "*", "*.*.example.net", "ma*l.example.net", "bücher.example", "a..b", "-a.b"]
        {
            assert_eq!(text.parse::<Name>(), Err(InvalidName(text.to_owned())));
        }
        let long = format!("{}.net", ["a".repeat(60).as_str(); 5].join("."));
        assert!(long.parse::<Name>().is_err());
    }
}
