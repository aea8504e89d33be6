//! What the gateway costs over time.

use crate::gateway::Cost;
use std::time::Duration;

/// One look.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Sample {
    pub seconds: f64,
    #[serde(flatten)]
    pub cost: Cost,
    /// Open at the gateway, by its own metric.
    pub open: u64,
    pub sessions: u64,
    pub accepted: u64,
    pub faults: u64,
}

impl Sample {
    /// Above the lines.
    pub const HEADER: &str = "    time   sessions  open    mails  faults   RSS KiB   Pss KiB  fds  threads";
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seconds, cost, open, sessions, accepted, faults } = self;
        let Cost { rss_kib, pss_kib, descriptors, threads } = cost;
        write!(
            f,
            "{seconds:>8.0} {sessions:>10} {open:>5} {accepted:>8} {faults:>7} {rss_kib:>9} {pss_kib:>9} {descriptors:>4} {threads:>8}"
        )
    }
}

/// The span of a number.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Span {
    pub min: u64,
    pub median: u64,
    pub max: u64,
}

/// The span of these; none of none.
pub fn span(values: impl Iterator<Item = u64>) -> Option<Span> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    Some(Span { min: *values.first()?, median: values[values.len() / 2], max: *values.last()? })
}

/// How far the resident memory may be above that of the first quarter in the last one: what an allocator keeps of bursts, and not
/// what grows with every session.
pub fn allowed_growth_kib(first: u64) -> u64 {
    (first / 4).max(8 * 1024)
}

/// A run shorter than this says nothing about growth.
pub const LONG_ENOUGH: Duration = Duration::from_secs(300);

/// The medians of the resident memory in the first and in the last quarter.
pub fn growth(samples: &[Sample]) -> Option<(u64, u64)> {
    let quarter = samples.len() / 4;
    let median = |samples: &[Sample]| span(samples.iter().map(|sample| sample.cost.rss_kib)).map(|span| span.median);
    Some((median(&samples[..quarter])?, median(&samples[samples.len() - quarter..])?))
}
