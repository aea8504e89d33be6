//! Clients that mean no good, many at a time, on a few threads of their own.

use super::client::NAME;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

/// How long a write may wait before the other side is taken to read no more.
const STALLED: Duration = Duration::from_millis(500);

/// The threads such clients live on.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads")
}

/// A client's TLS that trusts this root (PEM).
pub fn trusting(root: &[u8]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root).expect("a certificate in PEM")).expect("a root");
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// A good first flight.
pub fn client_hello() -> Vec<u8> {
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(NAME).expect("a name");
    let mut client = ClientConnection::new(config.into(), name).expect("a client");
    let mut flight = Vec::new();
    client.write_tls(&mut flight).expect("memory");
    flight
}

/// Connects from `source`, any address of 127.0.0.0/8.
pub async fn connect_from(source: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    socket.connect(to).await
}

/// A socket with buffers so small that what is not read stays with the other side, and not in the kernel. The kernel's
/// buffers grow with the size of a segment, which on loopback is 64 KiB. It has an address of its own: the kernel
/// remembers how slow it was there.
pub fn small() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    socket.set_tcp_mss(536)?;
    socket.bind(&SocketAddr::from((SMALL, 0)).into())?;
    Ok(socket)
}

const SMALL: Ipv4Addr = Ipv4Addr::new(127, 199, 0, 1);

/// A connection, in the clear or not.
pub trait Both: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Both for S {}

/// What a client does, one after the other.
#[derive(Clone)]
pub enum Act {
    /// Reads lines up to one that begins so.
    Until(&'static str),
    /// Sends this.
    Say(Arc<[u8]>),
    /// Sends a byte so many times, each by itself: a segment, or a record.
    Drip(usize, u8),
    /// Sends this so many times, as long as it is taken.
    Pour(Arc<[u8]>, usize),
    /// Reads and throws away what comes from here on, while it sends.
    ReadOn,
    /// Reads to the end of the connection.
    Drain,
}

/// A connection on which everything is said, held open.
pub struct Parked(#[expect(dead_code, reason = "held for its drop")] Pin<Box<dyn Both>>);

/// Connects, with TLS or without, hears the greeting where there is one, and does the acts.
pub async fn perform(
    source: Ipv4Addr,
    to: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    greeted: bool,
    acts: &[Act],
) -> io::Result<Parked> {
    perform_on(connect_from(source, to).await?, tls, greeted, acts).await
}

/// The same on a [`small`] socket.
pub async fn perform_on_a_small_one(
    to: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    greeted: bool,
    acts: &[Act],
) -> io::Result<Parked> {
    let socket = small()?;
    socket.set_nonblocking(true)?;
    perform_on(TcpSocket::from_std_stream(socket.into()).connect(to).await?, tls, greeted, acts).await
}

async fn perform_on(
    socket: TcpStream,
    tls: Option<Arc<ClientConfig>>,
    greeted: bool,
    acts: &[Act],
) -> io::Result<Parked> {
    let mut io: Pin<Box<dyn Both>> = match tls {
        None => Box::pin(socket),
        Some(config) => {
            let name = ServerName::try_from(NAME).expect("a name");
            Box::pin(TlsConnector::from(config).connect(name, socket).await?)
        }
    };
    if greeted {
        line(&mut io).await?;
    }
    let mut reads = false;
    for act in acts {
        let done = match act {
            Act::Until(beginning) => {
                while !line(&mut io).await?.starts_with(beginning) {}
                Ok(())
            }
            Act::ReadOn => {
                reads = true;
                Ok(())
            }
            Act::Drain => io.read_to_end(&mut Vec::new()).await.map(drop),
            Act::Drip(times, byte) => drip(&mut io, *times, *byte).await,
            Act::Say(bytes) => pour(&mut io, bytes, 1, reads).await,
            Act::Pour(bytes, times) => pour(&mut io, bytes, *times, reads).await,
        };
        if done.is_err() {
            // It closed, or takes no more.
            break;
        }
    }
    Ok(Parked(io))
}

async fn line(io: &mut Pin<Box<dyn Both>>) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        line.push(io.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

async fn drip(io: &mut Pin<Box<dyn Both>>, times: usize, byte: u8) -> io::Result<()> {
    for _ in 0..times {
        io.write_all(&[byte]).await?;
        io.flush().await?;
    }
    Ok(())
}

async fn pour(io: &mut Pin<Box<dyn Both>>, bytes: &[u8], times: usize, reads: bool) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(io);
    let mut scratch = [0; 4096];
    for _ in 0..times {
        let mut rest = bytes;
        while !rest.is_empty() {
            tokio::select! {
                written = tokio::time::timeout(STALLED, writer.write(rest)) => match written?? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    count => rest = &rest[count..],
                },
                read = reader.read(&mut scratch), if reads => {
                    if read? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }
    tokio::time::timeout(STALLED, writer.flush()).await?
}
