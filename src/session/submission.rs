//! An SMTP session behind its login, or a stranger's on port 25: followed message by message, never relayed blindly.

mod side;

use super::entered::{Identity, Open, Proof};
use super::login::back_settings;
use super::sender;
use super::{Ending, Mail, Session, Who, unproven};
use crate::backend::{BackendStream, poll_read_into};
use crate::gate::User;
use crate::observe::{Event, Kind};
use crate::policy::{ClientAddress, Timeouts};
use crate::proto::smtp::{
    self, Message, Over, Progress, Received, Recipients, Refused, Stage, Transaction, TransactionSettings, Turn,
};
use crate::proto::{
    BackFault, BackStep, Capabilities, Credentials, Goodbye, Protocol, Refusal, Service, UserName, line::printable,
};
use bytes::BytesMut;
use side::{Buffers, Side};
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, Sleep};

use super::stream::ClientStream;

/// What is held of what a user's side has sent and the other has not taken yet.
const FOR_A_USER: Room = Room { held: 64 * 1024, waiting: 64 * 1024 };
/// The same for a stranger, who is to cost 64 KiB at most with the buffers of TLS, whatever the two sides leave untaken.
const FOR_A_STRANGER: Room = Room { held: 2 * 1024, waiting: 1 };

/// Last words that wait for the end of the connection are not longer.
const LAST_WORDS: usize = 1024;

/// Follows the session to its end.
pub(super) async fn follow(session: &Session, open: Box<Open>) -> Box<Ending> {
    // Boxed: a call by value has a future keep room for it twice.
    let mut follower = Box::new(Follower::new(session, open));
    let reason = follower.run().await;
    follower.close(reason).await
}

fn settings(
    session: &Session,
    backend: Capabilities,
    shown: &Capabilities,
    recipients: Recipients,
    helo: Option<String>,
) -> TransactionSettings {
    let submission = &session.policy.submission;
    TransactionSettings {
        hostname: session.policy.hostname.clone(),
        max_message: submission.max_size,
        bare_newline: submission.bare_newline,
        recipients,
        extensions: smtp::shown_extensions(shown, submission.max_size),
        backend,
        helo,
    }
}

/// How much may stand between the two sides.
#[derive(Clone, Copy)]
struct Room {
    /// So much is read of a side, and not yet understood.
    held: usize,
    /// A side is read only while less than this waits to be written to the other.
    waiting: usize,
}

struct Follower<'s> {
    session: &'s Session,
    room: Room,
    transaction: Transaction,
    client: Side<ClientStream>,
    backend: Side<BackendStream>,
    identity: Option<Identity>,
    /// An address that may send without a login for the moment, as limits count it.
    guest: Option<User>,
    server: String,
    mail: Mail,
    /// It will send nothing more; what it sent is worked off.
    client_has_ended: bool,
    /// Whose turn it was, and how much the client had been told, when the deadline was set.
    turn: Turn,
    told: u64,
    due: Instant,
}

/// What waiting came to.
enum Waited {
    /// Bytes moved: look again. `carried`: from the client, or to the backend.
    Moved { carried: bool },
    /// The client will send no more.
    ClientEnded,
    /// The connection to the client broke.
    ClientBroke,
    /// The backend ended its side, or its connection broke.
    BackendEnded,
    /// A deadline passed.
    Timeout,
    /// We are asked to end.
    Asked,
}

impl<'s> Follower<'s> {
    fn new(session: &'s Session, open: Box<Open>) -> Self {
        let Open { mut client, from_client, to_client, dialogue, identity, recipients, helo, shown } = *open;
        if identity.is_some() {
            client.logged_in();
        }
        // Who brings mail to others, or comes where customers do, is counted.
        let is_sender = recipients == Recipients::All || session.listener.service == Service::Submission;
        let server = dialogue.server.name.to_string();
        let (backend, from_backend, capabilities) = dialogue.into_session();
        let transaction = Transaction::new(settings(session, capabilities, &shown, recipients, helo));
        Self {
            session,
            room: if identity.is_some() { FOR_A_USER } else { FOR_A_STRANGER },
            transaction,
            client: Side { buffers: Buffers { from: from_client, to: to_client }, io: Some(client) },
            backend: Side { buffers: Buffers { from: from_backend, to: BytesMut::new() }, io: Some(backend) },
            guest: (identity.is_none() && is_sender).then(|| guest(session)).flatten(),
            identity,
            server,
            mail: Mail::default(),
            client_has_ended: false,
            turn: Turn::Nobody,
            told: 0,
            due: Instant::now(),
        }
    }
}

/// An address that sends without a login, in the place of a user.
fn guest(session: &Session) -> Option<User> {
    let network = session.shared.gate.network(session.client.ip());
    let name = UserName::new(format!("[{network}]").as_bytes()).ok()?;
    Some(User::new(&session.destination.backend.name, Protocol::Smtp, &name))
}

impl Follower<'_> {
    /// Runs the session; gives the reason of its end.
    async fn run(&mut self) -> &'static str {
        let session = self.session;
        let mut carried = false;
        self.set_deadline(carried);
        // One timer and one ear for all of it: either is set up with a lock, and a message is a dozen of waits.
        let (sleep, asked) = (tokio::time::sleep_until(self.due), session.leave.cancelled());
        tokio::pin!(sleep, asked);
        let mut was_asked = false;
        loop {
            let progress = self.step();
            match progress {
                Progress::More => {}
                Progress::Sender(from) => {
                    let refusal = self.judge_sender(from.as_ref()).await;
                    self.decide(refusal, from.as_ref());
                    continue;
                }
                Progress::Recipient(_) => {
                    let refusal = match self.user() {
                        Some(user) => self.session.shared.gate.recipient(user).await.err(),
                        None => None,
                    };
                    self.decide(refusal, None);
                    continue;
                }
                Progress::Redial => {
                    // Rare, and larger than all the rest of a session that waits.
                    Box::pin(self.redial()).await;
                    continue;
                }
                Progress::Data => {
                    self.add_received();
                    continue;
                }
                Progress::Abandon(refused) => {
                    // Without another byte, above all without the dot that would make it a message.
                    self.backend.io = None;
                    self.backend.buffers = Buffers { from: BytesMut::new(), to: BytesMut::new() };
                    self.refused(refused);
                    continue;
                }
                Progress::Accepted(message) => {
                    self.accepted(message);
                    continue;
                }
                Progress::Refused(refused) => {
                    self.refused(refused);
                    continue;
                }
                Progress::Over(over) => return ending(&over),
            }
            if self.backend.io.is_none() {
                // Says nothing where the connection was given up by us: the next message gets a new one.
                self.transaction.backend_lost(&mut self.client.buffers.to);
            }
            if self.transaction.turn() == Turn::Nobody {
                return "backend_lost";
            }
            if self.client_has_ended && matches!(self.transaction.turn(), Turn::Client | Turn::ClientData) {
                return "client_closed";
            }
            if self.transaction.is_idle() && session.leave.is_cancelled() {
                self.transaction.goodbye(Goodbye::ShuttingDown, &mut self.client.buffers.to);
                return "shutting_down";
            }
            self.set_deadline(carried);
            let waited = poll_fn(|cx| match self.poll_move(cx) {
                Poll::Ready(waited) => Poll::Ready(waited),
                // Asked already, the message under way may come to its end.
                Poll::Pending if !was_asked && asked.as_mut().poll(cx).is_ready() => Poll::Ready(Waited::Asked),
                Poll::Pending => poll_due(sleep.as_mut(), self.due, cx).map(|()| Waited::Timeout),
            });
            let waited = waited.await;
            was_asked |= matches!(waited, Waited::Asked);
            carried = matches!(waited, Waited::Moved { carried: true });
            match waited {
                Waited::Moved { .. } | Waited::Asked => {}
                Waited::ClientEnded => self.client_has_ended = true,
                Waited::ClientBroke => return "client_lost",
                // What it said before is heard first; then its end is.
                Waited::BackendEnded => self.backend.io = None,
                Waited::Timeout => return self.timed_out(),
            }
        }
    }

    fn user(&self) -> Option<&User> {
        match &self.identity {
            Some(identity) => identity.counted.as_ref(),
            None => self.guest.as_ref(),
        }
    }

    /// Whether a user may begin a message from there. A stranger's sender is nobody's.
    async fn judge_sender(&self, from: Option<&smtp::Address>) -> Option<Refusal> {
        if let Some(identity) = &self.identity
            && !sender::is_own(self.session, identity, from)
        {
            return Some(Refusal::SenderMismatch);
        }
        let gate = &self.session.shared.gate;
        let client = self.session.client.ip();
        if self.guest.is_some()
            && !unproven::may_send_to_name(self.session, &self.server)
            && !gate.is_granted(client).await
        {
            return Some(Refusal::LoginRequired);
        }
        gate.message(self.user()?).await.err()
    }

    /// Answers the follower's question, and puts a refusal on record. `from`: at MAIL.
    fn decide(&mut self, refusal: Option<Refusal>, from: Option<&smtp::Address>) {
        let (to_backend, to_client) = (&mut self.backend.buffers.to, &mut self.client.buffers.to);
        self.transaction.decide(refusal, to_backend, to_client);
        if let Some(refusal) = refusal {
            let mut event = self.event(Kind::MessageRefused, from.or(self.transaction.sender()));
            event.reason = Some(refusal.as_str().to_owned());
            self.session.record(&event);
        }
    }

    /// A reply may free the way for commands that wait, so the backend's side comes first.
    fn step(&mut self) -> Progress {
        let (client, backend) = (&mut self.client.buffers, &mut self.backend.buffers);
        match self.transaction.backend(&mut backend.from, &mut backend.to, &mut client.to) {
            Progress::More => self.transaction.client(&mut client.from, &mut backend.to, &mut client.to),
            progress => progress,
        }
    }

    /// A turn has its time from where it began: a command or a reply that comes byte by byte gets no more. The text of
    /// a message has it anew with each byte; how long that takes is for its size.
    fn set_deadline(&mut self, carried: bool) {
        let turn = self.transaction.turn();
        let told = self.client.io.as_ref().map_or(0, |io| io.bytes_out) + self.client.buffers.to.len() as u64;
        if turn != self.turn || told != self.told || carried && turn == Turn::ClientData {
            (self.turn, self.told) = (turn, told);
            self.due = Instant::now() + patience(&self.session.policy.timeouts, turn);
        }
    }

    fn timed_out(&mut self) -> &'static str {
        match self.transaction.turn() {
            Turn::Client | Turn::ClientData if self.backend.buffers.to.is_empty() => {
                self.transaction.goodbye(Goodbye::Timeout, &mut self.client.buffers.to);
                Refusal::Timeout.as_str()
            }
            _ => {
                self.transaction.backend_lost(&mut self.client.buffers.to);
                "backend_timeout"
            }
        }
    }

    /// Moves what can be moved.
    fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<Waited> {
        let (reads_client, room) = (!self.client_has_ended, self.room);
        let (client, backend) = (&mut self.client, &mut self.backend);
        let (mut moved, mut carried) = (false, false);
        match backend.poll_write(cx) {
            Poll::Ready(Ok(wrote)) => carried |= wrote,
            Poll::Ready(Err(_)) => return Poll::Ready(Waited::BackendEnded),
            Poll::Pending => {}
        }
        match client.poll_write(cx) {
            Poll::Ready(Ok(wrote)) => moved |= wrote,
            Poll::Ready(Err(_)) => return Poll::Ready(Waited::ClientBroke),
            Poll::Pending => {}
        }
        client.give_back();
        backend.give_back();
        if client.buffers.to.len() < room.waiting {
            match backend.poll_read(cx, room.held) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Waited::BackendEnded),
                Poll::Ready(Ok(_)) => moved = true,
                Poll::Pending => {}
            }
        }
        if reads_client && backend.buffers.to.len() < room.waiting {
            match client.poll_read(cx, room.held) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Waited::ClientEnded),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Waited::ClientEnded);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Waited::ClientBroke),
                Poll::Ready(Ok(_)) => carried = true,
                Poll::Pending => {}
            }
        }
        if moved || carried { Poll::Ready(Waited::Moved { carried }) } else { Poll::Pending }
    }

    /// Dials and logs in again after a message was abandoned, for the next one.
    async fn redial(&mut self) {
        match self.try_redial().await {
            Some((server, (stream, from_backend, capabilities))) => {
                self.server = server;
                self.backend.io = Some(stream);
                self.backend.buffers.from = from_backend;
                self.transaction.redialed(capabilities, &mut self.backend.buffers.to);
            }
            None => self.transaction.unavailable(&mut self.client.buffers.to),
        }
    }

    /// The server's name, and what there is of it.
    async fn try_redial(&mut self) -> Option<(String, (BackendStream, BytesMut, Capabilities))> {
        let session = self.session;
        let settings = back_settings(session, self.transaction.helo());
        let timeouts = &session.policy.timeouts;
        let who = Who { counted: self.user(), checked: self.identity.as_ref().and_then(Identity::checked) };
        let mut dialogue = session.dial(Protocol::Smtp, &settings, who).await.ok()?;
        if self.identity.is_none() && !unproven::may_go_on(session, &dialogue.server).await {
            return None;
        }
        if let Some(Identity { proof: Proof::Login(login), .. }) = &self.identity {
            // A response to a challenge was for that challenge; only a password can be said again.
            if !matches!(login.credentials, Credentials::Password { .. }) {
                return None;
            }
            dialogue.login(login).ok()?;
            if !matches!(dialogue.next(Instant::now() + timeouts.backend_login).await, Ok(BackStep::Accepted(_))) {
                return None;
            }
        }
        // Nothing was asked yet: what stands there would be taken for the reply to the MAIL that comes now.
        let server = dialogue.server.name.to_string();
        Some((server, dialogue.into_session())).filter(|(_, (_, from_backend, _))| from_backend.is_empty())
    }

    /// Tells the backend of the client at the head of the message, where that is wanted.
    fn add_received(&mut self) {
        let session = self.session;
        let of_backend = session.destination.backend.client_address == ClientAddress::Received;
        if of_backend || session.policy.submission.add_received {
            let id = session.id.to_string();
            let received = Received {
                helo: self.transaction.helo(),
                client: session.client.ip(),
                hostname: &session.policy.hostname,
                is_secured: session.tls.is_some(),
                is_logged_in: self.identity.is_some(),
                id: &id,
            };
            // Its fields are numbers, and the year has four digits for a while.
            let date = OffsetDateTime::now_utc().format(&Rfc2822).unwrap_or_default();
            received.write(&date, &mut self.backend.buffers.to);
        }
    }

    fn accepted(&mut self, message: Message) {
        let recipients = message.envelope.recipients as u64;
        self.mail.messages += 1;
        self.mail.recipients += recipients;
        let mut event = self.event(Kind::MessageAccepted, message.envelope.from.as_ref());
        event.recipients = Some(recipients);
        event.size = Some(message.size);
        event.reply = Some(message.reply.to_line());
        self.session.record(&event);
    }

    fn refused(&mut self, refused: Refused) {
        let mut event = self.event(Kind::MessageRefused, refused.from.as_ref());
        event.reason = Some(refused.reason.map_or("backend_refused", Refusal::as_str).to_owned());
        event.reply = Some(refused.reply.to_line());
        match refused.stage {
            Stage::Sender => {}
            Stage::Recipient(_) => event.recipients = Some(1),
            Stage::Message { recipients, size } => {
                event.recipients = Some(recipients as u64);
                event.size = Some(size);
            }
        }
        self.session.record(&event);
    }

    fn event(&self, kind: Kind, from: Option<&smtp::Address>) -> Event {
        let mut event = self.session.event(kind);
        event.user = self.identity.as_ref().map(|identity| identity.user.clone());
        event.backend = Some(self.session.destination.backend.name.clone());
        event.server = Some(self.server.clone());
        event.from = Some(from.map_or_else(|| "<>".to_owned(), |from| printable(from.to_string().as_bytes(), 320)));
        event
    }

    /// Says the last words and closes both sides. A backend that is in the middle of a message never sees its end.
    async fn close(mut self: Box<Self>, reason: &'static str) -> Box<Ending> {
        // Each side's last words and its end are one packet. Where more is under way one side's may have to wait for the other's.
        let are_short = [&self.client.buffers.to, &self.backend.buffers.to].iter().all(|to| to.len() <= LAST_WORDS);
        if are_short {
            if let Some(client) = &mut self.client.io {
                client.hold();
            }
            if let Some(backend) = self.backend.io.as_mut().filter(|_| !self.backend.buffers.to.is_empty()) {
                backend.hold();
            }
        }
        let farewell = poll_fn(|cx| {
            // QUIT, so that the backend does not log a lost connection.
            let backend = self.backend.poll_flush(cx);
            let client = self.client.poll_flush(cx);
            if backend.is_ready() && client.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        });
        // Last words to sides that do not read are not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(2), farewell).await;
        let client = self.client.io.take();
        let mut ending = client.map_or_else(Box::default, |client| Ending::of(reason, client));
        ending.backend = self.backend.io.take();
        ending.mail = Some(self.mail);
        ending.user = self.identity.map(|identity| identity.user);
        ending.backend_server = Some(self.server);
        ending
    }
}

/// Ends our side of the backend's connection and waits a moment for its own end: an answer left unread would make
/// the end a reset, and the backend log a lost connection.
pub(super) async fn part(mut backend: BackendStream) {
    let parting = async {
        backend.shutdown().await?;
        let mut last = BytesMut::new();
        while !smtp::is_farewell(&last) {
            last.clear();
            if poll_fn(|cx| poll_read_into(&mut backend, cx, &mut last, LAST_WORDS)).await? == 0 {
                break;
            }
        }
        Ok::<_, io::Error>(())
    };
    // Nobody waits for its last words.
    let _ = tokio::time::timeout(Duration::from_secs(2), parting).await;
}

/// Whether `due` has come. The timer is not set anew at each deadline but where it would ring too late, and where it has rung too
/// early.
fn poll_due(mut sleep: Pin<&mut Sleep>, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
    if sleep.deadline() > due {
        sleep.as_mut().reset(due);
    }
    while sleep.as_mut().poll(cx).is_ready() {
        if due <= Instant::now() {
            return Poll::Ready(());
        }
        sleep.as_mut().reset(due);
    }
    Poll::Pending
}

/// How long a turn may last.
fn patience(timeouts: &Timeouts, turn: Turn) -> Duration {
    match turn {
        Turn::BackendDataEnd => timeouts.backend_data_end,
        Turn::Client | Turn::ClientData | Turn::Backend | Turn::Caller | Turn::Nobody => timeouts.idle_submission,
    }
}

fn ending(over: &Over) -> &'static str {
    match over {
        Over::Left => "logout",
        Over::Violation(violation) => violation.refusal().as_str(),
        Over::Backend(BackFault::TurnedAway(_)) => "backend_closed",
        Over::Backend(_) => "backend_protocol",
    }
}
