//! Sessions as text against the follower, each as written and once more with every segment in single bytes.
//!
//! `C:` and `S:` are the client's side, `B:` and `G:` the backend's; `C~` and so on stand for bytes with `\r`, `\n` and no
//! line end of their own. Lines of one mark behind each other arrive as one segment. `=` is what was reported, with
//! nothing for a question that was answered with yes; `!` is what the caller does.

mod always;
mod session;

use super::*;
use session::{PIPELINING, Session, settings};

fn both_ways(settings: &TransactionSettings, script: &str) {
    Session::play(settings.clone(), script, false);
    Session::play(settings.clone(), script, true);
}

fn logged_in(script: &str) {
    both_ways(&settings(PIPELINING, Recipients::All), script);
}

fn stranger(script: &str) {
    both_ways(&settings(PIPELINING, Recipients::Only(["example.net".to_owned()].into())), script);
}

/// A message as far as its 354.
const UP_TO_DATA: &str = "
    C: MAIL FROM:<joe@example.net>
    G: MAIL FROM:<joe@example.net>
    B: 250 2.1.0 Ok
    S: 250 2.1.0 Ok
    C: RCPT TO:<ann@example.org>
    G: RCPT TO:<ann@example.org>
    B: 250 2.1.5 Ok
    S: 250 2.1.5 Ok
    C: DATA
    G: DATA
    B: 354 Go
    S: 354 Go
";

#[test]
fn a_message_goes_through() {
    logged_in(&format!(
        "! idle true
        {UP_TO_DATA}
        ! turn ClientData
        ! idle false
        C: Subject: x
        C: 
        C: ..dot
        G: Subject: x
        G: 
        G: ..dot
        C: .
        G: .
        ! turn BackendDataEnd
        B: 250 2.0.0 queued as 7
        S: 250 2.0.0 queued as 7
        = accepted <joe@example.net> for 1 20 250 2.0.0 queued as 7
        ! idle true
        C: QUIT
        G: QUIT
        S: 221 2.0.0 Bye
        = over Left
        ! turn Nobody"
    ));
}

#[test]
fn a_header_of_ours_stands_before_the_message() {
    logged_in(
        &format!("! header\n{}\nG: Received: by us\nC: a\nG: a\nC: .\nG: .", UP_TO_DATA.replace("S: 354 Go", ""))
            .replace("G: Received", "S: 354 Go\nG: Received"),
    );
}

#[test]
fn replies_come_in_order_with_ours_among_them() {
    logged_in(
        "C: MAIL FROM:<joe@example.net>
        C: RCPT TO:<ann@example.org>
        C: WHAT
        C: RCPT TO:<@>
        C: RCPT TO:<bob@example.org>
        C: DATA
        G: MAIL FROM:<joe@example.net>
        G: RCPT TO:<ann@example.org>
        G: RCPT TO:<bob@example.org>
        G: DATA
        ! turn Backend
        B: 250 a
        B: 550-b
        S: 250 a
        B: 550 c
        S: 550-b
        S: 550 c
        S: 500 5.5.1 Command not recognized
        S: 501 5.1.3 Bad recipient address syntax
        = refused recipient <joe@example.net> to ann@example.org backend: 550 b c
        B: 550 d
        S: 550 d
        = refused recipient <joe@example.net> to bob@example.org backend: 550 d
        B: 554 5.5.1 no valid recipients
        S: 554 5.5.1 no valid recipients
        = refused message <joe@example.net> for 0 0 backend: 554 5.5.1 no valid recipients
        ! turn Client",
    );
}

#[test]
fn a_backend_without_pipelining_hears_one_command_at_a_time() {
    both_ways(
        &settings(&[], Recipients::All),
        "C: MAIL FROM:<joe@example.net> SIZE=20
        C: RCPT TO:<ann@example.org>
        C: DATA
        G: MAIL FROM:<joe@example.net>
        B: 250 a
        S: 250 a
        G: RCPT TO:<ann@example.org>
        B: 250 b
        S: 250 b
        G: DATA
        B: 354 c
        S: 354 c
        C: .
        G: .
        B: 250 d
        S: 250 d
        = accepted <joe@example.net> for 1 0 250 d",
    );
}

#[test]
fn what_stands_behind_data_waits_for_the_354() {
    logged_in(
        "C: DATA
        C: RSET
        G: DATA
        B: 503 5.5.1 no
        S: 503 5.5.1 no
        = refused message <> for 0 0 backend: 503 5.5.1 no
        G: RSET
        B: 250 ok
        S: 250 ok
        C: DATA
        C: RSET
        C: .
        G: DATA
        B: 354 go
        S: 354 go
        G: RSET
        G: .
        B: 554 no
        S: 554 no
        = refused message <> for 0 6 backend: 554 no",
    );
}

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

#[test]
fn a_backend_that_goes_is_told_once() {
    logged_in("! lost\nS: 421 4.3.0 Mail server lost, closing connection\n! turn Nobody\nC: NOOP");
    logged_in(&format!("{UP_TO_DATA}\nC: a\nG: a\n! lost\nS: 421 4.3.0 Mail server lost, closing connection"));
    logged_in(
        "C: NOOP
        G: NOOP
        B: 421 4.3.2 closing
        S: 421 4.3.2 closing
        = over Backend(TurnedAway(\"421 4.3.2 closing\"))",
    );
    logged_in("B: 421 idle\nS: 421 idle\n= over Backend(TurnedAway(\"421 idle\"))");
}

#[test]
fn a_backend_out_of_step_ends_the_session() {
    let lost = "S: 421 4.3.0 Mail server lost, closing connection";
    for (before, reply, fault) in [
        ("", "250 unasked", "Unsolicited"),
        ("C: NOOP\nG: NOOP", "354 go", "Garbage(\"SMTP\", \"354 go\")"),
        ("C: RSET\nG: RSET", "334 x", "Garbage(\"SMTP\", \"334 x\")"),
        ("C: DATA\nG: DATA", "250 ok", "Garbage(\"SMTP\", \"250 ok\")"),
        ("C: DATA\nG: DATA", "334 x", "Garbage(\"SMTP\", \"334 x\")"),
        ("C: NOOP\nG: NOOP", "?", "Garbage(\"SMTP\", \"?\")"),
    ] {
        logged_in(&format!("{before}\nB: {reply}\n{lost}\n= over Backend({fault})"));
    }
}

#[test]
fn errors_are_bounded_and_a_message_taken_forgives_them() {
    let errors = |count: usize| "C: WHAT\nS: 500 5.5.1 Command not recognized\n".repeat(count);
    let last = "C: WHAT\nS: 421 4.7.0 Too many errors, closing connection\n= over Violation(TooManyErrors)";
    logged_in(&format!("{}{last}", errors(20)));
    let message = "C: .\nG: .\nB: 250 ok\nS: 250 ok\n= accepted <joe@example.net> for 1 0 250 ok\n";
    logged_in(&format!("{}{UP_TO_DATA}{message}{}{last}", errors(20), errors(20)));
}

#[test]
fn messages_given_up_are_errors_so_that_nobody_has_the_backend_dialled_without_end() {
    let refusal = "550 5.5.2 Message holds a bare newline: CR or LF alone";
    let given_up = format!(
        "C~ \\n\\r\\n.\\r\\n
        S: {refusal}
        = abandon message <joe@example.net> for 1 0 bare_newline: {refusal}\n"
    );
    let redialed = UP_TO_DATA.replace("G: MAIL", "= redial\n! redialed PIPELINING\nG: MAIL");
    let last = "C: MAIL FROM:<joe@example.net>
        S: 421 4.7.0 Too many errors, closing connection
        = over Violation(TooManyErrors)";
    logged_in(&format!("{UP_TO_DATA}{given_up}{}{last}", format!("{redialed}{given_up}").repeat(20)));
    let in_vain = "C: MAIL FROM:<joe@example.net>
        = redial
        ! unavailable
        S: 451 4.3.0 Mail server temporarily unavailable, try again later\n";
    let last = last.replace("S:", "= redial\n! unavailable\nS:");
    logged_in(&format!("{UP_TO_DATA}{given_up}{}{last}", in_vain.repeat(19)));
}

/// What a script's last command is answered with where it was one too many.
const ONE_TOO_MANY: &str = "S: 421 4.7.0 Too many errors, closing connection\n= over Violation(TooManyErrors)";
const SENDER: &str = "C: MAIL FROM:<a@example.org>\nG: MAIL FROM:<a@example.org>\nB: 250 a\nS: 250 a\n";

fn said(command: &str, reply: &str) -> String {
    format!("C: {command}\nG: {command}\nB: {reply}\nS: {reply}\n")
}

#[test]
fn a_stranger_does_not_learn_who_has_a_mailbox() {
    let refused = said("RCPT TO:<x@example.net>", "550 no")
        + "= refused recipient <a@example.org> to x@example.net backend: 550 no\n";
    let taken = said("RCPT TO:<joe@example.net>", "250 b") + &said("DATA", "354 Go");
    let message = format!("{taken}C: .\nG: .\nB: 250 ok\nS: 250 ok\n= accepted <a@example.org> for 1 0 250 ok\n");
    let (ten, eleven) = (refused.repeat(10), refused.repeat(11));
    // A message between them forgives none.
    stranger(&format!("{SENDER}{ten}{message}{SENDER}{eleven}C: RCPT TO:<y@example.net>\n{ONE_TOO_MANY}"));
    logged_in(&format!("{SENDER}{}", refused.repeat(50)));
}

#[test]
fn a_stranger_keeps_no_backend_for_nothing() {
    for (command, reply) in [("NOOP", "250 ok"), ("RSET", "250 ok")] {
        let asked = said(command, reply);
        stranger(&format!("{SENDER}{}C: {command}\n{ONE_TOO_MANY}", asked.repeat(21)));
        stranger(&format!("{SENDER}{}C: QUIT\nG: QUIT\nS: 221 2.0.0 Bye\n= over Left", asked.repeat(21)));
        logged_in(&format!("{SENDER}{}", asked.repeat(50)));
    }
    let refused = said("DATA", "503 what") + "= refused message <a@example.org> for 0 0 backend: 503 what\n";
    stranger(&format!("{SENDER}{}C: DATA\n{ONE_TOO_MANY}", refused.repeat(21)));
    let refused =
        said("MAIL FROM:<b@example.org>", "503 what") + "= refused sender <b@example.org> backend: 503 what\n";
    stranger(&format!("{SENDER}{}C: MAIL FROM:<b@example.org>\n{ONE_TOO_MANY}", refused.repeat(21)));
}

#[test]
fn the_last_words_wait_for_the_replies_before_them() {
    logged_in(
        "C: RSET
        C: QUIT
        G: RSET
        G: QUIT
        B: 250 ok
        S: 250 ok
        S: 221 2.0.0 Bye
        = over Left",
    );
}

#[test]
fn a_third_line_past_the_bound_is_the_last() {
    let long = "x".repeat(9000);
    logged_in(&format!(
        "C: {long}
        S: 500 5.5.2 Line too long
        C: {long}
        S: 500 5.5.2 Line too long
        C: {long}
        S: 421 4.7.0 Too many lines past the bound, closing connection
        = over Violation(TooLarge)"
    ));
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
