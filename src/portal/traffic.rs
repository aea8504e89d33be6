//! What happens on one browser's connection, as far as its end depends on it.

use super::webmail::Socket;
use crate::session::Stream;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// One connection's requests.
#[derive(Default)]
pub(super) struct Traffic {
    asked: AtomicUsize,
    was_webmail: AtomicBool,
    under_way: Arc<AtomicUsize>,
    socket: Mutex<Option<Socket>>,
}

/// A request that is not answered to its end, until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Traffic {
    /// Counts a request, and says how many there were.
    pub(super) fn ask(&self) -> usize {
        self.asked.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Begins to pass a request on to a webmail.
    pub(super) fn begin(&self) -> UnderWay {
        self.was_webmail.store(true, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(&self.under_way))
    }

    /// Whether a webmail was asked for.
    pub(super) fn was_webmail(&self) -> bool {
        self.was_webmail.load(Ordering::Relaxed)
    }

    /// Whether a webmail's answer is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// The connection is to become a WebSocket once the answer is out.
    pub(super) fn becomes(&self, socket: Socket) {
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
    }

    /// The WebSocket that it has become.
    pub(super) fn socket(&self) -> Option<Socket> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A browser's stream that knows when an octet last passed.
pub(super) struct Watched<'a> {
    stream: &'a mut dyn Stream,
    moved: Arc<Mutex<Instant>>,
}

impl<'a> Watched<'a> {
    /// The stream, and a future that ends when not an octet has passed for so long.
    pub(super) fn new(stream: &'a mut dyn Stream, so_long: Duration) -> (Self, impl Future<Output = ()> + use<>) {
        let moved = Arc::new(Mutex::new(Instant::now()));
        let seen = Arc::clone(&moved);
        let still = async move {
            loop {
                let end = *seen.lock().unwrap_or_else(PoisonError::into_inner) + so_long;
                if end <= Instant::now() {
                    return;
                }
                tokio::time::sleep_until(end).await;
            }
        };
        (Self { stream, moved }, still)
    }

    fn moves(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl AsyncRead for Watched<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut *self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.moves();
        }
        read
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.stream).poll_write(cx, buf);
        if written.is_ready() {
            self.moves();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}
