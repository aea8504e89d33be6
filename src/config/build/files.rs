//! Files that the configuration names: where they are, and whether the user we become can read them.

use super::super::expand::{NEEDS_RESTART, Surroundings};
use super::super::finding::Place;
use super::super::report::{Report, Spot};
use super::super::value::{ListEntry, io_words};
use crate::policy::Reach;
use crate::policy::access::{AccessList, AddressSet, ListError, ListFile, Purpose};
use nix::unistd::{self, AccessFlags, Gid, Group, Uid, User};
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Looks at files as the user who will read them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    around: Surroundings<'a>,
    /// Whom we become, with all groups; `None`: we stay who we are.
    becomes: Option<(User, Vec<Gid>)>,
}

impl<'a> Reader<'a> {
    /// Relative paths begin at the directory of `around`. `user`: `runtime.user`.
    pub(super) fn new(around: Surroundings<'a>, name: Option<&str>) -> Self {
        let becomes = name.and_then(user).map(|user| {
            let all = CString::new(user.name.as_str()).ok().and_then(|name| unistd::getgrouplist(&name, user.gid).ok());
            let groups = all.unwrap_or_else(|| vec![user.gid]);
            (user, groups)
        });
        Self { around, becomes }
    }

    /// Where a path leads.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        self.around.directory.join(path)
    }

    /// The path of what is written as long as the process runs: one outside the sandbox goes into the report.
    pub(super) fn writable(
        &self,
        spot: &Spot,
        written: &Path,
        within: impl Fn(&Reach, &Path) -> bool,
        report: &mut Report,
    ) -> PathBuf {
        let path = self.path(written);
        if self.around.environment.reach().is_some_and(|reach| !within(reach, &path)) {
            report.error(spot, format_args!("`{}` {NEEDS_RESTART}", written.display()));
        }
        path
    }

    /// The path of a file that can be read; what is wrong with it goes into the report.
    pub(super) fn readable(&self, spot: &Spot, written: &Path, report: &mut Report) -> Option<PathBuf> {
        let path = self.path(written);
        match self.why_unreadable(&path) {
            None => Some(path),
            Some(why) => {
                report.error(spot, format_args!("`{}` cannot be read: {why}", written.display()));
                None
            }
        }
    }

    /// A list from a configuration's entries.
    pub(super) fn list(
        &self,
        spot: &Spot,
        entries: &[ListEntry],
        daemons: &Arc<[String]>,
        purpose: Purpose,
        report: &mut Report,
    ) -> Option<AccessList> {
        if entries.is_empty() {
            return None;
        }
        let (mut networks, mut files) = (Vec::new(), Vec::new());
        for (index, entry) in entries.iter().enumerate() {
            match entry {
                ListEntry::Network(network) => networks.push(*network),
                ListEntry::File(written) => {
                    files.extend(self.list_file(&spot.item(index), written, daemons, purpose, report));
                }
            }
        }
        Some(AccessList::new(AddressSet::from_iter(networks), files))
    }

    fn list_file(
        &self,
        spot: &Spot,
        written: &Path,
        daemons: &Arc<[String]>,
        purpose: Purpose,
        report: &mut Report,
    ) -> Option<ListFile> {
        let path = self.readable(spot, written, report)?;
        let file = path.display().to_string();
        match ListFile::open(path, daemons.clone(), purpose) {
            Ok(list) => return Some(list),
            Err(ListError::Unreadable(error)) => {
                report.error(spot, format_args!("`{}` cannot be read: {}", written.display(), io_words(&error)));
            }
            Err(ListError::Bad(lines)) => {
                for bad in lines {
                    let place = Place { file: file.clone(), line: bad.line, column: 1 };
                    report.elsewhere(place, bad.message);
                }
            }
        }
        None
    }

    /// Whether the user we become can start this program; what is against it goes into the report.
    pub(super) fn runnable(&self, spot: &Spot, program: &Path, report: &mut Report) -> bool {
        let why = self.why_unrunnable(program).or_else(|| self.why_others_decide(program));
        if let Some(why) = &why {
            report.error(spot, format_args!("`{}` cannot be run: {why}", program.display()));
        }
        why.is_none()
    }

    /// From what stands about it: in a sandbox it cannot be opened, and need not be.
    fn why_unrunnable(&self, program: &Path) -> Option<String> {
        let file = match fs::metadata(program) {
            Ok(file) => file,
            Err(error) => return Some(io_words(&error)),
        };
        if !file.is_file() {
            return Some("it is not a regular file".to_owned());
        }
        if file.mode() & 0o111 == 0 {
            return Some("it is not executable: chmod +x it".to_owned());
        }
        match self.becomes.as_ref().filter(|(user, _)| user.uid != Uid::effective()) {
            Some((user, groups)) => barrier_to(program, EXECUTE, user.uid, groups)
                .map(|barrier| format!("runtime.user `{}` has no permission at {}", user.name, barrier.display())),
            None => {
                unistd::access(program, AccessFlags::X_OK).err().map(|_| format!("no permission, as {}", ourselves()))
            }
        }
    }

    /// Whether somebody besides root and the user who runs it can change a program.
    fn why_others_decide(&self, program: &Path) -> Option<String> {
        let file = fs::metadata(program).ok()?;
        let runner = self.becomes.as_ref().map_or_else(Uid::effective, |(user, _)| user.uid);
        who_decides(file.mode(), Uid::from_raw(file.uid()), Gid::from_raw(file.gid()), runner)
    }

    fn why_unreadable(&self, path: &Path) -> Option<String> {
        if let Some(why) = self.around.environment.why_out_of_reach(path) {
            return Some(why);
        }
        // Looked at before opening: opening a pipe would wait for its writer.
        let look = || -> std::io::Result<bool> {
            let is_file = fs::metadata(path)?.is_file();
            if is_file {
                fs::File::open(path)?;
            }
            Ok(is_file)
        };
        let is_file = match look() {
            Ok(is_file) => is_file,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Some(format!("{}, as {}", io_words(&error), ourselves()));
            }
            Err(error) => return Some(io_words(&error)),
        };
        if !is_file {
            return Some("it is not a regular file".to_owned());
        }
        let (user, groups) = self.becomes.as_ref().filter(|(user, _)| user.uid != Uid::effective())?;
        let barrier = barrier(path, user.uid, groups)?;
        Some(format!("runtime.user `{}` has no permission at {}", user.name, barrier.display()))
    }
}

/// A user by name or number.
pub(super) fn user(name: &str) -> Option<User> {
    match name.parse() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)).ok().flatten(),
        Err(_) => User::from_name(name).ok().flatten(),
    }
}

pub(super) fn group_exists(name: &str) -> bool {
    match name.parse() {
        Ok(gid) => Group::from_gid(Gid::from_raw(gid)).ok().flatten().is_some(),
        Err(_) => Group::from_name(name).ok().flatten().is_some(),
    }
}

/// Who could change a program that `runner` runs, and how to end that. What the user of a gateway owns the gateway itself cannot
/// change from its sandbox.
fn who_decides(mode: u32, owner: Uid, group: Gid, runner: Uid) -> Option<String> {
    const ROOT: Gid = Gid::from_raw(0);
    if mode & 0o002 != 0 {
        return Some("everybody may write to it, and so decide what we run: chmod o-w it".to_owned());
    }
    if mode & 0o020 != 0 && group != ROOT {
        let group = Group::from_gid(group).ok().flatten().map_or_else(|| group.to_string(), |group| group.name);
        return Some(format!("the group `{group}` may write to it, and so decide what we run: chmod g-w it"));
    }
    (!owner.is_root() && owner != runner)
        .then(|| format!("it belongs to {}, who so decides what {} runs: chown root it", called(owner), called(runner)))
}

fn ourselves() -> String {
    called(Uid::effective())
}

fn called(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| format!("user {uid}"), |user| format!("user `{}`", user.name))
}

/// The first directory on the way that this user may not enter, or the file if it may not be read. From the mode bits:
/// becoming the user for the attempt would change the whole process.
fn barrier(path: &Path, uid: Uid, groups: &[Gid]) -> Option<PathBuf> {
    barrier_to(path, READ, uid, groups)
}

const READ: u32 = 4;
/// Of a directory: enter.
const EXECUTE: u32 = 1;

/// The same for what else is wanted of the file.
fn barrier_to(path: &Path, at_end: u32, uid: Uid, groups: &[Gid]) -> Option<PathBuf> {
    if uid.is_root() {
        return None;
    }
    let real = fs::canonicalize(path).ok()?;
    let mut way: Vec<&Path> = real.ancestors().collect();
    way.reverse();
    way.into_iter()
        .find(|step| {
            let wanted = if *step == real { at_end } else { EXECUTE };
            fs::metadata(step).is_ok_and(|meta| {
                let shift = if meta.uid() == uid.as_raw() {
                    6
                } else if groups.iter().any(|gid| gid.as_raw() == meta.gid()) {
                    3
                } else {
                    0
                };
                meta.mode() >> shift & wanted == 0
            })
        })
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::super::expand::Environment;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_program_is_one_that_root_or_who_runs_it_decides_about() {
        let (root, runner, other) = (Uid::from_raw(0), Uid::from_raw(4_000_000), Uid::from_raw(4_000_001));
        let (roots, group) = (Gid::from_raw(0), Gid::from_raw(4_000_000));
        for (mode, owner, group, runner, expected) in [
            (0o755, root, roots, root, None),
            (0o775, root, roots, runner, None),
            (0o755, root, group, runner, None),
            (0o755, runner, group, runner, None),
            (0o757, root, roots, root, Some("everybody may write to it, and so decide what we run: chmod o-w it")),
            (
                0o775,
                root,
                group,
                runner,
                Some("the group `4000000` may write to it, and so decide what we run: chmod g-w it"),
            ),
            (
                0o755,
                other,
                roots,
                runner,
                Some("it belongs to user 4000001, who so decides what user 4000000 runs: chown root it"),
            ),
            (
                0o755,
                runner,
                roots,
                root,
                Some("it belongs to user 4000000, who so decides what user `root` runs: chown root it"),
            ),
        ] {
            assert_eq!(
                who_decides(mode, owner, group, runner).as_deref(),
                expected,
                "{mode:o} {owner} {group} {runner}"
            );
        }
    }

    #[test]
    fn a_program_is_one_that_the_user_can_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("hook");
        fs::write(&program, "#!/bin/sh\n").expect("written");
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mine");
        set(dir.path(), 0o755);
        let environment = Environment::default();
        let around = Surroundings { environment: &environment, directory: dir.path() };
        let reader = Reader::new(around, Some("nobody"));
        for (mode, expected) in [
            (0o755, None),
            (0o711, None),
            (0o644, Some("chmod +x")),
            (0o700, Some("runtime.user `nobody` has no permission at")),
        ] {
            set(&program, mode);
            let why = reader.why_unrunnable(&program);
            let is_expected = match (&why, expected) {
                (Some(why), Some(expected)) => why.contains(expected),
                (why, expected) => why.is_none() && expected.is_none(),
            };
            assert!(is_expected, "{mode:o}: {why:?}");
        }
        set(&program, 0o755);
        assert_eq!(Reader::new(around, None).why_unrunnable(&program), None);
        set(dir.path(), 0o700);
        assert!(reader.why_unrunnable(&program).is_some_and(|why| why.contains("has no permission at")));
        assert!(reader.why_unrunnable(dir.path()).is_some_and(|why| why.contains("not a regular file")));
    }

    #[test]
    fn a_file_is_looked_at_with_the_eyes_of_the_user_we_become() {
        let dir = tempfile::tempdir().expect("a directory");
        let directory = fs::canonicalize(dir.path()).expect("a real path");
        let file = directory.join("key.pem");
        fs::write(&file, "secret").expect("written");
        let owner = Uid::from_raw(fs::metadata(&file).expect("there").uid());
        let stranger = Uid::from_raw(4_000_000);
        let group = Gid::from_raw(fs::metadata(&file).expect("there").gid());
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mine");

        set(&directory, 0o711);
        set(&file, 0o640);
        assert_eq!(barrier(&file, stranger, &[]), Some(file.clone()));
        assert_eq!(barrier(&file, stranger, &[group]), None);
        set(&file, 0o604);
        assert_eq!(barrier(&file, stranger, &[]), None);
        assert_eq!(barrier(&file, stranger, &[group]), Some(file.clone()), "the group's bits hold for its members");
        set(&directory, 0o700);
        assert_eq!(barrier(&file, stranger, &[]), Some(directory.clone()));
        assert_eq!(barrier(&file, owner, &[]), None);
        set(&directory, 0o755);
    }
}
