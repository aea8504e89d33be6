//! The file as text, and what is said about a text that is not YAML.

use super::finding::{Finding, Place, Severity, one_line};
use super::tree::{self, NoTree, Node};
use super::value::io_words;
use std::fs;
use std::io::Read;
use std::path::Path;

/// The largest configuration, in octets.
const LARGEST: u64 = 1024 * 1024;

pub(super) fn read(path: &Path, name: &str) -> Result<String, Finding> {
    let alone = |message: String| Finding { severity: Severity::Error, place: None, message };
    let unreadable = |error: std::io::Error| alone(format!("{name} cannot be read: {}", io_words(&error)));
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(alone(format!("{name} cannot be read: it is not a regular file")));
    }
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(alone(format!("{name} is larger than 1 MiB: long lists belong into files (file:PATH)")));
    }
    text(bytes, name)
}

/// The bytes as text.
pub(super) fn text(bytes: Vec<u8>, name: &str) -> Result<String, Finding> {
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..good]);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        wrong(name, line, column, "the file is not UTF-8 here: save it as UTF-8".to_owned())
    })
}

pub(super) fn parse(text: &str, name: &str) -> Result<Node, Finding> {
    tree::parse(text).map_err(|NoTree { line, column, message }| {
        let second = text.lines().enumerate().filter(|(index, line)| *index > 0 && line.starts_with("---")).last();
        if let (tree::SECOND_DOCUMENT, Some((index, _))) = (message.as_str(), second) {
            return wrong(name, index + 1, 1, message);
        }
        // The parser notices what is missing only when something else comes: the cause is that line or the one before.
        let cause = (line.saturating_sub(1)..=line).rev().find_map(|number| {
            let content = number.checked_sub(1).and_then(|index| text.lines().nth(index))?;
            hint(content).map(|(column, hint)| (number, column, hint))
        });
        match cause {
            Some((line, column, hint)) => wrong(name, line, column, hint),
            None => wrong(name, line, column, message),
        }
    })
}

fn wrong(name: &str, line: usize, column: usize, message: String) -> Finding {
    let message = one_line(&message);
    Finding { severity: Severity::Error, place: Some(Place { file: name.to_owned(), line, column }), message }
}

/// What is most likely wrong with a line, from the mistakes that are made with addresses and tabs.
fn hint(line: &str) -> Option<(usize, String)> {
    let column = |at: usize| line[..at].chars().count() + 1;
    let content = line.trim_start();
    if let Some(at) = line[..line.len() - content.len()].find('\t') {
        return Some((column(at), "a tab stands in the indentation: YAML takes spaces only".to_owned()));
    }
    let code = line.split(" #").next().unwrap_or(line);
    let opening = code.match_indices('[').find_map(|(at, _)| {
        let quoted = code[..at].matches('"').count() % 2 == 1 || code[..at].matches('\'').count() % 2 == 1;
        let (inside, behind) = code[at + 1..].split_once(']')?;
        let is_address =
            inside.contains(':') && inside.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
        let end = behind.find([',', ' ', ']', '}']).unwrap_or(behind.len());
        (!quoted && is_address && behind.starts_with([':', '/'])).then(|| (at, &code[at..at + 2 + inside.len() + end]))
    });
    if let Some((at, address)) = opening {
        return Some((
            column(at),
            format!("`{address}` must stand in quotes, for YAML brackets are a list: write \"{address}\""),
        ));
    }
    // YAML's `key: value` cannot begin with another colon inside brackets or braces.
    let six = [": ::", "[::", ", ::", ",::"].iter().find_map(|before| {
        let at = code.find(before)? + before.len() - 2;
        let end = code[at..].find([',', ' ', ']', '}']).unwrap_or(code.len() - at);
        Some((at, &code[at..at + end]))
    });
    if let Some((at, address)) = six {
        return Some((column(at), format!("`{address}` must stand in quotes inside brackets: write \"{address}\"")));
    }
    let at = code
        .find("${")
        .filter(|at| code[..*at].trim_end().ends_with([':', '-', ',', '[']) && !code[..*at].contains(['"', '\'']))?;
    code.contains('{')
        .then(|| (column(at), "a value with ${…} inside brackets or braces must stand in quotes".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unquoted_address_gets_its_hint() {
        let cases = [
            ("a:\n  address: [::]:993\n", (2, 12), "\"[::]:993\""),
            ("a: {address: [2001:db8::1]:993, b: c}\n", (1, 14), "\"[2001:db8::1]:993\""),
            ("a:\n  - [::]:993\n  - x\n", (2, 5), "\"[::]:993\""),
            ("a: {b: [127.0.0.0/8, ::1]}\n", (1, 22), "\"::1\""),
            ("a:\n\tb: c\n", (2, 1), "a tab"),
            ("a: [b\nc: d\n", (2, 2), "not YAML"),
        ];
        for (text, place, words) in cases {
            let finding = parse(text, "f").expect_err(text);
            let at = finding.place.clone().expect("a place");
            assert!(finding.message.contains(words), "{text}: {finding}");
            assert_eq!((at.line, at.column), place, "{text}: {finding}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_placed() {
        let finding = text(b"a: b\n\xc3\xbc: \xff\n".to_vec(), "f").expect_err("not UTF-8");
        assert_eq!(finding.place.map(|at| (at.line, at.column)), Some((2, 4)));
    }
}
