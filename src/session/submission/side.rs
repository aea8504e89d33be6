//! The two sides of a submission session, each a connection and what is under way on it.

use crate::backend::poll_read_into;
use bytes::{Buf, BytesMut};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};

/// A line that is not over yet may stand there all the same: a command or a reply of 8 KiB, and what shows that it is longer.
const LINE: usize = 9 * 1024;
/// A buffer larger than this is given back while nothing stands in it.
const KEPT: usize = 1024;

/// A connection and what is under way on it. Without a connection, nothing is.
pub(super) struct Side<S> {
    pub(super) buffers: Buffers,
    pub(super) io: Option<S>,
}

/// What came, and what is to go.
pub(super) struct Buffers {
    pub(super) from: BytesMut,
    pub(super) to: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Side<S> {
    /// Writes as far as the other end takes it; `true` if anything went.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Ok(false)) };
        let mut wrote = false;
        while !self.buffers.to.is_empty() {
            match Pin::new(&mut *io).poll_write(cx, &self.buffers.to) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.buffers.to.advance(written);
                    wrote = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if wrote => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        match Pin::new(io).poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(wrote)),
        }
    }

    /// Reads more; pending where there is no connection or no room.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, held: usize) -> Poll<io::Result<usize>> {
        let Some(io) = &mut self.io else { return Poll::Pending };
        let from = &mut self.buffers.from;
        // A line is understood at its end or past its bound, so one that has neither is read on.
        let is_unfinished = from.len() >= held && memchr::memchr(b'\n', from).is_none();
        let room = if is_unfinished { LINE } else { held }.saturating_sub(from.len());
        if room == 0 {
            return Poll::Pending;
        }
        poll_read_into(io, cx, from, room)
    }

    /// All of it written and flushed, or no way to.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.poll_write(cx) {
            Poll::Ready(Ok(true)) if !self.buffers.to.is_empty() => Poll::Pending,
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    }

    /// A session that waits keeps no large buffers.
    pub(super) fn give_back(&mut self) {
        for buffer in [&mut self.buffers.from, &mut self.buffers.to] {
            if buffer.is_empty() && buffer.capacity() > KEPT {
                *buffer = BytesMut::new();
            }
        }
    }
}
