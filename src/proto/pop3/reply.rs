//! What a POP3 server says, read from its lines.

use crate::proto::line::printable;
use crate::proto::{BackSettings, BackStep, Reply, UserName};

/// The longest text kept of a reply.
const MAX_TEXT: usize = 512;
/// The longest response code looked for.
const MAX_CODE: usize = 64;

/// A line by its status indicator, with what stands behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Status<'a> {
    Ok(&'a [u8]),
    Err(&'a [u8]),
    /// `+`: the server's turn in an exchange (RFC 5034 section 4).
    Continue(&'a [u8]),
    /// None of the three.
    Other,
}

impl<'a> Status<'a> {
    /// Reads a line. Servers say `+OK` in capitals; some old ones do not.
    pub(super) fn parse(line: &'a [u8]) -> Self {
        if let Some(text) = behind(line, b"+OK") {
            Status::Ok(text)
        } else if let Some(text) = behind(line, b"-ERR") {
            Status::Err(text)
        } else if line == b"+" || line.starts_with(b"+ ") {
            Status::Continue(line[1..].trim_ascii())
        } else {
            Status::Other
        }
    }
}

/// Whether what has come so far can still become a line that begins with `+OK` or `-ERR`.
pub(super) fn may_be_a_greeting(input: &[u8]) -> bool {
    [&b"+OK"[..], b"-ERR"].iter().any(|status| {
        let length = status.len().min(input.len());
        input[..length].eq_ignore_ascii_case(&status[..length])
    })
}

/// The reply in an `+OK`.
pub(super) fn acceptance(text: &[u8]) -> Reply {
    Reply { code: None, text: printable(text, MAX_TEXT), capabilities: None }
}

/// The reply in an `-ERR`, its response code (RFC 2449 section 8) taken off.
pub(super) fn refusal(text: &[u8]) -> Reply {
    let (code, text) = code(text).unwrap_or((None, text));
    Reply { code, text: printable(text, MAX_TEXT), capabilities: None }
}

/// What an `-ERR` to a login means: a verdict on the credentials, or "not now" (RFC 2449 section 8.1, RFC 3206).
pub(super) fn verdict(text: &[u8], user: Option<&UserName>, settings: &BackSettings) -> BackStep {
    let reply = refusal(text);
    let not_now = match reply.code.as_deref() {
        Some(code) => matches!(code, "IN-USE" | "LOGIN-DELAY") || code.starts_with("SYS/"),
        None => settings.is_temporary(&reply.text, user),
    };
    if not_now { BackStep::Unavailable(reply) } else { BackStep::Rejected(reply) }
}

fn behind<'a>(line: &'a [u8], status: &[u8]) -> Option<&'a [u8]> {
    let (word, rest) = line.split_at_checked(status.len())?;
    let ends = !rest.first().is_some_and(u8::is_ascii_alphanumeric);
    (ends && word.eq_ignore_ascii_case(status)).then(|| rest.trim_ascii())
}

fn code(text: &[u8]) -> Option<(Option<String>, &[u8])> {
    let rest = text.strip_prefix(b"[")?;
    let end = memchr::memchr(b']', &rest[..rest.len().min(MAX_CODE + 1)])?;
    let code = &rest[..end];
    let is_code = !code.is_empty() && code.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/' | b'_'));
    let code = std::str::from_utf8(code).ok().filter(|_| is_code)?.to_ascii_uppercase();
    Some((Some(code), rest[end + 1..].trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_known_by_its_status() {
        let cases: &[(&[u8], Status<'_>)] = &[
            (b"+OK", Status::Ok(b"")),
            (b"+OK ready <1@h>", Status::Ok(b"ready <1@h>")),
            (b"+ok ready", Status::Ok(b"ready")),
            (b"+OKAY", Status::Other),
            (b"-ERR [AUTH] no ", Status::Err(b"[AUTH] no")),
            (b"-ERR", Status::Err(b"")),
            (b"-ERRATIC", Status::Other),
            (b"+", Status::Continue(b"")),
            (b"+ ", Status::Continue(b"")),
            (b"+ b2s=", Status::Continue(b"b2s=")),
            (b"SSH-2.0-OpenSSH_9.6", Status::Other),
            (b"", Status::Other),
        ];
        for (line, status) in cases {
            assert_eq!(Status::parse(line), *status, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_greeting_is_doubted_at_its_first_wrong_byte() {
        for fine in ["", "+", "+O", "+OK hello", "-", "-ERR busy"] {
            assert!(may_be_a_greeting(fine.as_bytes()), "{fine}");
        }
        for wrong in ["S", "HTTP/1.1", "* OK", "220 ", "+X", "-E!"] {
            assert!(!may_be_a_greeting(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn not_now_is_told_from_a_wrong_password() {
        let words = ["lock", "busy"].map(str::to_owned);
        let settings = BackSettings { temporary_replies: words.into(), ..BackSettings::default() };
        let cases = [
            ("Password wrong", "joe", "rejected", "Password wrong"),
            ("[AUTH] mailbox busy", "joe", "rejected", "AUTH mailbox busy"),
            ("[auth] wrong", "joe", "rejected", "AUTH wrong"),
            ("[in-use] locked", "joe", "unavailable", "IN-USE locked"),
            ("[LOGIN-DELAY] wait", "joe", "unavailable", "LOGIN-DELAY wait"),
            ("[SYS/TEMP] later", "joe", "unavailable", "SYS/TEMP later"),
            ("[SYS/PERM] call us", "joe", "unavailable", "SYS/PERM call us"),
            ("[EXPIRED] change it", "joe", "rejected", "EXPIRED change it"),
            ("Mailbox LOCKED by another", "joe", "unavailable", "Mailbox LOCKED by another"),
            ("[not a code] lock", "joe", "unavailable", "[not a code] lock"),
            ("[", "joe", "rejected", "["),
            ("Password supplied for \"Lockwood\" is incorrect.", "lockwood", "rejected", "Password supplied for <*>"),
            ("no such user lockwood", "lockwood@example.net", "rejected", "no such user lockwood"),
            ("lockwood: mailbox lock busy", "lockwood", "unavailable", "lockwood: mailbox lock busy"),
            ("mailbox locked", "lo", "unavailable", "mailbox locked"),
            ("", "joe", "rejected", ""),
        ];
        for (text, user, what, line) in cases {
            let user = UserName::new(user.as_bytes()).expect("a name of the table");
            let (seen, reply) = match verdict(text.as_bytes(), Some(&user), &settings) {
                BackStep::Rejected(reply) => ("rejected", reply),
                BackStep::Unavailable(reply) => ("unavailable", reply),
                other => panic!("{text}: {other:?}"),
            };
            assert_eq!(seen, what, "{text}");
            assert!(reply.to_line().starts_with(line.trim_end_matches("<*>")), "{text}: {reply:?}");
        }
    }
}
