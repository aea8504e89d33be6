use super::*;
use crate::observe::event::{SessionId, TlsFacts};
use crate::proto::Mechanism;

fn login(kind: Kind, reason: Option<&str>) -> Event {
    let mut event = Event::new(kind);
    event.session = Some(SessionId(1));
    event.listener = Some("imaps".into());
    event.protocol = Some(Service::Imap.into());
    event.mechanism = Some(Mechanism::PLAIN);
    event.backend = Some("main".into());
    event.reason = reason.map(Into::into);
    event.duration = Some(Duration::from_millis(30));
    event
}

fn tls13() -> TlsFacts {
    let cipher = "TLS13_AES_128_GCM_SHA256";
    TlsFacts { version: "1.3", cipher, group: None, sni: None, alpn: None, resumed: false, client: None }
}

#[test]
fn every_metric_of_the_contract_is_there() {
    let metrics = Metrics::new();
    metrics.listener("imaps");
    metrics.backend("main", Protocol::Imap);
    metrics.certificate_expiry("mail.example.net", UNIX_EPOCH + Duration::from_secs(2_000_000_000));
    metrics.store_error("take");
    let mut up = login(Kind::BackendUp, None);
    up.server = Some("10.0.0.5:143".into());
    metrics.count(&up);
    metrics.count(&{
        let mut failed = login(Kind::TlsFailed, Some("no_shared_cipher"));
        failed.session = None;
        failed
    });
    let text = metrics.render();
    for series in [
        "gatepost_build_info{rustc=\"1.",
        "gatepost_connections_total{listener=\"imaps\",outcome=\"accepted\"} 0",
        "gatepost_connections_total{listener=\"imaps\",outcome=\"banned\"} 0",
        "gatepost_sessions{listener=\"imaps\",state=\"handshake\"} 0",
        "gatepost_sessions{listener=\"imaps\",state=\"login\"} 0",
        "gatepost_sessions{listener=\"imaps\",state=\"relay\"} 0",
        "gatepost_sessions_limit 0",
        "gatepost_draining 0",
        "gatepost_session_duration_seconds_bucket{listener=\"imaps\",le=\"1\"} 0",
        "gatepost_session_duration_seconds_bucket{listener=\"imaps\",le=\"43200\"} 0",
        "gatepost_tls_handshakes_total{listener=\"imaps\",outcome=\"full\",version=\"1.3\"} 0",
        "gatepost_tls_handshakes_total{listener=\"imaps\",outcome=\"failed\",version=\"none\"} 1",
        "gatepost_tls_failures_total{listener=\"imaps\",reason=\"no_shared_cipher\"} 1",
        "gatepost_tls_too_old_total{listener=\"imaps\",version=\"1.0\"} 0",
        "gatepost_tls_handshake_duration_seconds_count{listener=\"imaps\"} 0",
        "gatepost_auth_total{listener=\"imaps\",mechanism=\"PLAIN\",outcome=\"ok\",tls=\"yes\"} 0",
        "gatepost_auth_refused_total{listener=\"imaps\",reason=\"tls_required\"} 0",
        "gatepost_auth_duration_seconds_count{listener=\"imaps\"} 0",
        "gatepost_bytes_total{direction=\"in\",listener=\"imaps\"} 0",
        "gatepost_messages_total{listener=\"imaps\",outcome=\"accepted\"} 0",
        "gatepost_recipients_total{listener=\"imaps\",outcome=\"refused\"} 0",
        "gatepost_backend_up{backend=\"main\",protocol=\"imap\",server=\"10.0.0.5:143\"} 1",
        "gatepost_backend_connect_duration_seconds_count{backend=\"main\",protocol=\"imap\"} 0",
        "gatepost_backend_errors_total{backend=\"main\",kind=\"timeout\",protocol=\"imap\"} 0",
        "gatepost_certificate_expiry_timestamp_seconds{name=\"mail.example.net\"} 2000000000",
        "gatepost_bans 0",
        "gatepost_store_errors_total{operation=\"take\"} 1",
        "gatepost_log_dropped_total 0",
        "gatepost_config_last_reload_successful 1",
        "gatepost_config_last_reload_timestamp_seconds ",
        "process_open_fds ",
        "process_resident_memory_bytes ",
        "process_start_time_seconds ",
    ] {
        assert!(text.contains(series), "{series} is not in\n{text}");
    }
}

#[test]
fn a_login_is_counted_once_by_what_became_of_it() {
    let metrics = Metrics::new();
    let mut ok = login(Kind::AuthOk, None);
    ok.tls = Some(Arc::new(tls13()));
    metrics.count(&ok);
    metrics.count(&login(Kind::AuthRefused, Some("tls_required")));
    metrics.count(&login(Kind::AuthError, Some("backend_timeout")));
    let mut strange = login(Kind::AuthFailed, Some("bad_credentials"));
    strange.mechanism = Mechanism::parse(b"X-CLIENT-CHOSE-THIS");
    metrics.count(&strange);
    let text = metrics.render();
    for series in [
        "gatepost_auth_total{listener=\"imaps\",mechanism=\"PLAIN\",outcome=\"ok\",tls=\"yes\"} 1",
        "gatepost_auth_total{listener=\"imaps\",mechanism=\"PLAIN\",outcome=\"refused\",tls=\"no\"} 1",
        "gatepost_auth_total{listener=\"imaps\",mechanism=\"PLAIN\",outcome=\"error\",tls=\"no\"} 1",
        "gatepost_auth_total{listener=\"imaps\",mechanism=\"other\",outcome=\"failed\",tls=\"no\"} 1",
        "gatepost_auth_refused_total{listener=\"imaps\",reason=\"tls_required\"} 1",
        "gatepost_backend_errors_total{backend=\"main\",kind=\"timeout\",protocol=\"imap\"} 1",
        "gatepost_auth_duration_seconds_count{listener=\"imaps\"} 4",
    ] {
        assert!(text.contains(series), "{series} is not in\n{text}");
    }
    assert!(!text.contains("CHOSE"));
}

#[test]
fn a_label_cannot_grow_without_bound() {
    let metrics = Metrics::new();
    for n in 0..1000 {
        metrics.count(&login(Kind::ConnectionRefused, Some(&format!("reason_{n}"))));
    }
    metrics.count(&login(Kind::ConnectionRefused, Some("Not a word\n")));
    let series = metrics.render().lines().filter(|line| line.starts_with("gatepost_connections_total{")).count();
    assert!(series <= MAX_REASONS + 7, "{series}");
}

#[test]
fn a_session_stands_in_one_state_and_leaves_none_behind() {
    let metrics = Metrics::new();
    let listener = metrics.listener("imaps");
    let count = |state: &str| {
        let wanted = format!("gatepost_sessions{{listener=\"imaps\",state=\"{state}\"}} ");
        let text = metrics.render();
        text.lines().find_map(|line| line.strip_prefix(&wanted)).and_then(|n| n.parse::<i64>().ok())
    };
    let mut place = listener.session(SessionState::Handshake);
    assert_eq!((count("handshake"), count("login")), (Some(1), Some(0)));
    place.enter(SessionState::Login);
    place.enter(SessionState::Relay);
    assert_eq!((count("handshake"), count("login"), count("relay")), (Some(0), Some(0), Some(1)));
    drop(place);
    assert_eq!(count("relay"), Some(0));
}

#[test]
fn a_refused_configuration_shows_and_the_next_good_one_mends_it() {
    let metrics = Metrics::new();
    metrics.count(&Event::new(Kind::ConfigRefused));
    assert!(metrics.render().contains("gatepost_config_last_reload_successful 0"));
    metrics.count(&Event::new(Kind::ConfigReloaded));
    assert!(metrics.render().contains("gatepost_config_last_reload_successful 1"));
}
