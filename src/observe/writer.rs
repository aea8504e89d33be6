//! The thread that writes lines, so that a full disk or a stopped terminal never holds up a session.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Lines that wait for the thread; what comes while it is full is dropped and counted. At some 400 bytes a line this is 6 MiB.
const QUEUE: usize = 16_384;
/// How often the thread looks up when nothing comes: the longest that a flood's sum waits.
const TICK: Duration = Duration::from_millis(500);

/// What the thread is handed.
pub(super) enum Job {
    /// Whole lines for the log and the auth log.
    Lines { log: Option<Vec<u8>>, auth: Option<Vec<u8>> },
    /// Everything before it is to be written; then the sender is told.
    Flush(SyncSender<()>),
}

/// The sending side.
pub(super) struct Writer {
    queue: SyncSender<Job>,
    reopen: Arc<AtomicBool>,
}

/// What the thread asks of its owner between lines.
pub(super) trait Attendant: Send {
    /// Called at least twice a second: lines that are due without an event.
    fn due(&mut self) -> Vec<Job>;
    /// Lines that are not to be lost when everything else is written.
    fn last(&mut self) -> Vec<Job>;
    /// So many lines were lost for a fault of the file.
    fn lost(&mut self, lines: u64);
}

impl Writer {
    /// Starts the thread. It ends when the `Writer` is gone.
    pub(super) fn start(
        sink: Box<dyn Write + Send>,
        auth: Option<AuthLog>,
        attendant: impl Attendant + 'static,
    ) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        let reopen = Arc::new(AtomicBool::new(false));
        let thread = Thread { sink: Sink::new(sink), auth, auth_fails: false, attendant, reopen: Arc::clone(&reopen) };
        std::thread::Builder::new().name("log".into()).spawn(move || thread.run(&jobs))?;
        Ok(Self { queue, reopen })
    }

    /// Hands over a job without waiting. `false`: the queue was full and the job is lost.
    pub(super) fn hand_over(&self, job: Job) -> bool {
        match self.queue.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Has the auth log opened anew before its next line: what stands under its name then is written to.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }

    /// Waits until all that was handed over is written, at most `patience`.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let (done, written) = sync_channel(1);
        let deadline = std::time::Instant::now() + patience;
        let mut job = Job::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(job) {
            if std::time::Instant::now() >= deadline {
                return false;
            }
            std::thread::yield_now();
            job = back;
        }
        written.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now())).is_ok()
    }
}

/// `log.auth_log`: appended to, created readable for owner and group alone.
pub(super) struct AuthLog {
    path: PathBuf,
    file: Sink<File>,
}

impl AuthLog {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        Ok(Self { path: path.to_owned(), file: Sink::new(file) })
    }
}

/// A place for lines that never leaves half a line in front of a whole one.
struct Sink<W> {
    inner: W,
    torn: bool,
}

impl<W: Write> Sink<W> {
    fn new(inner: W) -> Self {
        Self { inner, torn: false }
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.inner.write_all(b"\n")?;
        }
        let written = self.inner.write_all(line);
        self.torn = written.is_err();
        written
    }
}

struct Thread<A> {
    sink: Sink<Box<dyn Write + Send>>,
    auth: Option<AuthLog>,
    /// Whether the last line for the auth log was lost, which has been told then.
    auth_fails: bool,
    attendant: A,
    reopen: Arc<AtomicBool>,
}

impl<A: Attendant> Thread<A> {
    fn run(mut self, jobs: &Receiver<Job>) {
        let mut last_look = std::time::Instant::now();
        loop {
            match jobs.recv_timeout(TICK) {
                Ok(job) => {
                    self.perform(job);
                    // The lines that have gathered meanwhile share one flush.
                    for job in jobs.try_iter().take(256) {
                        self.perform(job);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if last_look.elapsed() >= TICK {
                self.attend();
                last_look = std::time::Instant::now();
            }
            // A sink that cannot be flushed cannot be written to either, and that is counted.
            let _ = self.sink.inner.flush();
        }
        self.say_the_rest();
    }

    fn say_the_rest(&mut self) {
        for job in self.attendant.last() {
            self.perform(job);
        }
        let _ = self.sink.inner.flush();
    }

    fn attend(&mut self) {
        if self.reopen.swap(false, Ordering::AcqRel) {
            self.reopen_auth();
        }
        for job in self.attendant.due() {
            self.perform(job);
        }
    }

    fn perform(&mut self, job: Job) {
        if self.reopen.swap(false, Ordering::AcqRel) {
            self.reopen_auth();
        }
        match job {
            Job::Lines { log, auth } => {
                if log.is_some_and(|line| self.sink.line(&line).is_err()) {
                    self.attendant.lost(1);
                }
                if let Some(line) = auth {
                    self.write_auth(&line);
                }
            }
            Job::Flush(done) => {
                self.say_the_rest();
                let _ = done.try_send(());
            }
        }
    }

    /// A file that takes no lines is told once, in the log; the logins themselves go on.
    fn write_auth(&mut self, line: &[u8]) {
        let Some(auth) = &mut self.auth else { return };
        match auth.file.line(line) {
            Ok(()) => {
                if std::mem::take(&mut self.auth_fails) {
                    tracing::info!(path = %auth.path.display(), "the auth log is written again");
                }
            }
            Err(error) => {
                self.attendant.lost(1);
                if !std::mem::replace(&mut self.auth_fails, true) {
                    tracing::error!(path = %auth.path.display(), %error, "the auth log cannot be written: its lines are lost until it can");
                }
            }
        }
    }

    /// If the new file cannot be opened the old one stays: lines in a renamed file are better than none.
    fn reopen_auth(&mut self) {
        if let Some(auth) = &mut self.auth {
            match AuthLog::open(&auth.path) {
                Ok(new) => *auth = new,
                Err(error) => {
                    tracing::error!(path = %auth.path.display(), %error, "the auth log cannot be opened anew; the old file goes on");
                }
            }
        }
    }
}
