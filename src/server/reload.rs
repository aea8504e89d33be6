//! A new configuration, new certificates, new lists: without touching a session.

use super::acme;
use super::bind::{self, BoundAddress};
use super::{Bound, Server, WATCH};
use crate::config::Finding;
use crate::observe::{Event, Kind};
use crate::policy::Policy;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

impl Server {
    /// Reads the configuration again and puts it in force for the connections from now on. Whatever is wrong
    /// with it leaves the old one running; either way an event says so. One that is under way is waited for; a drain
    /// that begins meanwhile is not held up.
    ///
    /// # Errors
    /// What is wrong, as the operator should read it.
    pub async fn reload(self: &Arc<Self>) -> Result<(), String> {
        let _alone = self.reloading.lock().await;
        let result = self.try_reload().await;
        let mut event = Event::new(if result.is_ok() { Kind::ConfigReloaded } else { Kind::ConfigRefused });
        if let Err(why) = &result {
            event.detail = Some(why.clone());
        }
        self.shared.observe.record(&event);
        result
    }

    async fn try_reload(self: &Arc<Self>) -> Result<(), String> {
        if !self.is_ready() {
            return Err("draining: nothing is reloaded any more".to_owned());
        }
        let this = Arc::clone(self);
        let loaded = tokio::task::spawn_blocking(move || (this.source)()).await.map_err(|error| error.to_string())?;
        let (policy, warnings) = loaded.map_err(|findings| lines(&findings))?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let old = self.policy.load_full();
        if let Some(what) = acme::wants_restart(old.tls.acme.as_ref(), policy.tls.acme.as_ref()) {
            return Err(format!("needs a restart: {what}"));
        }
        // What can fail comes first: until all of it has gone well nothing is changed.
        let bound = self.bind_new(&policy).await?;
        self.shared.observe.reopen();
        let this = Arc::clone(self);
        let (before, new) = (Arc::clone(&old), policy.clone());
        let tls = tokio::task::spawn_blocking(move || this.keeper.blocking_lock().reload(&before, &new, &warnings))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        self.shared.gate.reload(&policy);
        self.shared.backends.reload(&policy);
        self.keep_what_the_page_tells(&policy);
        self.shared.tls.store(Arc::new(tls));
        for what in wants_restart(&old, &policy) {
            tracing::warn!("{what} changed: that takes a restart");
        }
        let policy = Arc::new(policy);
        self.policy.store(Arc::clone(&policy));
        self.shared.observe.set_level(policy.log.level);
        self.reloaded.notify_one();
        self.set_limit();
        self.swap_doors(&policy).await;
        self.open(bound).await.map_err(|error| error.to_string())?;
        let mut health = self.health.lock().await;
        // A drain has stopped them for good; it says so before it does.
        if self.is_ready() {
            std::mem::replace(&mut *health, CancellationToken::new()).cancel();
            self.shared.backends.watch(&policy, &health);
            self.shared.backends.watch_relaying(&policy, &health);
        }
        Ok(())
    }

    /// Binds the addresses that are new; all of them or none.
    async fn bind_new(&self, policy: &Policy) -> Result<Bound, String> {
        let known: Vec<SocketAddr> = self.doors.lock().await.iter().map(|door| door.configured).collect();
        let (mut bound, mut errors) = (Bound::default(), Vec::new());
        for door in policy.doors() {
            for &configured in door.addresses().iter().filter(|address| !known.contains(address)) {
                match bind::listen_for(configured, self.workers.len()) {
                    Ok((sockets, note)) => {
                        bound.notes.extend(note);
                        bound.addresses.push(BoundAddress { door: door.clone(), configured, sockets });
                    }
                    Err(error) => errors.push(format!("needs a restart: cannot listen on {configured}: {error}")),
                }
            }
        }
        if errors.is_empty() { Ok(bound) } else { Err(errors.join("\n")) }
    }

    /// Gives the doors that stay their new listener, and closes those the policy has no more.
    async fn swap_doors(&self, policy: &Policy) {
        let mut doors = self.doors.lock().await;
        for door in std::mem::take(&mut *doors) {
            match policy.doors().find(|new| new.addresses().contains(&door.configured)) {
                Some(new) => {
                    self.shared.observe.metrics().listener(new.name());
                    door.purpose.store(Arc::new(new));
                    doors.push(door);
                }
                None => {
                    let address = door.address;
                    door.close().await;
                    tracing::info!("no longer listening on {address}");
                }
            }
        }
    }

    /// Looks at certificates and list files from time to time.
    pub(super) async fn watch_files(self: Arc<Self>) {
        let mut faults = ListFaults::default();
        let mut ticks = tokio::time::interval(WATCH);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let this = Arc::clone(&self);
            let mut told = std::mem::take(&mut faults);
            let looked = tokio::task::spawn_blocking(move || {
                this.keeper.blocking_lock().poll();
                this.reread_lists(&mut told);
                told
            });
            match looked.await {
                Ok(told) => faults = told,
                Err(error) => tracing::error!("looking at certificates and lists failed: {error}"),
            }
        }
    }

    /// Reads lists and maps again that changed. A fault is told once, not at every look.
    fn reread_lists(&self, told: &mut ListFaults) {
        for (owner, path, outcome) in self.policy.load().reread() {
            let place = path.display().to_string();
            let key = (owner.clone(), path);
            match outcome {
                Ok(changed) => {
                    if told.remove(&key).is_some() || changed {
                        tracing::info!("{owner}: {place} is read again");
                    }
                }
                Err(fault) => {
                    if told.get(&key) != Some(&fault) {
                        tracing::error!("{owner}: {place}: the last good list stays: {fault}");
                        told.insert(key, fault);
                    }
                }
            }
        }
    }
}

/// What was last said of a list file or map that has gone wrong, by whose it is.
type ListFaults = BTreeMap<(String, PathBuf), String>;

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What cannot change while the process runs.
fn wants_restart(old: &Policy, new: &Policy) -> Vec<&'static str> {
    let changed = [
        (old.admin != new.admin, "admin"),
        (old.runtime.user != new.runtime.user || old.runtime.group != new.runtime.group, "runtime.user"),
        (old.runtime.workers != new.runtime.workers, "runtime.workers"),
        (old.runtime.sandbox != new.runtime.sandbox, "runtime.sandbox"),
        (old.log.format != new.log.format, "log.format"),
        (old.log.auth_log != new.log.auth_log, "log.auth_log"),
    ];
    changed.into_iter().filter_map(|(changed, what)| changed.then_some(what)).collect()
}
