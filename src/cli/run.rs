//! `gatepost run`: from the command line to the end of the process.

use super::source::{SourceArguments, print_findings};
use super::{FAILED, FINE, REFUSED};
use crate::admin;
use crate::observe::Observe;
use crate::policy::Policy;
use crate::server::privileges::{self, Identity};
use crate::server::{self, Bound, Keeper, Server};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs the gateway until it is told to end.
pub(super) fn run(arguments: SourceArguments) -> u8 {
    let (policy, warnings) = match arguments.load() {
        Ok(loaded) => loaded,
        Err(findings) => {
            print_findings(&findings);
            return REFUSED;
        }
    };
    print_findings(&warnings);
    let identity = match privileges::identity(&policy.runtime) {
        Ok(identity) => identity,
        Err(error) => {
            eprintln!("{error}");
            return REFUSED;
        }
    };
    let descriptors = privileges::raise_descriptors();
    let bound = match server::bind::bind(&policy) {
        Ok(bound) => bound,
        Err(errors) => {
            for error in errors {
                eprintln!("{error}");
            }
            return FAILED;
        }
    };
    match begin(policy, bound, identity.as_ref(), descriptors, arguments) {
        Ok(()) => FINE,
        Err(error) => {
            eprintln!("{error:#}");
            FAILED
        }
    }
}

/// From here on as `runtime.user`.
fn begin(
    policy: Policy,
    mut bound: Bound,
    identity: Option<&Identity>,
    descriptors: u64,
    arguments: SourceArguments,
) -> anyhow::Result<()> {
    own_folder(&policy.state_dir, 0o700, identity)
        .map_err(|error| anyhow::anyhow!("state_dir {}: {error}", policy.state_dir.display()))?;
    if let Some(folder) = policy.admin.socket.as_deref().and_then(Path::parent)
        && let Err(error) = own_folder(folder, 0o755, identity)
    {
        eprintln!("admin.socket: the folder {} cannot be made: {error}", folder.display());
    }
    if let Some(identity) = identity {
        identity.assume()?;
    }
    let (observe, guard) = crate::observe::init(&policy.log)?;
    for note in &bound.notes {
        tracing::warn!("{note}");
    }
    let workers = policy.runtime.workers;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if workers > 0 {
        builder.worker_threads(workers);
    }
    let runtime = builder.enable_all().build()?;
    let admin_socket = bound.admin.take();
    let keeper = Keeper::open(&policy, Arc::clone(&observe))?;
    let result = runtime.block_on(serve(policy, bound, admin_socket, keeper, observe, descriptors, arguments));
    // Sessions that would not end do not keep the process; the log is written to its end.
    runtime.shutdown_background();
    drop(guard);
    result
}

async fn serve(
    policy: Policy,
    bound: Bound,
    admin_socket: Option<std::net::TcpListener>,
    keeper: Keeper,
    observe: Arc<Observe>,
    descriptors: u64,
    arguments: SourceArguments,
) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let socket_path = policy.admin.socket.clone();
    let source = Box::new(move || arguments.load());
    let server = Server::start(policy, bound, keeper, observe, source, descriptors).await?;
    let drain = CancellationToken::new();
    if let Some(socket) = admin_socket {
        admin::serve_address(Arc::clone(&server), socket, drain.clone())?;
    }
    if let Some(path) = &socket_path
        && let Err(error) = admin::serve_socket(Arc::clone(&server), path, drain.clone()).await
    {
        tracing::warn!("no admin socket at {}: {error}", path.display());
    }
    notify(&[sd_notify::NotifyState::Ready]);
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                // What came of it is an event.
                let _ = server.reload().await;
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = drain.cancelled() => break,
        }
    }
    notify(&[sd_notify::NotifyState::Stopping]);
    let hurry = CancellationToken::new();
    let second = hurry.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        second.cancel();
    });
    server.drain(&hurry).await;
    if let Some(path) = &socket_path {
        // It is of no use to anybody any more; a new gateway replaces it if it stays.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Tells systemd, where there is one.
fn notify(states: &[sd_notify::NotifyState]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::debug!("systemd was not told: {error}");
    }
}

/// Makes a folder, and gives it to whom we become.
fn own_folder(path: &Path, mode: u32, identity: Option<&Identity>) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    identity.map_or(Ok(()), |identity| identity.own(path))
}
