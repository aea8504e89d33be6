//! Asking, quietly, how the servers are: greeting, capabilities, goodbye.

use super::{Backends, Server, Wanted};
use crate::policy::{Backend, Policy, Spoken};
use crate::proto::BackSettings;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How soon a server that is down is asked again.
const WHILE_DOWN: Duration = Duration::from_secs(5);

impl Backends {
    /// Asks every server of the policy, now and from time to time, until `stop`. A server that a session
    /// has just reached is left alone.
    pub fn watch(self: &Arc<Self>, policy: &Arc<Policy>, stop: &CancellationToken) {
        for backend in policy.backends.values() {
            for protocol in backend.servers.keys() {
                for server in self.servers(backend, *protocol) {
                    let (this, policy, backend) = (Arc::clone(self), Arc::clone(policy), Arc::clone(backend));
                    let stop = stop.clone();
                    tokio::spawn(async move {
                        stop.run_until_cancelled(this.watch_server(&policy, &backend, &server)).await;
                    });
                }
            }
        }
    }

    async fn watch_server(&self, policy: &Policy, backend: &Backend, server: &Arc<Server>) {
        loop {
            let rest = match self.since_good(server).filter(|_| server.is_up()) {
                Some(ago) if ago < backend.health_interval => backend.health_interval - ago,
                _ if self.is_well(policy, backend, server).await => backend.health_interval,
                _ => WHILE_DOWN.min(backend.health_interval),
            };
            tokio::time::sleep(rest).await;
        }
    }

    /// Asks a server, and takes leave of it.
    async fn is_well(&self, policy: &Policy, backend: &Backend, server: &Arc<Server>) -> bool {
        let Spoken::Mail(protocol) = server.protocol else {
            return match self.open_tunnel_to(backend, server, &policy.timeouts, None).await {
                Ok(stream) => {
                    stream.close().await;
                    true
                }
                Err(_) => false,
            };
        };
        let settings = BackSettings {
            ehlo: policy.hostname.clone(),
            temporary_replies: Arc::clone(&backend.temporary_replies),
            ..BackSettings::default()
        };
        let wanted = Wanted { protocol, settings: &settings, timeouts: &policy.timeouts, caller: None };
        match self.open_server(backend, server, &wanted).await {
            Ok(dialogue) => {
                dialogue.quit().await;
                true
            }
            Err(_) => false,
        }
    }
}
