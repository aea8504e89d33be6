//! The client's connection: in the clear or under TLS, counted, and closed so that the last words arrive.
//!
//! Everything about TLS records stays in here. An upgrade consumes the plain stream: no variable is
//! left through which something could be read in the clear.

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
    Tls(Box<TlsStream<TcpStream>>),
}

impl ClientStream {
    /// A connection as it was accepted.
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self { io: Io::Plain(stream), bytes_in: 0, bytes_out: 0 }
    }

    /// Speaks TLS from here on, as the server.
    ///
    /// # Errors
    /// The handshake's; the connection is closed then. A stream already under TLS is refused.
    pub(super) async fn start_tls(self, config: Arc<rustls::ServerConfig>) -> io::Result<Self> {
        let Io::Plain(stream) = self.io else {
            return Err(io::Error::other("TLS inside TLS"));
        };
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        Ok(Self { io: Io::Tls(Box::new(stream)), bytes_in: self.bytes_in, bytes_out: self.bytes_out })
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

    /// The bytes that wait in the socket, without taking them; only in the clear.
    ///
    /// # Errors
    /// The socket's.
    pub(super) async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.io {
            Io::Plain(stream) => stream.peek(buffer).await,
            Io::Tls(_) => Ok(0),
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
            Io::Tls(stream) => ready!(Pin::new(stream).poll_read(cx, buf)),
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
