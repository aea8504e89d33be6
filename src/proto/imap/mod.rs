//! IMAP before login (RFC 3501, RFC 9051): what a client may say until it is logged in, and how a backend is logged in to.
//!
//! ```text
//!            ImapFront                                              ImapBack
//!
//!        greet ──────▶ Command ◀───────────────────┐            Greeting ── no [CAPABILITY] ──▶ Asking
//!                      │  │  │                     │               │                             │
//!            STARTTLS ─┘  │  └─ AUTHENTICATE       │               └──────────▶ Idle ◀───────────┘
//!      (secured: anew)    │        │               │                     login │  ▲
//!                   LOGIN │     Responding ── * ───┤                           ▼  │ NO: Rejected, Unavailable
//!                         ▼        ▼   ▲           │                         Login ┘
//!                        Reported ─┘   │           │                           │ OK: Accepted
//!                         │    │       │           │                           ▼
//!                         │    └ Challenge         │                         Session: the rest is the relay's
//!                         ├─ Rejected, … ──────────┘
//!                         └─ Accepted ──▶ Over
//! ```
//!
//! `command` cuts commands and their literals out of the client's bytes, `capability` reads and writes capability
//! lists, `words` is what a client is told, and `reply` reads a backend's status lines.

mod back;
mod capability;
mod command;
mod front;
mod reply;
#[cfg(test)]
mod tests;
mod words;

pub use back::ImapBack;
pub use front::ImapFront;

/// Writes the last words to a client that is logged in.
pub(super) fn goodbye(goodbye: super::Goodbye, out: &mut bytes::BytesMut) {
    words::untagged(out, words::farewell(goodbye));
}

/// The number in an announcement of a literal at a line's end (RFC 3501 section 4.3, RFC 7888).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Literal {
    /// Where the `{` stands in the line.
    at: usize,
    /// Its octets; a number too large to count is as large as can be.
    size: usize,
    /// The sender waits for a continuation.
    synchronising: bool,
}

impl Literal {
    /// Finds `{n}` or `{n+}` at the end of a line (its line end cut off), whatever stands before it: a receiver that
    /// overlooks one takes the literal's octets for commands.
    fn at_end_of(line: &[u8]) -> Option<Self> {
        let inside = line.strip_suffix(b"}")?;
        let (number, synchronising) = match inside.strip_suffix(b"+") {
            Some(number) => (number, false),
            None => (inside, true),
        };
        let digits = number.iter().rev().take_while(|b| b.is_ascii_digit()).count();
        let (before, digits) = number.split_at(number.len() - digits);
        let at = before.len().checked_sub(1).filter(|&at| before[at] == b'{' && !digits.is_empty())?;
        let size =
            digits.iter().fold(0usize, |size, digit| size.saturating_mul(10).saturating_add(usize::from(digit - b'0')));
        Some(Self { at, size, synchronising })
    }
}
