//! Customers who prove by a certificate who they are, and those who cannot.

use crate::backend::Post;
use crate::gateway::{Gateway, Setup};
use crate::mail::{PROTOCOLS, greeting, log_in, service, welcome};
use crate::talk::Talk;
use gatepost::proto::{Protocol, TlsRule};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
/// Where clients meet TLS, from the first octet or behind a command.
const RULES: [TlsRule; 2] = [TlsRule::Implicit, TlsRule::StartTls];

/// Who signs customers' certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a customer has.
type Own = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Customers");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs"))
    }

    /// Signs for a customer, from an hour before `end` on.
    fn sign(&self, address: &str, end: SystemTime) -> Own {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::Rfc822Name(address.try_into().expect("ASCII"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (end - Duration::from_secs(7200)).into();
        params.not_after = end.into();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("signs");
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
    }

    fn good(&self, address: &str) -> Own {
        self.sign(address, SystemTime::now() + Duration::from_secs(3600))
    }
}

/// A gateway that asks so, and who is believed there.
async fn gateway(protocol: Protocol, tls: TlsRule, asked: &str) -> (Gateway, Authority, Post) {
    let (authority, post) = (Authority::new(), Post::serve(protocol).await);
    let gateway = Setup::new()
        .listener(service(protocol), tls, &format!("client_certificate: {asked}"))
        .backend(protocol, post.address)
        .file("clients.pem", &authority.0.pem())
        .with("tls", "client_ca: clients.pem")
        .start()
        .await;
    gateway.has_learned().await;
    (gateway, authority, post)
}

/// A client with this certificate, or none.
fn client(gateway: &Gateway, version: &'static SupportedProtocolVersion, own: Option<&Own>) -> Arc<ClientConfig> {
    let trust = gateway.trust();
    let mut roots = rustls::RootCertStore::empty();
    let root = gatepost::tls::PrivateCa::open(crate::gateway::state_dir()).expect("readable").expect("a CA");
    roots.add(CertificateDer::from(root.root_der().to_vec())).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::clone(trust.crypto_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots);
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            builder.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).expect("a pair")
        }
    })
}

/// Connects, up to the first word under TLS: that is where a client of TLS 1.3 hears that it is not let in.
async fn meet(gateway: &Gateway, protocol: Protocol, tls: TlsRule, config: Arc<ClientConfig>) -> Result<Talk, String> {
    let mut talk = gateway.plain().await;
    if tls == TlsRule::StartTls {
        talk.hear(greeting(protocol)).await;
        let (ask, go) = match protocol {
            Protocol::Imap => ("x STARTTLS", "x OK <*>"),
            Protocol::Pop3 => ("STLS", "+OK <*>"),
            Protocol::Smtp => ("STARTTLS", "220 <*>"),
        };
        if protocol == Protocol::Smtp {
            talk.line("EHLO client").await;
            while talk.next_line().await.expect("a line").starts_with("250-") {}
        }
        talk.line(ask).await;
        talk.hear(go).await;
    }
    let mut talk = talk.start_tls(config).await.map_err(|error| error.to_string())?;
    if tls == TlsRule::Implicit {
        talk.next_line().await?;
    }
    if protocol == Protocol::Smtp {
        talk.line("EHLO client").await;
        while talk.next_line().await?.starts_with("250-") {}
    } else if tls == TlsRule::StartTls {
        talk.line(if protocol == Protocol::Imap { "c NOOP" } else { "CAPA" }).await;
        let end = if protocol == Protocol::Imap { "c OK" } else { "." };
        while !talk.next_line().await?.starts_with(end) {}
    }
    Ok(talk)
}

#[tokio::test]
async fn without_a_certificate_nobody_comes_in_where_one_is_required() {
    for (protocol, tls) in PROTOCOLS.into_iter().flat_map(|protocol| RULES.map(|tls| (protocol, tls))) {
        let (gateway, _authority, post) = gateway(protocol, tls, "require").await;
        for (version, alert) in BOTH.into_iter().zip(["CertificateRequired", "HandshakeFailure"]) {
            let said = meet(&gateway, protocol, tls, client(&gateway, version, None)).await.err().expect("refused");
            assert!(said.contains(alert), "{protocol:?} {tls:?} {version:?}: {said}");
            let event = gateway.event("tls.failed", "reason=no_client_certificate").await;
            assert!(event["detail"].as_str().is_some_and(|detail| detail.contains("no certificate")), "{event}");
        }
        assert_eq!(gateway.metric("gatepost_tls_failures_total{"), 2.0, "{}", gateway.rendered());
        assert_eq!(post.logins(), 0);
    }
}

#[tokio::test]
async fn who_shows_a_good_one_is_known_by_its_name_and_logs_in_as_ever() {
    for (protocol, tls) in PROTOCOLS.into_iter().flat_map(|protocol| RULES.map(|tls| (protocol, tls))) {
        for asked in ["require", "request"] {
            let (gateway, authority, _post) = gateway(protocol, tls, asked).await;
            let own = authority.good("Joe@example.net");
            for version in BOTH {
                let mut talk = meet(&gateway, protocol, tls, client(&gateway, version, Some(&own))).await.expect("in");
                log_in(&mut talk, protocol, "secret").await;
                talk.hear(welcome(protocol)).await;
                talk.end().await;
                for kind in ["auth.ok", "session.closed"] {
                    let event = gateway.event(kind, "user=joe").await;
                    let seen = &event["tls"]["client"];
                    assert_eq!(seen["name"], "Joe@example.net", "{event}");
                    assert_eq!(seen["sha256"].as_str().map(str::len), Some(95), "{event}");
                    assert_eq!(event["tls"]["resumed"], false);
                }
            }
        }
    }
}

#[tokio::test]
async fn who_has_none_is_served_where_one_is_requested_and_a_name_is_no_login() {
    for protocol in PROTOCOLS {
        let (gateway, authority, _post) = gateway(protocol, TlsRule::Implicit, "request").await;
        let mut talk = meet(&gateway, protocol, TlsRule::Implicit, client(&gateway, &TLS13, None)).await.expect("in");
        log_in(&mut talk, protocol, "secret").await;
        talk.hear(welcome(protocol)).await;
        let event = gateway.event("auth.ok", "user=joe").await;
        assert!(event["tls"].get("client").is_none(), "{event}");

        let own = authority.good("joe@example.net");
        let mut talk =
            meet(&gateway, protocol, TlsRule::Implicit, client(&gateway, &TLS13, Some(&own))).await.expect("in");
        let (asked, refused) = match protocol {
            Protocol::Imap => ("a AUTHENTICATE EXTERNAL =", "a NO [CANNOT] <*>"),
            Protocol::Pop3 => ("AUTH EXTERNAL =", "-ERR <*>"),
            Protocol::Smtp => ("AUTH EXTERNAL =", "504 5.5.4 <*>"),
        };
        talk.line(asked).await;
        talk.hear(refused).await;
        log_in(&mut talk, protocol, "wrong").await;
        let event = gateway.event("auth.failed", "user=joe").await;
        assert_eq!(event["tls"]["client"]["name"], "joe@example.net", "{event}");
    }
}

#[tokio::test]
async fn a_bad_one_is_refused_also_where_none_would_do() {
    for (tls, asked) in RULES.into_iter().flat_map(|tls| ["request", "require"].map(|asked| (tls, asked))) {
        let (gateway, authority, _post) = gateway(Protocol::Imap, tls, asked).await;
        let expired = authority.sign("joe@example.net", SystemTime::now() - Duration::from_secs(60));
        let foreign = Authority::new().good("joe@example.net");
        for version in BOTH {
            // Both CAs have the same name, so that the program shows what it has.
            for (own, alert, words) in
                [(&expired, "CertificateExpired", "expired"), (&foreign, "UnknownCA", "signed by")]
            {
                let config = client(&gateway, version, Some(own));
                let said = meet(&gateway, Protocol::Imap, tls, config).await.err().expect(words);
                assert!(said.contains(alert), "{said}");
                let event = gateway.event("tls.failed", "reason=client_certificate").await;
                let detail = event["detail"].as_str().unwrap_or_default().to_owned();
                assert!(detail.contains(words) && !detail.contains("joe@"), "{event}");
            }
        }
    }
}

#[tokio::test]
async fn a_route_leads_whom_a_certificate_names() {
    for (protocol, tls) in PROTOCOLS.into_iter().flat_map(|protocol| RULES.map(|tls| (protocol, tls))) {
        let (main, staff) = (Post::serve(protocol).await, Post::serve(protocol).await);
        let authority = Authority::new();
        let gateway = Setup::new()
            .listener(service(protocol), tls, "client_certificate: request")
            .backend(protocol, main.address)
            .other_backend("staff", protocol, staff.address)
            .route("client_certificate: \"*@staff.example.net\", backend: staff")
            .route("client_certificate: \"*\", user: nobody, backend: staff")
            .file("clients.pem", &authority.0.pem())
            .with("tls", "client_ca: clients.pem")
            .start()
            .await;
        gateway.event("backend.up", "backend=main").await;
        gateway.event("backend.up", "backend=staff").await;
        let (joe, ann) = (authority.good("joe@Staff.example.net"), authority.good("ann@example.net"));
        for (own, backend) in [(Some(&joe), "staff"), (Some(&ann), "main"), (None, "main")] {
            let mut talk = meet(&gateway, protocol, tls, client(&gateway, &TLS13, own)).await.expect("in");
            log_in(&mut talk, protocol, "secret").await;
            talk.hear(welcome(protocol)).await;
            gateway.event("auth.ok", &format!("backend={backend}")).await;
        }
        assert_eq!((main.logins(), staff.logins()), (2, 1), "{protocol:?} {tls:?}");
    }
}

#[tokio::test]
async fn what_is_no_mail_asks_for_one_as_well_and_is_led_by_it() {
    let authority = Authority::new();
    let mut setup = Setup::new()
        .tunnel("implicit", "client_certificate: require")
        .route("protocol: tcp, client_certificate: \"*@staff.example.net\", backend: staff")
        .file("clients.pem", &authority.0.pem())
        .with("tls", "client_ca: clients.pem");
    for word in ["main", "staff"] {
        let server = crate::tunnels::saying(word).await;
        setup = if word == "main" { setup.server("tcp", server) } else { setup.other_server(word, "tcp", server) };
    }
    let gateway = setup.start().await;
    let (joe, ann) = (authority.good("joe@staff.example.net"), authority.good("ann@example.net"));
    for (own, word) in [(&joe, "staff"), (&ann, "main")] {
        let talk = gateway.plain().await.start_tls(client(&gateway, &TLS13, Some(own))).await;
        assert_eq!(talk.expect("a handshake").rest().await.as_deref(), Ok(word.as_bytes()));
        let event = gateway.event("session.closed", &format!("backend={word} reason=backend_closed")).await;
        assert!(event["tls"]["client"]["name"].is_string(), "{event}");
    }
    let stranger = gateway.plain().await.start_tls(client(&gateway, &TLS12, None)).await;
    assert!(stranger.err().is_some_and(|alert| alert.to_string().contains("HandshakeFailure")));
    gateway.event("tls.failed", "reason=no_client_certificate").await;
}

#[tokio::test]
async fn a_service_of_nginx_is_told_whether_there_was_one() {
    let (main, authority) = (Post::serve(Protocol::Imap).await, Authority::new());
    let (ip, port) = (main.address.ip(), main.address.port());
    let (asked, mut requests) = crate::routes::auth_http(move |_| {
        format!("HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: {ip}\r\nAuth-Port: {port}\r\n\r\n")
    })
    .await;
    let setup = Setup::one(service(Protocol::Imap), TlsRule::Implicit, main.address);
    let mut setup = setup.route(&format!("auth_http: \"http://{asked}/\""));
    setup.set_listener("client_certificate: request");
    let gateway = setup.file("clients.pem", &authority.0.pem()).with("tls", "client_ca: clients.pem").start().await;
    gateway.has_learned().await;
    let joe = authority.good("joe@example.net");
    for (own, verify) in [(Some(&joe), "SUCCESS"), (None, "NONE")] {
        let config = client(&gateway, &TLS13, own);
        let mut talk = meet(&gateway, Protocol::Imap, TlsRule::Implicit, config).await.expect("in");
        log_in(&mut talk, Protocol::Imap, "secret").await;
        talk.hear(welcome(Protocol::Imap)).await;
        let request = requests.recv().await.expect("a request");
        assert!(request.contains(&format!("\r\nAuth-SSL-Verify: {verify}\r\n")), "{request}");
    }
}

#[tokio::test]
async fn another_ca_is_believed_after_a_reload_and_a_broken_file_leaves_the_old_one() {
    let (gateway, authority, _post) = gateway(Protocol::Imap, TlsRule::Implicit, "require").await;
    let other = Authority::new();
    let (joe, ann) = (authority.good("joe@example.net"), other.good("ann@example.net"));
    let comes_in = async |own: &Own| {
        meet(&gateway, Protocol::Imap, TlsRule::Implicit, client(&gateway, &TLS13, Some(own))).await.is_ok()
    };
    assert!(comes_in(&joe).await && !comes_in(&ann).await);

    std::fs::write(gateway.file("clients.pem"), other.0.pem()).expect("a file of ours");
    gateway.reload().await.expect("good");
    let told = gateway.left("certificate.loaded").await;
    assert!(told.iter().any(|event| event["detail"].as_str().is_some_and(|said| said.contains("clients.pem"))));
    assert!(!comes_in(&joe).await && comes_in(&ann).await);

    std::fs::write(gateway.file("clients.pem"), "-----BEGIN CERTIFICATE-----\nMIIB\n").expect("a file of ours");
    let refused = gateway.reload().await.expect_err("broken");
    assert!(refused.contains("tls.client_ca") && refused.contains("clients.pem"), "{refused}");
    assert!(!comes_in(&joe).await && comes_in(&ann).await);
}
