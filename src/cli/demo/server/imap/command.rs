//! A command taken off the wire: its lines and its literals (RFC 3501 section 4.3, RFC 7888).

use super::super::MAX_MESSAGE;
use super::super::store::{Space, Store};
use super::super::wire::Wire;
use crate::proto::line::Line;
use bytes::Bytes;
use std::io;

/// A command with its literals before a login.
const BEFORE_LOGIN: usize = 8 * 1024;
/// A command after it, messages not counted: clients name thousands of UIDs in one line.
const AFTER_LOGIN: usize = 64 * 1024;
/// What a client is let throw at us unasked before we hang up.
const SKIPPED: u64 = 100 * 1024 * 1024;

/// What came.
pub(super) enum Received {
    /// A command without its last line end, and the room that was taken for the message in it.
    Command(Bytes, Option<Space>),
    /// A command that was not let in, read to its end.
    Refused {
        /// Its tag, if it had one.
        tag: String,
        /// The answer, from `NO` or `BAD` on.
        answer: &'static str,
    },
    /// The client has gone, or was told to.
    Gone,
}

/// Reads one command. A literal is looked at before it is asked for: one that is too large costs nothing.
pub(super) async fn receive(wire: &mut Wire, store: &Store, logged_in: bool) -> io::Result<Received> {
    let bound = if logged_in { AFTER_LOGIN } else { BEFORE_LOGIN };
    let mut command = Vec::new();
    let mut message = 0;
    let mut space: Option<Space> = None;
    let mut refusal = None;
    loop {
        let (line, too_long) = match wire.line(bound).await? {
            Some(Line::Whole { bytes, .. }) => (bytes, false),
            Some(Line::TooLong) => (bytes::BytesMut::new(), true),
            None => return Ok(Received::Gone),
        };
        if too_long || command.len() - message + line.len() > bound {
            refusal = refusal.or(Some("BAD [CLIENTBUG] too long"));
        }
        if refusal.is_none() {
            command.extend_from_slice(&line);
        }
        let literal = literal_at_the_end(&line);
        let tag = || tag_of(if command.is_empty() { &line } else { &command });
        let Some(Literal { size, waits }) = literal else {
            return Ok(match refusal {
                Some(answer) => Received::Refused { tag: tag(), answer },
                None => Received::Command(command.into(), space),
            });
        };
        if refusal.is_none() {
            let kept = usize::try_from(size).ok().filter(|&size| size <= MAX_MESSAGE);
            let room = bound - (command.len() - message).min(bound);
            refusal = match kept {
                Some(size) if size <= room => None,
                Some(size) if logged_in && is_append(&command) && space.is_none() => match store.space(size) {
                    Ok(taken) => {
                        space = Some(taken);
                        message = size;
                        None
                    }
                    Err(_) => Some("NO [OVERQUOTA] no room left in the demo"),
                },
                _ => Some("NO [TOOBIG] that is too large"),
            };
        }
        match refusal {
            // A client that waits has not sent it and will not (RFC 3501 section 7.5).
            Some(answer) if waits => return Ok(Received::Refused { tag: tag(), answer }),
            Some(_) if size > SKIPPED => {
                wire.send("* BYE far too large\r\n").await?;
                return Ok(Received::Gone);
            }
            Some(_) => wire.skip(size).await?,
            None => {
                if waits {
                    wire.send("+ go on\r\n").await?;
                }
                command.extend_from_slice(b"\r\n");
                wire.octets(usize::try_from(size).unwrap_or(MAX_MESSAGE), &mut command).await?;
            }
        }
    }
}

struct Literal {
    size: u64,
    waits: bool,
}

/// `{12}` or `{12+}` at the end of a line.
fn literal_at_the_end(line: &[u8]) -> Option<Literal> {
    let inside = line.strip_suffix(b"}")?;
    let digits = &inside[inside.iter().rposition(|&b| b == b'{')? + 1..];
    let (digits, waits) = digits.strip_suffix(b"+").map_or((digits, true), |digits| (digits, false));
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = std::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::MAX);
    Some(Literal { size, waits })
}

fn is_append(command: &[u8]) -> bool {
    command.split(|&b| b == b' ').nth(1).is_some_and(|word| word.eq_ignore_ascii_case(b"APPEND"))
}

/// The tag, or `*` where there is none to give back.
pub(super) fn tag_of(command: &[u8]) -> String {
    let tag = command.split(|&b| b == b' ').next().unwrap_or_default();
    if !tag.is_empty() && tag.len() <= 64 && tag.iter().all(|&b| b.is_ascii_graphic() && !b"(){%*\"\\+".contains(&b)) {
        String::from_utf8_lossy(tag).into_owned()
    } else {
        "*".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_seen_at_the_end_of_a_line_only() {
        let cases: [(&str, Option<(u64, bool)>); 8] = [
            ("a LOGIN {3}", Some((3, true))),
            ("a LOGIN {3+}", Some((3, false))),
            ("a {99999999999999999999}", Some((u64::MAX, true))),
            ("a {3} b", None),
            ("a {}", None),
            ("a {-1}", None),
            ("a 3}", None),
            ("", None),
        ];
        for (line, expected) in cases {
            let found = literal_at_the_end(line.as_bytes()).map(|literal| (literal.size, literal.waits));
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn only_a_tag_is_given_back_as_one() {
        for (line, tag) in [("a1 NOOP", "a1"), ("A.b-7", "A.b-7"), ("* OK", "*"), ("", "*"), ("+ x", "*"), ("ü x", "*")]
        {
            assert_eq!(tag_of(line.as_bytes()), tag, "{line}");
        }
    }
}
