//! One thing found, and how much it weighs.

use serde::Serialize;

/// How much a finding weighs. `bad` makes the exit code 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Grade {
    /// As it should be.
    Ok,
    /// It works, for some badly, or not for long.
    Warn,
    /// Clients turn away, or somebody is in danger.
    Bad,
}

impl Grade {
    /// The word for people and programs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) grade: Grade,
    /// Names what was looked at, in one word; well or ill, it is the same.
    pub(super) code: &'static str,
    /// What is so, and where it is not well, what to do.
    pub(super) text: String,
}

impl Finding {
    pub(super) fn ok(code: &'static str, text: impl Into<String>) -> Self {
        Self { grade: Grade::Ok, code, text: text.into() }
    }

    pub(super) fn warn(code: &'static str, text: impl Into<String>) -> Self {
        Self { grade: Grade::Warn, code, text: text.into() }
    }

    pub(super) fn bad(code: &'static str, text: impl Into<String>) -> Self {
        Self { grade: Grade::Bad, code, text: text.into() }
    }
}
