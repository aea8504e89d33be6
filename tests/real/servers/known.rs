//! What every server here knows, and how it shows that it is up.

use crate::kept::{Kept, until};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The user every server knows.
pub const JOE: (&str, &str) = ("joe", "secret");

/// A user whose password holds what is special in one of the protocols, in formats, in shells or in no 7-bit alphabet.
pub const ODD: (&str, &str) = ("odd", r#"p "q" \w%s%n {5} (x) üß€ $HOME * &-"#);

/// A user whose login name is an address.
pub const MARY: (&str, &str) = ("mary@example.net", "secret");

/// A user whose password no log may show.
pub const DISCREET: (&str, &str) = ("discreet", "Rosebud-77");

/// Waits until the server at `address` greets with `greeting`; `kept` tells what went wrong if it never does.
pub fn greeted(address: SocketAddr, greeting: &str, kept: &Kept) {
    let said = std::panic::AssertUnwindSafe(|| {
        until(&format!("a greeting from {address}"), || first_line(address).filter(|line| line.starts_with(greeting)))
    });
    if let Err(panic) = std::panic::catch_unwind(said) {
        eprintln!("the server at {address} said:\n{}", kept.said());
        std::panic::resume_unwind(panic);
    }
}

/// The first line that a server says, if it says one.
pub fn first_line(address: SocketAddr) -> Option<String> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line)
}
