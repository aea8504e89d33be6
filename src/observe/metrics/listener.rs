//! One listener's metrics, looked up once and used on the hot paths.

use super::families::Families;
use crate::observe::event::TlsFacts;
use crate::proto::Refusal;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use std::sync::Arc;
use std::time::Duration;

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// PROXY header, TLS handshake on an implicit port.
    Handshake,
    /// The dialogue before a login, STARTTLS included.
    Login,
    /// Logged in.
    Relay,
}

impl SessionState {
    const ALL: [SessionState; 3] = [SessionState::Handshake, SessionState::Login, SessionState::Relay];

    fn as_str(self) -> &'static str {
        match self {
            SessionState::Handshake => "handshake",
            SessionState::Login => "login",
            SessionState::Relay => "relay",
        }
    }
}

/// The versions of TLS that are served.
const VERSIONS: [&str; 2] = ["1.2", "1.3"];

/// The best versions too old clients offer in their ClientHello; series for them stand at 0 from the start.
const TOO_OLD: [&str; 4] = ["ssl2", "ssl3", "1.0", "1.1"];

/// The handles of one listener.
pub struct ListenerMetrics {
    name: String,
    accepted: IntCounter,
    states: [IntGauge; 3],
    bytes_in: IntCounter,
    bytes_out: IntCounter,
    session_duration: Histogram,
    tls_duration: Histogram,
    auth_duration: Histogram,
    /// By version, then full and resumed.
    handshakes: [[IntCounter; 2]; 2],
    too_old: IntCounterVec,
}

impl ListenerMetrics {
    pub(super) fn new(name: &str, families: &Families) -> Self {
        // What can be foreseen stands at 0 from the start: a rate over a series that begins with its first event misses it.
        let turned_away =
            [Refusal::NotAllowed, Refusal::Denied, Refusal::Banned, Refusal::RateLimited, Refusal::TooManySessions];
        for refusal in turned_away {
            families.connections.with_label_values(&[name, refusal.as_str()]);
        }
        let refused = [
            Refusal::Banned,
            Refusal::RateLimited,
            Refusal::TooManySessions,
            Refusal::TlsRequired,
            Refusal::MechanismDisabled,
        ];
        for refusal in refused {
            families.auth_refused.with_label_values(&[name, refusal.as_str()]);
        }
        for mechanism in ["PLAIN", "LOGIN", "USER"] {
            for tls in ["yes", "no"] {
                for outcome in ["ok", "failed", "refused", "error"] {
                    families.auth.with_label_values(&[name, mechanism, tls, outcome]);
                }
            }
        }
        let handshakes = VERSIONS.map(|version| {
            ["full", "resumed"].map(|outcome| families.tls_handshakes.with_label_values(&[name, version, outcome]))
        });
        families.tls_handshakes.with_label_values(&[name, "none", "failed"]);
        for version in TOO_OLD {
            families.tls_too_old.with_label_values(&[name, version]);
        }
        for outcome in ["accepted", "refused"] {
            families.messages.with_label_values(&[name, outcome]);
            families.recipients.with_label_values(&[name, outcome]);
        }
        Self {
            name: name.to_owned(),
            accepted: families.connections.with_label_values(&[name, "accepted"]),
            states: SessionState::ALL.map(|state| families.sessions.with_label_values(&[name, state.as_str()])),
            bytes_in: families.bytes.with_label_values(&[name, "in"]),
            bytes_out: families.bytes.with_label_values(&[name, "out"]),
            session_duration: families.session_duration.with_label_values(&[name]),
            tls_duration: families.tls_duration.with_label_values(&[name]),
            auth_duration: families.auth_duration.with_label_values(&[name]),
            handshakes,
            too_old: families.tls_too_old.clone(),
        }
    }

    /// The listener's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection was let in. Those refused are counted from their events.
    pub fn accepted(&self) {
        self.accepted.inc();
    }

    /// Counts a session among those in `state`, until the value is dropped.
    pub fn session(self: &Arc<Self>, state: SessionState) -> InState {
        self.gauge(state).inc();
        InState { listener: Arc::clone(self), state }
    }

    /// So many bytes came from the client.
    pub fn bytes_in(&self, bytes: u64) {
        self.bytes_in.inc_by(bytes);
    }

    /// So many bytes went to the client.
    pub fn bytes_out(&self, bytes: u64) {
        self.bytes_out.inc_by(bytes);
    }

    /// A TLS handshake succeeded. Those that failed are counted from their events.
    pub fn handshake(&self, tls: &TlsFacts, took: Duration) {
        if let Some(version) = VERSIONS.iter().position(|version| *version == tls.version) {
            self.handshakes[version][usize::from(tls.resumed)].inc();
        }
        self.tls_duration.observe(took.as_secs_f64());
    }

    /// A client's ClientHello offers nothing new enough.
    /// `version` is one of few words of ours.
    pub fn too_old(&self, version: &'static str) {
        self.too_old.with_label_values(&[&self.name, version]).inc();
    }

    pub(super) fn closed(&self, after: Option<Duration>) {
        if let Some(after) = after {
            self.session_duration.observe(after.as_secs_f64());
        }
    }

    pub(super) fn login_took(&self, duration: Duration) {
        self.auth_duration.observe(duration.as_secs_f64());
    }

    fn gauge(&self, state: SessionState) -> &IntGauge {
        &self.states[state as usize]
    }
}

/// A session's place in `gatepost_sessions`; dropping it takes the session out.
pub struct InState {
    listener: Arc<ListenerMetrics>,
    state: SessionState,
}

impl InState {
    /// The listener it came in by.
    pub fn listener(&self) -> &ListenerMetrics {
        &self.listener
    }

    /// The session goes on to another state.
    pub fn enter(&mut self, state: SessionState) {
        self.listener.gauge(state).inc();
        self.listener.gauge(self.state).dec();
        self.state = state;
    }
}

impl Drop for InState {
    fn drop(&mut self) {
        self.listener.gauge(self.state).dec();
    }
}
