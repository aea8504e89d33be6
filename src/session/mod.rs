//! One connection, from the accepted socket to its `session.closed`.
//!
//! ```text
//!   accepted ─ handshake ──────────┬─ login ────────────────┬─ relay (IMAP, POP3) ─────┬─ session.closed
//!              PROXY header        │  the front half speaks │  bytes both ways         │
//!              may this address?   │  gate, dial, back half │                          │
//!              implicit TLS        │      │                 └─ submission (SMTP) ──────┤
//!                  └ refused,      │      └ left, refused,     message by message      │
//!                    tls.failed    │        timed out ─────────────────────────────────┘
//! ```
//!
//! A browser (`visit.rs`) turns off behind the handshake. What is no mail (`tunnel.rs`) goes from its handshake right to the relay.
//!
//! Each stage is boxed, so that a session that only waits is as large as the stage it waits in.

mod attempt;
mod entered;
mod entrance;
mod greeting;
mod handshake;
mod leftover;
mod login;
mod mailbox;
mod noticed;
mod relay;
mod sender;
mod stream;
mod submission;
mod tunnel;
mod unproven;
mod unspoken;
mod visit;
mod way;

use crate::backend::{BackendStream, Backends, Caller, Dialogue, Lost, Wanted};
use crate::gate::{Admission, Gate, User};
use crate::observe::event::{SessionId, TlsFacts};
use crate::observe::metrics::{InState, ListenerMetrics, SessionState};
use crate::observe::{Event, Kind, Observe};
use crate::policy::route::{Handshake, Shown, Traveller};
use crate::policy::{Listener, Policy};
use crate::proto::{BackSettings, Protocol, TlsRule, UserName};
use crate::route::{self, Destination};
use crate::tls::{Alpn, ServerTls};
use arc_swap::ArcSwap;
use entered::Entered;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use entrance::turn_away;
pub use handshake::refuse;
pub use tunnel::{Passage, pass};
pub use visit::{Pages, Served, Stream, Visit, Visitor, Way, visit};

/// What all sessions share.
pub struct Shared {
    /// May this happen?
    pub gate: Arc<Gate>,
    /// The servers behind.
    pub backends: Arc<Backends>,
    /// Our certificates.
    pub tls: ArcSwap<ServerTls>,
    /// Log and metrics.
    pub observe: Arc<Observe>,
    /// Who answers browsers, once somebody does.
    pub pages: OnceLock<Arc<dyn Pages>>,
    /// The sessions there may be, as [`Shared::sessions_limit`] has them.
    pub limit: AtomicUsize,
}

impl Shared {
    /// The sessions there may be: `limits.sessions`, or fewer where the descriptors would not last (two a
    /// session, and some for the process itself).
    pub fn sessions_limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// The most of them that may be no mail's, of browsers and on `tcp` listeners each: strangers without a login must not take
    /// the places that mail needs.
    pub fn share_of_sessions(&self) -> usize {
        self.sessions_limit().div_ceil(2)
    }
}

/// One connection's facts.
pub struct Session {
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// The policy it began under; a reload does not touch it.
    pub policy: Arc<Policy>,
    /// Where it came in.
    pub listener: Arc<Listener>,
    /// Where it goes: by its name, and from a login on by its user.
    pub destination: Destination,
    /// Its name in events.
    pub id: SessionId,
    /// The client's address, an IPv4 one in its own form. Behind a load balancer: the one in its PROXY header.
    pub client: SocketAddr,
    /// Where it came in: an address of ours, an IPv4 one in its own form.
    pub local: SocketAddr,
    /// The load balancer that the connection came through, if its PROXY header named the client.
    pub proxy: Option<IpAddr>,
    /// What was negotiated, once it was.
    pub tls: Option<Arc<TlsFacts>>,
    /// Asks the session to say goodbye.
    pub leave: CancellationToken,
    /// When it was accepted.
    pub started: Instant,
}

/// For whom a backend is dialled, as far as that is known.
#[derive(Debug, Clone, Copy, Default)]
struct Who<'a> {
    /// The user as limits count one.
    counted: Option<&'a User>,
    /// The name of whom another server, a service or a file has let in.
    checked: Option<&'a UserName>,
}

/// How a session ended, for its last event.
#[derive(Debug, Default)]
struct Ending {
    reason: &'static str,
    detail: Option<String>,
    bytes_in: u64,
    bytes_out: u64,
    mail: Option<Mail>,
    user: Option<String>,
    backend_server: Option<String>,
    /// To be closed once the end is on record: a client may take its time over our last words.
    client: Option<stream::ClientStream>,
    /// SMTP: to be parted from likewise.
    backend: Option<BackendStream>,
}

/// What a session on SMTP brought to the backend.
#[derive(Debug, Default, Clone, Copy)]
struct Mail {
    messages: u64,
    recipients: u64,
}

impl Ending {
    /// An end without a mailbox or a message behind it.
    fn of(reason: &'static str, client: stream::ClientStream) -> Box<Self> {
        let (bytes_in, bytes_out) = (client.bytes_in, client.bytes_out);
        Box::new(Self { reason, bytes_in, bytes_out, client: Some(client), ..Self::default() })
    }
}

/// Serves one accepted connection to its end. Never fails: how it ended is its last event. `place` is given back then.
pub fn serve(session: Box<Session>, socket: TcpStream, place: impl Send) -> impl Future<Output = ()> + Send {
    // The socket goes with the first stage: as an argument it would have room in the task to the end.
    let beginning = Box::pin(begin(session, socket));
    async move {
        if let Some((stay, entered)) = beginning.await {
            let ending = match entered {
                Entered::Nowhere(ending) => ending,
                Entered::Mailbox(open) => Box::pin(mailbox::carry(&stay.session, open)).await,
                Entered::Submission(open) => Box::pin(submission::follow(&stay.session, open)).await,
            };
            conclude(&stay.session, stay.state.listener(), ending).await;
        }
        drop(place);
    }
}

/// What a session has from its first octet to its last.
struct Stay {
    session: Box<Session>,
    state: InState,
    _admission: Admission,
}

/// The handshake and the login.
async fn begin(mut session: Box<Session>, socket: TcpStream) -> Option<(Box<Stay>, Entered)> {
    let metrics = session.shared.observe.metrics().listener(&session.listener.name);
    let mut state = metrics.session(SessionState::Handshake);
    let (client, admission, greeting) = Box::pin(handshake::enter(&mut session, &metrics, socket)).await?;
    let entered = if session.speaks_http() {
        drop(greeting);
        Entered::Nowhere(Box::pin(visit::beside_mail(&session, client)).await)
    } else {
        state.enter(SessionState::Login);
        Box::pin(login::login(&mut session, &metrics, client, greeting)).await
    };
    if !matches!(entered, Entered::Nowhere(_)) {
        state.enter(SessionState::Relay);
    }
    Some((Box::new(Stay { session, state, _admission: admission }), entered))
}

/// Puts the end on record, then closes what is open: a client may take its time over our last words.
fn conclude(
    session: &Session,
    metrics: &ListenerMetrics,
    mut ending: Box<Ending>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    metrics.bytes_in(ending.bytes_in);
    metrics.bytes_out(ending.bytes_out);
    let (client, backend) = (ending.client.take(), ending.backend.take());
    session.closed(*ending);
    // Each side for itself, and no room for one that is not there.
    match (client, backend) {
        (Some(client), Some(backend)) => Box::pin(async {
            tokio::join!(client.close(), submission::part(backend));
        }),
        (Some(client), None) => Box::pin(client.close()),
        (None, Some(backend)) => Box::pin(submission::part(backend)),
        (None, None) => Box::pin(std::future::ready(())),
    }
}

impl Session {
    /// What routes look at.
    fn traveller(&self) -> Traveller<'_> {
        let (protocol, login_protocol) = (self.listener.service.protocol(), self.login_protocol());
        Traveller { protocol, login_protocol, shown: self.tls.as_deref().map(shown).unwrap_or_default() }
    }

    /// Whether a browser is there: nobody else has agreed on that.
    fn speaks_http(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.alpn.as_deref() == Some(Alpn::PAGE))
    }

    /// What the client shows in its handshake, as far as it is known.
    fn handshake(&self) -> Handshake<'_> {
        match &self.tls {
            Some(tls) => Handshake::Over(shown(tls)),
            None if self.listener.tls == TlsRule::Off => Handshake::Over(Shown::default()),
            None => Handshake::ToCome,
        }
    }

    /// Finds the way that the connection alone tells.
    fn set_out(&mut self) {
        self.destination = route::before_login(&self.policy.routes, &self.traveller(), &self.listener.backend);
    }

    /// What is spoken to the server that checks its user's password.
    fn login_protocol(&self) -> Protocol {
        self.policy.login_protocol(self.listener.service)
    }

    /// What is asked of a backend for its sake.
    fn wanted<'a>(&'a self, protocol: Protocol, settings: &'a BackSettings, who: Who<'a>) -> Wanted<'a> {
        let user = who.counted.map(User::as_bytes);
        let caller = Some(Caller { client: self.client, local: self.local, user, checked: who.checked });
        Wanted { protocol, settings, timeouts: &self.policy.timeouts, caller }
    }

    /// Dials the backend it goes to, or the one server of it that a service has named for its own protocol.
    async fn dial(&self, protocol: Protocol, settings: &BackSettings, who: Who<'_>) -> Result<Dialogue, Lost> {
        let (backends, Destination { backend, server }) = (&self.shared.backends, &self.destination);
        let wanted = self.wanted(protocol, settings, who);
        match server.as_ref().filter(|_| protocol == self.listener.service.protocol()) {
            None => backends.open(backend, &wanted).await,
            Some(name) => backends.open_at(backend, name, &wanted).await,
        }
    }

    /// An event of this session.
    fn event(&self, kind: Kind) -> Event {
        let mut event = Event::new(kind);
        event.session = Some(self.id);
        event.listener = Some(self.listener.name.clone());
        event.protocol = Some(self.listener.service.into());
        event.client_ip = Some(self.client.ip());
        event.client_port = Some(self.client.port());
        event.proxy_ip = self.proxy;
        event.tls.clone_from(&self.tls);
        event
    }

    fn record(&self, event: &Event) {
        self.shared.observe.record(event);
    }

    fn closed(&self, ending: Ending) {
        let mut event = self.event(Kind::SessionClosed);
        event.reason = Some(ending.reason.to_owned());
        event.detail = ending.detail;
        event.user = ending.user;
        event.backend = event.user.is_some().then(|| self.destination.backend.name.clone());
        event.server = ending.backend_server;
        event.duration = Some(self.started.elapsed());
        event.bytes_in = Some(ending.bytes_in);
        event.bytes_out = Some(ending.bytes_out);
        event.messages = ending.mail.map(|mail| mail.messages);
        event.recipients = ending.mail.map(|mail| mail.recipients);
        self.record(&event);
    }
}

/// What routes look at of a handshake.
fn shown(tls: &TlsFacts) -> Shown<'_> {
    let certificate = tls.client.as_ref().map(|client| client.name.as_deref().unwrap_or_default());
    Shown { sni: tls.sni.as_deref(), certificate }
}
