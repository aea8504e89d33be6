//! Messages that are given up: the backend is let go without their end, and dialled again for the next one.

use super::session::{PIPELINING, Session, settings};
use super::{UP_TO_DATA, both_ways, logged_in};
use crate::proto::smtp::{BareNewline, Recipients, TransactionSettings};

#[test]
fn a_bare_newline_gives_up_the_backend_and_the_next_message_dials_again() {
    logged_in(&format!(
        "{UP_TO_DATA}
        C~ a\\nb\\r\\n
        = abandon message <joe@example.net> for 1 1 bare_newline: 550 5.5.2 Message holds a bare newline: CR or LF alone
        ! turn ClientData
        C~ .\\nMAIL FROM:<evil@example.net>\\r\\n.\\rx\\r\\n
        C: .
        C: NOOP
        S: 550 5.5.2 Message holds a bare newline: CR or LF alone
        S: 250 2.0.0 OK
        ! idle true
        C: RSET
        S: 250 2.0.0 OK
        C: EHLO pc
        S: 250-mail.example.net
        S: 250-PIPELINING
        S: 250-SIZE 100
        S: 250-8BITMIME
        S: 250 DSN
        C: RCPT TO:<ann@example.org>
        S: 503 5.5.1 Need MAIL first
        C: DATA
        S: 503 5.5.1 Need MAIL first
        C: MAIL FROM:<joe@example.net>
        = redial
        ! turn Caller
        ! unavailable
        S: 451 4.3.0 Mail server temporarily unavailable, try again later
        C: MAIL FROM:<joe@example.net>
        C: RCPT TO:<ann@example.org>
        = redial
        ! redialed PIPELINING
        G: MAIL FROM:<joe@example.net>
        G: RCPT TO:<ann@example.org>
        B: 250 a
        B: 250 b
        S: 250 a
        S: 250 b
        C: QUIT
        G: QUIT
        S: 221 2.0.0 Bye
        = over Left"
    ));
}

#[test]
fn quit_behind_an_abandoned_message_needs_no_backend() {
    logged_in(&format!(
        "{UP_TO_DATA}
        C~ \\n
        = abandon message <joe@example.net> for 1 0 bare_newline: 550 5.5.2 Message holds a bare newline: CR or LF alone
        C~ \\r\\n.\\r\\n
        S: 550 5.5.2 Message holds a bare newline: CR or LF alone
        C: QUIT
        S: 221 2.0.0 Bye
        = over Left"
    ));
}

#[test]
fn a_message_past_the_bound_is_given_up_and_answered_at_its_end() {
    let (line, more) = ("x".repeat(49), "y".repeat(50));
    let script = format!(
        "{UP_TO_DATA}
        C: {line}
        G: {line}
        C~ {more}
        = abandon message <joe@example.net> for 1 51 too_large: 552 5.3.4 Message too large
        C~ more\\r\\n.\\r\\n
        S: 552 5.3.4 Message too large"
    );
    // Only as written: in single bytes, fifty octets of the second line still fit.
    Session::play(settings(PIPELINING, Recipients::All), &script, false);
}

#[test]
fn normalized_newlines_make_one_message() {
    let settings =
        TransactionSettings { bare_newline: BareNewline::Normalize, ..settings(PIPELINING, Recipients::All) };
    both_ways(
        &settings,
        &format!(
            "{UP_TO_DATA}
            C~ a\\n.\\nMAIL\\r.\\r\\n
            G~ a\\r\\n..\\r\\nMAIL\\r\\n..\\r\\n
            C: .
            G: .
            B: 250 ok
            S: 250 ok
            = accepted <joe@example.net> for 1 15 250 ok"
        ),
    );
}

#[test]
fn a_reply_before_the_end_is_kept_for_the_end() {
    for (early, heard, ending) in [
        ("452 4.3.1 full", "452 4.3.1 full", ""),
        ("250 2.0.0 queued", "451 4.3.0 Mail server temporarily unavailable, try again later", ""),
        ("354 again", "451 4.3.0 Mail server temporarily unavailable, try again later", ""),
        ("421 4.3.2 going", "421 4.3.2 going", "= over Backend(TurnedAway(\"421 4.3.2 going\"))"),
    ] {
        logged_in(&format!(
            "{UP_TO_DATA}
            C: a
            G: a
            B: {early}
            = abandon message <joe@example.net> for 1 3 backend: {early}
            C: b
            C: .
            S: {heard}
            {ending}"
        ));
    }
}
