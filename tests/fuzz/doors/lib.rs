//! What must hold for every input, as ordinary functions: one door a machine, each with a plain oracle where there is one.
//!
//! A door takes bytes and panics where a property is broken. The fuzz targets hand it what libFuzzer makes up, the
//! property tests (`tests/properties`) what proptest makes up, so that both always mean the same. [`Input`] says how
//! the bytes are laid out.

pub mod access_list;
pub mod back;
pub mod config;
pub mod data;
pub mod front;
mod input;
pub mod introduction;
pub mod outlook;
pub mod proxy_header;
pub mod replies;
pub mod sasl;
pub mod tls_hello;
pub mod transaction;
mod wire;

/// Takes an input, and panics if something does not hold.
pub type Door = fn(&[u8]);

/// Every door, by the name of its fuzz target.
pub const DOORS: [(&str, Door); 16] = [
    ("access_list", access_list::door),
    ("config", config::door),
    ("data", data::door),
    ("imap_back", back::imap),
    ("imap_front", front::imap),
    ("introduction", introduction::door),
    ("outlook", outlook::door),
    ("pop3_back", back::pop3),
    ("pop3_front", front::pop3),
    ("proxy_header", proxy_header::door),
    ("replies", replies::door),
    ("sasl", sasl::door),
    ("smtp_back", back::smtp),
    ("smtp_front", front::smtp),
    ("tls_hello", tls_hello::door),
    ("transaction", transaction::door),
];

pub use input::{Cuts, Dice, HEADER, Input, PAUSE};
