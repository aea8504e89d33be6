//! A server that speaks nothing of mail: a webmail's web server, dialled as any other, in the clear or under TLS.

use super::connect::{Unconnected, connect};
use super::open::prepare;
use super::{BackendStream, Backends, Lost};
use crate::policy::{BackendTls, ServerName, Timeouts};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

impl Backends {
    /// Connects to a server, trying its name's addresses in turn, and speaks TLS with it where that is wanted. Nothing is remembered
    /// of it.
    ///
    /// # Errors
    /// [`Lost::Unreachable`], [`Lost::Timeout`] and [`Lost::Tls`].
    pub async fn dial(
        &self,
        name: &ServerName,
        tls: Option<&BackendTls>,
        timeouts: &Timeouts,
    ) -> Result<BackendStream, Lost> {
        let within = timeouts.connect;
        let deadline = Instant::now() + within;
        let too_late = || {
            let time = humantime::format_duration(within);
            Lost::Timeout(format!("{name} did not take a connection within {time}"))
        };
        let addresses = timeout_at(deadline, self.resolver.resolve(name))
            .await
            .map_err(|_| too_late())?
            .map_err(|error| Lost::Unreachable(format!("cannot resolve {}: {error}", name.host)))?;
        let stream = connect(&addresses, deadline, TcpStream::connect).await.map_err(|why| match why {
            Unconnected::NoAddress => Lost::Unreachable(format!("{} has no address", name.host)),
            Unconnected::Timeout => too_late(),
            Unconnected::Refused(address, error) => Lost::Unreachable(format!("cannot connect to {address}: {error}")),
        })?;
        prepare(&stream);
        let stream = BackendStream::plain(stream);
        match tls {
            Some(tls) => stream.start_tls(tls, name, timeouts.tls_handshake).await,
            None => Ok(stream),
        }
    }
}
