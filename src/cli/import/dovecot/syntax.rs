//! Dovecot's syntax: `key = value` and `name argument {` … `}`, a line each; `#` comments, `\` at the end joins the next
//! line, `!include`.

use super::super::ImportError;
use super::super::notes::{self, Notes, Place};
use super::super::reading::{self, DEEPEST, Reading};
use std::path::Path;

/// How deep blocks may stand in each other.
const DEEPEST_BLOCK: usize = 16;

/// A setting or a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Setting { key: String, value: String, place: Place },
    Block { name: String, argument: String, nodes: Vec<Node>, place: Place },
}

/// Reads a file with what it includes.
pub(super) fn load(file: &Path, reading: &mut Reading, notes: &mut Notes) -> Result<Vec<Node>, ImportError> {
    let mut open = vec![Open {
        name: String::new(),
        argument: String::new(),
        nodes: Vec::new(),
        place: Place::new(&notes::shown(file), 1),
    }];
    let text = reading.text(file)?;
    lines(&text, file, &mut open, reading, notes, 0)?;
    match (open.pop(), open.is_empty()) {
        (Some(whole), true) => Ok(whole.nodes),
        (Some(inner), false) => Err(ImportError::Syntax {
            place: inner.place,
            what: format!("the block {} is not closed", notes::quoted(&inner.name)),
        }),
        (None, _) => Ok(Vec::new()),
    }
}

/// A block whose end has not come.
struct Open {
    name: String,
    argument: String,
    nodes: Vec<Node>,
    place: Place,
}

/// Adds the lines of a file to the innermost open block.
fn lines(
    text: &str,
    file: &Path,
    open: &mut Vec<Open>,
    reading: &mut Reading,
    notes: &mut Notes,
    depth: usize,
) -> Result<(), ImportError> {
    let shown = notes::shown(file);
    let outer = open.len();
    let mut all = text.lines().enumerate();
    while let Some((index, first)) = all.next() {
        let place = Place::new(&shown, index + 1);
        let mut line = without_comment(first).to_owned();
        while line.ends_with('\\') {
            line.pop();
            let Some((_, next)) = all.next() else { break };
            line.push_str(without_comment(next).trim_start());
        }
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |what: String| Err(ImportError::Syntax { place: place.clone(), what });
        if let Some(rest) = line.strip_prefix('!') {
            include(rest, line, &place, file, open, reading, notes, depth)?;
        } else if line == "}" {
            if open.len() <= outer {
                return wrong("a `}` that closes nothing".to_owned());
            }
            close(open);
        } else if let Some(head) = line.strip_suffix('{').filter(|head| !head.contains('=')) {
            if open.len() > DEEPEST_BLOCK {
                return wrong("blocks stand in each other too deep".to_owned());
            }
            let head = head.trim();
            let (name, argument) = head.split_once(char::is_whitespace).unwrap_or((head, ""));
            open.push(Open { name: name.to_owned(), argument: unquoted(argument), nodes: Vec::new(), place });
        } else if let Some((key, value)) = line.split_once('=') {
            let setting = Node::Setting { key: key.trim().to_owned(), value: unquoted(value), place };
            if let Some(block) = open.last_mut() {
                block.nodes.push(setting);
            }
        } else {
            return wrong(format!("{} is neither KEY = VALUE nor NAME {{", notes::quoted(line)));
        }
    }
    if open.len() > outer {
        let name = open.last().map_or("", |block| block.name.as_str());
        return Err(ImportError::Syntax {
            place: Place::new(&shown, text.lines().count()),
            what: format!("the file ends inside the block {}: a `}}` is missing", notes::quoted(name)),
        });
    }
    Ok(())
}

fn close(open: &mut Vec<Open>) {
    let Some(Open { name, argument, nodes, place }) = open.pop() else { return };
    if let Some(block) = open.last_mut() {
        block.nodes.push(Node::Block { name, argument, nodes, place });
    }
}

#[expect(clippy::too_many_arguments, reason = "one step of the loop above")]
fn include(
    rest: &str,
    line: &str,
    place: &Place,
    file: &Path,
    open: &mut Vec<Open>,
    reading: &mut Reading,
    notes: &mut Notes,
    depth: usize,
) -> Result<(), ImportError> {
    let (word, pattern) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if !matches!(word, "include" | "include_try") {
        notes.left(place, line, "is not known here");
        return Ok(());
    }
    if depth == DEEPEST {
        notes.left(place, line, "files include each other too deep: this one was not read");
        return Ok(());
    }
    for path in reading::included(&reading::folder(file), &unquoted(pattern)) {
        match reading.text(&path) {
            Ok(text) => lines(&text, &path, open, reading, notes, depth + 1)?,
            Err(_) if word == "include_try" => {}
            Err(error) => {
                notes.left(place, line, format_args!("was not read: {error}: run the import where the file is"));
            }
        }
    }
    Ok(())
}

/// A line up to its comment: a `#` at its beginning or behind a blank, outside of quotes.
fn without_comment(line: &str) -> &str {
    let (mut in_quotes, mut before) = (false, ' ');
    for (at, c) in line.char_indices() {
        match c {
            '"' if before != '\\' => in_quotes = !in_quotes,
            '#' if !in_quotes && before.is_whitespace() => return line[..at].trim_end(),
            _ => {}
        }
        before = c;
    }
    line.trim_end()
}

fn unquoted(text: &str) -> String {
    let text = text.trim();
    match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inside) => inside.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => text.to_owned(),
    }
}

/// The settings of a block, by what they are called; the last of a name holds.
pub(super) fn setting<'a>(nodes: &'a [Node], name: &str) -> Option<(&'a str, &'a Place)> {
    nodes.iter().rev().find_map(|node| match node {
        Node::Setting { key, value, place } if key == name => Some((value.as_str(), place)),
        _ => None,
    })
}

/// The blocks of this name, with their arguments.
pub(super) fn blocks<'a>(nodes: &'a [Node], wanted: &'a str) -> impl Iterator<Item = (&'a str, &'a [Node], &'a Place)> {
    nodes.iter().filter_map(move |node| match node {
        Node::Block { name, argument, nodes, place } if name == wanted => {
            Some((argument.as_str(), nodes.as_slice(), place))
        }
        _ => None,
    })
}

/// A list that grows: `protocols = $protocols imap` adds to what was said before.
pub(super) fn list(nodes: &[Node], name: &str) -> Option<Vec<String>> {
    let itself = format!("${name}");
    let mut whole: Option<Vec<String>> = None;
    for node in nodes {
        let Node::Setting { key, value, .. } = node else { continue };
        if key != name {
            continue;
        }
        let before = whole.take().unwrap_or_default();
        let mut words = Vec::new();
        for word in value.split([' ', ',', '\t']).filter(|word| !word.is_empty()) {
            if *word == itself { words.extend(before.iter().cloned()) } else { words.push(word.to_owned()) }
        }
        whole = Some(words);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Node>, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("d.conf");
        std::fs::write(&file, text).expect("written");
        std::fs::write(dir.path().join("more.conf"), "e = f\n").expect("written");
        load(&file, &mut Reading::default(), &mut Notes::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_blocks_comments_and_includes() {
        let nodes = parsed("a = b # c\n!include more.conf\n!include_try none\nservice x {\n  g = \"h # i\"\n  l = 1 \\\n   2\n}\np = x\np = $p y\n").expect("good");
        assert_eq!(setting(&nodes, "a").map(|(value, _)| value), Some("b"));
        assert_eq!(setting(&nodes, "e").map(|(value, _)| value), Some("f"));
        let (argument, inside, place) = blocks(&nodes, "service").next().expect("a block");
        assert!(argument == "x" && place.to_string().ends_with("d.conf:4"));
        assert_eq!(setting(inside, "g").map(|(value, _)| value), Some("h # i"));
        assert_eq!(setting(inside, "l").map(|(value, _)| value), Some("1 2"));
        assert_eq!(list(&nodes, "p"), Some(vec!["x".to_owned(), "y".to_owned()]));
    }

    #[test]
    fn what_cannot_be_understood_has_a_place() {
        for (text, words) in [
            ("a\n", "d.conf:1: `a` is neither"),
            ("x {\n", "inside the block `x`"),
            ("}\n", "d.conf:1: a `}` that closes nothing"),
            (&"x {\n".repeat(100), "too deep"),
        ] {
            let said = parsed(text).expect_err(text);
            assert!(said.contains(words), "{said}");
        }
    }
}
