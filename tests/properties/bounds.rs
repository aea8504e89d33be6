//! Megabytes from a peer that is up to no good: what they cost us, and when it is enough.

use crate::doors::back::MOST_KEPT;
use crate::doors::front::{capabilities, settings};
use bytes::BytesMut;
use gatepost::proto::imap::{ImapBack, ImapFront};
use gatepost::proto::line::MAX_COMMAND;
use gatepost::proto::pop3::{Pop3Back, Pop3Front};
use gatepost::proto::smtp::{BareNewline, Progress, Recipients, SmtpBack, SmtpFront, Transaction, TransactionSettings};
use gatepost::proto::{
    Answer, Back, BackFault, BackSettings, BackStep, Capabilities, Front, Login, Mechanism, Reply, Service, Step,
    Violation,
};
use std::fmt::Debug;

/// What is read at a time.
const READ: usize = 4096;

/// The most that a connection may cost before its login: what waits to be looked at, what waits to be written, and what is kept.
const MOST: usize = 64 * 1024;

/// The attempts after which an engine ends a session at the latest.
const ATTEMPTS: usize = 10;

/// How a flood ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// All of it was read.
    Read,
    /// As many attempts as the engine takes, and more.
    Attempts,
    Violation(Violation),
    Fault(BackFault),
}

/// A text with one part of it again and again: `begin`, then `again` up to this many octets.
fn endless(begin: &str, again: &str, octets: usize) -> Vec<u8> {
    [begin.as_bytes(), again.repeat(octets / again.len() + 1).as_bytes()].concat()
}

/// Plays a client's flood, refuses every login, and gives what it heard.
fn flood<F: Front + Debug>(mut front: F, service: Service, text: &[u8]) -> (End, String) {
    let (mut input, mut out, mut heard, mut attempts) = (BytesMut::new(), BytesMut::new(), Vec::new(), 0);
    front.greet(&capabilities(service, [0; 4]).into(), &mut out);
    for piece in text.chunks(READ) {
        input.extend_from_slice(piece);
        loop {
            let step = front.next(&mut input, &mut out);
            // As `Debug` shows it, bytes escaped, a state is no shorter than it is.
            let state = format!("{front:?}").len();
            let cost = input.len() + out.len() + state;
            assert!(cost <= MOST, "{service:?}: {} wait, {} to be written, {state} kept", input.len(), out.len());
            let more = matches!(step, Ok(Step::More)) && out.len() <= gatepost::proto::MAX_ANSWERS;
            heard.extend_from_slice(&out.split());
            match step {
                Ok(Step::More) if more => break,
                Ok(Step::Login(_) | Step::Respond(_)) if attempts == ATTEMPTS => {
                    return (End::Attempts, text_of(heard));
                }
                Ok(Step::Login(_) | Step::Respond(_)) => {
                    attempts += 1;
                    front.answer(Answer::Rejected(&Reply::default()), &mut out);
                }
                Ok(Step::Mail) => front.answer(Answer::Unavailable(None), &mut out),
                Ok(Step::Leave | Step::StartTls) => panic!("nobody asked for it"),
                Ok(_) => {}
                Err(violation) => return (End::Violation(violation), text_of(heard)),
            }
        }
    }
    (End::Read, text_of(heard))
}

fn text_of(heard: Vec<u8>) -> String {
    String::from_utf8(heard).expect("text")
}

fn flooded(service: Service, text: &[u8]) -> (End, String) {
    // TLS is up.
    let settings = settings(service, [1, 0, 0, 0]);
    match service {
        Service::Imap => flood(ImapFront::new(settings), service, text),
        Service::Pop3 => flood(Pop3Front::new(settings), service, text),
        Service::Submission | Service::Smtp => flood(SmtpFront::new(settings), service, text),
    }
}

const SERVICES: [Service; 4] = [Service::Imap, Service::Pop3, Service::Submission, Service::Smtp];
const MEGABYTE: usize = 1024 * 1024;

#[test]
fn a_line_without_end_costs_a_line() {
    for service in SERVICES {
        for letter in ["x", " ", "(", "{", "\"", "\\", "=", "\0", "\r", "a b ", "{1}", "\u{fc}"] {
            assert_eq!(flooded(service, &endless("", letter, 2 * MEGABYTE)).0, End::Read, "{service:?} {letter:?}");
        }
    }
}

#[test]
fn an_argument_without_end_costs_a_line() {
    for (service, begin) in [
        (Service::Imap, "a LOGIN "),
        (Service::Imap, "a LOGIN joe \""),
        (Service::Imap, "a ID ("),
        (Service::Imap, "a AUTHENTICATE PLAIN "),
        (Service::Imap, "a AUTHENTICATE PLAIN\r\n"),
        (Service::Pop3, "USER "),
        (Service::Pop3, "USER joe\r\nPASS "),
        (Service::Pop3, "AUTH PLAIN "),
        (Service::Pop3, "AUTH PLAIN\r\n"),
        (Service::Submission, "EHLO "),
        (Service::Submission, "AUTH PLAIN "),
        (Service::Submission, "AUTH LOGIN\r\n"),
        (Service::Smtp, "EHLO x\r\nMAIL FROM:<"),
    ] {
        for letter in ["QUJD", " ", "((", ")", "\\\"", "=", "\u{fc}"] {
            assert_eq!(flooded(service, &endless(begin, letter, MEGABYTE)).0, End::Read, "{service:?} {begin}");
        }
        // Lines that come to their end, each just within its bound or past it.
        for length in [8000, 8192, 12_000, 20_000] {
            let line = format!("{begin}{}\r\n", "QUJD".repeat(length / 4));
            let (end, heard) = flooded(service, &endless("", &line, MEGABYTE));
            // Whatever a client says of itself, and as whom it may log in later, is answered as often as it likes.
            let is_fine = matches!(begin, "a ID (" | "USER ") && length <= MAX_COMMAND - begin.len();
            assert!(is_fine || end != End::Read, "{service:?} {begin}: {length} for ever: {end:?}");
            assert!(heard.len() < 8 * 1024, "{service:?}: {} octets of answers", heard.len());
        }
    }
}

#[test]
fn a_literal_of_any_size_costs_no_memory() {
    let huge = ["4097", "2147483648", "4294967295", "4294967296", "18446744073709551616", "99999999999999999999"];
    for size in huge {
        for argument in ["a LOGIN ", "a LOGIN joe ", "a ID (\"name\" "] {
            let waiting = format!("{argument}{{{size}}}\r\n");
            let (end, heard) = flooded(Service::Imap, waiting.as_bytes());
            assert_eq!(end, End::Read);
            assert!(heard.ends_with("a NO [TOOBIG] A literal before login holds at most 4096 octets.\r\n"), "{heard}");
            assert!(!heard.contains("\r\n+ "), "a go-ahead for {size} octets: {heard}");

            let not_waiting = endless(&format!("{argument}{{{size}+}}\r\n"), "x", MEGABYTE);
            let (end, _) = flooded(Service::Imap, &not_waiting);
            assert_eq!(end, End::Violation(Violation::TooLarge), "{size}");
        }
    }
    for size in ["-1", "", "+", "0x10", "1 "] {
        let (end, heard) = flooded(Service::Imap, &endless(&format!("a LOGIN {{{size}}}\r\n"), "x", MEGABYTE));
        assert_eq!(end, End::Read);
        assert!(!heard.contains("\r\n+ "), "a go-ahead for {size:?} octets: {heard}");
    }
    // As many as one likes, each within its bound.
    for literal in ["{4096+}\r\n", "{4096}\r\n", "{0+}\r\n", "{1+}\r\n"] {
        let octets = literal.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("digits");
        let again = format!("{literal}{}", "x".repeat(octets));
        let (end, _) = flooded(Service::Imap, &endless("a LOGIN ", &again, MEGABYTE));
        assert!(matches!(end, End::Violation(_)), "{literal} for ever: {end:?}");
    }
}

#[test]
fn ten_thousand_commands_that_are_none_are_cut_off_after_twenty() {
    for (service, commands) in [
        (
            Service::Imap,
            &[
                "a X\r\n",
                "\r\n",
                "a\r\n",
                "a LOGIN joe\r\n",
                "a LOGIN {5000}\r\n",
                "a AUTHENTICATE X\r\n",
                "a SELECT x\r\n",
                "x\0\r\n",
            ][..],
        ),
        (
            Service::Pop3,
            &["X\r\n", "\r\n", "PASS x\r\n", "STAT\r\n", "AUTH X\r\n", "AUTH PLAIN !\r\n", "X\0\r\n", "x\n"],
        ),
        (
            Service::Submission,
            &["X\r\n", "\r\n", "MAIL FROM:<>\r\n", "DATA\r\n", "AUTH X\r\n", "AUTH PLAIN !\r\n", "X\0\r\n", "x\n"],
        ),
        (
            Service::Smtp,
            &["X\r\n", "\r\n", "MAIL FROM:<>\r\n", "DATA\r\n", "AUTH X\r\n", "AUTH PLAIN !\r\n", "RCPT TO:<x>\r\n"],
        ),
    ] {
        for command in commands {
            let (end, heard) = flooded(service, command.repeat(10_000).as_bytes());
            assert_eq!(end, End::Violation(Violation::TooManyErrors), "{service:?} {command:?}");
            let answers = heard.lines().count();
            assert!((20..25).contains(&answers), "{service:?} {command:?}: {answers} answers");
        }
    }
    // A stranger whose every MAIL is put off would have us dial without end.
    let (_, heard) = flooded(Service::Smtp, format!("EHLO x\r\n{}", "MAIL FROM:<a@b>\r\n".repeat(10_000)).as_bytes());
    assert!(heard.matches("451 ").count() >= 20);
}

/// Plays a backend's flood, with a login as soon as one may be sent, and gives how much of it was read.
fn back_flood<B: Back + Debug>(mut back: B, mechanism: Mechanism, text: &[u8]) -> (End, usize) {
    let (mut input, mut out, mut read) = (BytesMut::new(), BytesMut::new(), 0);
    let login = Login::password(mechanism, b"joe", b"secret").expect("fine words");
    // Each line on its own, as an answer: what comes behind one in the same read is a fault of its own.
    for piece in text.split_inclusive(|&byte| byte == b'\n').flat_map(|line| line.chunks(READ)) {
        read += piece.len();
        input.extend_from_slice(piece);
        loop {
            let step = back.next(&mut input, &mut out);
            // The list of capabilities is kept twice over, and escaped.
            let state = format!("{back:?}").len();
            assert!(out.len() <= READ && state <= 6 * MOST, "{} to be written, {state} kept", out.len());
            out.clear();
            match step {
                Ok(BackStep::More) => {
                    assert!(input.len() <= MOST_KEPT, "{} wait", input.len());
                    break;
                }
                Ok(BackStep::Ready(_) | BackStep::Rejected(_) | BackStep::Unavailable(_) | BackStep::InUse(_)) => {
                    if let Err(fault) = back.login(&login, &mut out) {
                        return (End::Fault(fault), read);
                    }
                }
                Ok(BackStep::StartTls) => panic!("nobody asked for TLS"),
                Ok(BackStep::Challenge(_)) => back.respond(b"x", &mut out),
                Ok(BackStep::Accepted(_)) => panic!("nobody was let in"),
                Err(fault) => return (End::Fault(fault), read),
            }
        }
    }
    (End::Read, read)
}

#[test]
fn a_backend_that_never_comes_to_an_end_is_left_after_64_kib() {
    let imap_ready = "* OK [CAPABILITY IMAP4rev1] ready\r\n";
    let pop3_ready = "+OK ready\r\n-ERR what\r\n";
    let smtp_ready = "220 x\r\n250-x\r\n250 AUTH LOGIN\r\n";
    for (protocol, begin, again) in [
        ("imap", "* OK ", "x"),
        ("imap", "* OK [CAPABILITY ", "X "),
        ("imap", "* OK ready\r\n", "* CAPABILITY IMAP4rev1 X=Y\r\n"),
        ("imap", "* OK ready\r\n* CAPABILITY ", "AUTH=X "),
        ("imap", imap_ready, "* 1 EXISTS\r\n"),
        ("imap", imap_ready, "* LIST () \"/\" {1}\r\nx\r\n"),
        ("imap", imap_ready, "* X {60000}\r\n"),
        ("imap", imap_ready, "* X {99999999999999999999}\r\n"),
        ("imap", imap_ready, "x"),
        ("pop3", "+OK ", "x"),
        ("pop3", "+OK ready\r\n+OK list\r\n", "SASL PLAIN LOGIN\r\n"),
        ("pop3", "+OK ready\r\n+OK list\r\n", "X-"),
        ("pop3", pop3_ready, "+OK"),
        ("pop3", pop3_ready, "-ERR [IN-USE] "),
        ("smtp", "220-", "x\r\n220-"),
        ("smtp", "220 ", "x"),
        ("smtp", "220 x\r\n", "250-AUTH PLAIN LOGIN CRAM-MD5\r\n"),
        ("smtp", "220 x\r\n", "250-AUTH A B C D E F G H I J K L M N O P Q R S T U V W X Y Z\r\n"),
        ("smtp", smtp_ready, "334-x\r\n"),
        ("smtp", smtp_ready, "535-5.7.8 "),
    ] {
        let text = endless(begin, again, 2 * MEGABYTE);
        let settings = BackSettings { ehlo: "mail.example.net".to_owned(), ..BackSettings::default() };
        let (end, read) = match protocol {
            "imap" => back_flood(ImapBack::new(settings), Mechanism::LOGIN, &text),
            "pop3" => back_flood(Pop3Back::new(settings), Mechanism::USER, &text),
            _ => back_flood(SmtpBack::new(settings), Mechanism::LOGIN, &text),
        };
        assert_eq!(end, End::Fault(BackFault::TooLarge), "{protocol} {begin:?} {again:?}");
        assert!(read <= MOST + 3 * READ, "{protocol} {begin:?} {again:?}: {read} octets were read");
    }
}

/// A follower with a backend that has PIPELINING.
fn follower() -> Transaction {
    let backend = Capabilities { lines: vec!["PIPELINING".to_owned()], ..Capabilities::default() };
    Transaction::new(TransactionSettings {
        hostname: "mail.example.net".to_owned(),
        max_message: 100_000,
        bare_newline: BareNewline::Reject,
        recipients: Recipients::All,
        extensions: vec!["PIPELINING".to_owned(), "DSN".to_owned()],
        backend,
        helo: None,
    })
}

/// Reads from the client while the follower takes what it read before, as its caller does; gives what the backend and the
/// client hear.
fn pour(follower: &mut Transaction, text: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut input, mut to_backend, mut to_client) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    let (mut backend, mut client) = (Vec::new(), Vec::new());
    for piece in text.chunks(READ) {
        if input.len() >= 4 * READ {
            break;
        }
        input.extend_from_slice(piece);
        loop {
            let progress = follower.client(&mut input, &mut to_backend, &mut to_client);
            let state = format!("{follower:?}").len();
            assert!(to_backend.len() <= MOST && to_client.len() <= MOST, "{} {}", to_backend.len(), to_client.len());
            assert!(state <= 2 * MOST, "{state} kept");
            backend.extend_from_slice(&to_backend.split());
            client.extend_from_slice(&to_client.split());
            match progress {
                Progress::Sender(_) | Progress::Recipient(_) => follower.decide(None, &mut to_backend, &mut to_client),
                Progress::More => break,
                Progress::Over(_) => return (backend, client),
                _ => {}
            }
        }
    }
    (backend, client)
}

#[test]
fn a_client_that_pours_into_a_session_is_held_up_or_sent_away() {
    for again in ["x", " ", "RCPT TO:<", "\0", "\r"] {
        let (backend, client) = pour(&mut follower(), &endless("", again, MEGABYTE));
        assert!(backend.is_empty() && client.is_empty(), "{again:?}");
    }
    // The backend does not answer, and no more is asked of it.
    for again in ["RCPT TO:<ann@example.org>\r\n", "MAIL FROM:<a@b>\r\n", "NOOP\r\n", "RSET\r\nHELP\r\n", "X\r\n"] {
        let (backend, _) = pour(&mut follower(), &endless("NOOP\r\n", again, MEGABYTE));
        assert!(backend.len() <= 40 * 1024, "{again:?}: {} octets", backend.len());
    }
    let (backend, client) = pour(&mut follower(), "X\r\n".repeat(10_000).as_bytes());
    assert!(backend.is_empty());
    let answers = String::from_utf8(client).expect("text");
    assert_eq!(answers.lines().count(), 21, "{answers}");
}

#[test]
fn a_refused_message_without_end_costs_nothing() {
    for again in ["x", "\n", "\r\n", ".\r\r\n", "\0"] {
        let mut follower = follower();
        let (mut input, mut to_backend, mut to_client) = (BytesMut::from("DATA\r\n"), BytesMut::new(), BytesMut::new());
        let _ = follower.client(&mut input, &mut to_backend, &mut to_client);
        let mut reply = BytesMut::from("354 go\r\n");
        assert!(matches!(follower.backend(&mut reply, &mut to_backend, &mut to_client), Progress::Data));
        let (backend, client) = pour(&mut follower, &endless("", again, 2 * MEGABYTE));
        assert!(backend.len() <= 100_000 && client.is_empty(), "{again:?}: {} octets let out", backend.len());
        assert!(!backend.windows(5).any(|end| end == b"\r\n.\r\n"), "a refused message was ended");
    }
}

#[test]
fn a_backend_that_pours_into_a_session_is_left() {
    for again in ["250-x\r\n", "x", "250 x\r\n"] {
        let mut follower = follower();
        let (mut input, mut to_backend, mut to_client) = (BytesMut::from("NOOP\r\n"), BytesMut::new(), BytesMut::new());
        let _ = follower.client(&mut input, &mut to_backend, &mut to_client);
        let (mut from_backend, mut read) = (BytesMut::new(), 0);
        let text = endless("", again, MEGABYTE);
        let over = text.chunks(READ).any(|piece| {
            read += piece.len();
            from_backend.extend_from_slice(piece);
            matches!(follower.backend(&mut from_backend, &mut to_backend, &mut to_client), Progress::Over(_))
        });
        assert!(over && read <= MOST + 3 * READ, "{again:?}: {read} octets were read");
        assert!(to_client.len() <= READ, "{} octets for the client", to_client.len());
    }
}
