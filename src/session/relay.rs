//! Two streams and a deadline: what a logged-in POP3 or IMAP session is.
//!
//! Nothing here knows mail. A session that waits owns no buffer: one scratch buffer a thread serves
//! all of them, and only what a slow reader has not taken yet is kept, for that session alone.

use super::leftover::Leftover;
use super::noticed::{Farewell, Word};
use bytes::BytesMut;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

/// Large enough that a bulk transfer costs few calls.
const SCRATCH: usize = 256 * 1024;
/// The most that is read at once, and so kept, for whom nothing is known of.
const CAREFUL: usize = 64 * 1024;
/// So much is read at once of a side that has said little, or whose other side does not keep up: what cannot be written is
/// kept for the session.
const SMALL: usize = 16 * 1024;
/// How long the other direction may go on without progress when one side has ended.
const AFTER_END: Duration = Duration::from_secs(3);
/// Who has said nothing for so long may say nothing for hours.
const SETTLING: Duration = Duration::from_millis(250);
/// A goodbye is not longer.
const LAST_WORDS: usize = 1024;
/// Rounds of a direction before the other sessions of the thread get their turn.
const ROUNDS: u32 = 8;

thread_local! {
    static SCRATCH_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// How the relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client closed first.
    Client,
    /// The backend closed first; everything it said was delivered.
    Backend,
    /// Neither said anything for the idle time.
    Idle,
    /// We were asked to end it.
    Asked,
    /// A connection broke on the client's side.
    ClientBroke,
    /// A connection broke on the backend's side.
    BackendBroke,
}

impl End {
    /// The `reason` on `session.closed`.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Client => "client_closed",
            Self::ClientBroke => "client_lost",
            Self::Backend => "backend_closed",
            Self::BackendBroke => "backend_lost",
            Self::Idle => "timeout",
            Self::Asked => "shutting_down",
        }
    }
}

/// What is known of the dialogue's state when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// How.
    pub(super) how: End,
    /// The last byte the client got ended a line, or nothing was sent at all.
    pub(super) at_line_end: bool,
    /// A side said its farewell at the beginning of one of its last lines.
    pub(super) said_farewell: bool,
    /// The client asked for what takes the words of the protocol off the wire.
    pub(super) is_encoded: bool,
}

/// What the relay starts with.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// Read from the client behind the login, for the backend.
    pub(super) from_client: BytesMut,
    /// Read from the backend behind its verdict, for the client.
    pub(super) from_backend: BytesMut,
    /// How long both sides may be silent.
    pub(super) idle: Duration,
    /// The beginnings of lines, the client's and the backend's, that say that the end is meant.
    pub(super) farewells: (Option<&'static [u8]>, Option<&'static [u8]>),
    /// What a client says to have both directions encoded from there on.
    pub(super) encoding: Option<&'static [u8]>,
    /// Whether nothing is known of the client: less is kept for him of what a side does not take.
    pub(super) careful: bool,
}

/// One of the two sides.
pub(super) trait Side: AsyncRead + AsyncWrite + Unpin {
    /// What is written from here on may wait until the side is closed: its last words and its end are one packet then.
    fn hold(&mut self) {}

    /// Nothing was said for [`SETTLING`]: it may need less memory from here on.
    fn settle(&mut self) {}

    /// How much of what it took it has not sent yet.
    fn waiting(&self) -> usize {
        0
    }
}

/// Two sides and what is under way between them.
pub(super) struct Relay<C, B> {
    client: C,
    backend: B,
    up: Pump,
    down: Pump,
    idle: Duration,
    first_end: Option<End>,
}

impl<C: Side, B: Side> Relay<C, B> {
    /// Puts two sides together.
    pub(super) fn new(client: C, backend: B, start: Start) -> Self {
        let mut up = Pump::new(start.from_client, Behind::Shutdown, start.farewells.0, start.encoding);
        let mut down = Pump::new(start.from_backend, Behind::LastWords, start.farewells.1, None);
        (up.careful, down.careful) = (start.careful, start.careful);
        Self { client, backend, up, down, idle: start.idle, first_end: None }
    }

    /// Carries bytes both ways until a side ends, the idle time passes or `leave` asks for the end. The client's end
    /// travels to the backend (half-close); the backend's is the end of it all, and the last words are the caller's.
    pub(super) async fn run(&mut self, leave: &CancellationToken) -> Ended {
        let mut quiet = Quiet { since: Instant::now(), limit: self.idle, has_settled: false };
        let sleep = tokio::time::sleep_until(quiet.due());
        tokio::pin!(sleep);
        let asked = leave.cancelled();
        tokio::pin!(asked);
        let how = poll_fn(|cx| match self.poll_move(&mut quiet, sleep.as_mut(), cx) {
            Poll::Ready(how) => Poll::Ready(how),
            Poll::Pending if asked.as_mut().poll(cx).is_ready() => Poll::Ready(End::Asked),
            Poll::Pending => self.poll_quiet(&mut quiet, sleep.as_mut(), cx),
        })
        .await;
        Ended {
            how,
            at_line_end: self.down.at_line_end && self.down.rest.is_empty(),
            said_farewell: self.up.said_farewell() || self.down.said_farewell(),
            is_encoded: self.up.encoding.as_ref().is_some_and(Word::was_said),
        }
    }

    /// Ready when nothing has moved for as long as may be; before that, once, both sides hear that little may come.
    fn poll_quiet(&mut self, quiet: &mut Quiet, mut sleep: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<End> {
        while sleep.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if quiet.since + quiet.limit <= now {
                return Poll::Ready(self.first_end.unwrap_or(End::Idle));
            }
            if quiet.due() <= now {
                quiet.has_settled = true;
                self.client.settle();
                self.backend.settle();
            }
            sleep.as_mut().reset(quiet.due());
        }
        Poll::Pending
    }

    /// The client, for the last words. The backend's connection ends here.
    pub(super) fn into_client(self) -> C {
        self.client
    }

    /// Moves what can be moved; ready at the end.
    fn poll_move(&mut self, quiet: &mut Quiet, mut sleep: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<End> {
        let Self { client, backend, up, down, idle, first_end } = self;
        let before = (up.moved + down.moved, client.waiting());
        let up_state = up.poll(client, backend, cx);
        let down_state = down.poll(backend, client, cx);
        if (up.moved + down.moved, client.waiting()) != before {
            quiet.since = Instant::now();
            if std::mem::take(&mut quiet.has_settled) {
                sleep.as_mut().reset(quiet.due());
            }
        }
        match (up_state, down_state) {
            (Err(Broken::Reading), _) | (_, Err(Broken::Writing)) => {
                return Poll::Ready(first_end.unwrap_or(End::ClientBroke));
            }
            (_, Err(Broken::Reading)) => return Poll::Ready(first_end.unwrap_or(End::BackendBroke)),
            // The backend takes nothing more; what it said before that is still the client's.
            (Err(Broken::Writing), Ok(())) => up.done = true,
            (Ok(()), Ok(())) => {}
        }
        if first_end.is_none() {
            *first_end = match (up.source_ended, down.source_ended) {
                (_, true) => Some(End::Backend),
                _ if down.source_broke => Some(End::BackendBroke),
                _ if up.source_broke => Some(End::ClientBroke),
                (true, false) => Some(End::Client),
                (false, false) => up.done.then_some(End::BackendBroke),
            };
            if first_end.is_some() && !down.done {
                *quiet = Quiet { since: Instant::now(), limit: AFTER_END.min(*idle), has_settled: true };
                sleep.reset(quiet.due());
            }
        }
        // The backend's end, all of it delivered, is the session's end; a client's end waits for the backend's answer.
        if down.done { Poll::Ready(first_end.unwrap_or(End::Backend)) } else { Poll::Pending }
    }
}

/// The time since something moved. The timer is not reset at each byte: when it rings, it is set anew if it rang too early.
struct Quiet {
    since: Instant,
    limit: Duration,
    /// Both sides know.
    has_settled: bool,
}

impl Quiet {
    /// When there is something to do, if nothing moves.
    fn due(&self) -> Instant {
        self.since + if self.has_settled { self.limit } else { self.limit.min(SETTLING) }
    }
}

/// Which half of a pump broke.
enum Broken {
    Reading,
    Writing,
}

/// What follows in a direction whose source has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// The writer is told that this was all.
    Shutdown,
    /// The caller may still have something to say to the writer.
    LastWords,
}

/// One direction.
struct Pump {
    /// What the writer has not taken yet.
    rest: Leftover,
    moved: u64,
    at_line_end: bool,
    farewell: Option<Farewell>,
    encoding: Option<Word>,
    behind: Behind,
    source_ended: bool,
    source_broke: bool,
    needs_flush: bool,
    /// How much is read at once.
    chunk: usize,
    /// Whether less than usual is read at once.
    careful: bool,
    /// The source ended, and the writer has everything.
    done: bool,
}

impl Pump {
    fn new(rest: BytesMut, behind: Behind, farewell: Option<&'static [u8]>, encoding: Option<&'static [u8]>) -> Self {
        let mut pump = Self {
            rest: Leftover::default(),
            moved: 0,
            at_line_end: true,
            farewell: farewell.map(Farewell::new),
            encoding: encoding.map(Word::new),
            behind,
            source_ended: false,
            source_broke: false,
            needs_flush: false,
            chunk: SMALL,
            careful: false,
            done: false,
        };
        pump.note(&rest);
        pump.rest = rest.into();
        pump
    }

    /// Moves what can be moved now. `Ok` with everything parked in a waker, or done.
    fn poll<R: Side, W: Side>(&mut self, reader: &mut R, writer: &mut W, cx: &mut Context<'_>) -> Result<(), Broken> {
        if self.done {
            return Ok(());
        }
        for _ in 0..ROUNDS {
            while !self.rest.is_empty() {
                match Pin::new(&mut *writer).poll_write(cx, &self.rest) {
                    Poll::Ready(Ok(written)) if written > 0 => self.wrote(written),
                    Poll::Ready(_) => return Err(Broken::Writing),
                    Poll::Pending => return Ok(()),
                }
            }
            if self.source_ended {
                return self.finish(writer, cx);
            }
            self.flush(writer, cx)?;
            if self.needs_flush {
                self.chunk = SMALL;
                return Ok(());
            }
            match self.shift(reader, writer, cx)? {
                Poll::Ready(()) => {}
                Poll::Pending => return Ok(()),
            }
        }
        // More may be waiting: come back after the others.
        cx.waker().wake_by_ref();
        self.flush(writer, cx)
    }

    /// Reads what there is into the thread's scratch buffer and hands it on; what is not taken is kept.
    fn shift<R: Side, W: Side>(
        &mut self,
        reader: &mut R,
        writer: &mut W,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, Broken> {
        SCRATCH_BUFFER.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(&mut scratch[..self.chunk]);
            let read = self.read(reader, &mut buf, cx);
            let mut chunk = buf.filled();
            if chunk.is_empty() {
                return if self.source_broke { Err(Broken::Reading) } else { Ok(read) };
            }
            if self.source_ended && self.behind == Behind::LastWords && chunk.len() <= LAST_WORDS {
                writer.hold();
            }
            self.note(chunk);
            // Records of TLS do not fill a buffer to the last octet.
            let most = if self.careful { CAREFUL } else { SCRATCH };
            self.chunk = if chunk.len() >= self.chunk / 2 { most.min(self.chunk * 2) } else { SMALL };
            while !chunk.is_empty() {
                match Pin::new(&mut *writer).poll_write(cx, chunk) {
                    Poll::Ready(Ok(written)) if written > 0 => {
                        self.moved += written as u64;
                        self.needs_flush = true;
                        chunk = &chunk[written..];
                    }
                    Poll::Ready(_) => return Err(Broken::Writing),
                    Poll::Pending => {
                        self.chunk = SMALL;
                        self.rest.push(chunk);
                        break;
                    }
                }
            }
            Ok(Poll::Ready(()))
        })
    }

    /// Reads until there is nothing more to be had, for now or for good, or no room. Where the system says that a side has
    /// ended together with its last words, both are known before those are passed on.
    fn read<R: Side>(&mut self, reader: &mut R, buf: &mut ReadBuf<'_>, cx: &mut Context<'_>) -> Poll<()> {
        while buf.remaining() > 0 && !self.source_ended && !self.source_broke {
            let before = buf.filled().len();
            match Pin::new(&mut *reader).poll_read(cx, buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => self.source_ended = buf.filled().len() == before,
                // A TLS client that vanishes without close_notify has ended all the same; nothing after it is trusted.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => self.source_ended = true,
                Poll::Ready(Err(_)) => self.source_broke = true,
            }
        }
        Poll::Ready(())
    }

    fn finish<W: AsyncWrite + Unpin>(&mut self, writer: &mut W, cx: &mut Context<'_>) -> Result<(), Broken> {
        if self.behind == Behind::LastWords {
            self.flush(writer, cx)?;
            self.done = !self.needs_flush;
            return Ok(());
        }
        match Pin::new(writer).poll_shutdown(cx) {
            Poll::Ready(Ok(())) => self.done = true,
            // The other side is gone already, which is what we came to tell it.
            Poll::Ready(Err(_)) => self.done = true,
            Poll::Pending => {}
        }
        Ok(())
    }

    fn flush<W: AsyncWrite + Unpin>(&mut self, writer: &mut W, cx: &mut Context<'_>) -> Result<(), Broken> {
        if self.needs_flush {
            match Pin::new(writer).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.needs_flush = false,
                Poll::Ready(Err(_)) => return Err(Broken::Writing),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    fn note(&mut self, chunk: &[u8]) {
        if let Some(farewell) = &mut self.farewell {
            farewell.note(chunk, self.at_line_end);
        }
        if let Some(encoding) = &mut self.encoding {
            encoding.note(chunk);
        }
        if let Some(last) = chunk.last() {
            self.at_line_end = *last == b'\n';
        }
    }

    fn said_farewell(&self) -> bool {
        self.farewell.as_ref().is_some_and(Farewell::was_said)
    }

    fn wrote(&mut self, written: usize) {
        self.rest.advance(written);
        self.moved += written as u64;
        self.needs_flush = true;
    }
}

#[cfg(test)]
mod tests;
