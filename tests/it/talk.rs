//! One end of a connection in a test: the client's, in the clear or under TLS, or the backend's.
//!
//! Nothing sleeps: what is expected is waited for, up to [`PATIENCE`], and what comes instead is an error that says so.

use crate::transcript::Pattern;
use bytes::{Buf, BytesMut};
use gatepost::tls::PrivateCa;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

/// Far more than anything here takes, on a machine that is busy with other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that must come.
pub(crate) async fn soon<T>(what: &str, coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, coming).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// In which pieces bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A segment is one write.
    Whole,
    /// Each byte is a write of its own, also those of the TLS handshake.
    Bytes,
}

/// A connection, and what was read from it and not yet looked at.
pub(crate) struct Talk {
    io: Box<dyn Io>,
    got: BytesMut,
    cut: Cut,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    /// The bare socket, if that is what it is.
    fn into_wire(self: Box<Self>) -> Option<Wire>;

    /// Who is at the other end, as far as the bare socket is at hand.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }

    /// Our own address, likewise.
    fn local(&self) -> Option<SocketAddr> {
        None
    }

    /// Changes the client's keys, and asks the server for the same, if this is a client's TLS 1.3.
    fn refresh_keys(&mut self) -> Result<(), rustls::Error> {
        Err(rustls::Error::HandshakeNotComplete)
    }
}

impl Talk {
    /// Connects, from `source` if given: any address of 127.0.0.0/8 is ours.
    pub(crate) async fn connect(to: SocketAddr, source: Option<IpAddr>, cut: Cut) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        Ok(Self::over(socket.connect(to).await?, cut))
    }

    pub(crate) fn over(stream: TcpStream, cut: Cut) -> Self {
        stream.set_nodelay(true).expect("a socket of ours");
        let bytewise = Arc::new(AtomicBool::new(cut == Cut::Bytes));
        let wire = Wire { stream, bytewise, ahead: BytesMut::new() };
        Self { io: Box::new(wire), got: BytesMut::new(), cut }
    }

    /// Makes the client's handshake and checks the certificate against the gateway's own CA.
    pub(crate) async fn start_tls(self, config: Arc<ClientConfig>) -> io::Result<Self> {
        if !self.got.is_empty() {
            return Err(io::Error::other(format!("in the clear behind the go-ahead: {}", self.got.escape_ascii())));
        }
        let wire = self.io.into_wire().ok_or_else(|| io::Error::other("TLS inside TLS"))?;
        let bytewise = Arc::clone(&wire.bytewise);
        let name = ServerName::try_from(crate::transcript::HOSTNAME).expect("a name");
        let connecting = TlsConnector::from(config).connect(name, wire);
        let stream = tokio::time::timeout(PATIENCE, connecting).await.map_err(|_| io::ErrorKind::TimedOut)??;
        // From here on each byte is a record of its own, which is cut enough.
        bytewise.store(false, Ordering::Relaxed);
        Ok(Self { io: Box::new(stream), got: BytesMut::new(), cut: self.cut })
    }

    /// Makes the server's handshake, as a backend does that was dialled.
    pub(crate) async fn accept_tls(self, config: Arc<rustls::ServerConfig>) -> io::Result<Self> {
        // The ClientHello may have come in one segment with what stands before it; nothing else may.
        assert!(self.got.first().is_none_or(|first| *first == 0x16), "in the clear: {}", self.got.escape_ascii());
        let mut wire = self.io.into_wire().ok_or_else(|| io::Error::other("TLS inside TLS"))?;
        wire.ahead = self.got;
        let accepting = tokio_rustls::TlsAcceptor::from(config).accept(wire);
        let stream = tokio::time::timeout(PATIENCE, accepting).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(Self { io: Box::new(stream), got: BytesMut::new(), cut: self.cut })
    }

    /// Sends. That the other side has gone is seen by who reads.
    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let step = if self.cut == Cut::Bytes { 1 } else { bytes.len().max(1) };
        let sending = async {
            for piece in bytes.chunks(step) {
                self.io.write_all(piece).await?;
                self.io.flush().await?;
                // On a runtime of one thread the gateway reads it before the next one is written.
                tokio::task::yield_now().await;
            }
            Ok::<_, io::Error>(())
        };
        let _ = soon("room to write", sending).await;
    }

    /// The address at the other end of a connection in the clear.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.io.peer().expect("in the clear, and connected")
    }

    /// Our own address, likewise.
    pub(crate) fn local(&self) -> SocketAddr {
        self.io.local().expect("in the clear, and connected")
    }

    /// Changes the client's keys before the next words, and asks the server for the same (RFC 8446 section 4.6.3).
    pub(crate) fn refresh_keys(&mut self) {
        self.io.refresh_keys().expect("a client under TLS 1.3");
    }

    /// Sends one line.
    pub(crate) async fn line(&mut self, line: &str) {
        self.say(format!("{line}\r\n")).await;
    }

    /// Waits for what the pattern takes; `Err` is what came instead.
    pub(crate) async fn expect(&mut self, pattern: &Pattern) -> Result<(), String> {
        loop {
            if let Some(length) = pattern.matches(&self.got) {
                self.got.advance(length);
                return Ok(());
            }
            if pattern.is_beyond(&self.got) {
                return Err(self.got.escape_ascii().to_string());
            }
            if let Err(end) = self.read().await {
                return Err(format!("{} and then {end}", self.got.escape_ascii()));
            }
        }
    }

    /// Waits for lines, CRLF behind them, `<*>` for any text in them.
    pub(crate) async fn hear(&mut self, lines: &str) {
        for line in lines.split('\n') {
            let pattern = Pattern::line(line);
            self.expect(&pattern).await.unwrap_or_else(|got| panic!("expected {pattern}\n     got {got}"));
        }
    }

    /// Waits for exactly these bytes.
    pub(crate) async fn hear_bytes(&mut self, bytes: &[u8]) {
        while self.got.len() < bytes.len() && bytes.starts_with(&self.got) {
            let end = self.read().await;
            assert_eq!(end, Ok(()), "after {}", self.got.escape_ascii());
        }
        let got = self.got.split_to(bytes.len().min(self.got.len()));
        assert_eq!(got.escape_ascii().to_string(), bytes.escape_ascii().to_string());
    }

    /// Reads one line, whatever it says.
    pub(crate) async fn next_line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.got) {
                let line = self.got.split_to(end + 1);
                return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            if let Err(end) = self.read().await {
                return Err(format!("{} and then {end}", self.got.escape_ascii()));
            }
        }
    }

    /// Ends our side: close_notify under TLS, and FIN.
    pub(crate) async fn end(&mut self) {
        // The other side may be gone already.
        let _ = soon("our own end", self.io.shutdown()).await;
    }

    /// Ends a connection in the clear by a reset.
    pub(crate) fn reset(self) {
        let wire = self.io.into_wire().expect("in the clear");
        socket2::SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO)).expect("a socket of ours");
    }

    /// Reads to the other side's end, which must be a proper one, and gives what was still said.
    pub(crate) async fn rest(&mut self) -> Result<Vec<u8>, String> {
        loop {
            match self.read().await {
                Ok(()) => {}
                Err(end) if end == EOF => return Ok(self.got.split().to_vec()),
                Err(end) => return Err(format!("{} and then {end}", self.got.escape_ascii())),
            }
        }
    }

    /// Waits for the proper end of the connection, with nothing before it.
    pub(crate) async fn closed(&mut self) {
        assert_eq!(self.rest().await.as_deref().map(|rest| rest.escape_ascii().to_string()), Ok(String::new()));
    }

    async fn read(&mut self) -> Result<(), String> {
        self.got.reserve(4096);
        match tokio::time::timeout(PATIENCE, self.io.read_buf(&mut self.got)).await {
            Ok(Ok(0)) => Err(EOF.to_owned()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("nothing more".to_owned()),
        }
    }
}

const EOF: &str = "the end of the connection";

/// A client's TLS that trusts the private CA in `state_dir` alone.
pub(crate) fn trusting(state_dir: &Path) -> Arc<ClientConfig> {
    let ca = PrivateCa::open(state_dir).expect("readable").expect("made when the gateway began");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.root_der().to_vec())).expect("a root");
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// A socket whose writes can be cut into bytes.
struct Wire {
    stream: TcpStream,
    bytewise: Arc<AtomicBool>,
    /// Read already.
    ahead: BytesMut,
}

impl Io for Wire {
    fn into_wire(self: Box<Self>) -> Option<Wire> {
        Some(*self)
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }

    fn local(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }
}

impl Io for tokio_rustls::server::TlsStream<Wire> {
    fn into_wire(self: Box<Self>) -> Option<Wire> {
        None
    }
}

impl Io for tokio_rustls::client::TlsStream<Wire> {
    fn into_wire(self: Box<Self>) -> Option<Wire> {
        None
    }

    fn refresh_keys(&mut self) -> Result<(), rustls::Error> {
        self.get_mut().1.refresh_traffic_keys()
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let length = if self.bytewise.load(Ordering::Relaxed) { buf.len().min(1) } else { buf.len() };
        Pin::new(&mut self.stream).poll_write(cx, &buf[..length])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
