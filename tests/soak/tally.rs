//! How the sessions went.

use crate::clients::Behaviour;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// How one went.
pub enum Outcome {
    /// As it should.
    Well,
    /// A server behind was down, and the client heard so in the words it should hear.
    Disturbed(String),
    /// Anything else, with what was said.
    Failed(Vec<String>),
}

/// Those of one kind.
#[derive(Clone, Copy, Default, Debug, serde::Serialize)]
pub struct Row {
    pub sessions: u64,
    pub well: u64,
    pub disturbed: u64,
    pub failed: u64,
    pub longest_ms: u64,
}

/// All so far.
#[derive(Default)]
pub struct Tally(Mutex<Counted>);

/// What was counted.
#[derive(Clone, Default)]
pub struct Counted {
    pub rows: BTreeMap<Behaviour, Row>,
    /// What clients heard in foul weather.
    pub heard: BTreeMap<String, u64>,
    /// The first failures, with what was said.
    pub failures: Vec<Vec<String>>,
}

impl Tally {
    const SHOWN: usize = 12;
    const WORDS: usize = 60;

    pub fn add(&self, behaviour: Behaviour, took: Duration, outcome: Outcome) {
        let mut counted = self.0.lock().expect("nobody panics with it");
        let row = counted.rows.entry(behaviour).or_default();
        row.sessions += 1;
        row.longest_ms = row.longest_ms.max(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        match outcome {
            Outcome::Well => row.well += 1,
            Outcome::Disturbed(words) => {
                row.disturbed += 1;
                let words: String = words.chars().take(Self::WORDS).collect();
                let known = counted.heard.len() < 200 || counted.heard.contains_key(&words);
                *counted.heard.entry(if known { words } else { "something else".to_owned() }).or_default() += 1;
            }
            Outcome::Failed(lines) => {
                row.failed += 1;
                if counted.failures.len() < Self::SHOWN {
                    println!("FAILED {}", lines.first().map_or("", String::as_str));
                    counted.failures.push(lines);
                }
            }
        }
    }

    /// The sum of all kinds.
    pub fn sum(&self) -> Row {
        let mut sum = Row::default();
        for row in self.counted().rows.values() {
            sum.sessions += row.sessions;
            sum.well += row.well;
            sum.disturbed += row.disturbed;
            sum.failed += row.failed;
            sum.longest_ms = sum.longest_ms.max(row.longest_ms);
        }
        sum
    }

    pub fn counted(&self) -> Counted {
        self.0.lock().expect("nobody panics with it").clone()
    }
}
