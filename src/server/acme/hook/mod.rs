//! The operator's program that sets and removes TXT records (`tls.acme.hook`), and how a gateway in its sandbox has it run.
//!
//! ```text
//!   gateway, in its sandbox            helper, started before it            the hook
//!   Hook.ask ──"present NAME VALUE"──> run_hooks ──────fork, exec─────────> PROGRAM present NAME VALUE
//!            <──Answer, one line────── waits, ends it when its time is over
//! ```
//!
//! The sandbox lets no program be started. So the helper, a second process of this program, is started once root is given up
//! and before the sandbox closes; it is told at that moment which program it may run, and the gateway can ask for nothing but
//! a record that [`TxtRecord`] admits: whoever breaks into the gateway gets no program to run by it. It ends when its
//! standard input does, which is when the gateway ends in whatever way.

mod helper;

pub use helper::{HookCommand, run_hooks};

use crate::policy::DnsHook;
use crate::proto::line::printable;
use crate::tls::TxtRecord;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::sync::{mpsc, oneshot};

/// The command that makes this program the helper.
pub const SUBCOMMAND: &str = "acme-hook";

/// The longest line from either side, in octets.
const LONGEST_LINE: u64 = 8 * 1024;

/// The longest words of a hook that are passed on, in octets.
const LONGEST_WORDS: usize = 1024;

/// How much longer than the hook the helper may take.
const GRACE: Duration = Duration::from_secs(30);

/// What the hook is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Present,
    Cleanup,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Cleanup => "cleanup",
        }
    }
}

/// Why a record is not set, or not removed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookFault {
    /// The program could not be started.
    #[error("tls.acme.hook could not be started for `{asked}`: {why}")]
    NotStarted { asked: String, why: String },
    /// It said no.
    #[error("tls.acme.hook failed for `{asked}` ({status}){}", words(.said))]
    Failed { asked: String, status: String, said: String },
    /// It did not come to an end.
    #[error("tls.acme.hook was ended, for it was not done with `{asked}` within tls.acme.hook_timeout{}", words(.said))]
    TooLong { asked: String, said: String },
    /// There is nobody to run it.
    #[error("the process that runs tls.acme.hook has ended: restart gatepost")]
    Gone,
}

fn words(said: &str) -> String {
    if said.is_empty() { ", and said nothing on standard error".to_owned() } else { format!("; it said: {said}") }
}

/// What the helper says of a call.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    outcome: Outcome,
    /// The end of what the hook wrote to standard error.
    said: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Outcome {
    Done,
    /// By which status or signal it ended.
    Failed(String),
    TooLong,
    NotStarted(String),
}

/// The helper as it was started, before there is a runtime.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    socket: UnixStream,
    limit: Duration,
}

impl Helper {
    /// Starts it as the user that this process is. Must run before the sandbox closes.
    ///
    /// # Errors
    /// The system's.
    pub(in super::super) fn start(hook: &DnsHook) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        Ok(Self { child: helper_for(hook, theirs).spawn()?, socket, limit: hook.timeout })
    }
}

/// What is started, with `socket` as its standard input.
fn helper_for(hook: &DnsHook, socket: UnixStream) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("gatepost").arg(SUBCOMMAND).arg("--limit");
    command.arg(humantime::format_duration(hook.timeout).to_string());
    command.arg("--").arg(&hook.program).args(&hook.arguments);
    // Standard error is ours: a helper that cannot begin says so there. In a group of its own a Ctrl-C that has the gateway
    // drain leaves it at work.
    command.stdin(OwnedFd::from(socket)).stdout(Stdio::null()).current_dir("/").process_group(0);
    // What the service manager tells us is not for hooks.
    for variable in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        command.env_remove(variable);
    }
    // Our home is often state_dir. Python, curl and others run or obey what they find at home, and whoever broke into the
    // gateway can put files there.
    for variable in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"] {
        command.env_remove(variable);
    }
    command.env("HOME", "/");
    command
}

/// Has the hook run.
#[derive(Clone, Debug)]
pub(super) struct Hook(mpsc::Sender<Question>);

#[derive(Debug)]
struct Question {
    action: Action,
    record: TxtRecord,
    answer: oneshot::Sender<Result<(), HookFault>>,
}

impl Hook {
    /// Begins to ask the helper, one question at a time.
    pub(super) fn of(helper: Helper) -> io::Result<Self> {
        let Helper { child, socket, limit } = helper;
        let stream = BufStream::new(tokio::net::UnixStream::from_std(socket)?);
        let (questions, asked) = mpsc::channel(1);
        tokio::spawn(attend(stream, child, limit, asked));
        Ok(Self(questions))
    }

    /// One whose helper could not be had.
    pub(super) fn gone() -> Self {
        Self(mpsc::channel(1).0)
    }

    /// Runs the hook and waits for its end. A caller that waits no longer does not end it.
    pub(super) async fn ask(&self, action: Action, record: TxtRecord) -> Result<(), HookFault> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Question { action, record, answer }).await.map_err(|_| HookFault::Gone)?;
        answered.await.unwrap_or(Err(HookFault::Gone))
    }
}

/// Asks the helper as long as it lives, and sees its end.
async fn attend(
    mut stream: BufStream<tokio::net::UnixStream>,
    mut child: Child,
    limit: Duration,
    mut asked: mpsc::Receiver<Question>,
) {
    let is_wanted = loop {
        let question = tokio::select! {
            question = asked.recv() => question,
            // It says nothing unasked; what comes is its end.
            _ = stream.fill_buf() => break true,
        };
        let Some(Question { action, record, answer }) = question else { break false };
        let exchanged = tokio::time::timeout(limit + GRACE, exchange(&mut stream, action, &record)).await;
        let Ok(Ok(outcome)) = exchanged else { break true };
        let _ = answer.send(judged(action, &record, outcome));
    };
    // It must hear its end before it is waited for: where we are process 1, nobody else takes its body away.
    drop((stream, asked));
    let status = tokio::task::spawn_blocking(move || child.wait()).await;
    let status = status.ok().and_then(Result::ok).map(|status| format!(" ({status})")).unwrap_or_default();
    if is_wanted {
        tracing::error!(
            "acme: the process that runs tls.acme.hook has ended{status}: no certificate is renewed until gatepost is restarted"
        );
    }
}

async fn exchange(
    stream: &mut BufStream<tokio::net::UnixStream>,
    action: Action,
    record: &TxtRecord,
) -> io::Result<Answer> {
    stream.write_all(format!("{} {record}\n", action.as_str()).as_bytes()).await?;
    stream.flush().await?;
    let line = line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    serde_json::from_str(&line).map_err(io::Error::from)
}

fn judged(action: Action, record: &TxtRecord, answer: Answer) -> Result<(), HookFault> {
    let asked = format!("{} {}", action.as_str(), record.name());
    let (outcome, said) = (answer.outcome, printable(answer.said.as_bytes(), LONGEST_WORDS));
    match outcome {
        Outcome::Done => {
            if !said.is_empty() {
                tracing::debug!("acme: tls.acme.hook said of `{asked}`: {said}");
            }
            Ok(())
        }
        Outcome::Failed(status) => {
            Err(HookFault::Failed { asked, status: printable(status.as_bytes(), LONGEST_WORDS), said })
        }
        Outcome::TooLong => Err(HookFault::TooLong { asked, said }),
        Outcome::NotStarted(why) => Err(HookFault::NotStarted { asked, why: printable(why.as_bytes(), LONGEST_WORDS) }),
    }
}

/// The next line without its end; `None` where the other side has ended.
async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    stream.take(LONGEST_LINE).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    match line.pop() {
        Some(b'\n') => String::from_utf8(line).map(Some).map_err(|_| io::ErrorKind::InvalidData.into()),
        // Too long, or cut off.
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests;
