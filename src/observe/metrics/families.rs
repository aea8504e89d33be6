//! Names, labels and buckets, exactly as the contract's section 4 has them.

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// One field a metric.
pub(super) struct Families {
    pub(super) build_info: IntGaugeVec,
    pub(super) connections: IntCounterVec,
    pub(super) sessions: IntGaugeVec,
    pub(super) sessions_limit: IntGauge,
    pub(super) draining: IntGauge,
    pub(super) session_duration: HistogramVec,
    pub(super) tls_handshakes: IntCounterVec,
    pub(super) tls_failures: IntCounterVec,
    pub(super) tls_too_old: IntCounterVec,
    pub(super) tls_duration: HistogramVec,
    pub(super) auth: IntCounterVec,
    pub(super) auth_refused: IntCounterVec,
    pub(super) auth_duration: HistogramVec,
    pub(super) bytes: IntCounterVec,
    pub(super) messages: IntCounterVec,
    pub(super) recipients: IntCounterVec,
    pub(super) backend_up: IntGaugeVec,
    pub(super) backend_connect: HistogramVec,
    pub(super) backend_errors: IntCounterVec,
    pub(super) certificate_expiry: IntGaugeVec,
    pub(super) bans: IntGauge,
    pub(super) store_errors: IntCounterVec,
    pub(super) log_dropped: IntCounter,
    pub(super) reload_successful: IntGauge,
    pub(super) reload_timestamp: IntGauge,
}

/// 1 s to 12 h: a POP3 poll, an IMAP client in IDLE all day.
const SESSION: &[f64] = &[1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 43_200.0];
/// A handshake is milliseconds of arithmetic and the client's round trips, at most `timeouts.tls_handshake`.
const HANDSHAKE: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Up to `timeouts.backend_login`: old servers copy a mailbox at PASS.
const LOGIN: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0];
/// Up to `timeouts.connect`.
const CONNECT: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

impl Families {
    pub(super) fn register(registry: &Registry) -> Self {
        let new = Maker(registry);
        Self {
            build_info: new.gauges("gatepost_build_info", "What is running: always 1.", &["version", "rustc"]),
            connections: new.counters(
                "gatepost_connections_total",
                "Connections by what became of them: accepted, or why they were refused.",
                &["listener", "outcome"],
            ),
            sessions: new.gauges("gatepost_sessions", "Sessions now, by what they are doing.", &["listener", "state"]),
            sessions_limit: new.gauge("gatepost_sessions_limit", "The most sessions there can be at once."),
            draining: new.gauge("gatepost_draining", "1 while the gateway lets its sessions end before it stops."),
            session_duration: new.histograms(
                "gatepost_session_duration_seconds",
                "How long sessions lasted.",
                &["listener"],
                SESSION,
            ),
            tls_handshakes: new.counters(
                "gatepost_tls_handshakes_total",
                "TLS handshakes with clients: full, resumed or failed.",
                &["listener", "version", "outcome"],
            ),
            tls_failures: new.counters(
                "gatepost_tls_failures_total",
                "Failed TLS handshakes by reason.",
                &["listener", "reason"],
            ),
            tls_too_old: new.counters(
                "gatepost_tls_too_old_total",
                "Clients whose best TLS version is too old, by that version.",
                &["listener", "version"],
            ),
            tls_duration: new.histograms(
                "gatepost_tls_handshake_duration_seconds",
                "How long successful TLS handshakes took.",
                &["listener"],
                HANDSHAKE,
            ),
            auth: new.counters(
                "gatepost_auth_total",
                "Logins by mechanism, TLS and outcome.",
                &["listener", "mechanism", "tls", "outcome"],
            ),
            auth_refused: new.counters(
                "gatepost_auth_refused_total",
                "Logins the gateway itself refused, by reason.",
                &["listener", "reason"],
            ),
            auth_duration: new.histograms(
                "gatepost_auth_duration_seconds",
                "How long logins took, without the delay put on failures.",
                &["listener"],
                LOGIN,
            ),
            bytes: new.counters(
                "gatepost_bytes_total",
                "Bytes from (in) and to (out) clients.",
                &["listener", "direction"],
            ),
            messages: new.counters("gatepost_messages_total", "Messages submitted.", &["listener", "outcome"]),
            recipients: new.counters("gatepost_recipients_total", "Recipients of these.", &["listener", "outcome"]),
            backend_up: new.gauges(
                "gatepost_backend_up",
                "Whether a backend server answers.",
                &["backend", "protocol", "server"],
            ),
            backend_connect: new.histograms(
                "gatepost_backend_connect_duration_seconds",
                "How long TCP connections to backends took to make.",
                &["backend", "protocol"],
                CONNECT,
            ),
            backend_errors: new.counters(
                "gatepost_backend_errors_total",
                "Logins and health checks a backend gave no verdict on, by kind.",
                &["backend", "protocol", "kind"],
            ),
            certificate_expiry: new.gauges(
                "gatepost_certificate_expiry_timestamp_seconds",
                "When a served certificate ends.",
                &["name"],
            ),
            bans: new.gauge("gatepost_bans", "Addresses banned now."),
            store_errors: new.counters(
                "gatepost_store_errors_total",
                "Operations the shared store did not answer.",
                &["operation"],
            ),
            log_dropped: new.counter("gatepost_log_dropped_total", "Log lines lost because nobody took them in time."),
            reload_successful: new.gauge(
                "gatepost_config_last_reload_successful",
                "1 if the last configuration that was read is the one that runs.",
            ),
            reload_timestamp: new
                .gauge("gatepost_config_last_reload_timestamp_seconds", "When the running configuration was read."),
        }
    }
}

/// Makes and registers. The names above are valid and distinct, which a test proves by registering them.
struct Maker<'a>(&'a Registry);

const VALID: &str = "the names in this file are valid and distinct";

impl Maker<'_> {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels).expect(VALID))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels).expect(VALID))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::new(name, help).expect(VALID))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::new(name, help).expect(VALID))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.keep(HistogramVec::new(options, labels).expect(VALID))
    }

    fn keep<C: Collector + Clone + 'static>(&self, metric: C) -> C {
        self.0.register(Box::new(metric.clone())).expect(VALID);
        metric
    }
}
