//! Names of mechanisms, and sets of them.

use std::borrow::Cow;
use std::fmt;

/// A SASL mechanism's name, upper-cased (RFC 4422 section 3.1), or one of the two logins that are not
/// SASL: `USER` (USER/PASS) and `APOP`. IMAP LOGIN goes by `LOGIN`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mechanism(Cow<'static, str>);

/// The names a metric may show; any other counts as `other`.
const KNOWN: [&str; 15] = [
    "PLAIN",
    "LOGIN",
    "USER",
    "APOP",
    "CRAM-MD5",
    "DIGEST-MD5",
    "SCRAM-SHA-1",
    "SCRAM-SHA-256",
    "SCRAM-SHA-512",
    "XOAUTH2",
    "OAUTHBEARER",
    "NTLM",
    "GSSAPI",
    "EXTERNAL",
    "ANONYMOUS",
];

impl Mechanism {
    /// RFC 4616.
    pub const PLAIN: Self = Self(Cow::Borrowed("PLAIN"));
    /// The undocumented one that Outlook speaks (draft-murchison-sasl-login), and IMAP LOGIN.
    pub const LOGIN: Self = Self(Cow::Borrowed("LOGIN"));
    /// RFC 2195.
    pub const CRAM_MD5: Self = Self(Cow::Borrowed("CRAM-MD5"));
    /// RFC 1939 section 7.
    pub const APOP: Self = Self(Cow::Borrowed("APOP"));
    /// USER and PASS, RFC 1939 section 7.
    pub const USER: Self = Self(Cow::Borrowed("USER"));

    /// Reads a name of 1 to 40 letters, digits, `-` and `_` in either case; `None` for anything else.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let fits = (1..=40).contains(&name.len())
            && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let name = std::str::from_utf8(name).ok().filter(|_| fits)?;
        Some(match KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name)) {
            Some(known) => Self(Cow::Borrowed(known)),
            None => Self(Cow::Owned(name.to_ascii_uppercase())),
        })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names somebody may mean who mistypes one: those that are known and may be used.
    pub fn well_known() -> impl Iterator<Item = &'static str> {
        KNOWN.into_iter().filter(|name| !Self(Cow::Borrowed(name)).is_forbidden())
    }

    /// The name for a metric: a known one, or `other`.
    pub fn label(&self) -> &'static str {
        KNOWN.iter().find(|known| **known == self.0).unwrap_or(&"other")
    }

    /// Whether it is a mechanism of SASL, and no name of ours for a login command.
    pub fn is_sasl(&self) -> bool {
        *self != Self::USER && *self != Self::APOP
    }

    /// Whether user and password are understood here, before a backend is dialled.
    pub fn names_the_user_first(&self) -> bool {
        matches!(self.as_str(), "PLAIN" | "LOGIN" | "USER")
    }

    /// Never shown nor accepted: strangers, the backend's trust in us, and channel binding that cannot cross our TLS.
    pub fn is_forbidden(&self) -> bool {
        matches!(self.as_str(), "ANONYMOUS" | "EXTERNAL") || self.0.ends_with("-PLUS")
    }

    /// Whether the SMTP session can still be followed after it: GSSAPI's or DIGEST-MD5's security layer would blind us.
    pub fn is_safe_on_smtp(&self) -> bool {
        matches!(self.as_str(), "PLAIN" | "LOGIN" | "CRAM-MD5" | "XOAUTH2" | "OAUTHBEARER")
            || self.0.starts_with("SCRAM-")
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of mechanisms from the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Mechanisms {
    /// No bound of ours.
    #[default]
    All,
    /// These alone.
    Only(Vec<Mechanism>),
}

impl Mechanisms {
    /// Whether the set holds the mechanism.
    pub fn contains(&self, mechanism: &Mechanism) -> bool {
        match self {
            Mechanisms::All => true,
            Mechanisms::Only(list) => list.contains(mechanism),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_in_either_case_and_a_strange_one_refused() {
        assert_eq!(Mechanism::parse(b"cram-md5"), Some(Mechanism::CRAM_MD5));
        assert_eq!(Mechanism::parse(b"X-NEW").map(|m| m.label()), Some("other"));
        for bad in [&b""[..], b"PLA IN", b"PL\xc3\x84IN", &[b'A'; 41]] {
            assert_eq!(Mechanism::parse(bad), None);
        }
    }

    #[test]
    fn what_cannot_cross_us_is_forbidden() {
        for name in ["SCRAM-SHA-256-PLUS", "EXTERNAL", "ANONYMOUS"] {
            assert!(Mechanism::parse(name.as_bytes()).expect("a name").is_forbidden());
        }
        assert!(!Mechanism::parse(b"GSSAPI").expect("a name").is_safe_on_smtp());
    }
}
