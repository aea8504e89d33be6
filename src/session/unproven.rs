//! Mail from somebody who has not logged in, on a `submission` listener: `submission.require_auth: false`.
//!
//! The server behind decides about his recipients, and so it must be one that relays nothing for our address: otherwise he would
//! be lent a trust that is ours. What the relay probe last found is asked at each message.

use super::Session;
use crate::backend::{Asked, Relaying, Server};
use crate::observe::Kind;
use crate::proto::{Answer, Protocol, Refusal, Service};

/// Whether he may send where the session goes.
///
/// # Errors
/// What is wrong with the servers there: none relays nothing. [`Relaying::Open`] where one is known to relay, too.
pub(super) fn may_send(session: &Session) -> Result<(), Relaying> {
    let servers = session.shared.backends.servers(&session.destination.backend, Protocol::Smtp);
    if servers.iter().any(|server| may_send_to(session, server)) {
        return Ok(());
    }
    let is_open = servers.iter().any(|server| relaying(session, server) == Relaying::Open);
    Err(if is_open { Relaying::Open } else { Relaying::Unknown })
}

/// The same for one server.
pub(super) fn may_send_to(session: &Session, server: &Server) -> bool {
    is_allowed(session) && relaying(session, server) == Relaying::Closed
}

/// What the probe has found, if it asks as the session's own policy has it: after a reload that has it ask less, or from another
/// address, a session from before knows nothing.
pub(super) fn relaying(session: &Session, server: &Server) -> Relaying {
    server.relaying_as(&Asked::of(&session.policy, &session.destination.backend))
}

/// The same for the server of this name.
pub(super) fn may_send_to_name(session: &Session, name: &str) -> bool {
    let servers = session.shared.backends.servers(&session.destination.backend, Protocol::Smtp);
    servers.iter().any(|server| server.name.to_string() == name && may_send_to(session, server))
}

/// Whether a session without a login may be continued with another server.
pub(super) async fn may_go_on(session: &Session, server: &Server) -> bool {
    // Where the world brings mail, no leave is needed.
    session.listener.service != Service::Submission
        || may_send_to(session, server)
        || session.shared.gate.is_granted(session.client.ip()).await
}

/// Whether the configuration lets anybody send without a login here, and no ban keeps this one from it.
pub(super) fn is_allowed(session: &Session) -> bool {
    session.listener.service == Service::Submission
        && !session.policy.submission.require_auth
        && session.shared.gate.banned(session.client.ip()).is_none()
}

/// Puts on record that he may not, as an operator who has allowed it must learn why, and gives the answer: who would come again
/// with a login is told so, who need only wait is told that.
pub(super) fn refuse(session: &Session, relaying: Relaying) -> Answer<'static> {
    let (answer, why) = match relaying {
        Relaying::Open => {
            (Answer::Refused(Refusal::LoginRequired), "it relays for this host: take this host out of its mynetworks")
        }
        Relaying::Unknown | Relaying::Closed => (
            Answer::Unavailable(None),
            "it has not yet said that it relays nothing for this host (5yz to a foreign recipient)",
        ),
    };
    let mut event = session.event(Kind::MessageRefused);
    event.reason = Some(Refusal::LoginRequired.as_str().to_owned());
    event.backend = Some(session.destination.backend.name.clone());
    event.detail = Some(format!("submission.require_auth: false does not hold towards this server: {why}"));
    session.record(&event);
    answer
}
