//! The program under test: its configuration, its log as it is written, and what the kernel says of it.

use crate::kept::{Kept, directory, own_address, until, write};
use gatepost::tls::PrivateCa;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

/// The name on its certificate.
pub const NAME: &str = "mail.example.net";

/// Where the servers behind it are.
#[derive(Clone, Copy)]
pub struct Behind {
    pub imap: SocketAddr,
    pub pop3: SocketAddr,
    pub smtp: SocketAddr,
}

/// A configuration that is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    Usual,
    /// With another limit.
    Changed,
    /// One that must be refused.
    Broken,
}

/// The running gateway.
pub struct Gateway {
    pub address: Ipv4Addr,
    pub directory: PathBuf,
    pub log: Log,
    behind: Behind,
    authority: PrivateCa,
    pid: Pid,
    kept: Mutex<Kept>,
}

impl Gateway {
    /// Starts one and waits until it has heard every server.
    pub fn start(program: &Path, behind: Behind) -> Self {
        let (address, directory) = (own_address(), directory("soak"));
        let authority = PrivateCa::open_or_create(&directory.join("authority"), NAME, SystemTime::now()).expect("a CA");
        renew(&authority, &directory);
        write(&directory.join("gatepost.yaml"), configuration(&directory, address, behind, Variant::Usual));
        // Its log is read as it is written and kept nowhere: a run of days would fill a disk.
        let pipe = directory.join("log");
        nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe");
        let log = Log::follow(&pipe);
        let file = directory.join("gatepost.yaml");
        let arguments = ["run".as_ref(), "-c".as_ref(), file.as_os_str()];
        let kept = Kept::start(program.to_str().expect("a path in UTF-8"), &arguments, &pipe, Some(&directory));
        let gateway = Self { address, directory, log, behind, authority, pid: kept.pid(), kept: Mutex::new(kept) };
        until("the gateway and its backends to be ready", || {
            gateway.page("/readyz?backends").filter(|(code, _)| *code == 200)
        });
        gateway
    }

    /// A listener.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    /// A client's TLS that trusts its authority, with a memory of sessions of its own.
    pub fn trusting(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.authority.root_der().to_vec())).expect("a root");
        Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    }

    /// Writes another configuration in the place of the one it has.
    pub fn configure(&self, variant: Variant) {
        let new = self.directory.join("gatepost.yaml.new");
        write(&new, configuration(&self.directory, self.address, self.behind, variant));
        std::fs::rename(new, self.directory.join("gatepost.yaml")).expect("one file system");
    }

    /// Puts a new certificate in the place of the one it has; what it must show from now on.
    pub fn renew_certificate(&self) -> Vec<u8> {
        renew(&self.authority, &self.directory)
    }

    /// Moves the log of logins away, as logrotate does before it sends the signal.
    pub fn rotate_log(&self) {
        // There is none before the first login.
        let _ = std::fs::rename(self.directory.join("auth.log"), self.directory.join("auth.log.1"));
    }

    /// SIGHUP.
    pub fn reload(&self) {
        self.kept().signal(Signal::SIGHUP);
    }

    /// A page of the admin port: status code and text.
    pub fn page(&self, path: &str) -> Option<(u16, String)> {
        page((self.address, 9900).into(), path)
    }

    /// Whether the process is alive.
    pub fn is_alive(&self) -> bool {
        crate::site::is_alive(self.pid)
    }

    /// What the process costs.
    pub fn cost(&self) -> Cost {
        let at = format!("/proc/{}", self.pid);
        let field = |file: &str, name: &str| {
            let text = std::fs::read_to_string(format!("{at}/{file}")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Cost {
            rss_kib: field("status", "VmRSS"),
            pss_kib: field("smaps_rollup", "Pss"),
            descriptors: std::fs::read_dir(format!("{at}/fd")).map_or(0, |entries| entries.count() as u64),
            threads: field("status", "Threads"),
        }
    }

    /// Tells it to end, and how it did.
    pub fn terminate(&self) -> ExitStatus {
        self.kept().stop()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("nobody panics with it")
    }
}

/// What the process costs.
#[derive(Clone, Copy, Default, Debug, serde::Serialize)]
pub struct Cost {
    pub rss_kib: u64,
    pub pss_kib: u64,
    pub descriptors: u64,
    pub threads: u64,
}

/// A page of an admin port.
pub fn page(at: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The sum of a metric over its labels.
pub fn metric(page: &str, name: &str) -> f64 {
    let of_it = page.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.starts_with(['{', ' ']));
    of_it.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn renew(authority: &PrivateCa, directory: &Path) -> Vec<u8> {
    let name = NAME.parse().expect("a name");
    let issued = authority.issue(&[name], SystemTime::now()).expect("a certificate");
    for (file, text) in [("key.pem", issued.key_pem.as_bytes()), ("chain.pem", issued.certificate_pem.as_bytes())] {
        let new = directory.join(format!("{file}.new"));
        write(&new, text);
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o600)).expect("ours");
        std::fs::rename(new, directory.join(file)).expect("one file system");
    }
    CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).expect("a certificate").to_vec()
}

/// Loopback is not exempt here, or no limit would ever be met; the ban is short, so that it is met and ends many times. A handshake has
/// more than its 10 s: the clients share the processors with the gateway, the servers, and whatever else the machine is at.
fn configuration(directory: &Path, address: Ipv4Addr, behind: Behind, variant: Variant) -> String {
    let at = directory.display();
    let Behind { imap, pop3, smtp } = behind;
    let attempts = if variant == Variant::Changed { 4 } else { 3 };
    let mut text = format!(
        "hostname: {NAME}\n\
         state_dir: {at}/state\n\
         log: {{ format: json, auth_log: {at}/auth.log }}\n\
         admin: {{ address: \"{address}:9900\", socket: {at}/admin.sock }}\n\
         runtime: {{ drain_timeout: 5s }}\n\
         backends: {{ main: {{ imap: \"{imap}\", pop3: \"{pop3}\", smtp: \"{smtp}\" }} }}\n\
         tls: {{ certificates: [{{ chain: {at}/chain.pem, key: {at}/key.pem }}] }}\n\
         timeouts: {{ tls_handshake: 30s }}\n\
         limits: {{ exempt: [], ban: 30s, auth_attempts_per_session: {attempts} }}\n\
         listeners:\n"
    );
    for (name, port, protocol, tls) in [
        ("imaps", 993, "imap", "implicit"),
        ("imap", 143, "imap", "starttls"),
        ("pop3s", 995, "pop3", "implicit"),
        ("pop3", 110, "pop3", "starttls"),
        ("submissions", 465, "submission", "implicit"),
        ("submission", 587, "submission", "starttls"),
    ] {
        text += &format!("  {name}: {{ address: \"{address}:{port}\", protocol: {protocol}, tls: {tls} }}\n");
    }
    if variant == Variant::Broken {
        text += "  imap: nothing\nno_such_key: 1\n";
    }
    text
}

/// What the gateway wrote: counted, its last lines kept, and searched for what must not be there.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    lines: u64,
    events: BTreeMap<String, u64>,
    /// Panics, errors, and what is no JSON.
    alarming: Vec<String>,
    alarms: u64,
    recent: VecDeque<String>,
}

impl Log {
    const RECENT: usize = 20_000;

    fn follow(pipe: &Path) -> Self {
        let log = Self::default();
        let (ours, pipe) = (log.clone(), pipe.to_owned());
        std::thread::spawn(move || {
            let reader = BufReader::new(File::open(pipe).expect("the pipe"));
            for line in reader.split(b'\n').map_while(Result::ok) {
                ours.add(&String::from_utf8_lossy(&line));
            }
        });
        log
    }

    fn add(&self, line: &str) {
        let value: Option<Value> = serde_json::from_str(line).ok();
        let mut written = self.written();
        written.lines += 1;
        match &value {
            _ if line.contains("panicked") => written.alarm(line),
            // An event may well be an error: that a backend is down, say.
            Some(value) if value["event"].is_string() => {
                let event = value["event"].as_str().unwrap_or_default();
                let reason = value["reason"].as_str().map_or(String::new(), |reason| format!(" {reason}"));
                *written.events.entry(format!("{event}{reason}")).or_default() += 1;
            }
            Some(value) if value["level"] == "error" => written.alarm(line),
            Some(_) => {}
            // What `check` says of a configuration that is read.
            None if line.contains(": warning: ") => {}
            None => written.alarm(line),
        }
        if written.recent.len() == Self::RECENT {
            written.recent.pop_front();
        }
        written.recent.push_back(line.to_owned());
    }

    /// How many events of a kind, whatever their reason.
    pub fn count(&self, kind: &str) -> u64 {
        let written = self.written();
        let of_it = written.events.iter().filter(|(name, _)| name.split(' ').next() == Some(kind));
        of_it.map(|(_, count)| count).sum()
    }

    /// Events by kind and reason.
    pub fn events(&self) -> BTreeMap<String, u64> {
        self.written().events.clone()
    }

    /// How many lines were alarming, and the first of them.
    pub fn alarms(&self) -> (u64, Vec<String>) {
        let written = self.written();
        (written.alarms, written.alarming.clone())
    }

    /// The last lines about an address, at most so many.
    pub fn about(&self, address: Ipv4Addr, count: usize) -> Vec<String> {
        let word = format!("\"{address}\"");
        let written = self.written();
        let mut lines: Vec<String> =
            written.recent.iter().rev().filter(|line| line.contains(&word)).take(count).cloned().collect();
        lines.reverse();
        lines
    }

    /// The last lines.
    pub fn last(&self, count: usize) -> Vec<String> {
        let written = self.written();
        written.recent.iter().skip(written.recent.len().saturating_sub(count)).cloned().collect()
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Written> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl Written {
    fn alarm(&mut self, line: &str) {
        self.alarms += 1;
        if self.alarming.len() < 20 {
            self.alarming.push(line.to_owned());
        }
    }
}
