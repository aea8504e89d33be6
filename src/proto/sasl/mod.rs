//! SASL as it passes through us (RFC 4422): names, credentials, and both sides of an exchange.
//!
//! PLAIN (RFC 4616) and LOGIN are understood, so the user is known before a backend is dialled; every
//! other mechanism passes through line by line, and [`user_of`] only looks. The three protocols frame
//! an exchange differently and share its logic: [`Exchange`] towards the client, [`Script`] towards
//! the backend. What goes over the wire in between is base64 (RFC 4648 section 4).

mod exchange;
mod mechanism;
mod script;

pub use exchange::{Exchange, Outcome};
pub use mechanism::{Mechanism, Mechanisms};
pub use script::{Script, Way};

use super::line::printable;
use super::{Protocol, Secret};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut, BytesMut};

/// A login name as the client gave it: not empty, no NUL, CR or LF, otherwise any bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserName(Vec<u8>);

impl UserName {
    /// # Errors
    /// [`BadCredential`] for a name from which a second backend command could be built (must-hold 22), or for none.
    pub fn new(bytes: &[u8]) -> Result<Self, BadCredential> {
        if bytes.is_empty() || holds_line_break_or_nul(bytes) {
            return Err(BadCredential);
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The name, byte for byte.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What a server takes of the name: without blanks around it, and on POP3 only its first word, for that is all many old
    /// servers take. Whoever counts or routes by more makes a blank another user.
    pub fn as_taken(&self, protocol: Protocol) -> &[u8] {
        let is_blank = |b: &u8| *b == b' ' || b.is_ascii_control();
        let Some(first) = self.0.iter().position(|b| !is_blank(b)) else { return &[] };
        let name = &self.0[first..];
        let end = match protocol {
            Protocol::Pop3 => name.iter().position(is_blank).unwrap_or(name.len()),
            Protocol::Imap | Protocol::Smtp => name.iter().rposition(|b| !is_blank(b)).map_or(0, |last| last + 1),
        };
        &name[..end]
    }

    /// The name for an event: escaped, cut at 255 octets.
    pub fn display(&self) -> String {
        printable(&self.0, 255)
    }
}

/// A name as it is compared: in lower case, but for the few letters beyond ASCII whose lower case is within (KELVIN SIGN becomes
/// `k`), which would let a stranger fail and succeed in another's name. What is not UTF-8 is folded as ASCII.
pub fn fold(name: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(name) else { return name.to_ascii_lowercase() };
    let mut lower = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_ascii() || c.to_lowercase().all(|l| !l.is_ascii()) {
            true => lower.extend(c.to_lowercase()),
            false => lower.push(c),
        }
    }
    lower.into_bytes()
}

/// A credential that holds NUL, CR or LF, or is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a credential with a forbidden byte, or none")]
pub struct BadCredential;

/// One attempt to log in, as a front half read it.
#[derive(Debug, Clone)]
pub struct Login {
    /// How the client said it. IMAP LOGIN counts as `LOGIN`, USER/PASS as `USER`.
    pub mechanism: Mechanism,
    /// What it said.
    pub credentials: Credentials,
}

impl Login {
    /// A user and a password.
    ///
    /// # Errors
    /// [`BadCredential`] if either holds NUL, CR or LF, or the name is empty.
    pub fn password(mechanism: Mechanism, user: &[u8], password: &[u8]) -> Result<Self, BadCredential> {
        if holds_line_break_or_nul(password) {
            return Err(BadCredential);
        }
        let credentials =
            Credentials::Password { authzid: None, user: UserName::new(user)?, password: Secret::from(password) };
        Ok(Self { mechanism, credentials })
    }

    /// Who wants to log in, as far as it is known before the backend was asked.
    pub fn user(&self) -> Option<UserName> {
        match &self.credentials {
            Credentials::Password { user, .. } | Credentials::Apop { user, .. } => Some(user.clone()),
            Credentials::Sasl { initial } => user_of(&self.mechanism, initial.as_ref()?.declassify()),
        }
    }

    /// Whose mailbox it is to be, where that is another's: PLAIN's authorization identity, escaped for an event.
    pub fn authorized_as(&self) -> Option<String> {
        match &self.credentials {
            Credentials::Password { authzid, .. } => authzid.as_ref().map(UserName::display),
            Credentials::Apop { .. } | Credentials::Sasl { .. } => None,
        }
    }

    /// The password, where one was seen.
    pub fn secret(&self) -> Option<&Secret<Vec<u8>>> {
        match &self.credentials {
            Credentials::Password { password, .. } => Some(password),
            Credentials::Apop { .. } | Credentials::Sasl { .. } => None,
        }
    }
}

/// What a client showed for itself.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// IMAP LOGIN, USER/PASS, SASL PLAIN or LOGIN.
    Password {
        /// PLAIN's authorization identity, where it is given and differs from the user.
        authzid: Option<UserName>,
        /// The name.
        user: UserName,
        /// The password; may be empty.
        password: Secret<Vec<u8>>,
    },
    /// POP3 APOP (RFC 1939 section 7).
    Apop {
        /// The name.
        user: UserName,
        /// 32 hexadecimal digits.
        digest: Secret<Vec<u8>>,
    },
    /// Any other mechanism, passed through.
    Sasl {
        /// The initial response, decoded; empty where the client sent `=`.
        initial: Option<Secret<Vec<u8>>>,
    },
}

/// The user named in a response of a mechanism that is passed through, where its form is known.
pub fn user_of(mechanism: &Mechanism, response: &[u8]) -> Option<UserName> {
    let name = mechanism.as_str();
    if name == "CRAM-MD5" {
        // RFC 2195 section 2: name, space, digest; the name may hold spaces.
        let space = response.iter().rposition(|&b| b == b' ')?;
        UserName::new(&response[..space]).ok()
    } else if name == "XOAUTH2" {
        let rest = response.strip_prefix(b"user=")?;
        UserName::new(rest.split(|&b| b == 1).next()?).ok()
    } else if name == "OAUTHBEARER" {
        // RFC 7628 section 3.1: the GS2 header carries the user as a=.
        let header = response.split(|&b| b == 1).next()?;
        let name = header.split(|&b| b == b',').find_map(|part| part.strip_prefix(b"a="))?;
        UserName::new(&unescape_saslname(name)?).ok()
    } else if name.starts_with("SCRAM-") {
        // RFC 5802 section 7: gs2-header, then n=name,r=nonce.
        let mut parts = response.split(|&b| b == b',');
        let flag = parts.next()?;
        (flag == b"n" || flag == b"y").then_some(())?;
        parts.next()?;
        UserName::new(&unescape_saslname(parts.next()?.strip_prefix(b"n=")?)?).ok()
    } else if name == "DIGEST-MD5" {
        UserName::new(&digest_username(response)?).ok()
    } else {
        None
    }
}

/// RFC 2831 section 2.1.2: `username="…"` among directives in any order, each value a token or a quoted string. Twice it says
/// nothing, for nobody knows which one the backend takes.
fn digest_username(response: &[u8]) -> Option<Vec<u8>> {
    let (mut found, mut rest) = (None, response);
    while let Some(equals) = memchr::memchr(b'=', rest) {
        let key = rest[..equals].trim_ascii();
        rest = rest[equals + 1..].trim_ascii_start();
        let mut value = Vec::new();
        if let Some(quoted) = rest.strip_prefix(b"\"") {
            let mut bytes = quoted.iter();
            loop {
                match bytes.next()? {
                    b'"' => break,
                    b'\\' => value.push(*bytes.next()?),
                    byte => value.push(*byte),
                }
            }
            rest = bytes.as_slice();
        } else {
            let end = memchr::memchr(b',', rest).unwrap_or(rest.len());
            value.extend_from_slice(rest[..end].trim_ascii_end());
        }
        if key.eq_ignore_ascii_case(b"username") && found.replace(value).is_some() {
            return None;
        }
        let Some(comma) = memchr::memchr(b',', rest) else { break };
        rest = &rest[comma + 1..];
    }
    found
}

/// RFC 5802 section 5.1: `=2C` is a comma, `=3D` an equals sign, no other `=` may stand.
fn unescape_saslname(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        plain.push(match first {
            b'=' => {
                let (code, tail) = (rest.get(..2)?, rest.get(2..)?);
                rest = tail;
                match code {
                    b"2C" => b',',
                    b"3D" => b'=',
                    _ => return None,
                }
            }
            other => other,
        });
    }
    Some(plain)
}

/// Canonical alphabet; padding may be missing, as some old clients leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes a base64 line.
///
/// # Errors
/// [`BadCredential`] for anything that is not base64.
pub fn decode(line: &[u8]) -> Result<Secret<Vec<u8>>, BadCredential> {
    BASE64.decode(line).map(Secret::new).map_err(|_| BadCredential)
}

/// Appends the base64 of `bytes`, without a line end.
pub fn encode(bytes: &[u8], out: &mut BytesMut) {
    let text = zeroize::Zeroizing::new(BASE64.encode(bytes));
    out.put_slice(text.as_bytes());
}

fn holds_line_break_or_nul(bytes: &[u8]) -> bool {
    memchr::memchr3(b'\r', b'\n', 0, bytes).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_read_from_what_passes_through() {
        /// Mechanism, response, the user in it.
        type Case<'a> = (&'a str, &'a [u8], Option<&'a [u8]>);
        let cases: &[Case<'_>] = &[
            ("CRAM-MD5", b"joe b913a602c7eda7a495b4e6e7334d3890", Some(b"joe")),
            ("CRAM-MD5", b"joe smith b913a602", Some(b"joe smith")),
            ("CRAM-MD5", b"nodigest", None),
            ("CRAM-MD5", b"jo\r\ne b913", None),
            ("XOAUTH2", b"user=joe@example.net\x01auth=Bearer x\x01\x01", Some(b"joe@example.net")),
            ("OAUTHBEARER", b"n,a=joe@example.net,\x01host=h\x01auth=Bearer x\x01\x01", Some(b"joe@example.net")),
            ("SCRAM-SHA-256", b"n,,n=jo=2Ce,r=abc", Some(b"jo,e")),
            ("SCRAM-SHA-256", b"n,a=x,n=joe,r=abc", Some(b"joe")),
            ("SCRAM-SHA-256", b"n,,n=jo=XXe,r=abc", None),
            ("SCRAM-SHA-256", b"c=biws,r=abc,p=proof", None),
            (
                "DIGEST-MD5",
                b"charset=utf-8,username=\"joe\",realm=\"h\",nonce=\"a,username=b\",nc=00000001",
                Some(b"joe"),
            ),
            ("DIGEST-MD5", b"nonce=\"x\", USERNAME = \"j\\\"o e\" ,nc=1", Some(b"j\"o e")),
            ("DIGEST-MD5", b"username=joe,nc=1", Some(b"joe")),
            ("DIGEST-MD5", b"username=\"joe\",username=\"ann\"", None),
            ("DIGEST-MD5", b"username=\"joe", None),
            ("DIGEST-MD5", b"realm=\"username=x\"", None),
            ("NTLM", b"NTLMSSP\0", None),
        ];
        for (mechanism, response, user) in cases {
            let mechanism = Mechanism::parse(mechanism.as_bytes()).expect("a mechanism of the table");
            assert_eq!(user_of(&mechanism, response).as_ref().map(UserName::as_bytes), *user, "{mechanism}");
        }
    }

    #[test]
    fn no_credential_holds_a_line_break_or_nul() {
        for bad in [&b"a\rb"[..], b"a\nb", b"a\0b"] {
            assert!(Login::password(Mechanism::LOGIN, bad, b"p").is_err());
            assert!(Login::password(Mechanism::LOGIN, b"u", bad).is_err());
        }
        assert!(Login::password(Mechanism::LOGIN, b"", b"p").is_err());
        assert!(Login::password(Mechanism::LOGIN, b"u", b"").is_ok());
    }
}
