//! What a running gateway has given up, and what goes on all the same. What it cannot do any more is tried from inside in
//! `tests/sandbox`.

use super::client::Client;
use super::gateway::{Folder, Gateway, IMAP, IMAPS};
use super::old_server::{Speaks, serve_at};
use super::outcome::{is_root_for, outcome, own_address, program, program_under, until};
use super::reloading::{Authority, last_day};
use super::users::nobody;
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// A field of the status of every thread.
fn of_every_thread(gateway: &Gateway, field: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).expect("it runs");
    let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    let value =
        |text: String| text.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(":\t")?.to_owned()));
    statuses.map(|text| value(text).expect(field)).collect()
}

/// What a reload says of this configuration, once it is refused.
fn refusal(gateway: &Gateway, listeners: &str, more: &str) -> String {
    gateway.folder.configure(listeners, more);
    let before = gateway.lines_so_far();
    gateway.signal(Signal::SIGHUP);
    gateway.event_after(before, "config.refused")["detail"].as_str().expect("words").to_owned()
}

#[test]
fn every_thread_is_in_the_sandbox() {
    let gateway = Gateway::start(IMAPS, "runtime: { workers: 3 }");
    gateway.message("in its sandbox: files by Landlock, system calls by seccomp");
    gateway.tls("imaps").imap_login("joe").noop();
    let filtered = of_every_thread(&gateway, "Seccomp");
    assert!(filtered.len() > 4, "workers, the log and what reads files: {filtered:?}");
    assert!(filtered.iter().all(|mode| mode == "2"), "a filter: {filtered:?}");
    assert!(of_every_thread(&gateway, "NoNewPrivs").iter().all(|set| set == "1"));
    gateway.terminate();
}

#[test]
fn without_the_sandbox_the_log_says_so() {
    let gateway = Gateway::start(IMAPS, "runtime: { sandbox: false }");
    gateway.message("runtime.sandbox is off");
    assert!(of_every_thread(&gateway, "Seccomp").iter().all(|mode| mode == "0"));
    // Nothing is outside then.
    let elsewhere = tempfile::tempdir().expect("a folder");
    std::fs::write(elsewhere.path().join("clients"), "127.0.0.0/8\n").expect("written");
    let list = IMAPS.replace(" }", &format!(", allow: [\"file:{}/clients\"] }}", elsewhere.path().display()));
    gateway.folder.configure(&list, "runtime: { sandbox: false }");
    gateway.folder.gatepost(&["reload"]).ends(0, &["reloaded"]);
}

/// A kernel that has neither Landlock nor filters refuses their calls, and so does this library before the C library's.
const OLD_KERNEL: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>
long syscall(long number, ...) {
    if (number == SYS_landlock_create_ruleset) { errno = ENOSYS; return -1; }
    if (number == SYS_seccomp) { errno = EINVAL; return -1; }
    long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    va_list list;
    va_start(list, number);
    long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
    long d = va_arg(list, long), e = va_arg(list, long), f = va_arg(list, long);
    va_end(list);
    return real(number, a, b, c, d, e, f);
}
"#;

#[test]
fn on_a_kernel_that_lacks_it_the_log_says_once_what_is_missing_and_mail_goes_on() {
    let folder = Folder::new();
    folder.configure(IMAPS, "");
    let library = folder.at("old_kernel.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(folder.write("old_kernel.c", OLD_KERNEL)).arg("-ldl");
    outcome(compiler).ends(0, &[]);
    let mut command = program();
    command.env("LD_PRELOAD", &library);
    let gateway = Gateway::start_by(&folder, command);
    let told = gateway.message("the sandbox is not whole on this kernel");
    assert_eq!(told["level"], "warn");
    for words in ["no Landlock (Linux 5.13)", "seccomp failed"] {
        assert!(told.to_string().contains(words), "{told}");
    }
    gateway.tls("imaps").imap_login("joe").noop();
    assert_eq!(gateway.said().matches("the sandbox is not whole").count(), 1);
    assert!(!gateway.said().contains("in its sandbox"), "{}", gateway.said());
}

#[test]
fn certificates_are_renewed_by_rename_and_by_a_moved_link() {
    let folder = Folder::new();
    let authority = Authority::new(&folder);
    for name in ["live", "archive", "renamed"] {
        std::fs::create_dir(folder.at(name)).expect("a folder");
    }
    authority.issue_as("archive/chain1.pem", 2100);
    symlink("../archive/chain1.pem", folder.at("live/chain.pem")).expect("a link");
    authority.issue_as("renamed/chain.pem", 2110);
    let pairs = "tls: { certificates: [ { chain: live/chain.pem, key: key.pem }, { chain: renamed/chain.pem, key: key.pem } ] }";
    // Beside the configuration everything may be read, so that is elsewhere.
    let file = folder.configure(
        IMAPS,
        &pairs.replace(": live", ": ../live").replace(": renamed", ": ../renamed").replace("key.pem", "../key.pem"),
    );
    std::fs::create_dir(folder.at("etc")).expect("a folder");
    let text = std::fs::read_to_string(&file).expect("ours").replace("state_dir: state", "state_dir: ../state");
    std::fs::remove_file(&file).expect("ours");
    folder.write("etc/gatepost.yaml", text.replace("run/admin.sock", "../run/admin.sock"));
    let mut command = program();
    command.args(["run", "-c"]).arg(folder.at("etc/gatepost.yaml"));
    let gateway = Gateway::spawn(&folder, command);
    gateway.message("listening on");
    let first = last_day(&gateway);
    assert!(first.contains("2100"), "{first}");

    authority.issue_as("archive/chain2.pem", 2101);
    let before = gateway.lines_so_far();
    symlink("../archive/chain2.pem", folder.at("live/chain.pem.new")).expect("a link");
    std::fs::rename(folder.at("live/chain.pem.new"), folder.at("live/chain.pem")).expect("moved");
    let loaded = gateway.event_after(before, "certificate.loaded");
    assert!(loaded["detail"].to_string().contains("2101"), "{loaded}");
    assert!(last_day(&gateway).contains("2101"));

    let before = gateway.lines_so_far();
    authority.issue_as("renamed/chain.pem", 2111);
    let loaded = gateway.event_after(before, "certificate.loaded");
    assert!(loaded["detail"].to_string().contains("2111"), "{loaded}");
}

#[test]
fn a_list_that_is_replaced_is_read_again() {
    let folder = Folder::new();
    std::fs::create_dir(folder.at("lists")).expect("a folder");
    folder.write("lists/clients", "127.0.0.0/8\n");
    folder.configure(&IMAP.replace(" }", ", allow: [\"file:lists/clients\"] }"), "");
    let gateway = Gateway::start_in(&folder);
    let greeting = || Client::plain(gateway.address("imap")).expect("connects").line();
    assert!(greeting().starts_with("* OK"));
    let new = folder.write("lists/clients.new", "192.0.2.0/24\n");
    std::fs::rename(new, folder.at("lists/clients")).expect("renamed");
    gateway.message("is read again");
    assert!(greeting().starts_with("* BYE"));
}

#[test]
fn a_reload_that_names_a_path_outside_needs_a_restart_and_says_so() {
    let outside = Folder::new();
    let authority = Authority::new(&outside);
    authority.issue(2100);
    outside.write("clients", "127.0.0.0/8\n");
    outside.write("level", "info\n");
    let folder = Folder::new();
    std::fs::create_dir(folder.at("logs")).expect("a folder");
    let logs = "log: { auth_log: logs/auth.log }";
    folder.configure(IMAPS, logs);
    let gateway = Gateway::start_in(&folder);
    let at = |name: &str| outside.at(name).display().to_string();
    let cases = [
        (
            IMAPS.to_owned(),
            format!("{logs}\ntls: {{ certificates: [ {{ chain: {}, key: {} }} ] }}", at("chain.pem"), at("key.pem")),
            "chain.pem",
        ),
        (IMAPS.replace(" }", &format!(", allow: [\"file:{}\"] }}", at("clients"))), logs.to_owned(), "clients"),
        (IMAPS.to_owned(), format!("log: {{ auth_log: {} }}", at("auth.log")), "auth.log"),
        (IMAPS.to_owned(), format!("{logs}\nstate_dir: {}", at("state")), "state"),
        (
            IMAPS.to_owned(),
            format!("log: {{ auth_log: logs/auth.log, level: \"${{file:{}}}\" }}", at("level")),
            "level",
        ),
    ];
    for (listeners, more, name) in cases {
        let said = refusal(&gateway, &listeners, &more);
        assert!(said.contains("needs a restart") && said.contains(&at(name)), "{said}");
        assert!(said.contains("gatepost.yaml:") && !said.contains("Permission denied"), "{said}");
        gateway.tls("imaps").imap_login("joe").noop();
    }
    folder.configure(IMAPS, logs);
    folder.gatepost(&["reload"]).ends(0, &["reloaded"]);
}

#[test]
fn a_low_port_after_root_is_left_needs_a_restart() {
    if !is_root_for("runtime.user") {
        return;
    }
    let gateway = Gateway::start(IMAPS, "runtime: { user: nobody }");
    let address = own_address();
    let low = format!("{IMAPS}\n  other: {{ address: \"{address}:993\", protocol: imap }}");
    let said = refusal(&gateway, &low, "runtime: { user: nobody }");
    assert!(said.contains("needs a restart") && said.contains(&format!("{address}:993")), "{said}");
    gateway.tls("imaps").imap_login("joe").noop();
}

#[test]
fn a_file_in_a_folder_of_everybody_s_is_let_in_alone_and_that_is_told() {
    let list = tempfile::NamedTempFile::new().expect("a file in /tmp");
    std::fs::write(list.path(), "127.0.0.0/8\n").expect("written");
    std::fs::set_permissions(list.path(), PermissionsExt::from_mode(0o644)).expect("ours");
    let gateway = Gateway::start(&IMAP.replace(" }", &format!(", allow: [\"file:{}\"] }}", list.path().display())), "");
    let told = gateway.message("give it a folder of its own");
    assert!(told.to_string().contains(&list.path().display().to_string()) && told["level"] == "warn", "{told}");

    // Written in its place it is the same file.
    std::fs::write(list.path(), "192.0.2.0/24\n").expect("written");
    gateway.message("is read again");
    let new = tempfile::NamedTempFile::new().expect("a file in /tmp");
    new.persist(list.path()).expect("renamed");
    let told = gateway.message("was replaced");
    assert!(told.to_string().contains("needs a restart"), "{told}");
}

#[test]
fn names_of_backends_are_found() {
    if !is_root_for("a hosts file of its own") {
        return;
    }
    let address = own_address();
    serve_at(Speaks::Imap, (address, 1143).into());
    let folder = Folder::new();
    let hosts = folder.write("hosts", format!("127.0.0.1 localhost\n{address} old-server.example.net\n"));
    let file = folder.configure(IMAPS, "");
    let text = std::fs::read_to_string(&file).expect("ours");
    let (backends, rest): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with("backends:"));
    let local = serve_at(Speaks::Imap, ([127, 0, 0, 1], 0).into());
    assert_eq!(backends.len(), 1);
    let backends = format!(
        "backends: {{ main: {{ imap: [\"old-server.example.net:1143\"] }}, local: {{ imap: [\"localhost:{}\"] }} }}",
        local.port()
    );
    let rest = rest.join("\n").replace("protocol: imap", "protocol: imap, backend: main");
    folder.write("gatepost.yaml", format!("{rest}\n{backends}\nruntime: {{ user: nobody }}\n"));
    let script = "mount --bind \"$0\" /etc/hosts; exec \"$@\"";
    let mut command = program_under("unshare", &["--mount", "sh", "-ec", script]);
    command.arg(hosts).arg(env!("CARGO_BIN_EXE_gatepost"));
    let gateway = Gateway::start_by(&folder, command);
    gateway.tls("imaps").imap_login("joe").noop();
    let is_up = |server: &str| {
        gateway.line_after(0, server, |line| {
            line["event"] == "backend.up" && line["server"].as_str().is_some_and(|name| name.starts_with(server))
        });
    };
    is_up("old-server.example.net:");
    is_up("localhost:");
}

#[test]
fn systemd_is_told_from_inside() {
    let folder = Folder::new();
    folder.configure(IMAPS, "");
    let path = folder.at("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(super::outcome::PATIENCE)).expect("a timeout");
    let mut command = program();
    command.env("NOTIFY_SOCKET", &path);
    let gateway = Gateway::start_by(&folder, command);
    let mut heard = [0; 100];
    let length = socket.recv(&mut heard).expect("a word within the time");
    assert_eq!(&heard[..length], b"READY=1\n");
    gateway.terminate();
    let length = socket.recv(&mut heard).expect("a word within the time");
    assert_eq!(&heard[..length], b"STOPPING=1\n");
}

/// The metrics, over the admin socket.
fn metrics(gateway: &Gateway) -> String {
    let mut socket = UnixStream::connect(gateway.folder.socket()).expect("it answers");
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("it listens");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn the_process_is_measured_whoever_it_runs_as() {
    if !is_root_for("runtime.user") {
        return;
    }
    for user in ["root", "nobody"] {
        let gateway = Gateway::start(IMAPS, &format!("runtime: {{ user: {user} }}"));
        let text = metrics(&gateway);
        for name in [
            "process_open_fds",
            "process_max_fds",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_threads",
            "process_start_time_seconds",
        ] {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{name} ")))
                .unwrap_or_else(|| panic!("no {name} as {user}:\n{text}"));
            let value: f64 = line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number");
            assert!(value > 0.0, "{user}: {line}");
        }
        assert!(text.contains("process_cpu_seconds_total "), "{text}");
    }
}

const AS_NOBODY: [&str; 4] = ["--reuid", "nobody", "--regid=nogroup", "--clear-groups"];

#[test]
fn its_memory_is_closed_to_others_of_its_user() {
    if !is_root_for("being nobody") {
        return;
    }
    let as_nobody = |command: &[&str]| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(AS_NOBODY).args(command);
        outcome(setpriv)
    };
    let left_root = Gateway::start(IMAPS, "runtime: { user: nobody }");
    // One that never was root, where the kernel does not close the memory by itself.
    let folder = Folder::new();
    folder.configure(IMAPS, "");
    std::fs::set_permissions(folder.at(""), PermissionsExt::from_mode(0o777)).expect("ours");
    // The program may lie where only root may enter.
    let program = folder.at("gatepost");
    let built = env!("CARGO_BIN_EXE_gatepost");
    std::fs::hard_link(built, &program)
        .or_else(|_| std::fs::copy(built, &program).map(drop))
        .expect("linked or copied");
    let mut command = program_under("setpriv", &AS_NOBODY);
    command.arg(program);
    let never_root = Gateway::start_by(&folder, command);
    assert_eq!(never_root.proc_status("Uid")[0], nobody().uid.to_string());
    for gateway in [left_root, never_root] {
        for file in ["environ", "maps", "mem", "auxv"] {
            as_nobody(&["cat", &format!("/proc/{}/{file}", gateway.pid())]).ends(1, &["Permission denied"]);
        }
    }
    // Of an ordinary process of the same user it can be read.
    let mut sleeping = Command::new("setpriv");
    sleeping.args(AS_NOBODY).args(["sleep", "60"]);
    let mut sleeping = sleeping.spawn().expect("it starts");
    until("the other process", || {
        (as_nobody(&["cat", &format!("/proc/{}/environ", sleeping.id())]).code == Some(0)).then_some(())
    });
    let _ = sleeping.kill();
    let _ = sleeping.wait();
}

#[test]
fn no_core_is_left_when_it_is_killed() {
    if !is_root_for("a raised limit on core files") {
        return;
    }
    let limits = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    // SIGQUIT would do as well, but a shell that runs the tests in its background has it ignored (POSIX, 2.11).
    for (signal, user) in [(Signal::SIGILL, "nobody"), (Signal::SIGABRT, "root")] {
        let folder = Folder::new();
        folder.configure(IMAPS, &format!("runtime: {{ user: {user} }}"));
        std::fs::DirBuilder::new().mode(0o777).create(folder.at("cwd")).expect("a folder");
        std::fs::set_permissions(folder.at("cwd"), PermissionsExt::from_mode(0o777)).expect("ours");
        let mut command = program_under(
            "sh",
            &["-c", "ulimit -Hc unlimited; ulimit -Sc unlimited; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_gatepost")],
        );
        command.current_dir(folder.at("cwd"));
        let mut gateway = Gateway::start_by(&folder, command);
        let limits = limits(gateway.pid().as_raw());
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        assert_eq!(line.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{line}");
        gateway.signal(signal);
        let status = gateway.status();
        assert_eq!((status.signal(), status.core_dumped()), (Some(signal as i32), false), "{status:?}");
        let left: Vec<_> = std::fs::read_dir(folder.at("cwd")).expect("ours").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
