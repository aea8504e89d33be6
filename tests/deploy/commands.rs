//! Other programs, started and waited for.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs it and returns what it printed; what it complained about is shown if it fails.
pub(crate) fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?} failed with {}:\n{}", output.status, both(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs it, however it ends.
pub(crate) fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("{:?} cannot be started ({error}): tests/run installs what is needed", command.get_program())
    })
}

/// What it said, on both streams.
pub(crate) fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A program with its arguments.
pub(crate) fn command<I: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Asks again until the answer comes; `what` names it if it never does.
pub(crate) fn wait_for<T>(what: &str, longest: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) if begin.elapsed() > longest => panic!("{what}: not after {longest:?}, but {instead}"),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}
