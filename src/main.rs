//! The gatepost program.

use std::alloc::System;
use std::process::ExitCode;
use zeroizing_alloc::ZeroAlloc;

/// Memory is overwritten when it is given back. Passwords pass through buffers of many owners (the TLS library's records,
/// the reader's input, the backend's output), and none of those is left behind for who reads memory later.
#[global_allocator]
static WIPED: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    gatepost::cli::main()
}
