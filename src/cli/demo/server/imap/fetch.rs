//! FETCH: what is asked of a message, and the answer (RFC 3501 sections 6.4.5 and 7.4.2).

use super::super::store::{Item, Store};
use super::super::wire::Wire;
use super::cursor::{BadSyntax, Cursor, upper};
use super::mime::Part;
use super::section::Section;
use super::structure::{envelope, structure};
use super::view::View;
use bytes::Bytes;
use std::io;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// Things asked of a message in one FETCH.
const ATTRIBUTES: usize = 64;

/// ` 7-Nov-2026 09:30:00 +0000`
const DATE_TIME: &[BorrowedFormatItem<'_>] = format_description!(
    "[day padding:space]-[month repr:short]-[year] [hour]:[minute]:[second] [offset_hour sign:mandatory][offset_minute]"
);

/// One thing asked of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attribute {
    Flags,
    Uid,
    InternalDate,
    Size,
    Envelope,
    Structure { extended: bool },
    Section { name: String, section: Section, partial: Option<(u32, u32)>, marks_seen: bool },
}

impl Attribute {
    /// Reads one, or a list of them, or one of the three macros.
    pub(super) fn read_all(cursor: &mut Cursor) -> Result<Vec<Self>, BadSyntax> {
        if cursor.peek() == Some(b'(') {
            let attributes = cursor.list(Self::read)?;
            if attributes.is_empty() || attributes.len() > ATTRIBUTES {
                return Err(BadSyntax("nothing asked, or too much at once"));
            }
            return Ok(attributes);
        }
        let mut ahead = cursor.clone();
        let envelope = [Self::Flags, Self::InternalDate, Self::Size, Self::Envelope];
        let attributes = match ahead.word()?.as_str() {
            "FAST" => envelope[..3].to_vec(),
            "ALL" => envelope.to_vec(),
            "FULL" => [&envelope[..], &[Self::Structure { extended: false }]].concat(),
            _ => return Ok(vec![Self::read(cursor)?]),
        };
        *cursor = ahead;
        Ok(attributes)
    }

    fn read(cursor: &mut Cursor) -> Result<Self, BadSyntax> {
        let word = upper(&cursor.run(|b| b.is_ascii_alphanumeric() || b == b'.'));
        let section = |name: &str, section, marks_seen| {
            Ok(Self::Section { name: name.to_owned(), section, partial: None, marks_seen })
        };
        match word.as_str() {
            "FLAGS" => Ok(Self::Flags),
            "UID" => Ok(Self::Uid),
            "INTERNALDATE" => Ok(Self::InternalDate),
            "RFC822.SIZE" => Ok(Self::Size),
            "ENVELOPE" => Ok(Self::Envelope),
            "BODYSTRUCTURE" => Ok(Self::Structure { extended: true }),
            "RFC822" => section("RFC822", Section::everything(), true),
            "RFC822.HEADER" => section("RFC822.HEADER", Section::header(), false),
            "RFC822.TEXT" => section("RFC822.TEXT", Section::body(), true),
            "BODY" if cursor.peek() != Some(b'[') => Ok(Self::Structure { extended: false }),
            "BODY" | "BODY.PEEK" => {
                cursor.expect(b'[', "a [ is missing")?;
                let section = Section::read(cursor)?;
                let partial = partial(cursor)?;
                let offset = partial.map(|(offset, _)| format!("<{offset}>")).unwrap_or_default();
                let name = format!("BODY[{}]{offset}", section.name());
                Ok(Self::Section { name, section, partial, marks_seen: word == "BODY" })
            }
            _ => Err(BadSyntax("there is nothing of that name to fetch")),
        }
    }

    fn marks_seen(&self) -> bool {
        matches!(self, Self::Section { marks_seen: true, .. })
    }

    fn needs_parts(&self) -> bool {
        matches!(self, Self::Structure { .. } | Self::Section { .. })
    }
}

/// Answers for the messages at `places`; false if one of them is gone.
pub(super) async fn fetch(
    wire: &mut Wire,
    store: &Store,
    view: &mut View,
    places: &[usize],
    attributes: &[Attribute],
) -> io::Result<bool> {
    let mark = !view.read_only && attributes.iter().any(Attribute::marks_seen);
    let mut all_there = true;
    for &place in places {
        let Some(item) = view.item(store, place) else {
            all_there = false;
            continue;
        };
        let newly_seen = mark && !item.flags.has("\\Seen");
        let item = if newly_seen { seen(store, view, item) } else { item };
        answer(wire, view, place, &item, attributes, newly_seen).await?;
    }
    Ok(all_there)
}

fn seen(store: &Store, view: &View, mut item: Item) -> Item {
    item.flags.set("\\Seen");
    view.change(store, |folder| {
        if let Some(kept) = folder.item_mut(item.uid) {
            kept.flags.set("\\Seen");
        }
    });
    item
}

async fn answer(
    wire: &mut Wire,
    view: &mut View,
    place: usize,
    item: &Item,
    attributes: &[Attribute],
    newly_seen: bool,
) -> io::Result<()> {
    let raw = &item.message.raw;
    let root = attributes.iter().any(Attribute::needs_parts).then(|| Part::of(raw));
    wire.send(format!("* {} FETCH (", place + 1)).await?;
    let extra = (newly_seen && !attributes.contains(&Attribute::Flags)).then_some(&Attribute::Flags);
    for (index, attribute) in attributes.iter().chain(extra).enumerate() {
        if index > 0 {
            wire.send(" ").await?;
        }
        match (attribute, &root) {
            (Attribute::Flags, _) => wire.send(format!("FLAGS ({})", view.shown(place, &item.flags))).await?,
            (Attribute::Uid, _) => wire.send(format!("UID {}", item.uid)).await?,
            (Attribute::InternalDate, _) => {
                wire.send(format!("INTERNALDATE \"{}\"", date_time(item.arrived))).await?;
            }
            (Attribute::Size, _) => wire.send(format!("RFC822.SIZE {}", raw.len())).await?,
            (Attribute::Envelope, _) => {
                let header = root.as_ref().map_or_else(|| Part::of(raw).header, |root| root.header.clone());
                wire.send("ENVELOPE ").await?;
                wire.send(envelope(&raw[header])).await?;
            }
            (Attribute::Structure { extended }, Some(root)) => {
                wire.send(if *extended { "BODYSTRUCTURE " } else { "BODY " }).await?;
                wire.send(structure(raw, root, *extended)).await?;
            }
            (Attribute::Section { name, section, partial, .. }, Some(root)) => match section.of(raw, root) {
                Some(octets) => {
                    let octets = within(&octets, *partial);
                    wire.send(format!("{name} {{{}}}\r\n", octets.len())).await?;
                    wire.send(octets).await?;
                }
                None => wire.send(format!("{name} NIL")).await?,
            },
            (Attribute::Structure { .. } | Attribute::Section { .. }, None) => {}
        }
    }
    wire.send(")\r\n").await
}

/// `<offset.count>`
fn partial(cursor: &mut Cursor) -> Result<Option<(u32, u32)>, BadSyntax> {
    if !cursor.take(b'<') {
        return Ok(None);
    }
    let offset = cursor.number()?;
    cursor.expect(b'.', "a . is missing")?;
    let count = cursor.number()?;
    cursor.expect(b'>', "a > is missing")?;
    if count == 0 { Err(BadSyntax("nothing asked for")) } else { Ok(Some((offset, count))) }
}

fn within(octets: &Bytes, partial: Option<(u32, u32)>) -> Bytes {
    let Some((offset, count)) = partial else { return octets.clone() };
    let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).min(octets.len());
    octets.slice(place(offset.into())..place(u64::from(offset) + u64::from(count)))
}

/// A date and time as IMAP writes them.
pub(super) fn date_time(at: OffsetDateTime) -> String {
    at.format(DATE_TIME).unwrap_or_default()
}

/// Reads one back; the day may have one digit or two.
pub(super) fn parse_date_time(text: &str) -> Result<OffsetDateTime, BadSyntax> {
    let padded = if text.find('-') == Some(1) {
        format!(" {text}")
    } else {
        text.replacen('0', " ", usize::from(text.starts_with('0')))
    };
    OffsetDateTime::parse(&padded, DATE_TIME).map_err(|_| BadSyntax("that is no date and time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Attribute>, BadSyntax> {
        let mut cursor = Cursor::new(Bytes::copy_from_slice(text.as_bytes()));
        let attributes = Attribute::read_all(&mut cursor)?;
        cursor.end()?;
        Ok(attributes)
    }

    #[test]
    fn what_clients_ask_for_is_understood() {
        // Thunderbird, Apple Mail, mutt, mbsync, curl and imaplib, as they write it.
        for text in [
            "(UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID)])",
            "(INTERNALDATE UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (date subject from)])",
            "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (DATE FROM)])",
            "(UID BODY.PEEK[])",
            "BODY[]",
            "BODY[HEADER]",
            "(RFC822)",
            "rfc822",
            "BODY.PEEK[1.MIME]<0.1024>",
            "(FLAGS BODY BODYSTRUCTURE ENVELOPE)",
            "ALL",
            "full",
        ] {
            assert!(read(text).is_ok(), "{text}");
        }
        for bad in ["", "()", "BODY[", "BODY[]<0.0>", "BODY[]<0>", "X", "(FLAGS", "(FLAGS ALL)", "FLAGS UID"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_part_of_a_text_never_reaches_over_its_end() {
        let text = Bytes::from_static(b"0123456789");
        for (partial, octets) in
            [((0, 3), "012"), ((8, 5), "89"), ((10, 1), ""), ((99, 1), ""), ((1, u32::MAX), "123456789")]
        {
            assert_eq!(within(&text, Some(partial)), octets, "{partial:?}");
        }
    }

    #[test]
    fn a_date_is_read_as_it_is_written() {
        for text in [" 7-Nov-2026 09:30:00 +0100", "17-Nov-2026 23:59:59 -0800"] {
            assert_eq!(date_time(parse_date_time(text).unwrap()), text);
        }
        assert_eq!(parse_date_time("07-Nov-2026 09:30:00 +0100"), parse_date_time(" 7-Nov-2026 09:30:00 +0100"));
        assert_eq!(parse_date_time("7-Nov-2026 09:30:00 +0100"), parse_date_time(" 7-Nov-2026 09:30:00 +0100"));
        assert!(parse_date_time("yesterday").is_err());
    }
}
