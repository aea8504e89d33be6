//! The soak: many clients of mixed behaviour for a given time against the built program before real Dovecot and Postfix, which are
//! restarted, killed, frozen and taken down under it. See `README.md` beside this file.
//!
//! `cargo test` runs it for twenty seconds; `tests/soak/run --for 10m` for as long as one likes.
#![expect(unreachable_pub, reason = "a test binary exports nothing; `pub` says what a module offers to the others")]

mod clients;
#[path = "../real/command.rs"]
#[expect(dead_code, reason = "the tests with mail programs need more of it")]
mod command;
mod faults;
mod gateway;
#[path = "../real/kept.rs"]
mod kept;
mod ledger;
mod message;
mod options;
mod report;
mod run;
mod samples;
#[expect(dead_code, reason = "as above")]
mod servers;
mod site;
mod tally;
mod weather;
mod wire;

use options::{TEST, Task, USAGE};
use std::process::ExitCode;

fn main() -> ExitCode {
    let wrong_usage = ExitCode::from(2);
    match options::parse(std::env::args().skip(1)) {
        Err(why) => {
            eprintln!("{why}\n\n{USAGE}");
            wrong_usage
        }
        Ok(Task::Usage) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(Task::List) => {
            println!("{TEST}: test");
            ExitCode::SUCCESS
        }
        Ok(Task::Nothing) => ExitCode::SUCCESS,
        Ok(Task::Soak(options)) => match site::missing()[..] {
            [] => run::run(options),
            ref missing => {
                eprintln!("the soak needs {}", missing.join(", "));
                wrong_usage
            }
        },
        Ok(Task::Smoke(options)) => match site::missing()[..] {
            [] => run::run(options),
            ref missing if std::env::var_os("CI").is_some_and(|ci| ci == "true") => {
                eprintln!("the soak needs {}", missing.join(", "));
                ExitCode::FAILURE
            }
            ref missing => {
                eprintln!("NOT TESTED without {}: {TEST}", missing.join(", "));
                ExitCode::SUCCESS
            }
        },
    }
}
