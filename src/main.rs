//! The gatepost program.
fn main() {}
