//! What is measured, and one run of it with one peer.

mod bulk;
mod idle;
mod noop;
mod sessions;

pub use idle::hold;
pub use sessions::{WORKERS, many};

use crate::cage::Cage;
use crate::load::{Exchanges, Handshake};
use crate::options::Amounts;
use crate::peers::{Kind, Peer};
use crate::protocols::{Door, SESSION};
use crate::site::Site;
use crate::statistics::{millis, percentile};
use anyhow::Result;
use std::collections::BTreeMap;
use std::time::Duration;

/// A workload, as it is named on the command line and explained by `--list`.
#[derive(Clone, Copy)]
pub struct Workload {
    pub name: &'static str,
    pub what: &'static str,
    pub work: Work,
}

#[derive(Clone, Copy)]
pub enum Work {
    /// Eight at once.
    Sessions(Door, Handshake),
    /// One after the other: what a client waits for.
    Alone(Door),
    Download,
    Upload,
    NoopAlone,
    NoopMany,
    Idle,
}

/// The two whose ratio is a figure.
pub const FULL: &str = "imaps-full";
pub const MLKEM: &str = "imaps-mlkem";
/// The name of what `growth.rs` does.
pub const GROWTH: &str = "growth";

const fn workload(name: &'static str, what: &'static str, work: Work) -> Workload {
    Workload { name, what, work }
}

/// All, in the order in which they are measured.
pub const ALL: &[Workload] = &[
    workload(FULL, "IMAPS session, full handshake", Work::Sessions(Door::Imaps, Handshake::Full)),
    workload("imaps-resumed", "IMAPS session, resumed", Work::Sessions(Door::Imaps, Handshake::Resumed)),
    workload("imap-starttls", "IMAP+STARTTLS session", Work::Sessions(Door::ImapStarttls, Handshake::Full)),
    workload("pop3s", "POP3S session", Work::Sessions(Door::Pop3s, Handshake::Full)),
    workload("pop3-stls", "POP3+STLS session", Work::Sessions(Door::Pop3Stls, Handshake::Full)),
    workload("smtps", "SMTPS session with a mail", Work::Sessions(Door::Smtps, Handshake::Full)),
    workload(
        "submission-starttls",
        "submission+STARTTLS session with a mail",
        Work::Sessions(Door::SubmissionStarttls, Handshake::Full),
    ),
    workload(MLKEM, "IMAPS session, X25519MLKEM768", Work::Sessions(Door::Imaps, Handshake::FullMlkem)),
    workload("imaps-alone", "IMAPS session alone", Work::Alone(Door::Imaps)),
    workload("imap-starttls-alone", "IMAP+STARTTLS session alone", Work::Alone(Door::ImapStarttls)),
    workload("pop3s-alone", "POP3S session alone", Work::Alone(Door::Pop3s)),
    workload("pop3-stls-alone", "POP3+STLS session alone", Work::Alone(Door::Pop3Stls)),
    workload("smtps-alone", "SMTPS session alone", Work::Alone(Door::Smtps)),
    workload("submission-starttls-alone", "submission+STARTTLS session alone", Work::Alone(Door::SubmissionStarttls)),
    workload("download", "download, 4 streams", Work::Download),
    workload("upload", "upload, 4 streams", Work::Upload),
    workload("noop-alone", "NOOP round trip alone", Work::NoopAlone),
    workload("noop-64", "NOOP round trip with 64 connections", Work::NoopMany),
    workload("idle", "idle IMAPS sessions in IDLE", Work::Idle),
];

/// What came of a run.
#[derive(Default)]
pub struct Run {
    /// By the figure's name; empty if anything went wrong.
    pub figures: BTreeMap<&'static str, f64>,
    /// What clients waited for.
    pub exchanges: Exchanges,
    pub errors: Vec<String>,
    /// Sessions that ended without TLS's goodbye.
    pub untidy: u64,
}

impl Workload {
    /// Whether a peer can do it, and whether its figure says anything.
    pub fn is_for(&self, peer: &Peer) -> bool {
        match self.work {
            Work::Sessions(_, Handshake::FullMlkem) => peer.kind == Kind::Gatepost,
            _ => self.doors().iter().all(|door| peer.kind.has(*door)),
        }
    }

    fn doors(&self) -> [Door; 1] {
        match self.work {
            Work::Sessions(door, _) | Work::Alone(door) => [door],
            _ => [Door::Imaps],
        }
    }

    /// Starts the peer, measures once, and ends it.
    pub async fn run(&self, peer: &Peer, site: &Site, amounts: Amounts) -> Run {
        let doors = self.doors();
        let mut run = Run::default();
        let done = match self.work {
            Work::Sessions(door, handshake) => {
                sessions::at_once(&mut run, peer, site, door, handshake, amounts.sessions).await
            }
            Work::Alone(door) => sessions::alone(&mut run, peer, site, door, amounts.sessions / 8).await,
            Work::Download => bulk::run(&mut run, peer, site, bulk::Direction::Down, amounts.mebibytes).await,
            Work::Upload => bulk::run(&mut run, peer, site, bulk::Direction::Up, amounts.mebibytes).await,
            Work::NoopAlone => noop::run(&mut run, peer, site, 1, amounts.round_trips / 4).await,
            Work::NoopMany => noop::run(&mut run, peer, site, 64, amounts.round_trips).await,
            Work::Idle => idle::run(&mut run, peer, site, &doors, amounts.idle).await,
        };
        if let Err(error) = done {
            run.errors.push(format!("{error:#}"));
        }
        if !run.errors.is_empty() {
            run.figures.clear();
        }
        run
    }
}

impl Run {
    /// Notes percentiles of what is called `what`, in milliseconds, and the stalls in everything.
    fn latencies(&mut self, what: &str) {
        if let Some(durations) = self.exchanges.get(what) {
            for (figure, part) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
                self.figures.insert(figure, millis(percentile(durations, part)));
            }
        }
        self.figures.insert("stalls", stalls(&self.exchanges).values().fold(0.0, |sum, count| sum + count));
    }

    fn takes(&mut self, exchanges: Exchanges) {
        for (what, durations) in exchanges {
            self.exchanges.entry(what).or_default().extend(durations);
        }
    }
}

/// How many exchanges took longer than 5 ms, by what was waited for.
pub fn stalls(exchanges: &Exchanges) -> BTreeMap<&'static str, f64> {
    const STALL: u64 = 5_000_000;
    let single = exchanges.iter().filter(|(what, _)| **what != SESSION);
    let counted = single.map(|(what, all)| (*what, all.iter().filter(|it| **it > STALL).fold(0.0, |sum, _| sum + 1.0)));
    counted.filter(|(_, count)| *count > 0.0).collect()
}

/// CPU time since an earlier reading, the last closes let come to their end.
async fn since(cage: &Cage, before: Duration) -> Result<Duration> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(cage.cpu()?.saturating_sub(before))
}
