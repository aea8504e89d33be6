//! A gateway between its start and its end: the admin interface, signals, systemd.

use crate::admin;
use crate::config::Finding;
use crate::observe::Observe;
use crate::policy::Policy;
use crate::portal::HelpPage;
use crate::server::{Bound, Keeper, Server, Source, Workers};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a gateway is started with, once its sockets are bound and its privileges dropped.
pub(super) struct Serving {
    pub(super) policy: Policy,
    /// The warnings about it that have been printed.
    pub(super) told: Vec<Finding>,
    pub(super) bound: Bound,
    pub(super) observe: Arc<Observe>,
    /// How many descriptors the process may have.
    pub(super) descriptors: u64,
    /// Where the configuration comes from on SIGHUP.
    pub(super) source: Source,
}

impl Serving {
    /// Serves until SIGTERM, SIGINT or a drain over the admin socket, and then until the sessions have ended. Is an error when
    /// a worker has ended by a fault of ours: a new process serves better than one that limps.
    pub(super) async fn until_told_to_end(self, workers: &Workers, when_ready: impl FnOnce()) -> anyhow::Result<()> {
        let Self { policy, told, mut bound, observe, descriptors, source } = self;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let socket_path = policy.admin.socket.clone();
        let admin_socket = bound.admin.take();
        let (keeper, policy) = tokio::task::spawn_blocking({
            let observe = Arc::clone(&observe);
            move || Keeper::open_after(&policy, observe, &told).map(|keeper| (keeper, policy))
        })
        .await??;
        let server = Server::start(policy, bound, keeper, observe, source, descriptors, workers).await?;
        server.show(Arc::new(HelpPage::default()));
        let drain = CancellationToken::new();
        if let Some(socket) = admin_socket {
            admin::serve_address(Arc::clone(&server), socket, drain.clone())?;
        }
        let mut control = None;
        if let Some(path) = &socket_path {
            match admin::serve_socket(Arc::clone(&server), path, drain.clone()).await {
                Ok(socket) => control = Some(socket),
                Err(error) => tracing::warn!("no admin socket at {}: {}", path.display(), reason(&error)),
            }
        }
        notify(&[sd_notify::NotifyState::Ready]);
        when_ready();
        // Beside the wait for the end, which a slow reload must not hold up. However many signals come during one, they
        // are one more reload behind it.
        let reloads = tokio::spawn({
            let server = Arc::clone(&server);
            async move {
                while hangup.recv().await.is_some() {
                    // What came of it is an event.
                    let _ = server.reload().await;
                }
            }
        });
        let hurry = CancellationToken::new();
        let mut ended = Ok(());
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = drain.cancelled() => {}
            () = workers.failed() => {
                tracing::error!("a worker thread has ended by a fault of the program, and its sessions with it: ending");
                ended = Err(anyhow::anyhow!("a worker thread has ended by a fault of the program"));
                hurry.cancel();
            }
        }
        notify(&[sd_notify::NotifyState::Stopping]);
        let second = hurry.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            second.cancel();
        });
        server.drain(&hurry).await;
        reloads.abort();
        if let Some(socket) = control {
            socket.close().await;
        }
        ended
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            format!("{error}; its folder must be one that the gateway's user can write")
        }
        _ => error.to_string(),
    }
}

/// Tells systemd, where there is one.
fn notify(states: &[sd_notify::NotifyState]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::debug!("systemd was not told: {error}");
    }
}
