//! The old mail server: IMAP, POP3 and SMTP in plaintext over one mailbox in memory.
//!
//! It stands for what the gateway is put in front of, so it holds no line about TLS. It knows one
//! user, [`USER`]. What is sent to `example.net` lands in his INBOX; what is sent elsewhere goes nowhere and
//! lies in a folder of its own. It is an old server in this too: it relays for whoever can reach it.
//!
//! Everything is bounded: messages and octets in `store`, lines in `wire`, connections here.

mod imap;
mod login;
mod messages;
mod pop3;
mod smtp;
mod store;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use wire::Wire;

/// The one user's address. He may leave out what begins with `@`.
pub const USER: &str = "joe@example.net";
/// His password.
pub const PASSWORD: &str = "demo";
/// What is delivered here; everything else would leave.
pub const DOMAIN: &str = "example.net";
/// The largest message taken, in octets: 25 MiB.
pub const MAX_MESSAGE: usize = 25 * 1024 * 1024;

/// Connections at a time, over the three protocols.
const CONNECTIONS: usize = 256;
/// RFC 3501 section 5.4 and RFC 1939 section 3 ask for 30 and for 10 minutes at least.
const IDLE: Duration = Duration::from_secs(31 * 60);

/// A running server. Dropping it closes its ports and every connection.
#[derive(Debug)]
pub struct MailServer {
    /// Where IMAP4rev1 is spoken.
    pub imap: SocketAddr,
    /// Where POP3 is spoken.
    pub pop3: SocketAddr,
    /// Where SMTP is spoken.
    pub smtp: SocketAddr,
    _listening: JoinSet<()>,
}

impl MailServer {
    /// Opens three ports of the system's choice on 127.0.0.1 and serves them on the current runtime.
    ///
    /// # Errors
    /// What the system says when it gives no port.
    pub async fn start() -> io::Result<Self> {
        let store = Arc::new(Store::new());
        messages::put_into(&store);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut listening = JoinSet::new();
        let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); 3];
        for (protocol, address) in [Protocol::Imap, Protocol::Pop3, Protocol::Smtp].into_iter().zip(&mut addresses) {
            let listener = TcpListener::bind(*address).await?;
            *address = listener.local_addr()?;
            listening.spawn(listen(listener, protocol, store.clone(), places.clone()));
        }
        let [imap, pop3, smtp] = addresses;
        Ok(Self { imap, pop3, smtp, _listening: listening })
    }
}

#[derive(Debug, Clone, Copy)]
enum Protocol {
    Imap,
    Pop3,
    Smtp,
}

/// Accepts for as long as the server lives; whoever comes when all places are taken waits in the listener's queue.
async fn listen(listener: TcpListener, protocol: Protocol, store: Arc<Store>, places: Arc<Semaphore>) {
    let mut sessions = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let store = store.clone();
                sessions.spawn(async move {
                    // A connection that breaks off is nothing this server has to tell anyone.
                    let _ = serve(stream, protocol, store).await;
                    drop(place);
                });
            }
            // Out of descriptors, or the client gave up already: both pass.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        while sessions.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, protocol: Protocol, store: Arc<Store>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let wire = Wire::new(stream, IDLE);
    match protocol {
        Protocol::Imap => imap::serve(wire, store).await,
        Protocol::Pop3 => pop3::serve(wire, store).await,
        Protocol::Smtp => smtp::serve(wire, store).await,
    }
}
