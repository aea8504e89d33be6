//! The transcripts against the bare machines: a `Front` and a `Back`, and between them an engine without sockets,
//! deadlines or policy.
//!
//! A limit of this run: it checks up to the login. What a transcript shows behind the answer to a login that was
//! accepted, or behind a stranger's MAIL, is the relay's and left to the runners that have one.

use crate::transcript::{Failure, HOSTNAME, Kind, Pattern, Transcript, folder, play_all};
use bytes::BytesMut;
use gatepost::proto::sasl::user_of;
use gatepost::proto::{
    Answer, Back, BackSettings, BackStep, Capabilities, Front, Goodbye, Login, Reply, Service, Step, UserName, back,
    front,
};

/// `limits.auth_attempts_per_session`.
const ATTEMPTS: u32 = 3;

#[test]
fn imap_sessions_go_as_written() {
    play_all(&folder("imap"), play);
}

#[test]
fn pop3_sessions_go_as_written() {
    play_all(&folder("pop3"), play);
}

#[test]
fn smtp_sessions_go_as_written() {
    play_all(&folder("smtp"), play);
}

fn play(transcript: &Transcript) -> Result<(), Failure> {
    let mut session = Session::begin(transcript);
    for act in &transcript.acts {
        let fail = |expected: String, got: String| transcript.failure(act.line, expected, got);
        if session.state == State::Relay && !session.still_checks(&act.kind) {
            break;
        }
        if matches!(act.kind, Kind::FromClient(_) | Kind::FromBackend(_) | Kind::Tls | Kind::Closed) {
            session.nothing_unsaid().map_err(|got| fail(format!("nothing before {}", act.kind), got))?;
        }
        match &act.kind {
            Kind::FromClient(_) if session.state == State::Closed => {
                return Err(fail("an open connection".into(), "the gateway closed it".into()));
            }
            Kind::FromClient(_) if session.state == State::Handshake => {
                return Err(fail("= tls".into(), "bytes from the client where its handshake is due".into()));
            }
            Kind::FromClient(segment) => session.from_client.extend_from_slice(segment),
            Kind::ToClient(pattern) => {
                take(pattern, &mut session.to_client).map_err(|got| fail(act.kind.to_string(), got))?;
            }
            Kind::FromBackend(segment) => match &mut session.backend {
                Some(backend) => backend.from.extend_from_slice(segment),
                None => return Err(fail("a backend".into(), "no connection to one".into())),
            },
            Kind::ToBackend(pattern) => match &mut session.backend {
                Some(backend) => {
                    take(pattern, &mut backend.to).map_err(|got| fail(act.kind.to_string(), got))?;
                }
                None => return Err(fail(act.kind.to_string(), "no connection to a backend".into())),
            },
            Kind::Tls if session.state == State::Handshake => {
                session.front.secured(&session.capabilities.clone().into());
                session.state = State::Dialogue;
            }
            Kind::Tls => return Err(fail("the go-ahead for TLS".into(), format!("{:?}", session.state))),
            Kind::Event { name, fields } => {
                session.take_event(name, fields).map_err(|got| fail(act.kind.to_string(), got))?;
            }
            Kind::BackendDown => session.backend_down = true,
            Kind::BackendCloses => session.lose_backend(),
            Kind::Closed if session.state == State::Closed => {}
            Kind::Closed => return Err(fail("a closed connection".into(), format!("{:?}", session.state))),
        }
        session.pump();
    }
    let last = transcript.acts.last().map_or(1, |act| act.line);
    session.nothing_unsaid().map_err(|got| transcript.failure(last, "nothing more", got))?;
    if session.state == State::Closed && !transcript.acts.iter().any(|act| act.kind == Kind::Closed) {
        return Err(transcript.failure(last, "an open connection", "the gateway closed it"));
    }
    Ok(())
}

/// Takes what the pattern matches from the front of `pending`.
fn take(pattern: &Pattern, pending: &mut BytesMut) -> Result<(), String> {
    match pattern.matches(pending) {
        Some(length) => {
            let _ = pending.split_to(length);
            Ok(())
        }
        None if pending.is_empty() => Err("nothing".to_owned()),
        None => Err(format!("  {}", pending.escape_ascii())),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The backend is dialled for the greeting.
    Early,
    /// The client's turn.
    Dialogue,
    /// A login is the backend's to decide.
    Attempt,
    /// The go-ahead for TLS was given.
    Handshake,
    /// Handed over to the relay.
    Relay,
    Closed,
}

struct Backend {
    machine: Box<dyn Back>,
    ready: bool,
    from: BytesMut,
    to: BytesMut,
}

struct Session {
    front: Box<dyn Front>,
    backend: Option<Backend>,
    backend_down: bool,
    early: bool,
    service: Service,
    state: State,
    capabilities: Capabilities,
    from_client: BytesMut,
    to_client: BytesMut,
    login: Option<Login>,
    user: Option<UserName>,
    rejected: u32,
    events: Vec<Event>,
}

struct Event {
    name: &'static str,
    fields: Vec<(&'static str, String)>,
}

impl Session {
    fn begin(transcript: &Transcript) -> Self {
        let mut session = Self {
            front: front(transcript.front_settings()),
            backend: None,
            backend_down: transcript.early
                && matches!(transcript.acts.first(), Some(act) if act.kind == Kind::BackendDown),
            early: transcript.early,
            service: transcript.service,
            state: if transcript.early { State::Early } else { State::Dialogue },
            capabilities: transcript.remembered.clone(),
            from_client: BytesMut::new(),
            to_client: BytesMut::new(),
            login: None,
            user: None,
            rejected: 0,
            events: Vec::new(),
        };
        if transcript.early && !session.backend_down {
            session.dial();
        } else {
            session.greet();
        }
        session
    }

    fn greet(&mut self) {
        if self.early && self.backend.is_none() {
            // A timestamp belongs to one connection: without one there is no APOP to offer.
            self.capabilities.apop = None;
        }
        self.state = State::Dialogue;
        self.front.greet(&self.capabilities.clone().into(), &mut self.to_client);
    }

    fn dial(&mut self) {
        let ehlo = match self.service {
            Service::Smtp => self.front.helo().unwrap_or(HOSTNAME),
            _ => HOSTNAME,
        };
        let words = ["lock", "busy", "in use", "temporar"];
        let settings = BackSettings {
            ehlo: ehlo.to_owned(),
            temporary_replies: words.map(str::to_owned).into(),
            ..BackSettings::default()
        };
        let machine = back(self.service.protocol(), settings);
        self.backend = Some(Backend { machine, ready: false, from: BytesMut::new(), to: BytesMut::new() });
    }

    /// Lets both machines say what they have to say.
    fn pump(&mut self) {
        loop {
            let moved = match self.state {
                State::Dialogue => self.ask_front(),
                State::Attempt | State::Early => self.ask_back(),
                State::Handshake | State::Relay | State::Closed => false,
            };
            if !moved {
                return;
            }
        }
    }

    fn ask_front(&mut self) -> bool {
        match self.front.next(&mut self.from_client, &mut self.to_client) {
            Ok(Step::More) => return false,
            Ok(Step::StartTls) => {
                assert!(self.from_client.is_empty(), "bytes left behind the go-ahead for TLS");
                self.state = State::Handshake;
            }
            Ok(Step::Login(login)) => self.attempt(login),
            Ok(Step::Respond(response)) => {
                self.state = State::Attempt;
                if let (None, Some(login)) = (&self.user, &self.login) {
                    self.user = user_of(&login.mechanism, response.declassify());
                }
                let backend = self.backend.as_mut().expect("a challenge came from a backend");
                backend.machine.respond(response.declassify(), &mut backend.to);
            }
            Ok(Step::Cancelled) => self.abandon_exchange(),
            Ok(Step::Denied { refusal, mechanism }) => {
                self.abandon_exchange();
                let fields = vec![("reason", refusal.to_string()), ("mechanism", mechanism.to_string())];
                self.events.push(Event { name: "auth.refused", fields });
            }
            Ok(Step::Mail) => self.state = State::Relay,
            Ok(Step::Leave) | Err(_) => self.state = State::Closed,
        }
        true
    }

    fn attempt(&mut self, login: Login) {
        self.state = State::Attempt;
        self.user = login.user();
        self.login = Some(login);
        match &mut self.backend {
            Some(backend) if backend.ready => self.send_login(),
            Some(_) => {}
            None if self.backend_down => self.verdict("auth.error", None),
            None => self.dial(),
        }
    }

    fn send_login(&mut self) {
        let (Some(backend), Some(login)) = (&mut self.backend, &self.login) else { return };
        if backend.machine.login(login, &mut backend.to).is_err() {
            self.backend = None;
            self.verdict("auth.error", None);
        }
    }

    /// An exchange the client broke off leaves the backend waiting for a response: its connection is of no more use.
    fn abandon_exchange(&mut self) {
        if self.login.take().is_some() {
            self.backend = None;
        }
    }

    fn ask_back(&mut self) -> bool {
        let Some(backend) = &mut self.backend else { return false };
        match backend.machine.next(&mut backend.from, &mut backend.to) {
            Ok(BackStep::More) => return false,
            Ok(BackStep::Ready(capabilities)) => {
                backend.ready = true;
                if self.state == State::Early {
                    self.capabilities = capabilities;
                    self.greet();
                } else {
                    self.send_login();
                }
            }
            Ok(BackStep::Challenge(challenge)) => {
                self.state = State::Dialogue;
                self.front.answer(Answer::Challenge(&challenge), &mut self.to_client);
            }
            Ok(BackStep::StartTls) => panic!("nobody asked for TLS"),
            Ok(BackStep::Accepted(reply)) => self.verdict("auth.ok", Some(&reply)),
            Ok(BackStep::Rejected(reply)) => self.verdict("auth.failed", Some(&reply)),
            Ok(BackStep::Unavailable(reply) | BackStep::InUse(reply)) => self.verdict("auth.error", Some(&reply)),
            Err(_) => self.lose_backend(),
        }
        true
    }

    fn lose_backend(&mut self) {
        self.backend = None;
        match self.state {
            State::Early => self.greet(),
            State::Attempt => self.verdict("auth.error", None),
            _ => {}
        }
    }

    fn verdict(&mut self, name: &'static str, reply: Option<&Reply>) {
        let Some(login) = self.login.take() else { return };
        let user = self.user.take().as_ref().map(UserName::display);
        let known = [("user", user), ("reply", reply.map(Reply::to_line))];
        let mut fields = vec![("mechanism", login.mechanism.to_string())];
        fields.extend(known.into_iter().filter_map(|(key, value)| Some((key, value?))));
        self.events.push(Event { name, fields });

        self.state = State::Dialogue;
        let out = &mut self.to_client;
        match (name, reply) {
            ("auth.ok", Some(reply)) => {
                self.front.answer(Answer::Accepted(reply), out);
                self.state = State::Relay;
            }
            ("auth.failed", Some(reply)) => {
                self.front.answer(Answer::Rejected(reply), out);
                self.rejected += 1;
                if self.rejected == ATTEMPTS {
                    self.front.answer(Answer::Goodbye(Goodbye::TooManyAttempts), out);
                    self.state = State::Closed;
                }
            }
            (_, reply) => self.front.answer(Answer::Unavailable(reply), out),
        }
    }

    /// Whether an act behind the hand-over is still of the answer to the login.
    fn still_checks(&self, kind: &Kind) -> bool {
        match kind {
            Kind::ToClient(_) => !self.to_client.is_empty(),
            Kind::Event { name, .. } => self.events.iter().any(|event| event.name == name),
            _ => false,
        }
    }

    /// Errs with what was said that the transcript did not show.
    fn nothing_unsaid(&self) -> Result<(), String> {
        let to_backend = self.backend.as_ref().map_or(&[][..], |backend| &backend.to);
        match (self.to_client.is_empty(), to_backend.is_empty()) {
            (true, true) => Ok(()),
            (false, _) => Err(format!("S {}", self.to_client.escape_ascii())),
            (_, false) => Err(format!("G {}", to_backend.escape_ascii())),
        }
    }

    /// Looks for the event behind those taken before. Events and fields this run cannot know are passed over.
    fn take_event(&mut self, name: &str, fields: &[(String, String)]) -> Result<(), String> {
        if !name.starts_with("auth.") {
            return Ok(());
        }
        let seen: Vec<String> = self.events.iter().map(|event| format!("{} {:?}", event.name, event.fields)).collect();
        let fits = |event: &Event| {
            event.name == name
                && event.fields.iter().all(|(key, value)| {
                    fields.iter().filter(|(wanted, _)| wanted == key).all(|(_, wanted)| wanted == value)
                })
        };
        match self.events.iter().position(fits) {
            Some(at) => {
                self.events.drain(..=at);
                Ok(())
            }
            None => Err(if seen.is_empty() { "no event".to_owned() } else { seen.join("; ") }),
        }
    }
}
