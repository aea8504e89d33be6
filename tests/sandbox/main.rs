//! What a process can still do after [`server::confine`], the call that `gatepost run` makes before its second thread.
//!
//! Every case is a process of its own: this program again, with the case's name. It is confined, and then tries from a
//! worker of a runtime, from a thread for blocking work and from one of its own. The case `control` is not confined and
//! shows that what is refused elsewhere is there to be had.

#![expect(unreachable_pub, reason = "a test binary exports nothing; `pub` says what a module offers to the others")]

mod attempts;

use attempts::{Attempt, allowed, forbidden};
use gatepost::config::{self, Environment};
use gatepost::server::{self, privileges};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use tempfile::TempDir;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    match arguments.as_slice() {
        [_, case, folder] if case.starts_with("in-") => confined(case, Path::new(folder)),
        _ => {
            let cases = ["in-control", "in-root", "in-nobody"];
            let is_root = nix::unistd::Uid::effective().is_root();
            if !is_root {
                assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "root is needed for the sandbox");
                eprintln!("NOT TESTED without root: the sandbox");
                return ExitCode::SUCCESS;
            }
            println!("\nrunning {} tests", cases.len());
            let failed = cases.into_iter().filter(|case| !holds(case)).count();
            println!("\ntest result: {}. {} passed; {failed} failed\n", verdict(failed == 0), cases.len() - failed);
            ExitCode::from(u8::from(failed > 0))
        }
    }
}

fn verdict(is_good: bool) -> &'static str {
    if is_good { "ok" } else { "FAILED" }
}

/// Runs a case in a process and a folder of its own.
fn holds(case: &str) -> bool {
    let folder = Folder::new();
    // Both belong to this process, which is outside of every sandbox.
    let _socket = UnixListener::bind_addr(&attempts::abstract_socket(&folder.at(""))).expect("an abstract socket");
    let mut child = Command::new(std::env::current_exe().expect("a path"));
    child.args([case, folder.at("").to_str().expect("UTF-8")]).stdin(Stdio::null());
    let output = child.output().expect("it starts");
    let is_good = output.status.success();
    println!("test {case} ... {}", verdict(is_good));
    if !is_good {
        println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    is_good
}

/// A place as an operator has it, and what lies beside it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::Builder::new().prefix("gatepost-sandbox-").tempdir().expect("a folder"));
        folder.open_to_all("", 0o755);
        for name in ["etc", "certificates", "archive", "log", "elsewhere", "run"] {
            std::fs::DirBuilder::new().mode(0o777).create(folder.at(name)).expect("a folder");
            folder.open_to_all(name, 0o777);
        }
        for name in ["archive/chain1.pem", "archive/key1.pem", "elsewhere/file", "etc/list"] {
            std::fs::write(folder.at(name), "192.0.2.1\n").expect("written");
        }
        let authority = rcgen::generate_simple_self_signed(["mail.example.net".to_owned()]).expect("a certificate");
        std::fs::write(folder.at("archive/chain1.pem"), authority.cert.pem()).expect("written");
        std::fs::write(folder.at("archive/key1.pem"), authority.signing_key.serialize_pem()).expect("written");
        for name in ["chain", "key"] {
            std::os::unix::fs::symlink(
                format!("../archive/{name}1.pem"),
                folder.at(&format!("certificates/{name}.pem")),
            )
            .expect("a link");
        }
        folder
    }

    fn open_to_all(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.at(name), PermissionsExt::from_mode(mode)).expect("ours");
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// The case itself: confined as `gatepost run` is, then the attempts.
fn confined(case: &str, folder: &Path) -> ExitCode {
    let (user, sandbox) = match case {
        "in-control" => ("null", false),
        "in-root" => ("null", true),
        _ => ("nobody", true),
    };
    let file = folder.join("etc/gatepost.yaml");
    let text = format!(
        "hostname: mail.example.net\nstate_dir: ../state\nbackends: {{ main: {{ imap: \"127.0.0.1:143\" }} }}\n\
         listeners: {{ imaps: {{ address: \"127.0.0.1:0\", protocol: imap, allow: [\"file:list\"] }} }}\n\
         tls: {{ certificates: [ {{ chain: ../certificates/chain.pem, key: ../certificates/key.pem }} ] }}\n\
         log: {{ auth_log: ../log/auth.log }}\nadmin: {{ address: null, socket: ../run/admin.sock }}\n\
         runtime: {{ user: {user}, sandbox: {sandbox} }}\n"
    );
    std::fs::write(&file, text).expect("written");
    let (policy, _) = config::load(&file, &Environment::default()).unwrap_or_else(|findings| panic!("{findings:?}"));
    let identity = privileges::identity(&policy.runtime).expect("known");
    let confined = server::confine(&policy, identity.as_ref()).expect("it can be confined");
    assert_eq!(confined.reach().is_some(), sandbox, "this kernel has no Landlock: {confined:?}");

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let case = if sandbox { Case::Confined } else { Case::Control };
    let attempts = |folder: &Path| {
        let folder = folder.to_owned();
        move || tried(case, &folder)
    };
    let (worker, blocking, own) = (attempts(folder), attempts(folder), attempts(folder));
    let tried = [
        ("a worker", runtime.block_on(runtime.spawn(async move { worker() })).expect("no panic")),
        ("a thread for blocking work", runtime.block_on(runtime.spawn_blocking(blocking)).expect("no panic")),
        ("a thread of its own", std::thread::spawn(own).join().expect("no panic")),
    ];
    let failures: Vec<_> =
        tried.iter().flat_map(|(place, whats)| whats.iter().map(move |what| format!("from {place}: {what}"))).collect();
    for failure in &failures {
        eprintln!("{failure}");
    }
    ExitCode::from(u8::from(!failures.is_empty()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Confined,
    Control,
}

/// Makes every attempt, and says which went otherwise than it should.
fn tried(case: Case, folder: &Path) -> Vec<String> {
    let mut failures = Vec::new();
    let mut count = 0;
    for Attempt { what, try_it } in allowed(folder) {
        count += 1;
        if let Err(error) = try_it() {
            failures.push(format!("{what}: {error}"));
        }
    }
    for (Attempt { what, try_it }, in_control) in forbidden(folder) {
        count += 1;
        match (case, in_control) {
            (Case::Confined, _) => match try_it() {
                // Landlock's word for a link or a rename into a folder where the file could do more is EXDEV.
                Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::CrossesDevices) => {}
                Err(error) => failures.push(format!("{what} fails, but not because it may not be: {error}")),
                Ok(()) => failures.push(format!("{what} is possible")),
            },
            (Case::Control, attempts::InControl::Possible) => {
                if let Err(error) = try_it() {
                    failures.push(format!("{what} is not possible without a sandbox either: {error}"));
                }
            }
            (Case::Control, attempts::InControl::NotTried) => {}
        }
    }
    assert!(count > 30, "only {count} attempts");
    failures
}
