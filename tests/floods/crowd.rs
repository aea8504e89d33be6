//! Thousands of clients at once, each from an address of its own.

use super::hostile::connect_from;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// So many handshakes of TCP are under way at a time: more would only fill the kernel's queue.
const CONNECTING: usize = 256;

/// How long a restless client rests.
const PAUSE: Duration = Duration::from_millis(20);

/// An address of 127.0.0.0/8 for each number; none is another test's, or the one everybody else has.
pub fn source(number: usize) -> Ipv4Addr {
    let [_, high, middle, low] = u32::try_from(number).expect("not that many").to_be_bytes();
    Ipv4Addr::new(127, 200 + high, middle, low.max(1))
}

/// Raises this process' own limit of descriptors, and gives it.
pub fn descriptors() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard one it may be raised");
    usize::try_from(hard).unwrap_or(usize::MAX)
}

/// Clients that are there until this is dropped.
pub struct Crowd {
    clients: JoinSet<()>,
    connected: Arc<AtomicUsize>,
}

impl Crowd {
    /// Begins to connect `count` clients, to one address after the other, that say a byte of these words now and then.
    pub fn of_slow_ones(
        runtime: &tokio::runtime::Runtime,
        count: usize,
        doors: &[(SocketAddr, Arc<[u8]>)],
        pause: Duration,
    ) -> Self {
        let (connecting, connected) = (Arc::new(Semaphore::new(CONNECTING)), Arc::<AtomicUsize>::default());
        let mut clients = JoinSet::new();
        for number in 0..count {
            let (to, words) = doors[number % doors.len()].clone();
            let (connecting, connected) = (Arc::clone(&connecting), Arc::clone(&connected));
            let client = async move {
                let turn = connecting.acquire_owned().await.expect("never closed");
                let Ok(mut stream) = connect_from(source(number), to).await else { return };
                drop(turn);
                connected.fetch_add(1, Ordering::SeqCst);
                for byte in words.iter() {
                    if stream.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                }
                std::future::pending::<()>().await;
            };
            clients.spawn_on(client, runtime.handle());
        }
        Self { clients, connected }
    }

    /// Begins with `count` clients that do the same over and over again, each time from another address.
    pub fn of_restless_ones<F>(
        runtime: &tokio::runtime::Runtime,
        count: usize,
        to: SocketAddr,
        what: impl Fn(TcpStream) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let connected = Arc::<AtomicUsize>::default();
        let mut clients = JoinSet::new();
        for _ in 0..count {
            let (connected, what) = (Arc::clone(&connected), what.clone());
            let client = async move {
                loop {
                    let number = connected.fetch_add(1, Ordering::SeqCst);
                    if let Ok(stream) = connect_from(source(number % 60_000), to).await {
                        what(stream).await;
                    }
                    // Faster, and this machine would be busy with the clients alone.
                    tokio::time::sleep(PAUSE).await;
                }
            };
            clients.spawn_on(client, runtime.handle());
        }
        Self { clients, connected }
    }

    /// How many connections there were so far.
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::SeqCst)
    }

    /// They go, all at once.
    pub fn leave(mut self, runtime: &tokio::runtime::Runtime) {
        runtime.block_on(self.clients.shutdown());
    }
}
