//! Our client half: greeting, CAPA, and the login brought to what the server takes.

use super::capability::{Listing, of_a_server_without_capa, timestamp};
use super::reply::{Status, acceptance, may_be_a_greeting, refusal, verdict};
use crate::proto::line::{Line, LineReader, MAX_COMMAND, printable};
use crate::proto::sasl::{Script, Way, decode};
use crate::proto::{
    Back, BackFault, BackSettings, BackStep, Capabilities, Credentials, Introduction, Login, Secret, UserName,
};
use bytes::{BufMut, BytesMut};

/// The longest command with its line end, in octets (RFC 2449 section 4).
const MAX_SENT: usize = 255;

/// The client half of a POP3 login (RFC 1939, 2449, 5034). One command is under way at a time, never more.
#[derive(Debug)]
pub struct Pop3Back {
    settings: BackSettings,
    reader: LineReader,
    capabilities: Capabilities,
    /// The greeting says that we may say who the client is. It may be said in the clear: at worst it costs a command.
    greets_with_xclient: bool,
    /// Who is logging in: the server's text may hold the name.
    user: Option<UserName>,
    state: State,
}

#[derive(Debug)]
enum State {
    Greeting,
    /// STLS was sent.
    Upgrading,
    /// The go-ahead for TLS came.
    Handshake,
    /// CAPA was sent; `+OK` begins the list, anything else from the server means that it has none.
    Capa {
        apop: Option<String>,
    },
    Listing {
        apop: Option<String>,
        listing: Listing,
    },
    /// XCLIENT was sent: who the client is.
    Introducing,
    /// Nothing is asked: a login may be sent.
    Idle,
    /// More came behind a verdict. Qpopper says goodbye with an `+OK` there, which must not pass for the answer to
    /// the next login.
    Spoilt,
    /// USER was sent; the password waits for its answer.
    User(Secret<Vec<u8>>),
    /// PASS or APOP was sent.
    Verdict,
    /// AUTH or a response was sent.
    Sasl(Script),
    /// A challenge is the client's to answer.
    Asked(Script),
    /// `*` was sent, as a challenge came that nobody can answer.
    GivenUp,
    LoggedIn,
    /// QUIT was sent; whatever is said now is nobody's concern.
    Leaving,
}

impl Pop3Back {
    /// Makes the half for a fresh connection. The server speaks first.
    pub fn new(settings: BackSettings) -> Self {
        Self {
            settings,
            reader: LineReader::default(),
            capabilities: Capabilities::default(),
            greets_with_xclient: false,
            user: None,
            state: State::Greeting,
        }
    }
}

impl Back for Pop3Back {
    fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<BackStep, BackFault> {
        loop {
            match self.state {
                State::LoggedIn => return Ok(BackStep::More),
                State::Leaving => {
                    input.clear();
                    return Ok(BackStep::More);
                }
                State::Spoilt => return Err(BackFault::Unsolicited),
                State::Idle | State::Asked(_) | State::Handshake if input.is_empty() => return Ok(BackStep::More),
                State::Idle | State::Asked(_) | State::Handshake => return Err(BackFault::Unsolicited),
                State::Greeting if !may_be_a_greeting(input) => {
                    let line = &input[..memchr::memchr(b'\n', input).unwrap_or(input.len())];
                    return Err(garbage(line));
                }
                _ => {}
            }
            let Some(line) = self.line(input)? else { return Ok(BackStep::More) };
            if let Some(step) = self.heard(&line, input, out)? {
                return Ok(step);
            }
        }
    }

    fn secured(&mut self, out: &mut BytesMut) {
        self.reader = LineReader::default();
        put_command(out, &[b"CAPA"]);
        // The timestamp was said in the clear: with it, whoever stands between chooses what a password is hashed with.
        self.state = State::Capa { apop: None };
    }

    fn login(&mut self, login: &Login, out: &mut BytesMut) -> Result<(), BackFault> {
        let way = match self.state {
            State::Idle => Way::choose(login, &self.capabilities),
            State::Spoilt => return Err(BackFault::Unsolicited),
            _ => None,
        };
        self.state = match (way, &login.credentials) {
            (Some(Way::Command), Credentials::Password { user, password, .. }) => {
                fits(&[user.as_bytes()])?;
                fits(&[password.declassify()])?;
                put_command(out, &[b"USER", user.as_bytes()]);
                State::User(password.clone())
            }
            (Some(Way::Apop), Credentials::Apop { user, digest }) => {
                fits(&[user.as_bytes(), digest.declassify()])?;
                put_command(out, &[b"APOP", user.as_bytes(), digest.declassify()]);
                State::Verdict
            }
            (Some(Way::Sasl(mechanism)), credentials) => {
                // No initial response: RFC 1734 servers do not know it, and RFC 5034 bounds its line at 255 octets.
                put_command(out, &[b"AUTH", mechanism.as_str().as_bytes()]);
                State::Sasl(Script::new(&mechanism, credentials))
            }
            _ => return Err(BackFault::NoWayIn(login.mechanism.to_string())),
        };
        self.user = login.user();
        Ok(())
    }

    fn respond(&mut self, response: &[u8], out: &mut BytesMut) {
        if let State::Asked(script) = &mut self.state {
            let mut script = std::mem::take(script);
            script.forward(response, out);
            self.state = State::Sasl(script);
        }
    }

    fn quit(&mut self, out: &mut BytesMut) {
        put_command(out, &[b"QUIT"]);
        self.state = State::Leaving;
    }
}

impl Pop3Back {
    /// Cuts a line. One that outgrows the bound ends the connection before it ends itself.
    fn line(&mut self, input: &mut BytesMut) -> Result<Option<BytesMut>, BackFault> {
        let held = input.len();
        match self.reader.next(input, MAX_COMMAND) {
            Some(Line::Whole { bytes, .. }) => Ok(Some(bytes)),
            None if input.len() == held => Ok(None),
            Some(Line::TooLong) | None => Err(BackFault::TooLarge),
        }
    }

    /// Takes a line where one was awaited.
    fn heard(&mut self, line: &[u8], rest: &BytesMut, out: &mut BytesMut) -> Result<Option<BackStep>, BackFault> {
        // What the line means is for the state it comes in; until that is told, nothing is asked.
        match (std::mem::replace(&mut self.state, State::Idle), Status::parse(line)) {
            (State::Greeting, Status::Ok(text)) => {
                alone(rest)?;
                self.greets_with_xclient = memchr::memmem::find(text, b"[XCLIENT]").is_some();
                if self.settings.starttls {
                    put_command(out, &[b"STLS"]);
                    self.state = State::Upgrading;
                } else {
                    put_command(out, &[b"CAPA"]);
                    self.state = State::Capa { apop: timestamp(text) };
                }
                Ok(None)
            }
            (State::Upgrading, Status::Ok(_)) => {
                alone(rest)?;
                self.state = State::Handshake;
                Ok(Some(BackStep::StartTls))
            }
            (State::Upgrading, Status::Err(text)) => {
                Err(BackFault::NoStartTls(format!("STLS is answered with -ERR {}", refusal(text).to_line())))
            }
            (State::Introducing, Status::Ok(_)) => {
                alone(rest)?;
                Ok(Some(self.ready(self.capabilities.clone())))
            }
            (State::Introducing, Status::Err(text)) => {
                Err(BackFault::NoIntroduction(format!("XCLIENT, but says -ERR {}", refusal(text).to_line())))
            }
            (State::Greeting, Status::Err(text)) => Err(BackFault::TurnedAway(refusal(text).to_line())),
            (State::Capa { apop }, Status::Ok(_)) => {
                self.state = State::Listing { apop, listing: Listing::default() };
                Ok(None)
            }
            (State::Capa { apop }, Status::Err(_)) => {
                alone(rest)?;
                self.introduce(of_a_server_without_capa(apop), out)
            }
            (State::Listing { apop, mut listing }, _) => {
                if listing.take(line)? {
                    alone(rest)?;
                    return self.introduce(listing.into_capabilities(apop), out);
                }
                self.state = State::Listing { apop, listing };
                Ok(None)
            }
            (State::User(password), Status::Ok(_)) => {
                alone(rest)?;
                put_command(out, &[b"PASS", password.declassify()]);
                self.state = State::Verdict;
                Ok(None)
            }
            (State::Sasl(mut script), Status::Continue(challenge)) => {
                alone(rest)?;
                if script.answer(out) {
                    self.state = State::Sasl(script);
                    return Ok(None);
                }
                if !script.passes_through() {
                    out.put_slice(b"*\r\n");
                    self.state = State::GivenUp;
                    return Ok(None);
                }
                let challenge = decode(challenge).map_err(|_| garbage(b"a challenge that is not base64"))?;
                self.state = State::Asked(script);
                Ok(Some(BackStep::Challenge(challenge.declassify().clone())))
            }
            // Nobody gets a session for credentials that were not said: an old server may take AUTH with a mechanism for
            // the question which ones there are.
            (State::Sasl(script), Status::Ok(_)) if !script.is_said() => {
                Err(garbage(b"+OK before all of the credentials"))
            }
            (State::Verdict | State::Sasl(_), Status::Ok(text)) => {
                self.state = State::LoggedIn;
                Ok(Some(BackStep::Accepted(acceptance(text))))
            }
            (State::Sasl(script), Status::Err(text)) if script.is_begun() => {
                self.decided(rest);
                let verdict = verdict(text, self.user.as_ref(), &self.settings);
                Ok(Some(if script.is_said() { proved(verdict) } else { verdict }))
            }
            // It is no verdict on credentials, if none were sent: the mechanism is not to be had.
            (State::Sasl(_) | State::GivenUp, Status::Err(text)) => {
                self.decided(rest);
                Ok(Some(BackStep::Unavailable(refusal(text))))
            }
            (State::User(_), Status::Err(text)) => {
                self.decided(rest);
                Ok(Some(verdict(text, self.user.as_ref(), &self.settings)))
            }
            (State::Verdict, Status::Err(text)) => {
                self.decided(rest);
                Ok(Some(proved(verdict(text, self.user.as_ref(), &self.settings))))
            }
            _ => Err(garbage(line)),
        }
    }

    /// Says who the client is, where the server is to hear it. Dovecot takes this of those in its `login_trusted_networks`, and
    /// says so in its greeting.
    fn introduce(&mut self, known: Capabilities, out: &mut BytesMut) -> Result<Option<BackStep>, BackFault> {
        let listed = self.greets_with_xclient || known.has("XCLIENT");
        let address = match &self.settings.introduction {
            Introduction::None => return Ok(Some(self.ready(known))),
            _ if !listed => return Err(BackFault::NoIntroduction("XCLIENT, which it does not list".to_owned())),
            Introduction::Possible => return Ok(Some(self.ready(known))),
            Introduction::Client { address, .. } => *address,
        };
        self.capabilities = known;
        let (ip, port) = (format!("ADDR={}", address.ip()), format!("PORT={}", address.port()));
        put_command(out, &[b"XCLIENT", ip.as_bytes(), port.as_bytes()]);
        self.state = State::Introducing;
        Ok(None)
    }

    fn ready(&mut self, capabilities: Capabilities) -> BackStep {
        self.capabilities = capabilities.clone();
        BackStep::Ready(capabilities)
    }

    fn decided(&mut self, rest: &BytesMut) {
        self.state = if rest.is_empty() { State::Idle } else { State::Spoilt };
    }
}

/// Errs where something stands behind the answer to what was asked last.
fn alone(rest: &BytesMut) -> Result<(), BackFault> {
    if rest.is_empty() { Ok(()) } else { Err(BackFault::Unsolicited) }
}

/// Errs where the arguments do not fit into a command: a server that reads 512 octets at a time would take the rest of a
/// longer line for a command of its own, and the answer to that for a verdict.
fn fits(arguments: &[&[u8]]) -> Result<(), BackFault> {
    let verb_and_line_end = 4 + 2;
    let length: usize = arguments.iter().map(|argument| 1 + argument.len()).sum();
    if verb_and_line_end + length > MAX_SENT { Err(BackFault::TooLong(MAX_SENT)) } else { Ok(()) }
}

fn garbage(line: &[u8]) -> BackFault {
    BackFault::Garbage("POP3", printable(line.trim_ascii_end(), 80))
}

fn put_command(out: &mut BytesMut, words: &[&[u8]]) {
    for (index, word) in words.iter().enumerate() {
        out.put_slice(if index == 0 { b"" } else { b" " });
        out.put_slice(word);
    }
    out.put_slice(b"\r\n");
}

/// What a refusal says to credentials that were said in full: a mailbox is in use only for whom it belongs to.
fn proved(verdict: BackStep) -> BackStep {
    match verdict {
        BackStep::Unavailable(reply) if reply.code.as_deref() == Some("IN-USE") => BackStep::InUse(reply),
        verdict => verdict,
    }
}
