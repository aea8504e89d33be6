//! The dialogue up to the login: one engine for every protocol. It knows streams, deadlines and
//! verdicts, and spells no protocol word: those are the front's and the back's.

use super::attempt::Outcome;
use super::entered::{Entered, Identity, Open};
use super::greeting::{Greeting, remembered, wants_a_timestamp};
use super::handshake;
use super::stream::ClientStream;
use super::{Ending, Session, Who, unproven};
use crate::backend::{Dialogue, Lost, Relaying, poll_read_into};
use crate::gate::Standby;
use crate::observe::Kind;
use crate::observe::metrics::ListenerMetrics;
use crate::proto::secret::shed;
use crate::proto::smtp::Recipients;
use crate::proto::{
    Answer, BackSettings, Capabilities, Front, Goodbye, MAX_ANSWERS, Mechanism, Protocol, Refusal, Service, Step,
    Violation,
};
use crate::route;
use bytes::{Buf, BytesMut};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

/// The most input that is held for a front half: a command with its literals, and what is pipelined behind it.
const MAX_INPUT: usize = 24 * 1024;

/// The most that is read of a client at once, who may be anybody.
const AT_ONCE: usize = 4 * 1024;

/// The most attempts of a session that end without success, whatever the reason. Verdicts have a smaller number of their own
/// (`auth_attempts_per_session`); but what is no verdict must neither be a way to guess on nor to write a log without end.
const MAX_ATTEMPTS: u32 = 20;
/// The most that is read ahead while answers wait to be written: a client that does not read is not listened to either.
const READ_AHEAD: usize = 2 * 1024;

/// How long a client waits for a greeting with the backend's timestamp, before it gets one without.
const STAMP_PATIENCE: Duration = Duration::from_secs(3);

/// Why waiting for the client came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// It closed.
    Closed,
    /// The connection broke.
    Broke,
    /// The deadline passed.
    Timeout,
    /// We are asked to say goodbye.
    Asked,
}

/// Drives the dialogue to its end.
pub(super) async fn login(
    session: &mut Session,
    metrics: &ListenerMetrics,
    client: ClientStream,
    greeting: Option<Greeting>,
) -> Entered {
    let session_started = session.started;
    let deadline = session_started + session.policy.timeouts.login;
    let has_greeted = greeting.is_some();
    let Greeting { front, shown, words } = greeting.unwrap_or_else(|| Greeting::unsaid(session));
    // Boxed: what a future is called with it keeps room for twice, at each call by value.
    let mut engine = Box::new(Engine {
        session,
        client,
        front,
        input: BytesMut::new(),
        out: words,
        dialogue: None,
        standby: None,
        deadline,
        answered: (0, session_started),
        attempts: 0,
        inquiries: 1,
        failures: 0,
        shown,
    });
    if !has_greeted {
        engine.shown = engine.capabilities().await;
        engine.front.greet(&engine.shown, &mut engine.out);
    }
    engine.run(metrics).await
}

pub(super) struct Engine<'s> {
    pub(super) session: &'s mut Session,
    pub(super) client: ClientStream,
    pub(super) front: Box<dyn Front>,
    pub(super) input: BytesMut,
    pub(super) out: BytesMut,
    /// A backend that was dialled and can take a login.
    pub(super) dialogue: Option<Dialogue>,
    /// Leave to let it wait for the client.
    standby: Option<Standby>,
    /// For the client's part alone: time spent waiting for the backend is added to it.
    deadline: Instant,
    /// How much the client had been told when it was last told something, and when that was.
    answered: (u64, Instant),
    /// Attempts that did not succeed.
    attempts: u32,
    /// The number of the next question to a service, from 1.
    pub(super) inquiries: u32,
    /// Verdicts against the client, among them.
    pub(super) failures: u32,
    /// What the client was told the backend can do; what is learned later is for those who come later.
    shown: Arc<Capabilities>,
}

impl Engine<'_> {
    async fn run(mut self: Box<Self>, metrics: &ListenerMetrics) -> Entered {
        loop {
            let step = match self.front.next(&mut self.input, &mut self.out) {
                Ok(step) => step,
                Err(violation) => return self.violated(violation).await,
            };
            if !matches!(step, Step::More) {
                self.forget();
                self.adopt_origin();
            }
            match step {
                // What a front left until its answers are written is looked at before more is read.
                Step::More if self.out.len() > MAX_ANSWERS => {}
                Step::More => {
                    if let Err(gone) = self.exchange().await {
                        return self.gone(gone).await;
                    }
                }
                Step::StartTls => {
                    if let Err(gone) = self.write_without_reading().await {
                        return self.gone(gone).await;
                    }
                    // Nothing that was read in the clear is there to be read under TLS (CVE-2011-0411).
                    self.input = BytesMut::new();
                    let (bytes_in, bytes_out) = (self.client.bytes_in, self.client.bytes_out);
                    let deadline = Instant::now() + self.session.policy.timeouts.tls_handshake;
                    // No greeting follows STARTTLS: the client speaks first.
                    let mut nothing = BytesMut::new();
                    match handshake::secure(self.session, metrics, self.client, deadline, &mut nothing).await {
                        Ok(client) => self.client = client,
                        Err(client) => {
                            let reason = "tls_failed";
                            let ending = Ending { reason, bytes_in, bytes_out, client, ..Ending::default() };
                            return Entered::Nowhere(Box::new(ending));
                        }
                    }
                    // What was dialled for the clear greeting (APOP) belongs to what is forgotten now.
                    (self.dialogue, self.standby) = (None, None);
                    self.shown = remembered(self.session);
                    self.front.secured(&self.shown);
                }
                Step::Login(login) => match self.attempt(login).await {
                    Outcome::Go => {
                        self.attempts += 1;
                        if self.dialogue.is_none() {
                            self.standby = None;
                        }
                    }
                    Outcome::End(reason) => return self.end(reason).await,
                    Outcome::Gone(gone) => return self.gone(gone).await,
                    Outcome::LoggedIn(dialogue, identity) => {
                        return self.entered(*dialogue, Some(identity), Recipients::All);
                    }
                },
                Step::Mail => 'mail: {
                    // Whoever tried to log in before, and as whom, has no part in it.
                    self.session.set_out();
                    if let Err(gone) = self.flush().await {
                        return self.gone(gone).await;
                    }
                    let granted = self.session.shared.gate.is_granted(self.session.client.ip()).await;
                    let is_unproven = !granted && unproven::is_allowed(self.session);
                    if !granted && !is_unproven && self.session.listener.service == Service::Submission {
                        self.front.answer(Answer::Refused(Refusal::LoginRequired), &mut self.out);
                        break 'mail;
                    }
                    if is_unproven && let Err(relaying) = unproven::may_send(self.session) {
                        self.refuse_unproven(relaying);
                        break 'mail;
                    }
                    let (routes, client) = (&self.session.policy.routes, self.session.client.ip());
                    if route::may_go(routes, &self.session.traveller(), client).is_err() {
                        self.refused(Refusal::NotAllowed, None, None).await;
                        self.front.answer(Answer::Refused(Refusal::NotAllowed), &mut self.out);
                        return self.end(Refusal::NotAllowed.as_str()).await;
                    }
                    match self.open(Protocol::Smtp, Who::default()).await {
                        // Not the one that may be sent to.
                        Ok(dialogue) if is_unproven && !unproven::may_send_to(self.session, &dialogue.server) => {
                            self.refuse_unproven(unproven::relaying(self.session, &dialogue.server));
                            tokio::spawn(dialogue.quit());
                        }
                        Ok(dialogue) => {
                            let domains = &self.session.policy.submission.accept_domains;
                            let recipients = match () {
                                () if granted => Recipients::All,
                                // Where it is written for whom strangers' mail may be, that holds here, too.
                                () if is_unproven && domains.is_empty() => Recipients::Plain,
                                () => Recipients::Only(Arc::clone(domains)),
                            };
                            return self.entered(dialogue, None, recipients);
                        }
                        Err(lost) => {
                            tracing::debug!(session = %self.session.id, %lost, "no backend for a stranger's mail");
                            self.front.answer(Answer::Unavailable(None), &mut self.out);
                        }
                    }
                }
                Step::Denied { refusal, mechanism } => {
                    self.attempts += 1;
                    self.refused(refusal, Some(&mechanism), None).await;
                }
                Step::Cancelled => {
                    self.attempts += 1;
                    self.refused(Refusal::Cancelled, None, None).await;
                }
                // Only an attempt asks for a response, and it takes the answer itself.
                Step::Respond(_) => return self.end(Refusal::BadSyntax.as_str()).await,
                Step::Leave => return self.end("logout").await,
            }
            if self.attempts >= MAX_ATTEMPTS.max(self.session.policy.limits.auth_attempts_per_session) {
                self.front.answer(Answer::Goodbye(Goodbye::TooManyAttempts), &mut self.out);
                return self.end("too_many_attempts").await;
            }
            if self.out.len() > MAX_ANSWERS
                && let Err(gone) = self.flush().await
            {
                return self.gone(gone).await;
            }
        }
    }

    /// Answers MAIL of somebody who may not send without a login.
    fn refuse_unproven(&mut self, relaying: Relaying) {
        self.attempts += 1;
        let answer = unproven::refuse(self.session, relaying);
        self.front.answer(answer, &mut self.out);
    }

    /// From here on the session is that of whom a believed client speaks for; its own address is kept beside it.
    pub(super) fn adopt_origin(&mut self) {
        if let Some(origin) = self.front.origin().filter(|origin| *origin != self.session.client.ip()) {
            self.session.proxy.get_or_insert(self.session.client.ip());
            // What was dialled was told of somebody else.
            (self.dialogue, self.standby) = (None, None);
            // Whose port it is nobody said.
            self.session.client = SocketAddr::new(origin, 0);
        }
    }

    /// What the client is greeted with: the remembered capabilities, or where APOP can be offered the
    /// live backend's, whose timestamp it needs (RFC 1939 section 7).
    async fn capabilities(&mut self) -> Arc<Capabilities> {
        if !wants_a_timestamp(self.session, self.session.tls.is_some()) || !self.may_wait().await {
            return remembered(self.session);
        }
        let began = Instant::now();
        let protocol = self.session.listener.service.protocol();
        match tokio::time::timeout(STAMP_PATIENCE, self.open(protocol, Who::default())).await {
            Ok(Ok(dialogue)) => {
                let live = Arc::new(dialogue.capabilities.clone());
                self.dialogue = Some(dialogue);
                live
            }
            Ok(Err(_)) => {
                self.standby = None;
                remembered(self.session)
            }
            Err(_) => {
                self.standby = None;
                self.give_back(began);
                remembered(self.session)
            }
        }
    }

    /// Whether a connection to the backend may wait for the client; an old server has few.
    pub(super) async fn may_wait(&mut self) -> bool {
        if self.standby.is_none() {
            let backend = &self.session.destination.backend;
            let client = self.session.client.ip();
            self.standby = self.session.shared.gate.standby(client, &backend.name, backend.max_sessions).await;
        }
        self.standby.is_some()
    }

    /// Keeps the dialogue for the client's next attempt, if it may wait for that.
    pub(super) async fn keep(&mut self, dialogue: Dialogue) {
        if self.may_wait().await {
            self.dialogue = Some(dialogue);
        }
    }

    /// Dials the backend's server of a protocol, the user's own where each has one; the time that takes is not the client's.
    pub(super) async fn open(&mut self, protocol: Protocol, who: Who<'_>) -> Result<Dialogue, Lost> {
        let began = Instant::now();
        let settings = back_settings(self.session, self.front.helo());
        let opened = self.session.dial(protocol, &settings, who).await;
        self.give_back(began);
        opened
    }

    /// Keeps nothing of what was read and understood: it may have been a password.
    pub(super) fn forget(&mut self) {
        shed(&mut self.input);
        self.client.forget();
    }

    /// Adds the time since `began` to the client's deadline: it was the backend's.
    pub(super) fn give_back(&mut self, began: Instant) {
        self.deadline += began.elapsed();
    }

    /// Waits for more input, writing meanwhile what is to be written.
    pub(super) async fn exchange(&mut self) -> Result<(), Gone> {
        if self.input.len() >= MAX_INPUT {
            // A front that leaves so much untouched would do so for ever.
            return Err(Gone::Broke);
        }
        self.wait(true).await
    }

    /// Writes what is to be written, reading on meanwhile as far as there is room.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        self.wait(false).await
    }

    /// Writes the go-ahead for TLS. What the client sends meanwhile stays in the socket, for the handshake.
    async fn write_without_reading(&mut self) -> Result<(), Gone> {
        let deadline = self.client_deadline();
        let writing = std::future::poll_fn(|cx| poll_write_all(Pin::new(&mut self.client), cx, &mut self.out));
        match tokio::time::timeout_at(deadline, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone::Broke),
            Err(_) => Err(Gone::Timeout),
        }
    }

    async fn wait(&mut self, for_input: bool) -> Result<(), Gone> {
        let deadline = self.client_deadline();
        let (client, input, out) = (&mut self.client, &mut self.input, &mut self.out);
        let talk = std::future::poll_fn(|cx| {
            let written = poll_write_all(Pin::new(&mut *client), cx, out).map_err(|_| Gone::Broke)?;
            if !for_input && written.is_ready() {
                return Poll::Ready(Ok(()));
            }
            let bound = if for_input { MAX_INPUT } else { READ_AHEAD };
            let room = bound.saturating_sub(input.len());
            if room == 0 {
                return Poll::Pending;
            }
            match poll_read_into(&mut *client, cx, input, room.min(AT_ONCE)) {
                Poll::Ready(Ok(0)) => Poll::Ready(Err(Gone::Closed)),
                Poll::Ready(Ok(_)) if for_input => Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Err(Gone::Closed))
                }
                Poll::Ready(Err(_)) => Poll::Ready(Err(Gone::Broke)),
                Poll::Pending => Poll::Pending,
            }
        });
        tokio::select! {
            result = talk => result,
            () = tokio::time::sleep_until(deadline) => Err(Gone::Timeout),
            () = self.session.leave.cancelled() => Err(Gone::Asked),
        }
    }

    /// A stranger's mail needs no login, so there is no login time on such a listener, only the time for a command. It
    /// runs from the last answer: a command that comes byte by byte gets no more.
    fn client_deadline(&mut self) -> Instant {
        match self.session.listener.service {
            Service::Smtp => {
                let told = self.client.bytes_out + self.out.len() as u64;
                if told != self.answered.0 {
                    self.answered = (told, Instant::now());
                }
                self.answered.1 + self.session.policy.timeouts.idle_submission
            }
            Service::Imap | Service::Pop3 | Service::Submission => self.deadline,
        }
    }

    /// `recipients`: for whom mail is taken, where it is mail that comes.
    fn entered(self: Box<Self>, dialogue: Dialogue, identity: Option<Identity>, recipients: Recipients) -> Entered {
        let helo = self.front.helo().map(str::to_owned);
        let open = Box::new(Open {
            client: self.client,
            from_client: self.input,
            to_client: self.out,
            dialogue,
            identity,
            recipients,
            helo,
            shown: self.shown,
        });
        match self.session.listener.service.protocol() {
            Protocol::Imap | Protocol::Pop3 => Entered::Mailbox(open),
            Protocol::Smtp => Entered::Submission(open),
        }
    }

    async fn violated(mut self: Box<Self>, violation: Violation) -> Entered {
        // The words may not arrive; the end does.
        let _ = self.flush().await;
        let mut ending = Ending::of(violation.refusal().as_str(), self.client);
        ending.detail = Some(violation.to_string());
        Entered::Nowhere(ending)
    }

    async fn gone(mut self: Box<Self>, gone: Gone) -> Entered {
        let reason = match gone {
            Gone::Closed => "client_closed",
            Gone::Broke => "client_lost",
            Gone::Timeout => {
                self.front.answer(Answer::Goodbye(Goodbye::Timeout), &mut self.out);
                Refusal::Timeout.as_str()
            }
            Gone::Asked => {
                self.front.answer(Answer::Goodbye(Goodbye::ShuttingDown), &mut self.out);
                "shutting_down"
            }
        };
        self.end(reason).await
    }

    async fn end(mut self: Box<Self>, reason: &'static str) -> Entered {
        let words = std::future::poll_fn(|cx| poll_write_all(Pin::new(&mut self.client), cx, &mut self.out));
        // Last words to a client that does not read are not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(2), words).await;
        Entered::Nowhere(Ending::of(reason, self.client))
    }

    /// Records an attempt that the front refused, or the client took back, and lets the gate count it.
    pub(super) async fn refused(&mut self, refusal: Refusal, mechanism: Option<&Mechanism>, user: Option<String>) {
        let mut event = self.session.event(Kind::AuthRefused);
        event.mechanism = mechanism.cloned();
        event.user = user;
        event.reason = Some(refusal.as_str().to_owned());
        self.session.record(&event);
        self.session.shared.gate.denied(self.session.client.ip()).await;
    }
}

/// What the back half must know: our name on submission, the client's where strangers bring mail. An old server may cut
/// the eighth bit off what it reads, and find a line end where a letter's second byte was: a name goes to it in ASCII,
/// as RFC 5321 has it. One that is neither a domain nor an address literal would only be refused there.
pub(super) fn back_settings(session: &Session, helo: Option<&str>) -> BackSettings {
    let helo = helo.filter(|_| session.listener.service == Service::Smtp);
    let name = helo.map(|helo| helo.replace(|c: char| !c.is_ascii(), "-")).filter(|name| is_plain(name));
    BackSettings {
        for_client: name.is_some(),
        ehlo: name.unwrap_or_else(|| session.policy.hostname.clone()),
        temporary_replies: Arc::clone(&session.destination.backend.temporary_replies),
        ..BackSettings::default()
    }
}

/// Whether a name has the form of a domain, underscores taken too, or of an address literal.
fn is_plain(name: &str) -> bool {
    let of_domain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(literal) => literal.chars().all(|c| of_domain(c) || c == ':'),
        None => name.chars().all(of_domain),
    }
}

/// Writes and flushes all of `out`, as far as the client takes it.
pub(super) fn poll_write_all(
    mut client: Pin<&mut ClientStream>,
    cx: &mut std::task::Context<'_>,
    out: &mut BytesMut,
) -> Poll<io::Result<()>> {
    while !out.is_empty() {
        match std::task::ready!(client.as_mut().poll_write(cx, out))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => out.advance(written),
        }
    }
    client.poll_flush(cx)
}
