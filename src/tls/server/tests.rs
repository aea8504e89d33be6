mod asking;

use super::super::testing::{Authority, ca_params, identity, key};
use super::super::{Certificates, Facts, Identity, failure_reason, provider};
use super::*;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, RootCertStore, ServerConnection, SignatureScheme,
};

#[test]
fn a_modern_client_gets_tls_1_3_with_a_post_quantum_key_exchange() {
    let world = World::new();
    let facts = world.connect(&world.tls.config(Alpn::Imap), &world.client(), "mail.example.net").expect("a handshake");
    assert_eq!(
        facts,
        Facts {
            version: "1.3",
            cipher: "TLS_AES_256_GCM_SHA384",
            group: Some("X25519MLKEM768"),
            sni: Some("mail.example.net".to_owned()),
            alpn: None,
            resumed: false,
            client: None,
        }
    );
}

#[test]
fn a_client_without_the_post_quantum_exchange_is_served_too() {
    let world = World::new();
    let mut classic = (*provider()).clone();
    classic.kx_groups.retain(|group| group.name() == rustls::NamedGroup::X25519);
    let client = world.client_with(classic, &[&TLS13, &TLS12]);
    let facts = world.connect(&world.tls.config(Alpn::Imap), &client, "mail.example.net").expect("a handshake");
    assert_eq!(facts.group, Some("x25519"));
}

#[test]
fn tls_1_2_is_served_unless_the_settings_say_otherwise() {
    let world = World::new();
    let old = world.client_with((*provider()).clone(), &[&TLS12]);
    let facts = world.connect(&world.tls.config(Alpn::Pop3), &old, "mail.example.net").expect("a handshake");
    assert_eq!((facts.version, facts.cipher), ("1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"));

    let strict = Settings { min_version: MinVersion::Tls13, ..Settings::default() };
    let tls = world.tls.with_settings(strict).expect("a configuration");
    let failure = world.connect(&tls.config(Alpn::Pop3), &old, "mail.example.net").expect_err("too old");
    assert_eq!(failure.client, Error::AlertReceived(AlertDescription::ProtocolVersion));
    assert_eq!(failure_reason(&failure.server), "no_common_version");
    world.connect(&tls.config(Alpn::Pop3), &world.client(), "mail.example.net").expect("TLS 1.3 is welcome");
}

#[test]
fn a_client_that_names_only_other_protocols_is_refused_with_alert_120() {
    let world = World::new();
    for (ours, theirs, agreed) in [
        (Alpn::Imap, vec!["imap"], Some(Some("imap"))),
        (Alpn::Pop3, vec!["h2", "pop3"], Some(Some("pop3"))),
        (Alpn::Smtp, vec!["smtp"], Some(Some("smtp"))),
        (Alpn::Http, vec!["h2", "http/1.1"], Some(Some("http/1.1"))),
        (Alpn::Imap, vec![], Some(None)),
        (Alpn::Unnamed, vec!["h2"], Some(None)),
        (Alpn::Imap, vec!["http/1.1"], None),
        (Alpn::Imap, vec!["pop3"], None),
        (Alpn::Smtp, vec!["imap", "pop3"], None),
    ] {
        for versions in [[&TLS13].as_slice(), &[&TLS12]] {
            let mut client = world.client_with((*provider()).clone(), versions);
            client.alpn_protocols = theirs.iter().map(|name| name.as_bytes().to_vec()).collect();
            // A client of rustls insists on an answer to its ALPN, where RFC 7301 lets the server be silent.
            client.check_selected_alpn = false;
            let outcome = world.connect(&world.tls.config(ours), &client, "mail.example.net");
            match (outcome, agreed) {
                (Ok(facts), Some(agreed)) => assert_eq!(facts.alpn.as_deref(), agreed, "{ours:?} {theirs:?}"),
                (Err(failure), None) => {
                    assert_eq!(failure.client, Error::AlertReceived(AlertDescription::NoApplicationProtocol));
                    assert_eq!(u8::from(AlertDescription::NoApplicationProtocol), 120);
                    assert_eq!(failure_reason(&failure.server), "no_alpn");
                }
                (outcome, _) => panic!("{ours:?} {theirs:?}: {outcome:?}"),
            }
        }
    }
}

#[test]
fn sessions_are_resumed_in_both_versions_and_across_protocols() {
    let world = World::new();
    for (versions, group) in [([&TLS13].as_slice(), Some("X25519MLKEM768")), (&[&TLS12], None)] {
        let client = world.client_with((*provider()).clone(), versions);
        let first = world.connect(&world.tls.config(Alpn::Imap), &client, "mail.example.net").expect("a handshake");
        assert!(!first.resumed);
        let second = world.connect(&world.tls.config(Alpn::Smtp), &client, "mail.example.net").expect("a handshake");
        assert!(second.resumed);
        assert_eq!(second.group, group);
        assert_eq!(second.sni.as_deref(), Some("mail.example.net"));
    }
}

#[test]
fn a_resumed_session_is_held_to_the_alpn_of_where_it_is_used() {
    let world = World::new();
    for versions in [[&TLS13].as_slice(), &[&TLS12]] {
        let mut client = world.client_with((*provider()).clone(), versions);
        client.alpn_protocols = vec![b"imap".to_vec()];
        world.connect(&world.tls.config(Alpn::Imap), &client, "mail.example.net").expect("a handshake");
        let failure = world.connect(&world.tls.config(Alpn::Pop3), &client, "mail.example.net").expect_err("imap");
        assert_eq!(failure.client, Error::AlertReceived(AlertDescription::NoApplicationProtocol));
    }
}

#[test]
fn without_tickets_no_session_is_resumed() {
    let world = World::new();
    let off = Settings { session_tickets: false, ..Settings::default() };
    let tls = world.tls.with_settings(off).expect("a configuration");
    for versions in [[&TLS13].as_slice(), &[&TLS12]] {
        let client = world.client_with((*provider()).clone(), versions);
        for _ in 0..2 {
            let facts = world.connect(&tls.config(Alpn::Imap), &client, "mail.example.net").expect("a handshake");
            assert!(!facts.resumed);
        }
    }
}

#[test]
fn other_settings_keep_the_ticket_keys_and_the_certificates() {
    let world = World::new();
    let client = world.client();
    world.connect(&world.tls.config(Alpn::Imap), &client, "mail.example.net").expect("a handshake");
    let strict = Settings { min_version: MinVersion::Tls13, ..Settings::default() };
    let tls = world.tls.with_settings(strict).expect("a configuration");
    assert_eq!(tls.settings(), strict);
    let facts = world.connect(&tls.config(Alpn::Imap), &client, "mail.example.net").expect("a handshake");
    assert!(facts.resumed);

    let renewed = identity(&world.ca.leaf(&["mail.example.net"]));
    tls.replace(Certificates::new(vec![Arc::clone(&renewed)]).expect("one"));
    assert!(Arc::ptr_eq(&world.tls.certificates().identities()[0], &renewed), "one set under both");
}

#[test]
fn no_early_data_is_ever_offered() {
    let world = World::new();
    let mut client = world.client();
    client.enable_early_data = true;
    let config = world.tls.config(Alpn::Imap);
    world.connect(&config, &client, "mail.example.net").expect("a handshake");
    let mut again =
        ClientConnection::new(Arc::new(client), "mail.example.net".try_into().expect("a name")).expect("starts");
    assert!(again.early_data().is_none());
}

#[test]
fn a_client_that_knows_rsa_alone_gets_the_rsa_certificate() {
    let world = World::new();
    let (ecdsa, rsa) = (world.ca.leaf(&["mail.example.net"]), world.ca.rsa_leaf(&["mail.example.net"]));
    world.tls.replace(Certificates::new(vec![identity(&ecdsa), identity(&rsa)]).expect("two"));
    for versions in [[&TLS13].as_slice(), &[&TLS12]] {
        let both = world.client_with((*provider()).clone(), versions);
        let facts = world.connect(&world.tls.config(Alpn::Imap), &both, "mail.example.net").expect("a handshake");
        assert!(!facts.cipher.contains("RSA"), "{}", facts.cipher);

        // The chain above is ECDSA, so this client trusts what it is shown, whatever that is.
        let mut rsa_alone = world.client_with((*provider()).clone(), versions);
        let shown = Shown::to(&[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256]);
        rsa_alone.dangerous().set_certificate_verifier(Arc::clone(&shown) as Arc<_>);
        world.connect(&world.tls.config(Alpn::Imap), &rsa_alone, "mail.example.net").expect("a handshake");
        let expected = identity(&rsa).chain()[0].to_vec();
        assert_eq!(*shown.certificate.lock().expect("not poisoned"), expected);
    }
}

#[test]
fn a_new_certificate_is_shown_from_the_next_handshake_on() {
    let world = World::new();
    let config = world.tls.config(Alpn::Imap);
    let mut client = world.client();
    client.resumption = Resumption::disabled();
    let (mut open, mut server) =
        (world.start(&client, "mail.example.net"), ServerConnection::new(Arc::clone(&config)).expect("starts"));
    drive(&mut open, &mut server).expect("a handshake");

    let renewed = identity(&world.ca.leaf(&["mail.example.net"]));
    world.tls.replace(Certificates::new(vec![Arc::clone(&renewed)]).expect("one"));
    let (mut next, mut next_server) =
        (world.start(&client, "mail.example.net"), ServerConnection::new(config).expect("starts"));
    drive(&mut next, &mut next_server).expect("a handshake");
    assert_eq!(next.peer_certificates(), Some(renewed.chain()), "through a configuration handed out before");
    assert_ne!(open.peer_certificates(), next.peer_certificates());

    use std::io::{Read, Write};
    open.writer().write_all(b"still here").expect("takes it");
    drive(&mut open, &mut server).expect("goes on");
    let mut heard = [0; 10];
    server.reader().read_exact(&mut heard).expect("the open session was not touched");
    assert_eq!(&heard, b"still here");
}

#[test]
fn names_nobody_has_and_no_name_get_the_first_certificate() {
    let world = World::new();
    for name in ["elsewhere.example", "192.0.2.99"] {
        let mut client = world.client();
        let shown = Shown::to(&[SignatureScheme::ECDSA_NISTP256_SHA256]);
        client.dangerous().set_certificate_verifier(Arc::clone(&shown) as Arc<_>);
        let facts = world.connect(&world.tls.config(Alpn::Imap), &client, name).expect("a handshake");
        assert_eq!(facts.sni.as_deref(), name.parse::<std::net::IpAddr>().is_err().then_some(name));
        assert_eq!(*shown.certificate.lock().expect("not poisoned"), world.first.chain()[0].to_vec());
    }
}

/// What somebody may put where the SNI belongs. An address counts as none; what is no name is refused with an alert.
#[test]
fn a_name_that_is_none_is_refused_with_an_alert_and_not_a_crash() {
    let world = World::new();
    let client = world.client();
    let mut hello = Vec::new();
    world.start(&client, "xxxxxxxxxxxxxxxx").write_tls(&mut hello).expect("writes");
    let place = memchr::memmem::find(&hello, b"xxxxxxxxxxxxxxxx").expect("the name is in the clear");
    for (name, refused) in [
        (b"mail\0example.net", true),
        (b"m\xc3\xa4il.example.ne", true),
        (b"mail example.net", true),
        (b"................", true),
        (b"MAIL.Example.NET", false),
        (b"mail.example.ne.", false),
        (b"2001:db8:0:1::10", false),
    ] {
        hello[place..place + 16].copy_from_slice(name);
        let mut server = ServerConnection::new(world.tls.config(Alpn::Imap)).expect("starts");
        server.read_tls(&mut hello.as_slice()).expect("reads");
        match server.process_new_packets() {
            Ok(_) => assert!(!refused, "{}", name.escape_ascii()),
            Err(error) => {
                assert!(refused, "{}: {error}", name.escape_ascii());
                assert_eq!(failure_reason(&error), "bad_sni");
                assert!(server.wants_write(), "an alert");
            }
        }
    }
}

#[test]
fn bytes_that_are_not_tls_are_called_that() {
    let world = World::new();
    for bytes in [b"a001 LOGIN user password\r\n".as_slice(), b"GET / HTTP/1.1\r\n\r\n", b"EHLO client.example\r\n"] {
        let mut server = ServerConnection::new(world.tls.config(Alpn::Imap)).expect("starts");
        server.read_tls(&mut &bytes[..]).expect("reads");
        let error = server.process_new_packets().expect_err("not TLS");
        assert_eq!(failure_reason(&error), "not_tls", "{error:?}");
    }
}

#[test]
fn a_client_that_does_not_trust_us_is_counted_as_that() {
    let world = World::new();
    let mut roots = RootCertStore::empty();
    let other = ca_params("Other Root").self_signed(&key()).expect("signs");
    roots.add(other.der().clone()).expect("a root");
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let failure = world.connect(&world.tls.config(Alpn::Imap), &client, "mail.example.net").expect_err("unknown CA");
    assert_eq!(failure_reason(&failure.server), "certificate_rejected", "{failure:?}");
}

struct World {
    ca: Authority,
    first: Arc<Identity>,
    tls: ServerTls,
}

#[derive(Debug)]
struct Failure {
    client: Error,
    server: Error,
}

impl World {
    fn new() -> Self {
        let ca = Authority::new();
        let first = identity(&ca.leaf(&["mail.example.net"]));
        let certificates = Certificates::new(vec![Arc::clone(&first)]).expect("one");
        let tls = ServerTls::new(Settings::default(), certificates).expect("a configuration");
        Self { ca, first, tls }
    }

    fn client(&self) -> ClientConfig {
        self.client_with((*provider()).clone(), &[&TLS13, &TLS12])
    }

    fn client_with(&self, provider: CryptoProvider, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.root.der().clone()).expect("a root");
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    fn start(&self, client: &ClientConfig, name: &str) -> ClientConnection {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        ClientConnection::new(Arc::new(client.clone()), name).expect("starts")
    }

    /// Shakes hands in memory, tickets included.
    fn connect(&self, server: &Arc<ServerConfig>, client: &ClientConfig, name: &str) -> Result<Facts, Box<Failure>> {
        let mut client = self.start(client, name);
        let mut server = ServerConnection::new(Arc::clone(server)).expect("starts");
        let (outcome, name) = hearing_the_name(|| drive(&mut client, &mut server));
        outcome.map(|()| Facts::of(&server, name))
    }
}

fn drive(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), Box<Failure>> {
    let (mut client_error, mut server_error) = (None, None);
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("writes");
        }
        while !wire.is_empty() && server_error.is_none() {
            let taken = server.read_tls(&mut wire.as_slice()).expect("reads");
            wire.drain(..taken);
            server_error = server.process_new_packets().err();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("writes");
        }
        while !wire.is_empty() && client_error.is_none() {
            let taken = client.read_tls(&mut wire.as_slice()).expect("reads");
            wire.drain(..taken);
            client_error = client.process_new_packets().err();
        }
    }
    match (client_error, server_error) {
        (None, None) => Ok(()),
        (client, server) => Err(Box::new(Failure {
            client: client.unwrap_or(Error::HandshakeNotComplete),
            server: server.unwrap_or(Error::HandshakeNotComplete),
        })),
    }
}

/// A client that takes any certificate whose key signs in one of these ways, and remembers it.
#[derive(Debug)]
struct Shown {
    schemes: Vec<SignatureScheme>,
    certificate: std::sync::Mutex<Vec<u8>>,
}

impl Shown {
    fn to(schemes: &[SignatureScheme]) -> Arc<Self> {
        Arc::new(Self { schemes: schemes.to_vec(), certificate: std::sync::Mutex::default() })
    }
}

impl rustls::client::danger::ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        end_entity: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, Error> {
        *self.certificate.lock().expect("not poisoned") = end_entity.to_vec();
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
