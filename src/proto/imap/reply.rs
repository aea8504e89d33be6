//! A backend's status lines (RFC 3501 section 7.1) and what they mean to a login.

use super::capability;
use crate::proto::line::printable;
use crate::proto::{BackSettings, Reply, UserName};

/// The most octets of a backend's text that are kept.
const MAX_TEXT: usize = 512;

/// Splits the word off the front of a line.
pub(super) fn word(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b' ', line) {
        Some(space) => (&line[..space], &line[space + 1..]),
        None => (line, &[]),
    }
}

/// Reads what stands behind OK, NO or BAD: `[CODE arguments] text`.
pub(super) fn parse(rest: &[u8]) -> Reply {
    let (code, text) = match rest.strip_prefix(b"[").map(|rest| (rest, memchr::memchr(b']', rest))) {
        Some((rest, Some(end))) => (&rest[..end], rest[end + 1..].trim_ascii_start()),
        _ => (&[][..], rest),
    };
    let (name, arguments) = word(code);
    let text = printable(text, MAX_TEXT);
    if name.eq_ignore_ascii_case(b"CAPABILITY") {
        Reply { code: None, text, capabilities: Some(capability::parse(arguments)) }
    } else {
        let name = printable(name, 64).to_ascii_uppercase();
        Reply { code: Some(name).filter(|name| !name.is_empty()), text, capabilities: None }
    }
}

/// Whether a NO means "not now", whatever the credentials (RFC 5530). A referral (RFC 2221) is a place we cannot send
/// the client to, and a demand for privacy one that we should have met.
pub(super) fn is_temporary(reply: &Reply, user: Option<&UserName>, settings: &BackSettings) -> bool {
    match reply.code.as_deref() {
        Some("UNAVAILABLE" | "INUSE" | "IN-USE" | "LIMIT" | "SERVERBUG" | "CONTACTADMIN") => true,
        Some("REFERRAL" | "PRIVACYREQUIRED") => true,
        // ALERT says how the text is to be shown, nothing of the reason.
        None | Some("ALERT") => settings.is_temporary(&reply.text, user),
        Some(_) => false,
    }
}

#[test]
fn a_status_line_is_read_with_its_code() {
    let rows: [(&str, Option<&str>, &str); 7] = [
        ("[AUTHENTICATIONFAILED] Authentication failed.", Some("AUTHENTICATIONFAILED"), "Authentication failed."),
        ("[unavailable]", Some("UNAVAILABLE"), ""),
        ("[REFERRAL imap://joe@other.example.net/] go there", Some("REFERRAL"), "go there"),
        ("LOGIN failed", None, "LOGIN failed"),
        ("[half a code", None, "[half a code"),
        ("[CAPABILITY IMAP4rev1 IDLE] hello", None, "hello"),
        ("bell \x07", None, "bell \\u{7}"),
    ];
    for (line, code, text) in rows {
        let reply = parse(line.as_bytes());
        assert_eq!((reply.code.as_deref(), reply.text.as_str()), (code, text), "{line}");
    }
}
