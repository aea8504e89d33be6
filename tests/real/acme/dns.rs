//! dns-01: the operator's hook, run from outside the sandbox, and a CA that looks in the DNS.

use super::{Gateway, Pebble, assert_waits_after_one_failure, from_pebble};
use crate::clients::{client, output_of};
use crate::kept::{Kept, own_address, until, write};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A hook in the pebble's directory, and the file in which it notes its calls.
struct Script {
    path: PathBuf,
    calls: PathBuf,
}

impl Script {
    /// One that notes each call, as `$*`, who it is and who called it, and then does `rest`, in which there are `set_txt` and
    /// `clear_txt`.
    fn new(pebble: &Pebble, rest: &str) -> Self {
        let script = Self { path: pebble.directory.join("hook"), calls: pebble.directory.join("calls") };
        write(&script.calls, "");
        std::fs::set_permissions(&script.calls, std::fs::Permissions::from_mode(0o666)).expect("ours");
        script.does(pebble, rest);
        script
    }

    fn does(&self, pebble: &Pebble, rest: &str) {
        let (calls, address) = (self.calls.display(), pebble.address);
        self.is(format!(
            "#!/bin/sh\n\
             set -e\n\
             ask() {{ curl --silent --show-error --fail --data \"$2\" http://{address}:8055/$1; }}\n\
             set_txt() {{ ask set-txt '{{\"host\":\"'$ACME_RECORD'.\",\"value\":\"'$ACME_VALUE'\"}}'; }}\n\
             clear_txt() {{ ask clear-txt '{{\"host\":\"'$ACME_RECORD'.\"}}'; }}\n\
             calls={calls}\n\
             echo \"$* $(id -un) $PPID $$\" >>$calls\n\
             {rest}\n"
        ));
    }

    fn is(&self, text: impl AsRef<[u8]>) {
        // What runs cannot be written; another takes its place.
        let new = self.path.with_extension("new");
        write(&new, text);
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).expect("ours");
        std::fs::rename(new, &self.path).expect("in place");
    }

    /// The calls so far, each in its words.
    fn calls(&self) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(&self.calls).expect("there");
        text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    }

    /// The values of the records of so many calls of a kind, once there are so many.
    fn values(&self, action: &str, count: usize) -> Vec<String> {
        until(&format!("{count} times {action}"), || {
            let calls = self.calls().into_iter().filter(|call| call[0] == action);
            let mut values: Vec<_> = calls.map(|call| call[2].clone()).collect();
            values.sort();
            (values.len() >= count).then_some(values)
        })
    }

    fn acme(&self, more: &str) -> String {
        format!("challenge: dns-01\n    hook: {}\n    dns_wait: 0\n    {more}", self.path.display())
    }
}

const WORKS: &str = "case $1 in present) set_txt;; cleanup) clear_txt;; esac";

/// Debian's BIND as the server of example.net, which takes updates from who has the key `dns.key`, and then as little as that
/// key should be good for.
fn bind(_: Ipv4Addr, directory: &Path) -> (Kept, SocketAddr) {
    // It listens at the addresses that an interface has, and at no other of 127.0.0.0/8.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let key = output_of(client("tsig-keygen"), b"");
    write(&directory.join("dns.key"), &key);
    let owner = nix::unistd::User::from_name("nobody").expect("a look").expect("there is a nobody");
    std::os::unix::fs::chown(directory.join("dns.key"), Some(owner.uid.as_raw()), None).expect("ours");
    let name = key.split('"').nth(1).expect("a name").to_owned();
    let at = directory.join("named");
    write(
        &at.join("example.net.zone"),
        "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\nmail A 192.0.2.1\n",
    );
    write(
        &at.join("named.conf"),
        format!(
            "{key}\noptions {{ directory \"{0}\"; pid-file none; session-keyfile none; listen-on port {1} {{ 127.0.0.1; }};\n\
             listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; }};\ncontrols {{ }};\n\
             zone example.net {{ type primary; file \"example.net.zone\";\n\
             update-policy {{ grant {name} name _acme-challenge.example.net TXT; }}; }};\n",
            at.display(),
            address.port()
        ),
    );
    let configuration = at.join("named.conf");
    let arguments = ["-g".as_ref(), "-c".as_ref(), configuration.as_os_str()];
    let kept = Kept::start("/usr/sbin/named", &arguments, &directory.join("named.log"), None);
    until("named to answer", || TcpStream::connect(address).ok());
    (kept, address)
}

#[test]
fn the_script_of_the_documentation_brings_a_certificate() {
    let pebble = Pebble::start_with(86_400, bind);
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/docs/certificates.md");
    let document = std::fs::read_to_string(document).expect("it is there");
    let (_, script) = document.split_once("```sh\n#!/bin/sh\n").expect("a script");
    let script = script.split("```").next().expect("it has an end");
    let here = script
        .replace("server 192.0.2.53", &format!("server 127.0.0.1 {}", pebble.names.1.port()))
        .replace("/etc/gatepost-dns/key", &pebble.directory.join("dns.key").display().to_string());
    assert!(here.contains("127.0.0.1") && !here.contains("/etc"), "{here}");
    let hook = Script::new(&pebble, "");
    hook.is(format!("#!/bin/sh\n{here}"));
    let address = own_address();
    let gateway = Gateway::start_for("example.net, \"*.example.net\"", address, &pebble, &hook.acme(""));
    gateway.loaded(1);
    gateway.assert_serves(&pebble.root(), "ECDSA+SHA256", "Peer signature type: ECDSA");
    assert!(!gateway.log().contains("may still be there"), "{}", gateway.log());
    until("the records to be gone", || txt(&pebble, "_acme-challenge.example.net").is_empty().then_some(()));
    let log = std::fs::read_to_string(pebble.directory.join("named.log")).expect("it speaks");
    assert_eq!(log.matches("adding an RR at '_acme-challenge.example.net' TXT").count(), 2, "{log}");
}

fn is_there(pid: &str) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("status")).unwrap_or_default();
    status.contains("State:") && !status.contains("State:\tZ")
}

#[test]
fn a_hook_brings_a_certificate_for_all_names_of_a_domain_and_its_records_go_again() {
    let address = own_address();
    let pebble = Pebble::start(address, 86_400);
    let script = Script::new(&pebble, WORKS);
    let mut gateway = Gateway::start_for("example.net, \"*.example.net\"", address, &pebble, &script.acme(""));
    gateway.loaded(1);
    gateway.assert_serves(&pebble.root(), "ECDSA+SHA256", "Peer signature type: ECDSA");
    assert!(gateway.log().contains("in its sandbox"), "{}", gateway.log());
    let (set, removed) = (script.values("present", 2), script.values("cleanup", 2));
    assert_eq!(set, removed, "what was set is removed");
    assert_ne!(set[0], set[1], "the domain and the names below it have a record each");
    let calls = script.calls();
    for call in &calls {
        assert_eq!((call[1].as_str(), call[3].as_str()), ("_acme-challenge.example.net", "nobody"), "{call:?}");
    }
    let presented: Vec<_> = calls.iter().map(|call| call[0].as_str()).collect();
    assert_eq!(presented, ["present", "present", "cleanup", "cleanup"], "both stand while the CA looks");
    gateway.wait_for("nothing to be left", |_| {
        let records = std::fs::read_to_string(gateway.folder().join("records.json")).ok()?;
        (records == "[]").then_some(())
    });
    assert!(from_pebble(&gateway.log()) == 1 && !gateway.log().contains("acme: no "), "{}", gateway.log());

    gateway.reload_with("dns_wait: 0", "dns_wait: 1s");
    gateway.wait_for("a reload", |log| log.contains("config.reloaded").then_some(()));
    gateway.reload_with("    hook: ", "    hook_timeout: 9s\n    hook: ");
    gateway.wait_for("a refusal", |log| log.contains("needs a restart: tls.acme.hook_timeout changed").then_some(()));
    let helper = &calls[0][4];
    assert!(is_there(helper));
    let environment = std::fs::metadata(Path::new("/proc").join(helper).join("environ")).expect("it is there");
    assert_eq!(environment.uid(), 0, "who may not be dumped is read by root alone");
    assert!(gateway.kept.stop().success(), "{}", gateway.log());
    until("the helper to end with the gateway", || (!is_there(helper)).then_some(()));
}

#[test]
fn a_hook_renews_until_its_helper_is_lost_and_the_gateway_outlives_that() {
    let address = own_address();
    let pebble = Pebble::start(address, 30);
    let script = Script::new(&pebble, WORKS);
    let gateway = Gateway::start(address, &pebble, &script.acme(""));
    gateway.loaded(1);
    // What is sent to everything of this name, as `pkill -HUP gatepost` does, is no end of the helper.
    let helper = script.calls()[0][4].clone();
    let helper_process = Pid::from_raw(helper.parse().expect("a number"));
    for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT] {
        kill(helper_process, signal).expect("it is there");
    }
    gateway.kept.signal(Signal::SIGHUP);
    gateway.wait_for("a reload", |log| log.contains("config.reloaded").then_some(()));
    gateway.loaded(2);
    assert!(is_there(&helper) && script.calls().iter().all(|call| call[4] == helper), "{:?}", script.calls());
    let root = pebble.root();

    kill(helper_process, Signal::SIGKILL).expect("it is there");
    gateway.wait_for("that to be said", |log| {
        log.contains("the process that runs tls.acme.hook has ended (signal: 9 (SIGKILL)): no certificate is renewed")
            .then_some(())
    });
    // Its body is taken away, which nobody else would do for the first process of a container.
    until("it to be gone", || (!Path::new("/proc").join(&helper).exists()).then_some(()));
    let line = gateway.failure();
    assert!(line.contains("has ended: restart gatepost") && line.contains("is served on"), "{line}");
    gateway.assert_serves(&root, "ECDSA+SHA256", "Peer signature type: ECDSA");
}

#[test]
fn a_hook_that_says_no_is_heard_in_the_log_and_not_asked_again_at_once() {
    let address = own_address();
    let pebble = Pebble::start(address, 86_400);
    let script = Script::new(
        &pebble,
        "[ $1 = cleanup ] || { sleep 20 & echo left $! >>$calls; echo 'update failed: REFUSED' >&2; exit 2; }",
    );
    let gateway = Gateway::start(address, &pebble, &script.acme(""));
    let line = gateway.failure();
    let told = [
        "tls.acme.hook failed for `present _acme-challenge.",
        "exit status: 2",
        "update failed: REFUSED",
        "private CA",
    ];
    assert!(told.iter().all(|words| line.contains(words)), "{line}");
    assert_waits_after_one_failure(&line);
    assert_eq!(script.values("present", 1), script.values("cleanup", 1), "whatever it did is undone");
    // What it leaves at work is the helper's to bury, not process 1's, which in a container is the gateway.
    let calls = script.calls();
    let left = calls.iter().find(|call| call[0] == "left").map(|call| &call[1]).expect("it began");
    let status = std::fs::read_to_string(Path::new("/proc").join(left).join("status")).expect("it is there");
    assert!(status.contains(&format!("PPid:\t{}\n", calls[0][4])), "{status}");
    assert_eq!(pebble.issued(), 0);
}

#[test]
fn a_hook_that_hangs_is_ended_and_a_record_that_nobody_sees_is_told_in_the_cas_words() {
    let address = own_address();
    let pebble = Pebble::start(address, 86_400);
    let script = Script::new(&pebble, "[ $1 = cleanup ] || { echo 'asking the registrar' >&2; sleep 1000; }");
    let mut gateway = Gateway::start(address, &pebble, &script.acme("hook_timeout: 1s"));
    let line = gateway.failure();
    assert!(line.contains("tls.acme.hook_timeout; it said: asking the registrar"), "{line}");
    let hook = &script.calls()[0][5];
    assert!(!is_there(hook), "{hook}");
    script.values("cleanup", 1);

    script.does(&pebble, "exit 0");
    gateway.restart();
    let line = gateway.failure();
    let told = ["did not see that the names are ours", "mail.example.net:", "TXT"];
    assert!(told.iter().all(|words| line.contains(words)), "{line}");
}

#[test]
fn records_that_a_killed_gateway_leaves_behind_are_removed_by_the_next_one() {
    let address = own_address();
    let pebble = Pebble::start(address, 86_400);
    let script = Script::new(&pebble, "set_txt; sleep 1000");
    let mut gateway = Gateway::start(address, &pebble, &script.acme(""));
    let left = script.values("present", 1);
    let first = script.calls().remove(0);
    let (name, helper, hook) = (first[1].clone(), first[4].clone(), first[5].clone());
    until("the record to be set", || (txt(&pebble, &name) == left).then_some(()));
    gateway.kept.signal(Signal::SIGKILL);
    until("the helper and the hook to end with it", || (!is_there(&helper) && !is_there(&hook)).then_some(()));
    script.does(&pebble, WORKS);
    gateway.start_after_its_end();
    gateway.loaded(1);
    let removed = script.values("cleanup", 3);
    assert!(removed.contains(&left[0]), "{left:?} {removed:?}");
    let first = script.calls().into_iter().find(|call| call[4] != helper).expect("a call by the new one");
    assert_eq!((&first[0][..], &first[2]), ("cleanup", &left[0]), "before anything else");
}

/// The values of the TXT records of a name.
fn txt(pebble: &Pebble, name: &str) -> Vec<String> {
    let script = format!(
        "import socket, struct\n\
         name = b''.join(bytes([len(p)]) + p for p in b'{name}'.split(b'.')) + b'\\0'\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)\n\
         s.sendto(struct.pack('>HHHHHH', 7, 0x100, 1, 0, 0, 0) + name + struct.pack('>HH', 16, 1), ('{}', {}))\n\
         answer = s.recv(4096); at = 12 + len(name) + 4\n\
         for _ in range(struct.unpack('>H', answer[6:8])[0]):\n\
         \x20   at += 2 if answer[at] >= 192 else len(name)\n\
         \x20   length = struct.unpack('>H', answer[at + 8:at + 10])[0]\n\
         \x20   print(answer[at + 11:at + 10 + length].decode()); at += 10 + length\n",
        pebble.names.1.ip(),
        pebble.names.1.port()
    );
    let mut python = client("/usr/bin/python3");
    python.args(["-c", &script]);
    output_of(python, b"").lines().map(str::to_owned).collect()
}
