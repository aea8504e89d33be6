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
/// What a client may send before its handshake is over. A hello of today has up to 2 KiB and may come in records of an
/// octet each, six times as much; rustls alone would hold 64 KiB of it.
const MAX_HANDSHAKE: usize = 40 * 1024;
/// What rustls holds of our words to a client that does not read them, before the login and behind it.
const UNSENT_BEFORE_LOGIN: usize = 4 * 1024;
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

/// The socket under TLS.
#[derive(Debug)]
struct Wire {
    socket: TcpStream,
    /// What the client may still send for its handshake; none once that is over.
    handshake_left: Option<usize>,
    /// Before the login records are read one by one.
    record: Option<Record>,
}

/// Where in a record the next byte stands. A read past a record's end would leave rustls with the beginning of the next
/// one, and so with a buffer for a whole one, for as long as we do not read.
#[derive(Debug)]
enum Record {
    /// So much of the header has come.
    Header(usize, [u8; 5]),
    /// So much of the content has not.
    Content(usize),
}

impl Record {
    const BEGIN: Self = Self::Header(0, [0; 5]);

    /// How much may be read without touching the next record.
    fn left(&self) -> usize {
        match self {
            Self::Header(come, header) => header.len() - come,
            Self::Content(left) => *left,
        }
    }

    /// These have come, no more than were left.
    fn advance(&mut self, bytes: &[u8]) {
        match self {
            Self::Header(come, header) => {
                header[*come..*come + bytes.len()].copy_from_slice(bytes);
                *come += bytes.len();
                if let (5, [_, _, _, high, low]) = (*come, *header) {
                    *self = Self::content(u16::from_be_bytes([high, low]).into());
                }
            }
            Self::Content(left) => *self = Self::content(*left - bytes.len()),
        }
    }

    fn content(left: usize) -> Self {
        if left == 0 { Self::BEGIN } else { Self::Content(left) }
    }
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
        let wire = Wire { socket: stream, handshake_left: Some(MAX_HANDSHAKE), record: Some(Record::BEGIN) };
        let bounded = |tls: &mut rustls::ServerConnection| tls.set_buffer_limit(Some(UNSENT_BEFORE_LOGIN));
        let mut stream = TlsAcceptor::from(config).accept_with(wire, bounded).await?;
        stream.get_mut().0.handshake_left = None;
        Ok(Self { io: Io::Tls(Box::new(stream)), bytes_in: self.bytes_in, bytes_out: self.bytes_out })
    }

    /// The client is a user from here on: whole buffers are worth their memory.
    pub(super) fn logged_in(&mut self) {
        if let Io::Tls(stream) = &mut self.io {
            let (wire, tls) = stream.get_mut();
            wire.record = None;
            tls.set_buffer_limit(Some(UNSENT));
        }
    }

    /// Gives back what the largest record so far left behind, where nothing stands in it. To be called where the client
    /// is not read for a while; a read that finds nothing does the same.
    pub(super) fn give_back(&mut self) {
        if let Io::Tls(stream) = &mut self.io {
            // rustls looks at the size of its buffer at the beginning of a read, and this one comes to nothing.
            let _ = stream.get_mut().1.read_tls(&mut NothingYet);
        }
    }

    /// The finished handshake, under TLS.
    pub(super) fn tls(&self) -> Option<&rustls::ServerConnection> {
        match &self.io {
            Io::Plain(_) => None,
            Io::Tls(stream) => Some(stream.get_ref().1),
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

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { socket, handshake_left, record } = &mut *self;
        let Some(record) = record else {
            return Pin::new(socket).poll_read(cx, buf);
        };
        if *handshake_left == Some(0) {
            let error = format!("the client sent more than {MAX_HANDSHAKE} octets and no whole handshake");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        let room = record.left().min(handshake_left.unwrap_or(usize::MAX)).min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(Pin::new(socket).poll_read(cx, &mut part))?;
        record.advance(part.filled());
        let count = part.filled().len();
        if let Some(left) = handshake_left {
            *left -= count;
        }
        buf.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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

/// A source that has nothing for now.
struct NothingYet;

impl io::Read for NothingYet {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}
