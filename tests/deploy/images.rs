//! Stand-ins for the images that the Dockerfile begins from, made of Debian's packages and this machine's toolchain,
//! so that the Dockerfile is run as it stands on a machine that reaches no image registry.

use crate::commands::{command, run};
use crate::engine::Engine;
use crate::root;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use tempfile::TempDir;

pub(crate) const RUNTIME: &str = "gatepost-test/debian:bookworm-slim";
/// A Debian with a compiler for the Rust image, Dovecot for an old server, and systemd for a machine: unpacked once.
const BASE: &str = "gatepost-test/debian:bookworm-with-systemd";
pub(crate) const OLD_SERVER: &str = "gatepost-test/old-server:with-systemd";

const CRATES_INSIDE: &str = "\
[source.crates-io]
replace-with = 'inside'
[source.inside]
directory = '/usr/local/crates'
";

/// Stands for `debian:bookworm-slim`.
pub(crate) fn runtime(engine: &Engine) {
    if !engine.has_image(RUNTIME) {
        debian(engine, RUNTIME, "passwd");
    }
}

/// Stands for `rust:1-slim-bookworm`, with all crates of Cargo.lock in it, as there is no network while building.
/// Returns its tag.
pub(crate) fn builder(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    (run(&mut command("rustc", ["--version"])), CRATES_INSIDE).hash(&mut hasher);
    std::fs::read(root().join("Cargo.lock")).expect("Cargo.lock can be read").hash(&mut hasher);
    let tag = format!("gatepost-test/rust:{:016x}", hasher.finish());
    if engine.has_image(&tag) {
        return tag;
    }
    base(engine);
    forget_images_of_another_lock_file(engine);
    let context = tempdir();
    let at = |name: &str| context.path().join(name);
    std::fs::create_dir(at("toolchain")).expect("a new directory");
    let installed = run(&mut command("rustc", ["--print", "sysroot"]));
    let copy = r#"cd "$1" && tar -c bin/rustc bin/cargo lib | tar -x -C "$2""#;
    run(command("sh", ["-c", copy, "copy", installed.trim()]).arg(at("toolchain")));
    run(command("cargo", ["vendor", "--quiet", "--locked", "--versioned-dirs"]).arg(at("crates")).current_dir(root()));
    std::fs::write(at("config.toml"), CRATES_INSIDE).expect("a new file");
    let dockerfile = format!(
        "FROM {BASE}\nENV CARGO_HOME=/usr/local/cargo\nCOPY toolchain /usr/local\nCOPY crates /usr/local/crates\n\
         COPY config.toml /usr/local/cargo/config.toml\n"
    );
    build(engine, context.path(), &dockerfile, &tag);
    tag
}

/// A mail server as they were: plain POP3 and IMAP, and a user joe whose password is secret. With `/sbin/init` it is a
/// machine with systemd, on which that server runs.
pub(crate) fn old_server(engine: &Engine) {
    if engine.has_image(OLD_SERVER) {
        return;
    }
    base(engine);
    let context = tempdir();
    std::fs::write(context.path().join("dovecot.conf"), include_str!("old-server.conf")).expect("a new file");
    let dockerfile = format!(
        "FROM {BASE}\nCOPY dovecot.conf /etc/dovecot/dovecot.conf\nRUN install -d -o mail -g mail /mail\n\
         CMD [\"dovecot\", \"-F\"]\n"
    );
    build(engine, context.path(), &dockerfile, OLD_SERVER);
}

fn forget_images_of_another_lock_file(engine: &Engine) {
    // Only the names go here; pruning takes what has none any more.
    let names = ["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "gatepost-test/rust"];
    for name in run(engine.docker().args(names)).lines() {
        run(engine.docker().args(["image", "rm", name]));
    }
}

fn base(engine: &Engine) {
    if !engine.has_image(BASE) {
        debian(engine, BASE, "gcc,libc6-dev,ca-certificates,dovecot-imapd,dovecot-pop3d,systemd,systemd-sysv,dbus");
    }
}

fn debian(engine: &Engine, tag: &str, packages: &str) {
    let directory = tempdir();
    let mut debootstrap = command("debootstrap", ["--variant=minbase", "--include", packages, "bookworm"]);
    run(debootstrap.arg(directory.path()));
    engine.import(directory.path(), tag);
}

fn build(engine: &Engine, context: &Path, dockerfile: &str, tag: &str) {
    std::fs::write(context.join("Dockerfile"), dockerfile).expect("a new file");
    run(engine.docker().args(["build", "--force-rm", "--network", "none", "--tag", tag]).arg(context));
}

fn tempdir() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory")
}
