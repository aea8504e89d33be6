//! Files that are there whole or not at all, whenever the power fails.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A file or directory of `state_dir` could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {doing}: {source}; state_dir must be a directory the gateway's user can write")]
pub struct DiskError {
    /// The file or directory.
    pub path: PathBuf,
    /// What was tried.
    pub doing: &'static str,
    /// What the system said.
    pub source: io::Error,
}

/// Makes a directory, and those above it, that only its owner can enter. One that exists is left as it is.
pub(super) fn create_private_dir(path: &Path) -> Result<(), DiskError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| failed(path, "make the directory", error))
}

/// Waits until no other process (or thread) is at work, and keeps others away until the lock is dropped; the system
/// drops it for a process that dies.
pub(super) fn lock(path: &Path) -> Result<Flock<File>, DiskError> {
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let mut file = open.map_err(|error| failed(path, "open the lock", error))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(lock) => return Ok(lock),
            Err((again, Errno::EINTR)) => file = again,
            Err((_, errno)) => return Err(failed(path, "lock", errno.into())),
        }
    }
}

/// Reads a file of text; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<String>>, DiskError> {
    match fs::read(path) {
        // What is not UTF-8 is not PEM either, and fails there with better words.
        Ok(bytes) => Ok(Some(Zeroizing::new(String::from_utf8_lossy(&Zeroizing::new(bytes)).into_owned()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, "read", error)),
    }
}

/// Makes a directory with these files in it, in one rename. `temporary` is what it is called until then; what a process
/// that died left there is removed. Fails if the directory exists and is not empty.
pub(super) fn create_whole(temporary: &Path, path: &Path, files: &[(&str, u32, &[u8])]) -> Result<(), DiskError> {
    match fs::remove_dir_all(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(temporary, "remove what was left of an earlier attempt", error));
        }
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(temporary).map_err(|error| failed(temporary, "make the directory", error))?;
    for (name, mode, contents) in files {
        write(&temporary.join(name), *mode, contents)?;
    }
    sync_dir(temporary)?;
    fs::rename(temporary, path).map_err(|error| failed(path, "put the new directory in place", error))?;
    sync_parent(path)
}

/// Puts a file in the place of another in one rename.
pub(super) fn replace(path: &Path, mode: u32, contents: &[u8]) -> Result<(), DiskError> {
    let temporary = write_beside(path, mode, contents)?;
    fs::rename(&temporary, path).map_err(|error| failed(path, "put the new file in place", error))?;
    sync_parent(path)
}

/// Sees that so many octets could now be put in the place of a file; what is there is not touched.
pub(super) fn try_replacing(path: &Path, octets: usize) -> Result<(), DiskError> {
    let temporary = write_beside(path, 0o600, &vec![0; octets])?;
    fs::remove_file(&temporary).map_err(|error| failed(&temporary, "remove", error))
}

/// Writes what is to replace a file, under another name in the same directory.
fn write_beside(path: &Path, mode: u32, contents: &[u8]) -> Result<PathBuf, DiskError> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&temporary, "remove", error)),
        _ => {}
    }
    write(&temporary, mode, contents)?;
    Ok(temporary)
}

fn write(path: &Path, mode: u32, contents: &[u8]) -> Result<(), DiskError> {
    let attempt = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(contents)?;
        file.sync_all()
    };
    attempt().map_err(|error| failed(path, "write", error))
}

fn sync_parent(path: &Path) -> Result<(), DiskError> {
    path.parent().map_or(Ok(()), sync_dir)
}

fn sync_dir(path: &Path) -> Result<(), DiskError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|error| failed(path, "write", error))
}

fn failed(path: &Path, doing: &'static str, source: io::Error) -> DiskError {
    DiskError { path: path.to_owned(), doing, source }
}
