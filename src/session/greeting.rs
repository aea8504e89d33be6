//! What a client is told first: what the backend can do, as far as it is remembered.

use super::Session;
use crate::policy::Checker;
use crate::proto::{self, Capabilities, Front, Mechanism, Protocol, Service, TlsRule};
use bytes::BytesMut;
use std::sync::Arc;

/// A front half that has greeted.
pub(super) struct Greeting {
    pub(super) front: Box<dyn Front>,
    /// What the client is told the backend can do.
    pub(super) shown: Arc<Capabilities>,
    /// What is to be said; nothing once it is.
    pub(super) words: BytesMut,
}

/// The greeting, where it needs nothing of the backend that is not remembered.
pub(super) fn of(session: &Session) -> Option<Greeting> {
    // Where what the client shows in its handshake decides, the backend is known once that is over.
    if session.policy.routes.look_at_the_handshake() || wants_a_timestamp(session, true) {
        return None;
    }
    let mut greeting = Greeting { shown: remembered(session), ..Greeting::unsaid(session) };
    greeting.front.greet(&greeting.shown, &mut greeting.words);
    Some(greeting)
}

impl Greeting {
    /// Before it is known what is to be said.
    pub(super) fn unsaid(session: &Session) -> Self {
        let front =
            proto::front(session.policy.front_settings(&session.listener, session.client.ip(), session.handshake()));
        Self { front, shown: Arc::default(), words: BytesMut::new() }
    }
}

/// Whether the greeting is to have the timestamp of a live backend.
pub(super) fn wants_a_timestamp(session: &Session, under_tls: bool) -> bool {
    let (listener, backends) = (&session.listener, &session.shared.backends);
    let (backend, protocol) = (&session.destination.backend, listener.service.protocol());
    listener.tls != TlsRule::StartTls
        && backends.remembered(backend, protocol).apop.is_some()
        && backends.has_server_up(backend, protocol)
        && session
            .policy
            .front_settings(listener, session.client.ip(), session.handshake())
            .allows(&Mechanism::APOP, under_tls)
}

/// What is known of the backend without its timestamp, which belongs to one connection.
pub(super) fn remembered(session: &Session) -> Arc<Capabilities> {
    let (backends, backend) = (&session.shared.backends, &session.destination.backend);
    let known = backends.remembered(backend, session.listener.service.protocol());
    match &session.policy.auth.submission {
        _ if session.listener.service != Service::Submission => {}
        Checker::Backend => {}
        Checker::Server(protocol) => return Arc::new(checked_by(&known, &backends.remembered(backend, *protocol))),
        Checker::AuthHttp | Checker::File(_) => {
            return Arc::new(checked_by(&known, &Capabilities::minimum(Protocol::Imap)));
        }
    }
    if known.apop.is_none() { known } else { Arc::new(Capabilities { apop: None, ..Capabilities::clone(&known) }) }
}

/// What an SMTP server can do, and the ways to log in of who checks the passwords in its place.
fn checked_by(server: &Capabilities, checker: &Capabilities) -> Capabilities {
    Capabilities {
        mechanisms: checker.mechanisms.clone(),
        login_command: checker.takes_passwords(),
        apop: None,
        lines: server.lines.clone(),
    }
}
