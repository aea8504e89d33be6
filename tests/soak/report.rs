//! What a run gave, as text for people and as JSON for programs.

use crate::clients::Behaviour;
use crate::faults::Fault;
use crate::gateway::Cost;
use crate::ledger::Counts;
use crate::run::Soak;
use crate::samples::{self, Sample, Span, span};
use crate::tally::Row;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The whole of it. `wrongs` empty means that all was well.
#[derive(Debug, serde::Serialize)]
pub struct Report {
    version: &'static str,
    seed: u64,
    clients: usize,
    asked_seconds: u64,
    ran_seconds: u64,
    sessions: Row,
    behaviours: BTreeMap<Behaviour, Row>,
    /// What clients heard while a server was down.
    heard: BTreeMap<String, u64>,
    faults: BTreeMap<Fault, u64>,
    faults_injected: u64,
    mail: Counts,
    /// Before the first client, and after the last.
    start: Cost,
    end: Cost,
    spans: BTreeMap<&'static str, Span>,
    /// The median of the resident memory in the first and in the last quarter.
    growth_kib: Option<(u64, u64)>,
    events: BTreeMap<String, u64>,
    samples: Vec<Sample>,
    failures: Vec<Vec<String>>,
    pub wrongs: Vec<String>,
}

impl Report {
    /// Ends the gateway too: that it can be ended is part of the report.
    pub fn new(soak: &Soak, ran: Duration, start: Cost, end: Cost) -> Self {
        let samples = soak.samples.lock().expect("nobody panics with it").clone();
        let (mail, mut wrongs) = soak.field.ledger.closed();
        let counted = soak.field.tally.counted();
        wrongs.extend(soak.wrongs.lock().expect("nobody panics with it").iter().cloned());
        wrongs.extend(soak.done.wrongs.lock().expect("nobody panics with it").iter().cloned());
        let sessions = soak.field.tally.sum();
        let faults_injected = soak.done.sum();
        let faults = soak.done.counts.lock().expect("nobody panics with it").clone();
        if sessions.failed > 0 {
            wrongs.push(format!("{} sessions failed", sessions.failed));
        }
        if sessions.sessions == 0 || mail.accepted == 0 {
            wrongs.push("nothing was done".to_owned());
        }
        let growth_kib = samples::growth(&samples);
        if let Some((first, last)) = growth_kib.filter(|_| ran >= samples::LONG_ENOUGH)
            && last > first + samples::allowed_growth_kib(first)
        {
            wrongs.push(format!("resident memory grew from {first} KiB to {last} KiB"));
        }
        let status = soak.gateway.terminate();
        if !status.success() {
            wrongs.push(format!("the gateway ended with {status}"));
        }
        let (alarms, lines) = soak.gateway.log.alarms();
        if alarms > 0 {
            wrongs.push(format!("{alarms} alarming lines in the gateway's log:\n    {}", lines.join("\n    ")));
        }
        let of = |number: fn(&Sample) -> u64| span(samples.iter().map(number));
        let spans = [
            ("open sessions", of(|sample| sample.open)),
            ("RSS KiB", of(|sample| sample.cost.rss_kib)),
            ("Pss KiB", of(|sample| sample.cost.pss_kib)),
            ("descriptors", of(|sample| sample.cost.descriptors)),
            ("threads", of(|sample| sample.cost.threads)),
        ];
        Self {
            version: env!("CARGO_PKG_VERSION"),
            seed: soak.options.seed,
            clients: soak.options.clients,
            asked_seconds: soak.options.length.as_secs(),
            ran_seconds: ran.as_secs(),
            sessions,
            behaviours: counted.rows,
            heard: counted.heard,
            faults,
            faults_injected,
            mail,
            start,
            end,
            spans: spans.into_iter().filter_map(|(name, span)| Some((name, span?))).collect(),
            growth_kib,
            events: soak.gateway.log.events(),
            samples,
            failures: counted.failures,
            wrongs,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\ngatepost {}: {} clients for {} s of {} s, seed {}\n",
            self.version, self.clients, self.ran_seconds, self.asked_seconds, self.seed
        )?;
        writeln!(
            f,
            "{:<20} {:>8} {:>8} {:>9} {:>6} {:>10}",
            "sessions", "all", "well", "disturbed", "failed", "longest"
        )?;
        let mut row = |name: String, row: &Row| {
            let longest = format!("{:.1} s", row.longest_ms as f64 / 1000.0);
            writeln!(
                f,
                "{name:<20} {:>8} {:>8} {:>9} {:>6} {longest:>10}",
                row.sessions, row.well, row.disturbed, row.failed
            )
        };
        for (behaviour, counted) in &self.behaviours {
            row(format!("{behaviour:?}"), counted)?;
        }
        row("all".to_owned(), &self.sessions)?;

        writeln!(f, "\n{:<20} {:>8}", "faults", self.faults_injected)?;
        for (fault, count) in &self.faults {
            writeln!(f, "{:<20} {count:>8}", format!("{fault:?}"))?;
        }
        if !self.heard.is_empty() {
            writeln!(f, "\nheard in foul weather")?;
            for (words, count) in &self.heard {
                writeln!(f, "{count:>8}  {words}")?;
            }
        }

        let Counts { begun, accepted, arrived, unsure, unsure_arrived, never, twice, phantoms, corrupt, lost } =
            &self.mail;
        writeln!(
            f,
            "\nmail: {begun} begun; {accepted} answered with 250, {arrived} of these arrived; {unsure} without an answer for good, \
             {unsure_arrived} of these arrived;\n      {never} cut before the end or refused; arrived again {twice}; \
             lost {lost}, phantoms {phantoms}, corrupt {corrupt}"
        )?;

        writeln!(f, "\n{:<16} {:>9} {:>9} {:>9} {:>9} {:>9}", "gateway", "at start", "at end", "min", "median", "max")?;
        let ends = [
            ("RSS KiB", self.start.rss_kib, self.end.rss_kib),
            ("Pss KiB", self.start.pss_kib, self.end.pss_kib),
            ("descriptors", self.start.descriptors, self.end.descriptors),
            ("threads", self.start.threads, self.end.threads),
            ("open sessions", 0, 0),
        ];
        for (name, start, end) in ends {
            let Some(Span { min, median, max }) = self.spans.get(name) else { continue };
            writeln!(f, "{name:<16} {start:>9} {end:>9} {min:>9} {median:>9} {max:>9}")?;
        }
        if let Some((first, last)) = self.growth_kib {
            writeln!(f, "median RSS of the first quarter {first} KiB, of the last {last} KiB")?;
        }

        writeln!(f, "\nevents")?;
        for (event, count) in &self.events {
            writeln!(f, "{count:>8}  {event}")?;
        }
        for lines in &self.failures {
            writeln!(f, "\nFAILED {}", lines.join("\n    "))?;
        }
        if self.wrongs.is_empty() {
            return writeln!(f, "\nall was well");
        }
        writeln!(f, "\nNOT WELL")?;
        for wrong in &self.wrongs {
            writeln!(f, "  {wrong}")?;
        }
        Ok(())
    }
}
