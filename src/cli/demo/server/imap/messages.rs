//! What is done to messages of the selected folder: STORE, COPY, MOVE, EXPUNGE, SEARCH.

use super::super::store::{Flags, FolderFault, Store};
use super::cursor::{Cursor, contains};
use super::folders::target;
use super::search::{Fault, Key, Place};
use super::view::View;
use super::{Failure, Outcome};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// STORE (RFC 3501 section 6.4.6).
pub(super) fn store_flags(
    store: &Store,
    view: &mut View,
    cursor: &mut Cursor,
    by_uid: bool,
    out: &mut String,
) -> Outcome {
    cursor.space()?;
    let set = cursor.sequence_set()?;
    cursor.space()?;
    let sign = [b'+', b'-'].into_iter().find(|&sign| cursor.take(sign));
    let silent = match cursor.run(|b| b.is_ascii_alphabetic() || b == b'.').to_ascii_uppercase().as_slice() {
        b"FLAGS" => false,
        b"FLAGS.SILENT" => true,
        _ => return Err(Failure::Bad("only flags can be stored")),
    };
    cursor.space()?;
    let flags = if cursor.peek() == Some(b'(') {
        cursor.list(Cursor::flag)?
    } else {
        let mut flags = vec![cursor.flag()?];
        while cursor.take(b' ') {
            flags.push(cursor.flag()?);
        }
        flags
    };
    cursor.end()?;
    let flags: Vec<_> = flags.into_iter().filter(|flag| !flag.eq_ignore_ascii_case("\\Recent")).collect();
    writable(view)?;
    let places = view.resolve(&set, by_uid)?;
    let uids: Vec<_> = places.iter().filter_map(|&place| Some((place, view.uid(place)?))).collect();
    let stored = view.change(store, |folder| {
        let mut stored: Vec<(usize, u32, Flags)> = Vec::new();
        for (place, uid) in uids {
            let Some(item) = folder.item_mut(uid) else { continue };
            if sign.is_none() {
                item.flags = Flags::default();
            }
            for flag in &flags {
                if sign == Some(b'-') { item.flags.clear(flag) } else { item.flags.set(flag) }
            }
            stored.push((place, uid, item.flags.clone()));
        }
        stored
    });
    for (place, uid, flags) in stored.unwrap_or_default() {
        let shown = view.shown(place, &flags);
        if !silent {
            let uid = if by_uid { format!("UID {uid} ") } else { String::new() };
            write!(out, "* {} FETCH ({uid}FLAGS ({shown}))\r\n", place + 1).expect("a String takes everything");
        }
    }
    Ok("stored".into())
}

/// COPY, and MOVE of RFC 6851: all of the messages or none. Both say where the messages went (RFC 4315).
pub(super) fn copy(
    store: &Store,
    view: &View,
    cursor: &mut Cursor,
    by_uid: bool,
    moves: bool,
    out: &mut String,
) -> Outcome {
    cursor.space()?;
    let set = cursor.sequence_set()?;
    cursor.space()?;
    let to = cursor.mailbox()?;
    cursor.end()?;
    if moves {
        writable(view)?;
    }
    let places = view.resolve(&set, by_uid)?;
    let items: Vec<_> = places.iter().filter_map(|&place| view.item(store, place)).collect();
    let sources: Vec<_> = items.iter().map(|item| item.uid).collect();
    let copied = store.change(|folders| {
        let mut validity = folders.named(&to).ok_or(FolderFault::Missing)?.id;
        if moves && validity == view.folder {
            return Ok(None);
        }
        let mut uids: Vec<u32> = Vec::new();
        for item in items {
            match folders.append(&to, item.message, item.flags, item.arrived) {
                Ok((id, uid)) => {
                    validity = id;
                    uids.push(uid);
                }
                Err(fault) => {
                    let folder = folders.named_mut(&to).ok_or(fault)?;
                    folder.items.retain(|item| !uids.contains(&item.uid));
                    return Err(fault);
                }
            }
        }
        if moves && let Some(folder) = folders.with_id_mut(view.folder) {
            let gone: BTreeSet<_> = sources.iter().copied().collect();
            folder.items.retain(|item| !gone.contains(&item.uid));
        }
        Ok(Some((validity, uids)))
    });
    match copied.map_err(target)? {
        Some((validity, uids)) if !uids.is_empty() => {
            let code = format!("[COPYUID {validity} {} {}]", uid_set(&sources), uid_set(&uids));
            if moves {
                // The numbers are needed before the expunges that follow (RFC 6851 section 4.3).
                write!(out, "* OK {code} moved\r\n").expect("a String takes everything");
                Ok("moved".into())
            } else {
                Ok(format!("{code} copied"))
            }
        }
        _ => Ok("nothing to do".into()),
    }
}

/// EXPUNGE, UID EXPUNGE of RFC 4315, and what CLOSE does in silence.
pub(super) fn expunge(store: &Store, view: &View, only: Option<&mut Cursor>) -> Outcome {
    let ranges = match only {
        Some(cursor) => {
            cursor.space()?;
            let set = cursor.sequence_set()?;
            cursor.end()?;
            let last = view.places().last().and_then(|place| view.uid(place)).unwrap_or(0);
            Some(set.ranges(last))
        }
        None => None,
    };
    writable(view)?;
    view.change(store, |folder| {
        let chosen = |uid| ranges.as_ref().is_none_or(|ranges| contains(ranges, uid));
        folder.items.retain(|item| !(item.flags.has("\\Deleted") && chosen(item.uid)));
    });
    Ok("expunged".into())
}

/// SEARCH.
pub(super) fn search(store: &Store, view: &View, cursor: &mut Cursor, by_uid: bool, out: &mut String) -> Outcome {
    cursor.space()?;
    let key = Key::read_all(cursor).map_err(|fault| match fault {
        Fault::Charset => Failure::No("[BADCHARSET (UTF-8 US-ASCII)] that character set is not known"),
        Fault::Syntax(bad) => bad.into(),
    })?;
    let last = view.places().last();
    let number = |place: usize| u32::try_from(place + 1).unwrap_or(u32::MAX);
    out.push_str("* SEARCH");
    for place in view.places() {
        let Some(item) = view.item(store, place) else { continue };
        let known = Place {
            number: number(place),
            recent: view.is_recent(place),
            last_number: last.map_or(0, number),
            last_uid: last.and_then(|last| view.uid(last)).unwrap_or(0),
        };
        if key.meets(&item, &known) {
            let found = if by_uid { item.uid } else { known.number };
            write!(out, " {found}").expect("a String takes everything");
        }
    }
    out.push_str("\r\n");
    Ok("searched".into())
}

fn writable(view: &View) -> Result<(), Failure> {
    if view.read_only { Err(Failure::No("[READ-ONLY] the folder was opened for reading")) } else { Ok(()) }
}

/// `3,5:9`
fn uid_set(uids: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &uid in uids {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(uid) => *last = uid,
            _ => ranges.push((uid, uid)),
        }
    }
    let said = |(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}:{last}") };
    ranges.iter().map(said).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_uids_is_said_shortly() {
        for (uids, said) in [(&[3][..], "3"), (&[3, 4, 5], "3:5"), (&[1, 3, 4, 9], "1,3:4,9"), (&[], "")] {
            assert_eq!(uid_set(uids), said);
        }
    }
}
