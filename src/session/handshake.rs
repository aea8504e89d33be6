//! The door: the PROXY header where one is due, may this address come in, and the TLS handshake where the listener begins
//! with one.

use super::Session;
use super::greeting::{self, Greeting};
use super::stream::{ClientStream, NoTls};
use crate::gate::Admission;
use crate::observe::event::{Client, Event, TlsFacts};
use crate::observe::metrics::ListenerMetrics;
use crate::observe::{Kind, Observe};
use crate::policy::route::Handshake;
use crate::policy::{ClientCertificate, Listener, Policy};
use crate::proto::{self, Protocol, Refusal, Service, TlsRule, proxy_header};
use crate::tls::{self, Alpn, Demand, Holder};
use bytes::BytesMut;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Lets the connection in, or refuses it in the listener's words. On a TLS port a refused address costs no handshake, and
/// a greeting that needs no backend goes out within it.
pub(super) async fn enter(
    session: &mut Session,
    metrics: &ListenerMetrics,
    mut socket: TcpStream,
) -> Option<(ClientStream, Admission, Option<Greeting>)> {
    let deadline = Instant::now() + session.policy.timeouts.tls_handshake;
    if session.listener.proxy_protocol.contains(session.client.ip()) {
        let header = tokio::time::timeout_at(deadline, proxy_header(&mut socket)).await;
        let source = match header.unwrap_or(Err(NoHeader::Timeout)) {
            Ok(source) => source,
            Err(fault) => {
                without_header(session, &fault);
                return None;
            }
        };
        session.proxy = Some(session.client.ip());
        session.client = source.unwrap_or(session.client);
    }
    let admission = match session.shared.gate.connection(&session.listener, session.client.ip()) {
        Ok(admission) => admission,
        Err(refusal) => {
            let from = (session.client, session.proxy);
            refuse(&session.shared.observe, &session.policy, &session.listener, from, refusal, &socket);
            return None;
        }
    };
    metrics.accepted();
    session.set_out();
    let stream = ClientStream::plain(socket);
    if session.listener.tls != TlsRule::Implicit {
        return Some((stream, admission, None));
    }
    let mut greeting = greeting::of(session);
    let mut nothing = BytesMut::new();
    let words = greeting.as_mut().map_or(&mut nothing, |greeting| &mut greeting.words);
    match secure(session, metrics, stream, deadline, words).await {
        Ok(stream) => Some((stream, admission, greeting)),
        Err(left) => {
            if let Some(stream) = left {
                stream.close().await;
            }
            None
        }
    }
}

/// Why a load balancer's connection goes no further.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoHeader {
    /// It ended before its first byte: a check whether the port is open.
    #[error("nothing came")]
    Nothing,
    #[error("the connection ended within the PROXY header")]
    Cut,
    #[error("no whole PROXY header came in time")]
    Timeout,
    #[error("{0}")]
    Violation(#[from] proxy_header::Violation),
}

impl NoHeader {
    /// The word for it; none where nothing is to be told: load balancers look in every few seconds, and a line for each would
    /// hide the others.
    pub(super) fn reason(&self) -> Option<&'static str> {
        match self {
            NoHeader::Nothing => None,
            NoHeader::Timeout => Some(Refusal::Timeout.as_str()),
            NoHeader::Cut | NoHeader::Violation(_) => Some("proxy_header"),
        }
    }
}

/// Reads the PROXY header, and not a byte more: what stands behind it, in the same segment as a rule, is the client's and stays
/// in the socket. Bytes that are no whole header yet are all of it, so they may be taken.
pub(super) async fn proxy_header(socket: &mut TcpStream) -> Result<Option<SocketAddr>, NoHeader> {
    let mut bytes = [0; proxy_header::MAX];
    let mut taken = 0;
    let broken = |taken| if taken == 0 { NoHeader::Nothing } else { NoHeader::Cut };
    loop {
        let seen = taken + socket.peek(&mut bytes[taken..]).await.map_err(|_| broken(taken))?;
        if seen == taken {
            return Err(broken(taken));
        }
        let header = proxy_header::parse(&bytes[..seen])?;
        let end = header.map_or(seen, |header| header.length);
        socket.read_exact(&mut bytes[taken..end]).await.map_err(|_| NoHeader::Cut)?;
        if let Some(header) = header {
            return Ok(header.source);
        }
        taken = end;
    }
}

/// Records that a load balancer's connection is closed. There is nobody to tell: words would reach a client that has said
/// nothing yet, or a program that speaks something else.
fn without_header(session: &Session, fault: &NoHeader) {
    let Some(reason) = fault.reason() else { return };
    let mut event = refused(&session.listener, (session.client, None), reason);
    event.detail = Some(format!("{fault}; proxy_protocol wants one from this address"));
    session.shared.observe.record(&event);
}

/// Speaks TLS from here on, and says what of `greeting` can be said within the handshake. A failure is recorded as
/// `tls.failed`, with what the client did.
/// A load balancer that looks in on its own behalf and says nothing has failed at nothing.
///
/// # Errors
/// The failure is recorded. What is left of the connection is to be closed, so that the alert arrives.
pub(super) async fn secure(
    session: &mut Session,
    metrics: &ListenerMetrics,
    stream: ClientStream,
    deadline: Instant,
    greeting: &mut BytesMut,
) -> Result<ClientStream, Option<ClientStream>> {
    let started = Instant::now();
    // Behind STARTTLS there is no browser.
    let page = session.policy.portal.on_mail_ports && session.listener.tls == TlsRule::Implicit;
    let (alpn, demand) = (alpn(session.listener.service, page), demand(session.listener.client_certificate));
    let config = session.shared.tls.load().config_for(alpn, demand);
    let outcome = tokio::time::timeout_at(deadline, stream.start_tls(config, greeting)).await;
    let is_check = session.proxy == Some(session.client.ip());
    let ((reason, detail), left) = match outcome {
        Ok(Ok((stream, facts))) => {
            let facts = told(facts);
            metrics.handshake(&facts, started.elapsed());
            session.tls = Some(Arc::new(facts));
            session.set_out();
            return Ok(stream);
        }
        Ok(Err(NoTls { first, stream, .. })) if is_check && first.is_empty() => return Err(Some(stream)),
        Ok(Err(NoTls { error, first, stream })) => {
            if let Some(version) = tls::client_hello_version(&first) {
                metrics.too_old(version.as_str());
            }
            let spoken = session.listener.service.protocol().as_str().to_uppercase();
            (explain(&error, &first, session.listener.tls == TlsRule::Implicit, &spoken), Some(stream))
        }
        Err(_) => (("timeout", "the handshake did not come to an end in time".to_owned()), None),
    };
    let mut event = session.event(Kind::TlsFailed);
    event.reason = Some(reason.to_owned());
    event.detail = Some(detail);
    event.duration = Some(started.elapsed());
    session.record(&event);
    Err(left)
}

/// Names the mistake: what came instead of a handshake, or what about it could not be agreed on.
/// `spoken` is what text on an `implicit` port probably is.
pub(super) fn explain(error: &io::Error, first: &[u8], implicit: bool, spoken: &str) -> (&'static str, String) {
    if first.is_empty() {
        return ("client_closed", "the client closed before it said anything".to_owned());
    }
    if let Some(version) = tls::client_hello_version(first) {
        return ("too_old", format!("the client knows nothing newer than {}", version.as_str()));
    }
    // A record of any type (RFC 8446 section 5.1), the handshake's among them, is TLS.
    if !matches!(first, [0x14..=0x18, 3, ..] | [0x16, ..]) {
        if !implicit {
            return ("not_tls", "the client asked for TLS and then spoke something else".to_owned());
        }
        let what = if proto::is_http(first) {
            "HTTP"
        } else if first.is_ascii() {
            spoken
        } else {
            "something"
        };
        let detail =
            format!("not a TLS handshake: the client speaks {what} in the clear on a port that begins with TLS");
        return ("plaintext_on_tls_port", detail);
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => (tls::failure_reason(error), tls::failure_words(error)),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            ("client_closed", "the client closed in the middle of the handshake".to_owned())
        }
        None if error.kind() == io::ErrorKind::InvalidData => ("bad_record", error.to_string()),
        None => ("io", error.to_string()),
    }
}

/// What a handshake came to, as events tell it.
pub(super) fn told(facts: tls::Facts) -> TlsFacts {
    let tls::Facts { version, cipher, group, sni, alpn, resumed, client } = facts;
    let client = client.map(|client| {
        let Holder { name, sha256 } = *client;
        Box::new(Client { name, sha256 })
    });
    TlsFacts { version, cipher, group, sni, alpn, resumed, client }
}

/// What is asked of clients for.
pub(super) fn demand(asked: ClientCertificate) -> Demand {
    match asked {
        ClientCertificate::Off => Demand::Nothing,
        ClientCertificate::Request => Demand::Request,
        ClientCertificate::Require => Demand::Require,
    }
}

/// What may be inside; with the `page`, a browser too.
fn alpn(service: Service, page: bool) -> Alpn {
    match (service.protocol(), page) {
        (Protocol::Imap, false) => Alpn::Imap,
        (Protocol::Imap, true) => Alpn::ImapOrPage,
        (Protocol::Pop3, false) => Alpn::Pop3,
        (Protocol::Pop3, true) => Alpn::Pop3OrPage,
        // Browsers go to no port of SMTP, and a form sent there is how others are attacked.
        (Protocol::Smtp, _) => Alpn::Smtp,
    }
}

/// Refuses a connection before anything was said: in words where the port begins in the clear, else by closing.
/// Never waits, so that refusing costs nothing. `from`: the client, and the load balancer that named it.
pub fn refuse(
    observe: &Observe,
    policy: &Policy,
    listener: &Listener,
    from: (SocketAddr, Option<IpAddr>),
    refusal: Refusal,
    socket: &TcpStream,
) {
    if listener.tls != TlsRule::Implicit {
        let mut words = BytesMut::new();
        proto::front(policy.front_settings(listener, from.0.ip(), Handshake::ToCome)).turn_away(refusal, &mut words);
        // An empty send buffer takes a line; a client that is gone already needs none.
        let _ = socket.try_write(&words);
    }
    observe.record(&refused(listener, from, refusal.as_str()));
}

fn refused(listener: &Listener, (client, proxy): (SocketAddr, Option<IpAddr>), reason: &str) -> Event {
    let mut event = Event::new(Kind::ConnectionRefused);
    event.listener = Some(listener.name.clone());
    event.protocol = Some(listener.service.into());
    event.client_ip = Some(client.ip());
    event.client_port = Some(client.port());
    event.proxy_ip = proxy;
    event.reason = Some(reason.to_owned());
    event
}
