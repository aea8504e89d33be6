//! gatepost in front of real mail servers, asked by real mail programs: Dovecot, Postfix, Courier and popa3d behind it;
//! curl, Python's mail libraries, swaks, mbsync, fetchmail, openssl and HAProxy before it, nginx beside it. None of them was written here, so what they
//! agree on is what the protocols are.
//!
//! Every server is a private instance on a loopback address of its own with the standard ports, as root, in a directory that
//! goes away with it. `tests/run` installs what this needs; a server that is not there is a failed test, never a skipped one.
#![expect(unreachable_pub, reason = "a test binary exports nothing; `pub` says what a module offers to the others")]

mod authority;
mod clients;
mod command;
mod gatepost;
mod kept;
mod servers;

mod acme;
mod big_messages;
mod checked_elsewhere;
mod client_certificates;
mod connecting;
mod failures;
mod help_page;
mod imap_clients;
mod leftovers;
mod load_balancer;
mod outward;
mod plaintext_beside_tls;
mod pop3_clients;
mod probing;
mod relay_probe;
mod relaying;
mod routes;
mod stapling;
mod strangers;
mod submission_clients;
mod tls;
mod transparent;
mod tunnels;
mod webmail;
