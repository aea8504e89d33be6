//! What the command line asks for.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How the program is used.
pub const USAGE: &str = "\
Many clients of mixed behaviour against gatepost in front of Dovecot and Postfix, which are restarted under it.

  tests/soak/run --for TIME [--clients N] [--seed N] [--json FILE]

  --for TIME     how long: 90s, 10m, 3days
  --clients N    how many clients at a time (60)
  --seed N       the chances to take; given in the report, so that a run can be made again
  --json FILE    the report for programs
  --program FILE the gatepost to run; else the one that was built beside this program
  --every TIME   between two faults, on average (30s)
  --verbose      each fault and each disturbed session as it happens

With no word about time it is a test of 20 seconds, which is what `cargo test` runs. Ctrl-C ends it early, with the report.";

/// What to do.
pub enum Task {
    Soak(Options),
    /// The same as a test.
    Smoke(Options),
    Usage,
    /// Names the one test there is.
    List,
    /// A test was asked for that is not this one.
    Nothing,
}

/// A run.
#[derive(Clone)]
pub struct Options {
    pub length: Duration,
    pub warm_up: Duration,
    pub clients: usize,
    pub seed: u64,
    pub json: Option<PathBuf>,
    pub program: PathBuf,
    pub faults_every: Duration,
    pub verbose: bool,
    /// How long a backend is gone or frozen.
    pub outage: Duration,
    pub sample_every: Duration,
}

/// The one test, as cargo knows it.
pub const TEST: &str = "soak_of_twenty_seconds";

/// Reads the command line. Cargo passes its own options and the names of tests to every test program, ours too.
pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Task, String> {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let mut options = Options {
        length: Duration::from_secs(20),
        warm_up: Duration::from_secs(3),
        clients: 24,
        seed,
        json: None,
        program: env!("CARGO_BIN_EXE_gatepost").into(),
        faults_every: Duration::from_secs(4),
        verbose: false,
        outage: Duration::from_secs(2),
        sample_every: Duration::from_secs(1),
    };
    let (mut is_soak, mut is_list, mut names, mut clients, mut every) = (false, false, Vec::new(), None, None);
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        match argument.as_str() {
            "--for" => {
                is_soak = true;
                options.length = time(&value()?)?;
            }
            "--clients" => clients = Some(number(&value()?)?),
            "--seed" => options.seed = number(&value()?)?,
            "--json" => options.json = Some(value()?.into()),
            "--program" => options.program = value()?.into(),
            "--every" => every = Some(time(&value()?)?),
            "--verbose" => options.verbose = true,
            "--help" | "-h" => return Ok(Task::Usage),
            "--list" => is_list = true,
            // None of ours is.
            "--ignored" => return Ok(Task::Nothing),
            "--test-threads" | "--color" | "--format" | "--skip" | "-Z" | "--logfile" => {
                value()?;
            }
            flag if flag.starts_with('-') => {}
            name => names.push(name.to_owned()),
        }
    }
    if is_soak {
        options.warm_up = Duration::from_secs(20).min(options.length / 6);
        options.clients = clients.unwrap_or(60);
        options.faults_every = every.unwrap_or(Duration::from_secs(30));
        options.outage = Duration::from_secs(10);
        options.sample_every = Duration::from_secs(10);
        return Ok(Task::Soak(options));
    }
    if is_list {
        return Ok(Task::List);
    }
    options.clients = clients.unwrap_or(options.clients);
    options.faults_every = every.unwrap_or(options.faults_every);
    let is_meant = names.is_empty() || names.iter().any(|name| TEST.contains(name.as_str()));
    Ok(if is_meant { Task::Smoke(options) } else { Task::Nothing })
}

fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{text}: {error}; a time is written 90s, 10m or 3days"))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text}: a number is wanted"))
}
