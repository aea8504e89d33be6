//! Doors: sockets that accept, and pause when descriptors run out.

use super::bind::BoundSocket;
use super::{Bound, ListenerStatus, Server};
use crate::policy::Listener;
use crate::proto::Refusal;
use crate::session::{self, Session};
use arc_swap::ArcSwap;
use nix::errno::Errno;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long accepting rests when the system has nothing left to accept with.
const REST: Duration = Duration::from_millis(200);

/// So many in a row that were not accepted, for whatever reason, are followed by a rest.
const IN_VAIN: u32 = 100;

/// One listening socket.
pub(super) struct Door {
    pub(super) address: SocketAddr,
    /// The address as it is configured, by which a reload knows it again.
    pub(super) configured: SocketAddr,
    /// What it is for; a reload puts another in its place.
    pub(super) listener: Arc<ArcSwap<Listener>>,
    closed: CancellationToken,
    accepting: JoinHandle<()>,
}

impl Door {
    /// Stops accepting; sessions go on. The port is free when this returns.
    pub(super) async fn close(self) {
        self.closed.cancel();
        if let Err(error) = self.accepting.await {
            tracing::error!("accepting on {} ended badly: {error}", self.address);
        }
    }

    pub(super) fn status(&self) -> ListenerStatus {
        let listener = self.listener.load();
        ListenerStatus {
            name: listener.name.clone(),
            protocol: listener.service.as_str(),
            tls: listener.tls.as_str(),
            addresses: vec![self.address],
        }
    }
}

impl Server {
    /// Accepts on the sockets.
    pub(super) async fn open(self: &Arc<Self>, bound: Bound) -> io::Result<()> {
        for note in &bound.notes {
            tracing::warn!("{note}");
        }
        let mut doors = self.doors.lock().await;
        if !self.is_ready() {
            // The drain began while a reload was under way: it has closed the doors, and none is opened after it.
            return Ok(());
        }
        for BoundSocket { listener, configured, socket } in bound.sockets {
            let socket = TcpListener::from_std(socket)?;
            let address = socket.local_addr()?;
            tracing::info!(
                "listening on {address}: {} ({}, tls: {})",
                listener.name,
                listener.service.as_str(),
                listener.tls.as_str()
            );
            self.shared.observe.metrics().listener(&listener.name);
            let (listener, closed) = (Arc::new(ArcSwap::new(listener)), CancellationToken::new());
            let (this, current, until) = (Arc::clone(self), Arc::clone(&listener), closed.clone());
            let accepting = tokio::spawn(async move {
                until.run_until_cancelled(this.accept(socket, &current)).await;
            });
            doors.push(Door { address, configured, listener, closed, accepting });
        }
        Ok(())
    }

    async fn accept(self: &Arc<Self>, socket: TcpListener, current: &ArcSwap<Listener>) {
        let (mut exhausted, mut in_vain) = (false, 0);
        loop {
            match socket.accept().await {
                Ok((stream, client)) => {
                    in_vain = 0;
                    if std::mem::take(&mut exhausted) {
                        tracing::info!("accepting again");
                    }
                    self.admit(stream, client, current.load_full());
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

    /// Gives a connection its place and its task; a full gateway refuses it in words.
    fn admit(self: &Arc<Self>, stream: TcpStream, client: SocketAddr, listener: Arc<Listener>) {
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let policy = self.policy.load_full();
        let Some(place) = self.registry.enter(self.sessions_limit(), self.leave.child_token()) else {
            let from = (client, None);
            session::refuse(&self.shared.observe, &policy, &listener, from, Refusal::TooManySessions, &stream);
            return;
        };
        let session = Session {
            shared: Arc::clone(&self.shared),
            policy,
            listener,
            id: place.id,
            client,
            proxy: None,
            tls: None,
            leave: place.leave.clone(),
            started: Instant::now(),
        };
        self.tasks.spawn(async move {
            session::serve(session, stream).await;
            drop(place);
        });
    }
}

/// Whether the system has no room for another connection, as opposed to this one being bad.
fn is_exhaustion(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .map(Errno::from_raw)
        .is_some_and(|errno| matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
}
