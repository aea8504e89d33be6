//! The way to a server: which one, over which connection, and what it is told before it is asked anything.

use super::connect::{Unconnected, connect};
use super::dialogue::{Dialogue, Lost, Unready};
use super::server::Place;
use super::{BackendStream, Backends, Server, balance, source};
use crate::policy::{Backend, Balance, ClientAddress, ServerName, Spoken, Timeouts};
use crate::proto::{BackSettings, Introduction, Protocol, UserName, proxy_header};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Sets up a connection; a socket that refuses an option still works.
pub(super) fn prepare(stream: &TcpStream) {
    // A dialogue of small lines must not wait for Nagle.
    let _ = stream.set_nodelay(true);
}

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
    /// The address of ours that it came in at.
    pub local: SocketAddr,
    /// The user as limits know one, where that is known yet.
    pub user: Option<&'a [u8]>,
    /// Who it is, where somebody else than this server has checked the password: the server is told, if it is by XCLIENT that it
    /// learns of the client.
    pub checked: Option<&'a UserName>,
}

impl Backends {
    /// Dials the backend and brings the dialogue to where a login can be sent. The servers are tried in the order of its
    /// `balance`, those known to be down last; the first that has room for a session and greets is taken.
    ///
    /// # Errors
    /// What the last server did, when none of them would.
    pub async fn open(&self, backend: &Backend, wanted: &Wanted<'_>) -> Result<Dialogue, Lost> {
        let mut last = Lost::Unreachable("the backend has no server for this protocol".to_owned());
        for server in self.in_order(backend, wanted.protocol, wanted.caller) {
            let Some(place) = self.choose(backend, &server, &mut last) else { continue };
            match self.open_server(backend, &server, wanted).await {
                Ok(dialogue) => return Ok(dialogue.in_place(place)),
                Err(lost) => last = lost,
            }
        }
        Err(last)
    }

    /// Takes a place on a server whose turn it is, if it has one; else says so in `last`.
    pub(super) fn choose(&self, backend: &Backend, server: &Arc<Server>, last: &mut Lost) -> Option<Place> {
        server.choose(self.choices.fetch_add(1, Ordering::Relaxed) + 1);
        let place = server.enter(backend.max_sessions);
        if place.is_none() {
            *last = Lost::Full(server.name.clone(), backend.max_sessions.unwrap_or_default());
        }
        place
    }

    /// The same with the server at an address, which need not be one of the configuration's.
    ///
    /// # Errors
    /// What it did.
    pub async fn open_at(&self, backend: &Backend, name: &ServerName, wanted: &Wanted<'_>) -> Result<Dialogue, Lost> {
        let server = self.server_at(backend, wanted.protocol, name);
        let full = || Lost::Full(name.clone(), backend.max_sessions.unwrap_or_default());
        let place = server.enter(backend.max_sessions).ok_or_else(full)?;
        Ok(self.open_server(backend, &server, wanted).await?.in_place(place))
    }

    /// Whether a dialogue that is open already is with the server that the session would go to now. It is, unless the same
    /// user is always to go to the same server.
    pub fn suits(&self, backend: &Backend, wanted: &Wanted<'_>, dialogue: &Dialogue) -> bool {
        backend.balance != Balance::User
            || self
                .in_order(backend, wanted.protocol, wanted.caller)
                .first()
                .is_some_and(|first| Arc::ptr_eq(first, &dialogue.server))
    }

    /// The servers in the order in which they are tried for a session.
    pub(super) fn in_order(
        &self,
        backend: &Backend,
        protocol: impl Into<Spoken<Protocol>>,
        caller: Option<Caller<'_>>,
    ) -> Vec<Arc<Server>> {
        let mut servers = self.servers(backend, protocol);
        let address = caller.map(|caller| caller.client.ip().to_string()).unwrap_or_default();
        let user = caller.and_then(|caller| caller.user);
        balance::arrange(&mut servers, backend.balance, user.unwrap_or(address.as_bytes()));
        servers
    }

    /// Dials one server, and remembers how it went. What a server does once it knows the client, or has heard a name of the
    /// client's in our EHLO, may be for that client alone: then only the health check is heard about the server.
    ///
    /// # Errors
    /// [`Lost`]: it cannot be reached, does not answer in time, or does not speak the protocol.
    pub async fn open_server(
        &self,
        backend: &Backend,
        server: &Arc<Server>,
        wanted: &Wanted<'_>,
    ) -> Result<Dialogue, Lost> {
        let (settings, timeouts) = (introducing(backend, wanted), wanted.timeouts);
        let mut is_connected = false;
        let opened = async {
            let reaching = self.reach(backend, server, timeouts, wanted.caller, &mut is_connected);
            let stream = reaching.await.map_err(Unready::silent)?;
            let server = (Arc::clone(server), wanted.protocol);
            Dialogue::begin(stream, server, settings.clone(), backend.tls.as_ref(), timeouts).await
        };
        let opened = opened.await;
        let knows_client = knows_client(backend, wanted.caller, is_connected);
        match opened {
            Ok(dialogue) => {
                // What it can do it may have said to that client alone; that it is well is so for all.
                let for_all = (!settings.for_client && !knows_client).then_some(&dialogue.capabilities);
                self.heard_well(server, for_all);
                Ok(dialogue)
            }
            Err(Unready { lost, greeted }) => {
                if !(settings.for_client && greeted || knows_client) {
                    self.heard_ill(server, &lost);
                }
                Err(lost)
            }
        }
    }

    /// Connects to a server, under TLS where that begins with the first byte, and says meanwhile that TCP was connected.
    pub(super) async fn reach(
        &self,
        backend: &Backend,
        server: &Server,
        timeouts: &Timeouts,
        caller: Option<Caller<'_>>,
        is_connected: &mut bool,
    ) -> Result<BackendStream, Lost> {
        let started = Instant::now();
        let socket = self.connect(&server.name, backend, timeouts.connect, caller).await?;
        prepare(&socket);
        *is_connected = true;
        server.metrics.connected(started.elapsed());
        let stream = BackendStream::plain(socket);
        match backend.tls.as_ref().filter(|tls| !tls.starttls) {
            Some(tls) => stream.start_tls(tls, &server.name, timeouts.tls_handshake).await,
            None => Ok(stream),
        }
    }

    /// Connects to a server from where the backend wants it, and introduces the client if that is by a PROXY header.
    async fn connect(
        &self,
        name: &ServerName,
        backend: &Backend,
        timeout: Duration,
        caller: Option<Caller<'_>>,
    ) -> Result<TcpStream, Lost> {
        let deadline = Instant::now() + timeout;
        let turn = self.dials.fetch_add(1, Ordering::Relaxed);
        let header = proxy_header(backend.client_address, caller);
        let transparent = caller.filter(|_| backend.client_address == ClientAddress::Transparent);
        let dial = move |address| async move {
            match transparent {
                Some(caller) => source::dial_as(address, caller.client.ip()).await,
                None => source::dial(address, &backend.source, turn).await,
            }
        };
        let mut stream = self.connect_by(name, (deadline, timeout), dial).await?;
        // Ahead of TLS, and of the greeting. It fits into any socket's buffer.
        if let Some(header) = header {
            let written = tokio::time::timeout_at(deadline, stream.write_all(&header)).await;
            written.map_err(|_| too_late(name, timeout))?.map_err(Lost::Broken)?;
        }
        Ok(stream)
    }

    /// Tries a name's addresses in turn, within one deadline for all of them and for finding them. `timeout`: how long that is,
    /// for who is told that it is over.
    pub(super) async fn connect_by<F: Future<Output = io::Result<TcpStream>>>(
        &self,
        name: &ServerName,
        (deadline, timeout): (Instant, Duration),
        dial: impl Fn(SocketAddr) -> F,
    ) -> Result<TcpStream, Lost> {
        let addresses = tokio::time::timeout_at(deadline, self.resolver.resolve(name))
            .await
            .map_err(|_| too_late(name, timeout))?
            .map_err(|error| Lost::Unreachable(format!("cannot resolve {}: {error}", name.host)))?;
        connect(&addresses, deadline, dial).await.map_err(|why| match why {
            Unconnected::NoAddress => Lost::Unreachable(format!("{} has no address", name.host)),
            Unconnected::Timeout => too_late(name, timeout),
            Unconnected::Refused(address, error) => Lost::Unreachable(format!("cannot connect to {address}: {error}")),
        })
    }
}

fn too_late(name: &ServerName, timeout: Duration) -> Lost {
    Lost::Timeout(format!("{name} did not take a connection within {}", humantime::format_duration(timeout)))
}

/// Whether what the server did may have been for that client alone.
pub(super) fn knows_client(backend: &Backend, caller: Option<Caller<'_>>, is_connected: bool) -> bool {
    let is_told = match backend.client_address {
        ClientAddress::ProxyV1 | ClientAddress::ProxyV2 => is_connected,
        ClientAddress::Transparent => true,
        _ => false,
    };
    is_told && caller.is_some()
}

/// The PROXY header that the backend expects, if it does.
fn proxy_header(how: ClientAddress, caller: Option<Caller<'_>>) -> Option<Vec<u8>> {
    let version = match how {
        ClientAddress::ProxyV1 => proxy_header::Version::One,
        ClientAddress::ProxyV2 => proxy_header::Version::Two,
        _ => return None,
    };
    Some(proxy_header::introduce(version, caller.map(|caller| (caller.client, caller.local))))
}

/// What the back half must know of the backend, besides what it must know of the session. What a server says once it knows
/// the client may be for that client alone.
fn introducing(backend: &Backend, wanted: &Wanted<'_>) -> BackSettings {
    let by_command = matches!(backend.client_address, ClientAddress::Xclient | ClientAddress::ImapId);
    let introduction = match wanted.caller {
        _ if !by_command || !backend.client_address.reaches(wanted.protocol) => Introduction::None,
        None => Introduction::Possible,
        Some(caller) => {
            let login = caller.checked.filter(|_| wanted.protocol == Protocol::Smtp).cloned();
            Introduction::Client { address: caller.client, login }
        }
    };
    BackSettings {
        for_client: wanted.settings.for_client || matches!(introduction, Introduction::Client { .. }),
        starttls: backend.tls.as_ref().is_some_and(|tls| tls.starttls),
        introduction,
        ..wanted.settings.clone()
    }
}
