//! A connection to one of a name's addresses.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use tokio::time::{Instant, timeout};

/// Why none of the addresses was reached.
#[derive(Debug)]
pub(crate) enum Unconnected {
    /// There is none.
    NoAddress,
    /// The last one did not answer while there was time.
    Timeout,
    /// What the last one did.
    Refused(SocketAddr, io::Error),
}

/// Tries addresses in turn until `deadline`. Each has its share of the time that is left, so that one whose packets
/// vanish does not take the time of the others.
pub(crate) async fn connect<T, F: Future<Output = io::Result<T>>>(
    addresses: &[SocketAddr],
    deadline: Instant,
    dial: impl Fn(SocketAddr) -> F,
) -> Result<T, Unconnected> {
    let mut last = Unconnected::NoAddress;
    for (still, &address) in (1..=addresses.len()).rev().zip(addresses) {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(still).unwrap_or(u32::MAX);
        last = match timeout(share, dial(address)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => Unconnected::Refused(address, error),
            Err(_) => Unconnected::Timeout,
        };
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const TIME: Duration = Duration::from_secs(6);

    /// Where the connection went and after how many seconds, of addresses that are silent (`s`), refuse (`r`) or take
    /// it (`t`).
    async fn outcome(addresses: &str) -> (Result<usize, Unconnected>, u64) {
        let began = Instant::now();
        let list: Vec<SocketAddr> =
            (0..).take(addresses.len()).map(|port: u16| ([192, 0, 2, 1], port).into()).collect();
        let connected =
            connect(&list, began + TIME, async |address| match &addresses[usize::from(address.port())..][..1] {
                "s" => std::future::pending().await,
                "r" => Err(io::ErrorKind::ConnectionRefused.into()),
                _ => Ok(usize::from(address.port())),
            });
        (connected.await, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_silent_leaves_the_others_their_time() {
        for (addresses, taken, seconds) in
            [("t", 0, 0), ("rt", 1, 0), ("st", 1, 3), ("sst", 2, 4), ("rst", 2, 3), ("srt", 2, 2), ("ssssst", 5, 5)]
        {
            let (connected, took) = outcome(addresses).await;
            assert!(matches!(connected, Ok(at) if at == taken), "{addresses}: {connected:?}");
            assert_eq!(took, seconds, "{addresses}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_of_them_together_keep_the_deadline() {
        assert!(matches!(outcome("sss").await, (Err(Unconnected::Timeout), 6)));
        assert!(matches!(outcome("rs").await, (Err(Unconnected::Timeout), 6)));
        let (connected, took) = outcome("ssr").await;
        assert!(matches!(connected, Err(Unconnected::Refused(address, _)) if address.port() == 2), "{connected:?}");
        assert_eq!(took, 4);
        assert!(matches!(outcome("").await, (Err(Unconnected::NoAddress), 0)));
    }
}
