//! POP3 until a login succeeds (RFC 1939, 2449, 2595, 3206, 5034, 6856).
//!
//! `front` is the server a client meets, `back` the client a server meets. `command` reads what a client may say,
//! `words` holds what it hears, `reply` reads what a server says, and `capability` is about CAPA on both sides.
//!
//! ```text
//!  front                                            back
//!    greet ── +OK [<stamp>]                           +OK greeting ──> CAPA ──> Ready
//!      │                                                -ERR: turned away      │ login()
//!      v                STLS ──> StartTls ─ secured()                          │
//!   command <───────────────────────────┘             ┌─ USER ─ +OK ─> PASS ───┤
//!      │ USER x   the name is kept, always +OK        ├─ APOP ─────────────────┤
//!      │ PASS y ─────────────┐                        └─ AUTH ─ + ─> response ─┤
//!      │ APOP ───────────────┤                              ^  │ +             │
//!      │ AUTH ──> exchange ──┤ Login, Respond               │  v               v
//!      │            ^        v                      respond()  Challenge    verdict
//!      │            └── verdict: answer()                             +OK: Accepted
//!      └─────<───────────────┘                                       -ERR: Rejected, Unavailable; login() again
//! ```
//!
//! What RFC 6856 lets a client say before its login, UTF8 and LANG, would have to reach a backend that is not yet
//! dialled: both are hidden from CAPA and answered with `-ERR`, which that RFC has clients ready for. LANG is open
//! again after the login.

mod back;
mod capability;
mod command;
mod front;
mod reply;
#[cfg(test)]
mod tests;
mod words;

pub use back::Pop3Back;
pub use front::Pop3Front;
