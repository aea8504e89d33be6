//! gatepost puts what is safe in front of mail servers that are not: TLS, access lists, login limits and a record of
//! every login attempt, before plaintext POP3, IMAP and SMTP servers that stay as they are.
//!
//! # The floors
//! A module uses the floors below its own, never one above, and inside a floor modules do not see each other.
//!
//! | floor | module | what it is |
//! | --- | --- | --- |
//! | 8 | [`cli`] | the commands |
//! | 7 | [`admin`], [`portal`] | metrics, health and control over HTTP · the help page, and a webmail behind it |
//! | 6 | [`server`] | the process: workers, doors, registry of sessions, reload, drain, sandbox |
//! | 5 | [`session`] | one connection: handshake → login → relay |
//! | 4 | [`gate`], [`route`], [`backend`] | may this happen? · to whom does this user belong? · the servers behind: dial, health, what they can do |
//! | 3 | [`config`], [`store`], [`observe`] | YAML → policy · counters and marks · events → log and metrics |
//! | 2 | [`policy`], [`tls`] | what the configuration means · certificates, private CA, SNI |
//! | 1 | [`proto`] | the mail protocols, sans-IO |
//!
//! # The life of a connection
//! `server/listener.rs` accepts, on the worker that will serve it → `session/mod.rs` `serve` → `session/handshake.rs` (PROXY header; may this address come in?
//! TLS) → `session/login.rs` (the front half speaks; `session/attempt.rs` at a login: gate, route, dial, the back half logs in, one
//! AUTH event) → `session/mailbox.rs` and `session/relay.rs`, or `session/submission.rs` → one `session.closed`.
//! A browser, on an `https` listener or by its ALPN on a mail port, goes by `session/visit.rs` to `portal/answer.rs`, and what comes
//! to a `tcp` listener by `session/tunnel.rs` to a server behind; both enter by `session/entrance.rs`.

pub mod admin;
pub mod backend;
pub mod cli;
pub mod config;
pub mod gate;
pub mod observe;
pub mod policy;
pub mod portal;
pub mod proto;
pub mod route;
pub mod server;
pub mod session;
pub mod store;
pub mod tls;
