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
/// How long the end may take.
const PARTING: Duration = Duration::from_secs(5);
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
        carry(&mut self.server, browser, first).await;
    }
}

async fn carry(
    server: &mut (impl AsyncRead + AsyncWrite + Send + Unpin),
    browser: impl AsyncRead + AsyncWrite + Send,
    first: Bytes,
) {
    let moved = Mutex::new(Instant::now());
    let (from_browser, to_browser) = tokio::io::split(browser);
    let (from_server, to_server) = tokio::io::split(&mut *server);
    let from_browser = first.as_ref().chain(from_browser);
    // How it ended is nobody's concern: each side sees the end of the other.
    tokio::select! {
        _ = one_way(from_browser, to_server, &moved) => {}
        _ = one_way(from_server, to_browser, &moved) => {}
        () = silence(&moved) => {}
    }
    let _ = tokio::time::timeout(PARTING, server.shutdown()).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use tokio::io::{ReadBuf, duplex};

    /// A server that says nothing, takes nothing and does not end.
    struct Stuck;

    impl AsyncRead for Stuck {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Stuck {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_nothing_is_not_waited_for_without_end() {
        let (_browser, ours) = duplex(100);
        let began = Instant::now();
        let carried = async { carry(&mut Stuck, ours, Bytes::from_static(b"first")).await };
        tokio::time::timeout(SILENCE * 2, carried).await.expect("an end");
        assert_eq!(began.elapsed().as_secs(), (SILENCE + PARTING).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_too_far_is_the_first() {
        let ((mut browser, ours), (mut server, mut theirs)) = (duplex(100), duplex(100));
        let carried = async move { carry(&mut theirs, ours, Bytes::from_static(b"first ")).await };
        let talk = async move {
            browser.write_all(b"second").await.expect("taken");
            let mut heard = [0; 12];
            server.read_exact(&mut heard).await.expect("delivered");
            assert_eq!(&heard, b"first second");
            drop(browser);
            assert_eq!(server.read(&mut heard).await.expect("a proper end"), 0);
        };
        tokio::join!(carried, talk);
    }
}
