use super::*;
use crate::tls::{Alpn, Certificates, PrivateCa, ServerTls, Settings, provider};
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, RootCertStore, SupportedCipherSuite,
    SupportedProtocolVersion,
};
use std::io::Read;
use std::time::SystemTime;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

#[test]
fn nothing_is_asked_of_the_library_after_a_fault() {
    for version in VERSIONS {
        // rustls has no alert for text between two halves of a message.
        for (fault, has_alert) in [(text as fn(&mut Sealer) -> Vec<u8>, false), (broken_record, true)] {
            let (mut server, client) = shaken(version);
            let mut sealer = Sealer::of(client);
            let mut incoming = sealer.seal(ContentType::Handshake, &[0]);
            incoming.extend(fault(&mut sealer));
            let came = server.drive(&mut incoming, Then::Wait);
            assert!(matches!(came.outcome, Err(Fault::Client(_))), "{:?}", came.outcome);
            assert_eq!(!came.out.is_empty(), has_alert);

            // What came is gone by then, as it is for a session that only writes its last words.
            for then in [Then::Write(b"* BYE\r\n"), Then::Wait] {
                let came = server.drive(&mut [], then);
                assert!(matches!(came.outcome, Err(Fault::Over)), "{:?}", came.outcome);
                assert!(came.out.is_empty(), "nothing is said any more");
                let came = server.drive(&mut [], Then::Close);
                assert!(came.outcome.expect("nothing to say").done);
                assert!(came.out.is_empty(), "nothing is said any more");
            }
            // Nor is what still comes looked at.
            let came = server.drive(&mut sealer.text(b"a NOOP\r\n"), Then::Wait);
            assert!(matches!(came.outcome, Err(Fault::Over)), "{:?}", came.outcome);
            assert!(came.text.is_empty());
        }
    }
}

#[test]
fn a_fault_is_found_too_where_half_a_message_was_kept_from_before() {
    for version in VERSIONS {
        let (mut server, client) = shaken(version);
        let mut sealer = Sealer::of(client);
        let mut incoming = sealer.seal(ContentType::Handshake, &[0]);
        let driven = server.drive(&mut incoming, Then::Wait).outcome.expect("half a message");
        incoming.drain(..driven.used);
        incoming.extend(sealer.text(b"a NOOP\r\n"));
        let came = server.drive(&mut incoming, Then::Wait);
        assert!(matches!(came.outcome, Err(Fault::Client(_))), "{:?}", came.outcome);
        assert!(server.drive(&mut [], Then::Close).outcome.expect("nothing to say").done);
    }
}

#[test]
fn what_was_said_before_a_fault_is_heard() {
    for version in VERSIONS {
        let (mut server, client) = shaken(version);
        let mut sealer = Sealer::of(client);
        let mut incoming = sealer.text(b"a LOGOUT\r\n");
        incoming.extend(sealer.seal(ContentType::Handshake, &[0]));
        incoming.extend(sealer.text(b"b NOOP\r\n"));
        let came = server.drive(&mut incoming, Then::Wait);
        assert!(matches!(came.outcome, Err(Fault::Client(_))), "{:?}", came.outcome);
        assert_eq!(came.text, [b"a LOGOUT\r\n"]);
    }
}

#[test]
fn a_reader_that_has_enough_is_given_the_rest_later() {
    for version in VERSIONS {
        let (mut server, client) = shaken(version);
        let mut sealer = Sealer::of(client);
        let mut incoming = sealer.text(b"first");
        let first = incoming.len();
        incoming.extend(sealer.text(b"second"));

        server.has_enough = true;
        let came = server.drive(&mut incoming, Then::Write(b"not yet"));
        let driven = came.outcome.expect("good records");
        assert_eq!((driven.used, driven.stopped, driven.done), (first, true, false));
        assert_eq!((came.text, came.out), (vec![b"first".to_vec()], Vec::new()));

        server.has_enough = false;
        let came = server.drive(&mut incoming[first..], Then::Wait);
        let driven = came.outcome.expect("a good record");
        assert_eq!((driven.used, driven.stopped, driven.done), (incoming.len() - first, false, true));
        assert_eq!(came.text, [b"second"]);
    }
}

#[test]
fn what_is_written_is_read_by_the_client() {
    for version in VERSIONS {
        let (mut server, mut client) = shaken(version);
        let words: Vec<u8> = (0..100_000).map(|at| b"0123456789abcde\n"[at % 16]).collect();
        let came = server.drive(&mut [], Then::Write(&words));
        assert!(came.outcome.expect("room").done);
        assert!((words.len()..=Outgoing::room_for(words.len())).contains(&came.out.len()), "{}", came.out.len());
        assert!(hear(&mut client, &came.out) == (words, false), "the same words, and no end");

        let came = server.drive(&mut [], Then::Close);
        assert!(came.outcome.expect("room").done);
        assert_eq!(hear(&mut client, &came.out), (Vec::new(), true));
    }
}

fn text(sealer: &mut Sealer) -> Vec<u8> {
    sealer.text(b"a NOOP\r\n")
}

/// What nobody with the keys wrote.
fn broken_record(sealer: &mut Sealer) -> Vec<u8> {
    let mut record = sealer.seal(ContentType::Handshake, &[0, 0]);
    *record.last_mut().expect("a tag") ^= 1;
    record
}

/// The side under test.
struct Server {
    records: Records,
    /// The reader takes one record at a time.
    has_enough: bool,
}

/// What came of one call.
struct Came {
    outcome: Result<Driven, Fault>,
    out: Vec<u8>,
    text: Vec<Vec<u8>>,
}

impl Server {
    fn drive(&mut self, incoming: &mut [u8], then: Then<'_>) -> Came {
        let mut room = vec![0; 256 * 1024];
        let (mut out, mut text) = (Outgoing::new(&mut room), Vec::new());
        let outcome = self.records.drive(incoming, &mut out, then, |record| {
            text.push(record.to_vec());
            !self.has_enough
        });
        Came { outcome, out: out.filled().to_vec(), text }
    }
}

/// Two sides that have shaken hands, with the configuration that is served.
fn shaken(version: &'static SupportedProtocolVersion) -> (Server, ClientConnection) {
    let (folder, now) = (tempfile::tempdir().expect("a directory"), SystemTime::now());
    let ca = PrivateCa::open_or_create(folder.path(), "mail.example.net", now).expect("a CA");
    let identity = ca.identity(&["mail.example.net".parse().expect("a name")], now).expect("issued");
    let certificates = Certificates::new(vec![identity]).expect("one");
    let tls = ServerTls::new(Settings::default(), certificates).expect("a configuration");
    let records = Records::new(tls.config(Alpn::Imap)).expect("starts");
    let mut server = Server { records, has_enough: false };

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.root_der().to_vec())).expect("a root");
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    let name = ServerName::try_from("mail.example.net").expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("starts");

    let mut incoming = Vec::new();
    while client.wants_write() || server.records.is_handshaking() {
        while client.wants_write() {
            client.write_tls(&mut incoming).expect("a vector takes it");
        }
        let came = server.drive(&mut incoming, Then::Wait);
        incoming.drain(..came.outcome.expect("a handshake").used);
        assert_eq!(hear(&mut client, &came.out), (Vec::new(), false));
    }
    (server, client)
}

/// What a client reads in these records, and whether they end with a close_notify.
fn hear(client: &mut ClientConnection, mut records: &[u8]) -> (Vec<u8>, bool) {
    let (mut text, mut is_closed) = (Vec::new(), false);
    while !records.is_empty() {
        client.read_tls(&mut records).expect("reads");
        let state = client.process_new_packets().expect("good records");
        is_closed = state.peer_has_closed();
        let mut part = vec![0; state.plaintext_bytes_to_read()];
        client.reader().read_exact(&mut part).expect("as much as it said");
        text.extend(part);
    }
    (text, is_closed)
}

/// A client that seals what no library would: it goes on where a proper one was.
struct Sealer {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl Sealer {
    fn of(client: ClientConnection) -> Self {
        let suite = client.negotiated_cipher_suite().expect("agreed");
        let (sequence, secrets) = client.dangerous_extract_secrets().expect("a connection that is quiet").tx;
        let (ConnectionTrafficSecrets::Aes256Gcm { key, iv } | ConnectionTrafficSecrets::Aes128Gcm { key, iv }) =
            secrets
        else {
            panic!("{suite:?}");
        };
        let encrypter = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.encrypter(key, iv),
            // The part that is agreed on, and the part that each record shows (RFC 5288 section 3).
            SupportedCipherSuite::Tls12(suite) => suite.aead_alg.encrypter(key, &iv.as_ref()[..4], &iv.as_ref()[4..]),
        };
        let mut sealer = Self { encrypter, sequence: 0 };
        // The keys want to see every record from the first.
        while sealer.sequence < sequence {
            sealer.text(b"");
        }
        sealer
    }

    fn text(&mut self, text: &[u8]) -> Vec<u8> {
        self.seal(ContentType::ApplicationData, text)
    }

    fn seal(&mut self, typ: ContentType, payload: &[u8]) -> Vec<u8> {
        let payload = OutboundChunks::Single(payload);
        let message = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload };
        let record = self.encrypter.encrypt(message, self.sequence).expect("seals");
        self.sequence += 1;
        record.encode()
    }
}
