//! Mail programs as their users run them, with a limit on how long they may take.

use crate::gatepost::Gatepost;
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

/// curl, trusting the gateway's authority and knowing where `mail.example.net` is.
pub fn curl(gateway: &Gatepost) -> Command {
    let mut curl = client("curl");
    curl.args(["--silent", "--show-error", "--disable", "--cacert"]).arg(gateway.authority());
    for port in [143, 993, 110, 995, 465, 587] {
        curl.arg("--resolve").arg(format!("mail.example.net:{port}:{}", gateway.address));
    }
    curl
}

/// Runs a script against the gateway with Debian's Python and what `prelude.py` offers; it must end without an exception.
pub fn python(gateway: &Gatepost, script: &str) -> String {
    let mut python = client("/usr/bin/python3");
    python.args(["-c", &format!("{PRELUDE}\n{script}")]);
    python.env("GATE", gateway.address.to_string()).env("AUTHORITY", gateway.authority());
    checked(python, script)
}

/// Runs a script that talks to no gateway.
pub fn python_alone(script: &str) -> String {
    let mut python = client("/usr/bin/python3");
    python.args(["-c", script]);
    checked(python, script)
}

fn checked(python: Command, script: &str) -> String {
    let ended = run(python, b"");
    assert!(ended.ok, "{}\nin the script\n{script}", ended.said);
    ended.said
}

const PRELUDE: &str = include_str!("prelude.py");

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
