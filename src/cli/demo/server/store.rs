//! The mailbox: folders of messages in memory, with a bound on everything, and word of each change.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Octets of all messages together, and of those still coming in: 64 MiB, counted in KiB.
const SPACE_KIB: usize = 64 * 1024;
/// Messages in all folders together; a copy counts.
const MESSAGES: usize = 10_000;
/// Folders.
const FOLDERS: usize = 200;
/// The longest folder name, in octets.
const FOLDER_NAME: usize = 200;
/// Flags a message may have.
const FLAGS: usize = 32;

/// The one name that is compared without regard to case (RFC 3501 section 5.1).
pub(super) const INBOX: &str = "INBOX";
/// Where mail lies that would have left the machine.
pub(super) const OUTBOX: &str = "Outbox (would have left)";
/// What divides levels of folders.
pub(super) const DELIMITER: char = '/';

/// Everything the server keeps, shared by all connections.
pub(super) struct Store {
    folders: Mutex<Folders>,
    changes: watch::Sender<()>,
    space: Arc<Semaphore>,
}

impl Store {
    pub(super) fn new() -> Self {
        let mut folders = Folders { by_name: BTreeMap::new(), next_id: 1 };
        let special =
            [(INBOX, None), ("Drafts", Some("\\Drafts")), ("Sent", Some("\\Sent")), ("Trash", Some("\\Trash"))];
        for (name, use_) in special {
            folders.create(name).expect("four folders are within the bound");
            if let Some(folder) = folders.by_name.get_mut(name) {
                folder.special_use = use_;
            }
        }
        Self {
            folders: Mutex::new(folders),
            changes: watch::Sender::new(()),
            space: Arc::new(Semaphore::new(SPACE_KIB)),
        }
    }

    /// Looks at the folders.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Folders) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the folders, and tells whoever is waiting for a change.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Folders) -> T) -> T {
        let result = change(&mut self.lock());
        self.changes.send_replace(());
        result
    }

    /// Hears of each change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Room for `octets` more, to be had before they are read. It is free again when dropped.
    pub(super) fn space(&self, octets: usize) -> Result<Space, Full> {
        let kib = u32::try_from(octets.div_ceil(1024)).map_err(|_| Full)?;
        self.space.clone().try_acquire_many_owned(kib).map(Space).map_err(|_| Full)
    }

    fn lock(&self) -> MutexGuard<'_, Folders> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room in the store, taken.
#[derive(Debug)]
pub(super) struct Space(OwnedSemaphorePermit);

impl Space {
    /// Two rooms as one.
    pub(super) fn join(&mut self, more: Space) {
        self.0.merge(more.0);
    }
}

/// A bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// Why a folder cannot be had as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FolderFault {
    Missing,
    Exists,
    Inbox,
    HasChildren,
    BadName,
    Full,
}

/// A message's octets; they never change and are shared by its copies.
pub(super) struct Message {
    /// As it came.
    pub(super) raw: Bytes,
    _space: Space,
}

impl Message {
    /// Keeps octets in the room that was taken for them.
    pub(super) fn new(raw: Bytes, space: Space) -> Arc<Self> {
        Arc::new(Self { raw, _space: space })
    }
}

/// A message's flags, system flags in the RFC's spelling. `\Recent` is not one: it is a matter of sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Flags(BTreeSet<String>);

/// The flags RFC 3501 gives a meaning.
pub(super) const SYSTEM_FLAGS: [&str; 5] = ["\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft"];

impl Flags {
    pub(super) fn of(flags: &[&str]) -> Self {
        Self(flags.iter().map(ToString::to_string).collect())
    }

    /// Whether `flag` is set; case does not count.
    pub(super) fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|set| set.eq_ignore_ascii_case(flag))
    }

    /// Sets a flag, unless the message has too many.
    pub(super) fn set(&mut self, flag: &str) {
        if !self.has(flag) && self.0.len() < FLAGS {
            let system = SYSTEM_FLAGS.iter().find(|known| known.eq_ignore_ascii_case(flag));
            self.0.insert(system.map_or(flag, |known| known).to_owned());
        }
    }

    pub(super) fn clear(&mut self, flag: &str) {
        self.0.retain(|set| !set.eq_ignore_ascii_case(flag));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iter().collect::<Vec<_>>().join(" "))
    }
}

/// A message in a folder.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) uid: u32,
    pub(super) flags: Flags,
    pub(super) arrived: OffsetDateTime,
    pub(super) message: Arc<Message>,
}

/// A folder, its items in ascending order of UID.
pub(super) struct Folder {
    /// UIDVALIDITY, and what a session holds on to: never given twice, kept when the folder is renamed.
    pub(super) id: u32,
    pub(super) uid_next: u32,
    /// The first UID no session has seen as `\Recent`.
    pub(super) first_recent: u32,
    pub(super) items: Vec<Item>,
    pub(super) subscribed: bool,
    /// RFC 6154.
    pub(super) special_use: Option<&'static str>,
}

impl Folder {
    pub(super) fn item(&self, uid: u32) -> Option<&Item> {
        self.items.binary_search_by_key(&uid, |item| item.uid).ok().map(|at| &self.items[at])
    }

    pub(super) fn item_mut(&mut self, uid: u32) -> Option<&mut Item> {
        self.items.binary_search_by_key(&uid, |item| item.uid).ok().map(|at| &mut self.items[at])
    }
}

/// All folders, by name.
pub(super) struct Folders {
    by_name: BTreeMap<String, Folder>,
    next_id: u32,
}

impl Folders {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Folder)> {
        self.by_name.iter().map(|(name, folder)| (name.as_str(), folder))
    }

    pub(super) fn named(&self, name: &str) -> Option<&Folder> {
        self.by_name.get(canonical(name))
    }

    pub(super) fn named_mut(&mut self, name: &str) -> Option<&mut Folder> {
        self.by_name.get_mut(canonical(name))
    }

    pub(super) fn with_id(&self, id: u32) -> Option<&Folder> {
        self.by_name.values().find(|folder| folder.id == id)
    }

    pub(super) fn with_id_mut(&mut self, id: u32) -> Option<&mut Folder> {
        self.by_name.values_mut().find(|folder| folder.id == id)
    }

    /// Puts a message into a folder.
    ///
    /// # Errors
    /// `Missing` for a folder that is not there, `Full` past the bound on messages.
    pub(super) fn append(
        &mut self,
        folder: &str,
        message: Arc<Message>,
        flags: Flags,
        arrived: OffsetDateTime,
    ) -> Result<(u32, u32), FolderFault> {
        let full = self.by_name.values().map(|folder| folder.items.len()).sum::<usize>() >= MESSAGES;
        let folder = self.named_mut(folder).ok_or(FolderFault::Missing)?;
        if full || folder.uid_next == u32::MAX {
            return Err(FolderFault::Full);
        }
        let uid = folder.uid_next;
        folder.uid_next += 1;
        folder.items.push(Item { uid, flags, arrived, message });
        Ok((folder.id, uid))
    }

    /// Makes a folder and those above it (RFC 3501 section 6.3.3).
    pub(super) fn create(&mut self, name: &str) -> Result<(), FolderFault> {
        let name = name.strip_suffix(DELIMITER).unwrap_or(name);
        let wrong = |level: &str| level.is_empty() || level.chars().any(|c| c == '*' || c == '%' || c.is_control());
        if name.len() > FOLDER_NAME || !name.is_ascii() || name.split(DELIMITER).any(wrong) {
            return Err(FolderFault::BadName);
        }
        if self.named(name).is_some() {
            return Err(FolderFault::Exists);
        }
        let levels = name.match_indices(DELIMITER).map(|(at, _)| &name[..at]).chain([name]);
        for level in levels {
            if self.named(level).is_none() {
                if self.by_name.len() >= FOLDERS {
                    return Err(FolderFault::Full);
                }
                let folder = Folder {
                    id: self.next_id,
                    uid_next: 1,
                    first_recent: 1,
                    items: Vec::new(),
                    subscribed: true,
                    special_use: None,
                };
                self.next_id += 1;
                self.by_name.insert(canonical(level).to_owned(), folder);
            }
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, name: &str) -> Result<(), FolderFault> {
        let name = canonical(name);
        if name == INBOX {
            return Err(FolderFault::Inbox);
        }
        self.named(name).ok_or(FolderFault::Missing)?;
        if self.has_children(name) {
            return Err(FolderFault::HasChildren);
        }
        self.by_name.remove(name);
        Ok(())
    }

    /// Renames a folder and those below it. Renaming INBOX moves its messages (RFC 3501 section 6.3.5).
    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<(), FolderFault> {
        let (from, to) = (canonical(from), canonical(to));
        self.named(from).ok_or(FolderFault::Missing)?;
        let below = format!("{from}{DELIMITER}");
        if to.starts_with(&below) {
            return Err(FolderFault::BadName);
        }
        let longest_tail = self.by_name.keys().filter_map(|name| name.strip_prefix(&below)).map(str::len).max();
        if to.len() + longest_tail.map_or(0, |tail| tail + 1) > FOLDER_NAME {
            return Err(FolderFault::BadName);
        }
        self.create(to)?;
        if from == INBOX {
            let items = self.named_mut(INBOX).map(|inbox| std::mem::take(&mut inbox.items)).unwrap_or_default();
            for item in items {
                self.append(to, item.message, item.flags, item.arrived)?;
            }
            return Ok(());
        }
        let moving = self.by_name.keys().filter(|name| *name == from || name.starts_with(&below));
        for name in moving.cloned().collect::<Vec<_>>() {
            if let Some(folder) = self.by_name.remove(&name) {
                self.by_name.insert(format!("{to}{}", &name[from.len()..]), folder);
            }
        }
        Ok(())
    }

    pub(super) fn has_children(&self, name: &str) -> bool {
        let below = format!("{name}{DELIMITER}");
        self.by_name.keys().any(|other| other.starts_with(&below))
    }
}

fn canonical(name: &str) -> &str {
    if name.eq_ignore_ascii_case(INBOX) { INBOX } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(store: &Store, octets: usize) -> Arc<Message> {
        Message::new(Bytes::from(vec![b'x'; octets]), store.space(octets).expect("there is room"))
    }

    #[test]
    fn what_is_deleted_makes_room_again() {
        let store = Store::new();
        let all = message(&store, SPACE_KIB * 1024);
        store.change(|folders| folders.append(INBOX, all, Flags::default(), OffsetDateTime::UNIX_EPOCH)).unwrap();
        assert_eq!(store.space(1).unwrap_err(), Full);
        store.change(|folders| folders.named_mut(INBOX).unwrap().items.clear());
        assert!(store.space(SPACE_KIB * 1024).is_ok());
    }

    #[test]
    fn folders_come_and_go_as_rfc_3501_says() {
        let store = Store::new();
        store.change(|folders| {
            assert_eq!(folders.create("a/b/c"), Ok(()));
            assert!(folders.named("a/b").is_some(), "the folders above are made too");
            assert_eq!(folders.create("inbox"), Err(FolderFault::Exists));
            assert_eq!(folders.delete("a"), Err(FolderFault::HasChildren));
            let id = folders.named("a/b/c").unwrap().id;
            assert_eq!(folders.rename("a", "z"), Ok(()));
            assert_eq!(folders.named("z/b/c").unwrap().id, id, "a rename keeps UIDVALIDITY and takes children along");
            assert!(folders.named("a").is_none());
            assert_eq!(folders.rename("z", "z/y"), Err(FolderFault::BadName));
            assert_eq!(folders.delete("INBOX"), Err(FolderFault::Inbox));
            for bad in ["", "a//b", "a*b", "100%", "tab\tbed", "ü"] {
                assert_eq!(folders.create(bad), Err(FolderFault::BadName), "{bad}");
            }
            let filled = (0..=FOLDERS).map(|n| folders.create(&format!("n{n}"))).find_map(Result::err);
            assert_eq!(filled, Some(FolderFault::Full));
        });
    }

    #[test]
    fn flags_ignore_case_and_are_bounded() {
        let mut flags = Flags::of(&[]);
        flags.set("\\sEEN");
        assert!(flags.has("\\Seen") && flags.to_string() == "\\Seen");
        (0..100).for_each(|n| flags.set(&format!("k{n}")));
        assert_eq!(flags.iter().count(), FLAGS);
        flags.clear("\\seen");
        assert!(!flags.has("\\Seen"));
    }
}
