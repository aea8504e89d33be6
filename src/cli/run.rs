//! `gatepost run`: from the command line to the end of the process.

use super::serving::Serving;
use super::source::{SourceArguments, hint_without_file, print_findings};
use super::{FAILED, FINE, REFUSED, say};
use crate::config::Finding;
use crate::policy::Policy;
use crate::server::privileges::{self, Identity};
use crate::server::{self, Bound, Workers};

/// Runs the gateway until it is told to end.
pub(super) fn run(arguments: SourceArguments) -> u8 {
    // Before anything secret is read. Where it fails the log says so, once there is one.
    let _ = privileges::forbid_dumps();
    let (policy, warnings) = match arguments.load_once_settled() {
        Ok(loaded) => loaded,
        Err(findings) => {
            match hint_without_file(&arguments) {
                Some(hint) => say(hint),
                None => print_findings(&findings),
            }
            return REFUSED;
        }
    };
    print_findings(&warnings);
    let identity = match privileges::identity(&policy.runtime) {
        Ok(identity) => identity,
        Err(error) => {
            say(error);
            return REFUSED;
        }
    };
    if let Some(Err(error)) = identity.as_ref().map(Identity::is_within_reach) {
        say(error);
        return REFUSED;
    }
    let descriptors = privileges::raise_descriptors();
    let workers = workers(&policy);
    let bound = match server::bind::bind(&policy, workers) {
        Ok(bound) => bound,
        Err(errors) => {
            for error in errors {
                say(error);
            }
            return FAILED;
        }
    };
    match begin(policy, warnings, (bound, workers), identity.as_ref(), descriptors, arguments) {
        Ok(()) => FINE,
        Err(error) => {
            say(format_args!("{error:#}"));
            FAILED
        }
    }
}

/// From here on as `runtime.user`, in the sandbox. `told` are the warnings that were printed.
fn begin(
    policy: Policy,
    told: Vec<Finding>,
    (mut bound, workers): (Bound, usize),
    identity: Option<&Identity>,
    descriptors: u64,
    arguments: SourceArguments,
) -> anyhow::Result<()> {
    let mut sandbox = server::confine(&policy, identity)?;
    if let Some(acme) = &mut bound.acme {
        acme.run_hooks_by(sandbox.take_helper());
    }
    let (observe, guard) = crate::observe::init(&policy.log).map_err(|error| match &policy.log.auth_log {
        Some(path) => anyhow::anyhow!("log.auth_log {}: {error}", path.display()),
        None => error.into(),
    })?;
    sandbox.say();
    if let Some(file) = arguments.file()
        && let Err(error) = std::fs::File::open(file)
    {
        tracing::warn!(
            "{}: cannot be read any more, and so not be reloaded, as the user of runtime.user: {error}",
            file.display()
        );
    }
    let (runtime, workers) = (server::runtime()?, Workers::start(workers)?);
    let reach = sandbox.reach();
    let source = Box::new(move || arguments.load(reach.clone()));
    let serving = Serving { policy, told, bound, observe, descriptors, source };
    runtime.spawn(sandbox.watch());
    let result = runtime.block_on(serving.until_told_to_end(&workers, || ()));
    // Sessions that would not end do not keep the process; the log is written to its end.
    workers.end();
    runtime.shutdown_background();
    drop(guard);
    result
}

/// How many threads serve. Asked before the sandbox closes: a container's share of the processors stands in files.
fn workers(policy: &Policy) -> usize {
    match policy.runtime.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        given => given,
    }
}
