//! The servers of `tests/real`.

#[path = "../real/servers/dovecot.rs"]
pub mod dovecot;
#[path = "../real/servers/known.rs"]
pub mod known;
#[path = "../real/servers/postfix.rs"]
pub mod postfix;
