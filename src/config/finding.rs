//! What is wrong with a configuration, and where.

use std::fmt;

/// One thing an operator should know about a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether it keeps the gateway from starting.
    pub severity: Severity,
    /// Where it is written; `None` for what comes from the command line or the environment.
    pub place: Option<Place>,
    /// What is wrong and what to write instead. One line.
    pub message: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is refused, and may be good in a moment: two files that belong together are being replaced one after the other.
    Passing,
    /// It runs, perhaps not as meant.
    Warning,
}

/// A position in a file, counted from 1; columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// As it was given, so that an editor finds it.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Finding {
    /// Whether it keeps the gateway from starting.
    pub fn is_error(&self) -> bool {
        self.severity != Severity::Warning
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { file, line, column }) = &self.place {
            write!(f, "{file}:{line}:{column}: ")?;
        }
        let severity = match self.severity {
            Severity::Error | Severity::Passing => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", self.message)
    }
}

/// A message in one line: a path or a name that the file has may hold a line break, or what moves a terminal's cursor.
pub(crate) fn one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for c in message.chars() {
        if c.is_control() { line.extend(c.escape_debug()) } else { line.push(c) }
    }
    line
}

/// A text as it may stand in a finding: one line, bounded, in backquotes.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    // `escape_debug` also escapes quotes, which stand in no need of it here.
    let short = short.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(LONGEST).is_some() { format!("`{short}…`") } else { format!("`{short}`") }
}
