//! The client half: greeting, EHLO, and a login brought to what the backend offers.

use super::reply::{ReplyReader, SmtpReply};
use crate::proto::line::printable;
use crate::proto::sasl::{Script, Way, decode};
use crate::proto::{Back, BackFault, BackSettings, BackStep, Capabilities, Introduction, Login, Mechanism, Reply};
use bytes::{BufMut, BytesMut};
use core::net::IpAddr;
use zeroize::Zeroize as _;

/// The longest command an old server must take (RFC 5321 section 4.5.3.1.4), with its line end: an AUTH past it goes
/// without its initial response.
const MAX_OLD_COMMAND: usize = 512;
/// What most AUTH commands with their initial response fit into.
const TYPICAL_AUTH: usize = 128;
/// Bounds on what is kept of an EHLO answer.
const MAX_LINES: usize = 128;
const MAX_LINE: usize = 512;

/// Speaks SMTP to a backend until the verdict on a login, or until a stranger's session may begin. See the module for
/// its states.
#[derive(Debug)]
pub struct SmtpBack {
    settings: BackSettings,
    replies: ReplyReader,
    capabilities: Capabilities,
    state: State,
    /// TLS is up.
    is_secured: bool,
    /// It knows who the client is.
    is_introduced: bool,
}

#[derive(Debug)]
enum State {
    Greeting,
    Ehlo,
    Helo,
    /// STARTTLS was sent.
    Upgrading,
    /// The go-ahead for TLS came.
    Handshake,
    /// XCLIENT was sent: who the client is. The server greets anew.
    Introducing,
    /// Nothing was asked.
    Idle,
    /// AUTH or a response was sent.
    Auth(Script),
    /// A challenge is the client's to answer.
    Challenged(Script),
    /// The exchange was broken off by us.
    Cancelled,
}

impl SmtpBack {
    /// The client half for one connection.
    pub fn new(settings: BackSettings) -> Self {
        Self {
            settings,
            replies: ReplyReader::default(),
            capabilities: Capabilities::default(),
            state: State::Greeting,
            is_secured: false,
            is_introduced: false,
        }
    }
}

impl Back for SmtpBack {
    fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<BackStep, BackFault> {
        loop {
            let Some(reply) = self.replies.next(input)? else { return Ok(BackStep::More) };
            if reply.code() == 421 {
                return Err(turned_away(&reply));
            }
            let step = match std::mem::replace(&mut self.state, State::Idle) {
                State::Greeting => self.greeting(&reply, input, out)?,
                State::Ehlo => self.ehlo(&reply, input, out)?,
                State::Helo if reply.is_positive() => self.known(Capabilities::default(), input, out)?,
                State::Upgrading => self.upgrading(&reply, input)?,
                State::Introducing => self.introducing(&reply, input, out)?,
                State::Helo => return Err(turned_away(&reply)),
                State::Auth(script) => self.auth(script, &reply, input, out)?,
                State::Cancelled => BackStep::Unavailable(reply.summary()),
                State::Idle | State::Handshake | State::Challenged(_) => return Err(BackFault::Unsolicited),
            };
            match step {
                BackStep::More => {}
                step => return Ok(step),
            }
        }
    }

    fn secured(&mut self, out: &mut BytesMut) {
        self.replies = ReplyReader::default();
        self.is_secured = true;
        self.hello("EHLO", out);
        self.state = State::Ehlo;
    }

    fn login(&mut self, login: &Login, out: &mut BytesMut) -> Result<(), BackFault> {
        let Some(Way::Sasl(mechanism)) = Way::choose(login, &self.capabilities) else {
            let has_none = self.capabilities.mechanisms.is_empty();
            return Err(if has_none { BackFault::NoAuth } else { BackFault::NoWayIn(login.mechanism.to_string()) });
        };
        let start = out.len();
        out.reserve(TYPICAL_AUTH);
        let command = |out: &mut BytesMut| {
            out.put_slice(b"AUTH ");
            out.put_slice(mechanism.as_str().as_bytes());
        };
        let mut script = Script::new(&mechanism, &login.credentials);
        command(out);
        script.initial(&mechanism, out);
        if out.len() - start + 2 > MAX_OLD_COMMAND {
            out[start..].zeroize();
            out.truncate(start);
            script = Script::new(&mechanism, &login.credentials);
            command(out);
        }
        out.put_slice(b"\r\n");
        self.state = State::Auth(script);
        Ok(())
    }

    fn respond(&mut self, response: &[u8], out: &mut BytesMut) {
        if let State::Challenged(mut script) = std::mem::replace(&mut self.state, State::Idle) {
            script.forward(response, out);
            self.state = State::Auth(script);
        }
    }

    fn quit(&mut self, out: &mut BytesMut) {
        out.put_slice(b"QUIT\r\n");
    }
}

impl SmtpBack {
    fn greeting(&mut self, reply: &SmtpReply, input: &BytesMut, out: &mut BytesMut) -> Result<BackStep, BackFault> {
        match reply.code() {
            400..=599 => return Err(turned_away(reply)),
            220 => {}
            _ => return Err(BackFault::Garbage("SMTP", reply.summary().to_line())),
        }
        unasked(input)?;
        self.hello("EHLO", out);
        self.state = State::Ehlo;
        Ok(BackStep::More)
    }

    fn ehlo(&mut self, reply: &SmtpReply, input: &BytesMut, out: &mut BytesMut) -> Result<BackStep, BackFault> {
        if reply.is_permanent() {
            unasked(input)?;
            self.hello("HELO", out);
            self.state = State::Helo;
            return Ok(BackStep::More);
        }
        if !reply.is_positive() {
            return Err(turned_away(reply));
        }
        self.known(capabilities(reply), input, out)
    }

    /// The capabilities are in: TLS first, then who the client is, where either is due.
    fn known(&mut self, known: Capabilities, input: &BytesMut, out: &mut BytesMut) -> Result<BackStep, BackFault> {
        unasked(input)?;
        if self.settings.starttls && !self.is_secured {
            if !known.has("STARTTLS") {
                return Err(BackFault::NoStartTls("it does not list STARTTLS".to_owned()));
            }
            out.put_slice(b"STARTTLS\r\n");
            self.state = State::Upgrading;
            return Ok(BackStep::More);
        }
        self.capabilities = known;
        if !self.is_introduced && self.introduce(out)? {
            self.state = State::Introducing;
            return Ok(BackStep::More);
        }
        self.ready(input)
    }

    fn upgrading(&mut self, reply: &SmtpReply, input: &BytesMut) -> Result<BackStep, BackFault> {
        if reply.code() != 220 {
            return Err(BackFault::NoStartTls(format!("STARTTLS is answered with {}", reply.summary().to_line())));
        }
        unasked(input)?;
        self.state = State::Handshake;
        Ok(BackStep::StartTls)
    }

    /// Says who the client is, where the server is to hear it (Postfix' `XCLIENT_README`); `false` where nothing was said.
    /// Only attributes go that it lists. The name is said to be unknown, for nobody has looked it up: without a word the
    /// server would take ours for the client's. A login that does not fit is not left out: its owner would pass for a stranger.
    fn introduce(&mut self, out: &mut BytesMut) -> Result<bool, BackFault> {
        let attributes = self.capabilities.argument("XCLIENT").unwrap_or_default();
        let lists = |name: &str| attributes.split(' ').any(|listed| listed.eq_ignore_ascii_case(name));
        let (address, login) = match &self.settings.introduction {
            Introduction::None => return Ok(false),
            _ if !lists("ADDR") => {
                return Err(BackFault::NoIntroduction("XCLIENT with ADDR, which it does not list".to_owned()));
            }
            Introduction::Possible => return Ok(false),
            Introduction::Client { address, login } => (address, login),
        };
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("IPV6:{ip}"),
        };
        let login = login.as_ref().map(|login| xtext(login.as_bytes()));
        let said = [
            ("NAME", Some("[UNAVAILABLE]".to_owned())),
            ("ADDR", Some(ip)),
            ("PORT", Some(address.port().to_string())),
            ("LOGIN", login),
        ];
        let mut line = String::from("XCLIENT");
        for (name, value) in said {
            if let Some(value) = value.filter(|_| lists(name)) {
                line.push_str(&format!(" {name}={value}"));
            }
        }
        line.push_str("\r\n");
        if line.len() > MAX_OLD_COMMAND {
            return Err(BackFault::TooLong(MAX_OLD_COMMAND));
        }
        out.put_slice(line.as_bytes());
        Ok(true)
    }

    /// The server greets anew, and forgets the EHLO.
    fn introducing(&mut self, reply: &SmtpReply, input: &BytesMut, out: &mut BytesMut) -> Result<BackStep, BackFault> {
        if reply.code() != 220 {
            let said = reply.summary().to_line();
            return Err(BackFault::NoIntroduction(format!("XCLIENT, but says {said}")));
        }
        unasked(input)?;
        self.is_introduced = true;
        self.hello("EHLO", out);
        self.state = State::Ehlo;
        Ok(BackStep::More)
    }

    fn ready(&mut self, input: &BytesMut) -> Result<BackStep, BackFault> {
        unasked(input)?;
        // A login goes by the mechanisms alone.
        let mechanisms = self.capabilities.mechanisms.clone();
        let rest = Capabilities { mechanisms, ..Capabilities::default() };
        Ok(BackStep::Ready(std::mem::replace(&mut self.capabilities, rest)))
    }

    /// The name is a client's on `smtp`: no line end or space of it may begin a command of its own.
    fn hello(&self, verb: &str, out: &mut BytesMut) {
        out.reserve(verb.len() + self.settings.ehlo.len() + " \r\n".len());
        out.put_slice(verb.as_bytes());
        out.put_u8(b' ');
        let begin = out.len();
        for c in self.settings.ehlo.chars().filter(|c| !c.is_control() && !c.is_whitespace()) {
            out.put_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        if out.len() == begin {
            out.put_slice(b"localhost");
        }
        out.put_slice(b"\r\n");
    }

    fn auth(
        &mut self,
        mut script: Script,
        reply: &SmtpReply,
        input: &BytesMut,
        out: &mut BytesMut,
    ) -> Result<BackStep, BackFault> {
        match reply.code() {
            // Nobody gets a session for credentials that were not said.
            235 if !script.is_said() => Err(BackFault::Garbage("SMTP", "235 before all of the credentials".to_owned())),
            235 => Ok(BackStep::Accepted(reply.summary())),
            334 => {
                // It waits for us now: what stands behind it is no answer to what we say next.
                unasked(input)?;
                if script.answer(out) {
                    self.state = State::Auth(script);
                    return Ok(BackStep::More);
                }
                let challenge = reply.lines().next().unwrap_or_default();
                match decode(challenge.trim_ascii()) {
                    Ok(challenge) if script.passes_through() => {
                        self.state = State::Challenged(script);
                        Ok(BackStep::Challenge(challenge.declassify().clone()))
                    }
                    _ => {
                        out.put_slice(b"*\r\n");
                        self.state = State::Cancelled;
                        Ok(BackStep::More)
                    }
                }
            }
            code if is_verdict(code) => Ok(BackStep::Rejected(reply.summary())),
            400..=599 => Ok(BackStep::Unavailable(reply.summary())),
            _ => Err(BackFault::Garbage("SMTP", reply.summary().to_line())),
        }
    }
}

/// Whether a code is about the credentials. What remains of 5yz says that our command does not suit the server: its
/// syntax (500, 501), its order (503), its mechanism (502, 504), the lack of TLS (530, 538). Nobody's password is wrong.
fn is_verdict(code: u16) -> bool {
    (500..=599).contains(&code) && !matches!(code, 500..=504 | 530 | 538)
}

/// The encoding of an attribute's value (RFC 3461 section 4): what is no printable ASCII, `+` and `=` by their numbers.
fn xtext(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'!'..=b'~' if byte != b'+' && byte != b'=' => text.push(char::from(byte)),
            _ => text.push_str(&format!("+{byte:02X}")),
        }
    }
    text
}

/// Bytes behind an answer, where nothing was asked.
fn unasked(input: &BytesMut) -> Result<(), BackFault> {
    if input.is_empty() { Ok(()) } else { Err(BackFault::Unsolicited) }
}

fn turned_away(reply: &SmtpReply) -> BackFault {
    let Reply { text, code, .. } = reply.summary();
    BackFault::TurnedAway(format!("{} {text}", code.unwrap_or_default()).trim_end().to_owned())
}

/// The lines behind the first. `AUTH=` is how Outlook Express wanted it; servers that list only that exist.
fn capabilities(reply: &SmtpReply) -> Capabilities {
    let lines: Vec<String> = reply
        .lines()
        .skip(1)
        .filter(|line| line.len() <= MAX_LINE)
        .take(MAX_LINES)
        .map(|line| printable(line.trim_ascii(), MAX_LINE))
        .filter(|line| !line.is_empty())
        .collect();
    let mut mechanisms: Vec<Mechanism> = Vec::new();
    let named = lines.iter().filter(|line| line.get(..5).is_some_and(matches_auth));
    for name in named.flat_map(|line| line[5..].split([' ', '\t'])) {
        mechanisms.extend(Mechanism::parse(name.as_bytes()).filter(|mechanism| !mechanisms.contains(mechanism)));
    }
    Capabilities { lines, mechanisms, login_command: false, apop: None }
}

fn matches_auth(word: &str) -> bool {
    word.eq_ignore_ascii_case("AUTH ") || word.eq_ignore_ascii_case("AUTH=")
}

#[cfg(test)]
mod tests;
