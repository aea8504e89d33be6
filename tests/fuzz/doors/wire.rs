//! What goes over a wire, looked at plainly.

use std::fmt::Write as _;

/// Panics unless the bytes are whole lines, each ended by CRLF and without any other CR or LF, and without NUL.
pub(crate) fn assert_lines(bytes: &[u8], whose: &str) {
    assert!(bytes.is_empty() || bytes.ends_with(b"\r\n"), "{whose} does not end with a line: {}", bytes.escape_ascii());
    let count = |wanted: u8| bytes.iter().filter(|&&byte| byte == wanted).count();
    let ends = bytes.windows(2).filter(|pair| pair == b"\r\n").count();
    let apart = count(b'\r') != ends || count(b'\n') != ends;
    assert!(!apart && count(0) == 0, "{whose} holds a line that is none: {}", bytes.escape_ascii());
}

/// [`assert_lines`], and no control byte in them but a tab.
pub(crate) fn assert_words(bytes: &[u8], whose: &str) {
    assert_lines(bytes, whose);
    let fine = bytes.iter().all(|&byte| matches!(byte, b'\t' | b'\r' | b'\n') || !byte.is_ascii_control());
    assert!(fine, "{whose} holds a control byte: {}", bytes.escape_ascii());
}

/// Panics unless a peer's text is one printable line of at most `max` octets.
pub(crate) fn assert_harmless(text: &str, max: usize) {
    assert!(text.len() <= max, "{} octets of a peer's text", text.len());
    assert!(!text.contains(|c: char| c.is_control()), "a control character in {text:?}");
}

/// What was seen of a machine, in order: what it said, and what it reported. Said in one go or in several is the same.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Eq)]
enum Entry {
    Said(Vec<u8>),
    Did(String),
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Entry::Said(bytes) => write!(f, "> {}", bytes.escape_ascii()),
            Entry::Did(what) => write!(f, "= {what}"),
        }
    }
}

impl Log {
    pub(crate) fn said(&mut self, bytes: &[u8]) {
        match self.entries.last_mut() {
            _ if bytes.is_empty() => {}
            Some(Entry::Said(said)) => said.extend_from_slice(bytes),
            _ => self.entries.push(Entry::Said(bytes.to_vec())),
        }
    }

    pub(crate) fn did(&mut self, what: impl Into<String>) {
        self.entries.push(Entry::Did(what.into()));
    }

    /// The last that was done.
    pub(crate) fn last_did(&self) -> Option<&str> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Said(_) => None,
            Entry::Did(what) => Some(what.as_str()),
        })
    }

    /// How often something was done that begins like this.
    pub(crate) fn count(&self, beginning: &str) -> usize {
        let begins = |entry: &&Entry| matches!(entry, Entry::Did(what) if what.starts_with(beginning));
        self.entries.iter().filter(begins).count()
    }

    /// Panics, showing both, unless two runs went alike.
    pub(crate) fn assert_same(&self, other: &Self, cuts: impl std::fmt::Debug) {
        if self != other {
            let mut text = String::new();
            for (name, log) in [("in one piece", self), ("cut", other)] {
                let _ = writeln!(text, "{name}:");
                for entry in &log.entries {
                    let _ = writeln!(text, "  {entry:?}");
                }
            }
            panic!("cut like {cuts:?} the session goes another way\n{text}");
        }
    }
}
