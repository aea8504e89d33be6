//! gatepost with many of something: does an idle session, or a login, become dearer?

use crate::load::{Answer, Caller, Handshake};
use crate::options::Compare;
use crate::peers::{Extras, Kind, Peer, Purpose, Running};
use crate::protocols::{Door, open, session};
use crate::site::{Pair, Site};
use crate::statistics::{Summary, short};
use crate::workloads::{Run, WORKERS, hold, many};
use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use std::fmt;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::task::JoinSet;

/// What a gatepost has many of while sessions are measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Load {
    Nothing,
    Idle,
    Allowed,
    Banned,
    Certificates,
}

const LOADS: [Load; 5] = [Load::Nothing, Load::Idle, Load::Allowed, Load::Banned, Load::Certificates];
const IDLE: u32 = 9_500;
const LINE: [u32; 4] = [10, 100, 1_000, IDLE];
const ENTRIES: u32 = 100_000;
const CERTIFICATES: u32 = 1_000;

/// Everything that was found.
#[derive(Default)]
pub struct Outcome {
    idle: Vec<IdlePoint>,
    logins: Vec<Login>,
    errors: Vec<String>,
    /// Of how much of everything only one was there.
    part: u32,
}

struct IdlePoint {
    peer: String,
    sessions: u32,
    pss_kib: f64,
    kernel_kib: Option<f64>,
    /// What waiting costs, for each second.
    cpu_us: f64,
}

struct Login {
    peer: String,
    round: u32,
    load: Load,
    cpu_us: f64,
}

/// Measures all of it with every gatepost that was given, interleaved.
pub async fn run(compare: &Compare, site: &Site, outcome: &mut Outcome) {
    let part = if compare.amounts.idle < 9_000 { 10 } else { 1 };
    outcome.part = part;
    let mut ours: Vec<&Peer> = compare.peers.iter().filter(|peer| peer.kind == Kind::Gatepost).collect();
    for peer in &ours {
        for sessions in LINE {
            let sessions = if sessions == IDLE { IDLE / part } else { sessions };
            match idle(peer, site, sessions).await {
                Ok(point) => {
                    eprintln!("growth {}: {sessions} idle, {} KiB each", peer.name, short(point.pss_kib));
                    outcome.idle.push(point);
                }
                Err(error) => outcome.fails(&peer.name, &format!("{sessions} idle: {error:#}")),
            }
        }
    }
    if ours.is_empty() {
        return;
    }
    let many = match Many::make(site, part) {
        Ok(many) => many,
        Err(error) => return outcome.fails("setup", &format!("{error:#}")),
    };
    for round in 0..compare.runs {
        ours.rotate_left(1);
        for peer in &ours {
            for load in LOADS {
                match login(peer, site, load, &many, compare.amounts.sessions).await {
                    Ok(cpu_us) => {
                        eprintln!(
                            "growth {}/{} {}: {load:?}, CPU {} µs",
                            round + 1,
                            compare.runs,
                            peer.name,
                            short(cpu_us)
                        );
                        outcome.logins.push(Login { peer: peer.name.clone(), round, load, cpu_us });
                    }
                    Err(error) => outcome.fails(&peer.name, &format!("{load:?}: {error:#}")),
                }
            }
        }
    }
}

async fn idle(peer: &Peer, site: &Site, sessions: u32) -> Result<IdlePoint> {
    let running = peer.start(site, Purpose::Sessions, &[Door::Imaps]).await?;
    let cage = &running.cage;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (empty, kernel_empty) = (cage.pss_kib(), cage.kernel_kib());
    let idlers = hold(site, sessions).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (full, kernel_full, cpu) = (cage.pss_kib(), cage.kernel_kib(), cage.cpu()?);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let cpu = cage.cpu()? - cpu;
    idlers.leave().await?;
    let each = |full: u64, empty: u64| kib(full.saturating_sub(empty)) / f64::from(sessions);
    Ok(IdlePoint {
        peer: peer.name.clone(),
        sessions,
        pss_kib: each(full, empty),
        kernel_kib: kernel_full.zip(kernel_empty).map(|(full, empty)| each(full, empty)),
        cpu_us: cpu.as_secs_f64() * 1e6 / 5.0,
    })
}

/// What the loads need, made once.
struct Many {
    allow: std::path::PathBuf,
    certificates: Vec<Pair>,
    entries: u32,
    idle: u32,
}

impl Many {
    fn make(site: &Site, part: u32) -> Result<Self> {
        let (entries, count) = (ENTRIES / part, CERTIFICATES / part);
        let allow = site.directory.join("allow");
        // Apart from each other, so that no two can be taken for one.
        let networks = (0..entries).map(|n| format!("{}/25\n", Ipv4Addr::from((20 << 24) + (n << 8))));
        std::fs::write(&allow, networks.collect::<String>() + "127.0.0.0/8\n")?;
        let one = |n| site.certificate(&format!("host{n}"), &host(n));
        let certificates = (0..count).map(one).collect::<Result<_>>()?;
        Ok(Self { allow, certificates, entries, idle: IDLE / part })
    }
}

fn host(number: u32) -> String {
    format!("host{number}.example.net")
}

/// CPU µs for a session of many.
async fn login(peer: &Peer, site: &Site, load: Load, many_of: &Many, count: u32) -> Result<f64> {
    let extras = Extras {
        allow: (load == Load::Allowed).then(|| many_of.allow.clone()),
        certificates: if load == Load::Certificates { many_of.certificates.clone() } else { Vec::new() },
        strict: load == Load::Banned,
    };
    let running = peer.start_with(site, Purpose::Sessions, &[Door::Imaps], &extras).await?;
    let idlers = if load == Load::Idle { Some(hold(site, many_of.idle).await?) } else { None };
    if load == Load::Banned {
        ban(site, many_of.entries).await?;
        // What the guesses themselves have left to do is not the sessions'.
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let names = if load == Load::Certificates { u32::try_from(many_of.certificates.len())? } else { 0 };
    let cpu_us = sessions(&running, site, names, count).await?;
    drop(idlers);
    Ok(cpu_us)
}

/// Sessions by eight clients; each asks for one of so many names, if there are any.
async fn sessions(running: &Running, site: &Site, names: u32, count: u32) -> Result<f64> {
    let mut run = Run::default();
    let callers = (0..WORKERS).map(|_| Caller::new(&site.roots, Handshake::Full)).collect();
    let callers = many(&mut run, callers, Door::Imaps, 8 * WORKERS, false).await;
    let each = count / WORKERS;
    let cpu = running.cage.cpu()?;
    if names == 0 {
        many(&mut run, callers, Door::Imaps, each * WORKERS, true).await;
    } else {
        let mut workers = JoinSet::new();
        for (worker, mut caller) in (0..).zip(callers) {
            workers.spawn(async move {
                for number in 0..each {
                    let number = worker * each + number;
                    // 7919 is prime: neighbours in time are none in any order of names.
                    caller.asks_for(&host(number * 7919 % names))?;
                    session(&mut caller, Door::Imaps, number, true).await?;
                }
                anyhow::Ok(())
            });
        }
        workers.join_all().await.into_iter().collect::<Result<()>>()?;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let cpu = running.cage.cpu()?.saturating_sub(cpu);
    if let Some(error) = run.errors.first() {
        bail!("{error}");
    }
    Ok(cpu.as_secs_f64() * 1e6 / f64::from(each * WORKERS))
}

/// Has so many addresses banned, each by two wrong passwords, and sees that the last of them is.
async fn ban(site: &Site, count: u32) -> Result<()> {
    let mut workers = JoinSet::new();
    for worker in 0..32 {
        let mut caller = Caller::new(&site.roots, Handshake::Resumed);
        workers.spawn(async move {
            for number in (worker..count).step_by(32) {
                caller.comes_from(banned(number));
                let mut talk = open(&mut caller, Door::Imaps).await?;
                // The limit is one: the second is over it.
                let login = format!("a1 LOGIN wrong{number}@example.net wrong\r\n");
                caller.ask(&mut talk, "wrong", &login, Answer::Begins("a1 NO")).await?;
                let login = format!("a2 LOGIN wrong{number}@example.net again\r\n");
                caller.ask(&mut talk, "wrong", &login, Answer::Begins("a2 NO")).await?;
            }
            anyhow::Ok(())
        });
    }
    workers.join_all().await.into_iter().collect::<Result<()>>()?;
    let mut caller = Caller::new(&site.roots, Handshake::Full);
    caller.comes_from(banned(count - 1));
    ensure!(open(&mut caller, Door::Imaps).await.is_err(), "an address with two wrong passwords is not banned");
    Ok(())
}

/// Addresses beside those of the customers.
fn banned(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 64, 0, 1)) + number)
}

impl Outcome {
    fn fails(&mut self, peer: &str, why: &str) {
        eprintln!("growth {peer}: NO FIGURE: {why}");
        self.errors.push(format!("{peer}: {why}"));
    }

    pub fn errors(&self) -> usize {
        self.errors.len()
    }

    pub fn json(&self) -> Value {
        let idle = self.idle.iter().map(|it| {
            json!({ "peer": it.peer, "sessions": it.sessions, "pss_kib": it.pss_kib, "kernel_kib": it.kernel_kib, "cpu_us_per_second": it.cpu_us })
        });
        let logins = self.logins.iter().map(
            |it| json!({ "peer": it.peer, "round": it.round, "with": format!("{:?}", it.load), "cpu_us": it.cpu_us }),
        );
        json!({ "idle": idle.collect::<Vec<_>>(), "logins": logins.collect::<Vec<_>>(), "errors": self.errors })
    }

    /// A login's cost with a load, and its ratio to that without in the same round.
    fn of_load(&self, peer: &str, load: Load) -> Option<(Summary, Summary)> {
        let with = |load| self.logins.iter().filter(move |it| it.peer == peer && it.load == load);
        let ratio = |it: &Login| {
            let without = with(Load::Nothing).find(|other| other.round == it.round)?;
            Some(it.cpu_us / without.cpu_us)
        };
        Some((Summary::of(with(load).map(|it| it.cpu_us))?, Summary::of(with(load).filter_map(ratio))?))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.idle.is_empty() {
            writeln!(
                f,
                "| | idle sessions | Pss KiB each | kernel KiB each | CPU µs a second |\n| --- | ---: | ---: | ---: | ---: |"
            )?;
        }
        for it in &self.idle {
            let kernel = it.kernel_kib.map_or("–".to_owned(), short);
            let (pss, cpu) = (short(it.pss_kib), short(it.cpu_us));
            writeln!(f, "| {} | {} | {pss} | {kernel} | {cpu} |", it.peer, it.sessions)?;
        }
        let mut peers: Vec<&str> = self.logins.iter().map(|it| it.peer.as_str()).collect();
        peers.sort_unstable();
        peers.dedup();
        let mut text = String::new();
        for (peer, load) in peers.iter().flat_map(|peer| LOADS.map(|load| (peer, load))) {
            if let Some((cpu, ratio)) = self.of_load(peer, load) {
                writeln!(text, "| {peer} | {} | {cpu} | {ratio} |", load.words(self.part))?;
            }
        }
        if !text.is_empty() {
            write!(f, "\n| | IMAPS session with | CPU µs | to that without |\n| --- | --- | ---: | ---: |\n{text}")?;
        }
        for error in &self.errors {
            writeln!(f, "- without a figure: {error}")?;
        }
        Ok(())
    }
}

impl Load {
    fn words(self, part: u32) -> String {
        match self {
            Self::Nothing => "nothing besides".to_owned(),
            Self::Idle => format!("{} idle sessions", IDLE / part),
            Self::Allowed => format!("{} allowed networks", ENTRIES / part),
            Self::Banned => format!("{} banned addresses", ENTRIES / part),
            Self::Certificates => format!("{} certificates", CERTIFICATES / part),
        }
    }
}

fn kib(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
