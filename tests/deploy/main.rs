//! Every file of `deploy`, and what the documentation says, held against the program and against the tools that read
//! such files: an engine for containers, Compose, systemd.
//!
//! Needs root and Debian's docker.io, docker-compose, debootstrap, iproute2, curl, openssl and systemd; `tests/run`
//! installs them. Nothing here touches an engine that already runs.

mod commands;
mod compose;
mod documents;
mod engine;
mod images;
mod service;
mod units;

use std::path::Path;

/// Where the repository begins.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file that nobody reads is a file that nobody knows to be wrong.
#[test]
fn every_file_for_deployment_is_read_by_a_test() {
    let read = ["compose.yaml", "gatepost.service", "gatepost.sysusers", "docs"];
    let mut seen = 0;
    for entry in root().join("deploy").read_dir().expect("there is a folder deploy") {
        let name = entry.expect("it can be listed").file_name().into_string().expect("a plain name");
        assert!(read.contains(&name.as_str()), "deploy/{name} is read by no test");
        seen += 1;
    }
    assert_eq!(seen, read.len());
}
