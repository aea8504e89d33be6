//! The client's connection: in the clear or under TLS, counted, and closed so that the last words arrive.
//!
//! Everything about TLS records stays in here: `secured` is the socket under TLS, `records` the records themselves,
//! `hello` what is kept of a client until its handshake is over. An upgrade consumes the plain stream: no variable is
//! left through which something could be read in the clear.

mod hello;
mod records;
mod secured;

use crate::tls::Facts;
use bytes::BytesMut;
use rustls::ServerConfig;
use secured::Secured;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// How long a closing connection waits for the client to take our last words and close its side.
const LINGER: Duration = Duration::from_secs(2);

/// A client's connection.
#[derive(Debug)]
pub(super) struct ClientStream {
    socket: TcpStream,
    /// None in the clear.
    tls: Option<Box<Secured>>,
    /// Octets of the dialogue read from the client: what the protocol sees, without TLS' own.
    pub(super) bytes_in: u64,
    /// Octets written to it.
    pub(super) bytes_out: u64,
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
    pub(super) fn plain(socket: TcpStream) -> Self {
        Self { socket, tls: None, bytes_in: 0, bytes_out: 0 }
    }

    /// Speaks TLS from here on, as the server. What of `greeting` can go out within the handshake is taken from it.
    ///
    /// # Errors
    /// The handshake's, its alert sent, with the connection: nothing is to be read from it any more, and it is to be
    /// closed. A stream already under TLS is refused.
    pub(super) async fn start_tls(
        mut self,
        config: Arc<ServerConfig>,
        greeting: &mut BytesMut,
    ) -> Result<(Self, Facts), NoTls> {
        if self.tls.is_some() {
            return Err(NoTls { error: io::Error::other("TLS inside TLS"), first: Vec::new(), stream: self });
        }
        let mut tls = match Secured::new(config) {
            Ok(tls) => Box::new(tls),
            Err(error) => return Err(NoTls { error: io::Error::other(error), first: Vec::new(), stream: self }),
        };
        let words = greeting.len();
        match poll_fn(|cx| tls.poll_handshake(&mut self.socket, cx, greeting)).await {
            Ok(facts) => {
                self.bytes_out += (words - greeting.len()) as u64;
                Ok((Self { tls: Some(tls), ..self }, facts))
            }
            Err(error) => Err(NoTls { error, first: tls.into_first(), stream: self }),
        }
    }

    /// The client is a user from here on: large buffers are worth their memory.
    pub(super) fn logged_in(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.trust();
        }
    }

    /// Nothing has been said for a while, and nothing may be for a long time: what can be made anew is let go of.
    pub(super) fn settle(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.settle();
        }
    }

    /// What is written from here on waits for the end.
    pub(super) fn hold(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.hold();
        }
    }

    /// How much the socket has not taken yet of what was written.
    pub(super) fn waiting(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.waiting())
    }

    /// Wipes what was read and taken: it may have been a password.
    pub(super) fn forget(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.forget();
        }
    }

    /// Ends the connection: close_notify, FIN, then a moment for the client to take what is under way.
    /// Closing a socket with unread input would reset it, and the reset overtake our last words.
    pub(super) async fn close(mut self) {
        let closing = async {
            self.shutdown().await?;
            // Whatever comes now is no longer looked at, nor opened.
            let mut budget = 64;
            while budget > 0 && poll_fn(|cx| self.poll_rest(cx)).await? > 0 {
                budget -= 1;
            }
            Ok::<_, io::Error>(())
        };
        // A client that is gone cannot be told anything more.
        let _ = tokio::time::timeout(LINGER, closing).await;
    }
}

impl ClientStream {
    /// Reads a little, for nobody. A session that closes has no buffer for that.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut rest = [0; 1024];
        let mut rest = ReadBuf::new(&mut rest);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut rest))?;
        Poll::Ready(Ok(rest.filled().len()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let Self { socket, tls, .. } = &mut *self;
        let read = ready!(match tls {
            None => Pin::new(socket).poll_read(cx, buf),
            Some(tls) => tls.poll_read(socket, cx, buf),
        });
        self.bytes_in += (buf.filled().len() - before) as u64;
        Poll::Ready(read)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { socket, tls, .. } = &mut *self;
        let written = ready!(match tls {
            None => Pin::new(socket).poll_write(cx, buf),
            Some(tls) => tls.poll_write(socket, cx, buf),
        })?;
        self.bytes_out += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, tls, .. } = &mut *self;
        tls.as_mut().map_or(Poll::Ready(Ok(())), |tls| tls.poll_flush(socket, cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, tls, .. } = &mut *self;
        if let Some(tls) = tls {
            ready!(tls.poll_end(socket, cx))?;
        }
        Pin::new(socket).poll_shutdown(cx)
    }
}
