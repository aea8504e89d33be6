//! Metrics, health and control over HTTP: what reads on a TCP address, what changes over a Unix socket.

mod client;
mod connections;

pub use client::{AdminError, call};

use crate::server::Server;
use axum::Router;
use axum::extract::{Path as UrlPath, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post, put};
use nix::sys::stat::{Mode, umask};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long answers that are under way may take when the process ends.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// What the admin interface reaches.
#[derive(Clone)]
struct Reach {
    server: Arc<Server>,
    /// Begins the drain.
    drain: CancellationToken,
}

/// Serves metrics and health on a TCP address, for as long as the process lives.
///
/// # Errors
/// The socket's.
pub fn serve_address(server: Arc<Server>, socket: std::net::TcpListener, drain: CancellationToken) -> io::Result<()> {
    let listener = TcpListener::from_std(socket)?;
    let router = readers().with_state(Reach { server, drain });
    tokio::spawn(connections::serve(listener, router, CancellationToken::new()));
    Ok(())
}

/// A Unix socket that is served.
pub struct Socket {
    path: PathBuf,
    /// Which file it is: another gateway may have put its own under the name.
    file: (u64, u64),
    closing: CancellationToken,
    task: JoinHandle<()>,
}

impl Socket {
    /// Takes no more requests, gives those that are under way a moment to be answered (the one that asked for the end
    /// is among them), and removes the file.
    pub async fn close(self) {
        self.closing.cancel();
        // Who holds a connection open and asks nothing does not hold up the end.
        let _ = tokio::time::timeout(LAST_ANSWERS, self.task).await;
        if identity_of(&self.path).is_ok_and(|file| file == self.file) {
            // If it stays (the folder may be root's) a new gateway replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    let file = std::fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Serves all of it on a Unix socket, which only its owner and group may open.
///
/// # Errors
/// A folder that cannot be written, or another gateway that answers on the socket.
pub async fn serve_socket(server: Arc<Server>, path: &Path, drain: CancellationToken) -> io::Result<Socket> {
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another gatepost answers on it"));
    }
    match std::fs::symlink_metadata(path) {
        // What a killed gateway left behind.
        Ok(file) if file.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = bind(path)?;
    let file = identity_of(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    let router = readers()
        .route("/api/v1/status", get(status))
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/grants/{ip}", put(grant))
        .route("/api/v1/drain", post(start_drain))
        .with_state(Reach { server, drain });
    let closing = CancellationToken::new();
    let task = tokio::spawn(connections::serve(listener, router, closing.clone()));
    Ok(Socket { path: path.to_owned(), file, closing, task })
}

/// Binds the socket with nobody else let in from its first moment on: the mode comes a moment later.
fn bind(path: &Path) -> io::Result<UnixListener> {
    // Of the process; what another thread makes meanwhile is closed to others too.
    let before = umask(Mode::S_IRWXO);
    let bound = UnixListener::bind(path);
    umask(before);
    bound
}

fn readers() -> Router<Reach> {
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(alive)).route("/readyz", get(ready))
}

async fn metrics(State(reach): State<Reach>) -> Response {
    let text = reach.server.observe().metrics().render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn alive() -> &'static str {
    "ok\n"
}

/// `?backends` asks for a server up for every backend, too.
async fn ready(State(reach): State<Reach>, RawQuery(query): RawQuery) -> (StatusCode, &'static str) {
    let asks_for_backends = query.is_some_and(|query| query.split('&').any(|key| key.starts_with("backends")));
    if !reach.server.is_ready() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if asks_for_backends && !reach.server.backends_are_ready() {
        (StatusCode::SERVICE_UNAVAILABLE, "a backend has no server up\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn status(State(reach): State<Reach>) -> Response {
    Json(reach.server.status().await).into_response()
}

async fn reload(State(reach): State<Reach>) -> Response {
    match reach.server.reload().await {
        Ok(()) => (StatusCode::OK, "reloaded\n").into_response(),
        Err(why) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{why}\n")).into_response(),
    }
}

/// Lets an address send without a login, as a login over POP3 or IMAP from there does.
async fn grant(State(reach): State<Reach>, UrlPath(ip): UrlPath<String>) -> Response {
    let Ok(client) = ip.parse() else {
        return (StatusCode::BAD_REQUEST, "that is no address\n").into_response();
    };
    match reach.server.grant(client).await {
        Ok(window) => (StatusCode::OK, format!("granted for {}\n", humantime::format_duration(window))).into_response(),
        Err(why) => (StatusCode::CONFLICT, format!("{why}\n")).into_response(),
    }
}

async fn start_drain(State(reach): State<Reach>) -> &'static str {
    reach.drain.cancel();
    "draining\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_closed_to_others_before_its_mode_is_set() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let _listener = bind(&path).expect("free");
        let mode = std::fs::metadata(&path).expect("bound").permissions().mode();
        assert_eq!(mode & 0o007, 0, "{mode:o}");
    }
}
