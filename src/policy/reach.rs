//! Which files the process may still read and write once its sandbox is closed.
//!
//! A file that is named is let in by its *folder*: renewal puts a new file in the place of the old one, and rights that
//! hung on the file would go with it. The same holds where a symbolic link on the way leads, because renewal moves
//! links: certbot's `live/NAME/fullchain.pem` points into `archive/NAME`, Kubernetes' `tls.crt` to `..data/tls.crt`.
//! A folder that is not the gateway's alone (`/`, `/etc`, `/tmp`, a home) is never let in for a file in it: the file is,
//! as it is now, and a new one in its place wants a restart.

use super::access::AccessList;
use super::{Checker, Policy};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The most symbolic links that are followed from one path; the kernel follows as many.
const MOST_LINKS: usize = 40;

/// What of the file system a policy's files need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Folders in which everything may be read.
    pub read: BTreeSet<PathBuf>,
    /// Files, each alone, that may be read: those in a folder that others share.
    pub read_alone: BTreeSet<LoneFile>,
    /// Where state is kept: everything but programs and devices may be made, changed and removed there.
    pub state: Option<PathBuf>,
    /// Where log files are opened, made anew after somebody has renamed the old ones.
    pub log: Option<LogPlace>,
    /// The folder of the admin socket.
    pub socket: Option<PathBuf>,
}

/// A file as it is now. Another one in its place is not it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoneFile {
    /// Without symbolic links.
    pub path: PathBuf,
    identity: (u64, u64),
}

/// Where a log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPlace {
    /// A file in this folder, and another after it is renamed.
    Folder(PathBuf),
    /// This file or device alone.
    File(PathBuf),
}

impl Reach {
    /// What this policy's files need, as the file system is now.
    pub fn of(policy: &Policy) -> Self {
        let doors = policy.listeners.iter().map(|listener| &listener.access);
        let doors = doors.chain(policy.pages.iter().map(|page| &page.access));
        let doors = doors.chain(policy.tunnels.iter().map(|tunnel| &tunnel.access));
        let lists = doors.flat_map(|access| access.allow.iter().chain(&access.deny));
        let lists = lists.chain(policy.routes.lists()).flat_map(AccessList::files).map(|file| file.path().to_owned());
        let passwords = match &policy.auth.submission {
            Checker::File(file) => Some(file.path().to_owned()),
            Checker::Backend | Checker::Server(_) | Checker::AuthHttp => None,
        };
        let maps = policy.routes.maps().map(|map| map.path().to_owned());
        let certificates = policy.tls.certificates.iter().flat_map(|files| [files.chain.clone(), files.key.clone()]);
        // Read before the sandbox closes; a reload looks whether it is still there.
        let ca = policy.tls.acme.iter().filter_map(|acme| acme.ca.clone());
        let ca = ca.chain(policy.tls.client_ca.clone());
        let mut reach = Self {
            state: Some(real(&policy.state_dir)),
            log: policy.log.auth_log.as_deref().map(LogPlace::of),
            socket: policy.admin.socket.as_deref().map(|path| real(folder_of(path))),
            ..Self::default()
        };
        let outward = policy.backends.values().filter_map(|backend| backend.tls.as_ref());
        let outward = outward.chain(policy.portal.webmails.iter().filter_map(|webmail| webmail.tls.as_ref()));
        let of_backends = outward.flat_map(|tls| &tls.files);
        let named = lists.chain(maps).chain(passwords).chain(certificates).chain(ca);
        for file in policy.sources.iter().chain(of_backends).cloned().chain(named) {
            reach.add(&file);
        }
        reach
    }

    /// What reading these files needs.
    pub fn of_files<'a>(files: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut reach = Self::default();
        for file in files {
            reach.add(file);
        }
        reach
    }

    fn add(&mut self, file: &Path) {
        let mut left = MOST_LINKS;
        let mut folders = BTreeSet::new();
        follow(&absolute(file), &mut left, &mut folders);
        let end = real(file);
        let own = folder_of(&end).to_owned();
        folders.insert(own.clone());
        self.read.extend(folders.into_iter().filter(|folder| !is_shared(folder)));
        if is_shared(&own) {
            self.read_alone.extend(LoneFile::of(end));
        }
    }

    /// Whether this file may be read. One that is not there counts as readable: that it is missing is the better word.
    pub fn reads(&self, file: &Path) -> bool {
        let Ok(end) = fs::canonicalize(file) else { return true };
        let folders = self.read.iter().chain(&self.state);
        folders.into_iter().any(|folder| end.starts_with(folder))
            || LoneFile::of(end).is_some_and(|file| self.read_alone.contains(&file))
    }

    /// Whether state may be kept in this folder.
    pub fn keeps_state(&self, folder: &Path) -> bool {
        self.state.as_ref().is_some_and(|state| real(folder).starts_with(state))
    }

    /// Whether a log may be written to this file.
    pub fn logs(&self, file: &Path) -> bool {
        match &self.log {
            Some(LogPlace::Folder(folder)) if real(folder_of(&absolute(file))).starts_with(folder) => true,
            Some(LogPlace::File(alone)) if real(file) == *alone => true,
            _ => self.keeps_state(folder_of(&absolute(file))),
        }
    }
}

impl LoneFile {
    fn of(path: PathBuf) -> Option<Self> {
        let file = fs::metadata(&path).ok()?;
        Some(Self { path, identity: (file.dev(), file.ino()) })
    }

    /// Whether the path still leads to the file it led to.
    pub fn is_still_there(&self) -> bool {
        Self::of(self.path.clone()).is_some_and(|now| now == *self)
    }
}

impl LogPlace {
    /// Where this log is written, as the file system is now.
    pub fn of(file: &Path) -> Self {
        let end = real(file);
        let folder = folder_of(&end);
        let is_special = fs::metadata(&end).is_ok_and(|file| !file.is_file());
        // The folder of all logs is shared, but logs are what is made there.
        if is_special || is_shared(folder) && folder != Path::new("/var/log") {
            Self::File(end)
        } else {
            Self::Folder(folder.to_owned())
        }
    }
}

/// Collects the folders in which the links on the way stand and to which they lead.
fn follow(path: &Path, left: &mut usize, folders: &mut BTreeSet<PathBuf>) {
    for step in path.ancestors() {
        let Ok(target) = fs::read_link(step) else { continue };
        if *left == 0 {
            return;
        }
        *left -= 1;
        let standing = folder_of(step);
        let target = standing.join(target);
        if step == path {
            folders.insert(real(standing));
        }
        folders.insert(real(folder_of(&target)));
        follow(&target, left, folders);
    }
}

/// Folders of the system's, or of everybody's, in which the gateway's files are guests.
fn is_shared(folder: &Path) -> bool {
    const SHARED: [&str; 26] = [
        "/",
        "/bin",
        "/boot",
        "/dev",
        "/dev/shm",
        "/etc",
        "/etc/ssl",
        "/home",
        "/lib",
        "/lib64",
        "/media",
        "/mnt",
        "/opt",
        "/proc",
        "/root",
        "/run",
        "/run/lock",
        "/run/user",
        "/sbin",
        "/srv",
        "/sys",
        "/tmp",
        "/usr",
        "/usr/local",
        "/var",
        "/var/lib",
    ];
    let is_below = |above: &str| folder.parent() == Some(Path::new(above));
    SHARED.iter().any(|shared| folder == Path::new(shared))
        || ["/home", "/run/user", "/usr", "/usr/local", "/var"].into_iter().any(is_below)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The path without symbolic links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let path = absolute(path);
    match (fs::canonicalize(&path), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn file(path: &Path) -> PathBuf {
        fs::create_dir_all(folder_of(path)).expect("a folder");
        fs::write(path, "").expect("a file");
        path.to_owned()
    }

    #[test]
    fn a_renewed_file_is_within_reach_wherever_renewal_puts_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = fs::canonicalize(dir.path()).expect("a real path");
        let at = |name: &str| root.join(name);
        // certbot
        file(&at("archive/mail/fullchain1.pem"));
        fs::create_dir_all(at("live/mail")).expect("a folder");
        symlink("../../archive/mail/fullchain1.pem", at("live/mail/fullchain.pem")).expect("a link");
        // Kubernetes
        file(&at("certs/..2026_1/tls.crt"));
        symlink("..2026_1", at("certs/..data")).expect("a link");
        symlink("..data/tls.crt", at("certs/tls.crt")).expect("a link");
        // A folder that is switched.
        file(&at("versions/v1/mail.pem"));
        symlink(at("versions/v1"), at("current")).expect("a link");

        let mut reach = Reach::default();
        for named in ["live/mail/fullchain.pem", "certs/tls.crt", "current/mail.pem"] {
            reach.add(&at(named));
        }
        for renewed in
            ["archive/mail/fullchain2.pem", "live/mail/new.pem", "certs/..2026_2/tls.crt", "versions/v2/mail.pem"]
        {
            assert!(reach.reads(&file(&at(renewed))), "{renewed}: {reach:?}");
        }
        for other in ["archive/other/key.pem", "live/other/key.pem", "other.pem"] {
            assert!(!reach.reads(&file(&at(other))), "{other}: {reach:?}");
        }
        assert!(reach.reads(&at("absent.pem")), "that it is missing is told elsewhere");
    }

    #[test]
    fn a_folder_of_everybodys_is_never_let_in_for_a_file_in_it() {
        for shared in ["/", "/etc", "/tmp", "/home", "/home/joe", "/var/lib", "/var/log", "/usr/share", "/root"] {
            assert!(is_shared(Path::new(shared)), "{shared}");
        }
        for own in ["/etc/gatepost", "/certificates", "/run/secrets", "/etc/ssl/private", "/var/lib/gatepost", "/tmp/x"]
        {
            assert!(!is_shared(Path::new(own)), "{own}");
        }
        let mut reach = Reach::default();
        reach.add(Path::new("/etc/passwd"));
        assert_eq!(reach.read, BTreeSet::new());
        assert!(reach.reads(Path::new("/etc/passwd")) && !reach.reads(Path::new("/etc/group")));
    }

    #[test]
    fn links_that_go_round_end() {
        let dir = tempfile::tempdir().expect("a directory");
        symlink("b", dir.path().join("a")).expect("a link");
        symlink("a", dir.path().join("b")).expect("a link");
        Reach::default().add(&dir.path().join("a/x"));
    }
}
