//! Certificates from a CA that speaks ACME: Debian's pebble, which asks at the gateway's address for its proofs as a public
//! one would, with the resolver that comes with it.

mod dns;
mod renewal;

use crate::authority::{Authority, Order};
use crate::clients::{client, output_of, run};
use crate::kept::{Kept, directory, own_address, until, write};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

/// The CA, with a resolver for which every name is the gateway.
struct Pebble {
    address: Ipv4Addr,
    authority: Authority,
    /// Its own, chain and key.
    certificate: (PathBuf, PathBuf),
    directory: PathBuf,
    kept: Kept,
    /// Who knows names, and where it is asked.
    names: (Kept, SocketAddr),
}

impl Pebble {
    /// Starts one whose certificates live so many seconds.
    fn start(gateway: Ipv4Addr, life: u32) -> Self {
        Self::start_with(life, |address, directory| {
            let resolver = [
                "-dns01",
                &format!("{address}:8053"),
                "-management",
                &format!("{address}:8055"),
                "-defaultIPv4",
                &gateway.to_string(),
                "-defaultIPv6",
                "",
                "-http01",
                "",
                "-https01",
                "",
                "-tlsalpn01",
                "",
            ];
            let kept = Kept::start("/usr/bin/pebble-challtestsrv", &resolver, &directory.join("names.log"), None);
            (kept, (address, 8053).into())
        })
    }

    /// The same with names from elsewhere.
    fn start_with(life: u32, names_from: impl FnOnce(Ipv4Addr, &Path) -> (Kept, SocketAddr)) -> Self {
        let (address, directory, authority) = (own_address(), directory("pebble"), Authority::new());
        let names = format!("IP:{address}");
        let (chain, key) = authority.sign("pebble", &Order { names: &names, ..Order::GOOD });
        let configuration = serde_json::json!({ "pebble": {
            "listenAddress": format!("{address}:14000"),
            "managementListenAddress": format!("{address}:15000"),
            "certificate": chain, "privateKey": key,
            "httpPort": 5002, "tlsPort": 5001,
            "ocspResponderURL": "", "externalAccountBindingRequired": false,
            "certificateValidityPeriod": life,
        }});
        write(&directory.join("pebble.json"), configuration.to_string());
        let names = names_from(address, &directory);
        let kept = Self::begin(names.1, &directory);
        let pebble = Self { address, authority, certificate: (chain, key), directory, kept, names };
        pebble.wait_until_it_listens();
        pebble
    }

    fn begin(names: SocketAddr, directory: &Path) -> Kept {
        // No proof is taken for a second certificate; some nonces are refused all the same, as its default is.
        let arguments = [
            "PEBBLE_VA_NOSLEEP=1",
            "PEBBLE_AUTHZREUSE=0",
            "/usr/bin/pebble",
            "-config",
            &format!("{}/pebble.json", directory.display()),
            "-dnsserver",
            &names.to_string(),
        ];
        Kept::start("/usr/bin/env", &arguments, &directory.join("log"), Some(directory))
    }

    fn wait_until_it_listens(&self) {
        let connect = |port| TcpStream::connect((self.address, port));
        until("pebble to listen", || connect(14000).and(connect(15000)).ok());
    }

    /// Starts it again. It has forgotten everything, its own key too.
    fn start_anew(&mut self) {
        self.kept.leave_directory();
        self.kept = Self::begin(self.names.1, &self.directory);
        self.wait_until_it_listens();
    }

    /// Its root, which it makes anew at each start.
    fn root(&self) -> PathBuf {
        let mut curl = client("curl");
        curl.args(["--silent", "--fail", "--cacert"]).arg(self.authority.root());
        curl.arg(format!("https://{}:15000/roots/0", self.address));
        let path = self.directory.join("root.pem");
        write(&path, output_of(curl, b""));
        path
    }

    /// How many certificates it has issued.
    fn issued(&self) -> usize {
        self.kept.said().matches("Issued certificate serial").count()
    }

    fn stop(&mut self) {
        self.kept.stop();
    }
}

/// A gateway that asks it.
struct Gateway {
    address: Ipv4Addr,
    directory: PathBuf,
    kept: Kept,
}

impl Gateway {
    fn start(address: Ipv4Addr, pebble: &Pebble, acme: &str) -> Self {
        Self::start_for("mail.example.net, imap.example.net", address, pebble, acme)
    }

    fn start_for(names: &str, address: Ipv4Addr, pebble: &Pebble, acme: &str) -> Self {
        Self::start_at(14000, names, address, pebble, acme)
    }

    /// One that finds the CA's directory at another port.
    fn start_at(port: u16, names: &str, address: Ipv4Addr, pebble: &Pebble, acme: &str) -> Self {
        let directory = directory("acme");
        let at = directory.display();
        write(&directory.join("ca.pem"), std::fs::read(pebble.authority.root()).expect("a root"));
        write(
            &directory.join("gatepost.yaml"),
            format!(
                "hostname: mail.example.net\n\
                 state_dir: {at}/state\n\
                 log: {{ format: json }}\n\
                 admin: {{ address: \"{address}:9900\", socket: null }}\n\
                 runtime: {{ user: nobody, drain_timeout: 1s }}\n\
                 backends: {{ main: {{ imap: \"{address}:143\" }} }}\n\
                 listeners:\n  imaps: {{ address: \"{address}:993\", protocol: imap, tls: implicit }}\n\
                 tls:\n  acme:\n    contact: mailto:postmaster@example.net\n    \
                 names: [{names}]\n    directory: https://{}:{port}/dir\n    \
                 ca: {at}/ca.pem\n    {acme}\n",
                pebble.address
            ),
        );
        Self { address, kept: Self::begin(&directory), directory }
    }

    fn begin(directory: &Path) -> Kept {
        let configuration = directory.join("gatepost.yaml");
        Kept::start(
            env!("CARGO_BIN_EXE_gatepost"),
            &["run".as_ref(), "-c".as_ref(), configuration.as_os_str()],
            &directory.join("log"),
            Some(directory),
        )
    }

    /// Changes the configuration and has it read again.
    fn reload_with(&self, before: &str, after: &str) {
        let path = self.directory.join("gatepost.yaml");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        assert!(text.contains(before), "{text}");
        write(&path, text.replace(before, after));
        self.kept.signal(nix::sys::signal::Signal::SIGHUP);
    }

    /// Ends it and starts another in its place, with what it kept.
    fn restart(&mut self) {
        assert!(self.kept.stop().success(), "{}", self.log());
        self.kept.leave_directory();
        std::fs::rename(self.directory.join("log"), self.directory.join("log.before")).expect("a log");
        self.kept = Self::begin(&self.directory);
    }

    /// The same where it has been killed.
    fn start_after_its_end(&mut self) {
        assert!(!self.kept.stop().success());
        self.kept.leave_directory();
        std::fs::rename(self.directory.join("log"), self.directory.join("log.before")).expect("a log");
        self.kept = Self::begin(&self.directory);
    }

    fn log(&self) -> String {
        self.kept.said()
    }

    /// Waits for something in the log.
    fn wait_for<T>(&self, what: &str, ask: impl Fn(&str) -> Option<T>) -> T {
        let asked = std::panic::AssertUnwindSafe(|| until(what, || ask(&self.log())));
        std::panic::catch_unwind(asked).unwrap_or_else(|panic| {
            eprintln!("the gateway said:\n{}", self.log());
            std::panic::resume_unwind(panic)
        })
    }

    /// Waits until it says that there is no certificate, and gives its words.
    fn failure(&self) -> String {
        self.wait_for("the failure", |log| {
            log.lines().find(|line| line.contains("acme: no ECDSA certificate")).map(str::to_owned)
        })
    }

    /// Waits until so many certificates of the CA were loaded.
    fn loaded(&self, count: usize) {
        self.wait_for(&format!("{count} certificates of pebble"), |log| (from_pebble(log) >= count).then_some(()));
    }

    /// What openssl says of a handshake with these signatures, `root` being trusted.
    fn seen(&self, root: &Path, signatures: &str) -> String {
        let mut openssl = client("openssl");
        openssl.args(["s_client", "-connect", &format!("{}:993", self.address), "-servername", "imap.example.net"]);
        openssl.args(["-verify_hostname", "imap.example.net", "-sigalgs", signatures, "-ign_eof", "-CAfile"]).arg(root);
        run(openssl, b"a LOGOUT\r\n").said
    }

    fn assert_serves(&self, root: &Path, signatures: &str, key: &str) {
        let said = self.seen(root, signatures);
        assert!(said.contains("Verify return code: 0 (ok)") && said.contains(key), "{said}\n{}", self.log());
    }

    /// The CA's folder in the state.
    fn folder(&self) -> PathBuf {
        let accounts = std::fs::read_dir(self.directory.join("state/acme")).expect("a directory");
        let folders: Vec<_> = accounts.map(|entry| entry.expect("an entry").path()).collect();
        let [folder] = folders.as_slice() else { panic!("one CA, not {folders:?}") };
        folder.clone()
    }

    /// The files in the CA's folder, with their modes.
    fn kept_files(&self) -> Vec<(String, u32)> {
        use std::os::unix::fs::PermissionsExt;
        let files = std::fs::read_dir(self.folder()).expect("a directory");
        let mut kept: Vec<_> = files
            .map(|file| {
                let file = file.expect("an entry");
                let mode = file.metadata().expect("there").permissions().mode() & 0o777;
                (file.file_name().to_string_lossy().into_owned(), mode)
            })
            .collect();
        kept.sort();
        kept
    }
}

fn events(log: &str, kind: &str) -> Vec<Value> {
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["event"] == kind).collect()
}

/// Five minutes, and up to a quarter of that by chance.
fn assert_waits_after_one_failure(line: &str) {
    assert!(line.contains("tried again in 5m") || line.contains("tried again in 6m"), "{line}");
}

fn from_pebble(log: &str) -> usize {
    let loaded = events(log, "certificate.loaded");
    loaded
        .iter()
        .filter(|event| event["detail"].as_str().is_some_and(|detail| detail.contains("by CN=Pebble Intermediate")))
        .count()
}

#[test]
fn a_page_brings_certificates_of_both_kinds_and_a_restart_asks_for_no_other() {
    let address = own_address();
    let pebble = Pebble::start(address, 86_400);
    let mut gateway = Gateway::start(address, &pebble, &format!("http_address: \"{address}:5002\"\n    key: both"));
    gateway.loaded(2);
    let first = &events(&gateway.log(), "certificate.loaded")[0];
    assert!(first["detail"].as_str().is_some_and(|detail| detail.contains("gatepost private CA")), "{first}");
    let root = pebble.root();
    gateway.assert_serves(&root, "ECDSA+SHA256", "Peer signature type: ECDSA");
    gateway.assert_serves(&root, "RSA-PSS+SHA256", "Peer signature type: RSA-PSS");
    let expected = [("account.json", 0o600), ("ecdsa.pem", 0o600), ("rsa.pem", 0o600)];
    assert_eq!(gateway.kept_files(), expected.map(|(name, mode)| (name.to_owned(), mode)));
    let mut curl = client("curl");
    curl.arg("--silent").arg(format!("http://{address}:9900/metrics"));
    let metrics = output_of(curl, b"");
    assert!(metrics.contains("gatepost_certificate_expiry_timestamp_seconds{name=\"imap.example.net\"}"), "{metrics}");
    let mut curl = client("curl");
    curl.args(["--silent", "--write-out", "%{http_code}", "--output", "/dev/null"]);
    curl.arg(format!("http://{address}:5002/.well-known/acme-challenge/../../etc/passwd"));
    assert_eq!(output_of(curl, b""), "404");

    gateway.kept.signal(nix::sys::signal::Signal::SIGHUP);
    gateway.wait_for("a reload", |log| log.contains("config.reloaded").then_some(()));

    gateway.restart();
    gateway.loaded(2);
    gateway.assert_serves(&root, "ECDSA+SHA256", "Peer signature type: ECDSA");
    let log = gateway.log();
    assert!(!log.contains("acme: the") && !log.contains("private CA"), "{log}");
}

#[test]
fn a_reload_brings_other_names_and_a_new_contact_and_refuses_what_is_settled_at_the_start() {
    let address = own_address();
    let pebble = Pebble::start(address, 86_400);
    let gateway = Gateway::start(address, &pebble, &format!("http_address: \"{address}:5002\""));
    gateway.loaded(1);
    gateway.reload_with(
        "contact: mailto:postmaster@example.net\n    names: [mail.example.net, imap.example.net]",
        "contact: mailto:hostmaster@example.net\n    names: [mail.example.net, imap.example.net, pop.example.net]",
    );
    gateway.wait_for("a certificate for the new name", |log| {
        let loaded = events(log, "certificate.loaded").into_iter();
        let names: Vec<_> = loaded.filter_map(|event| event["detail"].as_str().map(str::to_owned)).collect();
        let first =
            names.iter().position(|names| names.contains("by CN=Pebble") && names.contains("pop.example.net"))?;
        // Until then the old one was served, never again the private CA's.
        assert_eq!(names[..first].iter().filter(|names| names.contains("private CA")).count(), 1, "{names:?}");
        Some(())
    });
    gateway.assert_serves(&pebble.root(), "ECDSA+SHA256", "Peer signature type: ECDSA");
    let account = std::fs::read_to_string(gateway.folder().join("account.json")).expect("an account");
    assert!(account.contains("hostmaster") && !account.contains("postmaster"));

    gateway.reload_with(&format!("{address}:5002"), &format!("{address}:5009"));
    let refused = gateway.wait_for("a refusal", |log| events(log, "config.refused").pop());
    assert!(refused["detail"].as_str().is_some_and(|why| why.contains("needs a restart: the address")), "{refused}");
}

#[test]
fn a_handshake_brings_a_certificate_that_is_renewed_and_outlives_the_ca() {
    let address = own_address();
    let mut pebble = Pebble::start(address, 30);
    let acme = format!("challenge: tls-alpn-01\n    tls_address: \"{address}:5001\"");
    let mut gateway = Gateway::start(address, &pebble, &acme);
    gateway.loaded(1);
    let root = pebble.root();
    gateway.assert_serves(&root, "ECDSA+SHA256", "Peer signature type: ECDSA");
    gateway.loaded(2);
    let log = gateway.log();
    assert!(log.contains("is due for renewal") && !log.contains("acme: no "), "{log}");
    pebble.stop();
    let line = gateway.failure();
    assert!(line.contains("refused") && line.contains("is served on") && line.contains("tried again in"), "{line}");
    gateway.assert_serves(&root, "ECDSA+SHA256", "Peer signature type: ECDSA");

    // One that has lost its accounts; who starts the gateway again need not wait.
    pebble.start_anew();
    gateway.restart();
    gateway.wait_for("another account", |log| log.contains("does not know our account any more").then_some(()));
    gateway.wait_for("a certificate by it", |log| {
        let loaded = events(log, "certificate.loaded");
        (loaded.len() > 1).then_some(())
    });
    gateway.assert_serves(&pebble.root(), "ECDSA+SHA256", "Peer signature type: ECDSA");
}

#[test]
fn a_proof_that_the_ca_does_not_see_is_told_in_its_words_and_not_tried_again_at_once() {
    let address = own_address();
    let pebble = Pebble::start(address, 86_400);
    // It asks at 5002, where nobody is: as when port 80 is not let through.
    let mut gateway = Gateway::start(address, &pebble, &format!("http_address: \"{address}:5003\""));
    let line = gateway.failure();
    let told = ["did not see that the names are ours", "mail.example.net:", "connection refused", "private CA"];
    assert!(told.iter().all(|words| line.contains(words)), "{line}");
    assert_waits_after_one_failure(&line);
    let mut openssl = client("openssl");
    openssl.args(["s_client", "-connect", &format!("{address}:993"), "-ign_eof"]);
    assert!(run(openssl, b"a LOGOUT\r\n").said.contains("gatepost private CA"));
    // A service manager that starts it again and again does not make it hammer the CA either.
    for _ in 0..3 {
        gateway.restart();
        gateway.failure();
    }
    gateway.restart();
    let line =
        gateway.wait_for("it to wait", |log| log.lines().find(|line| line.contains("of late")).map(str::to_owned));
    assert!(line.contains("asked again in 5"), "most of the hour is left: {line}");
    assert!(!gateway.log().contains("asking"), "{}", gateway.log());
}

#[test]
fn a_certificate_that_could_not_be_kept_is_not_asked_for() {
    let address = own_address();
    let pebble = Pebble::start(address, 86_400);
    let gateway = Gateway::start(address, &pebble, &format!("http_address: \"{address}:5002\""));
    gateway.loaded(1);
    assert_eq!(pebble.issued(), 1);
    // As on a full disk: where the next one would be written, nothing can be.
    std::fs::create_dir_all(gateway.folder().join("ecdsa.new/full")).expect("made");
    gateway.reload_with("[mail.example.net, imap.example.net]", "[mail.example.net, pop.example.net]");
    let line = gateway.failure();
    assert!(line.contains("ecdsa.new") && line.contains("state_dir must be a directory"), "{line}");
    assert_eq!(pebble.issued(), 1, "the CA would have counted it");
}
