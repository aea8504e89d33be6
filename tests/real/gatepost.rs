//! The program under test, with a configuration, a certificate and the events it writes.

use crate::clients::{client, output_of};
use crate::kept::{Kept, directory, own_address, until, write};
use crate::servers::{dovecot, first_line, postfix};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A running gateway on the standard ports of its own address.
pub struct Gatepost {
    pub address: Ipv4Addr,
    directory: PathBuf,
    kept: Kept,
}

/// The servers behind a gateway.
#[derive(Default, Clone, Copy)]
pub struct Backend {
    pub imap: Option<SocketAddr>,
    pub pop3: Option<SocketAddr>,
    pub smtp: Option<SocketAddr>,
}

impl Backend {
    /// Dovecot for reading and Postfix with AUTH for sending: the ones that most tests share.
    pub fn usual() -> Self {
        let (dovecot, postfix) = (dovecot::shared(), postfix::shared());
        Self { imap: Some(dovecot.imap()), pop3: Some(dovecot.pop3()), smtp: Some(postfix.smtp()) }
    }
}

/// The gateway that most tests share, in front of [`Backend::usual`].
pub fn usual() -> &'static Gatepost {
    static SHARED: OnceLock<Gatepost> = OnceLock::new();
    SHARED.get_or_init(|| Gatepost::start(Backend::usual(), ""))
}

impl Gatepost {
    /// Starts one before `backend` with `more` at the end of its configuration, and waits until every listener is bound.
    pub fn start(backend: Backend, more: &str) -> Self {
        Self::start_with(backend, more, &["ecdsa"])
    }

    /// Starts one with a certificate of each of the kinds of key (`ecdsa`, `rsa`), the first being the default.
    ///
    /// The first is for `mail.example.net` and the address, the second for `second.example.net`.
    pub fn start_with(backend: Backend, more: &str, keys: &[&str]) -> Self {
        Self::begin(backend, "", "", more, keys)
    }

    /// Starts one with more keys of its backend's, separated by semicolons.
    pub fn start_towards(backend: Backend, of_backend: &str) -> Self {
        Self::start_towards_with(backend, of_backend, "")
    }

    /// The same with `more` at the end of its configuration.
    pub fn start_towards_with(backend: Backend, of_backend: &str, more: &str) -> Self {
        Self::begin(backend, of_backend, "", more, &["ecdsa"])
    }

    /// Starts one that takes a PROXY header from `load_balancer` on every listener.
    pub fn start_behind(load_balancer: Ipv4Addr, backend: Backend) -> Self {
        Self::begin(backend, "", &format!(", proxy_protocol: [\"{load_balancer}\"]"), "", &["ecdsa"])
    }

    /// Starts one whose listeners stand in front of `backend`, with other backends and routes beside it, each as it is written.
    pub fn start_routed(backend: Backend, others: &str, routes: &str) -> Self {
        let more = format!("routes:\n{routes}");
        Self::begin_with(backend, "", ", backend: main", &more, &["ecdsa"], |text, _| {
            text.replacen("listeners:\n", &format!("{others}listeners:\n"), 1)
        })
    }

    /// Starts one that serves the help page on port 443.
    pub fn start_with_page(backend: Backend, more: &str) -> Self {
        Self::begin_with(backend, "", "", more, &["ecdsa"], |text, address| {
            let page = format!("listeners:\n  help: {{ address: \"{address}:443\", protocol: https }}\n");
            text.replacen("listeners:\n", &page, 1)
        })
    }

    /// Starts one whose configuration is changed before `more` is put behind it.
    pub fn start_edited(backend: Backend, more: &str, edit: impl FnOnce(String) -> String) -> Self {
        Self::begin_with(backend, "", "", more, &["ecdsa"], |text, _| edit(text))
    }

    /// Starts one whose only listener is a tunnel on port 443, to a server of a backend with these further keys.
    pub fn start_tunnel(server: SocketAddr, of_backend: &str) -> Self {
        let of_backend = format!("tcp: \"{server}\"; {of_backend}");
        Self::begin_with(Backend::default(), &of_backend, "", "", &["ecdsa"], |text, address| {
            let tunnel = format!("listeners:\n  web: {{ address: \"{address}:443\", protocol: tcp }}\n");
            text.replacen("listeners:\n", &tunnel, 1)
        })
    }

    fn begin(backend: Backend, of_backend: &str, of_listeners: &str, more: &str, keys: &[&str]) -> Self {
        Self::begin_with(backend, of_backend, of_listeners, more, keys, |text, _| text)
    }

    fn begin_with(
        backend: Backend,
        of_backend: &str,
        of_listeners: &str,
        more: &str,
        keys: &[&str],
        edit: impl FnOnce(String, Ipv4Addr) -> String,
    ) -> Self {
        let (address, directory) = (own_address(), directory("gatepost"));
        make_certificates(&directory, address, keys);
        let mut text = configuration(&directory, address, backend, of_listeners, keys);
        if !of_backend.is_empty() {
            text = text.replacen("  main:\n", &format!("  main:\n    {}\n", of_backend.replace("; ", "\n    ")), 1);
        }
        let text = edit(text, address) + more;
        write(&directory.join("gatepost.yaml"), text);
        let configuration = directory.join("gatepost.yaml");
        let kept = Kept::start(
            env!("CARGO_BIN_EXE_gatepost"),
            &["run".as_ref(), "-c".as_ref(), configuration.as_os_str()],
            &directory.join("log"),
            Some(&directory),
        );
        let gateway = Self { address, directory, kept };
        // What a gateway shows of a server it has yet to hear is the protocol's minimum; these tests want to see the server.
        let greetings = [(backend.imap, "* OK"), (backend.pop3, "+OK"), (backend.smtp, "220")];
        // One that waits for a PROXY header or for TLS is not heard here.
        let up = of_backend.is_empty()
            && greetings.iter().all(|(server, greeting)| {
                server.is_none_or(|server| first_line(server).is_some_and(|line| line.starts_with(greeting)))
            });
        gateway.wait_until_ready(if up { "readyz?backends" } else { "readyz" });
        gateway
    }

    /// The certificate of the authority that signed the gateway's.
    pub fn authority(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// The gateway's own certificate: the `index`th.
    pub fn certificate(&self, index: usize) -> PathBuf {
        self.directory.join(format!("chain{index}.pem"))
    }

    /// Its admin socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("admin.sock")
    }

    /// Its key.
    pub fn key(&self, index: usize) -> PathBuf {
        self.directory.join(format!("key{index}.pem"))
    }

    /// Where a client connects for `port`.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    /// Waits for an event of this kind (`auth.ok`, …) of `user`.
    pub fn event(&self, kind: &str, user: &str) -> Value {
        self.event_where(&format!("{kind} of {user}"), |event| event["event"] == kind && event["user"] == user)
    }

    /// Waits for an event that satisfies `wanted`.
    pub fn event_where(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found =
            std::panic::AssertUnwindSafe(|| until(what, || self.events().into_iter().find(|event| wanted(event))));
        std::panic::catch_unwind(found).unwrap_or_else(|panic| {
            eprintln!("the gateway said:\n{}", self.log());
            std::panic::resume_unwind(panic)
        })
    }

    /// All events so far, oldest first.
    pub fn events(&self) -> Vec<Value> {
        let lines = self.log();
        lines
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|event: &Value| event["event"].is_string())
            .collect()
    }

    /// Everything the gateway wrote so far.
    pub fn log(&self) -> String {
        self.kept.said()
    }

    /// How many descriptors the gateway holds.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.kept.pid())).expect("the gateway runs").count()
    }

    /// Asks the gateway to end, as a service manager does, and says whether it left with success.
    pub fn terminate(mut self) -> bool {
        self.kept.stop().success()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.kept.signal(signal);
    }

    fn wait_until_ready(&self, page: &str) {
        let ready = std::panic::AssertUnwindSafe(|| {
            until("the gateway to be ready", || {
                let mut curl = client("curl");
                curl.args([
                    "--silent",
                    "--fail",
                    "--output",
                    "/dev/null",
                    &format!("http://{}:9900/{page}", self.address),
                ]);
                curl.status().ok().filter(std::process::ExitStatus::success)
            })
        });
        if let Err(panic) = std::panic::catch_unwind(ready) {
            eprintln!("the gateway said:\n{}", self.kept.said());
            std::panic::resume_unwind(panic);
        }
    }
}

/// The listeners are the defaults of the program, at this gateway's address, and the two STARTTLS ports for reading mail.
fn configuration(directory: &Path, address: Ipv4Addr, backend: Backend, of_listeners: &str, keys: &[&str]) -> String {
    let at = directory.display();
    let mut text = format!(
        "hostname: mail.example.net\n\
         state_dir: {at}/state\n\
         log: {{ format: json }}\n\
         admin: {{ address: \"{address}:9900\", socket: {at}/admin.sock }}\n\
         runtime: {{ drain_timeout: 1s }}\n"
    );
    text += "backends:\n  main:\n    health_interval: 5s\n";
    for (name, server) in [("imap", backend.imap), ("pop3", backend.pop3), ("smtp", backend.smtp)] {
        text += &server.map_or(String::new(), |server| format!("    {name}: \"{server}\"\n"));
    }
    text += "listeners:\n";
    for (name, port, protocol, tls, server) in [
        ("imaps", 993, "imap", "implicit", backend.imap),
        ("imap", 143, "imap", "starttls", backend.imap),
        ("pop3s", 995, "pop3", "implicit", backend.pop3),
        ("pop3", 110, "pop3", "starttls", backend.pop3),
        ("submissions", 465, "submission", "implicit", backend.smtp),
        ("submission", 587, "submission", "starttls", backend.smtp),
    ] {
        if server.is_some() {
            text += &format!(
                "  {name}: {{ address: \"{address}:{port}\", protocol: {protocol}, tls: {tls}{of_listeners} }}\n"
            );
        }
    }
    text += "tls:\n  certificates:\n";
    for index in 0..keys.len() {
        text += &format!("    - {{ chain: {at}/chain{index}.pem, key: {at}/key{index}.pem }}\n");
    }
    text
}

/// An authority and certificates by the hand of openssl, so that nothing of the gateway's own stands on both sides.
fn make_certificates(directory: &Path, address: Ipv4Addr, keys: &[&str]) {
    let openssl = |arguments: &str| {
        let mut openssl = client("openssl");
        openssl.current_dir(directory).args(arguments.split_whitespace());
        output_of(openssl, b"");
    };
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=Test -keyout ca.key -out ca.pem \
         -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign",
    );
    for (index, kind) in keys.iter().enumerate() {
        let key = if *kind == "rsa" { "rsa:2048" } else { "ec -pkeyopt ec_paramgen_curve:P-256" };
        let name = ["mail.example.net", "second.example.net"][index];
        let names = if index == 0 { format!("DNS:{name},IP:{address}") } else { format!("DNS:{name}") };
        write(
            &directory.join("extensions"),
            format!(
                "subjectAltName={names}\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
            ),
        );
        openssl(&format!("req -new -newkey {key} -nodes -subj /CN={name} -keyout key{index}.pem -out request.pem"));
        openssl(&format!(
            "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days 90 -extfile extensions -out chain{index}.pem"
        ));
    }
}

#[test]
fn the_gateway_binds_its_listeners_and_leaves_with_success_when_told_to() {
    let gateway = Gatepost::start(Backend::usual(), "");
    assert!(first_line(gateway.at(143)).is_some_and(|line| line.starts_with("* OK")));
    assert!(gateway.terminate());
}

#[test]
fn a_session_is_told_goodbye_when_the_gateway_ends() {
    let gateway = Gatepost::start(Backend::usual(), "");
    let user = dovecot::shared().user("drained-session");
    let folder = tempfile::tempdir().expect("a directory");
    let open = folder.path().join("open");
    let script = format!(
        "r = Raw(993); r.ask(b'a LOGIN {user} secret', b'a OK'); r.ask(b'b IDLE', b'+')\n\
         open({open:?}, 'w')\n\
         assert b'* BYE' in r.file.read()\n"
    );
    let ended_well = std::thread::scope(|scope| {
        let session = scope.spawn(|| crate::clients::python(&gateway, &script));
        until("the session to be open", || open.exists().then_some(()));
        gateway.signal(Signal::SIGTERM);
        session.join().is_ok()
    });
    assert!(ended_well);
    assert!(gateway.terminate());
}
