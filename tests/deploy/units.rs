//! The files for systemd, read by systemd's own tools, and then by systemd itself.

use crate::commands::{both, command, output, run};
use crate::root;
use std::path::PathBuf;
use tempfile::TempDir;

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let folder = TempDir::new().expect("a temporary directory");
    let output = output(command("systemd-analyze", ["verify", "--man=no"]).arg(unit(&folder)));
    assert!(output.status.success() && both(&output).is_empty(), "{}", both(&output));
}

/// systemd's own measure: 0 is locked up, 10 is a root shell. What is left is that it listens and dials.
#[test]
fn the_unit_may_do_little_but_serve() {
    let folder = TempDir::new().expect("a temporary directory");
    let mut security = command("systemd-analyze", ["security", "--no-pager", "--offline=true", "--threshold=20"]);
    run(security.arg(unit(&folder)));
}

#[test]
fn the_user_of_the_unit_is_made() {
    let folder = TempDir::new().expect("a temporary directory");
    std::fs::create_dir(folder.path().join("etc")).expect("a new folder");
    let mut sysusers = command("systemd-sysusers", [format!("--root={}", folder.path().display())]);
    run(sysusers.arg(root().join("deploy/gatepost.sysusers")));
    let users = std::fs::read_to_string(folder.path().join("etc/passwd")).expect("systemd-sysusers writes it");
    assert!(users.contains("gatepost:"), "{users}");
    // What it may write to is not its home, where programs look for what to obey.
    assert!(users.contains(":/:") && !users.contains(":/var/lib/gatepost:"), "{users}");
}

/// The unit, for a program where the tests have it.
fn unit(folder: &TempDir) -> PathBuf {
    let text = std::fs::read_to_string(root().join("deploy/gatepost.service")).expect("the unit is there");
    let path = folder.path().join("gatepost.service");
    std::fs::write(&path, text.replace("/usr/local/bin/gatepost", env!("CARGO_BIN_EXE_gatepost"))).expect("a new file");
    path
}
