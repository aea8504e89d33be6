//! SMTP and submission (RFC 5321, RFC 6409): before a login, at the backend, and after it.
//!
//! | file | what it is |
//! | --- | --- |
//! | `front` | the server half: greeting, EHLO, STARTTLS, AUTH; a stranger up to the first MAIL |
//! | `back` | the client half: greeting, EHLO or HELO, a login |
//! | `transaction` | the follower: every command and message between the two from then on |
//! | `data` | where a message ends, and what in it is not let through |
//! | `command`, `path` | a client's commands, and the addresses in them |
//! | `reply` | a backend's replies |
//! | `received` | the line that tells a backend of the client |
//! | `capability` | which of the backend's extensions a client is shown |
//! | `words` | what we say ourselves |
//!
//! The front:
//!
//! ```text
//!   220 ─→ Command ── AUTH ──→ Response ⇄ 334 ── the login is whole ──→ Deciding ── Accepted ─→ the follower
//!            │  ↑                                    Challenge: back to Response ┘  │
//!            │  └──────── Rejected, Unavailable, "*", bad base64 ───────────────────┘
//!            ├── STARTTLS ── nothing behind it ──→ Silent ── secured() ──→ Command, all forgotten
//!            │                  └ bytes behind it: closed without an answer
//!            └── MAIL, on `smtp`, behind EHLO or HELO ──→ DecidingMail ──→ the follower, or a refusal
//! ```
//!
//! The back:
//!
//! ```text
//!   Greeting ─ 220 → Ehlo ─ 250 ─────────→ Ready ── login() ──→ Auth ─ 235 → Accepted
//!                      └ 5yz → Helo ─ 250 ─┘ ↑                   │ ├ 334 → the script's next answer, or the client's
//!                                            └───────────────────┘ └ 5yz → Rejected; 4yz, or 5yz about the command → Unavailable
//! ```
//!
//! Where it is told to, it goes two ways more before it is ready, and comes back to Ehlo from each, with all forgotten that was
//! said before:
//!
//! ```text
//!   Ehlo ─ STARTTLS is listed → Upgrading ─ 220 → Handshake ── secured() ──→ Ehlo
//!   Ehlo ─ XCLIENT is listed → Introducing ─ 220 ─────────────────────────→ Ehlo
//! ```

mod back;
mod capability;
mod command;
mod data;
mod front;
mod path;
mod received;
mod reply;
mod transaction;
mod words;

pub use back::SmtpBack;
pub use capability::shown_extensions;
pub use data::{BareNewline, DataScanner, Scan};
pub use front::SmtpFront;
pub use path::Address;
pub use received::Received;
pub use reply::{ReplyReader, SmtpReply, is_farewell};
pub use transaction::{
    Envelope, MAX_OUTSTANDING, MAX_RECIPIENTS, Message, Over, Progress, Recipients, Refused, Stage, Transaction,
    TransactionSettings, Turn,
};

/// Writes the last words to a client.
pub(super) fn goodbye(goodbye: super::Goodbye, out: &mut bytes::BytesMut) {
    words::line(words::goodbye(goodbye), out);
}
