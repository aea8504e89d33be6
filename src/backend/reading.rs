//! Reading through memory that all connections of a thread share, so that one which waits owns no room for what may come, and
//! one of which little comes owns no more than that.

use bytes::BytesMut;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// The most that is read at once, in octets.
const MOST: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; MOST].into_boxed_slice());
}

/// Reads at most `room` octets, 16 KiB at once, and puts them behind what stands in `into`. Gives how many they were; none is the
/// end, or that there was no room.
///
/// # Errors
/// The connection's.
pub(crate) fn poll_read_into<R: AsyncRead + Unpin>(
    from: &mut R,
    cx: &mut Context<'_>,
    into: &mut BytesMut,
    room: usize,
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buf = ReadBuf::new(&mut scratch[..room.min(MOST)]);
        ready!(Pin::new(from).poll_read(cx, &mut buf))?;
        into.extend_from_slice(buf.filled());
        let read = buf.filled().len();
        // A password may stand in it, or what a server repeats of one.
        buf.filled_mut().fill(0);
        Poll::Ready(Ok(read))
    })
}
