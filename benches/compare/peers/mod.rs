//! The gateways that are compared, each set up as a careful admin would, with the settings that are best for what is measured.

pub mod bare;
mod dovecot;
mod gatepost;
mod haproxy;
mod hitch;
mod nginx;
mod stunnel;

use crate::cage::Cage;
use crate::protocols::Door;
use crate::site::{self, Site, tail};
use anyhow::{Context, Result, bail};
pub use gatepost::Extras;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Every peer's own limit of sessions, of which each has two descriptors.
const SESSIONS: u32 = 9_800;

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Kind {
    Gatepost,
    Haproxy,
    NginxMail,
    NginxStream,
    Stunnel,
    Hitch,
    Dovecot,
    /// What no gateway can go below; nobody is compared with it.
    Bare,
}

/// What a peer is started for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Sessions,
    /// Large buffers pay.
    Bulk,
}

/// A gateway that can be started.
#[derive(Clone)]
pub struct Peer {
    pub name: String,
    pub kind: Kind,
    program: PathBuf,
}

/// A gateway that has been started.
pub struct Running {
    pub cage: Cage,
    log: PathBuf,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Gatepost,
        Self::Haproxy,
        Self::NginxMail,
        Self::NginxStream,
        Self::Stunnel,
        Self::Hitch,
        Self::Dovecot,
        Self::Bare,
    ];

    /// Whether it can be entered there: who is no mail program knows no STARTTLS.
    pub fn has(self, door: Door) -> bool {
        !door.begins_in_the_clear() || matches!(self, Self::Gatepost | Self::NginxMail | Self::Stunnel | Self::Dovecot)
    }
}

impl Peer {
    pub fn gatepost(name: &str, program: &Path) -> Self {
        // The peers are started from elsewhere.
        let program = std::path::absolute(program).unwrap_or_else(|_| program.to_owned());
        Self { name: name.to_owned(), kind: Kind::Gatepost, program }
    }

    pub fn other(kind: Kind) -> Self {
        if kind == Kind::Bare {
            let program = std::env::current_exe().expect("a running program has a path");
            return Self { name: "bare".to_owned(), kind, program };
        }
        let (name, program) = match kind {
            Kind::Bare => unreachable!("it is this program"),
            Kind::Gatepost => ("gatepost", "gatepost"),
            Kind::Haproxy => ("HAProxy", "/usr/sbin/haproxy"),
            Kind::NginxMail => ("nginx mail", "/usr/sbin/nginx"),
            Kind::NginxStream => ("nginx stream", "/usr/sbin/nginx"),
            Kind::Stunnel => ("stunnel", "/usr/bin/stunnel4"),
            Kind::Hitch => ("hitch", "/usr/sbin/hitch"),
            Kind::Dovecot => ("Dovecot", "/usr/sbin/dovecot"),
        };
        Self { name: name.to_owned(), kind, program: program.into() }
    }

    /// Whether it is installed, or how it comes to be.
    pub fn is_there(&self) -> Result<(), String> {
        if self.program.exists() {
            return Ok(());
        }
        let cure = if self.kind == Kind::Gatepost { "cargo build --release" } else { "benches/compare/run" };
        Err(format!("{} is not there; {cure} puts it there", self.program.display()))
    }

    /// What it says its version is.
    pub fn version(&self) -> String {
        let flag = match self.kind {
            Kind::Bare => return "of the same day".to_owned(),
            Kind::Haproxy | Kind::NginxMail | Kind::NginxStream => "-v",
            Kind::Stunnel => "-version",
            Kind::Gatepost | Kind::Hitch | Kind::Dovecot => "--version",
        };
        let Ok(output) = Command::new(&self.program).arg(flag).output() else { return "?".to_owned() };
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        // "HAProxy version 2.6.12-1+deb12u4 2026/10/17", "nginx version: nginx/1.22.1", "stunnel 5.68 on x86_64"
        let is_version =
            |word: &&str| word.contains('.') && word.trim_start_matches("nginx/").starts_with(char::is_numeric);
        let found = said.split([' ', '\n']).find(is_version).unwrap_or("?");
        found.trim_start_matches("nginx/").to_owned()
    }

    /// Starts it and waits until it can be entered where that is wanted.
    pub async fn start(&self, site: &Site, purpose: Purpose, doors: &[Door]) -> Result<Running> {
        self.start_with(site, purpose, doors, &Extras::default()).await
    }

    /// As `start`; `extras` is what a gatepost is given besides.
    pub async fn start_with(&self, site: &Site, purpose: Purpose, doors: &[Door], extras: &Extras) -> Result<Running> {
        let room = site.room(&self.name.replace([' ', '/'], "-"))?;
        let arguments = match self.kind {
            Kind::Gatepost => gatepost::arguments(site, &room, extras)?,
            Kind::Haproxy => haproxy::arguments(site, &room, purpose)?,
            Kind::NginxMail => nginx::mail(site, &room)?,
            Kind::NginxStream => nginx::stream(site, &room, purpose)?,
            Kind::Stunnel => stunnel::arguments(site, &room)?,
            // These two know one backend.
            Kind::Bare => bare::arguments(site, doors[0]),
            Kind::Hitch => hitch::arguments(site, &room, doors[0])?,
            Kind::Dovecot => dovecot::arguments(site, &room)?,
        };
        let log = room.join("output");
        let mut running = Running { cage: Cage::start(&self.program, &arguments, &log)?, log };
        let patience = Instant::now() + Duration::from_secs(30);
        for door in doors {
            while tokio::net::TcpStream::connect(site::gateway(door.port())).await.is_err() {
                running.check(&self.name)?;
                if Instant::now() > patience {
                    bail!("{} does not listen on {}: {}", self.name, door.port(), tail(&running.log, 20));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        // What it does after it listens (gatepost asks its backends, Dovecot starts its login processes) is no session's.
        tokio::time::sleep(Duration::from_millis(500)).await;
        running.check(&self.name)?;
        Ok(running)
    }
}

impl Running {
    fn check(&mut self, name: &str) -> Result<()> {
        self.cage.check().with_context(|| format!("{name} said: {}", tail(&self.log, 20)))
    }
}

/// The arguments of a program that takes a configuration file, which is written.
fn with_file(room: &Path, name: &str, text: &str, arguments: &[&str]) -> Result<Vec<String>> {
    let file = room.join(name);
    std::fs::write(&file, text)?;
    let file = file.display().to_string();
    Ok(arguments.iter().map(|word| if *word == "FILE" { file.clone() } else { (*word).to_owned() }).collect())
}
