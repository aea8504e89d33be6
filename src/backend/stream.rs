//! A connection to a backend, in the clear or under TLS, with the place it takes there.

use super::Lost;
use super::server::Place;
use crate::policy::{BackendTls, ServerName};
use crate::tls;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// A silent connection is asked after five minutes, and given up after about ten.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(300)).with_interval(Duration::from_secs(60)).with_retries(5);

/// A connection to a backend. Dropping it closes it, and gives its place back.
#[derive(Debug)]
pub struct BackendStream {
    io: Io,
    _place: Option<Place>,
    is_watched: bool,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl BackendStream {
    /// A connection as it was made.
    pub(super) fn plain(socket: TcpStream) -> Self {
        Self { io: Io::Plain(socket), _place: None, is_watched: false }
    }

    /// Speaks TLS from here on, as the client, with a server that proves to be this one.
    pub(super) async fn start_tls(self, tls: &BackendTls, server: &ServerName, time: Duration) -> Result<Self, Lost> {
        let Io::Plain(socket) = self.io else { return Err(Lost::Tls("TLS inside TLS".to_owned())) };
        let host = tls.name.as_ref().unwrap_or(&server.host);
        let name = tls::server_name(host).map_err(|error| Lost::Tls(format!("{host}: {error}")))?;
        let handshake = TlsConnector::from(Arc::clone(&tls.config)).connect(name, socket);
        match tokio::time::timeout(time, handshake).await {
            Ok(Ok(stream)) => Ok(Self { io: Io::Tls(Box::new(stream)), ..self }),
            Ok(Err(error)) => Err(Lost::Tls(format!("{server}: {}", tls::words(&error, host)))),
            Err(_) => {
                let time = humantime::format_duration(time);
                Err(Lost::Tls(format!("{server}: the TLS handshake was not over within {time}")))
            }
        }
    }

    /// Holds this place from now on.
    pub(super) fn take_place(&mut self, place: Place) {
        self._place = Some(place);
    }

    /// Notices from here on that the server has vanished without a word, as it may in an IDLE that lasts for hours. Not from the
    /// beginning: for a session that comes and goes these are four calls in vain.
    pub(crate) fn watch(&mut self) {
        if !std::mem::replace(&mut self.is_watched, true) {
            let socket = match &self.io {
                Io::Plain(socket) => socket,
                Io::Tls(stream) => stream.get_ref().0,
            };
            // A socket that refuses the option still works.
            let _ = SockRef::from(socket).set_tcp_keepalive(&KEEPALIVE);
        }
    }

    /// What is written from here on may wait for the end of our side, and goes in one packet with it. Under TLS it does not wait.
    pub(crate) fn hold(&mut self) {
        if let Io::Plain(socket) = &self.io {
            // A socket that refuses the option still works.
            let _ = SockRef::from(socket).set_tcp_cork(true);
        }
    }

    /// Says that there is nothing more to come, and closes.
    pub(crate) async fn close(mut self) {
        // A server that does not take it is not waited for, and none that is gone needs it.
        let _ = tokio::time::timeout(FAREWELL, self.shutdown()).await;
    }

    /// Whether nothing has come, and the other side is still there, as far as is known by now. What has come is lost.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        Pin::new(self).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf).is_pending()
    }
}

impl AsyncRead for BackendStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for BackendStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
