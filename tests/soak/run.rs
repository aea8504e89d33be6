//! A run from start to end.

use crate::clients::{Client, Field};
use crate::faults::{Done, Injector};
use crate::gateway::{Cost, Gateway, metric};
use crate::ledger::Ledger;
use crate::options::Options;
use crate::report::Report;
use crate::samples::Sample;
use crate::site::{self, Site};
use crate::tally::Tally;
use crate::weather::Weather;
use crate::wire::{PATIENCE, Story, Way};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long the gateway may hold on to anything of clients that are gone.
const DRAIN: Duration = Duration::from_secs(30);

/// Runs it, prints the report, and says whether all was well.
pub fn run(options: Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let site = Arc::new(Site::start());
    let gateway = Arc::new(site.gateway(&options.program));
    let report = runtime.block_on(Soak::new(options.clone(), site, gateway).run());
    // Whatever is still waited for is no longer of interest.
    runtime.shutdown_timeout(Duration::from_secs(5));
    println!("{report}");
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&report).expect("plain numbers and text");
        if let Err(error) = std::fs::write(file, text + "\n") {
            eprintln!("{}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    if report.wrongs.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A run, and what is known of it so far.
pub struct Soak {
    pub options: Options,
    site: Arc<Site>,
    pub gateway: Arc<Gateway>,
    pub field: Arc<Field>,
    pub done: Arc<Done>,
    pub samples: Arc<Mutex<Vec<Sample>>>,
    /// What must not be, in words.
    pub wrongs: Arc<Mutex<Vec<String>>>,
}

impl Soak {
    fn new(options: Options, site: Arc<Site>, gateway: Arc<Gateway>) -> Self {
        let field = Field {
            seed: options.seed,
            gateway: gateway.address,
            homes: site.homes.clone(),
            ledger: Ledger::new(),
            weather: Weather::default(),
            tally: Tally::default(),
            log: gateway.log.clone(),
            verbose: options.verbose,
        };
        Self {
            options,
            site,
            gateway,
            field: Arc::new(field),
            done: Arc::default(),
            samples: Arc::default(),
            wrongs: Arc::default(),
        }
    }

    async fn run(self) -> Report {
        let options = &self.options;
        println!("{} clients, seed {}, gateway at {}", options.clients, options.seed, self.gateway.address);
        let (field, gateway, count) = (Arc::clone(&self.field), Arc::clone(&self.gateway), options.clients);
        let made = tokio::task::spawn_blocking(move || -> Vec<Client> {
            (0..count).map(|number| Client::new(number, &field, &gateway.trusting())).collect()
        });
        let clients = made.await.expect("folders can be made");
        let early = CancellationToken::new();
        tokio::spawn(asked_to_end(early.clone()));
        let always = CancellationToken::new();
        tokio::spawn(scrape(Arc::clone(&self.gateway), Arc::clone(&self.wrongs), always.clone()));
        let collector = tokio::spawn(collect(Arc::clone(&self.field), always.clone()));

        println!("warming up");
        let clients = self.for_a_while(clients, Duration::ZERO, &early, Client::introduce).await;
        let clients = self.for_a_while(clients, options.warm_up, &early, Client::live).await;
        self.drained("warming up", None).await;
        let start = self.gateway.cost();

        println!("{}", Sample::HEADER);
        let began = Instant::now();
        let sampler = tokio::spawn(self.sampler(began).work(always.clone()));
        let (injector, no_more_faults) = (self.injector(), CancellationToken::new());
        let faults = tokio::spawn(injector.work(no_more_faults.clone()));
        let clients = self.for_a_while(clients, options.length, &early, Client::live).await;
        let ran = began.elapsed();
        drop(clients);
        no_more_faults.cancel();
        if faults.await.is_err() {
            self.wrong("who brings the faults about broke down".to_owned());
        }
        println!("all clients are gone");
        self.drained("the end", Some(start)).await;
        let end = self.gateway.cost();
        always.cancel();
        // Both end with the token.
        let _ = tokio::join!(sampler, collector);
        let (site, field) = (Arc::clone(&self.site), Arc::clone(&self.field));
        if tokio::task::spawn_blocking(move || site::collect_the_rest(&site, &field)).await.is_err() {
            self.wrong("the mail could not be collected".to_owned());
        }
        let ended = tokio::task::spawn_blocking(move || Report::new(&self, ran, start, end));
        ended.await.expect("numbers")
    }

    /// Lets all clients work for so long, and then finish what they are at.
    async fn for_a_while<F>(
        &self,
        clients: Vec<Client>,
        length: Duration,
        early: &CancellationToken,
        work: impl Fn(Client, CancellationToken) -> F,
    ) -> Vec<Client>
    where
        F: Future<Output = Client> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let mut working = JoinSet::new();
        for client in clients {
            working.spawn(work(client, stop.clone()));
        }
        let mut alive = tokio::time::interval(Duration::from_millis(200));
        let deadline = Instant::now() + length;
        while Instant::now() < deadline && !early.is_cancelled() {
            alive.tick().await;
            if !self.gateway.is_alive() {
                self.wrong(format!("the gateway died; it said\n{}", self.gateway.log.last(20).join("\n")));
                early.cancel();
            }
        }
        stop.cancel();
        let mut left = Vec::new();
        let deadline = tokio::time::Instant::now() + 4 * PATIENCE;
        loop {
            match tokio::time::timeout_at(deadline, working.join_next()).await {
                Ok(None) => return left,
                Ok(Some(Ok(client))) => left.push(client),
                Ok(Some(Err(panic))) => self.wrong(format!("a client of ours broke down: {panic}")),
                Err(_) => {
                    self.wrong(format!("{} clients hang", working.len()));
                    return left;
                }
            }
        }
    }

    /// Waits until nothing is left of the clients at the gateway.
    async fn drained(&self, when: &str, before: Option<Cost>) {
        let deadline = Instant::now() + DRAIN;
        loop {
            let gateway = Arc::clone(&self.gateway);
            let page = tokio::task::spawn_blocking(move || gateway.page("/metrics")).await.ok().flatten();
            let open = page.map(|(_, text)| metric(&text, "gatepost_sessions"));
            let cost = self.gateway.cost();
            let is_back = before.is_none_or(|before| cost.descriptors <= before.descriptors);
            if open == Some(0.0) && is_back {
                return;
            }
            if Instant::now() > deadline {
                if open != Some(0.0) {
                    self.wrong(format!("{when}: {open:?} sessions are left {DRAIN:?} after the last client"));
                }
                if let Some(before) = before.filter(|_| !is_back) {
                    self.wrong(format!(
                        "{when}: {} descriptors, and {} at start",
                        cost.descriptors, before.descriptors
                    ));
                }
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn injector(&self) -> Injector {
        let [.., network, _] = self.gateway.address.octets();
        Injector {
            site: Arc::clone(&self.site),
            gateway: Arc::clone(&self.gateway),
            field: Arc::clone(&self.field),
            every: self.options.faults_every,
            outage: self.options.outage,
            done: Arc::clone(&self.done),
            way: Way {
                source: Ipv4Addr::new(127, 200 + (network & 0x1f), 201, 1),
                tls: self.gateway.trusting(),
                bytewise: false,
                narrow: false,
                story: Story::default(),
            },
        }
    }

    fn sampler(&self, began: Instant) -> Sampler {
        Sampler {
            gateway: Arc::clone(&self.gateway),
            field: Arc::clone(&self.field),
            done: Arc::clone(&self.done),
            samples: Arc::clone(&self.samples),
            every: self.options.sample_every,
            began,
        }
    }

    fn wrong(&self, what: String) {
        println!("FAILED {what}");
        self.wrongs.lock().expect("nobody panics with it").push(what);
    }
}

/// Looks at the gateway from time to time.
struct Sampler {
    gateway: Arc<Gateway>,
    field: Arc<Field>,
    done: Arc<Done>,
    samples: Arc<Mutex<Vec<Sample>>>,
    every: Duration,
    began: Instant,
}

impl Sampler {
    async fn work(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.every);
        tick.tick().await;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            let gateway = Arc::clone(&self.gateway);
            let look = move || (gateway.cost(), gateway.page("/metrics"));
            let Ok((cost, page)) = tokio::task::spawn_blocking(look).await else { return };
            let open = page.map_or(0.0, |(_, text)| metric(&text, "gatepost_sessions"));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
            let sample = Sample {
                seconds: self.began.elapsed().as_secs_f64(),
                cost,
                open: open as u64,
                sessions: self.field.tally.sum().sessions,
                accepted: self.field.ledger.counts().accepted,
                faults: self.done.sum(),
            };
            println!("{sample}");
            self.samples.lock().expect("nobody panics with it").push(sample);
        }
    }
}

/// Reads what a monitoring system reads; it is there in any weather.
async fn scrape(gateway: Arc<Gateway>, wrongs: Arc<Mutex<Vec<String>>>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_secs(3));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        for (path, codes) in
            [("/metrics", &[200][..]), ("/healthz", &[200]), ("/readyz", &[200]), ("/readyz?backends", &[200, 503])]
        {
            let gateway = Arc::clone(&gateway);
            let Ok(page) = tokio::task::spawn_blocking(move || gateway.page(path)).await else { return };
            if !page.as_ref().is_some_and(|(code, _)| codes.contains(code)) {
                let what = format!("{path} gave {:?}", page.map(|(code, _)| code));
                println!("FAILED {what}");
                wrongs.lock().expect("nobody panics with it").push(what);
            }
        }
    }
}

/// Empties the mailboxes of sent mail all the time, so that a run of days fills no disk.
async fn collect(field: Arc<Field>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_secs(2));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        let field = Arc::clone(&field);
        if tokio::task::spawn_blocking(move || site::collect(&field)).await.is_err() {
            return;
        }
    }
}

async fn asked_to_end(early: CancellationToken) {
    let mut terminate = signal(SignalKind::terminate()).expect("a handler");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        () = early.cancelled() => return,
    }
    println!("asked to end");
    early.cancel();
}
