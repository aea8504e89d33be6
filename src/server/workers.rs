//! Who serves sessions: threads, each with a runtime and listening sockets of its own.
//!
//! A session stays on the thread that accepted it, so that nothing about it crosses from one processor to another. The
//! thread that starts the workers keeps all that is about the process: signals, admin interface, health checks, reload, drain.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

/// How often a worker wakes up on its own. A timer that is due before all others interrupts the wait for sockets, which is a
/// system call and a round of the loop more, several times a session; with this one, none of a session's is the first.
const BEAT: Duration = Duration::from_millis(500);

/// How long the end of the process waits for the workers to let go of what they hold.
const LETTING_GO: Duration = Duration::from_secs(1);
/// Threads of a runtime for what blocks: names of backends are looked up there, files are read there. More lookups at once
/// wait for each other, within the time a dial may take.
const BLOCKING_THREADS: usize = 16;
/// How long such a thread waits for more to do. They are asked for every few seconds, by no session.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// The threads that serve.
#[derive(Debug)]
pub struct Workers {
    runtimes: Vec<Handle>,
    stop: CancellationToken,
    failed: CancellationToken,
    /// Closed when the last thread has ended.
    ended: Mutex<Receiver<()>>,
}

impl Workers {
    /// Serves on the runtime this is called from.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn here() -> Self {
        let (_, ended) = channel();
        Self::with(vec![Handle::current()], ended)
    }

    /// Starts so many threads. To be called in the sandbox: it binds the calling thread and what that starts.
    ///
    /// # Errors
    /// A thread or a runtime that cannot be had.
    pub fn start(count: usize) -> io::Result<Self> {
        let (ends, ended) = channel();
        let mut workers = Self::with(Vec::new(), ended);
        for number in 0..count {
            let runtime = runtime()?;
            workers.runtimes.push(runtime.handle().clone());
            let watch = Watch { stop: workers.stop.clone(), failed: workers.failed.clone(), _ends: ends.clone() };
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || work(runtime, &watch))?;
        }
        Ok(workers)
    }

    fn with(runtimes: Vec<Handle>, ended: Receiver<()>) -> Self {
        let (stop, failed) = (CancellationToken::new(), CancellationToken::new());
        Self { runtimes, stop, failed, ended: Mutex::new(ended) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.runtimes.len()
    }

    /// Their runtimes.
    pub(super) fn runtimes(&self) -> &[Handle] {
        &self.runtimes
    }

    /// Waits until one has ended that was not told to: the sessions it had are gone, and what it listened on is closed.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Ends them and what they serve.
    pub fn end(self) {
        self.stop.cancel();
        // Nothing is sent; the channel closes. Who does not let go in time goes with the process.
        let ended = self.ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(LETTING_GO);
    }
}

/// A runtime of one thread, for sessions or for the process.
///
/// # Errors
/// The system's.
pub fn runtime() -> io::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(BLOCKING_THREADS).thread_keep_alive(KEEP_ALIVE).build()
}

fn work(runtime: Runtime, watch: &Watch) {
    runtime.block_on(async {
        let mut beat = tokio::time::interval(BEAT);
        watch
            .stop
            .run_until_cancelled(async {
                loop {
                    beat.tick().await;
                }
            })
            .await;
    });
    // A name that is being looked up is not waited for.
    runtime.shutdown_background();
}

/// Sees the thread's end, however it comes.
struct Watch {
    stop: CancellationToken,
    failed: CancellationToken,
    _ends: Sender<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.stop.is_cancelled() {
            self.failed.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_task_and_neither_the_worker_nor_the_others() {
        let workers = Workers::start(1).expect("a thread");
        let [worker] = workers.runtimes() else { panic!("one was asked for") };
        let other = worker.spawn(std::future::pending::<()>());
        let fault = worker.spawn(async { panic!("a fault in a session") }).await.expect_err("it panics");
        assert!(fault.is_panic());
        assert_eq!(worker.spawn(async { 7 }).await.expect("the worker goes on"), 7);
        assert!(!other.is_finished() && !workers.failed.is_cancelled());
        workers.end();
        assert!(other.await.expect_err("it ends with its worker").is_cancelled());
    }

    #[tokio::test]
    async fn a_worker_that_ends_unasked_is_noticed() {
        let workers = Workers::start(2).expect("threads");
        drop(Watch { stop: workers.stop.clone(), failed: workers.failed.clone(), _ends: channel().0 });
        workers.failed().await;
        workers.end();
    }

    #[test]
    fn each_has_a_thread_of_its_own_with_a_name() {
        let workers = Workers::start(2).expect("threads");
        let name = || std::thread::current().name().map(str::to_owned);
        let names = workers.runtimes().iter().map(|worker| {
            let (tell, told) = channel();
            worker.spawn(async move { tell.send(name()) });
            told.recv().expect("it answers").expect("it has a name")
        });
        assert_eq!(names.collect::<Vec<_>>(), ["worker-0", "worker-1"]);
    }
}
