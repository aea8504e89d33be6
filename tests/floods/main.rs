//! What a stranger can cost: the program under floods, guesses and clients that send whatever they like.
//!
//! Every test starts the built binary on loopback, and reads what it costs from `/proc`. The tests of this target want the
//! machine's ports, descriptors and processors for themselves, so they take turns ([`turn::take`]).

#![expect(unreachable_pub, reason = "a test binary exports nothing; `pub` says what a module offers to the others")]

#[expect(dead_code, reason = "shared with the other tests of the process")]
#[path = "../process/client.rs"]
mod client;
#[expect(dead_code, reason = "shared with the other tests of the process")]
#[path = "../process/gateway.rs"]
mod gateway;
#[path = "../process/old_server.rs"]
mod old_server;
#[expect(dead_code, reason = "shared with the other tests of the process")]
#[path = "../process/outcome.rs"]
mod outcome;

mod cost;
mod crowd;
mod hostile;
mod turn;

mod bounds;
mod floods;
mod guessing;
mod storms;
