//! A browser: on an `https` listener, or on a mail port where it has asked for `http/1.1` (RFC 7301). It gets the help page,
//! on an `https` listener the webmail too, and never a word of a mail protocol.
//!
//! What the page says is the portal's, a floor above; it is handed down as [`Pages`]. Here are the door, the bounds on a
//! connection, and its one `session.closed`.

use super::handshake::{self, NoHeader};
use super::stream::{ClientStream, NoTls};
use super::{Ending, Session, Shared};
use crate::observe::event::{SessionId, TlsFacts};
use crate::observe::metrics::{ListenerMetrics, SessionState};
use crate::observe::{Event, Kind, Observe};
use crate::policy::Policy;
use crate::policy::portal::{PageKind, PageListener};
use crate::proto::Refusal;
use crate::tls::{self, Alpn};
use bytes::BytesMut;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How a browser's connection ended, in its `session.closed`: what it was for.
const PAGE: &str = "page";
const WEBMAIL: &str = "webmail";

/// A browser's connection, TLS behind it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Answers browsers. An implementer bounds what it reads, in size and in time, and returns when `visitor.leave` asks for it: a
/// stranger otherwise holds a session's place for as long as he likes. It says nothing to anybody of another address.
pub trait Pages: Send + Sync {
    /// Answers until the connection ends, and says what it was for.
    fn serve<'a>(
        &'a self,
        visitor: Visitor,
        stream: &'a mut dyn Stream,
    ) -> Pin<Box<dyn Future<Output = Served> + Send + 'a>>;
}

/// What a browser was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// The page's documents alone.
    Page,
    /// A webmail, at least once.
    Webmail,
}

impl Served {
    fn reason(self) -> &'static str {
        match self {
            Served::Page => PAGE,
            Served::Webmail => WEBMAIL,
        }
    }
}

/// Who asks, and what the answer is made of.
#[derive(Clone)]
pub struct Visitor {
    /// Certificates, bans, attempts.
    pub shared: Arc<Shared>,
    /// The policy the connection began under.
    pub policy: Arc<Policy>,
    /// The reader's address, an IPv4 one in its own form.
    pub client: IpAddr,
    /// How it came.
    pub way: Way,
    /// Asks for the end.
    pub leave: CancellationToken,
}

/// How a browser came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To a listener for the page.
    Page,
    /// In the clear, to be led to the page.
    Lead,
    /// To a mail port, by one of our names.
    MailPort,
    /// To a mail port, by a name that is none of ours: somebody may have turned another server's connection this way.
    Astray,
}

/// A connection on an `https` listener.
pub struct Visit {
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// The policy it began under.
    pub policy: Arc<Policy>,
    /// Where it came in.
    pub page: Arc<PageListener>,
    /// Its name in events.
    pub id: SessionId,
    /// The client's address; behind a load balancer the one in its PROXY header.
    pub client: SocketAddr,
    /// The load balancer.
    pub proxy: Option<IpAddr>,
    /// Asks it to end.
    pub leave: CancellationToken,
    /// When it was accepted.
    pub started: Instant,
}

/// Serves one accepted connection of an `https` listener to its end. `place` is given back then.
pub async fn visit(mut visit: Box<Visit>, socket: TcpStream, place: impl Send) {
    let metrics = visit.shared.observe.metrics().listener(&visit.page.name);
    let mut state = metrics.session(SessionState::Handshake);
    if let Some((mut stream, admission, tls)) = Box::pin(visit.enter(&metrics, socket)).await {
        state.enter(SessionState::Relay);
        let way = if visit.page.kind == PageKind::Serve { Way::Page } else { Way::Lead };
        let Visit { shared, policy, client, leave, .. } = &*visit;
        let served = serve(shared, policy, client.ip(), way, leave, &mut stream).await;
        metrics.bytes_in(stream.bytes_in);
        metrics.bytes_out(stream.bytes_out);
        let mut event = visit.event(Kind::SessionClosed);
        event.tls = tls;
        event.reason = Some(served.reason().to_owned());
        event.duration = Some(visit.started.elapsed());
        (event.bytes_in, event.bytes_out) = (Some(stream.bytes_in), Some(stream.bytes_out));
        visit.shared.observe.record(&event);
        stream.close().await;
        drop(admission);
    }
    drop(place);
}

/// Turns a browser away from a full gateway. Never waits.
pub fn turn_away(observe: &Observe, page: &PageListener, client: SocketAddr, refusal: Refusal) {
    observe.record(&refused(page, client, refusal.as_str()));
}

/// Serves a browser that came to a mail port, and says how that ended.
pub(super) async fn beside_mail(session: &Session, mut stream: ClientStream) -> Box<Ending> {
    let certificates = session.shared.tls.load().certificates();
    let is_ours = |name: &str| name == session.policy.hostname || certificates.names_exactly(name);
    let sni = session.tls.as_ref().and_then(|tls| tls.sni.as_deref());
    // The ALPACA attack turns a browser's connection to another server this way. What it gets here is the same for
    // everybody, runs nothing and repeats nothing; by a foreign name it gets not even that.
    let way = if sni.is_some_and(is_ours) { Way::MailPort } else { Way::Astray };
    let Session { shared, policy, client, leave, .. } = session;
    serve(shared, policy, client.ip(), way, leave, &mut stream).await;
    Ending::of(PAGE, stream)
}

async fn serve(
    shared: &Arc<Shared>,
    policy: &Arc<Policy>,
    client: IpAddr,
    way: Way,
    leave: &CancellationToken,
    stream: &mut ClientStream,
) -> Served {
    // Without a portal, as in a gateway that is only starting, there is nothing to say.
    let Some(pages) = shared.pages.get() else { return Served::Page };
    let (shared, policy, leave) = (Arc::clone(shared), Arc::clone(policy), leave.clone());
    pages.serve(Visitor { shared, policy, client, way, leave }, stream).await
}

impl Visit {
    /// PROXY header, may this address come in, TLS.
    async fn enter(
        &mut self,
        metrics: &ListenerMetrics,
        mut socket: TcpStream,
    ) -> Option<(ClientStream, crate::gate::Admission, Option<Arc<TlsFacts>>)> {
        let deadline = Instant::now() + self.policy.timeouts.tls_handshake;
        if self.page.proxy_protocol.contains(self.client.ip()) {
            let header = tokio::time::timeout_at(deadline, handshake::proxy_header(&mut socket)).await;
            match header.unwrap_or(Err(NoHeader::Timeout)) {
                Ok(source) => {
                    self.proxy = Some(self.client.ip());
                    self.client = source.unwrap_or(self.client);
                }
                Err(fault) => {
                    if let Some(reason) = fault.reason() {
                        let mut event = refused(&self.page, self.client, reason);
                        event.detail = Some(format!("{fault}; proxy_protocol wants one from this address"));
                        self.shared.observe.record(&event);
                    }
                    return None;
                }
            }
        }
        let admission = match self.shared.gate.visit(&self.page.access, self.client.ip()) {
            Ok(admission) => admission,
            Err(refusal) => {
                let mut event = refused(&self.page, self.client, refusal.as_str());
                event.proxy_ip = self.proxy;
                self.shared.observe.record(&event);
                return None;
            }
        };
        metrics.accepted();
        let stream = ClientStream::plain(socket);
        if self.page.kind == PageKind::Lead {
            return Some((stream, admission, None));
        }
        let (stream, facts) = self.secure(metrics, stream, deadline).await?;
        Some((stream, admission, Some(facts)))
    }

    /// Speaks TLS, or records why not.
    async fn secure(
        &self,
        metrics: &ListenerMetrics,
        stream: ClientStream,
        deadline: Instant,
    ) -> Option<(ClientStream, Arc<TlsFacts>)> {
        let started = Instant::now();
        let demand = handshake::demand(self.page.client_certificate);
        let config = self.shared.tls.load().config_for(Alpn::Http, demand);
        let mut nothing = BytesMut::new();
        let outcome = tokio::time::timeout_at(deadline, stream.start_tls(config, &mut nothing)).await;
        let ((reason, detail), left) = match outcome {
            Ok(Ok((stream, facts))) => {
                let facts = handshake::told(facts);
                metrics.handshake(&facts, started.elapsed());
                return Some((stream, Arc::new(facts)));
            }
            // Browsers open connections ahead and may never use them; load balancers look in.
            Ok(Err(NoTls { first, stream, .. })) if first.is_empty() => {
                stream.close().await;
                return None;
            }
            Ok(Err(NoTls { error, first, stream })) => {
                if let Some(version) = tls::client_hello_version(&first) {
                    metrics.too_old(version.as_str());
                }
                (handshake::explain(&error, &first, true, "something"), Some(stream))
            }
            Err(_) => (("timeout", "the handshake did not come to an end in time".to_owned()), None),
        };
        let mut event = self.event(Kind::TlsFailed);
        event.reason = Some(reason.to_owned());
        event.detail = Some(detail);
        event.duration = Some(started.elapsed());
        self.shared.observe.record(&event);
        if let Some(stream) = left {
            stream.close().await;
        }
        None
    }

    fn event(&self, kind: Kind) -> Event {
        let mut event = Event::new(kind);
        event.session = Some(self.id);
        event.listener = Some(self.page.name.clone());
        event.client_ip = Some(self.client.ip());
        event.client_port = Some(self.client.port());
        event.proxy_ip = self.proxy;
        event
    }
}

fn refused(page: &PageListener, client: SocketAddr, reason: &str) -> Event {
    let mut event = Event::new(Kind::ConnectionRefused);
    event.listener = Some(page.name.clone());
    event.client_ip = Some(client.ip());
    event.client_port = Some(client.port());
    event.reason = Some(reason.to_owned());
    event
}
