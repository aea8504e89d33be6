//! The client's socket under TLS: what is read through it before the client is known is bounded and noted.

use crate::tls;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What a client may send before its handshake is over. A hello of today has up to 2 KiB and may come in records of an
/// octet each, six times as much; rustls alone would hold 64 KiB of it.
const MAX_HANDSHAKE: usize = 40 * 1024;

/// What is noted of it: enough for the hello of a client from before TLS 1.3, whose version is asked for.
const NOTED: usize = 1024;

/// The alert for a client whose TLS is too old (RFC 5246 appendix E.1, RFC 8446 appendix D.2): the client's own message
/// names the cause then. rustls says `handshake_failure` to a hello without what TLS 1.2 brought.
const PROTOCOL_VERSION: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];

/// The socket under TLS.
#[derive(Debug)]
pub(super) struct Wire {
    socket: TcpStream,
    /// None once the handshake is over.
    handshake: Option<Box<Handshake>>,
    /// Before the login records are read one by one.
    record: Option<Record>,
}

/// What there is of a client until its handshake is over.
#[derive(Debug)]
struct Handshake {
    /// What it began with. A client whose handshake fails is told apart by it, however it was cut.
    first: Vec<u8>,
    /// What it may still send.
    left: usize,
}

impl Wire {
    /// For a handshake that begins.
    pub(super) fn new(socket: TcpStream) -> Self {
        let handshake = Box::new(Handshake { first: Vec::new(), left: MAX_HANDSHAKE });
        Self { socket, handshake: Some(handshake), record: Some(Record::BEGIN) }
    }

    /// The socket of a handshake that failed, and what the client began with.
    pub(super) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.socket, self.handshake.map_or_else(Vec::new, |handshake| handshake.first))
    }

    /// The handshake is over: a session keeps nothing of it but an empty pointer.
    pub(super) fn shook_hands(&mut self) {
        self.handshake = None;
    }

    /// The client is a user from here on, and may have its records read in any number.
    pub(super) fn trust(&mut self) {
        self.record = None;
    }

    /// Whether the client is a user.
    pub(super) fn is_trusted(&self) -> bool {
        self.record.is_none()
    }

    /// Whether these are the words that end the handshake of a client whose TLS is too old.
    fn is_too_old(&self, words: &[u8]) -> bool {
        let is_alert = words.len() == PROTOCOL_VERSION.len() && words[0] == PROTOCOL_VERSION[0];
        is_alert && self.handshake.as_ref().is_some_and(|shake| tls::client_hello_version(&shake.first).is_some())
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { socket, handshake, record } = &mut *self;
        let Some(record) = record else {
            return Pin::new(socket).poll_read(cx, buf);
        };
        let left = handshake.as_ref().map_or(usize::MAX, |handshake| handshake.left);
        if left == 0 {
            let error = format!("the client sent more than {MAX_HANDSHAKE} octets and no whole handshake");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        let room = record.left().min(left).min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(Pin::new(socket).poll_read(cx, &mut part))?;
        record.advance(part.filled());
        let count = part.filled().len();
        if let Some(handshake) = handshake {
            handshake.note(part.filled());
        }
        buf.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl Handshake {
    fn note(&mut self, bytes: &[u8]) {
        let room = NOTED - self.first.len();
        self.first.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.left -= bytes.len();
    }
}

impl AsyncWrite for Wire {
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
