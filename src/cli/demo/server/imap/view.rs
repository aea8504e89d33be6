//! The selected folder as a session sees it: numbers that hold still until the client has been told.

use super::super::store::{Flags, Folder, Item, SYSTEM_FLAGS, Store};
use super::cursor::SequenceSet;
use std::fmt::Write as _;

/// A session's picture of a folder. The store goes on changing; [`View::sync`] says what has changed since.
pub(super) struct View {
    /// The folder; it may have been renamed or deleted since.
    pub(super) folder: u32,
    pub(super) read_only: bool,
    entries: Vec<Entry>,
}

/// A message as the client was last told of it.
struct Entry {
    uid: u32,
    flags: Flags,
    recent: bool,
}

/// Numbers that name no message; only sequence numbers can be wrong (RFC 3501 section 6.4.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoSuchNumber;

impl View {
    /// Opens a folder and says what SELECT says of it.
    pub(super) fn open(store: &Store, name: &str, read_only: bool) -> Option<(Self, String)> {
        let (folder, validity) = store.read(|folders| {
            let folder = folders.named(name)?;
            let unseen = folder.items.iter().position(|item| !item.flags.has("\\Seen"));
            let unseen = unseen.map(|at| format!("* OK [UNSEEN {}] first unseen\r\n", at + 1)).unwrap_or_default();
            Some((
                folder.id,
                format!(
                    "{unseen}* OK [UIDVALIDITY {}] valid\r\n* OK [UIDNEXT {}] next\r\n",
                    folder.id, folder.uid_next
                ),
            ))
        })?;
        let mut view = Self { folder, read_only, entries: Vec::new() };
        let mut out = format!("* FLAGS ({})\r\n", SYSTEM_FLAGS.join(" "));
        let permanent = if read_only { String::new() } else { format!("{} \\*", SYSTEM_FLAGS.join(" ")) };
        write!(out, "* OK [PERMANENTFLAGS ({permanent})] these are kept\r\n").expect("a String takes everything");
        view.sync(store, true, &mut out);
        if view.entries.is_empty() {
            out.push_str("* 0 EXISTS\r\n* 0 RECENT\r\n");
        }
        out.push_str(&validity);
        Some((view, out))
    }

    /// Takes in what has changed and appends it to `out`. While numbers must hold still (`may_expunge` is false:
    /// during FETCH, STORE and SEARCH, RFC 3501 section 7.4.1) what is gone is kept for later.
    pub(super) fn sync(&mut self, store: &Store, may_expunge: bool, out: &mut String) {
        let known = self.entries.last().map_or(0, |entry| entry.uid);
        let fresh: Vec<(u32, Flags)> = store.read(|folders| {
            let items = folders.with_id(self.folder).map_or(&[][..], |folder| &folder.items);
            let mut number = 0;
            self.entries.retain_mut(|entry| {
                number += 1;
                match items.binary_search_by_key(&entry.uid, |item| item.uid) {
                    Ok(at) if items[at].flags != entry.flags => {
                        entry.flags = items[at].flags.clone();
                        say(out, format_args!("* {number} FETCH (UID {} FLAGS ({}))", entry.uid, entry.flags_shown()));
                        true
                    }
                    Err(_) if may_expunge => {
                        say(out, format_args!("* {number} EXPUNGE"));
                        number -= 1;
                        false
                    }
                    _ => true,
                }
            });
            let fresh = &items[items.partition_point(|item| item.uid <= known)..];
            fresh.iter().map(|item| (item.uid, item.flags.clone())).collect()
        });
        if fresh.is_empty() {
            return;
        }
        let first_recent = self.first_recent(store, !self.read_only);
        self.entries.extend(fresh.into_iter().map(|(uid, flags)| Entry { uid, flags, recent: uid >= first_recent }));
        say(out, format_args!("* {} EXISTS", self.entries.len()));
        say(out, format_args!("* {} RECENT", self.entries.iter().filter(|entry| entry.recent).count()));
    }

    /// The messages a client names, by their place in the view.
    pub(super) fn resolve(&self, set: &SequenceSet, by_uid: bool) -> Result<Vec<usize>, NoSuchNumber> {
        if by_uid {
            let ranges = set.ranges(self.entries.last().map_or(0, |entry| entry.uid));
            return Ok((0..self.entries.len())
                .filter(|&at| super::cursor::contains(&ranges, self.entries[at].uid))
                .collect());
        }
        let mut places = Vec::new();
        for (first, last) in set.ranges(u32::try_from(self.entries.len()).unwrap_or(u32::MAX)) {
            let (first, last) = (usize::try_from(first), usize::try_from(last));
            match (first, last) {
                (Ok(first), Ok(last)) if first >= 1 && last <= self.entries.len() => places.extend(first - 1..last),
                _ => return Err(NoSuchNumber),
            }
        }
        Ok(places)
    }

    /// Every place.
    pub(super) fn places(&self) -> std::ops::Range<usize> {
        0..self.entries.len()
    }

    pub(super) fn uid(&self, place: usize) -> Option<u32> {
        self.entries.get(place).map(|entry| entry.uid)
    }

    pub(super) fn is_recent(&self, place: usize) -> bool {
        self.entries.get(place).is_some_and(|entry| entry.recent)
    }

    /// The message at a place, if it is still there.
    pub(super) fn item(&self, store: &Store, place: usize) -> Option<Item> {
        let uid = self.uid(place)?;
        store.read(|folders| folders.with_id(self.folder)?.item(uid).cloned())
    }

    /// Its flags as the client sees them; the client need not be told again.
    pub(super) fn shown(&mut self, place: usize, flags: &Flags) -> String {
        match self.entries.get_mut(place) {
            Some(entry) => {
                entry.flags = flags.clone();
                entry.flags_shown()
            }
            None => flags.to_string(),
        }
    }

    /// Changes the folder, if it is still there.
    pub(super) fn change<T>(&self, store: &Store, change: impl FnOnce(&mut Folder) -> T) -> Option<T> {
        store.change(|folders| folders.with_id_mut(self.folder).map(change))
    }

    fn first_recent(&self, store: &Store, claim: bool) -> u32 {
        if claim {
            // Not a change anybody waits for, but there is one way to write.
            let first = self.change(store, |folder| std::mem::replace(&mut folder.first_recent, folder.uid_next));
            first.unwrap_or(u32::MAX)
        } else {
            store.read(|folders| folders.with_id(self.folder).map_or(u32::MAX, |folder| folder.first_recent))
        }
    }
}

impl Entry {
    fn flags_shown(&self) -> String {
        let recent = if self.recent { "\\Recent " } else { "" };
        format!("{recent}{}", self.flags).trim_end().to_owned()
    }
}

fn say(out: &mut String, line: std::fmt::Arguments<'_>) {
    write!(out, "{line}\r\n").expect("a String takes everything");
}
