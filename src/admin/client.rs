//! The other end of the admin socket, for the commands.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

/// A gateway that does not answer within this is not well.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer taken.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Why the gateway was not reached.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody answers.
    #[error(
        "no gatepost answers on {path}: {error}; is it running, and is admin.socket the same in its configuration?"
    )]
    Unreachable {
        /// The socket.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// It answers too slowly, or not in HTTP.
    #[error("the gateway's answer did not come: {0}")]
    Broken(String),
    /// It says no.
    #[error("{1}")]
    Refused(StatusCode, String),
}

/// Asks the gateway behind the socket.
///
/// # Errors
/// [`AdminError`].
pub async fn call(socket: &Path, method: Method, path: &str) -> Result<String, AdminError> {
    tokio::time::timeout(PATIENCE, ask(socket, method, path))
        .await
        .unwrap_or_else(|_| Err(AdminError::Broken("it took longer than 10 s".to_owned())))
}

async fn ask(socket: &Path, method: Method, path: &str) -> Result<String, AdminError> {
    let broken = |error: hyper::Error| AdminError::Broken(error.to_string());
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| AdminError::Unreachable { path: socket.display().to_string(), error })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "gatepost")
        .body(Empty::<Bytes>::new())
        .map_err(|error| AdminError::Broken(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| AdminError::Broken(error.to_string()))?
        .to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    if status.is_success() { Ok(text) } else { Err(AdminError::Refused(status, text.trim_end().to_owned())) }
}
