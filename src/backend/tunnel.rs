//! The way to a server whose protocol is not known here: there is nothing to be said to it, and it is well if it takes a
//! connection.

use super::dialogue::Lost;
use super::open::{Caller, knows_client};
use super::{BackendStream, Backends, Server};
use crate::policy::{Backend, Spoken, Timeouts};
use std::sync::Arc;

/// A connection to such a server.
pub struct Tunnel {
    /// Which server it is.
    pub server: Arc<Server>,
    /// The connection. Dropping it closes it, and gives its place on the server back.
    pub stream: BackendStream,
}

impl Backends {
    /// Dials the backend's `tcp` servers in the order of its `balance`, those known to be down last, and takes the first that has
    /// room and can be reached. Where the same user is always to go to the same server, the client's address stands for him.
    ///
    /// # Errors
    /// What the last server did, when none of them would.
    pub async fn open_tunnel(
        &self,
        backend: &Backend,
        timeouts: &Timeouts,
        caller: Caller<'_>,
    ) -> Result<Tunnel, Lost> {
        let mut last = Lost::Unreachable(format!("the backend `{}` has no tcp server", backend.name));
        for server in self.in_order(backend, Spoken::Tcp, Some(caller)) {
            let Some(place) = self.choose(backend, &server, &mut last) else { continue };
            match self.open_tunnel_to(backend, &server, timeouts, Some(caller)).await {
                Ok(mut stream) => {
                    stream.take_place(place);
                    return Ok(Tunnel { server, stream });
                }
                Err(lost) => last = lost,
            }
        }
        Err(last)
    }

    /// Connects to one server, and remembers how it went. No `caller`: to see whether it is well.
    ///
    /// # Errors
    /// [`Lost`]: it cannot be reached, or not by TLS where it is to be.
    pub async fn open_tunnel_to(
        &self,
        backend: &Backend,
        server: &Server,
        timeouts: &Timeouts,
        caller: Option<Caller<'_>>,
    ) -> Result<BackendStream, Lost> {
        let mut is_connected = false;
        let reached = self.reach(backend, server, timeouts, caller, &mut is_connected).await;
        match &reached {
            Ok(_) => self.heard_well(server, None),
            // What was done to that client alone says nothing of the server.
            Err(_) if knows_client(backend, caller, is_connected) => {}
            Err(lost) => self.heard_ill(server, lost),
        }
        reached
    }
}
