//! gatepost and its peers side by side. Starts each gateway in turn in front of the same cheap backend, with the same certificate, cipher
//! and key exchange, and measures what it costs: the gateway's own CPU time for each unit of work, its memory for each idle session, and
//! how long clients wait. The gateway has core 0, the load and the backend core 1. See `../README.md`.
#![expect(unreachable_pub, reason = "a benchmark exports nothing; `pub` says what a module offers to the others")]

mod backend;
mod cage;
mod environment;
mod growth;
mod load;
mod options;
mod peers;
mod protocols;
mod site;
mod statistics;
mod table;
mod workloads;

use anyhow::{Context, Result, ensure};
use environment::Environment;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, setrlimit};
use options::{Compare, Task};
use site::Site;
use std::fs::File;
use std::process::ExitCode;
use table::Measured;
use tokio::signal::unix::{SignalKind, signal};

/// What each process here may open, as a service manager would give it.
const DESCRIPTORS: u64 = 20_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match options::parse(&arguments) {
        Task::Nothing => Ok(()),
        Task::Backend(options) => backend::run(&options),
        Task::Bare(options) => peers::bare::run(&options),
        Task::Compare(compare) => run(&compare),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(compare: &Compare) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the gateways want root: standard ports, control groups, users of their own"
    );
    let _turn = take_turn()?;
    setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS).context("20,000 descriptors")?;
    cage::sweep();
    cage::pin_load()?;
    let site = Site::new(compare.keep)?;
    let _backend = backend::Backend::start(&site.log_socket())?;
    let environment = Environment::of(&compare.peers);
    if compare.keep {
        eprintln!("configurations and logs: {}", site.directory.display());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut measured = Vec::new();
    let mut growth = growth::Outcome::default();
    let interrupted = runtime.block_on(async {
        let everything = async {
            all(compare, &site, &mut measured).await;
            if compare.growth {
                growth::run(compare, &site, &mut growth).await;
            }
        };
        let mut terminate = signal(SignalKind::terminate())?;
        anyhow::Ok(tokio::select! {
            () = everything => false,
            _ = tokio::signal::ctrl_c() => true,
            _ = terminate.recv() => true,
        })
    })?;
    if interrupted {
        eprintln!("interrupted; what there is:");
    }
    if !measured.is_empty() {
        println!("{}", table::markdown(&measured, &compare.peers, &compare.workloads, &environment));
    }
    print!("{growth}");
    if let Some(file) = &compare.json {
        let mut json = table::json(&measured, &environment, compare.amounts);
        json["growth"] = growth.json();
        std::fs::write(file, format!("{json:#}\n")).with_context(|| file.display().to_string())?;
    }
    let failed = measured.iter().filter(|it| !it.run.errors.is_empty()).count() + growth.errors();
    ensure!(failed == 0, "{failed} runs without a figure");
    ensure!(!interrupted, "interrupted");
    Ok(())
}

/// Every workload, so many rounds, in each round all peers in turn.
async fn all(compare: &Compare, site: &Site, measured: &mut Vec<Measured>) {
    for workload in &compare.workloads {
        for round in 0..compare.runs {
            let mut turn = compare.peers.clone();
            // Nobody is always the one after whoever heats the machine most.
            turn.rotate_left(round as usize % compare.peers.len());
            for peer in turn.iter().filter(|peer| workload.is_for(peer)) {
                let run = workload.run(peer, site, compare.amounts).await;
                let figures: Vec<String> =
                    run.figures.iter().map(|(name, value)| format!("{name} {}", statistics::short(*value))).collect();
                let untidy =
                    if run.untidy > 0 { format!(", {} without close_notify", run.untidy) } else { String::new() };
                let said =
                    run.errors.first().map_or(figures.join(", ") + &untidy, |error| format!("NO FIGURE: {error}"));
                eprintln!("{} {}/{} {}: {said}", workload.name, round + 1, compare.runs, peer.name);
                measured.push(Measured { round, workload: workload.name, peer: peer.name.clone(), run });
            }
        }
    }
}

/// Two comparisons at once would measure each other.
fn take_turn() -> Result<Flock<File>> {
    let path = std::env::temp_dir().join("gatepost-compare.lock");
    let open = || File::options().create(true).truncate(false).write(true).open(&path);
    match Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err(_) => {
            eprintln!("waiting for another comparison to end");
            Flock::lock(open()?, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
        }
    }
}
