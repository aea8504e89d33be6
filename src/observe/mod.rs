//! What happened, for people, for logs and for metrics.
//!
//! Every event goes through one call, [`Observe::record`]: it is counted, becomes a line of the log and, if it is about
//! a login, of the auth log, and reaches whoever [subscribed](Observe::subscribe). None of that waits: lines are written by
//! a thread of their own, and what does not fit its queue is dropped and counted.

mod attempts;
mod diagnostics;
pub mod event;
mod line;
pub mod metrics;
mod queue;
mod tally;
mod writer;

pub use attempts::Attempt;
pub use diagnostics::Diagnostics;
pub use event::{Event, Kind};
pub use line::Style;
pub use metrics::{ListenerMetrics, Metrics};

use crate::policy::Log;
use attempts::Attempts;
use std::cell::RefCell;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};
use tally::Tally;
use tokio::sync::broadcast;
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use writer::{Attendant, AuthLog, Writer};

/// How many events a subscriber may be behind before it loses the oldest.
const SUBSCRIBER_QUEUE: usize = 4096;
/// How long the end of the program waits for the last lines, when nobody reads them.
const PATIENCE: Duration = Duration::from_secs(2);

/// Takes every event. One for the process, shared.
pub struct Observe {
    metrics: Metrics,
    recorder: Arc<Recorder>,
    writer: Writer,
    has_auth_log: bool,
    /// There once somebody has subscribed: a queue of events is large.
    subscribers: OnceLock<broadcast::Sender<Event>>,
    /// There once there is somebody to tell.
    attempts: OnceLock<Attempts>,
}

/// What the writer's thread needs too.
struct Recorder {
    style: Style,
    level: AtomicU8,
    tally: Tally,
    dropped: prometheus::IntCounter,
}

/// Keeps the log alive: when it goes, the last lines are written out.
#[must_use = "the last lines are lost without it"]
pub struct Guard(Arc<Observe>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.writer.flush(PATIENCE);
    }
}

/// Starts the log on standard output and makes it the program's: `tracing` messages go there too. For the program's beginning;
/// a second call leaves the first subscriber in place.
///
/// # Errors
/// The auth log cannot be opened, or no thread can be started.
pub fn init(settings: &Log) -> io::Result<(Arc<Observe>, Guard)> {
    let auth = settings.auth_log.as_deref().map(AuthLog::open).transpose()?;
    let observe = Observe::start(Box::new(io::stdout()), Style::for_stdout(settings.format), settings.level, auth)?;
    let subscriber = tracing_subscriber::registry().with(observe.diagnostics());
    // Refused only where a subscriber is set already, whose owner wants the messages.
    let _ = tracing::subscriber::set_global_default(subscriber);
    let guard = Guard(Arc::clone(&observe));
    Ok((observe, guard))
}

impl Observe {
    /// An `Observe` that writes JSON lines of level info to `sink` and sets nothing global: for tests and for embedding.
    pub fn with_sink(sink: Box<dyn Write + Send>) -> Arc<Self> {
        Self::with_style(sink, Style::Json, Level::INFO)
    }

    /// The same in a style and at a level.
    pub fn with_style(sink: Box<dyn Write + Send>, style: Style, level: Level) -> Arc<Self> {
        Self::start(sink, style, level, None).expect("a process that cannot start one thread cannot run at all")
    }

    fn start(sink: Box<dyn Write + Send>, style: Style, level: Level, auth: Option<AuthLog>) -> io::Result<Arc<Self>> {
        let metrics = Metrics::new();
        let recorder = Arc::new(Recorder {
            style,
            level: AtomicU8::new(rank(level)),
            tally: Tally::default(),
            dropped: metrics.log_dropped(),
        });
        let has_auth_log = auth.is_some();
        let writer = Writer::start(sink, auth, Attention(Arc::clone(&recorder)))?;
        Ok(Arc::new(Self {
            metrics,
            recorder,
            writer,
            has_auth_log,
            subscribers: OnceLock::new(),
            attempts: OnceLock::new(),
        }))
    }

    /// Records an event: metrics, log, auth log, subscribers. Never waits.
    pub fn record(&self, event: &Event) {
        self.metrics.count(event);
        if let Some(attempts) = self.attempts.get() {
            attempts.note(event, SystemTime::now());
        }
        if let Some(subscribers) = self.subscribers.get().filter(|subscribers| subscribers.receiver_count() > 0) {
            // Nobody listening any more is no fault.
            let _ = subscribers.send(event.clone());
        }
        if Tally::is_never_summed(event) || self.recorder.tally.admits(event, Instant::now()) {
            self.write(|log, auth| self.recorder.lines(event, self.has_auth_log, log, auth));
        }
    }

    /// Writes a message of the program about itself. `tracing` macros end here once [`init`] was called.
    pub fn message(&self, level: Level, message: &str, fields: &[(&'static str, String)]) {
        if self.shows(level) {
            self.write(|log, _| self.recorder.style.message(log, SystemTime::now(), level, message, fields));
        }
    }

    /// Receives every event from now on: the demo's live view, and tests, which need not sleep.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.subscribers.get_or_init(|| broadcast::Sender::new(SUBSCRIBER_QUEUE)).subscribe()
    }

    /// Keeps the last attempts of each address from now on, for [`Self::attempts`].
    pub fn keep_attempts(&self) {
        self.attempts.get_or_init(Attempts::default);
    }

    /// What became of an address' attempts in the last 15 minutes, newest first: at most 10, without a user's name. None
    /// where they are not kept.
    pub fn attempts(&self, client: IpAddr) -> Vec<Attempt> {
        self.attempts.get().map_or_else(Vec::new, |attempts| attempts.of(client, SystemTime::now()))
    }

    /// The metrics, for what is not an event, and to be shown.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The layer for a `tracing` subscriber that writes here.
    pub fn diagnostics(self: &Arc<Self>) -> Diagnostics {
        Diagnostics(Arc::clone(self))
    }

    /// Opens the auth log anew under its name, as after a rotation. Done by the writer's thread within half a second; if it
    /// fails the old file stays and an error says so.
    pub fn reopen(&self) {
        self.writer.reopen();
    }

    /// Sets the least level shown. The auth log has every login, whatever the level.
    pub fn set_level(&self, level: Level) {
        self.recorder.level.store(rank(level), Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    /// The least level shown.
    pub fn level(&self) -> Level {
        let rank_now = self.recorder.level.load(Ordering::Relaxed);
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG];
        levels.into_iter().find(|level| rank(*level) == rank_now).unwrap_or(Level::TRACE)
    }

    /// Whether a line of this level is shown.
    pub fn shows(&self, level: Level) -> bool {
        self.recorder.shows(level)
    }

    /// Waits until all that was recorded is written, at most two seconds. Blocks: for the end of the program and for tests.
    pub fn flush(&self) {
        self.writer.flush(PATIENCE);
    }

    /// Hands over what `fill` puts into the buffers for the log and the auth log.
    fn write(&self, fill: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) {
        thread_local! {
            static BUFFERS: RefCell<(Vec<u8>, Vec<u8>)> = RefCell::default();
        }
        BUFFERS.with_borrow_mut(|(log, auth)| {
            log.clear();
            auth.clear();
            fill(log, auth);
            let is_empty = log.is_empty() && auth.is_empty();
            if !is_empty && !self.writer.hand_over(log, auth) {
                self.recorder.dropped.inc();
            }
        });
    }
}

impl Recorder {
    fn shows(&self, level: Level) -> bool {
        rank(level) <= self.level.load(Ordering::Relaxed)
    }

    /// Adds the event's lines, if it has any.
    fn lines(&self, event: &Event, has_auth_log: bool, log: &mut Vec<u8>, auth: &mut Vec<u8>) {
        let (now, begin) = (SystemTime::now(), log.len());
        let is_shown = self.shows(event.event.level());
        if is_shown {
            self.style.event(log, now, event);
        }
        if has_auth_log && event.event.is_auth() {
            if is_shown && self.style == Style::Json {
                auth.extend_from_slice(&log[begin..]);
            } else {
                Style::Json.event(auth, now, event);
            }
        }
    }

    /// Adds the lines of events that are none about a login.
    fn sums(&self, events: &[Event], log: &mut Vec<u8>) {
        for event in events {
            self.lines(event, false, log, &mut Vec::new());
        }
    }
}

struct Attention(Arc<Recorder>);

impl Attendant for Attention {
    fn due(&mut self, log: &mut Vec<u8>) {
        self.0.sums(&self.0.tally.sums(Instant::now()), log);
    }

    fn last(&mut self, log: &mut Vec<u8>) {
        self.0.sums(&self.0.tally.rest(), log);
    }

    fn lost(&mut self, lines: u64) {
        self.0.dropped.inc_by(lines);
    }
}

/// Error is 1, trace 5.
fn rank(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

#[cfg(test)]
mod tests;
