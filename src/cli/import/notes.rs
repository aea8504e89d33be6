//! What did not carry over: where it stood, and what to do about it.

use crate::config;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most notes that are listed; the rest are counted.
const MOST: usize = 500;

/// A line of an old file, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    file: Arc<str>,
    line: usize,
}

impl Place {
    /// A line of a file as it was named.
    pub(super) fn new(file: &Arc<str>, line: usize) -> Self {
        Self { file: Arc::clone(file), line }
    }

    /// The folder of that file.
    pub(super) fn folder(&self) -> PathBuf {
        super::reading::folder(Path::new(&*self.file))
    }
}

/// A file's name as places show it.
pub(super) fn shown(file: &Path) -> Arc<str> {
    if file == Path::new("-") { "standard input".into() } else { file.display().to_string().into() }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// All notes of one import, in the order in which they come up.
#[derive(Debug, Default)]
pub(super) struct Notes {
    left: Vec<String>,
    seen: BTreeSet<String>,
    more: usize,
    /// Settings that have no counterpart and need none, each named once.
    idle: Vec<String>,
}

impl Notes {
    /// Something that did not carry over: `what` as it stood there (short, without secrets), and what to do.
    pub(super) fn left(&mut self, place: &Place, what: &str, advice: impl fmt::Display) {
        self.push(format!("{place}: {}: {advice}", quoted(what)));
    }

    /// As [`Self::left`], about what stands nowhere.
    pub(super) fn missing(&mut self, advice: impl fmt::Display) {
        self.push(advice.to_string());
    }

    /// A setting that needs no counterpart.
    pub(super) fn idle(&mut self, place: &Place, name: &str) {
        let name = bounded(name, 40);
        if self.idle.len() < MOST && self.seen.insert(format!("idle {name}")) {
            self.idle.push(format!("{name} ({place})"));
        }
    }

    /// A setting that this import does not know.
    pub(super) fn unknown(&mut self, place: &Place, name: &str) {
        if self.seen.insert(format!("unknown {name}")) {
            self.left(place, name, "is not known here: if it mattered, look for its counterpart in `gatepost schema`");
        }
    }

    /// All of it, a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = self.left.clone();
        if self.more > 0 {
            lines.push(format!("and {} more of the kind", self.more));
        }
        if !self.idle.is_empty() {
            lines.push(format!("no counterpart, and none needed: {}", self.idle.join(", ")));
        }
        lines
    }

    fn push(&mut self, line: String) {
        if !self.seen.insert(line.clone()) {
        } else if self.left.len() < MOST {
            self.left.push(line);
        } else {
            self.more += 1;
        }
    }
}

/// A piece of an old file as it may stand in a note: one line, bounded, in backquotes.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", bounded(text, 100))
}

/// One line, cut where it is longer than so many characters.
fn bounded(text: &str, longest: usize) -> String {
    let mut line = config::one_line(&text.chars().take(longest).collect::<String>());
    if text.chars().nth(longest).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded_say_each_thing_once_and_stay_on_their_line() {
        let (mut notes, file) = (Notes::default(), shown(Path::new("old.conf")));
        for line in 0..600 {
            notes.left(&Place::new(&file, line), "a\nb", "write c");
            notes.left(&Place::new(&file, line), "a\nb", "write c");
            notes.idle(&Place::new(&file, line), "pid");
        }
        let lines = notes.lines();
        assert_eq!(lines.len(), MOST + 2);
        assert_eq!(lines[1], "old.conf:1: `a\\nb`: write c");
        assert_eq!(lines[MOST], "and 100 more of the kind");
        assert_eq!(lines[MOST + 1], "no counterpart, and none needed: pid (old.conf:0)");
    }
}
