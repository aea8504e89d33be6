//! A list file: read at start, reread when it changes, the last good content kept when it has gone wrong.

use super::super::reread::Reread;
use super::list::{self, BadLine, Purpose};
use super::set::AddressSet;
use arc_swap::ArcSwap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file taken, in octets: over two million networks.
const LARGEST: u64 = 64 * 1024 * 1024;

/// A list file and what stood in it when it was last good.
#[derive(Debug)]
pub struct ListFile {
    file: Reread,
    daemons: Arc<[String]>,
    purpose: Purpose,
    current: ArcSwap<AddressSet>,
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
        let list = Self { file: Reread::new(path, LARGEST), daemons, purpose, current: ArcSwap::default() };
        list.reread()?;
        Ok(list)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Whether the address is in what the file last said.
    pub fn contains(&self, client: IpAddr) -> bool {
        self.current.load().contains(client)
    }

    /// Whether everybody of a family is in what the file last said.
    pub fn is_for_everyone(&self) -> bool {
        self.current.load().holds_an_internet()
    }

    /// Reads the file again if it has changed, and says whether its members are others now.
    /// An unchanged file costs one `stat`.
    ///
    /// # Errors
    /// The last good content stays; the next call tries again.
    pub fn reread(&self) -> Result<bool, ListError> {
        let parse = |text: String| list::parse(&text, &self.daemons, self.purpose).map_err(ListError::Bad);
        let set = self.file.if_changed(parse)?;
        let changed = set.filter(|set| **self.current.load() != *set);
        let is_changed = changed.is_some();
        if let Some(set) = changed {
            self.current.store(Arc::new(set));
        }
        Ok(is_changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
        list.file.settle();
        list.current.store(Arc::default());
        assert!(!list.reread().expect("nothing to do"));
        assert!(!list.contains(address("10.0.0.1")), "the content was not looked at");
    }
}
