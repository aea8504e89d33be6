//! The command line.

use crate::peers::{Kind, Peer};
use crate::workloads::{self, Workload};
use clap::{CommandFactory, Parser};
use std::path::PathBuf;

/// What was asked for.
pub enum Task {
    /// `cargo test` or a bare `cargo bench` came by.
    Nothing,
    Backend(BackendOptions),
    Bare(BareOptions),
    Compare(Box<Compare>),
}

/// gatepost and its peers side by side: CPU per unit of work, memory per idle session, latencies.
#[derive(Parser)]
#[command(name = "compare", no_binary_name = true)]
struct Arguments {
    /// Everything, five times; what the other options leave open is as with this one
    #[arg(long)]
    all: bool,
    /// Only these: gatepost, haproxy, nginx-mail, nginx-stream, stunnel, hitch, dovecot, bare
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    peers: Vec<Kind>,
    /// Only these workloads (--list names them), or `growth`
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    workloads: Vec<String>,
    /// How often each is measured, all peers in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Sessions in a run
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(16..))]
    sessions: u32,
    /// Idle sessions
    #[arg(long, default_value_t = 9000, value_parser = clap::value_parser!(u32).range(1..=9500))]
    idle: u32,
    /// MiB that each of the four streams moves
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1024))]
    mebibytes: u32,
    /// A gatepost, several side by side if given more than once
    #[arg(long, value_name = "NAME=PATH", value_parser = named_path)]
    gatepost: Vec<(String, PathBuf)>,
    /// One tenth of everything, twice: shows that it runs, not what it costs
    #[arg(long)]
    quick: bool,
    /// Every figure of every run goes there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The peers' configuration and logs stay
    #[arg(long)]
    keep: bool,
    /// Names the workloads
    #[arg(long)]
    list: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// How the backend is started: the program itself, once more.
#[derive(Parser)]
#[command(no_binary_name = true)]
pub struct BackendOptions {
    #[arg(long)]
    pub address: std::net::Ipv4Addr,
    /// Where a datagram socket takes log lines and forgets them.
    #[arg(long)]
    pub log: PathBuf,
}

/// How the gateway that does nothing is started: the program itself, too.
#[derive(Parser)]
#[command(no_binary_name = true)]
pub struct BareOptions {
    #[arg(long)]
    pub address: std::net::SocketAddr,
    #[arg(long)]
    pub behind: std::net::SocketAddr,
    #[arg(long)]
    pub chain: PathBuf,
    #[arg(long)]
    pub key: PathBuf,
}

/// The word that makes the program the backend.
pub const BACKEND: &str = "backend";
/// The word that makes it the gateway that does nothing.
pub const BARE: &str = "bare";

pub struct Compare {
    pub peers: Vec<Peer>,
    pub workloads: Vec<Workload>,
    pub growth: bool,
    pub runs: u32,
    pub amounts: Amounts,
    pub json: Option<PathBuf>,
    pub keep: bool,
}

/// How much of everything a run has.
#[derive(Clone, Copy)]
pub struct Amounts {
    pub sessions: u32,
    pub idle: u32,
    pub mebibytes: u32,
    pub round_trips: u32,
}

/// Reads the command line; ends the program where it asks for help or is wrong.
pub fn parse(arguments: &[String]) -> Task {
    let given = arguments.iter().any(|argument| argument != "--bench");
    // `cargo test --benches` gives nothing, and its own words to other harnesses; only `cargo bench` says --bench.
    let by_cargo_test = !arguments.iter().any(|argument| argument == "--bench" || argument == "--all");
    if arguments.first().is_some_and(|word| word == BACKEND) {
        return Task::Backend(BackendOptions::parse_from(&arguments[1..]));
    }
    if arguments.first().is_some_and(|word| word == BARE) {
        return Task::Bare(BareOptions::parse_from(&arguments[1..]));
    }
    if !given || by_cargo_test {
        eprintln!("compare: nothing to do; benches/compare/run measures, and benches/README.md says how");
        return Task::Nothing;
    }
    let arguments = Arguments::parse_from(arguments);
    if arguments.list {
        for workload in workloads::ALL {
            println!("{:24}{}", workload.name, workload.what);
        }
        println!("{:24}gatepost with many idle sessions, allowed addresses, bans, certificates", workloads::GROWTH);
        return Task::Nothing;
    }
    Task::Compare(Box::new(arguments.into_compare()))
}

impl Arguments {
    fn into_compare(self) -> Compare {
        let growth = self.workloads.is_empty() || self.workloads.iter().any(|name| name == workloads::GROWTH);
        let mut chosen = Vec::new();
        for name in self.workloads.iter().filter(|name| *name != workloads::GROWTH) {
            match workloads::ALL.iter().find(|workload| workload.name == name) {
                Some(workload) => chosen.push(*workload),
                None => wrong(&format!("there is no workload {name}; --list names them")),
            }
        }
        if self.workloads.is_empty() {
            chosen = workloads::ALL.to_vec();
        }
        // Its figure is a ratio to the other.
        if chosen.iter().any(|it| it.name == workloads::MLKEM) && !chosen.iter().any(|it| it.name == workloads::FULL) {
            chosen.extend(workloads::ALL.iter().find(|workload| workload.name == workloads::FULL));
        }
        let ours = if self.gatepost.is_empty() { vec![("gatepost".to_owned(), built())] } else { self.gatepost };
        let kinds = if self.peers.is_empty() { Kind::ALL.to_vec() } else { self.peers };
        let mut peers = Vec::new();
        for kind in kinds {
            if kind == Kind::Gatepost {
                peers.extend(ours.iter().map(|(name, path)| Peer::gatepost(name, path)));
            } else {
                peers.push(Peer::other(kind));
            }
        }
        for peer in &peers {
            if let Err(why) = peer.is_there() {
                wrong(&why);
            }
        }
        let part = if self.quick { 10 } else { 1 };
        let amounts = Amounts {
            sessions: (self.sessions / part).max(16),
            idle: (self.idle / part).max(1),
            mebibytes: (self.mebibytes / part).max(1),
            round_trips: 20_000 / part,
        };
        let runs = if self.quick { self.runs.min(2) } else { self.runs };
        Compare { peers, workloads: chosen, growth, runs, amounts, json: self.json, keep: self.keep }
    }
}

fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err("it is written NAME=PATH".to_owned()),
    }
}

/// What `cargo build --release` makes, beside the directory this program lies in.
fn built() -> PathBuf {
    let here = std::env::current_exe().expect("a running program has a path");
    here.ancestors().nth(2).expect("it lies in target/release/deps").join("gatepost")
}

fn wrong(why: &str) -> ! {
    Arguments::command().error(clap::error::ErrorKind::ValueValidation, why).exit()
}
