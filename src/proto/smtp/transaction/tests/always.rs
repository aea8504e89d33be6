//! What holds for every session: bounds, and properties.

use super::super::*;
use super::session::{PIPELINING, Session, capabilities, settings};
use proptest::prelude::*;

#[test]
fn a_backend_that_is_slow_bounds_what_is_sent_to_it() {
    let mut session = Session::new(settings(PIPELINING, Recipients::All));
    session.from_client.extend_from_slice("RCPT TO:<ann@example.org>\r\n".repeat(500).as_bytes());
    session.pump();
    assert_eq!(session.follower.due.len(), MAX_OUTSTANDING);
    for _ in 0..5 {
        session.from_backend.extend_from_slice("250 ok\r\n".repeat(MAX_OUTSTANDING).as_bytes());
        session.pump();
    }
    assert!(session.from_client.is_empty() && session.from_backend.is_empty());
    assert_eq!(session.follower.envelope.as_ref().map(|envelope| envelope.recipients), Some(500));

    let long = format!("RCPT TO:<ann@example.org> ORCPT=rfc822;{}\r\n", "x".repeat(2000));
    session.from_client.extend_from_slice(long.repeat(80).as_bytes());
    session.to_backend.clear();
    session.pump();
    assert!(session.to_backend.len() < MAX_UNANSWERED + long.len(), "{}", session.to_backend.len());
}

#[test]
fn recipients_are_bounded() {
    let mut session = Session::new(settings(PIPELINING, Recipients::All));
    let mut answers = Vec::new();
    for _ in 0..MAX_RECIPIENTS + 3 {
        session.from_client.extend_from_slice(b"RCPT TO:<ann@example.org>\r\n");
        session.pump();
        if !session.to_backend.is_empty() {
            session.to_backend.clear();
            session.from_backend.extend_from_slice(b"250 ok\r\n");
        }
        session.pump();
        answers.extend_from_slice(&session.to_client.split());
    }
    let answers = String::from_utf8_lossy(&answers);
    assert_eq!(answers.matches("452 4.5.3 Too many recipients\r\n").count(), 3);
}

/// A backend that answers whatever it hears, and a client's bytes in pieces.
fn run(pieces: &[&[u8]], settings: &TransactionSettings) -> (Vec<u8>, Vec<u8>, Vec<String>) {
    let mut session = Session::new(settings.clone());
    let (mut heard, mut told, mut in_data, mut line) = (Vec::new(), Vec::new(), false, Vec::new());
    for piece in pieces {
        session.from_client.extend_from_slice(piece);
        loop {
            session.pump();
            assert!(session.follower.due.len() <= MAX_OUTSTANDING);
            told.extend_from_slice(&session.to_client.split());
            if session.to_backend.is_empty() {
                break;
            }
            for byte in session.to_backend.split() {
                heard.push(byte);
                line.push(byte);
                if !line.ends_with(b"\r\n") {
                    continue;
                }
                let reply = match line.as_slice() {
                    b".\r\n" if in_data => {
                        in_data = false;
                        "250 queued\r\n"
                    }
                    _ if in_data => "",
                    b"DATA\r\n" => {
                        in_data = true;
                        "354 go\r\n"
                    }
                    b"QUIT\r\n" => "",
                    _ => "250 ok\r\n",
                };
                session.from_backend.extend_from_slice(reply.as_bytes());
                line.clear();
            }
        }
        if session.reports.back().is_some_and(|report| report == "redial") {
            in_data = false;
            line.clear();
            heard.extend_from_slice(b"\r\nREDIALED\r\n");
            session.reports.push_back("redialed".to_owned());
            session.follower.redialed(capabilities(PIPELINING), &mut session.to_backend);
        }
    }
    (heard, told, session.reports.into())
}

fn lines() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        3 => Just(&b"MAIL FROM:<a@b>\r\n"[..]),
        3 => Just(&b"RCPT TO:<c@example.net>\r\n"[..]),
        3 => Just(&b"DATA\r\n"[..]),
        3 => Just(&b".\r\n"[..]),
        1 => Just(&b"RCPT TO:<c@elsewhere.example>\r\n"[..]),
        1 => Just(&b"NOOP\r\n"[..]),
        1 => Just(&b"RSET\n"[..]),
        1 => Just(&b"EHLO x\r\n"[..]),
        1 => Just(&b"text\n.\r\n"[..]),
        1 => Just(&b"text\r\n..\r\n"[..]),
        1 => Just(&b"XCLIENT ADDR=x\r\n"[..]),
        1 => Just(&b"QUIT\r\n"[..]),
    ];
    proptest::collection::vec(line, 0..25).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn any_split_of_the_client_gives_the_same_session(text in lines(), cuts in proptest::collection::vec(1usize..30, 0..60), pipelining: bool) {
        let only = Recipients::Only(["example.net".to_owned()].into());
        let settings = TransactionSettings {
            bare_newline: BareNewline::Normalize,
            max_message: 0,
            ..settings(if pipelining { PIPELINING } else { &[] }, only)
        };
        let (mut pieces, mut rest, mut cuts) = (Vec::new(), &text[..], cuts.into_iter());
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        let (whole, split) = (run(&[&text], &settings), run(&pieces, &settings));
        prop_assert_eq!(whole.0.escape_ascii().to_string(), split.0.escape_ascii().to_string());
        prop_assert_eq!(whole.1.escape_ascii().to_string(), split.1.escape_ascii().to_string());
        prop_assert_eq!(whole.2, split.2);
    }

    #[test]
    fn no_stranger_makes_the_backend_hear_what_it_must_not(text in lines()) {
        let only = Recipients::Only(["example.net".to_owned()].into());
        let (heard, _, _) = run(&[&text], &settings(PIPELINING, only));
        let heard = String::from_utf8_lossy(&heard).into_owned();
        let mut in_data = false;
        for line in heard.split_terminator("\r\n") {
            prop_assert!(!line.contains(['\r', '\n']));
            if in_data {
                in_data = line != "." && line != "REDIALED";
                continue;
            }
            in_data = line == "DATA";
            let known = ["MAIL FROM:<a@b>", "RCPT TO:<c@example.net>", "DATA", "NOOP", "RSET", "QUIT"];
            prop_assert!(known.contains(&line), "{}", line);
        }
    }

    #[test]
    fn random_bytes_never_panic(
        client in proptest::collection::vec(any::<u8>(), 0..120), backend in proptest::collection::vec(any::<u8>(), 0..120), data: bool,
    ) {
        let mut session = Session::new(settings(PIPELINING, Recipients::All));
        if data {
            session.from_client.extend_from_slice(b"DATA\r\n");
            session.pump();
            session.from_backend.extend_from_slice(b"354 go\r\n");
        }
        for (one, other) in client.chunks(7).zip(backend.chunks(5)) {
            session.from_client.extend_from_slice(one);
            session.from_backend.extend_from_slice(other);
            session.pump();
        }
    }
}
