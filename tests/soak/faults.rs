//! What happens to the servers and to the gateway while the clients work.

use crate::clients::Field;
use crate::gateway::{Gateway, Variant};
use crate::site::Site;
use crate::weather::Server;
use crate::wire::{Story, Way, Wire};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// One kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Fault {
    RestartDovecot,
    RestartPostfix,
    KillDovecot,
    KillDovecotLogins,
    KillPostfix,
    FreezeDovecot,
    FreezePostfix,
    DovecotDown,
    PostfixDown,
    Reload,
    ReloadWithChange,
    ReloadRefused,
    RenewCertificate,
}

const ALL: [Fault; 13] = [
    Fault::RestartDovecot,
    Fault::Reload,
    Fault::RestartPostfix,
    Fault::RenewCertificate,
    Fault::KillDovecot,
    Fault::KillDovecotLogins,
    Fault::ReloadWithChange,
    Fault::KillPostfix,
    Fault::FreezeDovecot,
    Fault::ReloadRefused,
    Fault::FreezePostfix,
    Fault::DovecotDown,
    Fault::PostfixDown,
];

/// How long the gateway may take over a reload or a new certificate.
const LIMIT: Duration = Duration::from_secs(60);

/// Brings faults about until it is told to stop; the servers are up again then.
pub struct Injector {
    pub site: Arc<Site>,
    pub gateway: Arc<Gateway>,
    pub field: Arc<Field>,
    pub every: Duration,
    pub outage: Duration,
    pub done: Arc<Done>,
    /// Where the one who looks at the new certificate connects from.
    pub way: Way,
}

/// What was done, and what the gateway did not do about it.
#[derive(Default)]
pub struct Done {
    pub counts: Mutex<BTreeMap<Fault, u64>>,
    pub wrongs: Mutex<Vec<String>>,
}

impl Done {
    /// How many.
    pub fn sum(&self) -> u64 {
        self.counts.lock().expect("nobody panics with it").values().sum()
    }

    fn wrong(&self, what: String) {
        println!("FAILED {what}");
        self.wrongs.lock().expect("nobody panics with it").push(what);
    }
}

impl Injector {
    pub async fn work(self, stop: CancellationToken) {
        let mut chance = StdRng::seed_from_u64(self.field.seed ^ 0xfa);
        let mut next: Vec<Fault> = Vec::new();
        loop {
            let pause = self.every.mul_f64(chance.random_range(0.66..1.33));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            // Each once, in an order of chance, before any comes again.
            if next.is_empty() {
                next = ALL.to_vec();
                next.shuffle(&mut chance);
            }
            let fault = next.pop().expect("filled above");
            if self.field.verbose {
                println!("    {fault:?}");
            }
            self.bring(fault).await;
            *self.done.counts.lock().expect("nobody panics with it").entry(fault).or_default() += 1;
        }
    }

    async fn bring(&self, fault: Fault) {
        match fault {
            Fault::RestartDovecot => self.gone(Server::Dovecot, Duration::ZERO).await,
            Fault::RestartPostfix => self.gone(Server::Postfix, Duration::ZERO).await,
            Fault::DovecotDown => self.gone(Server::Dovecot, self.outage.mul_f64(1.5)).await,
            Fault::PostfixDown => self.gone(Server::Postfix, self.outage.mul_f64(1.5)).await,
            Fault::KillDovecot => self.killed(Server::Dovecot).await,
            Fault::KillPostfix => self.killed(Server::Postfix).await,
            Fault::FreezeDovecot => self.frozen(Server::Dovecot).await,
            Fault::FreezePostfix => self.frozen(Server::Postfix).await,
            Fault::KillDovecotLogins => {
                self.field.weather.turns(Server::Dovecot);
                self.with_site(Site::kill_logins).await;
                self.field.weather.clears();
            }
            Fault::Reload => {
                self.gateway.rotate_log();
                self.reload(Variant::Usual, "config.reloaded").await;
            }
            Fault::ReloadWithChange => self.reload(Variant::Changed, "config.reloaded").await,
            Fault::ReloadRefused => {
                self.reload(Variant::Broken, "config.refused").await;
                self.gateway.configure(Variant::Usual);
            }
            Fault::RenewCertificate => self.renew().await,
        }
    }

    async fn gone(&self, server: Server, length: Duration) {
        self.field.weather.turns(server);
        self.with_site(move |site| site.stop(server)).await;
        tokio::time::sleep(length).await;
        self.with_site(move |site| site.start_again(server)).await;
        self.field.weather.clears();
    }

    async fn killed(&self, server: Server) {
        self.field.weather.turns(server);
        self.with_site(move |site| {
            site.signal_all(server, Signal::SIGKILL);
            site.stop(server);
            site.start_again(server);
        })
        .await;
        self.field.weather.clears();
    }

    async fn frozen(&self, server: Server) {
        self.field.weather.turns(server);
        self.with_site(move |site| site.signal_all(server, Signal::SIGSTOP)).await;
        tokio::time::sleep(self.outage).await;
        self.with_site(move |site| site.signal_all(server, Signal::SIGCONT)).await;
        self.field.weather.clears();
    }

    /// No weather turns: a reload disturbs nobody.
    async fn reload(&self, variant: Variant, event: &str) {
        self.gateway.configure(variant);
        let before = self.gateway.log.count(event);
        self.gateway.reload();
        let deadline = Instant::now() + LIMIT;
        while self.gateway.log.count(event) == before {
            if Instant::now() > deadline {
                return self.done.wrong(format!("no {event} within {LIMIT:?} of SIGHUP"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The new certificate is shown to who comes, and nobody is disturbed.
    async fn renew(&self) {
        let new = self.gateway.renew_certificate();
        self.gateway.reload();
        let deadline = Instant::now() + LIMIT;
        loop {
            // A connection of TLS that is resumed shows no certificate of its own.
            let way = Way { tls: self.gateway.trusting(), story: Story::default(), ..self.way.clone() };
            match Wire::connect_tls(&way, self.gateway.at(993)).await {
                Ok(wire) if wire.certificate().as_ref() == Some(&new) => return,
                Ok(_) => {}
                Err(trouble) => self.done.wrong(format!("a handshake while a certificate is renewed: {trouble}")),
            }
            if Instant::now() > deadline {
                return self.done.wrong(format!("no new certificate within {LIMIT:?}"));
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn with_site(&self, act: impl FnOnce(&Site) + Send + 'static) {
        let site = Arc::clone(&self.site);
        if tokio::task::spawn_blocking(move || act(&site)).await.is_err() {
            self.done.wrong("a server did not come back".to_owned());
        }
    }
}
