//! `gatepost demo`: the whole thing on one machine with nothing to set up.
//!
//! [`server`] is the old plaintext mail server the gateway is put in front of, [`words`] what is
//! printed when both are up.

pub mod server;
pub mod words;
