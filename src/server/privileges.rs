//! What the process may have and may do: descriptors raised, dumps forbidden, root dropped.

use crate::policy::Runtime;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Group, Uid, User, initgroups, setgid, setgroups, setuid};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use std::fmt;

/// Raises the bound on descriptors as far as it goes, and says how many there may be.
pub fn raise_descriptors() -> u64 {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(_) => soft,
        },
        Ok((soft, _)) => soft,
        // Every Unix has had at least these.
        Err(_) => 256,
    }
}

/// Keeps the process's memory, in which passwords pass, out of core dumps and from other processes of the same user:
/// no core file, no handler that is sent one, no `ptrace`, no `/proc/PID/mem`.
///
/// # Errors
/// The system's.
pub fn forbid_dumps() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    nix::sys::prctl::set_dumpable(false)
}

/// Why privileges could not be dropped.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// No such user.
    #[error("runtime.user: there is no user {0:?} on this host; create it with `useradd --system {0}`")]
    NoUser(String),
    /// No such group.
    #[error("runtime.group: there is no group {0:?} on this host; create it with `groupadd --system {0}`")]
    NoGroup(String),
    /// Not root, and not that user.
    #[error(
        "runtime.user: only root can become {0:?}; start as root, or leave runtime.user out and start as that user"
    )]
    NotRoot(String),
    /// The system refused.
    #[error("cannot drop privileges ({step}): {error}")]
    System {
        /// Which call.
        step: &'static str,
        /// What it said.
        error: nix::errno::Errno,
    },
}

/// Whom the process becomes.
#[derive(Debug, Clone)]
pub struct Identity {
    user: User,
    group: Group,
}

/// Looks up `runtime.user` and `runtime.group`; `None` when nobody is to be become.
///
/// # Errors
/// [`PrivilegeError`] for names this host does not know.
pub fn identity(runtime: &Runtime) -> Result<Option<Identity>, PrivilegeError> {
    let Some(name) = &runtime.user else { return Ok(None) };
    let look = |step| move |error| PrivilegeError::System { step, error };
    let user = match name.parse() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(name),
    }
    .map_err(look("looking up the user"))?
    .ok_or_else(|| PrivilegeError::NoUser(name.clone()))?;
    let group = match &runtime.group {
        Some(name) => match name.parse() {
            Ok(gid) => Group::from_gid(Gid::from_raw(gid)),
            Err(_) => Group::from_name(name),
        }
        .map_err(look("looking up the group"))?
        .ok_or_else(|| PrivilegeError::NoGroup(name.clone()))?,
        None => Group::from_gid(user.gid)
            .map_err(look("looking up the group"))?
            .ok_or_else(|| PrivilegeError::NoGroup(user.gid.to_string()))?,
    };
    Ok(Some(Identity { user, group }))
}

impl Identity {
    /// Whether this process can become that user at all.
    ///
    /// # Errors
    /// [`PrivilegeError::NotRoot`].
    pub fn is_within_reach(&self) -> Result<(), PrivilegeError> {
        let ourselves = Uid::effective();
        if ourselves.is_root() || ourselves == self.user.uid {
            Ok(())
        } else {
            Err(PrivilegeError::NotRoot(self.user.name.clone()))
        }
    }

    /// Gives a file or folder of ours to whom we become, so that it can be written afterwards.
    ///
    /// # Errors
    /// The system's.
    pub fn own(&self, path: &std::path::Path) -> std::io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.user.uid.as_raw()), Some(self.group.gid.as_raw()))
    }

    /// Becomes that user, for good. Must run while the process has one thread. Of root's capabilities none is kept but, if
    /// `dials_as_clients`, the smaller of the two that let one dial from an address that is not this host's.
    ///
    /// # Errors
    /// [`PrivilegeError`]; the process must not go on then.
    pub fn assume(&self, dials_as_clients: bool) -> Result<(), PrivilegeError> {
        self.is_within_reach()?;
        if Uid::effective() == self.user.uid {
            return Ok(());
        }
        let fail = |step| move |error| PrivilegeError::System { step, error };
        match std::ffi::CString::new(self.user.name.as_str()) {
            Ok(name) => initgroups(&name, self.group.gid).map_err(fail("initgroups"))?,
            Err(_) => setgroups(&[self.group.gid]).map_err(fail("setgroups"))?,
        }
        setgid(self.group.gid).map_err(fail("setgid"))?;
        nix::sys::prctl::set_keepcaps(dials_as_clients).map_err(fail("PR_SET_KEEPCAPS"))?;
        setuid(self.user.uid).map_err(fail("setuid"))?;
        if dials_as_clients {
            keep_one_capability().map_err(|error| PrivilegeError::System {
                step: "keeping CAP_NET_RAW",
                error: nix::errno::Errno::from_raw(error.raw_os_error()),
            })?;
        }
        if setuid(Uid::from_raw(0)).is_ok() && !self.user.uid.is_root() {
            return Err(PrivilegeError::System { step: "root came back", error: nix::errno::Errno::EPERM });
        }
        Ok(())
    }
}

/// Keeps CAP_NET_RAW, or CAP_NET_ADMIN where there is only that, and gives up the others (capabilities(7), ip(7) on
/// IP_TRANSPARENT). With the first one could write packets of any kind, were raw sockets not refused by the sandbox; with the
/// second change the host's routes.
fn keep_one_capability() -> rustix::io::Result<()> {
    let permitted = capabilities(None)?.permitted;
    let wanted = [CapabilitySet::NET_RAW, CapabilitySet::NET_ADMIN];
    let kept = wanted.into_iter().find(|one| permitted.contains(*one)).unwrap_or(CapabilitySet::empty());
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user.name, self.group.name)
    }
}
