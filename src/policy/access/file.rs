//! A list file: read at start, reread when it changes, the last good content kept when it has gone wrong.

use super::list::{self, BadLine, Purpose};
use super::set::AddressSet;
use arc_swap::ArcSwap;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The largest file taken, in octets: over two million networks.
const LARGEST: u64 = 64 * 1024 * 1024;

/// A file changed less than this before it was read may change again within its clock's granularity, unseen.
const SETTLED: Duration = Duration::from_secs(2);

/// A list file and what stood in it when it was last good.
#[derive(Debug)]
pub struct ListFile {
    path: PathBuf,
    daemons: Arc<[String]>,
    purpose: Purpose,
    current: ArcSwap<AddressSet>,
    /// What the file looked like when it was last read well; `None` while that cannot be relied on.
    stamp: Mutex<Option<Stamp>>,
}

/// Why a list file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It is not there, not readable, not a file, not UTF-8 or too large.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Lines that cannot be understood; never empty.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Bad(Vec<BadLine>),
}

impl ListFile {
    /// Reads a list for the first time. `daemons`: the names in hosts.allow form that mean us.
    ///
    /// # Errors
    /// There is no last good content to fall back on: a missing or unparsable list is refused.
    pub fn open(path: PathBuf, daemons: Arc<[String]>, purpose: Purpose) -> Result<Self, ListError> {
        let (text, stamp) = read(&path)?;
        let set = list::parse(&text, &daemons, purpose).map_err(ListError::Bad)?;
        Ok(Self { path, daemons, purpose, current: ArcSwap::from_pointee(set), stamp: Mutex::new(stamp) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the address is in what the file last said.
    pub fn contains(&self, client: IpAddr) -> bool {
        self.current.load().contains(client)
    }

    /// Reads the file again if it has changed, and says whether its members are others now.
    /// An unchanged file costs one `stat`.
    ///
    /// # Errors
    /// The last good content stays; the next call tries again.
    pub fn reread(&self) -> Result<bool, ListError> {
        // A panic cannot leave a stamp half written, so a poisoned lock is as good as another.
        let mut stamp = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp.is_some() && *stamp == fs::metadata(&self.path).ok().map(|meta| Stamp::of(&meta)) {
            return Ok(false);
        }
        *stamp = None;
        let (text, seen) = read(&self.path)?;
        let set = list::parse(&text, &self.daemons, self.purpose).map_err(ListError::Bad)?;
        *stamp = seen;
        let changed = **self.current.load() != set;
        if changed {
            self.current.store(Arc::new(set));
        }
        Ok(changed)
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

/// The text, and the stamp of the very file it was read from if that can be relied on.
fn read(path: &Path) -> io::Result<(String, Option<Stamp>)> {
    // Asked before opening: opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let file = fs::File::open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 64 MiB"));
    }
    Ok((text, Some(stamp).filter(Stamp::is_settled)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Result<ListFile, ListError> {
        ListFile::open(path.to_owned(), Arc::from(["imapd".to_owned()]), Purpose::Allow)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_change_is_seen_and_a_broken_or_missing_file_keeps_the_last_good_list() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("allow");
        fs::write(&path, "10.0.0.1\n").expect("written");
        let list = open(&path).expect("a good list");
        assert!(list.contains(address("10.0.0.1")) && !list.contains(address("10.0.0.2")));
        assert!(!list.reread().expect("still good"));

        fs::write(&path, "10.0.0.2\n").expect("written");
        assert!(list.reread().expect("good again"), "a change of the same length in the same second is a change");
        assert!(list.contains(address("10.0.0.2")) && !list.contains(address("10.0.0.1")));

        fs::write(&path, "imapd: host.example\n").expect("written");
        let said = list.reread().expect_err("bad").to_string();
        assert!(said.contains("line 1") && said.contains("host name"), "{said}");
        fs::remove_file(&path).expect("removed");
        assert!(matches!(list.reread(), Err(ListError::Unreadable(_))));
        assert!(list.contains(address("10.0.0.2")), "the last good list stays");

        fs::write(&path, "").expect("written");
        assert!(list.reread().expect("an empty file is a good one"));
        assert!(!list.contains(address("10.0.0.2")), "an empty list admits nobody");
    }

    #[test]
    fn what_is_no_file_of_text_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(matches!(open(dir.path()), Err(ListError::Unreadable(_))));
        let binary = dir.path().join("binary");
        fs::write(&binary, [0xff, 0xfe, b'\n']).expect("written");
        assert!(matches!(open(&binary), Err(ListError::Unreadable(_))));
    }

    #[test]
    fn a_settled_file_is_not_read_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("allow");
        fs::write(&path, "10.0.0.1\n").expect("written");
        let list = open(&path).expect("a good list");
        // As if it had been read long after its last change.
        let stamp = Stamp::of(&fs::metadata(&path).expect("there"));
        *list.stamp.lock().expect("unlocked") = Some(stamp);
        list.current.store(Arc::default());
        assert!(!list.reread().expect("nothing to do"));
        assert!(!list.contains(address("10.0.0.1")), "the content was not looked at");
    }
}
