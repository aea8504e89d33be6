//! Programs run to their end, with a limit on how long they may take.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// How a client ended.
pub struct Ended {
    pub ok: bool,
    pub code: Option<i32>,
    /// Standard output followed by standard error.
    pub said: String,
}

/// Runs a client with `input` and waits for its end.
pub fn run(mut command: Command, input: &[u8]) -> Ended {
    let shown = format!("{command:?}");
    let output = finish(&mut command, input);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.code() != Some(124), "took too long: {shown}\n{said}");
    Ended { ok: output.status.success(), code: output.status.code(), said }
}

/// Runs a program that must succeed and returns what it said on standard output.
pub fn output_of(mut command: Command, input: &[u8]) -> String {
    let output = finish(&mut command, input);
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A command that coreutils' `timeout` ends after `limit`, with status 124.
pub fn limited(program: &str, limit: Duration) -> Command {
    let mut command = Command::new("timeout");
    command.arg(limit.as_secs().to_string()).arg(program).env("LC_ALL", "C.UTF-8");
    command
}

/// The same with a limit that fits what a person would wait for.
pub fn client(program: &str) -> Command {
    limited(program, Duration::from_secs(60))
}

fn finish(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut stdin = child.stdin.take().expect("piped");
    let (mut stdout, mut stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    std::thread::scope(|scope| {
        // A client need not read what it is given.
        scope.spawn(move || drop(stdin.write_all(input)));
        let errors = scope.spawn(move || {
            let mut said = Vec::new();
            stderr.read_to_end(&mut said).expect("a pipe");
            said
        });
        let mut said = Vec::new();
        stdout.read_to_end(&mut said).expect("a pipe");
        let stderr = errors.join().expect("reads a pipe");
        Output { status: child.wait().expect("our child"), stdout: said, stderr }
    })
}
