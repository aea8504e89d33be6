//! A connection to one of a name's addresses.

use super::Target;
use super::target::{Elsewhere, place};
use super::wire::Fault;
use socket2::{SockRef, TcpKeepalive};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// A server that vanished without a word is noticed within minutes, also in an IDLE that lasts for hours.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new().with_time(Duration::from_secs(120));

/// Connects to the server, or to `instead` of its own address in at most `patience`. Addresses are
/// tried in turn, each with its share of the time that is left.
///
/// # Errors
/// [`Fault::Unreachable`] in words, [`Fault::Timeout`].
pub(in crate::cli) async fn dial(
    target: &Target,
    instead: Option<&Elsewhere>,
    patience: Duration,
) -> Result<TcpStream, Fault> {
    let (host, port) = match instead {
        None => (&target.host, target.port),
        Some(elsewhere) => (&elsewhere.host, elsewhere.port.unwrap_or(target.port)),
    };
    let deadline = Instant::now() + patience;
    let late = || Fault::Timeout("take a connection");
    let addresses: Vec<SocketAddr> = timeout_at(deadline, tokio::net::lookup_host((host.as_str(), port)))
        .await
        .map_err(|_| late())?
        .map_err(|error| Fault::Unreachable(format!("cannot resolve {host}: {error}")))?
        .collect();
    let mut last = Fault::Unreachable(format!("{} has no address", place(host, port)));
    for (still, &address) in (1..=addresses.len()).rev().zip(&addresses) {
        let share = deadline.saturating_duration_since(Instant::now()) / u32::try_from(still).unwrap_or(u32::MAX);
        last = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // A dialogue of small lines must not wait for Nagle; a socket that refuses the options still works.
                let _ = stream.set_nodelay(true);
                let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
                return Ok(stream);
            }
            Ok(Err(error)) => Fault::Unreachable(format!("cannot connect to {address}: {error}")),
            Err(_) => late(),
        };
    }
    Err(last)
}
