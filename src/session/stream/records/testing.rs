//! A client that seals what no library would: it goes on where a proper one was. And a server whose every step is seen.

use super::*;
use crate::tls::{Alpn, Certificates, PrivateCa, ServerTls, Settings, provider};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::crypto::CryptoProvider;
use rustls::crypto::cipher::{
    InboundOpaqueMessage, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
};
use rustls::kernel::KernelConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::unbuffered::ConnectionState;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CipherSuite, ClientConfig, ConnectionTrafficSecrets, ContentType, ProtocolVersion, RootCertStore,
    SupportedCipherSuite, SupportedProtocolVersion,
};
use std::time::SystemTime;

/// A version, and whether the records become ours where they can be.
pub(super) type Way = (&'static SupportedProtocolVersion, bool);

pub(super) const WAYS: [Way; 4] = [(&TLS13, false), (&TLS12, false), (&TLS13, true), (&TLS12, true)];

/// A record as it was opened.
pub(super) type Opened = (ContentType, Vec<u8>);

/// The side under test.
pub(super) struct Server {
    pub(super) records: Records,
    /// The reader takes one record at a time.
    pub(super) has_enough: bool,
    /// He has a buffer of this size.
    pub(super) room: usize,
}

struct Hearer {
    text: Vec<Vec<u8>>,
    room: Vec<u8>,
    has_enough: bool,
}

impl Reader for Hearer {
    fn take(&mut self, text: &[u8]) -> bool {
        self.text.push(text.to_vec());
        !self.has_enough
    }

    fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        self.room.get_mut(..length)
    }

    fn keep(&mut self, length: usize) -> bool {
        self.text.push(self.room[..length].to_vec());
        !self.has_enough
    }
}

/// What came of one call.
pub(super) struct Came {
    pub(super) outcome: Result<Driven, Fault>,
    pub(super) out: Vec<u8>,
    pub(super) text: Vec<Vec<u8>>,
}

impl Server {
    pub(super) fn drive(&mut self, incoming: &mut [u8], then: Then<'_>) -> Came {
        let mut room = vec![0; 256 * 1024];
        let mut out = Outgoing::new(&mut room);
        let mut reader = Hearer { text: Vec::new(), room: vec![0; self.room], has_enough: self.has_enough };
        let outcome = self.records.drive(incoming, &mut out, then, &mut reader);
        Came { outcome, out: out.filled().to_vec(), text: reader.text }
    }

    pub(super) fn is_ours(&self) -> bool {
        matches!(self.records.layer, Layer::Ours(_))
    }
}

/// Two sides that have shaken hands, with the configuration that is served.
pub(super) fn shaken(way: Way) -> (Server, Client) {
    shaken_with(way, None)
}

/// The same with this cipher suite.
pub(super) fn shaken_with((version, takes_over): Way, suite: Option<CipherSuite>) -> (Server, Client) {
    let (folder, now) = (tempfile::tempdir().expect("a directory"), SystemTime::now());
    let ca = PrivateCa::open_or_create(folder.path(), "mail.example.net", now).expect("a CA");
    let identity = ca.identity(&["mail.example.net".parse().expect("a name")], now).expect("issued");
    let certificates = Certificates::new(vec![identity]).expect("one");
    let tls = ServerTls::new(Settings::default(), certificates).expect("a configuration");
    let records = Records::new(tls.config(Alpn::Imap)).expect("starts");
    let mut server = Server { records, has_enough: false, room: 64 };

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.root_der().to_vec())).expect("a root");
    let mut all: CryptoProvider = (*provider()).clone();
    all.cipher_suites.retain(|known| suite.is_none_or(|wanted| wanted == known.suite()));
    let mut config = ClientConfig::builder_with_provider(Arc::new(all))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    let name = ServerName::try_from("mail.example.net").expect("a name");
    let mut tls = UnbufferedClientConnection::new(Arc::new(config), name).expect("starts");

    let (mut to_client, mut to_server, mut is_quiet) = (Vec::new(), Vec::new(), false);
    while !is_quiet || server.records.is_handshaking() {
        is_quiet = step(&mut tls, &mut to_client, &mut to_server);
        let came = server.drive(&mut to_server, Then::Wait);
        to_server.drain(..came.outcome.expect("a handshake").used);
        is_quiet &= came.out.is_empty();
        to_client.extend(came.out);
    }
    assert!(to_client.is_empty() && to_server.is_empty());
    let mut client = Client::of(tls);
    if takes_over {
        let came = server.drive(&mut [], Then::Write(b"* OK\r\n"));
        assert!(came.outcome.expect("room").done);
        assert_eq!(client.open(&came.out), [(ContentType::ApplicationData, b"* OK\r\n".to_vec())]);
        server.records.take_over(&[]);
        assert_eq!(server.is_ours(), version.version == ProtocolVersion::TLSv1_3);
    }
    (server, client)
}

/// Lets the client look at what came. Gives whether it only waits for words of its user.
fn step(tls: &mut UnbufferedClientConnection, incoming: &mut Vec<u8>, outgoing: &mut Vec<u8>) -> bool {
    loop {
        let status = tls.process_tls_records(incoming);
        let discard = status.discard;
        let outcome = match status.state.expect("a good handshake") {
            ConnectionState::EncodeTlsData(mut data) => {
                let mut room = vec![0; 16 * 1024];
                let written = data.encode(&mut room).expect("room");
                outgoing.extend_from_slice(&room[..written]);
                None
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                None
            }
            ConnectionState::WriteTraffic(_) => Some(true),
            ConnectionState::BlockedHandshake => Some(false),
            state => panic!("{state:?}"),
        };
        incoming.drain(..discard);
        if let Some(is_quiet) = outcome {
            return is_quiet;
        }
    }
}

/// The other side.
pub(super) struct Client {
    schedule: KernelConnection<ClientConnectionData>,
    encrypter: Box<dyn MessageEncrypter>,
    sent: u64,
    decrypter: Box<dyn MessageDecrypter>,
    read: u64,
}

impl Client {
    fn of(tls: UnbufferedClientConnection) -> Self {
        let (secrets, schedule) = tls.dangerous_into_kernel_connection().expect("a connection that is quiet");
        let suite = schedule.negotiated_cipher_suite();
        let ((seen, read), (behind, written)) = (secrets.rx, secrets.tx);
        let mut client = Self {
            schedule,
            encrypter: encrypter(suite, written),
            sent: 0,
            decrypter: decrypter(suite, read),
            read: seen,
        };
        // The keys want to see every record from the first.
        while client.sent < behind {
            client.text(b"");
        }
        client
    }

    /// A record of text.
    pub(super) fn text(&mut self, text: &[u8]) -> Vec<u8> {
        self.seal(ContentType::ApplicationData, text)
    }

    /// A record of any kind.
    pub(super) fn seal(&mut self, typ: ContentType, payload: &[u8]) -> Vec<u8> {
        let payload = OutboundChunks::Single(payload);
        let message = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload };
        let record = self.encrypter.encrypt(message, self.sent).expect("seals");
        self.sent += 1;
        record.encode()
    }

    /// A record of TLS 1.3 with so many octets of padding.
    pub(super) fn padded(&mut self, kind: ContentType, text: &[u8], padding: usize) -> Vec<u8> {
        if padding == 0 {
            return self.seal(kind, text);
        }
        let inner = [text, &[u8::from(kind)], &vec![0; padding - 1]].concat();
        self.seal(ContentType::from(0), &inner)
    }

    /// Changes the key for what is sealed from here on. The message that says so is the caller's.
    pub(super) fn change_key(&mut self) {
        let (_, secrets) = self.schedule.update_tx_secret().expect("TLS 1.3");
        self.encrypter = encrypter(self.schedule.negotiated_cipher_suite(), secrets);
        self.sent = 0;
    }

    /// Opens the records of the server, and follows its changes of key.
    pub(super) fn open(&mut self, mut records: &[u8]) -> Vec<Opened> {
        let mut all = Vec::new();
        while let Some((header, rest)) = records.split_first_chunk::<HEADER>() {
            let [kind, _, _, high, low] = *header;
            let (sealed, rest) = rest.split_at(usize::from(u16::from_be_bytes([high, low])));
            records = rest;
            let mut sealed = sealed.to_vec();
            let record = InboundOpaqueMessage::new(ContentType::from(kind), ProtocolVersion::TLSv1_2, &mut sealed);
            let plain = self.decrypter.decrypt(record, self.read).expect("sealed by the server, as the next record");
            self.read += 1;
            let (kind, text) = (plain.typ, plain.payload.to_vec());
            if kind == ContentType::Handshake && text.first() == Some(&24) {
                let (_, secrets) = self.schedule.update_rx_secret().expect("TLS 1.3");
                self.decrypter = decrypter(self.schedule.negotiated_cipher_suite(), secrets);
                self.read = 0;
            }
            all.push((kind, text));
        }
        assert!(records.is_empty(), "whole records");
        all
    }

    /// What the server said, and whether it said that this was all.
    pub(super) fn hear(&mut self, records: &[u8]) -> (Vec<u8>, bool) {
        let (mut text, mut is_closed) = (Vec::new(), false);
        for (kind, part) in self.open(records) {
            match kind {
                ContentType::ApplicationData => text.extend(part),
                ContentType::Alert => is_closed = part == [1, 0],
                _ => {}
            }
        }
        (text, is_closed)
    }
}

fn encrypter(suite: SupportedCipherSuite, secrets: ConnectionTrafficSecrets) -> Box<dyn MessageEncrypter> {
    use ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
    let (Aes128Gcm { key, iv } | Aes256Gcm { key, iv } | Chacha20Poly1305 { key, iv }) = secrets else {
        panic!("{suite:?}");
    };
    match suite {
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.encrypter(key, iv),
        // The part that is agreed on, and the part that each record shows (RFC 5288 section 3).
        SupportedCipherSuite::Tls12(suite) => suite.aead_alg.encrypter(key, &iv.as_ref()[..4], &iv.as_ref()[4..]),
    }
}

fn decrypter(suite: SupportedCipherSuite, secrets: ConnectionTrafficSecrets) -> Box<dyn MessageDecrypter> {
    use ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
    let (Aes128Gcm { key, iv } | Aes256Gcm { key, iv } | Chacha20Poly1305 { key, iv }) = secrets else {
        panic!("{suite:?}");
    };
    match suite {
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
        SupportedCipherSuite::Tls12(suite) => suite.aead_alg.decrypter(key, &iv.as_ref()[..4]),
    }
}
