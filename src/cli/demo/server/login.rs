//! Who may come in: one user, by password, digest or SASL exchange.

use super::wire::Wire;
use super::{PASSWORD, USER};
use crate::proto::line::{Line, MAX_SASL};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use std::fmt::Write as _;
use std::io;

/// The mechanisms all three protocols list.
pub(super) const MECHANISMS: [&str; 3] = ["PLAIN", "LOGIN", "CRAM-MD5"];

/// Whether this is the user's name: the address, or what stands before its `@`.
pub(super) fn knows(user: &[u8]) -> bool {
    let local = USER.split('@').next().unwrap_or(USER);
    user.eq_ignore_ascii_case(USER.as_bytes()) || user.eq_ignore_ascii_case(local.as_bytes())
}

/// Whether name and password are right.
pub(super) fn accepts(user: &[u8], password: &[u8]) -> bool {
    knows(user) && password == PASSWORD.as_bytes()
}

/// Whether the digest of an APOP (RFC 1939 section 7) fits the greeting's timestamp.
pub(super) fn accepts_apop(user: &[u8], timestamp: &str, digest: &[u8]) -> bool {
    let expected = hex(&Md5::new().chain_update(timestamp).chain_update(PASSWORD).finalize());
    knows(user) && digest.eq_ignore_ascii_case(expected.as_bytes())
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The user is who he says.
    Accepted,
    /// He is not.
    Wrong,
    /// The client sent `*`, or nothing any more.
    Cancelled,
    /// Not base64, or not in the mechanism's form.
    Malformed,
    /// A mechanism that is not offered.
    Unknown,
}

/// Holds a SASL exchange (RFC 4422). `prompt` stands before each challenge: `+ ` or `334 `.
pub(super) async fn converse(
    wire: &mut Wire,
    mechanism: &str,
    initial: Option<&[u8]>,
    prompt: &str,
) -> io::Result<Verdict> {
    let Some(mut exchange) = Exchange::begin(mechanism) else { return Ok(Verdict::Unknown) };
    let mut said = initial.map(|response| if response == b"=" { Vec::new() } else { response.to_vec() });
    loop {
        let response = match said.take() {
            Some(response) if exchange.takes_initial() => response,
            Some(_) => return Ok(Verdict::Malformed),
            None => {
                wire.send(format!("{prompt}{}\r\n", BASE64.encode(exchange.challenge()))).await?;
                match wire.line(MAX_SASL).await? {
                    Some(Line::Whole { bytes, .. }) if &bytes[..] == b"*" => return Ok(Verdict::Cancelled),
                    Some(Line::Whole { bytes, .. }) => bytes.to_vec(),
                    Some(Line::TooLong) => return Ok(Verdict::Malformed),
                    None => return Ok(Verdict::Cancelled),
                }
            }
        };
        let Ok(response) = BASE64.decode(response) else { return Ok(Verdict::Malformed) };
        match exchange.respond(&response) {
            Next::Ask(next) => exchange = next,
            Next::End(verdict) => return Ok(verdict),
        }
    }
}

/// Where an exchange stands.
enum Exchange {
    Plain,
    LoginName,
    LoginPassword { user: Vec<u8> },
    CramMd5 { challenge: String },
}

enum Next {
    Ask(Exchange),
    End(Verdict),
}

impl Exchange {
    fn begin(mechanism: &str) -> Option<Self> {
        Some(match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => Self::Plain,
            "LOGIN" => Self::LoginName,
            "CRAM-MD5" => Self::CramMd5 { challenge: timestamp() },
            _ => return None,
        })
    }

    fn takes_initial(&self) -> bool {
        matches!(self, Self::Plain | Self::LoginName)
    }

    fn challenge(&self) -> &[u8] {
        match self {
            Self::Plain => b"",
            Self::LoginName => b"Username:",
            Self::LoginPassword { .. } => b"Password:",
            Self::CramMd5 { challenge } => challenge.as_bytes(),
        }
    }

    fn respond(self, response: &[u8]) -> Next {
        let verdict = match self {
            Self::Plain => match response.split(|&b| b == 0).collect::<Vec<_>>()[..] {
                [authzid, user, password] if authzid.is_empty() || authzid == user => judged(accepts(user, password)),
                [_, _, _] => Verdict::Wrong,
                _ => Verdict::Malformed,
            },
            Self::LoginName => return Next::Ask(Self::LoginPassword { user: response.to_vec() }),
            Self::LoginPassword { user } => judged(accepts(&user, response)),
            Self::CramMd5 { challenge } => match response.iter().rposition(|&b| b == b' ') {
                Some(space) => {
                    let digest = hex(&keyed_md5(PASSWORD.as_bytes(), challenge.as_bytes()));
                    judged(knows(&response[..space]) && response[space + 1..].eq_ignore_ascii_case(digest.as_bytes()))
                }
                None => Verdict::Malformed,
            },
        };
        Next::End(verdict)
    }
}

/// A message id nobody has seen yet: APOP's timestamp and CRAM-MD5's challenge.
pub(super) fn timestamp() -> String {
    format!("<{:x}.{}@mail.example.net>", rand::random::<u64>(), time::OffsetDateTime::now_utc().unix_timestamp())
}

fn judged(right: bool) -> Verdict {
    if right { Verdict::Accepted } else { Verdict::Wrong }
}

fn keyed_md5(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_rfc_2195_is_what_we_compute() {
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        assert_eq!(hex(&keyed_md5(b"tanstaaftanstaaf", challenge)), "b913a602c7eda7a495b4e6e7334d3890");
    }

    #[test]
    fn the_user_goes_by_address_and_by_its_local_part() {
        for (user, password, right) in [
            ("joe@example.net", "demo", true),
            ("JOE@example.net", "demo", true),
            ("joe", "demo", true),
            ("joe", "Demo", false),
            ("joe@example.org", "demo", false),
            ("", "", false),
        ] {
            assert_eq!(accepts(user.as_bytes(), password.as_bytes()), right, "{user}");
        }
    }
}
