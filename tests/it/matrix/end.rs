//! One end of a connection in the matrix: a socket whose end can be chosen. Nothing here has a deadline of its own, since
//! the clock stands still; a row that hangs is ended by the process that started it.

use crate::transcript::{HOSTNAME, Pattern};
use bytes::{Buf, BytesMut};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) struct End {
    io: Io,
    /// Read, and not looked at yet.
    pub(crate) got: BytesMut,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How the other side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With FIN, and under TLS with close_notify before it.
    Properly,
    /// By a reset, or without close_notify.
    Broken,
}

impl End {
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).await.expect("it listens"))
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket of ours");
        Self { io: Io::Plain(stream), got: BytesMut::new() }
    }

    pub(crate) async fn start_tls(self, config: Arc<ClientConfig>) -> Self {
        assert!(self.got.is_empty(), "in the clear behind the go-ahead: {}", self.got.escape_ascii());
        let Io::Plain(stream) = self.io else { panic!("TLS inside TLS") };
        let name = ServerName::try_from(HOSTNAME).expect("a name");
        let stream = TlsConnector::from(config).connect(name, stream).await.expect("a handshake");
        Self { io: Io::Tls(Box::new(stream)), got: BytesMut::new() }
    }

    /// Sends. That the other side has gone is seen by who reads.
    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.says(bytes.as_ref()).await;
    }

    /// Sends; `false` where nobody takes it any more.
    pub(crate) async fn says(&mut self, bytes: &[u8]) -> bool {
        let said = match &mut self.io {
            Io::Plain(stream) => stream.write_all(bytes).await,
            Io::Tls(stream) => match stream.write_all(bytes).await {
                Ok(()) => stream.flush().await,
                error => error,
            },
        };
        said.is_ok()
    }

    pub(crate) async fn line(&mut self, line: &str) {
        self.say(format!("{line}\r\n")).await;
    }

    /// Waits for these lines, `<*>` for any text in them. Nothing is lost when it is cancelled.
    pub(crate) async fn hear(&mut self, lines: &str) {
        let pattern = Pattern::line(&lines.replace('\n', "\r\n"));
        loop {
            if let Some(length) = pattern.matches(&self.got) {
                return self.got.advance(length);
            }
            assert!(!pattern.is_beyond(&self.got), "expected {pattern}\n     got {}", self.got.escape_ascii());
            let read = self.read().await;
            assert!(
                matches!(read, Ok(1..)),
                "expected {pattern}\n     got {} and then {read:?}",
                self.got.escape_ascii()
            );
        }
    }

    /// Waits for an answer of one or more lines to EHLO.
    pub(crate) async fn hear_list(&mut self) {
        while !replies_end(&self.got) {
            assert!(matches!(self.read().await, Ok(1..)), "a list");
        }
        self.got.clear();
    }

    /// Reads to the other side's end, and takes what was still said.
    pub(crate) async fn rest(&mut self) -> (String, Ended) {
        let ended = loop {
            match self.read().await {
                Ok(0) => break Ended::Properly,
                Ok(_) => {}
                Err(_) => break Ended::Broken,
            }
        };
        (self.got.split().escape_ascii().to_string(), ended)
    }

    /// Reads what comes next; `false` at the end, however it ends.
    pub(crate) async fn read_on(&mut self) -> bool {
        matches!(self.read().await, Ok(1..))
    }

    /// Ends our side, close_notify and FIN, and stays to listen.
    pub(crate) async fn end(&mut self) {
        let _ = match &mut self.io {
            Io::Plain(stream) => stream.shutdown().await,
            Io::Tls(stream) => stream.shutdown().await,
        };
    }

    /// The connection breaks: a reset, and no close_notify.
    pub(crate) fn reset(self) {
        let stream = match &self.io {
            Io::Plain(stream) => stream,
            Io::Tls(stream) => stream.get_ref().0,
        };
        socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("an option");
    }

    async fn read(&mut self) -> io::Result<usize> {
        match &mut self.io {
            Io::Plain(stream) => stream.read_buf(&mut self.got).await,
            Io::Tls(stream) => stream.read_buf(&mut self.got).await,
        }
    }
}

fn replies_end(got: &[u8]) -> bool {
    let Some(text) = got.strip_suffix(b"\r\n") else { return false };
    let last = text.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
    last.get(3) == Some(&b' ')
}
