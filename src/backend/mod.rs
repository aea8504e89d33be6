//! The servers behind: which there are, how they are, what they last said they can do.
//!
//! A session asks [`Backends::open`] for a connection that has been greeted and is ready for a login.
//! What is learned on the way (capabilities, up or down) stays with the [`Server`] and is what the next
//! client is greeted with, so that nobody is dialled for a stranger's sake.

mod connect;
mod dialogue;
mod health;
mod resolve;

pub use dialogue::{Dialogue, Lost};

use crate::observe::metrics::{BackendMetrics, Metrics};
use crate::observe::{Event, Kind, Observe};
use crate::policy::{Backend, Policy, ServerName, Timeouts};
use crate::proto::{BackSettings, Capabilities, Protocol, Service};
use arc_swap::ArcSwapOption;
use connect::{Unconnected, connect};
use dialogue::Unready;
use resolve::Resolver;
use socket2::{SockRef, TcpKeepalive};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// All servers of a policy, and what is known of them. Lives over reloads.
pub struct Backends {
    /// By the backend's name.
    servers: RwLock<HashMap<String, Vec<Arc<Server>>>>,
    resolver: Resolver,
    observe: Arc<Observe>,
    started: Instant,
}

/// A silent connection is asked after five minutes, and given up after about ten.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(300)).with_interval(Duration::from_secs(60)).with_retries(5);

/// One server of a backend for one protocol.
#[derive(Debug)]
pub struct Server {
    /// The backend's name: a metric label.
    pub backend: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it is.
    pub name: ServerName,
    learned: ArcSwapOption<Capabilities>,
    state: AtomicU8,
    metrics: BackendMetrics,
    /// Milliseconds after the start of the last good dialogue; zero for never.
    last_good: AtomicU64,
}

const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

impl Server {
    fn new(backend: &Backend, protocol: Protocol, name: &ServerName, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            backend: backend.name.clone(),
            protocol,
            name: name.clone(),
            learned: ArcSwapOption::empty(),
            state: AtomicU8::new(UNKNOWN),
            metrics: metrics.backend(&backend.name, protocol),
            last_good: AtomicU64::new(0),
        })
    }

    fn is(&self, protocol: Protocol, name: &ServerName) -> bool {
        self.protocol == protocol && self.name == *name
    }

    /// Whether the last that was heard of it was good. A server nobody has asked yet is not up.
    pub fn is_up(&self) -> bool {
        self.answers() == Some(true)
    }

    /// Whether it answered when it was last asked; `None` until it was.
    pub fn answers(&self) -> Option<bool> {
        match self.state.load(Ordering::Relaxed) {
            UP => Some(true),
            DOWN => Some(false),
            _ => None,
        }
    }

    /// What it last said it can do.
    pub fn learned(&self) -> Option<Arc<Capabilities>> {
        self.learned.load_full()
    }
}

impl Backends {
    /// Knows the policy's servers; nothing is dialled yet.
    pub fn new(policy: &Policy, observe: Arc<Observe>) -> Self {
        let backends =
            Self { servers: RwLock::default(), resolver: Resolver::default(), observe, started: Instant::now() };
        backends.reload(policy);
        backends
    }

    /// Takes a new policy's servers: what was learned of those that stay is kept, the others are forgotten.
    pub fn reload(&self, policy: &Policy) {
        let mut servers = self.servers.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut old = std::mem::take(&mut *servers);
        for backend in policy.backends.values() {
            let mut known = old.remove(&backend.name).unwrap_or_default();
            let mut now = Vec::new();
            for (protocol, names) in &backend.servers {
                for name in names {
                    let at = known.iter().position(|server| server.is(*protocol, name));
                    let fresh = || Server::new(backend, *protocol, name, self.observe.metrics());
                    now.push(at.map_or_else(fresh, |at| known.swap_remove(at)));
                }
            }
            servers.insert(backend.name.clone(), now);
            old.insert(backend.name.clone(), known);
        }
        for gone in old.into_values().flatten() {
            self.observe.metrics().backend_gone(&gone.backend, gone.protocol, &gone.name.to_string());
        }
    }

    /// The servers of a backend for a protocol, in the configuration's order.
    pub fn servers(&self, backend: &Backend, protocol: Protocol) -> Vec<Arc<Server>> {
        let servers = self.servers.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = servers.get(&backend.name).map_or(&[][..], Vec::as_slice);
        let names = backend.servers.get(&protocol).map_or(&[][..], Vec::as_slice);
        names.iter().filter_map(|name| known.iter().find(|server| server.is(protocol, name)).cloned()).collect()
    }

    /// The server of a backend at an address, and one of which nothing is known where the configuration names none there.
    pub fn server_at(&self, backend: &Backend, protocol: Protocol, name: &ServerName) -> Arc<Server> {
        let known = self.servers(backend, protocol).into_iter().find(|server| server.is(protocol, name));
        known.unwrap_or_else(|| Server::new(backend, protocol, name, self.observe.metrics()))
    }

    /// What a client is told the backend can do before it is dialled: what the first server that is up
    /// last said, else what any has said, else the protocol's minimum.
    pub fn remembered(&self, backend: &Backend, protocol: Protocol) -> Arc<Capabilities> {
        let servers = self.servers(backend, protocol);
        let up = servers.iter().filter(|server| server.is_up()).find_map(|server| server.learned());
        up.or_else(|| servers.iter().find_map(|server| server.learned()))
            .unwrap_or_else(|| Arc::new(Capabilities::minimum(protocol)))
    }

    /// Whether some server of the backend is up for the protocol.
    pub fn has_server_up(&self, backend: &Backend, protocol: Protocol) -> bool {
        self.servers(backend, protocol).iter().any(|server| server.is_up())
    }

    /// Whether some server of the backend is up for every protocol it serves.
    pub fn is_ready(&self, backend: &Backend) -> bool {
        backend.servers.keys().all(|protocol| self.has_server_up(backend, *protocol))
    }

    /// Dials the backend and brings the dialogue to where a login can be sent. The servers are tried in
    /// order, those known to be down last; the first that greets is taken.
    ///
    /// # Errors
    /// What the last server did, when none of them would.
    pub async fn open(
        &self,
        backend: &Backend,
        protocol: Protocol,
        settings: &BackSettings,
        timeouts: &Timeouts,
    ) -> Result<Dialogue, Lost> {
        let mut servers = self.servers(backend, protocol);
        servers.sort_by_key(|server| server.state.load(Ordering::Relaxed) == DOWN);
        let mut last = Lost::Unreachable("the backend has no server for this protocol".to_owned());
        for server in servers {
            match self.open_server(&server, settings, timeouts).await {
                Ok(dialogue) => return Ok(dialogue),
                Err(lost) => last = lost,
            }
        }
        Err(last)
    }

    /// Dials one server, and remembers how it went. Behind the greeting the server may judge the name in our EHLO; where
    /// that is a client's, only the health check is heard about the server.
    ///
    /// # Errors
    /// [`Lost`]: it cannot be reached, does not answer in time, or does not speak the protocol.
    pub async fn open_server(
        &self,
        server: &Arc<Server>,
        settings: &BackSettings,
        timeouts: &Timeouts,
    ) -> Result<Dialogue, Lost> {
        let started = Instant::now();
        let opened = async {
            let stream = self.connect(&server.name, timeouts.connect).await.map_err(Unready::silent)?;
            server.metrics.connected(started.elapsed());
            Dialogue::begin(stream, Arc::clone(server), settings.clone(), timeouts.backend_greeting).await
        };
        match opened.await {
            Ok(dialogue) => {
                // What it can do it may have said to that client alone; that it is well is so for all.
                let for_all = (!settings.for_client).then_some(&dialogue.capabilities);
                self.heard_well(server, for_all);
                Ok(dialogue)
            }
            Err(Unready { lost, greeted }) => {
                if !(settings.for_client && greeted) {
                    self.heard_ill(server, &lost);
                }
                Err(lost)
            }
        }
    }

    /// The server answered as it should.
    fn heard_well(&self, server: &Server, capabilities: Option<&Capabilities>) {
        if let Some(new) = capabilities
            && server.learned().as_deref() != Some(new)
        {
            server.learned.store(Some(Arc::new(new.clone())));
        }
        // A server of which nothing was learned yet is still to be asked.
        if server.learned().is_some() {
            let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            server.last_good.store(now.max(1), Ordering::Relaxed);
        }
        if server.state.swap(UP, Ordering::Relaxed) != UP {
            self.tell(server, &self.event(Kind::BackendUp, server));
        }
    }

    /// The server did not.
    fn heard_ill(&self, server: &Server, lost: &Lost) {
        if server.state.swap(DOWN, Ordering::Relaxed) != DOWN {
            let mut event = self.event(Kind::BackendDown, server);
            event.reason = Some(lost.reason().to_owned());
            event.detail = Some(lost.to_string());
            self.tell(server, &event);
        }
    }

    /// Tells how a server is, unless a reload has taken it away since it was asked: its metric would come back.
    fn tell(&self, server: &Server, event: &Event) {
        let servers = self.servers.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if servers
            .get(&server.backend)
            .is_some_and(|known| known.iter().any(|one| one.is(server.protocol, &server.name)))
        {
            self.observe.record(event);
        }
    }

    fn event(&self, kind: Kind, server: &Server) -> Event {
        let mut event = Event::new(kind);
        event.backend = Some(server.backend.clone());
        event.protocol = Some(match server.protocol {
            Protocol::Imap => Service::Imap,
            Protocol::Pop3 => Service::Pop3,
            Protocol::Smtp => Service::Smtp,
        });
        event.server = Some(server.name.to_string());
        event
    }

    /// How long ago the server last answered as it should.
    fn since_good(&self, server: &Server) -> Option<Duration> {
        match server.last_good.load(Ordering::Relaxed) {
            0 => None,
            then => Some(self.started.elapsed().saturating_sub(Duration::from_millis(then))),
        }
    }

    /// Tries a name's addresses in turn, within one deadline for all of them and for finding them.
    async fn connect(&self, name: &ServerName, timeout: Duration) -> Result<TcpStream, Lost> {
        let deadline = Instant::now() + timeout;
        let too_late = || {
            let time = humantime::format_duration(timeout);
            Lost::Timeout(format!("{name} did not take a connection within {time}"))
        };
        let addresses = tokio::time::timeout_at(deadline, self.resolver.resolve(name))
            .await
            .map_err(|_| too_late())?
            .map_err(|error| Lost::Unreachable(format!("cannot resolve {}: {error}", name.host)))?;
        let stream = connect(&addresses, deadline, TcpStream::connect).await.map_err(|why| match why {
            Unconnected::NoAddress => Lost::Unreachable(format!("{} has no address", name.host)),
            Unconnected::Timeout => too_late(),
            Unconnected::Refused(address, error) => Lost::Unreachable(format!("cannot connect to {address}: {error}")),
        })?;
        // A dialogue of small lines must not wait for Nagle; a socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        // A server that vanished without a word is noticed, also in an IDLE that lasts for hours.
        let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
        Ok(stream)
    }
}
