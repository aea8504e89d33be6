//! Bodies on their way through, a piece at a time: nothing is gathered, and who is silent for too long is cut off.

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

/// How long a browser may be silent within a body.
const SILENCE: Duration = Duration::from_secs(60);
/// How slow it may be on the whole, in octets a second, once it has been waited for as long as `SILENCE`: half of what the oldest
/// modems bring.
const SLOWEST: u64 = 512;

/// A browser's body, for the old server.
pub(super) struct Sent {
    body: Incoming,
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

impl Sent {
    pub(super) fn new(body: Incoming, pace: Arc<Pace>) -> Self {
        Self { body, pace, waiting: None, waited: Duration::ZERO, octets: 0 }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            if let Some((since, _)) = this.waiting.take() {
                this.waited += since.elapsed();
            }
            this.pace.set(Some(Instant::now()));
            return Poll::Ready(data(frame).inspect(|frame| {
                let octets = frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
                this.octets += u64::try_from(octets).unwrap_or_default();
            }));
        }
        this.pace.set(None);
        let left = (SILENCE + Duration::from_secs(this.octets / SLOWEST)).saturating_sub(this.waited).min(SILENCE);
        let (_, sleep) = this.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Some(Err("the browser was silent for too long".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The old server's body, for the browser, with all that lasts as long as it does.
pub(in crate::portal) struct Passed {
    body: Incoming,
    /// How long the server may be silent.
    silence: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    _driver: AbortOnDropHandle<()>,
    _seat: Seat,
    _under_way: UnderWay,
}

impl Passed {
    pub(super) fn new(
        body: Incoming,
        silence: Duration,
        driver: AbortOnDropHandle<()>,
        seat: Seat,
        under_way: UnderWay,
    ) -> Self {
        Self { body, silence, waiting: None, _driver: driver, _seat: seat, _under_way: under_way }
    }
}

impl Body for Passed {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = None;
            return Poll::Ready(data(frame));
        }
        let silence = this.silence;
        let sleep = this.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Some(Err("the webmail was silent for too long".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The frame, if it is one of data: what stands behind a body (trailers) is for one connection, as its announcement was.
fn data(frame: Option<Result<Frame<Bytes>, hyper::Error>>) -> Option<Result<Frame<Bytes>, Cut>> {
    match frame? {
        Ok(frame) if frame.is_data() => Some(Ok(frame)),
        Ok(_) => None,
        Err(error) => Some(Err(error.into())),
    }
}
