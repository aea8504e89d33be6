//! Landlock: the files that stay open to the process, and nobody to signal.

use crate::policy::{LogPlace, Reach};
use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use std::path::Path;

/// The newest rights that are handled: those this was tried with. Older kernels handle what they have.
const NEWEST: ABI = ABI::V7;

/// What the C library reads to find a server's address (nsswitch.conf(5), resolv.conf(5), gai.conf(5), hosts(5)).
const NAMES: [&str; 9] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/networks",
    "/etc/mdns.allow",
];

/// Folders where resolvers keep what they change, and where the C library loads its modules from at the first look-up.
const NAME_FOLDERS: [&str; 8] = [
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/nscd",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
];

/// Read in passing: the module loader's index, random numbers, the process's own figures for the metrics, time zones, and whom
/// the system trusts, which a new configuration may ask for. Public, all of it.
const SYSTEM: [&str; 13] = [
    "/etc/ld.so.cache",
    "/dev/urandom",
    "/dev/random",
    "/proc/self",
    "/proc/stat",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/etc/ssl/certs",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/var/lib/ca-certificates",
];

/// The files that names are resolved with. Most stand in `/etc`, which is not let in for them.
pub(super) fn for_names() -> Reach {
    Reach::of_files(NAMES.iter().map(Path::new).filter(|path| path.exists()))
}

/// Closes everything but what is in reach.
pub(super) fn close(reach: &Reach, names: &Reach) -> Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::WriteFile | AccessFs::Truncate;
    let devices_and_programs = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock;
    let state = AccessFs::from_all(NEWEST) & !devices_and_programs;
    let mut rules =
        Ruleset::default().handle_access(AccessFs::from_all(NEWEST))?.scope(Scope::from_all(NEWEST))?.create()?;
    for folder in reach.read.iter().chain(&names.read) {
        rules = allow(rules, folder, read)?;
    }
    for file in reach.read_alone.iter().chain(&names.read_alone) {
        rules = allow(rules, &file.path, read)?;
    }
    for path in NAME_FOLDERS.iter().chain(&SYSTEM) {
        rules = allow(rules, Path::new(path), read)?;
    }
    rules = allow(rules, Path::new("/dev/null"), read | write)?;
    if let Some(folder) = &reach.state {
        rules = allow(rules, folder, state)?;
    }
    match &reach.log {
        Some(LogPlace::Folder(folder)) => rules = allow(rules, folder, write | AccessFs::MakeReg)?,
        Some(LogPlace::File(file)) => rules = allow(rules, file, write)?,
        None => {}
    }
    if let Some(folder) = &reach.socket {
        rules = allow(rules, folder, AccessFs::MakeSock | AccessFs::RemoveFile)?;
    }
    rules.restrict_self()
}

fn allow(rules: RulesetCreated, path: &Path, rights: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    // What is not there needs no right.
    let Ok(opened) = PathFd::new(path) else { return Ok(rules) };
    let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(NEWEST) };
    rules.add_rule(PathBeneath::new(opened, rights))
}

/// What this kernel's Landlock leaves open, in words; `None` when it closes everything.
pub(super) fn missing(status: &RestrictionStatus) -> Option<String> {
    missing_in(&status.ruleset, status.landlock)
}

fn missing_in(ruleset: &RulesetStatus, landlock: LandlockStatus) -> Option<String> {
    match (ruleset, landlock) {
        (RulesetStatus::FullyEnforced, _) => None,
        (_, LandlockStatus::NotImplemented) => {
            Some("it has no Landlock (Linux 5.13), or a filter around the process forbids it (container, systemd unit), so any file may be opened".to_owned())
        }
        (_, LandlockStatus::NotEnabled) => Some(
            "Landlock is not switched on (kernel command line: lsm=landlock,…), so any file may be opened".to_owned(),
        ),
        (RulesetStatus::NotEnforced, LandlockStatus::Available { .. }) => {
            Some("Landlock was not enforced, so any file may be opened".to_owned())
        }
        (RulesetStatus::PartiallyEnforced, LandlockStatus::Available { effective_abi, .. }) => {
            let later = [
                (ABI::V3, "truncating files (Linux 6.2)"),
                (ABI::V5, "control calls to devices (Linux 6.10)"),
                (ABI::V6, "signals to other processes and abstract sockets (Linux 6.12)"),
            ];
            let lacks: Vec<_> = later.iter().filter(|(abi, _)| effective_abi < *abi).map(|(_, what)| *what).collect();
            Some(format!(
                "its Landlock is of version {} and does not keep from {}",
                effective_abi as i32,
                lacks.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_lacks_is_named() {
        let available = |effective_abi| LandlockStatus::Available { effective_abi, kernel_abi: None };
        let rows = [
            (RulesetStatus::FullyEnforced, available(ABI::V7), None),
            (RulesetStatus::NotEnforced, LandlockStatus::NotImplemented, Some("no Landlock")),
            (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled, Some("lsm=landlock")),
            (RulesetStatus::PartiallyEnforced, available(ABI::V5), Some("version 5 and does not keep from signals")),
            (RulesetStatus::PartiallyEnforced, available(ABI::V1), Some("truncating files")),
        ];
        for (ruleset, landlock, wanted) in rows {
            let name = format!("{ruleset:?} {landlock:?}");
            let said = missing_in(&ruleset, landlock);
            match wanted {
                Some(words) => assert!(said.as_deref().is_some_and(|said| said.contains(words)), "{name}: {said:?}"),
                None => assert_eq!(said, None, "{name}"),
            }
        }
    }
}
