//! The door: may this address come in, and the TLS handshake where the listener begins with one.

use super::Session;
use super::stream::ClientStream;
use crate::gate::Admission;
use crate::observe::event::{Event, TlsFacts};
use crate::observe::metrics::ListenerMetrics;
use crate::observe::{Kind, Observe};
use crate::policy::{Listener, Policy};
use crate::proto::{self, Protocol, Refusal, Service, TlsRule};
use crate::tls::{self, Alpn};
use bytes::BytesMut;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What is looked at of a first flight that fails: a ClientHello with its extensions, as a rule.
const PEEK: usize = 1024;

/// Lets the connection in, or refuses it in the listener's words. On a TLS port a refused address costs no handshake.
pub(super) async fn enter(
    session: &mut Session,
    metrics: &ListenerMetrics,
    socket: TcpStream,
) -> Option<(ClientStream, Admission)> {
    let admission = match session.shared.gate.connection(&session.listener, session.client.ip()) {
        Ok(admission) => admission,
        Err(refusal) => {
            refuse(&session.shared.observe, &session.policy, &session.listener, session.client, refusal, &socket);
            return None;
        }
    };
    metrics.accepted();
    let stream = ClientStream::plain(socket);
    if session.listener.tls != TlsRule::Implicit {
        return Some((stream, admission));
    }
    secure(session, metrics, stream).await.ok().map(|stream| (stream, admission))
}

/// Speaks TLS from here on. A failure is recorded as `tls.failed`, with what the client did.
///
/// # Errors
/// The connection is closed and recorded.
pub(super) async fn secure(
    session: &mut Session,
    metrics: &ListenerMetrics,
    stream: ClientStream,
) -> Result<ClientStream, ()> {
    let started = Instant::now();
    let mut first = [0; PEEK];
    let mut seen = 0;
    let config = session.shared.tls.load().config(alpn(session.listener.service));
    let counts = (stream.bytes_in, stream.bytes_out);
    let handshake = async {
        seen = stream.peek(&mut first).await?;
        stream.start_tls(config).await
    };
    let outcome = tokio::time::timeout(session.policy.timeouts.tls_handshake, handshake).await;
    let (reason, detail) = match outcome {
        Ok(Ok(mut stream)) => {
            (stream.bytes_in, stream.bytes_out) = counts;
            let facts = stream.tls().map(tls::Facts::of);
            if let Some(facts) = facts {
                let facts = TlsFacts {
                    version: facts.version,
                    cipher: facts.cipher.to_owned(),
                    group: facts.group.map(str::to_owned),
                    sni: facts.sni,
                    alpn: facts.alpn,
                    resumed: facts.resumed,
                };
                metrics.handshake(&facts, started.elapsed());
                session.tls = Some(facts);
            }
            return Ok(stream);
        }
        Ok(Err(error)) => explain(&error, &first[..seen], &session.listener),
        Err(_) => ("timeout", "the handshake did not come to an end in time".to_owned()),
    };
    if let Some(version) = tls::client_hello_version(&first[..seen]) {
        metrics.too_old(version.as_str());
    }
    let mut event = session.event(Kind::TlsFailed);
    event.reason = Some(reason.to_owned());
    event.detail = Some(detail);
    event.duration = Some(started.elapsed());
    session.record(&event);
    Err(())
}

/// Names the mistake: what came instead of a handshake, or what about it could not be agreed on.
fn explain(error: &io::Error, first: &[u8], listener: &Listener) -> (&'static str, String) {
    if first.is_empty() {
        return ("client_closed", "the client closed before it said anything".to_owned());
    }
    if let Some(version) = tls::client_hello_version(first) {
        return ("too_old", format!("the client knows nothing newer than {}", version.as_str()));
    }
    if first[0] != 0x16 {
        if listener.tls != TlsRule::Implicit {
            return ("not_tls", "the client asked for TLS and then spoke something else".to_owned());
        }
        let what = if proto::is_http(first) {
            "HTTP".to_owned()
        } else if first.is_ascii() {
            listener.service.protocol().as_str().to_uppercase()
        } else {
            "something".to_owned()
        };
        let detail =
            format!("not a TLS handshake: the client speaks {what} in the clear on a port that begins with TLS");
        return ("plaintext_on_tls_port", detail);
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => (tls::failure_reason(error), error.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            ("client_closed", "the client closed in the middle of the handshake".to_owned())
        }
        None if error.kind() == io::ErrorKind::InvalidData => ("bad_record", error.to_string()),
        None => ("io", error.to_string()),
    }
}

fn alpn(service: Service) -> Alpn {
    match service.protocol() {
        Protocol::Imap => Alpn::Imap,
        Protocol::Pop3 => Alpn::Pop3,
        Protocol::Smtp => Alpn::Smtp,
    }
}

/// Refuses a connection before anything was said: in words where the port begins in the clear, else by closing.
/// Never waits, so that refusing costs nothing.
pub fn refuse(
    observe: &Observe,
    policy: &Policy,
    listener: &Listener,
    client: SocketAddr,
    refusal: Refusal,
    socket: &TcpStream,
) {
    if listener.tls != TlsRule::Implicit {
        let mut words = BytesMut::new();
        proto::front(policy.front_settings(listener)).turn_away(refusal, &mut words);
        // An empty send buffer takes a line; a client that is gone already needs none.
        let _ = socket.try_write(&words);
    }
    let mut event = Event::new(Kind::ConnectionRefused);
    event.listener = Some(listener.name.clone());
    event.protocol = Some(listener.service);
    event.client_ip = Some(client.ip());
    event.client_port = Some(client.port());
    event.reason = Some(refusal.as_str().to_owned());
    observe.record(&event);
}
