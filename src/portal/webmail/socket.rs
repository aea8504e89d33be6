//! A WebSocket (RFC 6455): octets both ways until either side ends, or both are silent.

use super::super::seats::Seat;
use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// How long both sides may be silent. Applications ask each other every minute or so whether they are still there.
const SILENCE: Duration = Duration::from_secs(10 * 60);
/// How much is carried at once.
const PIECE: usize = 8 * 1024;

/// The old server's side of a WebSocket that both have agreed on.
pub(in crate::portal) struct Socket {
    pub(super) server: TokioIo<Upgraded>,
    pub(super) _driver: AbortOnDropHandle<()>,
    pub(super) _seat: Seat,
}

impl Socket {
    /// Carries until one side ends. `first` is what the browser has sent already.
    pub(in crate::portal) async fn carry(mut self, browser: impl AsyncRead + AsyncWrite + Send, first: Bytes) {
        if self.server.write_all(&first).await.is_err() {
            return;
        }
        let moved = Mutex::new(Instant::now());
        let (from_browser, to_browser) = tokio::io::split(browser);
        let (from_server, to_server) = tokio::io::split(&mut self.server);
        // How it ended is nobody's concern: each side sees the end of the other.
        tokio::select! {
            _ = one_way(from_browser, to_server, &moved) => {}
            _ = one_way(from_server, to_browser, &moved) => {}
            () = silence(&moved) => {}
        }
        let _ = self.server.shutdown().await;
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &Mutex<Instant>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&piece[..read]).await?;
        to.flush().await?;
        *moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

async fn silence(moved: &Mutex<Instant>) {
    loop {
        let end = *moved.lock().unwrap_or_else(PoisonError::into_inner) + SILENCE;
        if end <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(end).await;
    }
}
