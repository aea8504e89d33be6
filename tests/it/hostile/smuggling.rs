//! One message stays one message, whatever stands in it and whatever the server behind takes for its end.
//!
//! What a client sent is read once more here by the plain definition: a message ends at the first CRLF.CRLF. No server
//! may see more messages than that, none that differs from them, and none of their text as a command.

use super::old::{Old, Reader, Reads};
use crate::gateway::{Gateway, Setup};
use crate::mail::{greeting, log_in, welcome};
use bytes::BytesMut;
use gatepost::proto::smtp::{BareNewline, Progress, Recipients, Transaction, TransactionSettings, shown_extensions};
use gatepost::proto::{Capabilities, Protocol, Service, TlsRule};

const ENVELOPE: &str = "MAIL FROM:<joe@example.net>\r\nRCPT TO:<ann@example.net>\r\nDATA\r\n";
/// What the smuggler would have a server take for a second message.
const TAIL: &str = "MAIL FROM:<boss@example.net>\r\nRCPT TO:<all@example.net>\r\nDATA\r\ntwo\r\n.\r\nQUIT\r\n";
/// Inside a message, at its beginning, behind its end.
const BEFORE: [&str; 3] = ["one", "", "one\r\n.\r\n"];
const RULES: [BareNewline; 2] = [BareNewline::Reject, BareNewline::Normalize];

#[test]
fn no_sequence_of_newlines_and_dots_makes_one_message_two() {
    let mut seen = 0;
    for before in BEFORE {
        // All sequences of seven where it matters most: 21,845 of them.
        for middle in sequences(b"\r\n.a", if before == "one" { 7 } else { 6 }) {
            for rule in RULES {
                check(rule, before.as_bytes(), &middle, usize::MAX);
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 2 * (21_845 + 2 * 5_461));
}

#[test]
fn no_nul_among_newlines_and_dots_makes_one_message_two() {
    for before in BEFORE {
        for middle in sequences(b"\r\n.\0", 5) {
            for rule in RULES {
                check(rule, before.as_bytes(), &middle, usize::MAX);
            }
        }
    }
}

#[test]
fn no_way_to_cut_a_message_into_segments_makes_it_two() {
    for before in BEFORE {
        for middle in sequences(b"\r\n.a", 4) {
            for rule in RULES {
                check(rule, before.as_bytes(), &middle, 1);
                check(rule, before.as_bytes(), &middle, 2);
            }
        }
    }
}

/// The texts that were published, and what they became known by.
const KNOWN: [&str; 24] = [
    "\n.\n",
    "\n.\r\n",
    "\r\n.\n",
    "\r.\r",
    "\r.\r\n",
    "\r\n.\r",
    "\r.\n",
    "\n.\r",
    "\n\n.\r\n",
    "\r\r.\r\r",
    "\r\n.\r\r\n",
    "\r\r\n.\r\r\n",
    "\r\n\r.\r\n",
    "\r\n.\0\r\n",
    "\r\n\0.\r\n",
    "\r\0\n.\r\n",
    "\r\n.\r\0\n",
    "\r\n..\r\n",
    "\r\n.\r\n",
    "\r\n. \r\n",
    "\r\n.\t\r\n",
    "\r\n.\u{85}",
    "\u{2028}.\u{2028}",
    "\r\n.\x0b\r\n",
];

#[tokio::test]
async fn a_message_is_one_through_the_whole_program_at_any_old_server() {
    for (rule, name) in RULES.into_iter().zip(["reject", "normalize"]) {
        for reads in Reads::ALL {
            let old = Old::serve(Protocol::Smtp, reads).await;
            let setup = Setup::one(Service::Submission, TlsRule::Off, old.address);
            let gateway = setup.with("submission", &format!("bare_newline: {name}")).start().await;
            gateway.has_learned().await;
            let mut expected = Vec::new();
            let mut bosses = 0;
            for middle in KNOWN {
                for before in ["one", "one\r\n.\r\n"] {
                    let wire = format!("{ENVELOPE}{before}{middle}{TAIL}");
                    let meant = Meant::by(wire.as_bytes(), rule);
                    expected.extend(meant.delivered());
                    bosses += meant.bosses;
                    send(&gateway, &wire).await;
                }
            }
            gateway.is_empty().await;
            let got = old.messages();
            assert_eq!(texts(&got), texts(&expected), "{rule:?} {reads:?}");
            let heard = old.commands();
            assert_eq!(heard.iter().filter(|line| line.contains("boss")).count(), bosses, "{rule:?} {reads:?}");
            for line in heard {
                assert!(line.starts_with("AUTH PLAIN ") || COMMANDS.contains(&line.as_str()), "{line}");
            }
        }
    }
}

/// Sends all of a session at once, its tail with it, and hears it to its end.
async fn send(gateway: &Gateway, wire: &str) {
    let mut client = gateway.plain().await;
    client.hear(greeting(Protocol::Smtp)).await;
    log_in(&mut client, Protocol::Smtp, "secret").await;
    client.hear(welcome(Protocol::Smtp)).await;
    // A message without an end is ended here, so that each session comes to one.
    client.say(format!("{wire}\r\n.\r\nQUIT\r\n")).await;
    client.end().await;
    client.rest().await.expect("a proper end");
}

/// All a server may hear from these sessions.
const COMMANDS: [&str; 6] = [
    "MAIL FROM:<joe@example.net>",
    "RCPT TO:<ann@example.net>",
    "DATA",
    "MAIL FROM:<boss@example.net>",
    "RCPT TO:<all@example.net>",
    "QUIT",
];

/// Runs a session through the follower to each kind of server, and holds what they understood against what was meant.
fn check(rule: BareNewline, before: &[u8], middle: &[u8], step: usize) {
    let wire = [ENVELOPE.as_bytes(), before, middle, TAIL.as_bytes()].concat();
    let heard = Session::run(rule, &wire, step);
    let meant = Meant::by(&wire, rule);
    let context = || format!("{rule:?} {}", wire.escape_ascii());
    for reads in Reads::ALL {
        let (mut messages, mut bosses) = (Vec::new(), 0);
        // A connection for each abandoned message, and one more.
        for bytes in &heard {
            let mut server = Reader::new(Protocol::Smtp, reads);
            server.take(bytes);
            messages.append(&mut server.messages);
            for command in &server.commands {
                assert!(COMMANDS.contains(&command.as_str()), "{reads:?} {}: {command}", context());
                bosses += usize::from(command.contains("boss"));
            }
        }
        assert_eq!(texts(&messages), texts(&meant.delivered()), "{reads:?} {}", context());
        assert_eq!(bosses, meant.bosses, "{reads:?} {}", context());
    }
}

fn texts(messages: &[Vec<u8>]) -> Vec<String> {
    messages.iter().map(|message| message.escape_ascii().to_string()).collect()
}

fn sequences(alphabet: &'static [u8], longest: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..=longest).flat_map(move |length| {
        (0..alphabet.len().pow(length)).map(move |mut number| {
            (0..length)
                .map(|_| {
                    let byte = alphabet[number % alphabet.len()];
                    number /= alphabet.len();
                    byte
                })
                .collect()
        })
    })
}

/// A session as its client meant it.
#[derive(Default)]
struct Meant {
    /// Each message the client ended: its text, dots undone, or none where it is to be refused.
    messages: Vec<Option<Vec<u8>>>,
    /// MAIL commands in the smuggler's name.
    bosses: usize,
}

impl Meant {
    fn by(wire: &[u8], rule: BareNewline) -> Self {
        let (mut meant, mut rest) = (Self::default(), wire);
        // A message that was refused took the envelope with it.
        let mut has_envelope = true;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            match line {
                b"MAIL FROM:<boss@example.net>\r" => (meant.bosses, has_envelope) = (meant.bosses + 1, true),
                b"MAIL FROM:<joe@example.net>\r" => has_envelope = true,
                b"DATA\r" if has_envelope => {
                    // The CRLF of DATA itself may be the first half of the end.
                    let behind = &wire[wire.len() - rest.len() - 2..];
                    let Some(end) = memchr::memmem::find(behind, b"\r\n.\r\n") else { return meant };
                    let text = text_of(&behind[2..(end + 2).max(2)], rule);
                    has_envelope = text.is_some();
                    meant.messages.push(text);
                    rest = &behind[end + 5..];
                }
                b"QUIT\r" => return meant,
                _ => {}
            }
        }
        meant
    }

    fn delivered(&self) -> Vec<Vec<u8>> {
        self.messages.iter().flatten().cloned().collect()
    }
}

/// A message's text, or none where it is refused. Its line ends are whole in what is delivered.
fn text_of(wire: &[u8], rule: BareNewline) -> Option<Vec<u8>> {
    let (mut text, mut at) = (Vec::new(), 0);
    while at < wire.len() {
        let begins = at == 0 || wire[..at].ends_with(b"\r\n");
        let step = match &wire[at..] {
            [b'\r', b'\n', ..] => {
                text.extend_from_slice(b"\r\n");
                2
            }
            [0, ..] => return None,
            [b'\r' | b'\n', ..] if rule == BareNewline::Reject => return None,
            [b'\r' | b'\n', ..] => {
                text.extend_from_slice(b"\r\n");
                1
            }
            // A dot alone before a bare newline is text: nobody who doubles dots would have sent it.
            [b'.', b'\r', b'\n', ..] if begins => 1,
            [b'.', b'\r' | b'\n', ..] if begins => {
                text.push(b'.');
                1
            }
            [b'.', ..] if begins => 1,
            [byte, ..] => {
                text.push(*byte);
                1
            }
            [] => break,
        };
        at += step;
    }
    Some(text)
}

/// The follower between a client that sends everything at once, or in pieces, and servers that answer.
struct Session {
    follower: Transaction,
    from_client: BytesMut,
    from_backend: BytesMut,
    server: Reader,
    /// What each connection's server was sent.
    heard: Vec<Vec<u8>>,
}

impl Session {
    fn run(rule: BareNewline, wire: &[u8], step: usize) -> Vec<Vec<u8>> {
        let backend = Self::capabilities();
        let follower = Transaction::new(TransactionSettings {
            hostname: "mail.example.net".to_owned(),
            max_message: 0,
            bare_newline: rule,
            recipients: Recipients::All,
            extensions: shown_extensions(&backend, 0),
            backend,
            helo: None,
        });
        let mut session = Self {
            follower,
            from_client: BytesMut::new(),
            from_backend: BytesMut::new(),
            server: Reader::new(Protocol::Smtp, Reads::Strict),
            heard: vec![Vec::new()],
        };
        for piece in wire.chunks(step) {
            session.from_client.extend_from_slice(piece);
            session.pump();
        }
        session.heard
    }

    fn capabilities() -> Capabilities {
        Capabilities { lines: vec!["PIPELINING".to_owned(), "8BITMIME".to_owned()], ..Capabilities::default() }
    }

    fn pump(&mut self) {
        loop {
            let (mut to_backend, mut to_client) = (BytesMut::new(), BytesMut::new());
            let mut progress = self.follower.backend(&mut self.from_backend, &mut to_backend, &mut to_client);
            if matches!(progress, Progress::More) {
                progress = self.follower.client(&mut self.from_client, &mut to_backend, &mut to_client);
            }
            match progress {
                Progress::Sender(_) | Progress::Recipient(_) => {
                    self.follower.decide(None, &mut to_backend, &mut to_client);
                }
                Progress::Redial => {
                    self.server = Reader::new(Protocol::Smtp, Reads::Strict);
                    self.heard.push(Vec::new());
                    self.follower.redialed(Self::capabilities(), &mut to_backend);
                }
                Progress::More if to_backend.is_empty() => return,
                Progress::Over(_) => return self.deliver(&to_backend),
                _ => {}
            }
            // Also what stood before a refusal: at the worst it has left already.
            self.deliver(&to_backend);
        }
    }

    fn deliver(&mut self, bytes: &[u8]) {
        self.heard.last_mut().expect("one at least").extend_from_slice(bytes);
        let replies = self.server.take(bytes);
        self.from_backend.extend_from_slice(&replies);
    }
}
