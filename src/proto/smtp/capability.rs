//! Which of a backend's EHLO lines a client is shown.
//!
//! A list of what is let through, since an extension we do not know could move the dialogue past us: CHUNKING and
//! BINARYMIME carry data that is not ended by a dot, STARTTLS and AUTH are ours, XCLIENT and XFORWARD are for a trusted
//! proxy, ETRN and BURL make the server act on its own. None of those is understood by the follower either.

use crate::proto::Capabilities;

/// The extensions a session can honour, by the first word of their line.
const PASSED: [&str; 11] = [
    "SIZE",
    "PIPELINING",
    "8BITMIME",
    "SMTPUTF8",
    "ENHANCEDSTATUSCODES",
    "DSN",
    "DELIVERBY",
    "MT-PRIORITY",
    "FUTURERELEASE",
    "NO-SOLICITING",
    "LIMITS",
];

/// The EHLO lines for a client of this backend, in the backend's order and without STARTTLS and AUTH, which the
/// connection's state decides. SIZE (RFC 1870) is always there: the lower of `max_message` and the backend's bound.
pub fn shown_extensions(backend: &Capabilities, max_message: u64) -> Vec<String> {
    let mut shown: Vec<String> = Vec::with_capacity(PASSED.len());
    for line in &backend.lines {
        let (word, argument) = line.split_once(' ').unwrap_or((line, ""));
        let Some(word) = PASSED.into_iter().find(|passed| passed.eq_ignore_ascii_case(word)) else { continue };
        let harmless = line.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        // RFC 6531 section 3.1: SMTPUTF8 stands on 8BITMIME.
        let complete = word != "SMTPUTF8" || backend.has("8BITMIME");
        if !harmless || !complete || offers(&shown, word) {
            continue;
        }
        shown.push(match (word, argument) {
            ("SIZE", _) => size_line(backend, max_message),
            (_, "") => word.to_owned(),
            (_, argument) => format!("{word} {argument}"),
        });
    }
    if !offers(&shown, "SIZE") {
        shown.push(size_line(backend, max_message));
    }
    shown
}

/// Whether one of the lines is for the extension.
pub(super) fn offers(lines: &[String], word: &str) -> bool {
    lines.iter().any(|line| line.split(' ').next().is_some_and(|first| first.eq_ignore_ascii_case(word)))
}

/// RFC 1870 section 4: zero, or no number, means that no bound is known.
fn size_line(backend: &Capabilities, max_message: u64) -> String {
    let theirs = backend.argument("SIZE").and_then(|number| number.trim().parse().ok()).unwrap_or(0);
    match [theirs, max_message].into_iter().filter(|&bound| bound > 0).min() {
        Some(bound) => format!("SIZE {bound}"),
        None => "SIZE".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(lines: &[&str], max_message: u64) -> Vec<String> {
        let lines = lines.iter().map(ToString::to_string).collect();
        shown_extensions(&Capabilities { lines, ..Capabilities::default() }, max_message)
    }

    #[test]
    fn only_what_we_can_honour_is_shown() {
        let postfix =
            ["PIPELINING", "SIZE 10240000", "VRFY", "ETRN", "STARTTLS", "AUTH PLAIN LOGIN", "AUTH=PLAIN LOGIN"];
        assert_eq!(shown(&postfix, 50), ["PIPELINING", "SIZE 50"]);
        let more = [
            "XCLIENT NAME ADDR",
            "XFORWARD NAME",
            "CHUNKING",
            "BINARYMIME",
            "BURL imap",
            "REQUIRETLS",
            "X-SECRET",
            "HELP",
        ];
        assert_eq!(shown(&more, 50), ["SIZE 50"]);
        let kept = ["ENHANCEDSTATUSCODES", "8bitmime", "SMTPUTF8", "DSN", "DELIVERBY 240", "LIMITS RCPTMAX=20"];
        let expected =
            ["ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "DSN", "DELIVERBY 240", "LIMITS RCPTMAX=20", "SIZE 50"];
        assert_eq!(shown(&kept, 50), expected);
    }

    #[test]
    fn size_is_the_lower_of_both_bounds() {
        for (theirs, ours, line) in [
            ("SIZE 10", 50, "SIZE 10"),
            ("SIZE 100", 50, "SIZE 50"),
            ("SIZE 0", 50, "SIZE 50"),
            ("SIZE", 50, "SIZE 50"),
            ("SIZE 10", 0, "SIZE 10"),
            ("SIZE many", 0, "SIZE"),
        ] {
            assert_eq!(shown(&[theirs], ours), [line]);
        }
    }

    #[test]
    fn smtputf8_needs_8bitmime_and_no_line_comes_twice() {
        assert_eq!(shown(&["SMTPUTF8", "DSN", "dsn"], 1), ["DSN", "SIZE 1"]);
        assert_eq!(shown(&["DSN \x1b[2J"], 1), ["SIZE 1"]);
    }
}
