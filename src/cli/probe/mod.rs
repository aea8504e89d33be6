//! `gatepost probe`: what a mail client sees of a server, and what is wrong with it.
//!
//! ```text
//! look ── Seen ──→ judge ── findings ──→ print
//!   │ greeting, TLS, capabilities, relay     one connection
//!   ├ each older version of TLS              one each (`versions`)
//!   └ a command behind STARTTLS              one
//! ```
//!
//! Nobody logs in and no mail is sent.

mod finding;
mod judge;
mod look;
mod print;
mod versions;

use super::remote::{self, Elsewhere, Target};
use super::{FAILED, FINE, MISUSED, print_data, say, small_runtime};
use crate::tls;
use finding::Grade;
use look::Looking;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Flags of `probe`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct ProbeArguments {
    /// The servers: imaps://mail.example.net, submission://mail.example.net:587, …
    #[arg(value_name = "URL", required = true)]
    targets: Vec<Target>,
    /// Trusts the CAs in this file (PEM) alone [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Connects to this host instead, and asks it for the URL's name (before a DNS change, say)
    #[arg(long, value_name = "HOST[:PORT]")]
    connect: Option<Elsewhere>,
    /// How long each answer may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Prints JSON, one object a line for each server
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
What URLs mean:
  imaps://  pop3s://  smtps://         TLS from the first byte (993, 995, 465)
  imap://   pop3://   submission://    STARTTLS or STLS (143, 110, 587)
  smtp://                              STARTTLS, for the world's mail (25)

What is looked at:
  certificate    dates, name, chain, who signed it, key and signature
  TLS            what is agreed on; that SSL 3.0, TLS 1.0 and 1.1 are refused
  STARTTLS       that it is offered, no password is asked for before it, and
                 no command that is smuggled in behind it is run
  relaying       that a stranger's mail to elsewhere is refused
  capabilities   before and under TLS, and what is missed among them

Nobody logs in, and no mail is sent: relaying is asked for as far as RCPT TO.
A server sees up to six connections, one after the other, and logs them.

Exit code: 0 nothing is bad; 1 something is, or a server cannot be reached;
2 wrong usage.

Examples:
  gatepost probe imaps://mail.example.net submission://mail.example.net
  gatepost probe --ca mail-root.pem --connect 10.0.0.5 imap://mail.example.net
  gatepost probe --json imaps://mail.example.net | jq -c '.findings[]'";

/// Looks at each server in turn.
pub(super) fn probe(arguments: &ProbeArguments) -> u8 {
    let roots = match remote::roots(arguments.ca.as_deref()) {
        Ok(roots) => roots,
        Err(error) => {
            say(error);
            return MISUSED;
        }
    };
    let (witness, runtime) = match (tls::witness(), small_runtime()) {
        (Ok(witness), Ok(runtime)) => (witness, runtime),
        (Err(error), _) => return failed(error),
        (_, Err(error)) => return failed(error),
    };
    let mut code = FINE;
    for (place, target) in arguments.targets.iter().enumerate() {
        let looking = Looking {
            target,
            instead: arguments.connect.as_ref(),
            roots: &roots,
            witness: witness.clone(),
            patience: arguments.timeout,
        };
        let progress = Progress::new(target);
        let seen = runtime.block_on(looking.look(|what| progress.say(what)));
        drop(progress);
        let findings = judge::judge(target, &seen, SystemTime::now());
        let data = if arguments.json {
            format!("{}\n", print::for_programs(target, &seen, &findings))
        } else {
            let gap = if place > 0 { "\n" } else { "" };
            format!("{gap}{}", print::for_people(target, &seen, &findings, colour()))
        };
        code = code.max(print_data(data));
        if judge::worst(&findings) == Grade::Bad {
            code = FAILED;
        }
    }
    code
}

fn failed(error: impl std::fmt::Display) -> u8 {
    say(error);
    FAILED
}

/// Colour stands only on a terminal, and never under `NO_COLOR`.
fn colour() -> bool {
    let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !forbidden
}

/// A line on a terminal that says what is going on, and is gone when it is over.
struct Progress<'a> {
    target: &'a Target,
    shown: bool,
}

impl<'a> Progress<'a> {
    fn new(target: &'a Target) -> Self {
        Self { target, shown: std::io::stderr().is_terminal() }
    }

    fn say(&self, what: &str) {
        if self.shown {
            // A terminal that is gone need not be told.
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K{}: {what} …", self.target);
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}
