//! The thread that writes lines, so that a full disk or a stopped terminal never holds up a session.

use super::queue::{Call, Lines, Queue};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the thread looks up when nothing comes: the longest that a flood's sum waits.
const TICK: Duration = Duration::from_millis(500);
/// How long it rests after it has written, so that lines which come one after the other share a write. The first after a
/// silence is written at once.
const REST: Duration = Duration::from_millis(5);

/// The sending side.
pub(super) struct Writer {
    queue: Arc<Queue>,
    reopen: Arc<AtomicBool>,
}

/// What the thread asks of its owner between lines.
pub(super) trait Attendant: Send {
    /// Called at least twice a second: adds lines to the log that are due without an event.
    fn due(&mut self, log: &mut Vec<u8>);
    /// Adds the lines that are not to be lost when everything else is written.
    fn last(&mut self, log: &mut Vec<u8>);
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
        let (queue, reopen) = (Arc::<Queue>::default(), Arc::new(AtomicBool::new(false)));
        let thread = Thread {
            sink: Sink::new(sink),
            auth,
            auth_fails: false,
            attendant,
            queue: Arc::clone(&queue),
            reopen: Arc::clone(&reopen),
        };
        std::thread::Builder::new().name("log".into()).spawn(move || thread.run())?;
        Ok(Self { queue, reopen })
    }

    /// Hands over whole lines for the log and the auth log, either of which may be empty, without waiting. `false`: too many
    /// are waiting and these are lost.
    pub(super) fn hand_over(&self, log: &[u8], auth: &[u8]) -> bool {
        self.queue.put(log, auth)
    }

    /// Has the auth log opened anew before its next line: what stands under its name then is written to.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }

    /// Waits until all that was handed over is written, at most `patience`.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        self.queue.flush(patience)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
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

/// What became of lines that were not all written.
struct Lost {
    lines: u64,
    error: io::Error,
}

impl<W: Write> Sink<W> {
    fn new(inner: W) -> Self {
        Self { inner, torn: false }
    }

    /// Writes whole lines, as many at a time as are taken. One that cannot be written is lost; the next is tried all the same.
    fn lines(&mut self, mut lines: &[u8]) -> Result<(), Lost> {
        let mut lost: Option<Lost> = None;
        while !lines.is_empty() {
            let (written, result) = self.write(lines);
            lines = &lines[written..];
            if let Err(error) = result {
                let rest = lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| end + 1);
                lines = &lines[rest..];
                lost = Some(Lost { lines: lost.map_or(0, |lost| lost.lines) + 1, error });
            }
        }
        lost.map_or(Ok(()), Err)
    }

    /// Writes what is taken, and says how much of `lines` that was.
    fn write(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        if self.torn
            && let Err(error) = self.inner.write_all(b"\n")
        {
            return (0, Err(error));
        }
        let mut written = 0;
        let result = loop {
            if written == lines.len() {
                break Ok(());
            }
            match self.inner.write(&lines[written..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.torn = written > 0 && lines[written - 1] != b'\n';
        (written, result)
    }
}

struct Thread<A> {
    sink: Sink<Box<dyn Write + Send>>,
    auth: Option<AuthLog>,
    /// Whether the last line for the auth log was lost, which has been told then.
    auth_fails: bool,
    attendant: A,
    queue: Arc<Queue>,
    reopen: Arc<AtomicBool>,
}

impl<A: Attendant> Thread<A> {
    fn run(mut self) {
        let (mut last_look, mut empty) = (Instant::now(), Lines::default());
        loop {
            let Call { mut lines, taken, flush, is_last } = self.queue.next(empty, TICK);
            if flush.is_some() || is_last {
                self.attendant.last(&mut lines.log);
            } else if last_look.elapsed() >= TICK {
                self.attendant.due(&mut lines.log);
                last_look = Instant::now();
            }
            self.perform(&lines);
            empty = self.queue.done(taken, lines);
            if let Some(flush) = flush {
                self.queue.flushed(flush);
            }
            if is_last {
                return;
            }
            if taken > 0 {
                self.queue.rest(REST);
            }
        }
    }

    fn perform(&mut self, lines: &Lines) {
        if self.reopen.swap(false, Ordering::AcqRel) {
            self.reopen_auth();
        }
        if let Err(lost) = self.sink.lines(&lines.log) {
            self.attendant.lost(lost.lines);
        }
        // A sink that cannot be flushed cannot be written to either, and that is counted.
        let _ = self.sink.inner.flush();
        self.write_auth(&lines.auth);
    }

    /// A file that takes no lines is told once, in the log; the logins themselves go on.
    fn write_auth(&mut self, lines: &[u8]) {
        let Some(auth) = self.auth.as_mut().filter(|_| !lines.is_empty()) else { return };
        match auth.file.lines(lines) {
            Ok(()) => {
                if std::mem::take(&mut self.auth_fails) {
                    tracing::info!(path = %auth.path.display(), "the auth log is written again");
                }
            }
            Err(Lost { lines, error }) => {
                self.attendant.lost(lines);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for so many bytes, where so many more writes fail before there is room again.
    struct Full {
        written: Vec<u8>,
        room: usize,
        failures: usize,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                if self.failures > 0 {
                    self.failures -= 1;
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.room = usize::MAX;
            }
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            self.written.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_line_begins_behind_half_of_another_and_what_is_lost_is_counted() {
        for (room, failures, expected, lost) in [
            (0, 0, "one\ntwo\nthree\n", 0),
            (0, 1, "two\nthree\n", 1),
            (4, 1, "one\nthree\n", 1),
            (6, 1, "one\ntw\nthree\n", 1),
            (6, 2, "one\ntw", 2),
            (14, 1, "one\ntwo\nthree\n", 0),
        ] {
            let mut sink = Sink::new(Full { written: Vec::new(), room, failures });
            let outcome = sink.lines(b"one\ntwo\nthree\n");
            assert_eq!(String::from_utf8_lossy(&sink.inner.written), expected, "{room} {failures}");
            assert_eq!(outcome.err().map_or(0, |lost| lost.lines), lost, "{room} {failures}");
        }
    }
}
