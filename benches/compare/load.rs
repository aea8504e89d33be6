//! A client: connects, makes TLS, asks, checks each answer and takes its time.

use crate::site::{NAME, gateway};
use anyhow::{Context, Result, bail, ensure};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than any peer may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// How sessions begin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    Full,
    /// By a ticket of an earlier session, whatever the first one was.
    Resumed,
    /// Full, with X25519MLKEM768.
    FullMlkem,
}

/// Durations in nanoseconds, by what was waited for.
pub type Exchanges = BTreeMap<&'static str, Vec<u64>>;

/// A client that has sessions one after the other, and its own memory of tickets.
pub struct Caller {
    connector: TlsConnector,
    handshake: Handshake,
    name: ServerName<'static>,
    /// Where it comes from, if not from everywhere.
    source: Option<Ipv4Addr>,
    pub exchanges: Exchanges,
    /// Sessions that the other side ended without saying so in TLS.
    pub untidy: u64,
}

impl Caller {
    pub fn new(roots: &RootCertStore, handshake: Handshake) -> Self {
        let group = match handshake {
            Handshake::FullMlkem => aws_lc_rs::kx_group::X25519MLKEM768,
            Handshake::Full | Handshake::Resumed => aws_lc_rs::kx_group::X25519,
        };
        let provider = CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![group],
            ..aws_lc_rs::default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has a suite of TLS 1.3")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.resumption = match handshake {
            Handshake::Resumed => Resumption::in_memory_sessions(64),
            Handshake::Full | Handshake::FullMlkem => Resumption::disabled(),
        };
        Self {
            connector: TlsConnector::from(Arc::new(config)),
            handshake,
            name: NAME.try_into().expect("a name"),
            source: None,
            exchanges: Exchanges::new(),
            untidy: 0,
        }
    }

    /// Asks for another certificate by name.
    pub fn asks_for(&mut self, name: &str) -> Result<()> {
        self.name = ServerName::try_from(name.to_owned())?;
        Ok(())
    }

    /// Comes from this address from now on.
    pub fn comes_from(&mut self, source: Ipv4Addr) {
        self.source = Some(source);
    }

    /// Connects to a port of the gateway.
    pub async fn connect(&mut self, port: u16) -> Result<Talk> {
        static CONNECTIONS: AtomicU32 = AtomicU32::new(0);
        let source = self.source.unwrap_or_else(|| everywhere(CONNECTIONS.fetch_add(1, Ordering::Relaxed)));
        let begun = Instant::now();
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into()).context("bind")?;
        let stream = within("connect", socket.connect(gateway(port))).await??;
        stream.set_nodelay(true)?;
        self.took("connect", begun);
        Ok(Talk { stream: Stream::Plain(stream), input: Vec::new() })
    }

    /// Makes TLS of the connection, and sees that it is of the kind that is measured.
    pub async fn secure(&mut self, talk: Talk) -> Result<Talk> {
        let Stream::Plain(stream) = talk.stream else { bail!("TLS twice") };
        ensure!(talk.input.is_empty(), "something stood behind the answer to STARTTLS");
        let begun = Instant::now();
        let stream = within("tls", self.connector.connect(self.name.clone(), stream)).await?.context("TLS")?;
        self.took("tls", begun);
        let kind = stream.get_ref().1.handshake_kind();
        match (self.handshake, kind) {
            // The first of a worker has no ticket yet; it is outside what is measured, and `resumes` says what follows.
            (Handshake::Resumed, _) | (Handshake::Full | Handshake::FullMlkem, Some(HandshakeKind::Full)) => {}
            (_, kind) => bail!("the handshake was {kind:?}"),
        }
        Ok(Talk { stream: Stream::Tls(Box::new(stream)), input: talk.input })
    }

    /// Fails unless the session goes on from an earlier one, where that is what is measured.
    pub fn resumes(&self, talk: &Talk) -> Result<()> {
        let Stream::Tls(stream) = &talk.stream else { bail!("no TLS") };
        let kind = stream.get_ref().1.handshake_kind();
        ensure!(self.handshake != Handshake::Resumed || kind == Some(HandshakeKind::Resumed), "not resumed: {kind:?}");
        Ok(())
    }

    /// Sends `text`, and reads until the answer is whole and as it should be.
    pub async fn ask(&mut self, talk: &mut Talk, what: &'static str, text: &str, answer: Answer) -> Result<()> {
        let begun = Instant::now();
        within(what, async {
            talk.send(text.as_bytes()).await?;
            talk.read_answer(answer).await
        })
        .await?
        .context(what)?;
        self.took(what, begun);
        Ok(())
    }

    /// Reads what the other side says first.
    pub async fn hear(&mut self, talk: &mut Talk, what: &'static str, answer: Answer) -> Result<()> {
        let begun = Instant::now();
        within(what, talk.read_answer(answer)).await?.context(what)?;
        self.took(what, begun);
        Ok(())
    }

    /// Reads to the end and closes.
    pub async fn end(&mut self, mut talk: Talk) -> Result<()> {
        let begun = Instant::now();
        let tidy = within("end", talk.read_end()).await?.context("end")?;
        self.took("end", begun);
        self.untidy += u64::from(!tidy);
        Ok(())
    }

    /// Notes how long something took.
    pub fn took(&mut self, what: &'static str, begun: Instant) {
        let nanoseconds = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.exchanges.entry(what).or_default().push(nanoseconds);
    }
}

/// A thousand addresses, so that the ports of none run out.
fn everywhere(connection: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 9, 16, 1)) + connection % 1000)
}

async fn within<T>(what: &'static str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, future).await.with_context(|| format!("{what}: nothing for {PATIENCE:?}"))
}

/// A connection that lines are spoken on.
pub struct Talk {
    stream: Stream,
    input: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What must come.
#[derive(Clone, Copy)]
pub enum Answer {
    /// IMAP: anything, and at last this tag with OK.
    Tagged(&'static str),
    /// A line that begins so: greetings, continuations, and all of POP3.
    Begins(&'static str),
    /// SMTP: a reply with this code, of any number of lines.
    Code(&'static str),
}

impl Talk {
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes).await?,
            Stream::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await?;
            }
        }
        Ok(())
    }

    /// Takes what has come, and waits for something if that is nothing.
    pub async fn read(&mut self, piece: &mut [u8]) -> Result<usize> {
        if !self.input.is_empty() {
            let count = self.input.len().min(piece.len());
            piece[..count].copy_from_slice(&self.input[..count]);
            self.input.drain(..count);
            return Ok(count);
        }
        Ok(match &mut self.stream {
            Stream::Plain(stream) => stream.read(piece).await?,
            Stream::Tls(stream) => stream.read(piece).await?,
        })
    }

    async fn read_answer(&mut self, answer: Answer) -> Result<()> {
        loop {
            let mut used = 0;
            while let Some(end) = memchr::memchr(b'\n', &self.input[used..]) {
                let line = &self.input[used..=used + end];
                used += end + 1;
                match answer.judge(line) {
                    Verdict::More => {}
                    Verdict::Good => {
                        self.input.drain(..used);
                        return Ok(());
                    }
                    Verdict::Bad => bail!("the answer was {:?}", String::from_utf8_lossy(line)),
                }
            }
            self.input.drain(..used);
            let mut piece = [0; 2048];
            let count = match &mut self.stream {
                Stream::Plain(stream) => stream.read(&mut piece).await?,
                Stream::Tls(stream) => stream.read(&mut piece).await?,
            };
            ensure!(count > 0, "closed after {:?}", String::from_utf8_lossy(&self.input));
            self.input.extend_from_slice(&piece[..count]);
        }
    }

    /// Whether the other side ended as TLS wants it.
    async fn read_end(&mut self) -> Result<bool> {
        ensure!(self.input.is_empty(), "{:?} after the goodbye", String::from_utf8_lossy(&self.input));
        let Stream::Tls(stream) = &mut self.stream else { return Ok(true) };
        let tidy = match stream.read(&mut [0; 64]).await {
            Ok(0) => true,
            Ok(_) => bail!("something came after the goodbye"),
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => false,
            Err(error) => return Err(error.into()),
        };
        // It may have gone already.
        let _ = stream.shutdown().await;
        Ok(tidy)
    }
}

enum Verdict {
    More,
    Good,
    Bad,
}

impl Answer {
    fn judge(self, line: &[u8]) -> Verdict {
        let text = std::str::from_utf8(line).unwrap_or_default();
        match self {
            Self::Begins(start) if text.starts_with(start) => Verdict::Good,
            Self::Begins(_) => Verdict::Bad,
            Self::Tagged(tag) => match text.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                Some(rest) if rest.starts_with("OK") => Verdict::Good,
                Some(_) => Verdict::Bad,
                None if text.starts_with('*') => Verdict::More,
                None => Verdict::Bad,
            },
            Self::Code(code) => match text.strip_prefix(code) {
                Some(rest) if rest.starts_with('-') => Verdict::More,
                Some(rest) if rest.starts_with(' ') || rest.starts_with('\r') => Verdict::Good,
                _ => Verdict::Bad,
            },
        }
    }
}
