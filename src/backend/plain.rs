//! A server that speaks nothing of mail: a webmail's web server, dialled as any other, in the clear or under TLS.

use super::open::prepare;
use super::{BackendStream, Backends, Lost};
use crate::policy::{BackendTls, ServerName, Timeouts};
use tokio::net::TcpStream;
use tokio::time::Instant;

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
        let until = (Instant::now() + timeouts.connect, timeouts.connect);
        let socket = self.connect_by(name, until, TcpStream::connect).await?;
        prepare(&socket);
        let mut stream = BackendStream::plain(socket);
        stream.watch();
        match tls {
            Some(tls) => stream.start_tls(tls, name, timeouts.tls_handshake).await,
            None => Ok(stream),
        }
    }
}
