//! `${NAME}`, `${NAME:-default}`, `${file:PATH}` and `$$` inside the values of a file.
//!
//! Values are expanded after the YAML is parsed: whatever a variable holds, it cannot add a key or a line.

use super::finding::quoted;
use super::reader::Fault;
use super::tree::{Node, Scalar};
use crate::policy::Reach;
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The variables a configuration may name, and the files.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: HashMap<String, String>,
    /// What a sandbox leaves; `None`: everything.
    reach: Option<Arc<Reach>>,
}

impl Environment {
    /// The variables of this process. One that is not UTF-8 counts as not set.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The same for a process in its sandbox: a file that it cannot reach is told as what it is, for "Permission
    /// denied" would send the operator to the file's mode.
    #[must_use]
    pub fn within(mut self, reach: Option<Arc<Reach>>) -> Self {
        self.reach = reach;
        self
    }

    /// Says why a file cannot be read that lies outside the sandbox.
    pub(super) fn why_out_of_reach(&self, file: &Path) -> Option<String> {
        self.reach.as_ref().filter(|reach| !reach.reads(file)).map(|_| NEEDS_RESTART.to_owned())
    }

    /// What a sandbox leaves; `None`: everything.
    pub(super) fn reach(&self) -> Option<&Reach> {
        self.reach.as_deref()
    }
}

/// Said of a path that a reload names and the running process cannot reach.
pub(super) const NEEDS_RESTART: &str =
    "needs a restart: the running gateway's sandbox ends before it (runtime.sandbox)";

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self { variables: variables.into_iter().collect(), reach: None }
    }
}

/// The largest file `${file:PATH}` takes, in octets.
const LARGEST: u64 = 64 * 1024;

/// What stands around the values: variables, and the directory that relative paths start from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) environment: &'a Environment,
    pub(super) directory: &'a Path,
}

/// Expands every scalar of a tree. What cannot be expanded is reported with its path and taken out. `files` gets the
/// files that values were read from.
pub(super) fn expand(tree: &mut Node, around: Surroundings<'_>, files: &mut Vec<PathBuf>) -> Vec<Fault> {
    let mut faults = Vec::new();
    expand_below(tree, around, &mut Vec::new(), &mut faults, files);
    for fault in &faults {
        tree.prune(&fault.path);
    }
    faults
}

fn expand_below(
    node: &mut Node,
    around: Surroundings<'_>,
    path: &mut Vec<usize>,
    faults: &mut Vec<Fault>,
    files: &mut Vec<PathBuf>,
) {
    match node {
        Node::Null => {}
        Node::Scalar(scalar) => match expanded(&scalar.text, around, files) {
            Ok(text) => scalar.text = text,
            Err(message) => faults.push(Fault { path: path.clone(), ..Fault::new(message) }),
        },
        Node::List(items) | Node::Map(items) => {
            for item in items {
                path.push(item.position);
                expand_below(&mut item.value, around, path, faults, files);
                path.pop();
            }
        }
    }
}

/// One value with everything in it expanded; what comes in is not expanded again.
fn expanded(text: &str, around: Surroundings<'_>, files: &mut Vec<PathBuf>) -> Result<String, String> {
    let (mut done, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix('$') {
            done.push('$');
            rest = behind;
        } else if let Some(inside) = rest.strip_prefix('{') {
            let end = inside.find('}').ok_or_else(|| format!("{} has `${{` without `}}`", quoted(text)))?;
            done.push_str(&value(&inside[..end], around, files)?);
            rest = &inside[end + 1..];
        } else {
            return Err(format!(
                "{} has a `$` that means nothing: write ${{NAME}} for a variable, $$ for a dollar",
                quoted(text)
            ));
        }
    }
    done.push_str(rest);
    Ok(done)
}

fn value(inside: &str, around: Surroundings<'_>, files: &mut Vec<PathBuf>) -> Result<String, String> {
    if let Some(path) = inside.strip_prefix("file:") {
        let path = around.directory.join(path);
        let read = match around.environment.why_out_of_reach(&path) {
            Some(why) => Err(why),
            None => content(&path),
        };
        files.push(path);
        return read.map_err(|why| format!("${{{inside}}}: the file cannot be read: {why}"));
    }
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.is_empty();
    if !is_name {
        return Err(format!(
            "{} is not understood: write ${{NAME}}, ${{NAME:-default}} or ${{file:PATH}}",
            quoted(&format!("${{{inside}}}"))
        ));
    }
    match (around.environment.variables.get(name), default) {
        // As in a shell, `:-` stands in for a variable that is empty, too.
        (Some(set), None) => Ok(set.clone()),
        (Some(set), Some(_)) if !set.is_empty() => Ok(set.clone()),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            Err(format!("${{{name}}} is not set in the environment: set it, or write ${{{name}:-default}}"))
        }
    }
}

fn content(path: &PathBuf) -> Result<String, String> {
    let read = || -> std::io::Result<String> {
        if !std::fs::metadata(path)?.is_file() {
            return Err(std::io::Error::other("it is not a regular file"));
        }
        let mut text = String::new();
        std::fs::File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
        if text.len() as u64 > LARGEST {
            return Err(std::io::Error::other("it is larger than 64 KiB"));
        }
        Ok(text)
    };
    let mut text = read().map_err(|error| super::value::io_words(&error))?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

impl Scalar {
    /// The word it says: an unquoted `false` says `off`, which is what YAML's older half made of `off`.
    pub(super) fn word(&self) -> &str {
        if self.is_false { "off" } else { &self.text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_expands_and_nothing_expands_twice() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("port"), "993\n\n").expect("written");
        let environment: Environment = [("HOST", "10.0.0.5"), ("EMPTY", ""), ("TRICK", "${HOST}\nadmin: {}")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into_iter()
            .collect();
        let around = Surroundings { environment: &environment, directory: dir.path() };
        let cases = [
            ("${HOST}:143", Ok("10.0.0.5:143")),
            ("${NONE:-a:-b}", Ok("a:-b")),
            ("${EMPTY:-x}", Ok("x")),
            ("a${EMPTY}b", Ok("ab")),
            ("${file:port}", Ok("993\n")),
            ("$${HOST} costs 5$$", Ok("${HOST} costs 5$")),
            ("${TRICK}", Ok("${HOST}\nadmin: {}")),
            ("${NONE}", Err("not set")),
            ("${file:none}", Err("cannot be read")),
            ("${file:.}", Err("not a regular file")),
            ("${HOST", Err("without `}`")),
            ("${}", Err("not understood")),
            ("${A B}", Err("not understood")),
            ("$HOST", Err("means nothing")),
            ("5$", Err("means nothing")),
        ];
        for (text, expected) in cases {
            match (expanded(text, around, &mut Vec::new()), expected) {
                (Ok(got), Ok(wanted)) => assert_eq!(got, wanted, "{text}"),
                (Err(got), Err(wanted)) => assert!(got.contains(wanted), "{text}: {got}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }
}
