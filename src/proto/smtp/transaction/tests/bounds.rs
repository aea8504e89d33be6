//! How much a client may do in vain, and a stranger at all.

use super::{UP_TO_DATA, logged_in, stranger};

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
