//! Doors: sockets that accept, and pause when descriptors run out.

use super::bind::BoundAddress;
use super::{Bound, ListenerStatus, Server};
use crate::policy::portal::PageListener;
use crate::policy::{self, Spoken};
use crate::proto::Refusal;
use crate::route::Destination;
use crate::session::{self, Passage, Session, Visit};
use arc_swap::ArcSwap;
use nix::errno::Errno;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long accepting rests when the system has nothing left to accept with.
const REST: Duration = Duration::from_millis(200);

/// So many in a row that were not accepted, for whatever reason, are followed by a rest.
const IN_VAIN: u32 = 100;

/// So many are accepted at a stretch before the sessions that are there get their turn.
const AT_A_STRETCH: u32 = 32;

/// The sockets that listen at one address.
pub(super) struct Door {
    pub(super) address: SocketAddr,
    /// The address as it is configured, by which a reload knows it again.
    pub(super) configured: SocketAddr,
    /// What it is for; a reload puts another in its place.
    pub(super) purpose: Arc<ArcSwap<policy::Door>>,
    closed: CancellationToken,
    /// One for each worker.
    accepting: Vec<JoinHandle<()>>,
}

impl Door {
    /// Stops accepting; sessions go on, and who is in the queue becomes one. The port is free when this returns.
    pub(super) async fn close(self) {
        self.closed.cancel();
        for accepting in self.accepting {
            if let Err(error) = accepting.await {
                tracing::error!("accepting on {} ended badly: {error}", self.address);
            }
        }
    }

    pub(super) fn status(&self) -> ListenerStatus {
        let purpose = self.purpose.load();
        ListenerStatus {
            name: purpose.name().to_owned(),
            protocol: purpose.protocol(),
            tls: purpose.tls(),
            addresses: vec![self.address],
        }
    }
}

impl Server {
    /// Accepts on the sockets: at each address every worker on its own.
    pub(super) async fn open(self: &Arc<Self>, bound: Bound) -> io::Result<()> {
        for note in &bound.notes {
            tracing::warn!("{note}");
        }
        let mut doors = self.doors.lock().await;
        if !self.is_ready() {
            // The drain began while a reload was under way: it has closed the doors, and none is opened after it.
            return Ok(());
        }
        for BoundAddress { door, configured, sockets } in bound.addresses {
            let address = sockets.first().ok_or(io::ErrorKind::InvalidInput)?.local_addr()?;
            tracing::info!("listening on {address}: {} ({}, tls: {})", door.name(), door.protocol(), door.tls());
            self.shared.observe.metrics().listener(door.name());
            let (purpose, closed) = (Arc::new(ArcSwap::from_pointee(door)), CancellationToken::new());
            let accepting = sockets.into_iter().zip(&self.workers).map(|(socket, worker)| {
                let opening = Opening { socket, address, purpose: Arc::clone(&purpose), closed: closed.clone() };
                self.open_on(worker, opening)
            });
            let accepting = accepting.collect::<io::Result<_>>()?;
            doors.push(Door { address, configured, purpose, closed, accepting });
        }
        Ok(())
    }

    fn open_on(self: &Arc<Self>, worker: &Handle, opening: Opening) -> io::Result<JoinHandle<()>> {
        let Opening { socket, address, purpose, closed } = opening;
        // The worker's runtime is to say when somebody knocks.
        let _there = worker.enter();
        let socket = Arc::new(TcpListener::from_std(socket)?);
        let this = Arc::clone(self);
        Ok(worker.spawn(async move {
            loop {
                let (this, socket) = (Arc::clone(&this), Arc::clone(&socket));
                let (purpose, closed) = (Arc::clone(&purpose), closed.clone());
                let accepting = tokio::spawn(async move {
                    if closed.run_until_cancelled(this.accept(&socket, address, &purpose)).await.is_none() {
                        this.accept_the_rest(&socket, address, &purpose);
                    }
                });
                match accepting.await {
                    // A fault of ours must cost the one connection it came with, not the door.
                    Err(error) if error.is_panic() => tracing::error!("accepting on {address} begins anew: {error}"),
                    Ok(()) | Err(_) => return,
                }
            }
        }))
    }

    async fn accept(self: &Arc<Self>, socket: &TcpListener, address: SocketAddr, current: &ArcSwap<policy::Door>) {
        let (mut exhausted, mut in_vain, mut stretch) = (false, 0, 0);
        loop {
            match socket.accept().await {
                Ok((stream, client)) => {
                    in_vain = 0;
                    if std::mem::take(&mut exhausted) {
                        tracing::info!("accepting again");
                    }
                    self.admit(stream, (client, address), &current.load_full());
                    stretch += 1;
                    if stretch % AT_A_STRETCH == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) if is_exhaustion(&error) => {
                    if !std::mem::replace(&mut exhausted, true) {
                        tracing::error!(
                            "accepting pauses, live sessions go on: {error}; raise the descriptor limit or lower limits.sessions"
                        );
                    }
                    tokio::time::sleep(REST).await;
                }
                // The client was gone before it was accepted; the next one may not be. If all are, it is the system.
                Err(error) => {
                    tracing::debug!("a connection was not accepted: {error}");
                    in_vain += 1;
                    if in_vain >= IN_VAIN {
                        in_vain = 0;
                        tokio::time::sleep(REST).await;
                    }
                }
            }
        }
    }

    /// Accepts what is in the queue: closing the socket would reset it, though the client has been told it is connected.
    fn accept_the_rest(self: &Arc<Self>, socket: &TcpListener, address: SocketAddr, current: &ArcSwap<policy::Door>) {
        let socket = SockRef::from(socket);
        let mut in_vain = 0;
        while in_vain < IN_VAIN {
            // Past the runtime, which may not have heard of the newest ones yet.
            match socket.accept() {
                Ok((stream, client)) => {
                    let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream.into()));
                    if let (Ok(stream), Some(client)) = (stream, client.as_socket()) {
                        self.admit(stream, (client, address), &current.load_full());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_exhaustion(&error) => return,
                Err(_) => in_vain += 1,
            }
        }
    }

    /// Gives a connection its place and its task; a full gateway refuses it in words.
    fn admit(self: &Arc<Self>, stream: TcpStream, (client, at): (SocketAddr, SocketAddr), purpose: &policy::Door) {
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        match purpose {
            policy::Door::Mail(listener) => self.admit_client(stream, client, at, Arc::clone(listener)),
            policy::Door::Page(page) => self.admit_browser(stream, client, Arc::clone(page)),
            policy::Door::Tunnel(tunnel) => self.admit_passage(stream, client, at, Arc::clone(tunnel)),
        }
    }

    fn admit_client(
        self: &Arc<Self>,
        stream: TcpStream,
        client: SocketAddr,
        at: SocketAddr,
        listener: Arc<policy::Listener>,
    ) {
        let policy = self.policy.load_full();
        let Some(place) = self.registry.enter(self.sessions_limit()) else {
            let from = (client, None);
            session::refuse(&self.shared.observe, &policy, &listener, from, Refusal::TooManySessions, &stream);
            return;
        };
        let local = local_address(&stream, at);
        let session = Box::new(Session {
            shared: Arc::clone(&self.shared),
            policy,
            destination: Destination::any_of(&listener.backend),
            listener,
            id: place.id,
            client,
            local,
            proxy: None,
            tls: None,
            leave: place.leave.clone(),
            started: Instant::now(),
        });
        self.tasks.spawn(session::serve(session, stream, place));
    }

    fn admit_browser(self: &Arc<Self>, stream: TcpStream, client: SocketAddr, page: Arc<PageListener>) {
        let Some(place) = self.registry.enter(self.sessions_limit()) else {
            session::turn_away(&self.shared.observe, &page.name, None, client, Refusal::TooManySessions);
            return;
        };
        let visit = Box::new(Visit {
            shared: Arc::clone(&self.shared),
            policy: self.policy.load_full(),
            page,
            id: place.id,
            client,
            proxy: None,
            leave: place.leave.clone(),
            started: Instant::now(),
        });
        self.tasks.spawn(session::visit(visit, stream, place));
    }

    fn admit_passage(
        self: &Arc<Self>,
        stream: TcpStream,
        client: SocketAddr,
        at: SocketAddr,
        tunnel: Arc<policy::TunnelListener>,
    ) {
        // Who comes here has shown nothing of himself, and stays for as long as he likes.
        let share = self.tunnels.enter((), Some(self.tunnels_limit()));
        let place = share.and_then(|share| Some((self.registry.enter(self.sessions_limit())?, share)));
        let Some((place, share)) = place else {
            let (observe, spoken) = (&self.shared.observe, Some(Spoken::Tcp));
            session::turn_away(observe, &tunnel.name, spoken, client, Refusal::TooManySessions);
            return;
        };
        let passage = Box::new(Passage {
            shared: Arc::clone(&self.shared),
            policy: self.policy.load_full(),
            tunnel,
            id: place.id,
            client,
            local: local_address(&stream, at),
            proxy: None,
            leave: place.leave.clone(),
            started: Instant::now(),
        });
        self.tasks.spawn(session::pass(passage, stream, (share, place)));
    }
}

/// Where a connection came in: where its socket listens, unless that is at all addresses. A client that is gone already has no
/// other end; it will be noticed.
fn local_address(stream: &TcpStream, at: SocketAddr) -> SocketAddr {
    let local = match at.ip().to_canonical().is_unspecified() {
        true => stream.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0))),
        false => at,
    };
    SocketAddr::new(local.ip().to_canonical(), local.port())
}

/// A socket on its way to a worker.
struct Opening {
    socket: std::net::TcpListener,
    address: SocketAddr,
    purpose: Arc<ArcSwap<policy::Door>>,
    closed: CancellationToken,
}

/// Whether the system has no room for another connection, as opposed to this one being bad.
fn is_exhaustion(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .map(Errno::from_raw)
        .is_some_and(|errno| matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
}
