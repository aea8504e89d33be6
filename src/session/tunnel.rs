//! What is no mail: TLS ends here, and the bytes go on as they are, as stunnel does it.
//!
//! There is no login, so whoever comes past the door costs the server behind a connection, and has one as soon as his TLS
//! is up: many such protocols have the server speak first. Nothing that passes is looked at.

use super::entrance::{Arrival, Entrance};
use super::relay::{End, Relay, Start};
use super::stream::ClientStream;
use super::{Ending, Shared};
use crate::backend::{Caller, Tunnel};
use crate::observe::event::{SessionId, TlsFacts};
use crate::observe::metrics::SessionState;
use crate::observe::{Event, Kind};
use crate::policy::route::Shown;
use crate::policy::{Policy, Spoken, TunnelListener};
use crate::proto::Refusal;
use crate::route::{self, Destination};
use crate::tls::Alpn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A connection on a `tcp` listener.
pub struct Passage {
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// The policy it began under.
    pub policy: Arc<Policy>,
    /// Where it came in.
    pub tunnel: Arc<TunnelListener>,
    /// Its name in events.
    pub id: SessionId,
    /// The client's address; behind a load balancer the one in its PROXY header.
    pub client: SocketAddr,
    /// Where it came in: an address of ours.
    pub local: SocketAddr,
    /// The load balancer.
    pub proxy: Option<IpAddr>,
    /// Asks it to end.
    pub leave: CancellationToken,
    /// When it was accepted.
    pub started: Instant,
}

/// Serves one accepted connection of a `tcp` listener to its end. Never fails: how it ended is its last event. `place` is
/// given back then.
pub async fn pass(mut passage: Box<Passage>, socket: TcpStream, place: impl Send) {
    let metrics = passage.shared.observe.metrics().listener(&passage.tunnel.name);
    let mut state = metrics.session(SessionState::Handshake);
    let Some(arrival) = Box::pin(passage.entrance().enter(&metrics, socket)).await else { return };
    let Arrival { stream, admission, tls, client, proxy } = arrival;
    (passage.client, passage.proxy) = (client, proxy);
    let shown = tls.as_deref().map(super::shown).unwrap_or_default();
    let (ending, backend) = match passage.destination(shown) {
        None => (Ending::of(Refusal::NotAllowed.as_str(), stream), None),
        Some(destination) => {
            let ending = match Box::pin(passage.dial(&destination)).await {
                Ok(reached) => {
                    state.enter(SessionState::Relay);
                    Box::pin(passage.carry(stream, reached)).await
                }
                Err((reason, detail)) => Box::new(Ending { detail, ..*Ending::of(reason, stream) }),
            };
            (ending, Some(destination.backend.name.clone()))
        }
    };
    metrics.bytes_in(ending.bytes_in);
    metrics.bytes_out(ending.bytes_out);
    let Ending { reason, detail, bytes_in, bytes_out, backend_server, client, .. } = *ending;
    let mut event = passage.event(Kind::SessionClosed, tls);
    (event.reason, event.detail) = (Some(reason.to_owned()), detail);
    (event.backend, event.server) = (backend, backend_server);
    event.duration = Some(passage.started.elapsed());
    (event.bytes_in, event.bytes_out) = (Some(bytes_in), Some(bytes_out));
    passage.shared.observe.record(&event);
    if let Some(client) = client {
        Box::pin(client.close()).await;
    }
    drop((admission, place));
}

impl Passage {
    fn entrance(&self) -> Entrance<'_> {
        Entrance {
            shared: &self.shared,
            listener: &self.tunnel.name,
            spoken: Some(Spoken::Tcp),
            access: &self.tunnel.access,
            proxy_protocol: &self.tunnel.proxy_protocol,
            alpn: self.tunnel.implicit_tls.then_some(Alpn::Unnamed),
            client_certificate: self.tunnel.client_certificate,
            time: self.policy.timeouts.tls_handshake,
            id: self.id,
            client: self.client,
            proxy: self.proxy,
        }
    }

    /// Where it goes by what it showed in its handshake; nowhere if it may not go there.
    fn destination(&self, shown: Shown<'_>) -> Option<Destination> {
        let (routes, client) = (&self.policy.routes, self.client.ip());
        route::of_connection(routes, (Spoken::Tcp, shown), client, &self.tunnel.backend).ok()
    }

    /// Connects to a server behind.
    ///
    /// # Errors
    /// The contract's `reason`, and what exactly the last server did.
    async fn dial(&self, destination: &Destination) -> Result<Tunnel, (&'static str, Option<String>)> {
        let caller = Caller { client: self.client, local: self.local, user: None, checked: None };
        let dialling = self.shared.backends.open_tunnel(&destination.backend, &self.policy.timeouts, caller);
        tokio::select! {
            reached = dialling => reached.map_err(|lost| (lost.reason(), Some(lost.to_string()))),
            () = self.leave.cancelled() => Err((End::Asked.reason(), None)),
        }
    }

    /// Carries bytes both ways to the end. There are no last words: nobody knows in which language.
    async fn carry(&self, mut client: ClientStream, Tunnel { server, stream }: Tunnel) -> Box<Ending> {
        client.logged_in();
        let start = Start { idle: self.policy.timeouts.idle_tcp, careful: true, ..Start::default() };
        let mut relay = Relay::new(client, stream, start);
        let ended = relay.run(&self.leave).await;
        let ending = Ending::of(ended.how.reason(), relay.into_client());
        Box::new(Ending { backend_server: Some(server.name.to_string()), ..*ending })
    }

    fn event(&self, kind: Kind, tls: Option<Arc<TlsFacts>>) -> Event {
        Event { tls, ..self.entrance().event(kind) }
    }
}
