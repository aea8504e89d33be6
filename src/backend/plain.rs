//! A server that speaks nothing of mail: a webmail's web server, dialled as any other.

use super::connect::{Unconnected, connect};
use super::{Backends, Lost};
use crate::policy::ServerName;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

impl Backends {
    /// Connects to a server in the clear, trying its name's addresses in turn, all of it within this time. Nothing is
    /// remembered of it.
    ///
    /// # Errors
    /// [`Lost::Unreachable`] and [`Lost::Timeout`].
    pub async fn dial(&self, name: &ServerName, within: Duration) -> Result<TcpStream, Lost> {
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
        // A request is written at once; a socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}
