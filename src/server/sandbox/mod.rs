//! Gives up, at start and for good, what the process will not need: root, other people's files, programs.
//!
//! ```text
//!   sockets bound ─ confine ─┬─ folders made ─ runtime.user ─ tls.acme.hook's helper ─ Landlock ─ seccomp ─┬─ log, runtime, every other thread
//!                            │        root                     [another process]      [files]   [calls]     │
//! ```
//!
//! The kernel binds the thread that asks and what it starts, so all of it comes before there is a second one. What the
//! kernel does not have is left out and told; the gateway runs without it.

mod calls;
mod files;

use super::acme::Helper;
use super::privileges::{self, Identity, PrivilegeError};
use crate::policy::{AcmeChallenge, ClientAddress, LoneFile, Policy, Reach};
use landlock::RulesetStatus;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether a file that is let in alone was replaced.
const LOOK: Duration = Duration::from_secs(5);

/// A process that has given up what it does not need.
#[derive(Debug)]
pub struct Sandbox {
    /// The files that are left; `None`: no sandbox.
    reach: Option<Arc<Reach>>,
    /// Files let in by what they are, not by where: the operator's, and those that names are resolved with.
    lone: BTreeSet<LoneFile>,
    /// What there is to say, once there is a log.
    said: Vec<(tracing::Level, String)>,
    /// The process that runs `tls.acme.hook`, if there is one to run.
    helper: Option<Helper>,
    /// Keeps `/proc/self` the same file: the kernel may forget and make anew what nobody holds, and the right with it.
    _own_process: Option<std::fs::File>,
}

/// Why the process cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The folder of the state cannot be made.
    #[error("state_dir {}: {error}", .path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Root would stay.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// No process for the hook can be started.
    #[error("tls.acme.hook: the process that is to run it cannot be started (/proc/self/exe): {0}")]
    Helper(io::Error),
}

/// Makes the folders that are ours, becomes `runtime.user`, and closes the sandbox if the policy wants one. Must run
/// while the process has one thread. What the log will say comes along in the [`Sandbox`].
///
/// # Errors
/// [`ConfineError`]; the process must not go on then.
pub fn confine(policy: &Policy, identity: Option<&Identity>) -> Result<Sandbox, ConfineError> {
    let mut sandbox =
        Sandbox { reach: None, lone: BTreeSet::new(), said: Vec::new(), helper: None, _own_process: None };
    own_folder(&policy.state_dir, 0o700, identity)
        .map_err(|error| ConfineError::State { path: policy.state_dir.clone(), error })?;
    if let Some(folder) = policy.admin.socket.as_deref().and_then(Path::parent)
        && let Err(error) = own_folder(folder, 0o755, identity)
    {
        sandbox.warn(format!("admin.socket: the folder {} cannot be made: {error}", folder.display()));
    }
    if let Some(identity) = identity {
        let dials_as_clients =
            policy.backends.values().any(|backend| backend.client_address == ClientAddress::Transparent);
        identity.assume(dials_as_clients)?;
        sandbox.said.push((tracing::Level::INFO, format!("running as {identity}")));
    }
    // Becoming somebody else sets it anew, to what the machine's fs.suid_dumpable says.
    if let Err(error) = privileges::forbid_dumps() {
        sandbox.warn(format!("core dumps, which would hold passwords, cannot be forbidden: {error}"));
    }
    if let Some(AcmeChallenge::Dns01(hook)) = policy.tls.acme.as_ref().map(|acme| &acme.challenge) {
        sandbox.helper = Some(Helper::start(hook).map_err(ConfineError::Helper)?);
    }
    if policy.runtime.sandbox {
        sandbox.close(policy);
    } else {
        let off = "runtime.sandbox is off: the process may open files and start programs as its user may";
        sandbox.said.push((tracing::Level::INFO, off.to_owned()));
    }
    Ok(sandbox)
}

impl Sandbox {
    fn close(&mut self, policy: &Policy) {
        let (reach, names) = (Reach::of(policy), files::for_names());
        self._own_process = std::fs::File::open("/proc/self").ok();
        let mut missing = Vec::new();
        let is_closed = match files::close(&reach, &names) {
            Ok(status) => {
                missing.extend(files::missing(&status));
                status.ruleset != RulesetStatus::NotEnforced
            }
            Err(error) => {
                missing.push(format!("Landlock failed, so any file may be opened: {error}"));
                false
            }
        };
        if let Err(error) = calls::close() {
            missing.push(format!("seccomp failed, so any system call may be made: {error}"));
        }
        if missing.is_empty() {
            let whole = "in its sandbox: files by Landlock, system calls by seccomp";
            self.said.push((tracing::Level::INFO, whole.to_owned()));
        } else {
            self.warn(format!("the sandbox is not whole on this kernel: {}", missing.join("; ")));
        }
        if !is_closed {
            return;
        }
        for file in &reach.read_alone {
            self.warn(format!(
                "{} lies in a folder that is not the gateway's alone: a new file in its place is not seen without a restart; give it a folder of its own",
                file.path.display()
            ));
        }
        self.lone = reach.read_alone.union(&names.read_alone).cloned().collect();
        self.reach = Some(Arc::new(reach));
    }

    fn warn(&mut self, words: String) {
        self.said.push((tracing::Level::WARN, words));
    }

    /// The process outside of it that runs `tls.acme.hook`, if the policy has one; once.
    pub fn take_helper(&mut self) -> Option<Helper> {
        self.helper.take()
    }

    /// The files that are left to the process; `None`: all of them.
    pub fn reach(&self) -> Option<Arc<Reach>> {
        self.reach.clone()
    }

    /// Says in the log how it went.
    pub fn say(&self) {
        for (level, words) in &self.said {
            match *level {
                tracing::Level::WARN => tracing::warn!("{words}"),
                _ => tracing::info!("{words}"),
            }
        }
    }

    /// Looks from time to time whether a file was replaced whose successor cannot be read, and says so once. Never ends.
    pub async fn watch(mut self) {
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            ticks.tick().await;
            let looked = tokio::task::spawn_blocking(move || {
                self.lone.retain(|file| {
                    let stays = file.is_still_there() || !file.path.exists();
                    if !stays {
                        tracing::warn!(
                            "{} was replaced: the sandbox lets in the file that was there at the start alone, and reading the new one needs a restart",
                            file.path.display()
                        );
                    }
                    stays
                });
                self
            });
            match looked.await {
                Ok(sandbox) => self = sandbox,
                Err(_) => return,
            }
        }
    }
}

/// Makes a folder, and gives it to whom we become.
fn own_folder(path: &Path, mode: u32, identity: Option<&Identity>) -> io::Result<()> {
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
