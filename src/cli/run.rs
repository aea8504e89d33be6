//! `gatepost run`: from the command line to the end of the process.

use super::serving::Serving;
use super::source::{SourceArguments, hint_without_file, print_findings};
use super::{FAILED, FINE, REFUSED, say};
use crate::config::Finding;
use crate::policy::Policy;
use crate::server::privileges::{self, Identity};
use crate::server::{self, Bound};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Runs the gateway until it is told to end.
pub(super) fn run(arguments: SourceArguments) -> u8 {
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
    let bound = match server::bind::bind(&policy) {
        Ok(bound) => bound,
        Err(errors) => {
            for error in errors {
                say(error);
            }
            return FAILED;
        }
    };
    match begin(policy, warnings, bound, identity.as_ref(), descriptors, arguments) {
        Ok(()) => FINE,
        Err(error) => {
            say(format_args!("{error:#}"));
            FAILED
        }
    }
}

/// From here on as `runtime.user`. `told` are the warnings that were printed.
fn begin(
    policy: Policy,
    told: Vec<Finding>,
    bound: Bound,
    identity: Option<&Identity>,
    descriptors: u64,
    arguments: SourceArguments,
) -> anyhow::Result<()> {
    own_folder(&policy.state_dir, 0o700, identity)
        .map_err(|error| anyhow::anyhow!("state_dir {}: {error}", policy.state_dir.display()))?;
    if let Some(folder) = policy.admin.socket.as_deref().and_then(Path::parent)
        && let Err(error) = own_folder(folder, 0o755, identity)
    {
        say(format_args!("admin.socket: the folder {} cannot be made: {error}", folder.display()));
    }
    if let Some(identity) = identity {
        identity.assume()?;
    }
    let (observe, guard) = crate::observe::init(&policy.log).map_err(|error| match &policy.log.auth_log {
        Some(path) => anyhow::anyhow!("log.auth_log {}: {error}", path.display()),
        None => error.into(),
    })?;
    if let Some(identity) = identity {
        tracing::info!("running as {identity}");
    }
    if let Some(file) = arguments.file()
        && let Err(error) = std::fs::File::open(file)
    {
        tracing::warn!(
            "{}: cannot be read any more, and so not be reloaded, as the user of runtime.user: {error}",
            file.display()
        );
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if policy.runtime.workers > 0 {
        builder.worker_threads(policy.runtime.workers);
    }
    let runtime = builder.enable_all().build()?;
    let serving = Serving { policy, told, bound, observe, descriptors, source: Box::new(move || arguments.load()) };
    let result = runtime.block_on(serving.until_told_to_end(|| ()));
    // Sessions that would not end do not keep the process; the log is written to its end.
    runtime.shutdown_background();
    drop(guard);
    result
}

/// Makes a folder, and gives it to whom we become.
fn own_folder(path: &Path, mode: u32, identity: Option<&Identity>) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    // The folders above are not ours alone: whom we become must get through them.
    if let Some(above) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(above)?;
    }
    std::fs::DirBuilder::new().mode(mode).create(path)?;
    identity.map_or(Ok(()), |identity| identity.own(path))
}
