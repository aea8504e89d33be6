//! The program as an operator and a supervisor meet it: exit codes, signals, files, users, descriptors, logs.
//!
//! Every test starts the built binary on loopback, with a folder of its own and a small old mail server behind it. What
//! has happened is read from the gateway's own log. Tests that want root say so: they pass over without it, and fail
//! where `CI=true`.

#![expect(unreachable_pub, reason = "a test binary exports nothing; `pub` says what a module offers to the others")]

mod careless;
mod client;
mod gateway;
mod old_server;
mod outcome;

mod certificates;
mod checking;
mod commands;
mod connecting;
mod customers;
mod descriptors;
mod ending;
mod help_page;
mod listening;
mod logs;
mod memory;
mod probing;
mod reloading;
mod sandbox;
mod starting;
mod tunnels;
mod users;
mod web_server;
mod webmail;
mod without_file;
