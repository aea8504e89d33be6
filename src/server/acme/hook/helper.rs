//! The helper's side: a process outside the sandbox that runs one program, for as long as the gateway lives.

use super::{Action, Answer, LONGEST_WORDS, Outcome, line};
use crate::proto::line::printable;
use crate::tls::TxtRecord;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::process::{ChildStderr, Command};
use tokio::signal::unix::{SignalKind, signal};

/// How long the last words of a hook that has ended are waited for. A process that it leaves behind may keep the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Descriptors a hook begins with: what every program expects, not what a gateway has.
const DESCRIPTORS: u64 = 1024;

/// The program that is run, settled when the helper starts.
#[derive(Debug)]
pub struct HookCommand {
    /// Where it is.
    pub program: PathBuf,
    /// What stands before the arguments of each call.
    pub arguments: Vec<OsString>,
    /// How long a call may take.
    pub limit: Duration,
}

/// Runs the program whenever the gateway at the other end of standard input asks, until that end is closed.
///
/// # Errors
/// Standard input is no socket, or what comes there is no question: then nobody of ours is there.
pub fn run_hooks(command: &HookCommand) -> io::Result<()> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.local_addr()?;
    socket.set_nonblocking(true)?;
    become_modest();
    crate::server::runtime()?.block_on(async {
        // Its end is the gateway's alone: what is sent to every process of this name (`pkill -HUP gatepost`) is not for it.
        let _deaf = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        serve(BufStream::new(tokio::net::UnixStream::from_std(socket)?), command, bury_orphans).await
    })
}

/// Gives up what the gateway has and hooks do not want. Each of these may fail without harm.
fn become_modest() {
    let _ = prctl::set_name(c"gatepost-hook");
    // The environment, which the hook is to have, may hold secrets. What the gateway forbade ended when we were started.
    let _ = crate::server::privileges::forbid_dumps();
    // A unit's AmbientCapabilities let the gateway bind low ports.
    let _ = rustix::thread::clear_ambient_capability_set();
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard);
    }
    // What a hook leaves behind becomes ours and not process 1's, which in a container is the gateway.
    let _ = prctl::set_child_subreaper(true);
}

/// Answers questions; `after_each` runs when no process of ours is left.
pub(super) async fn serve(
    mut stream: BufStream<tokio::net::UnixStream>,
    command: &HookCommand,
    after_each: impl Fn(),
) -> io::Result<()> {
    while let Some(question) = line(&mut stream).await? {
        let (action, record) = asked(&question).ok_or(io::ErrorKind::InvalidData)?;
        let answer = tokio::select! {
            answer = command.call(action, &record) => answer,
            // No second question comes before the answer, so this is the gateway's end; the hook ends with it.
            _ = stream.fill_buf() => return Ok(()),
        };
        after_each();
        let answer = serde_json::to_string(&answer)? + "\n";
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}

fn asked(question: &str) -> Option<(Action, TxtRecord)> {
    let (action, record) = question.split_once(' ')?;
    let action = [Action::Present, Action::Cleanup].into_iter().find(|known| known.as_str() == action)?;
    Some((action, record.parse().ok()?))
}

impl HookCommand {
    /// Runs the program once, to its end or its limit.
    async fn call(&self, action: Action, record: &TxtRecord) -> Answer {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args([action.as_str(), record.name(), record.value()]);
        command.env("ACME_ACTION", action.as_str()).env("ACME_RECORD", record.name()).env("ACME_VALUE", record.value());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Answer { outcome: Outcome::NotStarted(error.to_string()), said: String::new() },
        };
        let mut group = Group(child.id());
        let (mut stderr, mut tail) = (child.stderr.take(), Tail::default());
        let deadline = tokio::time::sleep(self.limit);
        tokio::pin!(deadline);
        let ended = loop {
            tokio::select! {
                ended = child.wait() => break Some(ended),
                () = tail.read(&mut stderr), if stderr.is_some() => {}
                () = &mut deadline => break None,
            }
        };
        let outcome = match ended {
            Some(Ok(status)) if status.success() => Outcome::Done,
            Some(Ok(status)) => Outcome::Failed(status.to_string()),
            Some(Err(error)) => Outcome::Failed(error.to_string()),
            None => {
                group.end();
                // Killed, it cannot refuse.
                let _ = child.wait().await;
                Outcome::TooLong
            }
        };
        group.0 = None;
        let _ = tokio::time::timeout(LAST_WORDS, async {
            while stderr.is_some() {
                tail.read(&mut stderr).await;
            }
        })
        .await;
        Answer { outcome, said: tail.words() }
    }
}

/// The hook and what it started, as long as it is not known to have ended.
struct Group(Option<u32>);

impl Group {
    fn end(&mut self) {
        if let Some(group) = self.0.take().and_then(|group| i32::try_from(group).ok()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// The end of what somebody writes, however much that is.
#[derive(Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    /// Reads on; a pipe that has ended becomes `None`.
    async fn read(&mut self, pipe: &mut Option<ChildStderr>) {
        let Some(open) = pipe else { return };
        let mut chunk = [0; 1024];
        match open.read(&mut chunk).await {
            Ok(0) | Err(_) => *pipe = None,
            Ok(count) => self.add(&chunk[..count]),
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        // One more shows whether something was cut off.
        self.0.drain(..self.0.len().saturating_sub(LONGEST_WORDS + 1));
    }

    /// Its last lines as one.
    fn words(mut self) -> String {
        let is_cut = self.0.len() > LONGEST_WORDS;
        let bytes = &*self.0.make_contiguous();
        // Of a line that is cut off the rest says little; of one without an end it is all there is.
        let start = bytes.iter().position(|byte| *byte == b'\n').filter(|at| is_cut && at + 1 < bytes.len());
        let lines = bytes[start.map_or(0, |at| at + 1)..].split(|byte| matches!(byte, b'\n' | b'\r'));
        let lines = lines.map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        // An octet becomes ten at most; it is the end that says what went wrong.
        let words = printable(&lines.collect::<Vec<_>>().join(&b"; "[..]), 16 * LONGEST_WORDS);
        let surplus = words.len().saturating_sub(LONGEST_WORDS);
        let start = (surplus..words.len()).find(|at| words.is_char_boundary(*at)).unwrap_or(words.len());
        words[start..].to_owned()
    }
}

/// Takes away what hooks have left behind and what has ended since. There is no child of ours when this runs.
fn bury_orphans() {
    while waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {}
}
