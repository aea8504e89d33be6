//! Gets certificates from a public CA (`tls.acme`) and renews them, while what there was goes on being served.
//!
//! ```text
//! keep ─ a certificate is due ─ attempt ─ account ─ order ─ proofs shown ─ certificate ─ Folder.keep ─ Keeper.poll
//!    │                             └ fails: said, and tried again after Tries.wait
//!    └ answers at tls.acme's address, all the time
//! ```
//!
//! The socket is bound and the trusted roots are read before the sandbox closes ([`Means`]); after that there is only the
//! state's folder, and TCP to the directory.

mod answer;
mod client;
mod order;

use super::Server;
use super::certificates::kinds;
use crate::observe::{Event, Kind};
use crate::policy::{self, AcmeChallenge};
use crate::tls::{self, Folder, Identity, KeyKind, Proofs, Request, Trust};
use client::Http;
use order::Failure;
use rustls::ClientConfig;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The longest sleep between two looks at the clock: it may be set, and a suspended machine's timers stand still.
const LOOK: Duration = Duration::from_secs(3600);

/// How long one certificate may take, from the account to the file.
const WHOLE: Duration = Duration::from_secs(10 * 60);

/// What must be had before the sandbox closes.
#[derive(Debug)]
pub struct Means {
    challenge: AcmeChallenge,
    listening: TcpListener,
    /// Or why the CA could not be verified.
    trust: Result<Arc<ClientConfig>, String>,
}

impl Means {
    /// Reads whom to trust at the CA's directory; `listening` is bound to the address of `acme`. This blocks on the disk.
    pub(super) fn of(acme: &policy::Acme, listening: TcpListener) -> Self {
        let trust = acme.ca.clone().map_or(Trust::System, Trust::File);
        let trust = trust.roots().map_err(|error| match &acme.ca {
            Some(file) => format!("tls.acme.ca: {} {error}", file.display()),
            None => format!("the system's CAs: {error}"),
        });
        let trust = trust.and_then(|roots| tls::client_config(roots, None).map_err(|error| error.to_string()));
        Self { challenge: acme.challenge, listening, trust }
    }
}

/// Names what a reload cannot change, because it is read or bound before the sandbox closes.
pub(super) fn wants_restart(old: Option<&policy::Acme>, new: Option<&policy::Acme>) -> Option<&'static str> {
    let new = new?;
    let Some(old) = old else { return Some("tls.acme is new") };
    if old.challenge != new.challenge {
        Some("tls.acme.challenge changed")
    } else if old.address != new.address {
        Some("the address that tls.acme listens on changed")
    } else if old.ca != new.ca {
        Some("tls.acme.ca changed")
    } else {
        None
    }
}

/// Keeps the certificates of the policy in force, for as long as the process lives.
pub(super) async fn keep(server: Arc<Server>, means: Means) {
    let Means { challenge, listening, trust } = means;
    let proofs = Arc::new(Proofs::default());
    let of = Arc::downgrade(&server);
    let lead = move |host: Option<&str>, target: &str| {
        let policy = of.upgrade()?.policy.load_full();
        policy.page_port().map(|_| policy.lead(host, target))
    };
    match answer::start(listening, challenge, &proofs, Arc::new(lead)) {
        Ok(()) => {}
        Err(error) => tracing::error!("acme: no challenge can be answered: {error}"),
    }
    let http = match trust {
        Ok(trust) => Http::new(trust),
        Err(why) => {
            tracing::error!("acme: no certificate can be had: {why}");
            return;
        }
    };
    // What is waited for belongs to one CA's folder; another directory begins anew.
    let mut kept: Option<(Folder, tls::Tries)> = None;
    loop {
        let policy = server.policy.load_full();
        let Some(acme) = policy.tls.acme.clone() else {
            server.reloaded.notified().await;
            continue;
        };
        let folder = Folder::of(&policy.state_dir, &acme.directory);
        let mut tries = match kept.take() {
            Some((of, tries)) if of == folder => tries,
            _ => on_disk(&folder, Folder::tries).await.unwrap_or_default(),
        };
        let round = Round { server: &server, http: &http, proofs: &proofs, acme: &acme, folder: &folder };
        let wait = round.run(&mut tries).await;
        kept = Some((folder, tries));
        tokio::select! {
            () = tokio::time::sleep(wait.min(LOOK)) => {}
            () = server.reloaded.notified() => {}
        }
    }
}

/// One look at everything that is wanted.
struct Round<'a> {
    server: &'a Arc<Server>,
    http: &'a Http,
    proofs: &'a Proofs,
    acme: &'a policy::Acme,
    folder: &'a Folder,
}

impl Round<'_> {
    /// Gets what is due, as far as the CA may be asked now, and says how long there is nothing to do.
    async fn run(&self, tries: &mut tls::Tries) -> Duration {
        let mut wait = LOOK;
        for &kind in kinds(self.acme.key) {
            let there = self.there(kind).await;
            let due = there.as_deref().map_or(SystemTime::UNIX_EPOCH, tls::renewal);
            let now = SystemTime::now();
            if let Ok(left) = due.duration_since(now)
                && !left.is_zero()
            {
                wait = wait.min(left.max(Duration::from_secs(1)));
                continue;
            }
            let words = if there.is_some() { "is due for renewal" } else { "is not there yet" };
            let (names, directory) = (self.acme.names.join(", "), &self.acme.directory);
            let held_up = tries.wait(now);
            if !held_up.is_zero() {
                let again = in_words(held_up);
                let kind = shown(kind);
                tracing::info!(
                    "acme: the {kind} certificate for {names} {words}; it failed of late: asked again in {again}"
                );
                wait = wait.min(held_up);
                continue;
            }
            tracing::info!("acme: the {} certificate for {names} {words}: asking {directory}", shown(kind));
            self.http.forget();
            let outcome = tokio::time::timeout(WHOLE, self.attempt(kind)).await;
            self.proofs.clear();
            let outcome = outcome.unwrap_or(Err(Failure::TooLong)).and_then(|issued| {
                // Asked again at once, and again, it would be the CA that suffers.
                if tls::renewal(&issued) > SystemTime::now() { Ok(()) } else { Err(Failure::DueAlready) }
            });
            match outcome {
                Ok(()) => {
                    tries.succeed();
                    // When that one is due is asked at once.
                    wait = Duration::ZERO;
                }
                Err(failure) => {
                    self.fail(tries).await;
                    let held_up = tries.wait(SystemTime::now());
                    wait = wait.min(held_up);
                    self.say(kind, &failure, there.as_deref(), held_up);
                }
            }
        }
        wait
    }

    async fn fail(&self, tries: &mut tls::Tries) {
        tries.fail(SystemTime::now(), self.http.told_to_wait(), rand::random());
        let known = tries.clone();
        if let Some(Err(error)) = on_disk(self.folder, move |folder| folder.keep_tries(&known)).await {
            tracing::error!("acme: {error}");
        }
    }

    async fn there(&self, kind: KeyKind) -> Option<Arc<Identity>> {
        let names = self.acme.names.clone();
        on_disk(self.folder, move |folder| folder.certificate(kind, &names, SystemTime::now())).await.flatten()
    }

    /// Gets one certificate and puts it in service.
    async fn attempt(&self, kind: KeyKind) -> Result<Arc<Identity>, Failure> {
        let (folder, names) = (self.folder.clone(), self.acme.names.clone());
        let request = tokio::task::spawn_blocking(move || {
            folder.prove_writable(kind)?;
            Request::new(kind, &names)
        });
        let request = request.await??;
        let chain = order::certificate(self.http, self.acme, self.folder, &request, self.proofs).await?;
        let (folder, names) = (self.folder.clone(), self.acme.names.clone());
        let server = Arc::clone(self.server);
        // The names may have changed since; then the keeper has another file before it, or this one is due again.
        tokio::task::spawn_blocking(move || {
            let issued = folder.keep(&request, &chain, &names, SystemTime::now())?;
            server.keeper.blocking_lock().poll();
            Ok(issued)
        })
        .await?
    }

    fn say(&self, kind: KeyKind, failure: &Failure, there: Option<&Identity>, wait: Duration) {
        let names = self.acme.names.join(", ");
        let until = there.map(|identity| humantime::format_rfc3339_seconds(identity.not_after()));
        let meanwhile = match &until {
            Some(until) => format!("the one that is valid until {until} is served on"),
            None => "what there was is served on, or the private CA's".to_owned(),
        };
        let wait = in_words(wait);
        tracing::error!(
            "acme: no {} certificate for {names}: {failure}; {meanwhile}; tried again in {wait}",
            shown(kind)
        );
        if let (Some(identity), Some(until)) = (there, until)
            && identity.expires_soon(SystemTime::now())
        {
            let mut event = Event::new(Kind::CertificateExpiring);
            event.detail = Some(format!("{names}: until {until}; {failure}"));
            self.server.observe().record(&event);
        }
    }
}

/// Does something with the folder where it may block; `None` if that panicked, which the log has by then.
async fn on_disk<T: Send + 'static>(folder: &Folder, work: impl FnOnce(&Folder) -> T + Send + 'static) -> Option<T> {
    let folder = folder.clone();
    tokio::task::spawn_blocking(move || work(&folder)).await.ok()
}

/// In whole seconds, at least one.
fn in_words(wait: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(wait.as_secs().max(1)))
}

fn shown(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Rsa => "RSA",
        KeyKind::Ecdsa | KeyKind::Ed25519 => "ECDSA",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::AcmeKey;

    #[test]
    fn what_is_bound_or_read_before_the_sandbox_wants_a_restart_and_nothing_else_does() {
        let old = policy::Acme {
            contact: None,
            names: vec!["mail.example.net".to_owned()],
            directory: "https://acme.example.net/".to_owned(),
            ca: None,
            challenge: AcmeChallenge::Http01,
            address: "[::]:80".parse().expect("an address"),
            key: AcmeKey::Ecdsa,
        };
        let others = [
            policy::Acme { contact: Some("mailto:x@example.net".to_owned()), ..old.clone() },
            policy::Acme { names: vec!["imap.example.net".to_owned()], ..old.clone() },
            policy::Acme { directory: "https://staging.example.net/".to_owned(), ..old.clone() },
            policy::Acme { key: AcmeKey::Both, ..old.clone() },
        ];
        for new in &others {
            assert_eq!(wants_restart(Some(&old), Some(new)), None, "{new:?}");
        }
        assert_eq!(wants_restart(Some(&old), None), None);
        assert_eq!(wants_restart(None, None), None);
        let others = [
            policy::Acme { ca: Some("ca.pem".into()), ..old.clone() },
            policy::Acme { challenge: AcmeChallenge::TlsAlpn01, ..old.clone() },
            policy::Acme { address: "[::]:8080".parse().expect("an address"), ..old.clone() },
        ];
        for new in &others {
            assert!(wants_restart(Some(&old), Some(new)).is_some(), "{new:?}");
        }
        assert!(wants_restart(None, Some(&old)).is_some());
    }
}
