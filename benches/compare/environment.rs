//! When, where, and with what it was measured.

use crate::peers::Peer;
use serde_json::{Value, json};
use std::fmt;
use time::OffsetDateTime;

pub struct Environment {
    date: String,
    processor: String,
    cores: usize,
    kernel: String,
    versions: Vec<(String, String)>,
}

impl Environment {
    pub fn of(peers: &[Peer]) -> Self {
        let read = |file| std::fs::read_to_string(file).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model =
            cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
        Self {
            date: OffsetDateTime::now_utc().date().to_string(),
            processor: model.unwrap_or("unknown processor").to_owned(),
            // Not those that are ours: that is one.
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            versions: peers.iter().map(|peer| (peer.name.clone(), peer.version())).collect(),
        }
    }

    pub fn json(&self) -> Value {
        let Self { date, processor, cores, kernel, versions } = self;
        json!({ "date": date, "processor": processor, "cores": cores, "kernel": kernel, "versions": versions })
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<String> = self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        write!(
            f,
            "{}, {} ({} cores, one for the gateway, one for clients and backend), Linux {}. {}. Median of the runs, least and most in \
             brackets.",
            self.date,
            self.processor,
            self.cores,
            self.kernel,
            versions.join(", ")
        )
    }
}
