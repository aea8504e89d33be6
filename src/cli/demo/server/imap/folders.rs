//! Folders by name: LIST and its kin, STATUS, CREATE, DELETE, RENAME, APPEND.

use super::super::store::{DELIMITER, Flags, Folder, FolderFault, Folders, Message, Space, Store};
use super::cursor::{Cursor, string};
use super::fetch::parse_date_time;
use super::{Failure, Outcome};
use time::OffsetDateTime;

/// Names in one LIST.
const PATTERNS: usize = 20;

/// LIST (RFC 3501 section 6.3.8, with what RFC 5258 and 6154 let clients ask for) and LSUB.
pub(super) fn list(store: &Store, command: &str, cursor: &mut Cursor, out: &mut String) -> Outcome {
    cursor.space()?;
    let mut only_subscribed = command == "LSUB";
    let mut only_special = false;
    if cursor.peek() == Some(b'(') {
        let selection = cursor.list(|cursor| Ok(super::cursor::upper(&cursor.astring()?)))?;
        cursor.space()?;
        only_subscribed |= selection.iter().any(|word| word == "SUBSCRIBED");
        only_special = selection.iter().any(|word| word == "SPECIAL-USE");
    }
    let reference = cursor.mailbox()?;
    cursor.space()?;
    let patterns =
        if cursor.peek() == Some(b'(') { cursor.list(Cursor::list_mailbox)? } else { vec![cursor.list_mailbox()?] };
    if patterns.len() > PATTERNS {
        return Err(Failure::Bad("too many names"));
    }
    // What RETURN asks for is said anyway, or was not offered.
    if let [pattern] = &patterns[..]
        && pattern.is_empty()
        && command == "LIST"
    {
        out.push_str(&format!("* LIST (\\Noselect) \"{DELIMITER}\" \"\"\r\n"));
        return Ok("done".into());
    }
    let patterns: Vec<_> =
        patterns.iter().map(|pattern| format!("{reference}{}", String::from_utf8_lossy(pattern))).collect();
    store.read(|folders| {
        for (name, folder) in folders.iter() {
            let wanted = patterns.iter().any(|pattern| matches(pattern, name))
                && (!only_subscribed || folder.subscribed)
                && (!only_special || folder.special_use.is_some());
            if wanted {
                let attributes = attributes(folders, name, folder);
                out.push_str(&format!("* {command} ({attributes}) \"{DELIMITER}\" {}\r\n", quoted(name)));
            }
        }
    });
    Ok("done".into())
}

/// SUBSCRIBE and UNSUBSCRIBE.
pub(super) fn subscribe(store: &Store, cursor: &mut Cursor, subscribed: bool) -> Outcome {
    let name = only_name(cursor)?;
    store.change(|folders| folders.named_mut(&name).map(|folder| folder.subscribed = subscribed)).ok_or(MISSING)?;
    Ok("done".into())
}

/// STATUS (RFC 3501 section 6.3.10).
pub(super) fn status(store: &Store, cursor: &mut Cursor, out: &mut String) -> Outcome {
    cursor.space()?;
    let name = cursor.mailbox()?;
    cursor.space()?;
    let items = cursor.list(Cursor::word)?;
    cursor.end()?;
    let counts = store.read(|folders| {
        let folder = folders.named(&name).ok_or(MISSING)?;
        let counts: Option<Vec<_>> =
            items.iter().map(|item| Some(format!("{item} {}", count(folder, item)?))).collect();
        counts.ok_or(Failure::Bad("there is no such count"))
    })?;
    out.push_str(&format!("* STATUS {} ({})\r\n", quoted(&name), counts.join(" ")));
    Ok("done".into())
}

/// CREATE.
pub(super) fn create(store: &Store, cursor: &mut Cursor) -> Outcome {
    cursor.space()?;
    let name = cursor.mailbox()?;
    // `(USE …)` of RFC 6154 was not offered.
    cursor.end()?;
    store.change(|folders| folders.create(&name))?;
    Ok("made".into())
}

/// DELETE.
pub(super) fn delete(store: &Store, cursor: &mut Cursor) -> Outcome {
    let name = only_name(cursor)?;
    store.change(|folders| folders.delete(&name))?;
    Ok("deleted".into())
}

/// RENAME.
pub(super) fn rename(store: &Store, cursor: &mut Cursor) -> Outcome {
    cursor.space()?;
    let from = cursor.mailbox()?;
    let to = only_name(cursor)?;
    store.change(|folders| folders.rename(&from, &to))?;
    Ok("renamed".into())
}

/// APPEND (RFC 3501 section 6.3.11), with the place the message got (RFC 4315).
pub(super) fn append(store: &Store, cursor: &mut Cursor, space: Option<Space>) -> Outcome {
    cursor.space()?;
    let name = cursor.mailbox()?;
    cursor.space()?;
    let mut flags = Flags::default();
    if cursor.peek() == Some(b'(') {
        for flag in cursor.list(Cursor::flag)? {
            if !flag.eq_ignore_ascii_case("\\Recent") {
                flags.set(&flag);
            }
        }
        cursor.space()?;
    }
    let mut arrived = OffsetDateTime::now_utc();
    if cursor.peek() == Some(b'"') {
        arrived = parse_date_time(&String::from_utf8_lossy(&cursor.astring()?))?;
        cursor.space()?;
    }
    let raw = cursor.literal()?;
    cursor.end()?;
    if raw.is_empty() {
        return Err(Failure::No("a message of nothing"));
    }
    let space = match space {
        Some(space) => space,
        None => store.space(raw.len()).map_err(|_| FolderFault::Full)?,
    };
    let message = Message::new(raw, space);
    let (validity, uid) = store.change(|folders| folders.append(&name, message, flags, arrived)).map_err(target)?;
    Ok(format!("[APPENDUID {validity} {uid}] kept"))
}

/// A fault of the folder that is to take a message: the client may offer to make it.
pub(super) fn target(fault: FolderFault) -> Failure {
    match fault {
        FolderFault::Missing => Failure::No("[TRYCREATE] there is no such folder"),
        other => other.into(),
    }
}

impl From<FolderFault> for Failure {
    fn from(fault: FolderFault) -> Self {
        match fault {
            FolderFault::Missing => MISSING,
            FolderFault::Exists => Self::No("[ALREADYEXISTS] there is one of that name"),
            FolderFault::Inbox => Self::No("[CANNOT] the INBOX stays"),
            FolderFault::HasChildren => Self::No("[HASCHILDREN] there are folders in it"),
            FolderFault::BadName => Self::No("[CANNOT] that is no name for a folder"),
            FolderFault::Full => Self::No("[OVERQUOTA] no room left in the demo"),
        }
    }
}

/// The one folder a command is about.
fn only_name(cursor: &mut Cursor) -> Result<String, Failure> {
    cursor.space()?;
    let name = cursor.mailbox()?;
    cursor.end()?;
    Ok(name)
}

const MISSING: Failure = Failure::No("[NONEXISTENT] there is no such folder");

fn attributes(folders: &Folders, name: &str, folder: &Folder) -> String {
    let children = if folders.has_children(name) { "\\HasChildren" } else { "\\HasNoChildren" };
    folder.special_use.map_or_else(|| children.to_owned(), |special| format!("{children} {special}"))
}

fn count(folder: &Folder, item: &str) -> Option<usize> {
    let number = |number: u32| usize::try_from(number).ok();
    match item {
        "MESSAGES" => Some(folder.items.len()),
        "RECENT" => Some(folder.items.iter().filter(|item| item.uid >= folder.first_recent).count()),
        "UNSEEN" => Some(folder.items.iter().filter(|item| !item.flags.has("\\Seen")).count()),
        "UIDNEXT" => number(folder.uid_next),
        "UIDVALIDITY" => number(folder.id),
        _ => None,
    }
}

fn quoted(name: &str) -> String {
    String::from_utf8_lossy(&string(name.as_bytes())).into_owned()
}

/// Whether a name fits a pattern: `*` stands for anything, `%` for anything within a level. Each octet of the
/// pattern is looked at once for each of the name, whatever the pattern.
fn matches(pattern: &str, name: &str) -> bool {
    let name = name.as_bytes();
    let is_inbox = name == b"INBOX";
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for symbol in pattern.bytes() {
        if matches!(symbol, b'*' | b'%') {
            for at in 0..name.len() {
                let passable = symbol == b'*' || name[at] != DELIMITER as u8;
                reached[at + 1] |= reached[at] && passable;
            }
        } else {
            for at in (0..name.len()).rev() {
                let same = symbol == name[at] || is_inbox && symbol.eq_ignore_ascii_case(&name[at]);
                reached[at + 1] = reached[at] && same;
            }
            reached[0] = false;
        }
    }
    reached[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_names() {
        let cases = [
            ("*", "a/b", true),
            ("%", "a/b", false),
            ("%", "a", true),
            ("%/%", "a/b", true),
            ("a%", "a", true),
            ("a*c", "a/b/c", true),
            ("a*d", "a/b/c", false),
            ("inbox", "INBOX", true),
            ("sent", "Sent", false),
            ("", "a", false),
            ("*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
