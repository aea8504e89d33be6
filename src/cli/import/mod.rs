//! `gatepost import`: what stands in another program's configuration, as ours.
//!
//! ```text
//! reading ─ bounded files ─► nginx, perdition, stunnel, dovecot, hosts_allow ─► model ─ settle ─► yaml
//!                                        └─ notes: what did not carry over, with its place ─┘
//! ```
//!
//! What cannot be carried over is never dropped in silence: it is a note, on stderr and at the top of the YAML, which says
//! where it stood and what to do. The old files' secrets (shared keys, passwords of databases) are neither printed nor noted.

mod access;
mod dovecot;
mod hosts_allow;
mod model;
mod nginx;
mod notes;
mod perdition;
mod ports;
mod reading;
mod stunnel;
mod users;
mod yaml;

use super::{FAILED, print_data, say};
use model::Imported;
use notes::Notes;
use reading::Reading;
use std::path::{Path, PathBuf};

/// Flags of `import`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArguments {
    /// Whose configuration it is
    #[arg(value_enum, value_name = "KIND")]
    kind: Kind,
    /// The main file, with what it includes beside it; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// nginx.conf, its `mail` and `stream` blocks
    Nginx,
    /// perdition.conf
    Perdition,
    /// stunnel.conf
    Stunnel,
    /// dovecot.conf of a proxy
    Dovecot,
    /// hosts.allow of the TCP wrappers, with the hosts.deny beside it
    #[value(name = "hosts.allow")]
    HostsAllow,
}

/// Why nothing comes out.
#[derive(Debug, thiserror::Error)]
enum ImportError {
    /// A file that is needed cannot be read.
    #[error("{0}")]
    Reading(#[from] reading::ReadingError),
    /// Its syntax is not that of its kind: nothing behind this place can be relied on.
    #[error("{place}: {what}")]
    Syntax {
        /// Where it went wrong.
        place: notes::Place,
        /// What is wrong, and what may be meant.
        what: String,
    },
    /// It says nothing about mail.
    #[error("{0}")]
    Nothing(String),
}

/// Prints our configuration on stdout, and on stderr what did not carry over.
pub(super) fn import(arguments: &ImportArguments) -> u8 {
    let (mut reading, mut notes) = (Reading::default(), Notes::default());
    let mut imported = match read(arguments.kind, &arguments.file, &mut reading, &mut notes) {
        Ok(imported) => imported,
        Err(error) => {
            for line in notes.lines() {
                say(line);
            }
            say(error);
            return FAILED;
        }
    };
    imported.settle(&mut notes);
    let lines = notes.lines();
    for line in &lines {
        say(line);
    }
    print_data(yaml::write(&imported, &arguments.file.display().to_string(), &lines))
}

fn read(kind: Kind, file: &Path, reading: &mut Reading, notes: &mut Notes) -> Result<Imported, ImportError> {
    match kind {
        Kind::Nginx => nginx::read(file, reading, notes),
        Kind::Perdition => perdition::read(file, reading, notes),
        Kind::Stunnel => stunnel::read(file, reading, notes),
        Kind::Dovecot => dovecot::read(file, reading, notes),
        Kind::HostsAllow => hosts_allow::read(file, reading, notes),
    }
}

#[cfg(test)]
mod tests;
