//! What is printed and written down.

use crate::environment::Environment;
use crate::load::Exchanges;
use crate::options::Amounts;
use crate::peers::{Kind, Peer};
use crate::statistics::{Summary, millis, percentile, short};
use crate::workloads::{FULL, MLKEM, Run, Workload, stalls};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// One run's place and outcome.
pub struct Measured {
    pub round: u32,
    pub workload: &'static str,
    pub peer: String,
    pub run: Run,
}

/// A line of the table.
struct Row {
    workload: &'static str,
    figure: &'static str,
    unit: &'static str,
    /// What part of the best peer's figure gatepost's is to be.
    target: Option<f64>,
}

const fn row(workload: &'static str, figure: &'static str, unit: &'static str, target: f64) -> Row {
    Row { workload, figure, unit, target: Some(target) }
}

const fn info(workload: &'static str, figure: &'static str, unit: &'static str) -> Row {
    Row { workload, figure, unit, target: None }
}

/// Less is better in all of them, but in what is given back.
const ROWS: &[Row] = &[
    row("imaps-full", "cpu", "CPU µs", 0.47),
    row("imaps-resumed", "cpu", "CPU µs", 0.56),
    row("imap-starttls", "cpu", "CPU µs", 0.5),
    row("pop3s", "cpu", "CPU µs", 0.5),
    row("pop3-stls", "cpu", "CPU µs", 0.5),
    row("smtps", "cpu", "CPU µs", 0.58),
    row("submission-starttls", "cpu", "CPU µs", 0.5),
    info("imaps-mlkem", "cpu", "CPU µs"),
    row("download", "cpu", "CPU s/GiB", 0.5),
    row("upload", "cpu", "CPU s/GiB", 0.5),
    row("noop-64", "cpu", "CPU µs", 0.78),
    info("noop-64", "p50", "p50 ms"),
    info("noop-64", "p99", "p99 ms"),
    info("noop-alone", "cpu", "CPU µs"),
    info("noop-alone", "p50", "p50 ms"),
    info("noop-alone", "p99", "p99 ms"),
    row("idle", "idle", "Pss KiB", 0.25),
    info("idle", "kernel", "kernel KiB"),
    row("idle", "start", "MiB before the first", 0.6),
    info("idle", "after", "MiB after the last"),
    info("idle", "given_back", "% given back"),
    row("imaps-alone", "p50", "p50 ms", 0.8),
    info("imap-starttls-alone", "p50", "p50 ms"),
    info("pop3s-alone", "p50", "p50 ms"),
    info("pop3-stls-alone", "p50", "p50 ms"),
    info("smtps-alone", "p50", "p50 ms"),
    info("submission-starttls-alone", "p50", "p50 ms"),
];

/// What the X25519MLKEM768 session may cost of the X25519 one.
const MLKEM_TARGET: f64 = 1.12;

/// The whole report in Markdown.
pub fn markdown(all: &[Measured], peers: &[Peer], workloads: &[Workload], environment: &Environment) -> String {
    let mut text = format!("{environment}\n\n");
    let head: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
    let ours: Vec<&Peer> = peers.iter().filter(|peer| is_ours(peer)).collect();
    let best: String = ours.iter().map(|peer| format!(" {} : best | ", peer.name)).collect();
    let _ = writeln!(text, "| | {} |{} target |", head.join(" | "), best.replace("|  ", "| ").trim_end_matches(' '));
    let _ = writeln!(text, "| --- |{}", " ---: |".repeat(peers.len() + ours.len() + 1));
    for row in ROWS {
        let Some(workload) = workloads.iter().find(|workload| workload.name == row.workload) else { continue };
        let cells: Vec<String> = peers.iter().map(|peer| cell(all, row, workload, peer)).collect();
        let ratios: String = ours.iter().map(|own| format!(" {} |", ratio(all, row, own, peers))).collect();
        let target = row.target.map_or("–".to_owned(), short);
        let _ = writeln!(text, "| {}, {} | {} |{ratios} {target} |", workload.what, row.unit, cells.join(" | "));
    }
    for own in &ours {
        let per_round = |name| figures(all, name, "cpu", &own.name);
        let (mlkem, full) = (per_round(MLKEM), per_round(FULL));
        let ratios = mlkem.iter().filter_map(|(round, value)| Some(value / full.get(round)?));
        if let Some(ratio) = Summary::of(ratios) {
            let _ = writeln!(text, "\nX25519MLKEM768 over X25519, {}: {ratio} (target {MLKEM_TARGET})", own.name);
        }
    }
    text.push('\n');
    text.push_str(&waiting(all, peers, workloads));
    text.push_str(&errors(all));
    text
}

/// A peer's figure with its spread; what it cannot do, and what went wrong.
fn cell(all: &[Measured], row: &Row, workload: &Workload, peer: &Peer) -> String {
    if !workload.is_for(peer) {
        return "–".to_owned();
    }
    let failed = all.iter().any(|it| it.workload == row.workload && it.peer == peer.name && !it.run.errors.is_empty());
    let values = figures(all, row.workload, row.figure, &peer.name);
    match Summary::of(values.into_values()) {
        _ if failed => "errors".to_owned(),
        Some(summary) => summary.to_string(),
        None => "–".to_owned(),
    }
}

/// What is compared with the others.
fn is_ours(peer: &Peer) -> bool {
    matches!(peer.kind, Kind::Gatepost | Kind::Bare)
}

/// The median of each round's own ratio to the best of the others; where there are no others, to the first gatepost.
fn ratio(all: &[Measured], row: &Row, own: &Peer, peers: &[Peer]) -> String {
    if row.figure == "given_back" {
        return "–".to_owned();
    }
    let mut others: Vec<&Peer> = peers.iter().filter(|peer| !is_ours(peer)).collect();
    if others.is_empty() {
        others.extend(peers.first());
    }
    let theirs: Vec<_> = others.iter().map(|peer| figures(all, row.workload, row.figure, &peer.name)).collect();
    let ratios = figures(all, row.workload, row.figure, &own.name).into_iter().filter_map(|(round, value)| {
        let best = theirs.iter().filter_map(|of| of.get(&round)).copied().min_by(f64::total_cmp)?;
        (best > 0.0).then_some(value / best)
    });
    Summary::of(ratios).map_or("–".to_owned(), |it| it.to_string())
}

/// A figure by round.
fn figures(all: &[Measured], workload: &str, figure: &str, peer: &str) -> BTreeMap<u32, f64> {
    let matching = all.iter().filter(|it| it.workload == workload && it.peer == peer);
    matching.filter_map(|it| Some((it.round, *it.run.figures.get(figure)?))).collect()
}

/// What a client waits for when it is alone, all rounds together.
fn waiting(all: &[Measured], peers: &[Peer], workloads: &[Workload]) -> String {
    let mut text = String::new();
    for workload in workloads.iter().filter(|workload| workload.name.ends_with("-alone")) {
        for peer in peers {
            let mut exchanges = Exchanges::new();
            for it in all.iter().filter(|it| it.workload == workload.name && it.peer == peer.name) {
                for (what, durations) in &it.run.exchanges {
                    exchanges.entry(what).or_default().extend(durations);
                }
            }
            if exchanges.is_empty() {
                continue;
            }
            if text.is_empty() {
                text.push_str("| alone | peer | slowest exchange by median: p50 / p99 / max ms | exchanges | stalls over 5 ms |\n");
                text.push_str("| --- | --- | --- | ---: | --- |\n");
            }
            let single: Vec<_> = exchanges.iter().filter(|(what, _)| **what != crate::protocols::SESSION).collect();
            let slowest = single.iter().max_by_key(|(_, durations)| percentile(durations, 0.5));
            let slowest = slowest.map_or(String::new(), |(what, durations)| {
                let at = |part| short(millis(percentile(durations, part)));
                format!("{what} {} / {} / {}", at(0.5), at(0.99), at(1.0))
            });
            let stalled: Vec<String> =
                stalls(&exchanges).iter().map(|(what, count)| format!("{count:.0} {what}")).collect();
            let stalled = if stalled.is_empty() { "none".to_owned() } else { stalled.join(", ") };
            let count: usize = single.iter().map(|(_, durations)| durations.len()).sum();
            let _ = writeln!(text, "| {} | {} | {slowest} | {count} | {stalled} |", workload.what, peer.name);
        }
    }
    text
}

fn errors(all: &[Measured]) -> String {
    let mut text = String::new();
    for it in all.iter().filter(|it| !it.run.errors.is_empty()) {
        let (count, first) = (it.run.errors.len(), &it.run.errors[0]);
        let _ = writeln!(text, "- {}, {}, round {}: {count} errors, first {first}", it.workload, it.peer, it.round + 1);
    }
    if !text.is_empty() {
        text.insert_str(0, "\nRuns without a figure:\n\n");
    }
    text
}

/// Every figure of every run.
pub fn json(all: &[Measured], environment: &Environment, amounts: Amounts) -> Value {
    let runs = all.iter().map(|it| {
        let exchanges: BTreeMap<&str, Value> =
            it.run.exchanges.iter().map(|(what, all)| (*what, percentiles(all))).collect();
        json!({
            "workload": it.workload, "peer": it.peer, "round": it.round, "figures": it.run.figures,
            "exchanges_ms": exchanges, "errors": it.run.errors, "ended_without_close_notify": it.run.untidy,
        })
    });
    json!({
        "environment": environment.json(),
        "amounts": {
            "sessions": amounts.sessions, "idle": amounts.idle, "mebibytes": amounts.mebibytes,
            "round_trips": amounts.round_trips,
        },
        "runs": runs.collect::<Vec<_>>(),
    })
}

fn percentiles(durations: &[u64]) -> Value {
    let at = |part| millis(percentile(durations, part));
    json!({ "count": durations.len(), "p50": at(0.5), "p99": at(0.99), "max": at(1.0) })
}
