//! The servers behind: which there are, how they are, what they last said they can do.
//!
//! A session asks [`Backends::open`] for a connection that has been greeted and is ready for a login.
//! What is learned on the way (capabilities, up or down) stays with the [`Server`] and is what the next
//! client is greeted with, so that nobody is dialled for a stranger's sake.

mod balance;
mod connect;
mod dialogue;
mod health;
mod resolve;
mod server;
mod source;
mod stream;

pub use dialogue::{Dialogue, Lost};
pub use server::Server;
pub use stream::BackendStream;

use crate::observe::{Event, Kind, Observe};
use crate::policy::{Backend, Balance, Policy, ServerName, Timeouts};
use crate::proto::{BackSettings, Capabilities, Protocol, Service};
use connect::{Unconnected, connect};
use dialogue::Unready;
use resolve::Resolver;
use server::{DOWN, UP};
use socket2::{SockRef, TcpKeepalive};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
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
    /// How often a server was chosen.
    choices: AtomicU64,
    /// How often an address of ours was.
    dials: AtomicUsize,
}

/// A silent connection is asked after five minutes, and given up after about ten.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(300)).with_interval(Duration::from_secs(60)).with_retries(5);

/// What a session asks of a backend.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What is to be spoken.
    pub protocol: Protocol,
    /// What the back half must know of the session.
    pub settings: &'a BackSettings,
    /// The policy's deadlines.
    pub timeouts: &'a Timeouts,
    /// For whose sake; none for a health check.
    pub caller: Option<Caller<'a>>,
}

/// Whose session it is.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The client's address.
    pub client: SocketAddr,
    /// The user as limits know one, where that is known yet.
    pub user: Option<&'a [u8]>,
}

impl Backends {
    /// Knows the policy's servers; nothing is dialled yet.
    pub fn new(policy: &Policy, observe: Arc<Observe>) -> Self {
        let backends = Self {
            servers: RwLock::default(),
            resolver: Resolver::default(),
            observe,
            started: Instant::now(),
            choices: AtomicU64::new(0),
            dials: AtomicUsize::new(0),
        };
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

    /// Dials the backend and brings the dialogue to where a login can be sent. The servers are tried in the order of its
    /// `balance`, those known to be down last; the first that has room for a session and greets is taken.
    ///
    /// # Errors
    /// What the last server did, when none of them would.
    pub async fn open(&self, backend: &Backend, wanted: &Wanted<'_>) -> Result<Dialogue, Lost> {
        let mut last = Lost::Unreachable("the backend has no server for this protocol".to_owned());
        for server in self.in_order(backend, wanted) {
            server.choose(self.choices.fetch_add(1, Ordering::Relaxed) + 1);
            let Some(place) = server.enter(backend.max_sessions) else {
                last = Lost::Full(server.name.clone(), backend.max_sessions.unwrap_or_default());
                continue;
            };
            match self.open_server(backend, &server, wanted).await {
                Ok(dialogue) => return Ok(dialogue.in_place(place)),
                Err(lost) => last = lost,
            }
        }
        Err(last)
    }

    /// Whether a dialogue that is open already is with the server that the session would go to now. It is, unless the same
    /// user is always to go to the same server.
    pub fn suits(&self, backend: &Backend, wanted: &Wanted<'_>, dialogue: &Dialogue) -> bool {
        backend.balance != Balance::User
            || self.in_order(backend, wanted).first().is_some_and(|first| Arc::ptr_eq(first, &dialogue.server))
    }

    fn in_order(&self, backend: &Backend, wanted: &Wanted<'_>) -> Vec<Arc<Server>> {
        let mut servers = self.servers(backend, wanted.protocol);
        let address = wanted.caller.map(|caller| caller.client.ip().to_string()).unwrap_or_default();
        let user = wanted.caller.and_then(|caller| caller.user);
        balance::arrange(&mut servers, backend.balance, user.unwrap_or(address.as_bytes()));
        servers
    }

    /// Dials one server, and remembers how it went. Behind the greeting the server may judge the name in our EHLO; where
    /// that is a client's, only the health check is heard about the server.
    ///
    /// # Errors
    /// [`Lost`]: it cannot be reached, does not answer in time, or does not speak the protocol.
    pub async fn open_server(
        &self,
        backend: &Backend,
        server: &Arc<Server>,
        wanted: &Wanted<'_>,
    ) -> Result<Dialogue, Lost> {
        let started = Instant::now();
        let (settings, timeouts) = (wanted.settings, wanted.timeouts);
        let opened = async {
            let stream = self.connect(&server.name, backend, timeouts.connect).await.map_err(Unready::silent)?;
            server.metrics.connected(started.elapsed());
            let stream = BackendStream::plain(stream);
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
    async fn connect(&self, name: &ServerName, backend: &Backend, timeout: Duration) -> Result<TcpStream, Lost> {
        let deadline = Instant::now() + timeout;
        let too_late = || {
            let time = humantime::format_duration(timeout);
            Lost::Timeout(format!("{name} did not take a connection within {time}"))
        };
        let addresses = tokio::time::timeout_at(deadline, self.resolver.resolve(name))
            .await
            .map_err(|_| too_late())?
            .map_err(|error| Lost::Unreachable(format!("cannot resolve {}: {error}", name.host)))?;
        let turn = self.dials.fetch_add(1, Ordering::Relaxed);
        let dial = |address| source::dial(address, &backend.source, turn);
        let stream = connect(&addresses, deadline, dial).await.map_err(|why| match why {
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
