//! The servers behind: which there are, how they are, what they last said they can do.
//!
//! A session asks [`Backends::open`] for a connection that has been greeted and is ready for a login.
//! What is learned on the way (capabilities, up or down) stays with the [`Server`] and is what the next
//! client is greeted with, so that nobody is dialled for a stranger's sake.

mod balance;
mod connect;
mod dialogue;
mod health;
mod open;
mod plain;
mod reading;
mod relaying;
mod resolve;
mod server;
mod source;
mod stream;
mod tunnel;

pub(crate) use connect::{Unconnected, connect};
pub use dialogue::{Dialogue, Lost};
pub use open::{Caller, Wanted};
pub(crate) use reading::poll_read_into;
pub use relaying::{Asked, Relaying};
pub use server::Server;
pub use stream::BackendStream;
pub use tunnel::Tunnel;

use crate::observe::{Event, Kind, Observe};
use crate::policy::{Backend, Policy, ServerName, Spoken};
use crate::proto::{Capabilities, Protocol, Service};
use resolve::Resolver;
use server::{DOWN, UP};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// All servers of a policy, and what is known of them. Lives over reloads.
pub struct Backends {
    /// By the backend's name.
    servers: RwLock<HashMap<String, Vec<Arc<Server>>>>,
    /// Servers that a service named and the configuration does not, as long as a session is there.
    strangers: Mutex<HashMap<(String, Protocol, ServerName), Weak<Server>>>,
    resolver: Resolver,
    observe: Arc<Observe>,
    started: Instant,
    /// How often a server was chosen.
    choices: AtomicU64,
    /// How often an address of ours was.
    dials: AtomicUsize,
}

impl Backends {
    /// Knows the policy's servers; nothing is dialled yet.
    pub fn new(policy: &Policy, observe: Arc<Observe>) -> Self {
        let backends = Self {
            servers: RwLock::default(),
            strangers: Mutex::default(),
            resolver: Resolver::default(),
            observe,
            started: Instant::now(),
            choices: AtomicU64::new(0),
            dials: AtomicUsize::new(0),
        };
        backends.reload(policy);
        backends
    }

    /// Takes a new policy's servers: what was learned of those that stay is kept, the others are forgotten. Whether one
    /// relays is kept only where the policy has it asked in the same way.
    pub fn reload(&self, policy: &Policy) {
        let mut servers = self.servers.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut old = std::mem::take(&mut *servers);
        for backend in policy.backends.values() {
            let mut known = old.remove(&backend.name).unwrap_or_default();
            let asked = Arc::new(Asked::of(policy, backend));
            let mut now = Vec::new();
            for (protocol, names) in &backend.servers {
                for name in names {
                    let at = known.iter().position(|server| server.is(*protocol, name));
                    let fresh = || Server::new(backend, *protocol, name, self.observe.metrics());
                    let server = at.map_or_else(fresh, |at| known.swap_remove(at));
                    server.is_asked(&asked);
                    now.push(server);
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
    pub fn servers(&self, backend: &Backend, protocol: impl Into<Spoken<Protocol>>) -> Vec<Arc<Server>> {
        let protocol = protocol.into();
        let servers = self.servers.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = servers.get(&backend.name).map_or(&[][..], Vec::as_slice);
        let names = backend.servers.get(&protocol).map_or(&[][..], Vec::as_slice);
        names.iter().filter_map(|name| known.iter().find(|server| server.is(protocol, name)).cloned()).collect()
    }

    /// The server of a backend at an address, and one of which nothing is known where the configuration names none there.
    fn server_at(&self, backend: &Backend, protocol: Protocol, name: &ServerName) -> Arc<Server> {
        if let Some(known) = self.servers(backend, protocol).into_iter().find(|server| server.name == *name) {
            return known;
        }
        let mut strangers = self.strangers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = (backend.name.clone(), protocol, name.clone());
        if let Some(known) = strangers.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        // Those whose last session is over; so there are never more than sessions, and as many again.
        if strangers.len() >= 2 * strangers.values().filter(|server| server.strong_count() > 0).count().max(64) {
            strangers.retain(|_, server| server.strong_count() > 0);
        }
        let server = Server::new(backend, protocol.into(), name, self.observe.metrics());
        strangers.insert(key, Arc::downgrade(&server));
        server
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
    pub fn has_server_up(&self, backend: &Backend, protocol: impl Into<Spoken<Protocol>>) -> bool {
        self.servers(backend, protocol).iter().any(|server| server.is_up())
    }

    /// Whether some server of the backend is up for every protocol it serves.
    pub fn is_ready(&self, backend: &Backend) -> bool {
        backend.servers.keys().all(|protocol| self.has_server_up(backend, *protocol))
    }

    /// The server answered as it should.
    fn heard_well(&self, server: &Server, capabilities: Option<&Capabilities>) {
        if let Some(new) = capabilities
            && server.learned().as_deref() != Some(new)
        {
            server.learned.store(Some(Arc::new(new.clone())));
        }
        // A server of which nothing was learned yet is still to be asked, if it has anything to say.
        if server.learned().is_some() || server.protocol == Spoken::Tcp {
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
            Spoken::Mail(Protocol::Imap) => Service::Imap.into(),
            Spoken::Mail(Protocol::Pop3) => Service::Pop3.into(),
            Spoken::Mail(Protocol::Smtp) => Service::Smtp.into(),
            Spoken::Tcp => Spoken::Tcp,
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
}
