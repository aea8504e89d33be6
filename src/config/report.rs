//! Collects findings, each with the place it is about.

use super::finding::{Finding, Place, Severity, one_line, quoted};
use super::reader::Fault;
use super::tree::{self, At, Node};
use std::collections::HashMap;
use std::fmt;

/// A node by the names on the way to it: `listeners.imaps.address[1]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Spot(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Item(usize),
}

impl Spot {
    /// A key at the top.
    pub(super) fn top(key: &str) -> Self {
        Self::default().key(key)
    }

    /// A key below this.
    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    /// An item of this list; of a single value written where a list may be, itself.
    pub(super) fn item(&self, index: usize) -> Self {
        self.with(Step::Item(index))
    }

    /// Whether it is this other one or below it.
    pub(super) fn is_below(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    fn with(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if index == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Item(number) => write!(f, "[{number}]")?,
            }
        }
        Ok(())
    }
}

/// A file as far as findings are about it.
#[derive(Debug)]
pub(super) struct Source {
    /// Its name in findings.
    pub(super) name: String,
    pub(super) text: String,
    /// As written.
    pub(super) whole: Node,
}

/// The most findings told; to find the place of each, the file is read once more.
const MOST_FINDINGS: usize = 200;

/// The findings so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    source: Option<Source>,
    /// What is left of the source's tree without the nodes at fault.
    tree: Option<Node>,
    faults: Vec<Fault>,
    /// What came from elsewhere than the source, by its spot, and what to call it.
    given: HashMap<String, &'static str>,
    findings: Vec<Finding>,
}

impl Report {
    /// About a file. Its faults are reported; what they took away is not called missing.
    pub(super) fn about(source: Source, tree: Node, faults: Vec<Fault>) -> Self {
        let mut report = Self { source: Some(source), tree: Some(tree), faults, ..Self::default() };
        for fault in std::mem::take(&mut report.faults) {
            report.fault(&fault);
            report.faults.push(fault);
        }
        report
    }

    /// Says that what stands at or below this spot was given on the command line or in the environment.
    pub(super) fn given(&mut self, spot: &Spot, by: &'static str) {
        self.given.insert(spot.to_string(), by);
    }

    /// Something that keeps the gateway from starting.
    pub(super) fn error(&mut self, spot: &Spot, message: impl fmt::Display) {
        self.add(Severity::Error, spot, message);
    }

    /// The same, where another look in a moment may find it gone.
    pub(super) fn passing(&mut self, spot: &Spot, message: impl fmt::Display) {
        self.add(Severity::Passing, spot, message);
    }

    /// Something that may not be meant.
    pub(super) fn warning(&mut self, spot: &Spot, message: impl fmt::Display) {
        self.add(Severity::Warning, spot, message);
    }

    /// Something that should stand below this spot does not. Not said if a fault is to blame, which is told already.
    pub(super) fn missing(&mut self, spot: &Spot, message: impl fmt::Display) {
        if !self.is_damaged(spot) {
            self.error(spot, message);
        }
    }

    /// A finding about another file than the configuration.
    pub(super) fn elsewhere(&mut self, place: Place, message: String) {
        self.push(Finding { severity: Severity::Error, place: Some(place), message });
    }

    /// Whether a fault took away something at or right below this spot.
    pub(super) fn is_damaged(&self, spot: &Spot) -> bool {
        let (path, whole) = self.resolve(spot);
        let absent = spot.0.get(path.len()).filter(|_| !whole);
        self.faults.iter().any(|fault| match absent {
            // The key is not there: is it there under a wrong name, or taken away with its value?
            Some(Step::Key(key)) => {
                fault.path.len() == path.len() + 1
                    && fault.path.starts_with(&path)
                    && (fault.meant == Some(key.as_str())
                        || self.key_of(&fault.path).is_some_and(|written| written == key))
            }
            _ => fault.path.starts_with(&path),
        })
    }

    /// Whether a key of this name was written there, in good order or not.
    pub(super) fn was_written(&self, spot: &Spot) -> bool {
        self.resolve(spot).1 || self.is_damaged(spot)
    }

    pub(super) fn has_errors(&self) -> bool {
        self.findings.iter().any(Finding::is_error)
    }

    /// Every finding, in the order of the file.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        self.findings.sort_by(|a, b| {
            let key = |finding: &Finding| finding.place.as_ref().map(|place| (place.line, place.column));
            let file = |finding: &Finding| finding.place.as_ref().map(|place| place.file.clone());
            let own = |finding: &Finding| file(finding) != self.source.as_ref().map(|source| source.name.clone());
            (own(a), file(a), key(a)).cmp(&(own(b), file(b), key(b)))
        });
        self.findings
    }

    fn add(&mut self, severity: Severity, spot: &Spot, message: impl fmt::Display) {
        if self.is_full(severity) {
            return;
        }
        let ways = (0..=spot.0.len()).rev().map(|length| Spot(spot.0[..length].to_vec()).to_string());
        let given = ways.filter_map(|way| self.given.get(&way)).next();
        let (what, place) = match given {
            Some(by) => ((*by).to_owned(), None),
            None => (spot.to_string(), self.place(spot)),
        };
        let message = if what.is_empty() { message.to_string() } else { format!("{what}: {message}") };
        self.push(Finding { severity, place, message });
    }

    fn fault(&mut self, fault: &Fault) {
        let Some(source) = &self.source else { return };
        let about = if fault.at == At::Key { &fault.path[..fault.path.len() - 1] } else { &fault.path[..] };
        let name = dotted(&source.whole, about);
        let message = if name.is_empty() { fault.message.clone() } else { format!("{name}: {}", fault.message) };
        let place = locate(source, &fault.path, fault.at);
        let message = one_line(&message);
        self.findings.push(Finding { severity: Severity::Error, place: Some(place), message });
    }

    fn push(&mut self, finding: Finding) {
        let finding = Finding { message: one_line(&finding.message), ..finding };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// Whether there is no room for another. An error always finds room if there is none yet: it decides.
    fn is_full(&self, severity: Severity) -> bool {
        self.findings.len() >= MOST_FINDINGS && (self.has_errors() || severity == Severity::Warning)
    }

    fn place(&self, spot: &Spot) -> Option<Place> {
        let source = self.source.as_ref()?;
        let (path, whole) = self.resolve(spot);
        Some(locate(source, &path, if whole { At::Value } else { At::Key }))
    }

    /// Positions as far as the steps lead, and whether they lead to the end.
    fn resolve(&self, spot: &Spot) -> (Vec<usize>, bool) {
        let mut path = Vec::new();
        let Some(mut node) = self.tree.as_ref() else { return (path, false) };
        for step in &spot.0 {
            let item = match (step, node) {
                (Step::Key(key), Node::Map(items)) => items.iter().find(|item| item.key == *key),
                (Step::Item(index), Node::List(items)) => items.get(*index),
                (Step::Item(0), Node::Scalar(_)) => continue,
                _ => None,
            };
            let Some(item) = item else { return (path, false) };
            path.push(item.position);
            node = &item.value;
        }
        (path, true)
    }

    fn key_of(&self, path: &[usize]) -> Option<&str> {
        let mut node = &self.source.as_ref()?.whole;
        let mut key = None;
        for position in path {
            let (Node::List(items) | Node::Map(items)) = node else { return None };
            let item = items.get(*position)?;
            key = Some(item.key.as_str());
            node = &item.value;
        }
        key
    }
}

/// Where a node is. One that is a mapping, a list or nothing is where its key is: its own first line may be another.
fn locate(source: &Source, path: &[usize], at: At) -> Place {
    let (mut node, mut has_key) = (&source.whole, false);
    for position in path {
        has_key = matches!(node, Node::Map(_));
        match node {
            Node::List(items) | Node::Map(items) if items.len() > *position => node = &items[*position].value,
            _ => break,
        }
    }
    let at = if has_key && !matches!(node, Node::Scalar(_)) { At::Key } else { at };
    let (line, column) = tree::place(&source.text, path, if has_key { at } else { At::Value });
    Place { file: source.name.clone(), line, column }
}

/// `listeners.imaps.address[1]` for positions.
fn dotted(tree: &Node, path: &[usize]) -> String {
    let (mut node, mut spot) = (tree, Spot::default());
    for position in path {
        match node {
            Node::Map(items) if items.len() > *position => {
                spot = spot.key(&items[*position].key);
                node = &items[*position].value;
            }
            Node::List(items) if items.len() > *position => {
                spot = spot.item(*position);
                node = &items[*position].value;
            }
            _ => break,
        }
    }
    spot.to_string()
}

/// Keys that stand twice in one mapping: the later ones are reported and taken out.
pub(super) fn duplicates(tree: &mut Node) -> Vec<Fault> {
    let mut faults = Vec::new();
    duplicates_below(tree, &mut Vec::new(), &mut faults);
    for fault in &faults {
        tree.prune(&fault.path);
    }
    faults
}

fn duplicates_below(node: &Node, path: &mut Vec<usize>, faults: &mut Vec<Fault>) {
    let (Node::List(items) | Node::Map(items)) = node else { return };
    let mut seen = std::collections::HashSet::new();
    for item in items {
        path.push(item.position);
        if matches!(node, Node::Map(_)) && !seen.insert(item.key.as_str()) {
            let message = format!("{} stands here twice: write it once", quoted(&item.key));
            faults.push(Fault { path: path.clone(), at: At::Key, message, meant: None });
        } else {
            duplicates_below(&item.value, path, faults);
        }
        path.pop();
    }
}
