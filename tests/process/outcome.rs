//! Commands that end by themselves, and waiting that always ends.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything here may take before a test calls it broken.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Outcome {
    /// Asserts the exit code and that each of the words stands on stderr.
    #[track_caller]
    pub fn ends(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for word in words {
            assert!(self.err.contains(word), "lacks {word:?}: {self:#?}");
        }
        self
    }
}

/// Runs `gatepost` with these arguments to its end.
pub fn gatepost<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Outcome {
    let mut command = program();
    command.args(arguments);
    outcome(command)
}

/// The program under test, with nothing of the tester's environment that it would take for its own.
pub fn program() -> Command {
    program_under(env!("CARGO_BIN_EXE_gatepost"), &[])
}

/// The program under test, started by another one, which must become it (`exec`).
pub fn program_under(first: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(first);
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GATEPOST_") || name == "NO_COLOR" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end, which must come within [`PATIENCE`].
pub fn outcome(mut command: Command) -> Outcome {
    let what = format!("{command:?}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect(&what);
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().expect("a pid"));
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    let output = ended.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        panic!("{what} did not end")
    });
    let output = output.expect("its output");
    Outcome {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Asks until there is an answer.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the test may go on as root. Without root it says what is not tested, and fails where everything must be.
pub fn is_root_for(what: &str) -> bool {
    if nix::unistd::Uid::effective().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "root is needed for {what}");
    eprintln!("NOT TESTED without root: {what}");
    false
}

/// An address of 127.0.0.0/8 that nobody else on this machine uses, so that standard ports can be had.
pub fn own_address() -> std::net::Ipv4Addr {
    use std::sync::atomic::{AtomicU8, Ordering};
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., a, b] = std::process::id().to_be_bytes();
    let last = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(last < 255, "more servers than addresses");
    // Not among those that the tests against real servers give out.
    std::net::Ipv4Addr::new(127, 128 | (a & 0x3f), b, last)
}
