//! When a client under TLS is greeted. The client here makes its handshake by hand, flight by flight.

use crate::backend::Backend;
use crate::gateway::{Gateway, Setup};
use crate::mail::{PROTOCOLS, greeting, service};
use crate::talk::{Cut, soon};
use crate::transcript::{HOSTNAME, Pattern};
use gatepost::config::{self, Environment};
use gatepost::proto::{Protocol, TlsRule};
use gatepost::tls::{PrivateCa, provider};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use std::io::{Read, Write};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn the_greeting_comes_with_the_first_flight_of_tls_1_3() {
    for protocol in PROTOCOLS {
        let gateway = gateway(protocol).await;
        let mut client = ByHand::connect(&gateway, &TLS13).await;
        client.write_flight().await;
        // All that the gateway has of this client is the hello.
        client.hear(greeting(protocol), Flights::Withheld).await;
        assert!(client.tls.wants_write(), "its Finished is still to be sent");

        let (word, answer) = noop(protocol);
        client.tls.writer().write_all(word).expect("room");
        // Its Finished goes out with the word.
        client.hear(answer, Flights::Sent).await;
        assert_eq!(client.got.escape_ascii().to_string(), "", "greeted once");
    }
}

#[tokio::test]
async fn the_greeting_comes_once_after_a_handshake_of_tls_1_2() {
    for protocol in PROTOCOLS {
        let gateway = gateway(protocol).await;
        let mut client = ByHand::connect(&gateway, &TLS12).await;
        client.hear(greeting(protocol), Flights::Sent).await;
        assert_eq!(client.tls.protocol_version(), Some(ProtocolVersion::TLSv1_2));

        let (word, answer) = noop(protocol);
        client.tls.writer().write_all(word).expect("room");
        client.hear(answer, Flights::Sent).await;
        assert_eq!(client.got.escape_ascii().to_string(), "", "greeted once");
    }
}

/// A word that needs no backend, and its answer.
fn noop(protocol: Protocol) -> (&'static [u8], &'static str) {
    match protocol {
        Protocol::Imap => (b"a NOOP\r\n", "a OK <*>"),
        Protocol::Pop3 => (b"NOOP\r\n", "-ERR <*>"),
        Protocol::Smtp => (b"NOOP\r\n", "250 <*>"),
    }
}

async fn gateway(protocol: Protocol) -> Gateway {
    let backend = Backend::listen(Cut::Whole).await;
    let setup = Setup::one(service(protocol), TlsRule::Implicit, backend.address);
    let (gateway, ()) = tokio::join!(setup.start(), backend.teach(protocol));
    gateway.has_learned().await;
    gateway
}

/// A client that writes when it is told to.
struct ByHand {
    stream: TcpStream,
    tls: ClientConnection,
    /// Read, and not looked at yet.
    got: Vec<u8>,
}

/// What becomes of the flights that a client has to send while it waits for words.
#[derive(Clone, Copy, PartialEq)]
enum Flights {
    Sent,
    Withheld,
}

impl ByHand {
    async fn connect(gateway: &Gateway, version: &'static SupportedProtocolVersion) -> Self {
        let name = ServerName::try_from(HOSTNAME).expect("a name");
        let tls = ClientConnection::new(trusting(gateway, version), name).expect("a client");
        let stream = TcpStream::connect(gateway.address()).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket of ours");
        Self { stream, tls, got: Vec::new() }
    }

    /// Sends all that it has to send now.
    async fn write_flight(&mut self) {
        let mut flight = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut flight).expect("a vector takes it");
        }
        self.stream.write_all(&flight).await.expect("the gateway is there");
    }

    /// Waits for a line.
    async fn hear(&mut self, line: &str, flights: Flights) {
        let pattern = Pattern::line(line);
        let coming = async {
            while !pattern.is_beyond(&self.got) {
                if flights == Flights::Sent {
                    self.write_flight().await;
                }
                self.read().await;
            }
        };
        soon(line, coming).await;
        let length = pattern.matches(&self.got);
        self.got.drain(..length.unwrap_or_else(|| panic!("{}", self.got.escape_ascii())));
    }

    async fn read(&mut self) {
        let mut wire = Vec::new();
        let count = self.stream.read_buf(&mut wire).await.expect("the gateway is there");
        assert!(count > 0, "closed after {}", self.got.escape_ascii());
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            self.tls.read_tls(&mut wire).expect("room");
            let state = self.tls.process_new_packets().expect("good records");
            let start = self.got.len();
            self.got.resize(start + state.plaintext_bytes_to_read(), 0);
            self.tls.reader().read_exact(&mut self.got[start..]).expect("as much as it said");
        }
    }
}

/// What a client of this version alone trusts.
pub(crate) fn trusting(gateway: &Gateway, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let (policy, _) = config::load(&gateway.file("gatepost.yaml"), &Environment::from_iter([])).expect("it was taken");
    let ca = PrivateCa::open(&policy.state_dir).expect("readable").expect("made when the gateway began");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.root_der().to_vec())).expect("a root");
    let config = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[version]);
    Arc::new(config.expect("a version").with_root_certificates(roots).with_no_client_auth())
}
