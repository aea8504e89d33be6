//! Gets certificates from a public CA (`tls.acme`) and renews them, while what there was goes on being served.
//!
//! ```text
//! keep ─ advice ─ a certificate is due ─ attempt ─ account ─ order ─ proofs shown ─ certificate ─ Folder.keep ─ Keeper.poll
//!    │                             └ fails: said, and tried again after Tries.wait
//!    └ answers at tls.acme's address, all the time, or has tls.acme.hook set TXT records
//! ```
//!
//! The socket is bound or the hook's helper started, and the trusted roots are read, before the sandbox closes ([`Means`]);
//! after that there is only the state's folder, and TCP to the directory.

mod advice;
mod answer;
mod client;
mod hook;
mod order;
mod ways;

pub use hook::{Helper, HookCommand, SUBCOMMAND, run_hooks};

use super::Server;
use super::certificates::kinds;
use crate::observe::{Event, Kind};
use crate::policy::{self, AcmeChallenge};
use crate::tls::{self, Folder, Identity, KeyKind, Proofs, Request, Trust};
use advice::Advice;
use client::Http;
use hook::Hook;
use order::Failure;
use rustls::ClientConfig;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_util::task::AbortOnDropHandle;
use ways::Ways;

/// The longest sleep between two looks at the clock: it may be set, and a suspended machine's timers stand still.
const LOOK: Duration = Duration::from_secs(3600);

/// How long one certificate may take, from the account to the file, without the time of hooks.
const WHOLE: Duration = Duration::from_secs(10 * 60);

/// What must be had before the sandbox closes.
#[derive(Debug)]
pub struct Means {
    challenge: AcmeChallenge,
    /// For a challenge that is answered at an address.
    listening: Option<TcpListener>,
    /// For one that is answered in the DNS.
    helper: Option<Helper>,
    /// Or why the CA could not be verified.
    trust: Result<Arc<ClientConfig>, String>,
}

impl Means {
    /// Reads whom to trust at the CA's directory; `listening` is bound to the address of `acme`, if it has one. This blocks on
    /// the disk.
    pub(super) fn of(acme: &policy::Acme, listening: Option<TcpListener>) -> Self {
        let trust = acme.ca.clone().map_or(Trust::System, Trust::File);
        let trust = trust.roots().map_err(|error| match &acme.ca {
            Some(file) => format!("tls.acme.ca: {} {error}", file.display()),
            None => format!("the system's CAs: {error}"),
        });
        let trust = trust.and_then(|roots| tls::client_config(roots, None).map_err(|error| error.to_string()));
        Self { challenge: acme.challenge.clone(), listening, helper: None, trust }
    }

    /// Takes the process that runs the hook, which is started later than sockets are bound: as the user.
    pub fn run_hooks_by(&mut self, helper: Option<Helper>) {
        self.helper = helper;
    }

    /// Begins to show proofs.
    fn show(
        listening: Option<TcpListener>,
        helper: Option<Helper>,
        challenge: &AcmeChallenge,
        lead: Arc<answer::Lead>,
    ) -> Ways {
        let proofs = Arc::new(Proofs::default());
        let begun = match (listening, helper) {
            (Some(listening), _) => answer::start(listening, challenge, &proofs, lead).map(|()| Ways::Here(proofs)),
            (None, Some(helper)) => Hook::of(helper).map(Ways::Dns),
            (None, None) => Ok(Ways::Dns(Hook::gone())),
        };
        begun.unwrap_or_else(|error| {
            tracing::error!("acme: no challenge can be answered: {error}");
            Ways::Dns(Hook::gone())
        })
    }
}

/// Names what a reload cannot change, because it is read or bound before the sandbox closes.
pub(super) fn wants_restart(old: Option<&policy::Acme>, new: Option<&policy::Acme>) -> Option<&'static str> {
    let new = new?;
    let Some(old) = old else { return Some("tls.acme is new") };
    let changed = match (&old.challenge, &new.challenge) {
        (AcmeChallenge::Http01(before), AcmeChallenge::Http01(after))
        | (AcmeChallenge::TlsAlpn01(before), AcmeChallenge::TlsAlpn01(after)) => {
            (before != after).then_some("the address that tls.acme listens on changed")
        }
        (AcmeChallenge::Dns01(before), AcmeChallenge::Dns01(after)) => {
            if (&before.program, &before.arguments) != (&after.program, &after.arguments) {
                Some("tls.acme.hook changed")
            } else {
                (before.timeout != after.timeout).then_some("tls.acme.hook_timeout changed")
            }
        }
        _ => Some("tls.acme.challenge changed"),
    };
    changed.or_else(|| (old.ca != new.ca).then_some("tls.acme.ca changed"))
}

/// Sees a part of ours to its end, and says it aloud if that is a panic: mail goes on without it, and nobody would notice.
pub(super) async fn not_in_silence(work: impl Future<Output = ()> + Send + 'static) {
    let ended = AbortOnDropHandle::new(tokio::spawn(work)).await;
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("acme: a fault of the program: no certificate is renewed until gatepost is restarted");
    }
}

/// Keeps the certificates of the policy in force, for as long as the process lives.
pub(super) async fn keep(server: Arc<Server>, means: Means) {
    let Means { challenge, listening, helper, trust } = means;
    let of = Arc::downgrade(&server);
    let lead = move |host: Option<&str>, target: &str| {
        let policy = of.upgrade()?.policy.load_full();
        policy.page_port().map(|_| policy.lead(host, target))
    };
    let ways = Means::show(listening, helper, &challenge, Arc::new(lead));
    let http = match trust {
        Ok(trust) => Http::new(trust),
        Err(why) => {
            tracing::error!("acme: no certificate can be had: {why}");
            return;
        }
    };
    // What is waited for belongs to one CA's folder; another directory begins anew.
    let mut kept: Option<(Folder, Vec<Lane>)> = None;
    loop {
        let policy = server.policy.load_full();
        let Some(acme) = policy.tls.acme.clone() else {
            server.reloaded.notified().await;
            continue;
        };
        let folder = Folder::of(&policy.state_dir, &acme.directory);
        let mut lanes = match kept.take() {
            Some((of, lanes)) if of == folder => lanes,
            _ => {
                // A process before this one may have died with proofs in the DNS.
                ways.clear(&folder).await;
                Vec::new()
            }
        };
        let wanted = kinds(acme.key);
        for &kind in wanted {
            if !lanes.iter().any(|lane| lane.kind == kind) {
                lanes.push(Lane::begin(kind, &folder).await);
            }
        }
        let round = Round { server: &server, http: &http, ways: &ways, acme: &acme, folder: &folder };
        let (mut wait, mut told) = (LOOK, None);
        for lane in lanes.iter_mut().filter(|lane| wanted.contains(&lane.kind)) {
            lane.heed(told);
            wait = wait.min(round.run(lane).await);
            told = told.max(lane.told.take());
        }
        for lane in &mut lanes {
            lane.heed(told);
        }
        kept = Some((folder, lanes));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = server.reloaded.notified() => {}
        }
    }
}

/// What is known of one kind of certificate. What befalls one kind does not hold up the other, unless the CA wants to be left alone.
struct Lane {
    kind: KeyKind,
    tries: tls::Tries,
    /// What the CA asked for when it refused, until the other kinds have heard it.
    told: Option<Duration>,
    advice: Option<Advice>,
}

impl Lane {
    async fn begin(kind: KeyKind, folder: &Folder) -> Self {
        let tries = on_disk(folder, move |folder| folder.tries(kind)).await.unwrap_or_default();
        Self { kind, tries, told: None, advice: None }
    }

    /// Takes what the CA told another kind.
    fn heed(&mut self, told: Option<Duration>) {
        if let Some(told) = told {
            self.tries.heed(SystemTime::now(), told);
        }
    }
}

/// One look at what is wanted.
struct Round<'a> {
    server: &'a Arc<Server>,
    http: &'a Http,
    ways: &'a Ways,
    acme: &'a policy::Acme,
    folder: &'a Folder,
}

impl Round<'_> {
    /// Gets the certificate if it is due and the CA may be asked now, and says how long there is nothing to do.
    async fn run(&self, lane: &mut Lane) -> Duration {
        let kind = lane.kind;
        let there = self.there(kind).await;
        if let Some(identity) = there.as_deref() {
            self.take_advice(lane, identity).await;
        }
        let window = lane.advice.as_ref().and_then(|advice| advice.window);
        let due = |window| there.as_deref().map_or(SystemTime::UNIX_EPOCH, |there| tls::renewal(there, window));
        let now = SystemTime::now();
        // By the CA's word alone.
        let is_early = due(None) > now;
        let due = due(window.as_ref());
        if let Ok(left) = due.duration_since(now)
            && !left.is_zero()
        {
            let again = lane.advice.as_ref().and_then(|advice| advice.again.duration_since(now).ok());
            return left.min(again.unwrap_or(LOOK)).max(Duration::from_secs(1));
        }
        let words = if there.is_some() { "is due for renewal" } else { "is not there yet" };
        let (names, directory) = (self.acme.names.join(", "), &self.acme.directory);
        let held_up = self.held_up(lane);
        if !held_up.is_zero() {
            let (kind, again) = (shown(kind), in_words(held_up));
            tracing::info!(
                "acme: the {kind} certificate for {names} {words}; the CA was asked for it of late: asked again in {again}"
            );
            return held_up;
        }
        tracing::info!("acme: the {} certificate for {names} {words}: asking {directory}", shown(kind));
        self.http.forget();
        let whole = whole(self.acme);
        let advice = lane.advice.as_ref().filter(|advice| there.is_some() && advice.is_given);
        let replaces = advice.map(|advice| advice.id.as_str());
        let outcome = tokio::time::timeout(whole, self.attempt(kind, replaces)).await;
        self.ways.clear(self.folder).await;
        let outcome = outcome.unwrap_or(Err(Failure::TooLong(whole))).and_then(|issued| {
            // Asked again at once, and again, it would be the CA that suffers.
            if tls::renewal(&issued, None) > SystemTime::now() { Ok(()) } else { Err(Failure::DueAlready) }
        });
        match outcome {
            Ok(()) => {
                if is_early {
                    // A CA that wants the next one renewed at once too is asked as one that fails is.
                    self.fail(lane).await;
                } else {
                    lane.tries.succeed();
                }
                // When that one is due is asked at once.
                Duration::ZERO
            }
            Err(failure) => {
                self.fail(lane).await;
                let held_up = self.held_up(lane);
                self.say(kind, &failure, there.as_deref(), held_up);
                held_up
            }
        }
    }

    /// Asks the CA when it wants this certificate renewed, unless it has said so and that holds.
    async fn take_advice(&self, lane: &mut Lane, identity: &Identity) {
        let id = tls::certificate_id(identity);
        let before = Advice::about(id.as_deref(), lane.advice.take());
        let Some(id) = id else { return };
        if before.as_ref().is_some_and(|advice| advice.holds(&id, SystemTime::now())) {
            lane.advice = before;
            return;
        }
        let known = before.as_ref().and_then(|before| before.window);
        let advice = Advice::ask(self.http, &self.acme.directory, id, before).await;
        if let Some(window) = advice.window.filter(|window| known != Some(*window)) {
            let [start, end] = [window.start(), window.end()].map(humantime::format_rfc3339_seconds);
            let why = advice.explanation.as_ref().map(|page| format!(": {page}")).unwrap_or_default();
            let (kind, names) = (shown(lane.kind), self.acme.names.join(", "));
            tracing::info!(
                "acme: the CA wants the {kind} certificate for {names} renewed between {start} and {end}{why}"
            );
        }
        lane.advice = Some(advice);
    }

    fn held_up(&self, lane: &Lane) -> Duration {
        lane.tries.wait(SystemTime::now(), kinds(self.acme.key).len())
    }

    async fn fail(&self, lane: &mut Lane) {
        lane.told = self.http.told_to_wait();
        lane.tries.fail(SystemTime::now(), lane.told, rand::random());
        let (kind, known) = (lane.kind, lane.tries.clone());
        if let Some(Err(error)) = on_disk(self.folder, move |folder| folder.keep_tries(kind, &known)).await {
            tracing::error!("acme: {error}");
        }
    }

    async fn there(&self, kind: KeyKind) -> Option<Arc<Identity>> {
        let names = self.acme.names.clone();
        on_disk(self.folder, move |folder| folder.certificate(kind, &names, SystemTime::now())).await.flatten()
    }

    /// Gets one certificate and puts it in service.
    async fn attempt(&self, kind: KeyKind, replaces: Option<&str>) -> Result<Arc<Identity>, Failure> {
        let (folder, names) = (self.folder.clone(), self.acme.names.clone());
        let request = tokio::task::spawn_blocking(move || {
            folder.prove_writable(kind)?;
            Request::new(kind, &names)
        });
        let request = request.await??;
        let chain = order::certificate(self.http, self.acme, self.folder, (&request, replaces), self.ways).await?;
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

/// How long one certificate may take.
fn whole(acme: &policy::Acme) -> Duration {
    match &acme.challenge {
        AcmeChallenge::Dns01(hook) => {
            WHOLE + hook.timeout * u32::try_from(acme.names.len()).unwrap_or(u32::MAX) + hook.wait
        }
        AcmeChallenge::Http01(_) | AcmeChallenge::TlsAlpn01(_) => WHOLE,
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
    use crate::observe::Observe;
    use crate::policy::{AcmeKey, DnsHook};
    use std::io::Write;
    use std::sync::Mutex;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_fault_that_ends_the_renewals_is_said_and_an_end_as_it_should_be_is_not() {
        let sink = Sink::default();
        let observe = Observe::with_sink(Box::new(sink.clone()));
        let subscriber = tracing_subscriber::registry().with(observe.diagnostics());
        let _here = tracing::subscriber::set_default(subscriber);
        let said = || {
            observe.flush();
            String::from_utf8(sink.0.lock().expect("no panic").clone()).expect("text")
        };
        not_in_silence(async {}).await;
        assert_eq!(said(), "");
        not_in_silence(async { panic!("the test's own") }).await;
        assert!(said().contains("no certificate is renewed until gatepost is restarted"), "{}", said());
    }

    #[test]
    fn what_is_bound_or_read_before_the_sandbox_wants_a_restart_and_nothing_else_does() {
        let old = policy::Acme {
            contact: None,
            names: vec!["mail.example.net".to_owned()],
            directory: "https://acme.example.net/".to_owned(),
            ca: None,
            challenge: AcmeChallenge::Http01("[::]:80".parse().expect("an address")),
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
        let http = old.challenge.address().expect("it listens");
        let hook = DnsHook {
            program: "/bin/hook".into(),
            arguments: vec!["-v".to_owned()],
            timeout: Duration::from_secs(120),
            wait: Duration::from_secs(10),
        };
        let others = [
            policy::Acme { ca: Some("ca.pem".into()), ..old.clone() },
            policy::Acme { challenge: AcmeChallenge::TlsAlpn01(http), ..old.clone() },
            policy::Acme { challenge: AcmeChallenge::Http01("[::]:8080".parse().expect("an address")), ..old.clone() },
            policy::Acme { challenge: AcmeChallenge::Dns01(hook.clone()), ..old.clone() },
        ];
        for new in &others {
            assert!(wants_restart(Some(&old), Some(new)).is_some(), "{new:?}");
        }
        assert!(wants_restart(None, Some(&old)).is_some());
        let with = |hook| Some(policy::Acme { challenge: AcmeChallenge::Dns01(hook), ..old.clone() });
        for (new, expected) in [
            (DnsHook { wait: Duration::from_secs(9), ..hook.clone() }, None),
            (DnsHook { program: "/bin/other".into(), ..hook.clone() }, Some("tls.acme.hook changed")),
            (DnsHook { arguments: Vec::new(), ..hook.clone() }, Some("tls.acme.hook changed")),
            (DnsHook { timeout: Duration::from_secs(9), ..hook.clone() }, Some("tls.acme.hook_timeout changed")),
        ] {
            assert_eq!(wants_restart(with(hook.clone()).as_ref(), with(new.clone()).as_ref()), expected, "{new:?}");
        }
    }
}
