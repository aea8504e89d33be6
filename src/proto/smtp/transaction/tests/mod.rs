//! Sessions as text against the follower, each as written and once more with every segment in single bytes.
//!
//! `C:` and `S:` are the client's side, `B:` and `G:` the backend's; `C~` and so on stand for bytes with `\r`, `\n` and no
//! line end of their own. Lines of one mark behind each other arrive as one segment. `=` is what was reported, with
//! nothing for a question that was answered with yes; `!` is what the caller does.

mod always;
mod bounds;
mod commands;
mod given_up;
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
