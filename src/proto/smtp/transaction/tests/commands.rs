//! Which commands reach the backend, and in which words.

use super::session::settings;
use super::{PIPELINING, both_ways, logged_in, stranger};
use crate::proto::smtp::Recipients;

#[test]
fn only_known_commands_reach_the_backend() {
    logged_in(
        "C: XCLIENT ADDR=192.0.2.1
        S: 550 5.7.0 Not authorized
        C: XFORWARD NAME=x
        S: 550 5.7.0 Not authorized
        C: PROXY TCP4 192.0.2.1 192.0.2.2 1 25
        S: 550 5.7.0 Not authorized
        C: BDAT 10 LAST
        S: 502 5.5.1 Command not implemented
        C: EXPN all
        S: 502 5.5.1 Command not implemented
        C: ETRN x
        S: 502 5.5.1 Command not implemented
        C: TURN
        S: 502 5.5.1 Command not implemented
        C: VRFY joe
        S: 252 2.1.5 Send some mail and I will try my best
        C: HELP
        S: 214 2.0.0 See RFC 5321
        C: STARTTLS
        S: 503 5.5.1 STARTTLS is not possible here
        C: AUTH PLAIN AGpvZQB4
        S: 503 5.5.1 AUTH is not possible here
        C: GET / HTTP/1.1
        S: 500 5.5.1 Command not recognized
        C: NOOP with words
        G: NOOP
        B: 250 ok
        S: 250 ok",
    );
}

#[test]
fn a_bare_newline_in_a_command_is_two_commands_to_nobody() {
    logged_in(
        "C~ NOOP\\nRSET\\r\\n
        G: RSET
        S: 500 5.5.2 A line ends with CRLF and holds no other CR, LF or NUL
        B: 250 ok
        S: 250 ok
        C~ MAIL FROM:<a@b>\\rRCPT TO:<c@d>\\r\\n
        S: 500 5.5.2 A line ends with CRLF and holds no other CR, LF or NUL",
    );
}

#[test]
fn a_greeting_begins_anew_without_reaching_the_backend() {
    logged_in(
        "C: EHLO pc
        G: RSET
        B: 250 flushed
        S: 250-mail.example.net
        S: 250-PIPELINING
        S: 250-SIZE 100
        S: 250-8BITMIME
        S: 250 DSN
        C: HELO
        S: 501 5.5.4 A host name is needed
        C: HELO pc
        G: RSET
        B: 250 flushed
        S: 250 mail.example.net",
    );
}

#[test]
fn parameters_are_of_extensions_that_were_shown() {
    logged_in(
        "C: MAIL FROM:<a@b> AUTH=<> BODY=8BITMIME SIZE=100 RET=HDRS ENVID=7
        G: MAIL FROM:<a@b> BODY=8BITMIME SIZE=100 RET=HDRS ENVID=7
        B: 250 a
        S: 250 a
        C: RCPT TO:<c@d> NOTIFY=NEVER ORCPT=rfc822;c@d
        G: RCPT TO:<c@d> NOTIFY=NEVER ORCPT=rfc822;c@d
        B: 250 b
        S: 250 b
        C: RCPT TO:<c@d> RRVS=2026-01-01T00:00:00Z
        S: 555 5.5.4 Parameter not recognized or not implemented
        C: MAIL FROM:<a@b> SMTPUTF8
        S: 555 5.5.4 Parameter not recognized or not implemented
        C: MAIL FROM:<a@b> BODY=BINARYMIME
        S: 555 5.5.4 Parameter not recognized or not implemented
        C: MAIL FROM:<a@b> BODY=MORSE
        S: 501 5.5.4 Syntax error in parameters
        C: MAIL FROM:<a@b> SIZE=x
        S: 501 5.5.4 Syntax error in parameters
        C: MAIL FROM:<\u{e4}@b>
        S: 553 5.6.7 An address with such characters needs SMTPUTF8
        C: MAIL FROM:<a@b> SIZE=101
        S: 552 5.3.4 Message too large
        = refused sender <a@b> too_large: 552 5.3.4 Message too large
        C: MAIL FROM:<a@b> SIZE=99999999999999999999999
        S: 552 5.3.4 Message too large
        = refused sender <a@b> too_large: 552 5.3.4 Message too large",
    );
    both_ways(
        &settings(&["8BITMIME", "SMTPUTF8", "PIPELINING"], Recipients::All),
        "C: MAIL FROM:<\u{e4}@b> SMTPUTF8
        C: RCPT TO:<\u{f6}@d>
        G: MAIL FROM:<\u{e4}@b> SMTPUTF8
        G: RCPT TO:<\u{f6}@d>
        B: 250 a
        B: 250 b
        S: 250 a
        S: 250 b
        C: MAIL FROM:<a@b>
        C: RCPT TO:<\u{f6}@d>
        G: MAIL FROM:<a@b>
        B: 250 a
        S: 250 a
        S: 553 5.6.7 An address with such characters needs SMTPUTF8",
    );
}

#[test]
fn a_stranger_writes_to_us_and_to_nobody_else() {
    stranger(
        "C: MAIL FROM:<>
        G: MAIL FROM:<>
        B: 250 a
        S: 250 a
        C: RCPT TO:<Joe@EXAMPLE.net>
        G: RCPT TO:<Joe@EXAMPLE.net>
        B: 250 b
        S: 250 b
        C: RCPT TO:<postmaster>
        G: RCPT TO:<postmaster>
        B: 250 b
        S: 250 b
        C: RCPT TO:<joe@elsewhere.example>
        S: 554 5.7.1 Relay access denied
        = refused recipient <> to joe@elsewhere.example relay_denied: 554 5.7.1 Relay access denied
        C: RCPT TO:<@example.net:joe@elsewhere.example>
        S: 554 5.7.1 Relay access denied
        = refused recipient <> to joe@elsewhere.example relay_denied: 554 5.7.1 Relay access denied
        C: RCPT TO:<joe%elsewhere.example@example.net>
        S: 554 5.7.1 Relay access denied
        = refused recipient <> to joe%elsewhere.example@example.net relay_denied: 554 5.7.1 Relay access denied
        C: RCPT TO:<joe@elsewhere.example@example.net>
        S: 501 5.1.3 Bad recipient address syntax",
    );
    logged_in("C: RCPT TO:<joe%x@elsewhere.example>\nG: RCPT TO:<joe%x@elsewhere.example>");
}

#[test]
fn a_stranger_whose_recipients_the_server_decides_about_names_none_that_leads_on() {
    let denied = |to: &str, shown: &str| {
        format!(
            "C: RCPT TO:<{to}>
            S: 554 5.7.1 Relay access denied
            = refused recipient <> to {shown} relay_denied: 554 5.7.1 Relay access denied\n"
        )
    };
    let mut script = "C: MAIL FROM:<>\nG: MAIL FROM:<>\nB: 250 a\nS: 250 a\n".to_owned();
    for to in ["joe@example.net", "joe@elsewhere.example", "\"joe smith\"@example.net", "joe"] {
        script += &format!("C: RCPT TO:<{to}>\nG: RCPT TO:<{to}>\nB: 250 b\nS: 250 b\n");
    }
    for to in [
        "joe%elsewhere.example@example.net",
        "elsewhere.example!joe@example.net",
        "\"joe@elsewhere.example\"@example.net",
        "\"|/bin/sh\"@example.net",
        "/etc/passwd@example.net",
        "joe@[192.0.2.1]",
    ] {
        script += &denied(to, to);
    }
    script += &denied("@example.net:joe@elsewhere.example", "joe@elsewhere.example");
    both_ways(&settings(PIPELINING, Recipients::Plain), &script);
    // Nor is the sender any, since bounces go there; and such a stranger's patience with us is as bounded as another's.
    let refused = "C: RCPT TO:<x@example.net>\nG: RCPT TO:<x@example.net>\nB: 550 no\nS: 550 no
        = refused recipient <> to x@example.net backend: 550 no\n"
        .repeat(21);
    both_ways(
        &settings(PIPELINING, Recipients::Plain),
        &format!(
            "C: MAIL FROM:</etc/passwd@example.net>
            S: 501 5.1.7 Bad sender address syntax
            C: MAIL FROM:<>\nG: MAIL FROM:<>\nB: 250 a\nS: 250 a
            {refused}
            C: RCPT TO:<y@example.net>
            S: 421 4.7.0 Too many errors, closing connection
            = over Violation(TooManyErrors)"
        ),
    );
}

#[test]
fn the_caller_decides_about_senders_and_recipients() {
    logged_in(
        "! refuse sender_mismatch
        C: MAIL FROM:<boss@example.net>
        C: NOOP
        S: 553 5.7.1 Sender address is not owned by the user logged in
        G: NOOP
        B: 250 ok
        S: 250 ok
        ! refuse rate_limited
        C: MAIL FROM:<joe@example.net>
        S: 450 4.7.1 Too many messages, try again later
        C: MAIL FROM:<joe@example.net>
        G: MAIL FROM:<joe@example.net>
        B: 250 ok
        S: 250 ok
        ! refuse rate_limited
        C: RCPT TO:<ann@example.org>
        S: 452 4.5.3 Too many recipients",
    );
}

#[test]
fn no_line_for_the_backend_is_longer_than_it_can_be() {
    let (longest, longer) = ("x".repeat(2048 - 32), "x".repeat(2048 - 31));
    logged_in(&format!(
        "C: RCPT TO:<a@example.org> ORCPT=x;{longest}
        G: RCPT TO:<a@example.org> ORCPT=x;{longest}
        B: 250 ok
        S: 250 ok
        C: RCPT TO:<a@example.org> ORCPT=x;{longer}
        S: 500 5.5.2 Line too long
        C: MAIL FROM:<a@example.org> ENVID=xx{longer}
        S: 500 5.5.2 Line too long"
    ));
}
