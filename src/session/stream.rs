//! The client's connection: in the clear or under TLS, counted, and closed so that the last words arrive.
//!
//! Everything about TLS records stays in here. An upgrade consumes the plain stream: no variable is
//! left through which something could be read in the clear.

use super::wire::Wire;
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
/// What rustls holds of our words to a client that does not read them, before the login and behind it.
const UNSENT_BEFORE_LOGIN: usize = 2 * 1024;
const UNSENT: usize = 64 * 1024;

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
    Tls(Box<TlsStream<Wire>>),
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
        let bounded = |tls: &mut rustls::ServerConnection| tls.set_buffer_limit(Some(UNSENT_BEFORE_LOGIN));
        let accept = TlsAcceptor::from(config).accept_with(Wire::new(socket), bounded);
        let mut stream = match accept.into_fallible().await {
            Ok(stream) => stream,
            Err((error, wire)) => {
                let (socket, first) = wire.into_parts();
                return Err(NoTls { error, first, stream: Self { io: Io::Plain(socket), bytes_in, bytes_out } });
            }
        };
        stream.get_mut().0.shook_hands();
        Ok(Self { io: Io::Tls(Box::new(stream)), bytes_in, bytes_out })
    }

    /// The client is a user from here on: whole buffers are worth their memory.
    pub(super) fn logged_in(&mut self) {
        if let Io::Tls(stream) = &mut self.io {
            let (wire, tls) = stream.get_mut();
            wire.trust();
            tls.set_buffer_limit(Some(UNSENT));
        }
    }

    /// Gives back, before the login, what the largest record so far left behind, where nothing stands in it. To be called
    /// where the client is not read for a while; a read that finds nothing does the same.
    pub(super) fn give_back(&mut self) {
        if matches!(&self.io, Io::Tls(stream) if !stream.get_ref().0.is_trusted()) {
            // rustls looks at the size of its buffer at the beginning of a read, and this one comes to nothing.
            self.forget();
        }
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
