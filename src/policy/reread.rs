//! A file that is read at start and again when it changes, the last good content kept when it has gone wrong.

use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// A file changed less than this before it was read may change again within its clock's granularity, unseen.
const SETTLED: Duration = Duration::from_secs(2);

/// A file, and how it looked when it was last understood. What stood in it is the owner's to keep.
#[derive(Debug)]
pub(super) struct Reread {
    path: PathBuf,
    /// The most that is taken, in octets.
    largest: u64,
    /// `None` while it cannot be relied on.
    stamp: Mutex<Option<Stamp>>,
}

impl Reread {
    /// A file that nobody has read yet.
    pub(super) fn new(path: PathBuf, largest: u64) -> Self {
        Self { path, largest, stamp: Mutex::new(None) }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives what `understand` makes of the file, or `None` where it has not changed since that was last done with
    /// success; that costs one `stat`. The text is UTF-8.
    ///
    /// # Errors
    /// The file's, or those of `understand`; the next call tries again.
    pub(super) fn if_changed<T, E: From<io::Error>>(
        &self,
        understand: impl FnOnce(String) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        // A panic cannot leave a stamp half written, so a poisoned lock is as good as another.
        let mut stamp = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp.is_some() && *stamp == fs::metadata(&self.path).ok().map(|meta| Stamp::of(&meta)) {
            return Ok(None);
        }
        *stamp = None;
        let (text, seen) = self.read()?;
        let understood = understand(text)?;
        *stamp = seen;
        Ok(Some(understood))
    }

    /// The text, and the stamp of the very file it was read from if that can be relied on.
    fn read(&self) -> io::Result<(String, Option<Stamp>)> {
        // Asked before opening: opening a pipe would wait for its writer.
        if !fs::metadata(&self.path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let file = fs::File::open(&self.path)?;
        let stamp = Stamp::of(&file.metadata()?);
        let mut text = String::new();
        file.take(self.largest + 1).read_to_string(&mut text)?;
        if text.len() as u64 > self.largest {
            let message = format!("it is larger than {} MiB", self.largest >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        Ok((text, Some(stamp).filter(Stamp::is_settled)))
    }

    /// Takes the file as it is now for one that was understood long after its last change.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        let stamp = Stamp::of(&fs::metadata(&self.path).expect("there"));
        *self.stamp.lock().expect("unlocked") = Some(stamp);
    }
}

/// What tells one state of a file from the next without reading it. The change time cannot be set back by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            inode: (meta.dev(), meta.ino()),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    fn is_settled(&self) -> bool {
        let changed = u64::try_from(self.changed.0).unwrap_or(0);
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(changed))
            .is_ok_and(|age| age > SETTLED)
    }
}
