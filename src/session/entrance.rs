//! The door for what has no dialogue with us: browsers on their way to the help page, and what goes through a tunnel.
//! PROXY header, may this address come in, TLS; what is refused is on record.

use super::Shared;
use super::handshake::{self, NoHeader};
use super::stream::{ClientStream, NoTls};
use crate::gate::Admission;
use crate::observe::event::{SessionId, TlsFacts};
use crate::observe::metrics::ListenerMetrics;
use crate::observe::{Event, Kind, Observe};
use crate::policy::access::{Access, AddressSet};
use crate::policy::{ClientCertificate, Spoken};
use crate::proto::{Refusal, Service};
use crate::tls::{self, Alpn};
use bytes::BytesMut;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A connection at its door.
pub(super) struct Entrance<'a> {
    /// What it shares with the others.
    pub(super) shared: &'a Shared,
    /// Its listener's key in the configuration.
    pub(super) listener: &'a str,
    /// What is spoken there; none for the page.
    pub(super) spoken: Option<Spoken<Service>>,
    /// Who may come in.
    pub(super) access: &'a Access,
    /// Who must say in a PROXY header for whom it comes.
    pub(super) proxy_protocol: &'a AddressSet,
    /// What may be inside TLS; none where there is no TLS.
    pub(super) alpn: Option<Alpn>,
    /// Whether the client is asked for a certificate.
    pub(super) client_certificate: ClientCertificate,
    /// How long all of it may take.
    pub(super) time: Duration,
    /// The connection's name in events.
    pub(super) id: SessionId,
    /// The client's address; behind a load balancer the one in its PROXY header.
    pub(super) client: SocketAddr,
    /// The load balancer.
    pub(super) proxy: Option<IpAddr>,
}

/// A connection that was let in.
pub(super) struct Arrival {
    pub(super) stream: ClientStream,
    /// Its place among those of its address.
    pub(super) admission: Admission,
    /// What was negotiated; none in the clear.
    pub(super) tls: Option<Arc<TlsFacts>>,
    /// Who it is.
    pub(super) client: SocketAddr,
    pub(super) proxy: Option<IpAddr>,
}

impl Entrance<'_> {
    /// Lets the connection in, or closes it.
    pub(super) async fn enter(mut self, metrics: &ListenerMetrics, mut socket: TcpStream) -> Option<Arrival> {
        let deadline = Instant::now() + self.time;
        if self.proxy_protocol.contains(self.client.ip()) {
            let header = tokio::time::timeout_at(deadline, handshake::proxy_header(&mut socket)).await;
            match header.unwrap_or(Err(NoHeader::Timeout)) {
                Ok(source) => {
                    self.proxy = Some(self.client.ip());
                    self.client = source.unwrap_or(self.client);
                }
                Err(fault) => {
                    if let Some(reason) = fault.reason() {
                        let mut event = refused(self.listener, self.spoken, self.client, reason);
                        event.detail = Some(format!("{fault}; proxy_protocol wants one from this address"));
                        self.shared.observe.record(&event);
                    }
                    return None;
                }
            }
        }
        let (gate, client) = (&self.shared.gate, self.client.ip());
        let admitted = match self.spoken {
            None => gate.visit(self.access, client),
            Some(_) => gate.passage(self.access, client),
        };
        let admission = match admitted {
            Ok(admission) => admission,
            Err(refusal) => {
                let mut event = refused(self.listener, self.spoken, self.client, refusal.as_str());
                event.proxy_ip = self.proxy;
                self.shared.observe.record(&event);
                return None;
            }
        };
        metrics.accepted();
        let stream = ClientStream::plain(socket);
        let (stream, tls) = match self.alpn {
            None => (stream, None),
            Some(alpn) => {
                let (stream, facts) = self.secure(alpn, metrics, stream, deadline).await?;
                (stream, Some(facts))
            }
        };
        let Self { client, proxy, .. } = self;
        Some(Arrival { stream, admission, tls, client, proxy })
    }

    /// Speaks TLS, or records why not.
    async fn secure(
        &self,
        alpn: Alpn,
        metrics: &ListenerMetrics,
        stream: ClientStream,
        deadline: Instant,
    ) -> Option<(ClientStream, Arc<TlsFacts>)> {
        let started = Instant::now();
        let config = self.shared.tls.load().config_for(alpn, handshake::demand(self.client_certificate));
        let mut nothing = BytesMut::new();
        let outcome = tokio::time::timeout_at(deadline, stream.start_tls(config, &mut nothing)).await;
        // Browsers open connections ahead and may never use them; load balancers look in.
        let may_be_silent = self.spoken.is_none() || self.proxy == Some(self.client.ip());
        let ((reason, detail), left) = match outcome {
            Ok(Ok((stream, facts))) => {
                let facts = handshake::told(facts);
                metrics.handshake(&facts, started.elapsed());
                return Some((stream, Arc::new(facts)));
            }
            Ok(Err(NoTls { first, stream, .. })) if first.is_empty() && may_be_silent => {
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

    /// An event of this connection.
    pub(super) fn event(&self, kind: Kind) -> Event {
        let mut event = Event::new(kind);
        event.session = Some(self.id);
        event.listener = Some(self.listener.to_owned());
        event.protocol = self.spoken;
        event.client_ip = Some(self.client.ip());
        event.client_port = Some(self.client.port());
        event.proxy_ip = self.proxy;
        event
    }
}

/// Turns a connection away from a full gateway. Never waits.
pub fn turn_away(
    observe: &Observe,
    listener: &str,
    spoken: Option<Spoken<Service>>,
    client: SocketAddr,
    refusal: Refusal,
) {
    observe.record(&refused(listener, spoken, client, refusal.as_str()));
}

fn refused(listener: &str, spoken: Option<Spoken<Service>>, client: SocketAddr, reason: &str) -> Event {
    let mut event = Event::new(Kind::ConnectionRefused);
    event.listener = Some(listener.to_owned());
    event.protocol = spoken;
    event.client_ip = Some(client.ip());
    event.client_port = Some(client.port());
    event.reason = Some(reason.to_owned());
    event
}
