//! Bodies on their way through, a piece at a time: nothing is gathered, and who is silent or slow for too long is cut off.

use super::super::seats::Seat;
use super::super::traffic::UnderWay;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use tokio_util::task::AbortOnDropHandle;

/// What ends a body before its end.
type Cut = Box<dyn Error + Send + Sync>;

/// How long a browser may be silent within a body, and how long it is waited for without a look at how slow it is.
const SILENCE: Duration = Duration::from_secs(60);
/// How slow it may be after that, in octets a second: half of what the oldest modems bring. Each that is waited for keeps a process
/// of the old server's.
const SLOWEST: u64 = 512;
/// So long it may be that slow; then more is asked for, also in octets a second. Otherwise a body of a gigabyte would last for weeks.
const LONG: Duration = Duration::from_secs(600);
const SLOWEST_IN_THE_LONG_RUN: u64 = 4096;

/// How long a browser that has sent or taken so many octets may have been waited for in all.
fn allowance(octets: u64) -> Duration {
    let soon = (LONG - SILENCE).as_secs() * SLOWEST;
    let allowed = SILENCE + Duration::from_secs(octets.min(soon) / SLOWEST);
    allowed + Duration::from_secs(octets.saturating_sub(soon) / SLOWEST_IN_THE_LONG_RUN)
}

/// A browser's body, for the old server.
pub(super) struct Sent<B = Incoming> {
    body: B,
    pace: Arc<Pace>,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    /// How long the browser has been waited for.
    waited: Duration,
    octets: u64,
}

/// Since when it is the old server that is waited for; none while it is the browser.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Option<Instant>>);

impl Pace {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Instant::now()))))
    }

    /// How long the server has been waited for.
    pub(super) fn waited(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

impl<B> Sent<B> {
    pub(super) fn new(body: B, pace: Arc<Pace>) -> Self {
        Self { body, pace, waiting: None, waited: Duration::ZERO, octets: 0 }
    }
}

impl<B: Body<Data = Bytes, Error: Into<Cut>> + Unpin> Body for Sent<B> {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            if let Some((since, _)) = this.waiting.take() {
                this.waited += since.elapsed();
            }
            this.pace.set(Some(Instant::now()));
            return Poll::Ready(data(frame, &mut this.octets));
        }
        this.pace.set(None);
        let left = allowance(this.octets).saturating_sub(this.waited).min(SILENCE);
        let (_, sleep) = this.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Some(Err("the browser is silent or too slow".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The old server's body, for the browser, with all that lasts as long as it does.
pub(in crate::portal) struct Passed<B = Incoming> {
    body: B,
    /// How long the server may be silent.
    silence: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    /// When the browser was given what it has yet to take.
    given: Option<Instant>,
    /// How long it has taken to take all before that.
    waited: Duration,
    octets: u64,
    _lasting: Option<(AbortOnDropHandle<()>, Seat, UnderWay)>,
}

impl<B> Passed<B> {
    /// `lasting` is dropped with it.
    pub(super) fn new(body: B, silence: Duration, lasting: Option<(AbortOnDropHandle<()>, Seat, UnderWay)>) -> Self {
        Self { body, silence, waiting: None, given: None, waited: Duration::ZERO, octets: 0, _lasting: lasting }
    }
}

impl<B: Body<Data = Bytes, Error: Into<Cut>> + Unpin> Body for Passed<B> {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        // More is asked for when what was given has gone out.
        if let Some(given) = this.given.take() {
            this.waited += given.elapsed();
            if this.waited > allowance(this.octets) {
                return Poll::Ready(Some(Err("the browser is too slow".into())));
            }
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = None;
            this.given = Some(Instant::now());
            return Poll::Ready(data(frame, &mut this.octets));
        }
        let silence = this.silence;
        let sleep = this.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Some(Err("the webmail is silent".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The frame, if it is one of data: what stands behind a body (trailers) is for one connection, as its announcement was.
fn data<E: Into<Cut>>(frame: Option<Result<Frame<Bytes>, E>>, octets: &mut u64) -> Option<Result<Frame<Bytes>, Cut>> {
    match frame? {
        Ok(frame) => {
            let piece = frame.into_data().ok()?;
            *octets += u64::try_from(piece.len()).unwrap_or_default();
            Some(Ok(Frame::data(piece)))
        }
        Err(error) => Some(Err(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::collections::VecDeque;
    use std::convert::Infallible;

    /// Pieces, each of which comes after a while.
    struct Drip(VecDeque<(Duration, usize)>, Option<Pin<Box<Sleep>>>);

    impl Drip {
        fn of(count: usize, every: u64, octets: usize) -> Self {
            Self(vec![(Duration::from_secs(every), octets); count].into(), None)
        }
    }

    impl Body for Drip {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some((after, octets)) = self.0.front().copied() else { return Poll::Ready(None) };
            let sleep = self.1.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
            ready!(sleep.as_mut().poll(cx));
            self.0.pop_front();
            self.1 = None;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; octets])))))
        }
    }

    /// How much came, whether it came to its end, and after how many seconds.
    async fn read(body: impl Body<Data = Bytes, Error = Cut> + Unpin, pause: u64) -> (usize, bool, u64) {
        let (mut body, began, mut octets) = (body, Instant::now(), 0);
        loop {
            match body.frame().await {
                Some(Ok(frame)) => octets += frame.into_data().expect("data").len(),
                Some(Err(_)) => return (octets, false, began.elapsed().as_secs()),
                None => return (octets, true, began.elapsed().as_secs()),
            }
            tokio::time::sleep(Duration::from_secs(pause)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_browser_that_sends_too_slowly_is_cut_off_and_an_old_modem_is_not() {
        for (body, expected) in [
            (Drip::of(600, 1, 3_300), (1_980_000, true, 600)),
            (Drip::of(1, 61, 1), (0, false, 60)),
            // One octet every 50 s: the second silence is one too many.
            (Drip::of(10, 50, 1), (1, false, 60)),
            (Drip::of(10, 50, 50_000), (500_000, true, 500)),
            // An old modem has half an hour for six megabytes, and a drip is cut off soon behind the tenth minute.
            (Drip::of(1_800, 1, 3_300), (5_940_000, true, 1_800)),
            (Drip::of(10_000, 1, 600), (373_800, false, 623)),
        ] {
            assert_eq!(read(Sent::new(body, Pace::new()), 0).await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_silent_and_a_browser_that_does_not_take_are_cut_off() {
        let minute = Duration::from_secs(60);
        for (body, pause, expected) in [
            (Drip::of(10, 59, 10), 0, (100, true, 590)),
            (Drip::of(2, 61, 10), 0, (0, false, 60)),
            (Drip::of(10, 0, 100_000), 30, (1_000_000, true, 300)),
            (Drip::of(100, 0, 100), 30, (300, false, 90)),
        ] {
            assert_eq!(read(Passed::new(body, minute, None), pause).await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_is_not_waited_for_while_the_browser_is() {
        let pace = Pace::new();
        let mut sent = Sent::new(Drip::of(2, 30, 1), Arc::clone(&pace));
        let second = Duration::from_secs(1);
        tokio::time::sleep(second).await;
        assert_eq!(pace.waited(), second);
        assert!(tokio::time::timeout(second, sent.frame()).await.is_err());
        tokio::time::sleep(second).await;
        assert_eq!(pace.waited(), Duration::ZERO);
        assert!(sent.frame().await.is_some());
        tokio::time::sleep(second).await;
        assert_eq!(pace.waited(), second);
    }
}
