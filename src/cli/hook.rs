//! `gatepost acme-hook`: the process that a gateway starts for `tls.acme.hook`. Nobody types this.

use super::{FAILED, FINE, MISUSED, say};
use crate::server::{self, HookCommand};
use std::ffi::OsString;
use std::io::ErrorKind;

/// What is run.
#[derive(Debug, clap::Args)]
pub(crate) struct HookArguments {
    /// How long a call may take
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    limit: std::time::Duration,
    /// The hook, with what stands before the arguments of each call
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    hook: Vec<OsString>,
}

/// Serves until the gateway ends.
pub(super) fn hook(arguments: HookArguments) -> u8 {
    let mut words = arguments.hook.into_iter();
    let program = words.next().unwrap_or_default().into();
    match server::run_hooks(&HookCommand { program, arguments: words.collect(), limit: arguments.limit }) {
        Ok(()) => FINE,
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOTSOCK) => {
            say("`gatepost run` starts this by itself, for tls.acme.hook");
            MISUSED
        }
        // The gateway went in the middle of a line: killed, say.
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => FINE,
        Err(error) => {
            say(format_args!("acme-hook: {error}"));
            FAILED
        }
    }
}
