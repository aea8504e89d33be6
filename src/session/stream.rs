//! The client's connection: in the clear or under TLS, counted, and closed so that the last words arrive.
//!
//! Everything about TLS records stays in here. An upgrade consumes the plain stream: no variable is
//! left through which something could be read in the clear.

use crate::tls;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, rustls};

/// How long a closing connection waits for the client to take our last words and close its side.
const LINGER: Duration = Duration::from_secs(2);

/// The alert for a client whose TLS is too old (RFC 5246 appendix E.1, RFC 8446 appendix D.2): the client's own message
/// names the cause then. rustls says `handshake_failure` to a hello without what TLS 1.2 brought.
const PROTOCOL_VERSION: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];

/// A client's connection.
#[derive(Debug)]
pub(super) struct ClientStream {
    io: Io,
    /// Octets of the dialogue read from the client: what the protocol sees, without TLS' own.
    pub(super) bytes_in: u64,
    /// Octets written to it.
    pub(super) bytes_out: u64,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<Noted>>),
}

/// Why there is no TLS.
#[derive(Debug)]
pub(super) struct NoTls {
    pub(super) error: io::Error,
    /// What the client began with, as far as it is of use: a ClientHello with its extensions, as a rule.
    pub(super) first: Vec<u8>,
    /// What is left of the connection.
    pub(super) stream: ClientStream,
}

impl ClientStream {
    /// A connection as it was accepted.
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self { io: Io::Plain(stream), bytes_in: 0, bytes_out: 0 }
    }

    /// Speaks TLS from here on, as the server.
    ///
    /// # Errors
    /// The handshake's, its alert sent, with the connection: nothing is to be read from it any more, and it is to be
    /// closed. A stream already under TLS is refused.
    pub(super) async fn start_tls(self, config: Arc<rustls::ServerConfig>) -> Result<Self, NoTls> {
        let Self { io, bytes_in, bytes_out } = self;
        let Io::Plain(socket) = io else {
            let stream = Self { io, bytes_in, bytes_out };
            return Err(NoTls { error: io::Error::other("TLS inside TLS"), first: Vec::new(), stream });
        };
        let noted = Noted { socket, first: Some(Box::default()) };
        let mut stream = match TlsAcceptor::from(config).accept(noted).into_fallible().await {
            Ok(stream) => stream,
            Err((error, Noted { socket, first })) => {
                let stream = Self { io: Io::Plain(socket), bytes_in, bytes_out };
                return Err(NoTls { error, first: first.map_or_else(Vec::new, |first| first.0), stream });
            }
        };
        stream.get_mut().0.first = None;
        Ok(Self { io: Io::Tls(Box::new(stream)), bytes_in, bytes_out })
    }

    /// The finished handshake, under TLS.
    pub(super) fn tls(&self) -> Option<&rustls::ServerConnection> {
        match &self.io {
            Io::Plain(_) => None,
            Io::Tls(stream) => Some(stream.get_ref().1),
        }
    }

    /// Wipes what the TLS library keeps of records that were read: it decrypts them where it reads them, and a waiting
    /// session would hold its client's password there until as much is read again.
    pub(super) fn forget(&mut self) {
        if let Io::Tls(stream) = &mut self.io {
            // A reader is handed the part of the buffer that is free. This one has nothing to read, which is no error.
            let _ = stream.get_mut().1.read_tls(&mut Wiper);
        }
    }

    /// Ends the connection: close_notify, FIN, then a moment for the client to take what is under way.
    /// Closing a socket with unread input would reset it, and the reset overtake our last words.
    pub(super) async fn close(mut self) {
        let closing = async {
            self.shutdown().await?;
            let mut rest = [0; 1024];
            let mut budget = 64;
            while budget > 0 && self.read(&mut rest).await? > 0 {
                budget -= 1;
            }
            Ok::<_, io::Error>(())
        };
        // A client that is gone cannot be told anything more.
        let _ = tokio::time::timeout(LINGER, closing).await;
    }
}

/// A source that never has anything and leaves zeros where it was to put it.
struct Wiper;

impl io::Read for Wiper {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(0);
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = match &mut self.io {
            Io::Plain(stream) => ready!(Pin::new(stream).poll_read(cx, buf)),
            Io::Tls(stream) => {
                let read = Pin::new(&mut **stream).poll_read(cx, buf);
                if read.is_pending() && stream.get_ref().1.wants_write() {
                    // What TLS has to say itself, as no to a renegotiation, waits for no words of ours.
                    let _ = Pin::new(&mut **stream).poll_flush(cx)?;
                }
                ready!(read)
            }
        };
        self.bytes_in += (buf.filled().len() - before) as u64;
        Poll::Ready(result)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = match &mut self.io {
            Io::Plain(stream) => ready!(Pin::new(stream).poll_write(cx, buf)),
            Io::Tls(stream) => ready!(Pin::new(stream).poll_write(cx, buf)),
        }?;
        self.bytes_out += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A socket that keeps a note of the first bytes read from it, for as long as somebody may ask: a client whose handshake
/// fails is told apart by them, however they were cut. A session has nothing of it but an empty pointer.
#[derive(Debug)]
struct Noted {
    socket: TcpStream,
    first: Option<Box<First>>,
}

#[derive(Debug, Default)]
struct First(Vec<u8>);

impl First {
    /// Enough for the hello of a client from before TLS 1.3, whose version is asked for.
    const LONGEST: usize = 1024;

    fn note(&mut self, bytes: &[u8]) {
        let room = Self::LONGEST - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

impl Noted {
    /// Whether these are the words that end the handshake of a client whose TLS is too old.
    fn is_too_old(&self, words: &[u8]) -> bool {
        let is_alert = words.len() == PROTOCOL_VERSION.len() && words[0] == PROTOCOL_VERSION[0];
        is_alert && self.first.as_ref().is_some_and(|first| tls::client_hello_version(&first.0).is_some())
    }
}

impl AsyncRead for Noted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.socket).poll_read(cx, buf));
        if let Some(first) = &mut self.first {
            first.note(&buf.filled()[before..]);
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let alert = self.is_too_old(buf).then_some(&PROTOCOL_VERSION[..]);
        Pin::new(&mut self.socket).poll_write(cx, alert.unwrap_or(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [alone] = bufs
            && self.is_too_old(alone)
        {
            return self.poll_write(cx, alone);
        }
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
