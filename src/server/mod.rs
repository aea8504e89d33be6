//! The process: workers that serve, doors that accept, the registry of sessions, reload and drain.
//!
//! The order at start is bind, drop privileges, close the sandbox, then everything else ([`bind`], [`confine`],
//! [`Server::start`]): certificates and lists are read as the user, and in the sandbox, that will reread them, so that the
//! first renewal cannot be the first failure.

mod acme;
pub mod bind;
mod certificates;
mod listener;
pub mod privileges;
mod registry;
mod reload;
mod sandbox;
mod workers;

pub use acme::{Helper, HookCommand, Means, SUBCOMMAND as HOOK_SUBCOMMAND, run_hooks};
pub use bind::{BindError, Bound};
pub use certificates::{CertificateError, Keeper};
pub use registry::Registry;
pub use sandbox::{ConfineError, Sandbox, confine};
pub use workers::{Workers, runtime};

use crate::backend::Backends;
use crate::gate::{Counts, Gate, NoGrant};
use crate::observe::Observe;
use crate::policy::{Policy, Spoken};
use crate::proto::Protocol;
use crate::session::{Pages, Shared};
use crate::store::Store;
use arc_swap::ArcSwap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where a configuration comes from, when it is asked for again.
pub type Source =
    Box<dyn Fn() -> Result<(Policy, Vec<crate::config::Finding>), Vec<crate::config::Finding>> + Send + Sync>;

/// A running gateway.
pub struct Server {
    policy: ArcSwap<Policy>,
    shared: Arc<Shared>,
    registry: Registry,
    /// Those of the sessions that are on `tcp` listeners.
    tunnels: Arc<Counts<()>>,
    doors: Mutex<Vec<listener::Door>>,
    keeper: Mutex<Keeper>,
    /// Held while a new configuration is taken: one at a time.
    reloading: Mutex<()>,
    /// Told when a new configuration is in force.
    reloaded: Notify,
    /// Stops the health checks of the policy in force.
    health: Mutex<CancellationToken>,
    tasks: TaskTracker,
    draining: AtomicBool,
    /// Where sessions are served.
    workers: Vec<Handle>,
    /// Descriptors the process may have.
    descriptors: u64,
    source: Source,
    started: Instant,
}

/// How often certificates and list files are looked at.
const WATCH: Duration = Duration::from_secs(5);
/// How often counters that nobody asked for any more are thrown out.
const SWEEP: Duration = Duration::from_secs(30);

/// Sessions that end within this of each other end together.
const LAST_OF_AN_EBB: Duration = Duration::from_secs(1);

/// How long the start has left things to do: the first health checks.
const STARTED: Duration = Duration::from_millis(500);

/// How long the end of the process waits for the last events of sessions that were cut off.
const LAST_EVENTS: Duration = Duration::from_millis(500);

/// What the gateway says of itself.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Status {
    /// The program's version.
    pub version: &'static str,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Sessions there are.
    pub sessions: usize,
    /// The effective bound on them.
    pub sessions_limit: usize,
    /// Whether it is going down.
    pub draining: bool,
    /// Where it listens: name, protocol, TLS rule and addresses.
    pub listeners: Vec<ListenerStatus>,
    /// The servers behind.
    pub backends: Vec<ServerStatus>,
}

/// A listener in a [`Status`].
#[derive(Debug, Clone, serde::Serialize)]
pub struct ListenerStatus {
    /// Its key in the configuration.
    pub name: String,
    /// What it offers.
    pub protocol: &'static str,
    /// Its rule about TLS.
    pub tls: &'static str,
    /// Where it is bound.
    pub addresses: Vec<std::net::SocketAddr>,
}

/// A backend's server in a [`Status`].
#[derive(Debug, Clone, serde::Serialize)]
pub struct ServerStatus {
    /// The backend's key in the configuration.
    pub backend: String,
    /// What it speaks.
    pub protocol: &'static str,
    /// Where it is.
    pub server: String,
    /// Whether it answered when last asked; null until it was.
    pub up: Option<bool>,
    /// SMTP: `open`, `closed` or `unknown`: whether it relays for our bare address; null where it is not asked.
    pub relays: Option<&'static str>,
}

impl Server {
    /// Begins to serve what was bound, on these workers, as many as it was bound for. What is about the process runs
    /// on the current runtime.
    ///
    /// # Errors
    /// A socket that cannot be handed to the runtime.
    pub async fn start(
        policy: Policy,
        mut bound: Bound,
        keeper: Keeper,
        observe: Arc<Observe>,
        source: Source,
        descriptors: u64,
        workers: &Workers,
    ) -> std::io::Result<Arc<Self>> {
        let store = Store::memory();
        let gate = Arc::new(Gate::new(&policy, store, Arc::clone(&observe)));
        let backends = Arc::new(Backends::new(&policy, Arc::clone(&observe)));
        let shared = Arc::new(Shared {
            gate,
            backends,
            tls: ArcSwap::from_pointee(keeper.tls().clone()),
            observe,
            pages: OnceLock::new(),
            limit: AtomicUsize::new(1),
        });
        let server = Arc::new(Self {
            registry: Registry::default(),
            tunnels: Arc::default(),
            policy: ArcSwap::from_pointee(policy),
            shared,
            doors: Mutex::default(),
            keeper: Mutex::new(keeper),
            reloading: Mutex::default(),
            reloaded: Notify::new(),
            health: Mutex::new(CancellationToken::new()),
            tasks: TaskTracker::new(),
            draining: AtomicBool::new(false),
            workers: workers.runtimes().to_vec(),
            descriptors,
            source,
            started: Instant::now(),
        });
        server.set_limit();
        server.keep_what_the_page_tells(&server.policy.load());
        {
            let (policy, health) = (server.policy.load_full(), server.health.lock().await);
            server.shared.backends.watch(&policy, &health);
            server.shared.backends.watch_relaying(&policy, &health);
        }
        let acme = bound.acme.take();
        server.open(bound).await?;
        if let Some(means) = acme {
            tokio::spawn(acme::not_in_silence(acme::keep(Arc::clone(&server), means)));
        }
        let watching = Arc::clone(&server);
        tokio::spawn(async move { watching.watch_files().await });
        let trimming = Arc::clone(&server);
        tokio::spawn(async move { trimming.give_memory_back().await });
        let sweeping = Arc::clone(&server);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SWEEP);
            loop {
                ticks.tick().await;
                let gate = Arc::clone(&sweeping.shared.gate);
                // A million keys take a quarter of a second: not on a thread that serves sessions.
                if let Err(error) = tokio::task::spawn_blocking(move || gate.sweep()).await {
                    tracing::error!("forgetting what is over failed: {error}");
                }
            }
        });
        Ok(server)
    }

    /// Gives memory back: what only the start needed, and while many sessions end, in small pieces, and once more when no
    /// more of them do.
    async fn give_memory_back(&self) {
        tokio::time::sleep(STARTED).await;
        gatepost_trim::let_go_of_code();
        let mut goes_on = false;
        loop {
            let ebb = self.registry.ebb();
            if goes_on {
                goes_on = tokio::time::timeout(LAST_OF_AN_EBB, ebb).await.is_ok();
            } else {
                ebb.await;
                goes_on = true;
            }
            if let Err(error) = tokio::task::spawn_blocking(gatepost_trim::trim).await {
                tracing::error!("giving memory back failed: {error}");
            }
        }
    }

    /// The sessions there may be, as [`Shared::sessions_limit`] has them.
    pub fn sessions_limit(&self) -> usize {
        self.shared.sessions_limit()
    }

    /// How many of them may be on `tcp` listeners; all, where there is nothing else.
    fn tunnels_limit(&self) -> usize {
        let policy = self.policy.load();
        if policy.listeners.is_empty() && policy.pages.is_empty() {
            self.shared.sessions_limit()
        } else {
            self.shared.share_of_sessions()
        }
    }

    /// Puts the policy's bound on sessions in force, and says it.
    fn set_limit(&self) {
        let policy = self.policy.load();
        let reserve = reserve(&policy, self.workers.len());
        let by_descriptors = usize::try_from(self.descriptors.saturating_sub(reserve) / 2).unwrap_or(usize::MAX);
        let wanted = policy.limits.sessions;
        let limit = wanted.min(by_descriptors.max(1));
        self.shared.limit.store(limit, Ordering::Relaxed);
        self.shared.observe.metrics().sessions_limit(limit);
        if limit < wanted {
            tracing::warn!(
                "room for {limit} sessions, not the {wanted} of limits.sessions: the process may have {} descriptors; raise LimitNOFILE (systemd), ulimits (compose) or ulimit -n to {}",
                self.descriptors,
                u64::try_from(wanted).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(reserve)
            );
        } else {
            tracing::info!("room for {limit} sessions ({} descriptors)", self.descriptors);
        }
    }

    /// Has browsers answered by these pages. To be called once, right behind the start; a second call changes nothing.
    pub fn show(&self, pages: Arc<dyn Pages>) {
        let _ = self.shared.pages.set(pages);
    }

    /// Where there is a help page, what became of each address' last attempts is kept for it.
    fn keep_what_the_page_tells(&self, policy: &Policy) {
        if policy.has_page() {
            self.shared.observe.keep_attempts();
        }
    }

    /// Metrics and events.
    pub fn observe(&self) -> &Arc<Observe> {
        &self.shared.observe
    }

    /// Whether every listener is bound and new connections are taken.
    pub fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    /// Whether there is a server up for every protocol of every backend.
    pub fn backends_are_ready(&self) -> bool {
        self.policy.load().backends.values().all(|backend| self.shared.backends.is_ready(backend))
    }

    /// Lets an address send without a login, and says for how long.
    ///
    /// # Errors
    /// Why it may not.
    pub async fn grant(&self, client: IpAddr) -> Result<Duration, NoGrant> {
        self.shared.gate.grant(client).await
    }

    /// What it is doing.
    pub async fn status(&self) -> Status {
        let policy = self.policy.load_full();
        let listeners = self.doors.lock().await.iter().map(listener::Door::status).collect();
        let mut backends = Vec::new();
        for backend in policy.backends.values() {
            for protocol in backend.servers.keys() {
                backends.extend(self.shared.backends.servers(backend, *protocol).iter().map(|server| {
                    ServerStatus {
                        backend: backend.name.clone(),
                        protocol: protocol.as_str(),
                        server: server.name.to_string(),
                        up: server.answers(),
                        relays: (*protocol == Spoken::Mail(Protocol::Smtp) && policy.submission.relay_probe)
                            .then(|| server.relaying().as_str()),
                    }
                }));
            }
        }
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.started.elapsed().as_secs(),
            sessions: self.registry.len(),
            sessions_limit: self.sessions_limit(),
            draining: self.draining.load(Ordering::Relaxed),
            listeners,
            backends,
        }
    }

    /// Stops accepting, lets sessions end for the policy's `drain_timeout`, saying goodbye to those that stay,
    /// evenly over that time, and returns when none is left. `hurry` ends it at once.
    pub async fn drain(&self, hurry: &CancellationToken) {
        self.draining.store(true, Ordering::Relaxed);
        self.shared.observe.metrics().draining(true);
        let doors: Vec<_> = self.doors.lock().await.drain(..).collect();
        for door in doors {
            door.close().await;
        }
        self.health.lock().await.cancel();
        self.tasks.close();
        let time = self.policy.load().runtime.drain_timeout;
        let sessions = self.registry.leaving();
        tracing::info!(
            "draining: {} session{}, goodbyes spread over {}",
            sessions.len(),
            if sessions.len() == 1 { "" } else { "s" },
            humantime::format_duration(time)
        );
        // The last goodbye leaves a little before the time is over, so that it arrives.
        let step = time.mul_f64(0.95) / u32::try_from(sessions.len().max(1)).unwrap_or(u32::MAX);
        let goodbyes = async {
            for leave in sessions {
                if !leave.is_cancelled() {
                    tokio::time::sleep(step).await;
                    leave.cancel();
                }
            }
            self.tasks.wait().await;
        };
        tokio::select! {
            () = self.tasks.wait() => {}
            _ = tokio::time::timeout(time, goodbyes) => {}
            () = hurry.cancelled() => {}
        }
        let left = self.registry.len();
        if left > 0 {
            tracing::warn!("{left} sessions were ended without waiting any longer");
            for leave in self.registry.leaving() {
                leave.cancel();
            }
            // Their last events are wanted in the log.
            let _ = tokio::time::timeout(LAST_EVENTS, self.tasks.wait()).await;
        }
    }
}

/// Descriptors that are kept from sessions: 256, or more where many workers listen at many addresses.
fn reserve(policy: &Policy, workers: usize) -> u64 {
    /// What a worker's runtime has.
    const RUNTIME: usize = 4;
    let addresses: usize = policy.doors().map(|door| door.addresses().len()).sum();
    let listening = workers.saturating_mul(addresses + RUNTIME);
    u64::try_from(listening.saturating_add(128)).unwrap_or(u64::MAX).max(256)
}
