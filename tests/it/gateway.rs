//! A gateway in this process: a configuration file as an operator writes it, ports of its own, its events and its log.

use crate::talk::{Cut, PATIENCE, Talk, soon, trusting};
use crate::transcript::HOSTNAME;
use gatepost::config::{self, Environment};
use gatepost::observe::{Event, Observe, Style};
use gatepost::proto::{Protocol, Service, TlsRule};
use gatepost::server::{self, Keeper, Server, Workers};
use gatepost::tls::PrivateCa;
use rustls::ClientConfig;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;
use tempfile::TempDir;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tracing::Level;

/// What a gateway is started with.
pub(crate) struct Setup {
    /// Name, the words for protocol and TLS rule, and further keys.
    listeners: Vec<(String, &'static str, &'static str, String)>,
    backends: BTreeMap<&'static str, SocketAddr>,
    /// Other backends than `main`, and routes, as they are written.
    others: Vec<String>,
    routes: Vec<String>,
    sections: BTreeMap<&'static str, Vec<String>>,
    descriptors: u64,
    send_buffer: Option<usize>,
    /// An address for each listener: a port 0 is known again by it.
    base: Ipv4Addr,
    directory: TempDir,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let mut setup = Self {
            listeners: Vec::new(),
            backends: BTreeMap::new(),
            others: Vec::new(),
            routes: Vec::new(),
            sections: BTreeMap::new(),
            descriptors: 1 << 20,
            send_buffer: None,
            base: own_addresses(),
            directory: tempfile::tempdir().expect("a folder for the configuration"),
        };
        setup.set("admin", "address: null, socket: null");
        // The delay is real and the same for all; it need not be long here.
        setup.set("limits", "failure_delay: 20ms");
        // A test plays its servers itself, and is not to be surprised by who dials.
        setup.set("submission", "relay_probe: false");
        setup
    }

    /// One listener and its backend.
    pub(crate) fn one(service: Service, tls: TlsRule, backend: SocketAddr) -> Self {
        Self::new().listener(service, tls, "").backend(service.protocol(), backend)
    }

    /// Adds a listener, named after what it is (`imap-implicit`), with more keys of its own.
    pub(crate) fn listener(mut self, service: Service, tls: TlsRule, more: &str) -> Self {
        let name = format!("{}-{}", service.as_str(), tls.as_str());
        self.listeners.push((name, service.as_str(), tls.as_str(), more.to_owned()));
        let accepts = |keys: &Vec<String>| keys.iter().any(|key| key.starts_with("accept_domains"));
        if service == Service::Smtp && !self.sections.get("submission").is_some_and(accepts) {
            self.set("submission", "accept_domains: [example.net]");
        }
        self
    }

    /// Adds a listener for what is no mail, `tls: implicit` or `off`, named after that (`tcp-off`).
    pub(crate) fn tunnel(mut self, tls: &'static str, more: &str) -> Self {
        self.listeners.push((format!("tcp-{tls}"), "tcp", tls, more.to_owned()));
        self
    }

    pub(crate) fn backend(self, protocol: Protocol, address: SocketAddr) -> Self {
        self.server(protocol.as_str(), address)
    }

    /// Adds a server of `main` under this key.
    pub(crate) fn server(mut self, key: &'static str, address: SocketAddr) -> Self {
        self.backends.insert(key, address);
        self
    }

    /// Adds a backend beside `main`, where the listeners lead.
    pub(crate) fn other_backend(self, name: &str, protocol: Protocol, address: SocketAddr) -> Self {
        self.other_server(name, protocol.as_str(), address)
    }

    /// The same with a server under this key.
    pub(crate) fn other_server(mut self, name: &str, key: &str, address: SocketAddr) -> Self {
        self.others.push(format!("{name}: {{ {key}: \"{address}\", health_interval: 1h }}"));
        self
    }

    /// Adds a route: `route("user: joe, backend: shell")`.
    pub(crate) fn route(mut self, keys: &str) -> Self {
        self.routes.push(format!("  - {{ {keys} }}\n"));
        self
    }

    /// Adds keys to a section: `with("limits", "ban: 1h")`.
    pub(crate) fn with(mut self, section: &'static str, keys: &str) -> Self {
        self.set(section, keys);
        self
    }

    pub(crate) fn descriptors(mut self, descriptors: u64) -> Self {
        self.descriptors = descriptors;
        self
    }

    /// Bounds what the kernel holds of our words for a client that does not read.
    pub(crate) fn send_buffer(mut self, octets: usize) -> Self {
        self.send_buffer = Some(octets);
        self
    }

    /// Writes a file beside the configuration.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.directory.path().join(name), text).expect("a file of ours");
        self
    }

    pub(crate) fn set(&mut self, section: &'static str, keys: &str) {
        let section = self.sections.entry(section).or_default();
        let new = split_keys(keys);
        let key = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
        section.retain(|old| !new.iter().any(|new| key(new) == key(old)));
        section.extend(new);
    }

    /// Gives the first listener other keys of its own.
    pub(crate) fn set_listener(&mut self, more: &str) {
        more.clone_into(&mut self.listeners.first_mut().expect("a listener").3);
    }

    fn yaml(&self) -> String {
        let mut text = format!("hostname: {HOSTNAME}\nstate_dir: {}\nlisteners:\n", state_dir().display());
        let mut address = u32::from(self.base);
        for (name, service, tls, more) in &self.listeners {
            address += 1;
            text.push_str(&format!(
                "  {name}: {{ address: \"{}:0\", protocol: {}, tls: {}{}{more} }}\n",
                Ipv4Addr::from(address),
                service,
                tls,
                if more.is_empty() { "" } else { ", " },
            ));
            if !self.others.is_empty() {
                text.truncate(text.len() - " }\n".len());
                text.push_str(", backend: main }\n");
            }
        }
        let mut of_backend: Vec<_> = self.backends.iter().map(|(key, a)| format!("{key}: \"{a}\"")).collect();
        of_backend.push("health_interval: 1h".to_owned());
        of_backend.extend(self.sections.get("backend").into_iter().flatten().cloned());
        let main = format!("main: {{ {} }}", of_backend.join(", "));
        let backends: Vec<&str> = std::iter::once(&main).chain(&self.others).map(String::as_str).collect();
        text.push_str(&format!("backends: {{ {} }}\n", backends.join(", ")));
        if !self.routes.is_empty() {
            text.push_str(&format!("routes:\n{}", self.routes.concat()));
        }
        for (section, keys) in self.sections.iter().filter(|(section, _)| **section != "backend") {
            text.push_str(&format!("{section}: {{ {} }}\n", keys.join(", ")));
        }
        text
    }

    /// Starts it. Every backend must be listening, or known to be down.
    pub(crate) async fn start(self) -> Gateway {
        let log = Log::default();
        let observe = Observe::with_style(Box::new(log.clone()), Style::Json, Level::TRACE);
        self.start_observed(observe, log).await
    }

    /// Starts it with a log that the caller made.
    pub(crate) async fn start_observed(self, observe: Arc<Observe>, log: Log) -> Gateway {
        let path = self.directory.path().join("gatepost.yaml");
        let text = self.yaml();
        std::fs::write(&path, &text).expect("a file of ours");
        let load = {
            let path = path.clone();
            move || config::load(&path, &Environment::from_iter([]))
        };
        let (policy, _) = load().unwrap_or_else(|findings| panic!("{text}\n{}", lines(&findings)));
        let bound = server::bind::bind(&policy, 1).unwrap_or_else(|errors| panic!("{}", lines(&errors)));
        for listening in bound.addresses.iter().filter(|_| self.send_buffer.is_some()) {
            // What is accepted has it too.
            let octets = self.send_buffer.unwrap_or_default();
            socket2::SockRef::from(&listening.sockets[0]).set_send_buffer_size(octets).expect("an option");
        }
        let receiver = observe.subscribe();
        let keeper = Keeper::open(&policy, Arc::clone(&observe)).unwrap_or_else(|error| panic!("{error}"));
        let address = bound.addresses.first().expect("a listener").sockets[0].local_addr().expect("bound");
        let workers = Workers::here();
        let server = Server::start(policy, bound, keeper, observe, Box::new(load), self.descriptors, &workers)
            .await
            .expect("it starts");
        let events = tokio::sync::Mutex::new(Events { receiver, seen: Vec::new() });
        Gateway { server, log, address, events, path, setup: self }
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) server: Arc<Server>,
    pub(crate) log: Log,
    address: SocketAddr,
    events: tokio::sync::Mutex<Events>,
    path: PathBuf,
    /// To be changed before a [`Gateway::reload`].
    pub(crate) setup: Setup,
}

struct Events {
    receiver: broadcast::Receiver<Event>,
    seen: Vec<Value>,
}

impl Gateway {
    /// The first listener's address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A file beside the configuration.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.setup.directory.path().join(name)
    }

    /// Connects a client in the clear.
    pub(crate) async fn plain(&self) -> Talk {
        Talk::connect(self.address(), None, Cut::Whole).await.expect("it listens")
    }

    /// Connects a client in the clear from an address of 127.0.0.0/8.
    pub(crate) async fn plain_from(&self, source: &str) -> Talk {
        let source: IpAddr = source.parse().expect("an address");
        Talk::connect(self.address(), Some(source), Cut::Whole).await.expect("it listens")
    }

    /// Connects a client with TLS.
    pub(crate) async fn tls(&self) -> Talk {
        self.plain().await.start_tls(self.trust()).await.expect("a handshake")
    }

    /// What a client of it trusts.
    pub(crate) fn trust(&self) -> Arc<ClientConfig> {
        static TRUST: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        Arc::clone(TRUST.get_or_init(|| trusting(state_dir())))
    }

    /// Takes another setup for the next [`Gateway::reload`]. The configuration stays where it is.
    pub(crate) fn replace(&mut self, mut setup: Setup) {
        std::mem::swap(&mut self.setup.directory, &mut setup.directory);
        self.setup = setup;
    }

    /// Writes the setup's configuration anew and reloads it.
    pub(crate) async fn reload(&self) -> Result<(), String> {
        std::fs::write(&self.path, self.setup.yaml()).expect("a file of ours");
        self.server.reload().await
    }

    /// Waits for an event with at least these fields, and takes it.
    pub(crate) async fn try_event(&self, name: &str, fields: &[(&str, &str)]) -> Result<Value, String> {
        let mut events = self.events.lock().await;
        let fits =
            |event: &Value| event["event"] == name && fields.iter().all(|(key, value)| text(&event[key]) == *value);
        loop {
            if let Some(at) = events.seen.iter().position(fits) {
                return Ok(events.seen.remove(at));
            }
            match tokio::time::timeout(PATIENCE, events.receiver.recv()).await {
                Ok(Ok(event)) => events.seen.push(serde_json::to_value(&event).expect("plain data")),
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => {
                    let seen: Vec<String> = events.seen.iter().map(Value::to_string).collect();
                    return Err(format!("no such event among\n{}", seen.join("\n")));
                }
            }
        }
    }

    /// Waits for an event with these fields, written `reason=denied`.
    pub(crate) async fn event(&self, name: &str, fields: &str) -> Value {
        let pairs: Vec<_> = fields.split_whitespace().filter_map(|field| field.split_once('=')).collect();
        self.try_event(name, &pairs).await.unwrap_or_else(|got| panic!("{name} {fields}: {got}"))
    }

    /// The events of a name that came and were not taken.
    pub(crate) async fn left(&self, name: &str) -> Vec<Value> {
        let mut events = self.events.lock().await;
        while let Ok(event) = events.receiver.try_recv() {
            events.seen.push(serde_json::to_value(&event).expect("plain data"));
        }
        events.seen.iter().filter(|event| event["event"] == name).cloned().collect()
    }

    /// Waits until a server of the backend was heard well: what it can do is known then.
    pub(crate) async fn has_learned(&self) {
        self.event("backend.up", "").await;
    }

    /// Waits until no session is left: in the registry, and in the gauge.
    pub(crate) async fn is_empty(&self) {
        let empty = async {
            while self.server.status().await.sessions > 0 || self.gauge() > 0.0 {
                tokio::task::yield_now().await;
            }
        };
        soon("the last session's end", empty).await;
    }

    /// All of `gatepost_sessions`.
    pub(crate) fn gauge(&self) -> f64 {
        self.metric("gatepost_sessions{")
    }

    /// All metrics, as they are read.
    pub(crate) fn rendered(&self) -> String {
        self.server.observe().metrics().render()
    }

    /// The sum of the samples whose line begins so.
    pub(crate) fn metric(&self, prefix: &str) -> f64 {
        let text = self.rendered();
        let samples = text.lines().filter(|line| line.starts_with(prefix));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Everything it has logged, to the last line.
    pub(crate) fn logged(&self) -> String {
        self.server.observe().flush();
        self.log.text()
    }

    /// Drains it at once.
    pub(crate) async fn drain(&self) {
        soon("the drain", self.server.drain(&CancellationToken::new())).await;
    }
}

/// A log that can be read.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("valid UTF-8")
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A field as a transcript writes it.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Splits `a: 1, b: [2, 3]` at the commas between keys.
fn split_keys(keys: &str) -> Vec<String> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, byte) in keys.bytes().enumerate() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(keys[start..at].trim().to_owned());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(keys[start..].trim().to_owned());
    parts
}

fn lines(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// One private CA for all of them: its making is tested elsewhere.
pub(crate) fn state_dir() -> &'static Path {
    static STATE: OnceLock<PathBuf> = OnceLock::new();
    STATE.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("it-state");
        std::fs::create_dir_all(&path).expect("a folder of ours");
        PrivateCa::open_or_create(&path, HOSTNAME, SystemTime::now()).expect("a private CA");
        path
    })
}

/// Eight loopback addresses that nobody else in this process has, and hardly anybody in another: a port that was given
/// up there stays free.
pub(crate) fn own_addresses() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let block = NEXT.fetch_add(1, Ordering::Relaxed) * 8;
    let [_, _, high, low] = (block % 0xffff).to_be_bytes();
    Ipv4Addr::new(127, 64 + (std::process::id() % 128) as u8, high, low)
}
