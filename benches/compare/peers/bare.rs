//! No gateway at all: TLS here, plaintext there, octets between, in the fewest lines of tokio and rustls. It looks at nothing, limits
//! nothing and logs nothing. What gatepost costs beyond it is the mail; what it costs itself cannot be had for less on these crates.

use crate::backend::at;
use crate::options::{BARE, BareOptions};
use crate::protocols::Door;
use crate::site::{Site, gateway};
use anyhow::Result;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What is read at once, each way.
const BUFFER: usize = 64 * 1024;

pub(super) fn arguments(site: &Site, door: Door) -> Vec<String> {
    let pair = site.pair();
    let values = [
        ("--address", gateway(door.port()).to_string()),
        ("--behind", at(door.behind()).to_string()),
        ("--chain", pair.chain.display().to_string()),
        ("--key", pair.key.display().to_string()),
    ];
    let options = values.into_iter().flat_map(|(option, value)| [option.to_owned(), value]);
    std::iter::once(BARE.to_owned()).chain(options).collect()
}

/// The process itself.
pub fn run(options: &BareOptions) -> Result<()> {
    let chain = CertificateDer::pem_file_iter(&options.chain)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&options.key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(options.address).await?;
        loop {
            let (client, _) = listener.accept().await?;
            let (acceptor, behind) = (acceptor.clone(), options.behind);
            tokio::spawn(async move {
                // Who fails is missed by the client, whose answers are checked.
                let _ = pass(client, behind, acceptor).await;
            });
        }
    })
}

async fn pass(client: TcpStream, behind: SocketAddr, acceptor: TlsAcceptor) -> Result<()> {
    client.set_nodelay(true)?;
    let mut client = acceptor.accept(client).await?;
    let mut backend = TcpStream::connect(behind).await?;
    backend.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut client, &mut backend, BUFFER, BUFFER).await?;
    client.shutdown().await?;
    Ok(())
}
