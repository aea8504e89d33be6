//! Mail programs as their users run them, with a limit on how long they may take.

use crate::gatepost::Gatepost;
use std::process::Command;

pub use crate::command::{Ended, client, limited, output_of, run};

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
