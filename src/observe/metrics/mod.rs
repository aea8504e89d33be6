//! The metrics of the contract's section 4.
//!
//! Whatever follows from an event is counted from the event; the rest has typed methods, so that no label is ever spelled
//! elsewhere. A label holds names from the configuration, our own words and nothing a client chose.

mod families;
mod listener;

pub use listener::{InState, ListenerMetrics, SessionState};

use super::event::{Event, Kind};
use crate::policy::Spoken;
use crate::proto::{Protocol, Service};
use families::Families;
use prometheus::{Encoder, Histogram, IntCounter, Registry, TextEncoder};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most distinct reasons a listener's metric shows; more could only come from a mistake of ours, and count as `other`.
const MAX_REASONS: usize = 64;

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    families: Families,
    listeners: RwLock<HashMap<String, Arc<ListenerMetrics>>>,
    reasons: Mutex<HashSet<String>>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let families = Families::register(&registry);
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("no other metric is called process_*");
        families.build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), env!("GATEPOST_RUSTC")]).set(1);
        let metrics = Self { registry, families, listeners: RwLock::default(), reasons: Mutex::default() };
        metrics.reloaded(true);
        metrics
    }

    /// All metrics in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8(text).unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                String::new()
            }
        }
    }

    /// The handles of one listener, resolved once. Its series stand at 0 from here on.
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        if let Some(known) = self.listeners.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(known);
        }
        let mut listeners = self.listeners.write().unwrap_or_else(PoisonError::into_inner);
        let made =
            listeners.entry(name.to_owned()).or_insert_with(|| Arc::new(ListenerMetrics::new(name, &self.families)));
        Arc::clone(made)
    }

    /// The handles of one backend and protocol, resolved once.
    pub fn backend(&self, name: &str, protocol: impl Into<Spoken<Protocol>>) -> BackendMetrics {
        let protocol = protocol.into().as_str();
        for kind in ["down", "timeout", "temporary", "protocol", "tls"] {
            self.families.backend_errors.with_label_values(&[name, protocol, kind]);
        }
        BackendMetrics { connect: self.families.backend_connect.with_label_values(&[name, protocol]) }
    }

    /// A server is no longer configured: whether it is up is nobody's question.
    pub fn backend_gone(&self, backend: &str, protocol: Spoken<Protocol>, server: &str) {
        // Not there is what is wanted.
        let _ = self.families.backend_up.remove_label_values(&[backend, protocol.as_str(), server]);
    }

    /// The effective bound on sessions.
    pub fn sessions_limit(&self, limit: usize) {
        self.families.sessions_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// Whether the process is going down.
    pub fn draining(&self, draining: bool) {
        self.families.draining.set(draining.into());
    }

    /// How many addresses are banned now.
    pub fn bans(&self, bans: usize) {
        self.families.bans.set(i64::try_from(bans).unwrap_or(i64::MAX));
    }

    /// When a served certificate ends. `name` is its first name, from the certificate.
    pub fn certificate_expiry(&self, name: &str, not_after: SystemTime) {
        let seconds = not_after.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.families.certificate_expiry.with_label_values(&[name]).set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// A certificate is served no more.
    pub fn certificate_gone(&self, name: &str) {
        // Not there is what is wanted.
        let _ = self.families.certificate_expiry.remove_label_values(&[name]);
    }

    /// The shared store did not answer. `operation` is one of ours.
    pub fn store_error(&self, operation: &'static str) {
        self.families.store_errors.with_label_values(&[operation]).inc();
    }

    pub(super) fn log_dropped(&self) -> IntCounter {
        self.families.log_dropped.clone()
    }

    /// Counts what follows from an event.
    pub(super) fn count(&self, event: &Event) {
        let listener = event.listener.as_deref().map(|name| self.listener(name));
        let reason = event.reason.as_deref();
        match (event.event, listener) {
            (Kind::AuthOk, Some(listener)) => self.auth(&listener, event, "ok"),
            (Kind::AuthFailed, Some(listener)) => self.auth(&listener, event, "failed"),
            (Kind::AuthRefused, Some(listener)) => {
                self.auth(&listener, event, "refused");
                self.families.auth_refused.with_label_values(&[listener.name(), &self.known(reason)]).inc();
            }
            (Kind::AuthError, Some(listener)) => {
                self.auth(&listener, event, "error");
                self.backend_error(event);
            }
            (Kind::SessionClosed, Some(listener)) => {
                listener.closed(event.duration);
                // Without a login there is no other event to tell that the backend was not there.
                let lost = matches!(reason, Some("backend_down" | "backend_timeout" | "backend_tls"));
                if lost && event.protocol == Some(Spoken::Tcp) {
                    self.backend_error(event);
                }
            }
            (Kind::ConnectionRefused, Some(listener)) => {
                self.families.connections.with_label_values(&[listener.name(), &self.known(reason)]).inc();
            }
            (Kind::TlsFailed, Some(listener)) => {
                let version = event.tls.as_ref().map_or("none", |tls| tls.version);
                self.families.tls_handshakes.with_label_values(&[listener.name(), version, "failed"]).inc();
                self.families.tls_failures.with_label_values(&[listener.name(), &self.known(reason)]).inc();
            }
            (Kind::MessageAccepted, Some(listener)) => self.message(&listener, event, "accepted"),
            (Kind::MessageRefused, Some(listener)) => self.message(&listener, event, "refused"),
            (Kind::BackendUp, _) => self.backend_up(event, true),
            (Kind::BackendDown, _) => {
                self.backend_up(event, false);
                self.backend_error(event);
            }
            (Kind::ConfigReloaded, _) => self.reloaded(true),
            (Kind::ConfigRefused, _) => self.reloaded(false),
            _ => {}
        }
    }

    fn auth(&self, listener: &ListenerMetrics, event: &Event, outcome: &str) {
        let mechanism = event.mechanism.as_ref().map_or("other", |mechanism| mechanism.label());
        let tls = if event.tls.is_some() { "yes" } else { "no" };
        self.families.auth.with_label_values(&[listener.name(), mechanism, tls, outcome]).inc();
        if let Some(duration) = event.duration {
            listener.login_took(duration);
        }
    }

    fn message(&self, listener: &ListenerMetrics, event: &Event, outcome: &str) {
        let recipients = event.recipients.unwrap_or(0);
        self.families.messages.with_label_values(&[listener.name(), outcome]).inc();
        self.families.recipients.with_label_values(&[listener.name(), outcome]).inc_by(recipients);
    }

    fn backend_up(&self, event: &Event, up: bool) {
        if let (Some(backend), Some(protocol), Some(server)) = (&event.backend, protocol_label(event), &event.server) {
            self.families.backend_up.with_label_values(&[backend, protocol, server]).set(up.into());
        }
    }

    fn backend_error(&self, event: &Event) {
        if let (Some(backend), Some(protocol)) = (&event.backend, protocol_label(event)) {
            let reason = event.reason.as_deref().map(|reason| reason.strip_prefix("backend_").unwrap_or(reason));
            self.families.backend_errors.with_label_values(&[backend, protocol, &self.known(reason)]).inc();
        }
    }

    fn reloaded(&self, successful: bool) {
        self.families.reload_successful.set(successful.into());
        if successful {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            self.families.reload_timestamp.set(i64::try_from(now).unwrap_or(i64::MAX));
        }
    }

    /// A reason as a label: a word of ours, or `other`.
    fn known(&self, reason: Option<&str>) -> String {
        let other = || "other".to_owned();
        let Some(reason) = reason else { return other() };
        let is_word =
            reason.len() <= 40 && reason.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        if reasons.contains(reason) || (is_word && reasons.len() < MAX_REASONS && reasons.insert(reason.to_owned())) {
            reason.to_owned()
        } else {
            other()
        }
    }
}

/// The handles of one backend and protocol.
#[derive(Clone, Debug)]
pub struct BackendMetrics {
    connect: Histogram,
}

impl BackendMetrics {
    /// A TCP connection was made in this time.
    pub fn connected(&self, took: Duration) {
        self.connect.observe(took.as_secs_f64());
    }
}

fn protocol_label(event: &Event) -> Option<&'static str> {
    event.protocol.map(Spoken::<Service>::protocol).map(Spoken::<Protocol>::as_str)
}

#[cfg(test)]
mod tests;
