//! Where the lines go: a terminal, a pipe, nobody.

use super::gateway::{Folder, Gateway, IMAPS};
use super::outcome::{Outcome, outcome, program_under, until};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// What a gateway writes on a terminal from its start to its end, with these variables.
fn on_a_terminal(variables: &[(&str, &str)]) -> String {
    let folder = Folder::new();
    let file = folder.configure(IMAPS, "");
    let socket = folder.socket();
    let script = format!("{} run -c {}", env!("CARGO_BIN_EXE_gatepost"), file.display());
    let mut command = program_under("script", &["-qec", &script, "/dev/null"]);
    command.envs(variables.iter().copied());
    let terminal = std::thread::spawn(move || outcome(command));
    until("the gateway on the terminal", || std::os::unix::net::UnixStream::connect(&socket).ok());
    folder.gatepost(&["drain"]).ends(0, &[]);
    let Outcome { code, out, .. } = terminal.join().expect("it ends");
    assert_eq!(code, Some(0), "{out}");
    out
}

#[test]
fn a_terminal_gets_text_in_colour() {
    let said = on_a_terminal(&[]);
    let line = said.lines().find(|line| line.contains("listening on 127.0.0.1:")).expect("a line");
    assert!(!line.starts_with('{') && line.contains("\u{1b}["), "{line:?}");
}

#[test]
fn no_color_is_heeded_on_a_terminal() {
    let said = on_a_terminal(&[("NO_COLOR", "1")]);
    assert!(said.contains("listening on 127.0.0.1:"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn a_pipe_gets_one_json_object_a_line() {
    let gateway = Gateway::start(IMAPS, "");
    gateway.tls("imaps").imap_login("joe");
    gateway.event("session.closed");
    for line in gateway.said().lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let time = line["time"].as_str().expect("a time");
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        assert!(line["level"].is_string() && (line["event"].is_string() || line["message"].is_string()), "{line}");
    }
}

#[test]
fn text_on_a_pipe_is_without_colour() {
    let gateway = Gateway::start(IMAPS, "log: { format: text }");
    super::outcome::until("a line", || gateway.said().contains("listening on").then_some(()));
    assert!(!gateway.said().contains('\u{1b}') && !gateway.said().contains('{'), "{}", gateway.said());
}

/// Starts a gateway whose both outputs nobody reads: gone, or only held open.
fn unread(reader_is_gone: bool) {
    let folder = Folder::new();
    // A port that only this test knows: there is no log to read it from.
    let address = super::outcome::own_address();
    let file = folder
        .configure(&format!("  imaps: {{ address: \"{address}:1993\", protocol: imap }}"), "log: { level: trace }");
    let mut command = super::outcome::program();
    command.args(["run", "-c"]).arg(file).env("GATEPOST_BACKEND", "makes-a-warning").stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().expect("a pid"));
    let mut outputs = Some((BufReader::new(child.stdout.take().expect("piped")), child.stderr.take().expect("piped")));
    if let Some((out, _)) = &mut outputs {
        let mut line = String::new();
        out.read_line(&mut line).expect("a first line");
    }
    if reader_is_gone {
        outputs = None;
    }
    let socket = folder.socket();
    until("the gateway to be ready", || std::os::unix::net::UnixStream::connect(&socket).ok());
    // More than a pipe and the terminal's patience hold.
    for number in 0..150 {
        let mut session = super::client::Client::tls((address, 1993).into(), &folder.root())
            .expect("TLS")
            .imap_login(&format!("user{number}-{}", "x".repeat(200)));
        session.noop();
    }
    folder.gatepost(&["reload"]).ends(0, &["reloaded"]);
    kill(pid, Signal::SIGTERM).expect("it runs");
    let status = until("its end", || child.try_wait().expect("our child"));
    assert_eq!(status.code(), Some(0));
    drop(outputs);
}

#[test]
fn a_reader_of_the_log_that_is_gone_ends_nothing() {
    unread(true);
}

#[test]
fn a_reader_of_the_log_that_stops_reading_holds_up_nothing() {
    unread(false);
}

#[test]
fn warnings_at_start_do_not_need_a_reader() {
    let folder = Folder::new();
    let file = folder.configure(IMAPS, "");
    let mut command = Command::new("bash");
    command.args(["-c", "exec 2> >(exec true); wait $!; exec \"$0\" check -c \"$1\""]);
    command.arg(env!("CARGO_BIN_EXE_gatepost")).arg(file).env("GATEPOST_BACKEND", "makes-a-warning");
    outcome(command).ends(0, &[]);
}

#[test]
fn an_auth_log_on_a_full_disk_is_told_once_and_logins_go_on() {
    let gateway = Gateway::start(IMAPS, "log: { auth_log: /dev/full }");
    for _ in 0..3 {
        gateway.tls("imaps").imap_login("joe").noop();
    }
    let told = gateway.message("auth log");
    assert_eq!(told["level"], "error");
    assert!(told.to_string().contains("No space left") && told.to_string().contains("/dev/full"), "{told}");
    gateway.folder.gatepost(&["reload"]).ends(0, &[]);
    let times = gateway.said().matches("cannot be written").count();
    assert_eq!(times, 1, "{}", gateway.said());
    gateway.terminate();
}
