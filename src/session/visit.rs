//! A browser: on an `https` listener, or on a mail port where it has asked for `http/1.1` (RFC 7301). It gets the help page,
//! on an `https` listener the webmail too, and never a word of a mail protocol.
//!
//! What the page says is the portal's, a floor above; it is handed down as [`Pages`]. Here are the door, the bounds on a
//! connection, and its one `session.closed`.

use super::entrance::{Arrival, Entrance};
use super::stream::ClientStream;
use super::{Ending, Session, Shared};
use crate::observe::Kind;
use crate::observe::event::SessionId;
use crate::observe::metrics::SessionState;
use crate::policy::Policy;
use crate::policy::portal::{PageKind, PageListener};
use crate::tls::Alpn;
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
    if let Some(arrival) = Box::pin(visit.entrance().enter(&metrics, socket)).await {
        let Arrival { mut stream, admission, tls, client, proxy } = arrival;
        (visit.client, visit.proxy) = (client, proxy);
        state.enter(SessionState::Relay);
        let way = if visit.page.kind == PageKind::Serve { Way::Page } else { Way::Lead };
        let Visit { shared, policy, client, leave, .. } = &*visit;
        let served = serve(shared, policy, client.ip(), way, leave, &mut stream).await;
        metrics.bytes_in(stream.bytes_in);
        metrics.bytes_out(stream.bytes_out);
        let mut event = visit.entrance().event(Kind::SessionClosed);
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
    fn entrance(&self) -> Entrance<'_> {
        Entrance {
            shared: &self.shared,
            listener: &self.page.name,
            spoken: None,
            access: &self.page.access,
            proxy_protocol: &self.page.proxy_protocol,
            alpn: (self.page.kind == PageKind::Serve).then_some(Alpn::Http),
            client_certificate: self.page.client_certificate,
            time: self.policy.timeouts.tls_handshake,
            id: self.id,
            client: self.client,
            proxy: self.proxy,
        }
    }
}
