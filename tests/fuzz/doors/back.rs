//! The client halves: a backend says anything, to a login with any credentials.
//!
//! Holds for every input: no panic; the backend hears whole lines, known commands in their order and exactly the credentials
//! that were to be said, never a byte of them as a command of its own; nobody is let in before all of them were said;
//! what is kept of an answer is bounded and printable; any cut of what the backend says gives the same.
//!
//! The text's first segment is user, NUL, password, or an initial response; the others are the backend's.

use super::wire::{Log, assert_harmless, assert_lines};
use super::{Cuts, Dice, Input};
use bytes::BytesMut;
use gatepost::proto::line::MAX_COMMAND;
use gatepost::proto::sasl::{UserName, decode};
use gatepost::proto::{
    Back, BackFault, BackSettings, BackStep, Capabilities, Credentials, Login, Mechanism, Protocol, Reply, Secret, back,
};

/// The most a back leaves in the input: a line.
pub const MOST_KEPT: usize = MAX_COMMAND + 2;

/// The most attempts on a connection.
const ATTEMPTS: usize = 3;

/// The door for IMAP.
pub fn imap(data: &[u8]) {
    door(Protocol::Imap, data);
}

/// The door for POP3.
pub fn pop3(data: &[u8]) {
    door(Protocol::Pop3, data);
}

/// The door for SMTP.
pub fn smtp(data: &[u8]) {
    door(Protocol::Smtp, data);
}

fn door(protocol: Protocol, data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let Some(login) = login(&input) else { return };
    let whole = Run::new(protocol, &input, &login).play(&input, Cuts::Whole);
    // Bytes behind an answer are noticed if they come with it: whether they do is chance.
    if whole.last_did() == Some("fault Unsolicited") {
        return;
    }
    for cuts in input.cuts() {
        whole.assert_same(&Run::new(protocol, &input, &login).play(&input, cuts), cuts);
    }
}

/// What is to be said; `None` for credentials that no front lets through.
fn login(input: &Input<'_>) -> Option<Login> {
    let text = input.segments().next()?;
    let [way, ..] = input.settings;
    let mechanism = |name: &str| Mechanism::parse(name.as_bytes()).expect("a name");
    let (user, password) = match text.iter().position(|&byte| byte == 0) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b"secret"[..]),
    };
    let with_password = |name: &str| Login::password(mechanism(name), user, password).ok();
    match way % 8 {
        0 => with_password("LOGIN"),
        1 => with_password("PLAIN"),
        2 => with_password("USER"),
        3 => {
            let mut login = with_password("PLAIN")?;
            if let Credentials::Password { authzid, .. } = &mut login.credentials {
                *authzid = UserName::new(b"boss").ok();
            }
            Some(login)
        }
        4 => {
            let digest = Secret::from(&b"c4c9334bac560ecc979e58001b3e22fb"[..]);
            let credentials = Credentials::Apop { user: UserName::new(user).ok()?, digest };
            Some(Login { mechanism: Mechanism::APOP, credentials })
        }
        5 => Some(Login { mechanism: Mechanism::CRAM_MD5, credentials: Credentials::Sasl { initial: None } }),
        6 => {
            let initial = Some(Secret::from(text));
            Some(Login { mechanism: mechanism("XOAUTH2"), credentials: Credentials::Sasl { initial } })
        }
        _ => {
            let initial = Some(Secret::from(text));
            Some(Login { mechanism: mechanism("SCRAM-SHA-256"), credentials: Credentials::Sasl { initial } })
        }
    }
}

struct Run<'a> {
    protocol: Protocol,
    login: &'a Login,
    back: Box<dyn Back>,
    input: BytesMut,
    out: BytesMut,
    dice: Dice,
    attempts: usize,
    /// What was said since the last login began, and the responses that were given in it.
    spoken: Vec<u8>,
    responses: Vec<Vec<u8>>,
    log: Log,
}

impl<'a> Run<'a> {
    fn new(protocol: Protocol, input: &Input<'_>, login: &'a Login) -> Self {
        let names = ["mail.example.net", "", "a\r\nMAIL FROM:<>", "b c\0\u{2028}\u{e9}"];
        let settings = BackSettings {
            ehlo: names[usize::from(input.settings[1] % 4)].to_owned(),
            temporary_replies: ["lock", "busy"].map(str::to_owned).into(),
            ..BackSettings::default()
        };
        Self {
            protocol,
            login,
            back: back(protocol, settings),
            input: BytesMut::new(),
            out: BytesMut::new(),
            dice: Dice::new(u32::from(input.settings[3])),
            attempts: 0,
            spoken: Vec::new(),
            responses: Vec::new(),
            log: Log::default(),
        }
    }

    fn play(mut self, input: &Input<'_>, cuts: Cuts) -> Log {
        for segment in input.segments().skip(1) {
            let mut rest = segment.len();
            for piece in cuts.pieces(segment) {
                rest -= piece.len();
                self.input.extend_from_slice(piece);
                if self.ask() {
                    if self.log.last_did().is_some_and(|did| did.starts_with("accepted")) {
                        let left = [&self.input, &segment[segment.len() - rest..]].concat();
                        self.log.did(format!("left {}", left.escape_ascii()));
                    }
                    return self.log;
                }
            }
        }
        self.back.quit(&mut self.out);
        assert_lines(&self.out, "a goodbye");
        self.log
    }

    /// Asks the back until it waits for input; `true` at the end.
    fn ask(&mut self) -> bool {
        loop {
            let step = self.back.next(&mut self.input, &mut self.out);
            self.flush();
            match step {
                Ok(BackStep::More) => {
                    assert!(self.input.len() <= MOST_KEPT, "{} octets are kept", self.input.len());
                    return false;
                }
                Ok(BackStep::StartTls) => panic!("nobody asked for TLS"),
                Ok(BackStep::Ready(capabilities)) => {
                    assert_eq!(self.attempts, 0, "ready twice");
                    assert_bounded(&capabilities);
                    self.log.did(format!("ready {capabilities:?}"));
                    if self.log_in() {
                        return true;
                    }
                }
                Ok(BackStep::Challenge(challenge)) => {
                    assert!(matches!(self.login.credentials, Credentials::Sasl { .. }), "a challenge to a password");
                    self.log.did(format!("challenge {}", challenge.escape_ascii()));
                    let response = vec![b"x\r\nQUIT\0"[self.dice.below(9).min(7)]; self.dice.below(3) * 100];
                    self.back.respond(&response, &mut self.out);
                    self.responses.push(response);
                    self.flush();
                }
                Ok(BackStep::Accepted(reply)) => {
                    self.check(&reply);
                    let said = heard(self.protocol, self.login, &self.responses, &self.spoken);
                    assert_eq!(said, Heard::All, "accepted before all was said: {}", self.spoken.escape_ascii());
                    self.log.did(format!("accepted {reply:?}"));
                    return true;
                }
                Ok(BackStep::Rejected(reply)) => {
                    self.check(&reply);
                    self.log.did(format!("rejected {reply:?}"));
                    if self.log_in() {
                        return true;
                    }
                }
                Ok(BackStep::Unavailable(reply) | BackStep::InUse(reply)) => {
                    self.check(&reply);
                    self.log.did(format!("unavailable {reply:?}"));
                    if self.log_in() {
                        return true;
                    }
                }
                Err(fault) => {
                    self.log.did(format!("fault {}", shown(&fault)));
                    return true;
                }
            }
        }
    }

    /// `true` at the end.
    fn log_in(&mut self) -> bool {
        self.attempts += 1;
        if self.attempts > ATTEMPTS {
            return true;
        }
        self.spoken.clear();
        self.responses.clear();
        let result = self.back.login(self.login, &mut self.out);
        match &result {
            Ok(()) => self.log.did("login"),
            Err(fault) => {
                assert!(self.out.is_empty(), "a login that cannot be was said");
                self.log.did(format!("fault {}", shown(fault)));
            }
        }
        self.flush();
        result.is_err()
    }

    fn check(&self, reply: &Reply) {
        assert_harmless(&reply.text, 512);
        assert_harmless(reply.code.as_deref().unwrap_or_default(), 64);
        for atom in reply.capabilities.iter().flatten() {
            assert_harmless(atom, 512);
        }
        assert!(reply.capabilities.as_ref().is_none_or(|atoms| atoms.len() <= 128));
    }

    fn flush(&mut self) {
        assert_lines(&self.out, "what the backend hears");
        self.log.said(&self.out);
        if self.attempts > 0 {
            self.spoken.extend_from_slice(&self.out);
            heard(self.protocol, self.login, &self.responses, &self.spoken);
        } else {
            for line in self.out.split_inclusive(|&byte| byte == b'\n') {
                let known = match self.protocol {
                    Protocol::Imap => line == b"g1 CAPABILITY\r\n",
                    Protocol::Pop3 => line == b"CAPA\r\n",
                    Protocol::Smtp => line.starts_with(b"EHLO ") || line.starts_with(b"HELO "),
                };
                let words = line.split(|&byte| byte == b' ').count();
                assert!(known && words <= 2, "said unasked: {}", line.escape_ascii());
            }
        }
        self.out.clear();
    }
}

/// Panics unless what is kept of a list is bounded and printable.
pub(crate) fn assert_bounded(capabilities: &Capabilities) {
    assert!(capabilities.lines.len() <= 128, "{} lines are kept", capabilities.lines.len());
    for line in &capabilities.lines {
        assert_harmless(line, 512);
    }
    assert!(capabilities.mechanisms.len() <= 128 * 256, "{} mechanisms", capabilities.mechanisms.len());
    assert_harmless(capabilities.apop.as_deref().unwrap_or_default(), 512);
}

/// A fault by its kind. Which of two bounds a line without sense hits first, and how much of it is quoted, depends on
/// how much had come.
pub(crate) fn shown(fault: &BackFault) -> String {
    match fault {
        BackFault::Garbage(_, text) => {
            assert_harmless(text, 1024);
            "garbage".to_owned()
        }
        BackFault::TooLarge => "garbage".to_owned(),
        BackFault::TurnedAway(text) => {
            assert_harmless(text, 1024);
            format!("turned away: {text}")
        }
        fault => format!("{fault:?}"),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Part,
    All,
}

/// What a backend that reads its protocol plainly has heard of a login. Panics unless it is the login, as far as it goes.
fn heard(protocol: Protocol, login: &Login, responses: &[Vec<u8>], spoken: &[u8]) -> Heard {
    let ears = Ears { rest: spoken, login, responses };
    if spoken.is_empty() {
        return Heard::Part;
    }
    match protocol {
        Protocol::Imap => ears.imap(),
        Protocol::Pop3 => ears.pop3(),
        Protocol::Smtp => ears.smtp(),
    }
}

struct Ears<'a> {
    rest: &'a [u8],
    login: &'a Login,
    responses: &'a [Vec<u8>],
}

impl<'a> Ears<'a> {
    fn line(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = &rest[2..];
        Some(line)
    }

    fn password(&self) -> (&'a [u8], &'a [u8]) {
        match &self.login.credentials {
            Credentials::Password { user, password, authzid: None } => (user.as_bytes(), password.declassify()),
            other => panic!("said as a password: {other:?}"),
        }
    }

    fn imap(mut self) -> Heard {
        let Some(space) = self.rest.iter().position(|&byte| byte == b' ') else { return Heard::Part };
        let (tag, rest) = self.rest.split_at(space);
        assert!(tag.first() == Some(&b'g') && tag[1..].iter().all(u8::is_ascii_digit), "{}", tag.escape_ascii());
        if let Some(rest) = rest.strip_prefix(b" LOGIN ") {
            self.rest = rest;
            let (user, password) = self.password();
            for (expected, end) in [(user, &b" "[..]), (password, b"\r\n")] {
                let Some(string) = self.imap_string() else {
                    assert!(self.rest.is_empty(), "half a string: {}", self.rest.escape_ascii());
                    return Heard::Part;
                };
                assert_eq!(string, expected);
                self.rest = self.rest.strip_prefix(end).expect("the next argument, or the end");
            }
            assert!(self.rest.is_empty(), "more than the login: {}", self.rest.escape_ascii());
            return Heard::All;
        }
        self.rest = rest.strip_prefix(b" AUTHENTICATE ").expect("LOGIN or AUTHENTICATE");
        self.sasl()
    }

    /// Quoted without escapes, or a literal.
    fn imap_string(&mut self) -> Option<&'a [u8]> {
        let (string, rest) = match self.rest {
            [b'"', rest @ ..] => {
                let end = rest.iter().position(|&byte| byte == b'"').expect("a closing quote");
                assert!(!rest[..end].contains(&b'\\'), "an escape");
                (&rest[..end], &rest[end + 1..])
            }
            [b'{', ..] => {
                let announced = self.line()?;
                let digits = announced.strip_prefix(b"{").and_then(|line| line.strip_suffix(b"}"));
                let digits = std::str::from_utf8(digits.expect("an announcement")).expect("digits");
                self.rest.split_at_checked(digits.parse().expect("a number"))?
            }
            [] => return None,
            other => panic!("no string: {}", other.escape_ascii()),
        };
        self.rest = rest;
        Some(string)
    }

    fn pop3(mut self) -> Heard {
        if self.rest.starts_with(b"USER ") {
            let (user, password) = self.password();
            assert_eq!(self.line(), Some([b"USER ", user].concat().as_slice()));
            if self.rest.is_empty() {
                return Heard::Part;
            }
            assert_eq!(self.line(), Some([b"PASS ", password].concat().as_slice()));
            assert!(self.rest.is_empty());
            return Heard::All;
        }
        if self.rest.starts_with(b"APOP ") {
            let Credentials::Apop { user, digest } = &self.login.credentials else { panic!("APOP for another login") };
            let expected = [b"APOP ", user.as_bytes(), b" ", digest.declassify(), b"\r\n"].concat();
            assert_eq!(self.rest, expected);
            return Heard::All;
        }
        self.rest = self.rest.strip_prefix(b"AUTH ").expect("USER, APOP or AUTH");
        self.sasl()
    }

    fn smtp(mut self) -> Heard {
        self.rest = self.rest.strip_prefix(b"AUTH ").expect("AUTH");
        self.sasl()
    }

    /// Mechanism, initial response, and responses.
    fn sasl(mut self) -> Heard {
        let line = self.line().expect("a whole line");
        let mut words = line.split(|&byte| byte == b' ');
        let mechanism = words.next().expect("a mechanism");
        let plain =
            |text: &[u8]| if text == b"=" { Vec::new() } else { decode(text).expect("base64").declassify().clone() };
        let mut said: Vec<Vec<u8>> = words.map(plain).collect();
        assert!(said.len() <= 1, "more than one initial response: {}", line.escape_ascii());
        let mut broken_off = false;
        while let Some(line) = self.line() {
            assert!(!broken_off, "said behind `*`: {}", line.escape_ascii());
            broken_off = line == b"*";
            said.extend((!broken_off).then(|| decode(line).expect("base64").declassify().clone()));
        }
        let expected: Vec<Vec<u8>> = match &self.login.credentials {
            Credentials::Password { user, password, authzid } => match mechanism {
                b"PLAIN" => {
                    let authzid = authzid.as_ref().map_or(&[][..], |name| name.as_bytes());
                    vec![[authzid, b"\0", user.as_bytes(), b"\0", password.declassify()].concat()]
                }
                b"LOGIN" => {
                    assert!(authzid.is_none(), "LOGIN says nothing of another mailbox");
                    vec![user.as_bytes().to_vec(), password.declassify().clone()]
                }
                other => panic!("a password by {}", other.escape_ascii()),
            },
            Credentials::Apop { .. } => panic!("a digest of APOP by SASL"),
            Credentials::Sasl { initial } => {
                assert_eq!(mechanism, self.login.mechanism.as_str().as_bytes());
                let initial = initial.iter().map(|initial| initial.declassify().clone());
                initial.chain(self.responses.iter().cloned()).collect()
            }
        };
        assert!(expected.starts_with(&said), "{said:?} is not {expected:?}");
        if !said.is_empty() && said.len() == expected.len() && !broken_off { Heard::All } else { Heard::Part }
    }
}
