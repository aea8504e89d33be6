//! The client halves on the long way to a login: TLS by STARTTLS or STLS, and who the client is, by XCLIENT or ID.
//!
//! Holds for every input: no panic; where TLS is asked for, nothing but hello and the command for it is said before it, and what
//! was listed before it is forgotten; the client is introduced once, in attributes that were listed, on a line of its own of at
//! most 512 octets, by the name it has; nobody is ready before all that was due is done; no word about a login comes at all; what
//! is kept is bounded; any cut of what the backend says gives the same.
//!
//! The text's first segment is the name of who was let in elsewhere; the others are the backend's. TLS begins at the pause behind
//! its go-ahead.

use super::back::{MOST_KEPT, assert_bounded, shown};
use super::wire::{Log, assert_lines};
use super::{Cuts, Input};
use bytes::BytesMut;
use gatepost::proto::sasl::UserName;
use gatepost::proto::{Back, BackSettings, BackStep, Capabilities, Introduction, Protocol, back};

/// The longest command an old SMTP server must take (RFC 5321 section 4.5.3.1.4).
const LONGEST: usize = 512;

/// The door: the settings choose the protocol, whether TLS is asked for, and who the client is.
pub fn door(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let whole = Run::new(&input).play(&input, Cuts::Whole);
    // Bytes behind an answer are noticed if they come with it: whether they do is chance.
    if whole.last_did() == Some("fault Unsolicited") {
        return;
    }
    for cuts in input.cuts() {
        whole.assert_same(&Run::new(&input).play(&input, cuts), cuts);
    }
}

struct Run {
    protocol: Protocol,
    starttls: bool,
    introduction: Introduction,
    back: Box<dyn Back>,
    input: BytesMut,
    out: BytesMut,
    /// What it has said since it was last asked, and what it said in the clear.
    heard: Vec<u8>,
    in_the_clear: Vec<u8>,
    secured: bool,
    introduced: bool,
    log: Log,
}

impl Run {
    fn new(input: &Input<'_>) -> Self {
        let [protocol, how, ..] = input.settings;
        let protocol = [Protocol::Imap, Protocol::Pop3, Protocol::Smtp][usize::from(protocol % 3)];
        let starttls = how & 1 == 1;
        let address = if how & 8 == 0 { "192.0.2.7:4711" } else { "[2001:db8::7]:65535" };
        let introduction = match how >> 1 & 3 {
            0 => Introduction::None,
            1 => Introduction::Possible,
            _ => Introduction::Client {
                address: address.parse().expect("an address"),
                login: input.segments().next().and_then(|name| UserName::new(name).ok()),
            },
        };
        let settings = BackSettings {
            ehlo: "mail.example.net".to_owned(),
            starttls,
            introduction: introduction.clone(),
            ..BackSettings::default()
        };
        Self {
            protocol,
            starttls,
            introduction,
            back: back(protocol, settings),
            input: BytesMut::new(),
            out: BytesMut::new(),
            heard: Vec::new(),
            in_the_clear: Vec::new(),
            secured: false,
            introduced: false,
            log: Log::default(),
        }
    }

    fn play(mut self, input: &Input<'_>, cuts: Cuts) -> Log {
        'segments: for segment in input.segments().skip(1) {
            for piece in cuts.pieces(segment) {
                self.input.extend_from_slice(piece);
                self.heard.extend_from_slice(piece);
                match self.back.next(&mut self.input, &mut self.out) {
                    Ok(BackStep::More) => {
                        assert!(self.input.len() <= MOST_KEPT, "{} octets are kept", self.input.len());
                        self.flush();
                    }
                    Ok(BackStep::StartTls) => {
                        assert!(self.starttls && !self.secured, "nobody asked for TLS");
                        self.flush();
                        self.log.did("TLS");
                        self.secured = true;
                        self.in_the_clear.append(&mut self.heard);
                        self.input.clear();
                        self.back.secured(&mut self.out);
                        self.flush();
                        // What would come before the pause is the handshake's.
                        continue 'segments;
                    }
                    Ok(BackStep::Ready(capabilities)) => {
                        self.flush();
                        self.ready(&capabilities);
                        return self.log;
                    }
                    Ok(step) => panic!("{step:?} before a login"),
                    Err(fault) => {
                        self.flush();
                        self.log.did(format!("fault {}", shown(&fault)));
                        return self.log;
                    }
                }
            }
        }
        self.log
    }

    fn ready(&mut self, capabilities: &Capabilities) {
        assert_eq!(self.secured, self.starttls, "ready without the TLS that was asked for");
        let client = matches!(self.introduction, Introduction::Client { .. });
        assert_eq!(self.introduced, client, "ready, and introduced: {}", self.introduced);
        assert_bounded(capabilities);
        let minimum = Capabilities::minimum(self.protocol);
        for line in capabilities.lines.iter().filter(|line| !minimum.lines.contains(line)) {
            let in_the_clear = holds(&self.in_the_clear, line);
            assert!(!in_the_clear || holds(&self.heard, line), "believed, and said before TLS: {line:?}");
        }
        if let Some(stamp) = &capabilities.apop {
            assert!(!self.secured, "a timestamp of before TLS: {stamp}");
        }
        self.log.did(format!("ready {capabilities:?}"));
    }

    /// Looks at what is said.
    fn flush(&mut self) {
        let out = self.out.split();
        assert_lines(&out, "what the backend hears");
        for line in out.split_inclusive(|&byte| byte == b'\n') {
            let line = std::str::from_utf8(line).expect("ASCII").trim_end();
            let untagged = match (self.protocol, line.split_once(' ')) {
                (Protocol::Imap, Some((tag, rest))) if tag.starts_with('g') => rest,
                (Protocol::Imap, _) => panic!("no command: {line}"),
                _ => line,
            };
            match untagged.split(' ').next().unwrap_or_default() {
                "STARTTLS" | "STLS" => {
                    assert!(self.starttls && !self.secured && !untagged.contains(' '), "TLS unasked: {line}");
                }
                "EHLO" | "HELO" => assert!(line.ends_with(" mail.example.net"), "{line}"),
                "CAPABILITY" | "CAPA" => {
                    assert!(self.secured || !self.starttls, "asked in the clear: {line}");
                    assert!(!untagged.contains(' '), "{line}");
                }
                "XCLIENT" | "ID" => self.introduce(line, untagged),
                _ => panic!("said unasked: {line}"),
            }
        }
        self.log.said(&out);
    }

    fn introduce(&mut self, line: &str, untagged: &str) {
        let Introduction::Client { address, login } = &self.introduction else { panic!("nobody is there: {line}") };
        assert!(self.secured || !self.starttls, "said in the clear: {line}");
        assert!(!std::mem::replace(&mut self.introduced, true), "introduced twice: {line}");
        assert!(line.len() + 2 <= LONGEST, "{} octets", line.len());
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        if self.protocol == Protocol::Imap {
            assert_eq!(untagged, format!("ID (\"x-originating-ip\" \"{ip}\" \"x-originating-port\" \"{port}\")"));
            return;
        }
        let mut said = untagged.split(' ').skip(1).map(|attribute| attribute.split_once('=').expect("a value"));
        assert!(said.clone().any(|(name, _)| name == "ADDR"), "without an address: {line}");
        let is_right = |(name, value): (&str, &str)| match name {
            "NAME" => value == "[UNAVAILABLE]",
            "ADDR" => value.strip_prefix("IPV6:").unwrap_or(value) == ip,
            "PORT" => value == port,
            "LOGIN" => login.as_ref().is_some_and(|login| plainly(value) == login.as_bytes()),
            _ => false,
        };
        assert!(said.clone().all(is_right), "{line}");
        // POP3 has no list of them.
        let all = [&self.heard[..], &self.in_the_clear].concat();
        let listed = |(name, _)| self.protocol == Protocol::Pop3 || holds(&self.heard, name);
        assert!(holds(&all, "XCLIENT") && said.all(listed), "not listed: {line}");
    }
}

/// Whether bytes hold a word, ASCII case ignored.
fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.to_ascii_uppercase().windows(word.len().max(1)).any(|window| window == word.to_ascii_uppercase().as_bytes())
}

/// What xtext stands for (RFC 3461 section 4).
fn plainly(xtext: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), xtext);
    while let Some(at) = rest.find('+') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.push(u8::from_str_radix(&rest[at + 1..at + 3], 16).expect("two digits"));
        rest = &rest[at + 3..];
    }
    assert!(!rest.contains('='), "{xtext}");
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
