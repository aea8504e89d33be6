//! A client's connection: lines and bytes with a limit on every wait, and what was said, for the record of a failure.

use bytes::{Buf, BytesMut};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// More than every time that the contract gives a backend before the client has its answer, and than the longest outage here.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a client met instead of what it waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The connection ended as it should end.
    Closed,
    /// It ended in another way: reset, or under TLS without close_notify.
    Torn(String),
    /// Nothing came within [`PATIENCE`].
    Silent,
    /// Another answer.
    Said(String),
    /// What must never come, whatever happens to the servers.
    Wrong(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection was closed"),
            Self::Torn(how) => write!(f, "the connection was torn: {how}"),
            Self::Silent => write!(f, "nothing came for {PATIENCE:?}"),
            Self::Said(words) => write!(f, "it said {words}"),
            Self::Wrong(what) => write!(f, "WRONG: {what}"),
        }
    }
}

/// What was said in a session, its last lines.
#[derive(Clone, Default)]
pub struct Story(Arc<Mutex<VecDeque<String>>>);

impl Story {
    const LINES: usize = 40;
    const WIDTH: usize = 100;

    fn add(&self, since: Instant, who: &str, bytes: &[u8]) {
        let shown = bytes[..bytes.len().min(Self::WIDTH)].escape_ascii();
        let more = if bytes.len() > Self::WIDTH { format!("… {} bytes", bytes.len()) } else { String::new() };
        let mut lines = self.0.lock().expect("nobody panics with it");
        if lines.len() == Self::LINES {
            lines.pop_front();
        }
        lines.push_back(format!("{:>8.3} {who} {shown}{more}", since.elapsed().as_secs_f64()));
    }

    /// Begins anew.
    pub fn clear(&self) {
        self.0.lock().expect("nobody panics with it").clear();
    }

    /// The lines.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().expect("nobody panics with it").iter().cloned().collect()
    }
}

/// Where and how a client connects.
#[derive(Clone)]
pub struct Way {
    pub source: Ipv4Addr,
    pub tls: Arc<ClientConfig>,
    /// Each byte is written by itself: those of the handshake in segments, those after it in TLS records.
    pub bytewise: bool,
    /// Asks the kernel for a small receive buffer, so that a slow reader is soon felt.
    pub narrow: bool,
    pub story: Story,
}

/// A connection.
pub struct Wire {
    io: Io,
    got: BytesMut,
    way: Way,
    since: Instant,
}

enum Io {
    Plain(Pieces),
    Tls(Box<TlsStream<Pieces>>),
    /// For the length of a handshake.
    Neither,
}

impl Wire {
    /// Connects in the clear.
    pub async fn connect(way: &Way, to: SocketAddr) -> Result<Self, Trouble> {
        let connecting = async {
            let socket = TcpSocket::new_v4()?;
            if way.narrow {
                socket.set_recv_buffer_size(8 * 1024)?;
            }
            socket.bind((way.source, 0).into())?;
            let stream = socket.connect(to).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        };
        let stream = limited(connecting).await?.map_err(|error| Trouble::Torn(format!("connecting: {error}")))?;
        let since = Instant::now();
        way.story.add(
            since,
            "--",
            format!("{} to {to}", stream.local_addr().map_or(String::new(), |at| at.to_string())).as_bytes(),
        );
        Ok(Self {
            io: Io::Plain(Pieces { stream, bytewise: way.bytewise }),
            got: BytesMut::new(),
            way: way.clone(),
            since,
        })
    }

    /// Connects with TLS.
    pub async fn connect_tls(way: &Way, to: SocketAddr) -> Result<Self, Trouble> {
        let mut wire = Self::connect(way, to).await?;
        wire.secure().await?;
        Ok(wire)
    }

    /// The client's handshake.
    pub async fn secure(&mut self) -> Result<(), Trouble> {
        if !self.got.is_empty() {
            return Err(Trouble::Wrong(format!("in the clear behind the go-ahead: {}", self.got.escape_ascii())));
        }
        let Io::Plain(pieces) = std::mem::replace(&mut self.io, Io::Neither) else {
            return Err(Trouble::Wrong("TLS inside TLS".to_owned()));
        };
        let name = ServerName::try_from(crate::gateway::NAME).expect("a name");
        let connecting = TlsConnector::from(Arc::clone(&self.way.tls)).connect(name, pieces);
        let mut stream = limited(connecting).await?.map_err(|error| Trouble::Torn(format!("handshake: {error}")))?;
        stream.get_mut().0.bytewise = false;
        self.way.story.add(self.since, "--", b"TLS");
        self.io = Io::Tls(Box::new(stream));
        Ok(())
    }

    /// The certificate that was shown.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        let Io::Tls(stream) = &self.io else { return None };
        stream.get_ref().1.peer_certificates()?.first().map(|certificate| certificate.to_vec())
    }

    /// Sends. That the other side has gone is seen by who reads.
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Trouble> {
        self.try_say(bytes).await.map(drop)
    }

    /// Sends, and says whether all of it went out.
    pub async fn try_say(&mut self, bytes: impl AsRef<[u8]>) -> Result<bool, Trouble> {
        let bytes = bytes.as_ref();
        self.way.story.add(self.since, "C:", bytes);
        let step = if self.way.bytewise { 1 } else { bytes.len().max(1) };
        let io = &mut self.io;
        let saying = async {
            for piece in bytes.chunks(step) {
                io.write_all(piece).await?;
                io.flush().await?;
            }
            Ok::<_, io::Error>(())
        };
        Ok(limited(saying).await?.is_ok())
    }

    /// The next line with its end.
    pub async fn line(&mut self) -> Result<Vec<u8>, Trouble> {
        let mut looked = 0;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.got[looked..]) {
                let line = self.got.split_to(looked + end + 1).to_vec();
                self.way.story.add(self.since, "S:", &line);
                return Ok(line);
            }
            looked = self.got.len();
            if looked > 1 << 20 {
                return Err(Trouble::Wrong("a line without end".to_owned()));
            }
            self.read().await?;
        }
    }

    /// The next line as text without its end.
    pub async fn text(&mut self) -> Result<String, Trouble> {
        let line = self.line().await?;
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// So many bytes, with a pause between each few thousand.
    pub async fn exactly(&mut self, count: usize, pause: Duration) -> Result<Vec<u8>, Trouble> {
        let mut bytes = Vec::with_capacity(count);
        loop {
            let part = self.got.len().min(count - bytes.len());
            bytes.extend_from_slice(&self.got[..part]);
            self.got.advance(part);
            if bytes.len() == count {
                self.way.story.add(self.since, "S:", &bytes);
                return Ok(bytes);
            }
            self.read().await?;
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Everything to the end of the connection; the second is how it ended.
    pub async fn rest(&mut self) -> (Vec<u8>, Trouble) {
        loop {
            if let Err(end) = self.read().await {
                let rest = self.got.split().to_vec();
                self.way.story.add(self.since, "S:", &rest);
                return (rest, end);
            }
        }
    }

    /// Ends our side: close_notify under TLS, and FIN.
    pub async fn end(&mut self) {
        // The other side may be gone already.
        let _ = limited(self.io.shutdown()).await;
    }

    /// Ends our side and waits for the end of the other, which must be a proper one with nothing before it.
    pub async fn finish(mut self) -> Result<(), Trouble> {
        self.end().await;
        match self.rest().await {
            (rest, Trouble::Closed) if rest.is_empty() => Ok(()),
            (rest, Trouble::Closed) => Err(Trouble::Said(rest.escape_ascii().to_string())),
            (_, trouble) => Err(trouble),
        }
    }

    /// Vanishes: with a reset, or with a FIN that no close_notify announces.
    pub fn vanish(self, by_reset: bool) {
        let stream = match &self.io {
            Io::Plain(pieces) => &pieces.stream,
            Io::Tls(stream) => &stream.get_ref().0.stream,
            Io::Neither => return,
        };
        if by_reset {
            // The worst that can come of it is a FIN.
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
        self.way.story.add(self.since, "--", if by_reset { b"reset" } else { b"gone" });
    }

    async fn read(&mut self) -> Result<(), Trouble> {
        self.got.reserve(4096);
        // Only so much at a time, so that who pauses between two reads is slow.
        let mut part = [0; 16 * 1024];
        match limited(self.io.read(&mut part)).await? {
            Ok(0) => Err(Trouble::Closed),
            Ok(count) => {
                self.got.extend_from_slice(&part[..count]);
                Ok(())
            }
            Err(error) => Err(Trouble::Torn(error.to_string())),
        }
    }
}

/// The first bytes a client of TLS says.
pub fn client_hello(tls: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from(crate::gateway::NAME).expect("a name");
    let mut hello = Vec::new();
    let mut connection = rustls::ClientConnection::new(Arc::clone(tls), name).expect("a client");
    connection.write_tls(&mut hello).expect("memory takes it");
    hello
}

async fn limited<T>(waiting: impl Future<Output = T>) -> Result<T, Trouble> {
    tokio::time::timeout(PATIENCE, waiting).await.map_err(|_| Trouble::Silent)
}

/// A socket whose writes can be cut into bytes.
struct Pieces {
    stream: TcpStream,
    bytewise: bool,
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let length = if self.bytewise { buf.len().min(1) } else { buf.len() };
        Pin::new(&mut self.stream).poll_write(cx, &buf[..length])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Io {
    async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into).await,
            Self::Tls(stream) => stream.read(into).await,
            Self::Neither => Err(gone()),
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => stream.write_all(bytes).await,
            Self::Neither => Err(gone()),
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush().await,
            Self::Tls(stream) => stream.flush().await,
            Self::Neither => Err(gone()),
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
            Self::Neither => Err(gone()),
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "a handshake failed")
}
