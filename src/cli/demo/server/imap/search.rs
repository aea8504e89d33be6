//! SEARCH: criteria, and whether a message meets them (RFC 3501 section 6.4.4).

use super::super::store::Item;
use super::cursor::{BadSyntax, Cursor, SequenceSet, contains};
use super::mime::{Fields, Kind, Part, raw_fields};
use mail_parser::{HeaderValue, MessageParser};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Date, Month};

/// Criteria within one another.
const DEPTH: usize = 16;
/// Criteria in one SEARCH.
const CRITERIA: usize = 200;

const DATE: &[BorrowedFormatItem<'_>] = format_description!("[day padding:none]-[month repr:short]-[year]");

/// One criterion.
#[derive(Debug)]
pub(super) enum Key {
    All(Vec<Key>),
    Or(Box<Key>, Box<Key>),
    Not(Box<Key>),
    Flag(String),
    Recent,
    Numbers(SequenceSet),
    Uids(SequenceSet),
    Arrived(Than, Date),
    Sent(Than, Date),
    Larger(usize),
    Smaller(usize),
    Header(String, String),
    Body(String),
    Text(String),
}

/// How a date is compared.
#[derive(Debug, Clone, Copy)]
pub(super) enum Than {
    Before,
    On,
    Since,
}

/// What a message's place in its folder adds to it.
pub(super) struct Place {
    pub(super) number: u32,
    pub(super) recent: bool,
    pub(super) last_number: u32,
    pub(super) last_uid: u32,
}

/// A character set we do not have; the answer names those we do.
#[derive(Debug)]
pub(super) enum Fault {
    Charset,
    Syntax(BadSyntax),
}

impl From<BadSyntax> for Fault {
    fn from(bad: BadSyntax) -> Self {
        Self::Syntax(bad)
    }
}

impl Key {
    /// Reads all that stands behind SEARCH.
    pub(super) fn read_all(cursor: &mut Cursor) -> Result<Self, Fault> {
        let mut ahead = cursor.clone();
        if ahead.word().is_ok_and(|word| word == "CHARSET") {
            ahead.space()?;
            let charset = ahead.astring()?;
            if !charset.eq_ignore_ascii_case(b"UTF-8") && !charset.eq_ignore_ascii_case(b"US-ASCII") {
                return Err(Fault::Charset);
            }
            ahead.space()?;
            *cursor = ahead;
        }
        let mut left = CRITERIA;
        let mut keys = vec![Self::read(cursor, DEPTH, &mut left)?];
        while !cursor.at_end() {
            cursor.space()?;
            keys.push(Self::read(cursor, DEPTH, &mut left)?);
        }
        Ok(Self::All(keys))
    }

    fn read(cursor: &mut Cursor, depth: usize, left: &mut usize) -> Result<Self, BadSyntax> {
        let deeper = depth.checked_sub(1).ok_or(BadSyntax("too deep"))?;
        *left = left.checked_sub(1).ok_or(BadSyntax("too many criteria"))?;
        match cursor.peek() {
            Some(b'(') => return Ok(Self::All(cursor.list(|cursor| Self::read(cursor, deeper, left))?)),
            Some(b'0'..=b'9' | b'*') => return Ok(Self::Numbers(cursor.sequence_set()?)),
            _ => {}
        }
        let word = cursor.word()?;
        Ok(match word.as_str() {
            "ALL" => Self::All(Vec::new()),
            "ANSWERED" | "DELETED" | "DRAFT" | "FLAGGED" | "SEEN" => Self::Flag(format!("\\{word}")),
            "UNANSWERED" | "UNDELETED" | "UNDRAFT" | "UNFLAGGED" | "UNSEEN" => {
                Self::Flag(format!("\\{}", &word[2..])).negated()
            }
            "RECENT" => Self::Recent,
            "OLD" => Self::Recent.negated(),
            "NEW" => Self::All(vec![Self::Recent, Self::Flag("\\Seen".into()).negated()]),
            "NOT" => {
                cursor.space()?;
                Self::read(cursor, deeper, left)?.negated()
            }
            "OR" => {
                cursor.space()?;
                let one = Self::read(cursor, deeper, left)?;
                cursor.space()?;
                Self::Or(Box::new(one), Box::new(Self::read(cursor, deeper, left)?))
            }
            "KEYWORD" => Self::Flag(text(cursor)?),
            "UNKEYWORD" => Self::Flag(text(cursor)?).negated(),
            "BEFORE" => Self::Arrived(Than::Before, date(cursor)?),
            "ON" => Self::Arrived(Than::On, date(cursor)?),
            "SINCE" => Self::Arrived(Than::Since, date(cursor)?),
            "SENTBEFORE" => Self::Sent(Than::Before, date(cursor)?),
            "SENTON" => Self::Sent(Than::On, date(cursor)?),
            "SENTSINCE" => Self::Sent(Than::Since, date(cursor)?),
            "LARGER" => Self::Larger(size(cursor)?),
            "SMALLER" => Self::Smaller(size(cursor)?),
            "UID" => {
                cursor.space()?;
                Self::Uids(cursor.sequence_set()?)
            }
            "HEADER" => {
                let name = text(cursor)?;
                Self::Header(name, text(cursor)?.to_lowercase())
            }
            "BCC" | "CC" | "FROM" | "SUBJECT" | "TO" => Self::Header(word, text(cursor)?.to_lowercase()),
            "BODY" => Self::Body(text(cursor)?.to_lowercase()),
            "TEXT" => Self::Text(text(cursor)?.to_lowercase()),
            _ => return Err(BadSyntax("there is no such criterion")),
        })
    }

    fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// Whether a message meets it.
    pub(super) fn meets(&self, item: &Item, place: &Place) -> bool {
        let raw = &item.message.raw;
        match self {
            Self::All(keys) => keys.iter().all(|key| key.meets(item, place)),
            Self::Or(one, other) => one.meets(item, place) || other.meets(item, place),
            Self::Not(key) => !key.meets(item, place),
            Self::Flag(flag) => item.flags.has(flag),
            Self::Recent => place.recent,
            Self::Numbers(set) => contains(&set.ranges(place.last_number), place.number),
            Self::Uids(set) => contains(&set.ranges(place.last_uid), item.uid),
            Self::Arrived(than, date) => than.holds(item.arrived.date(), *date),
            Self::Sent(than, date) => {
                let header = Part::of(raw).header;
                sent(&Fields::of(&raw[header])).is_some_and(|sent| than.holds(sent, *date))
            }
            Self::Larger(size) => raw.len() > *size,
            Self::Smaller(size) => raw.len() < *size,
            Self::Header(name, wanted) => header_holds(&raw[Part::of(raw).header], Some(name), wanted),
            Self::Body(wanted) => body_holds(raw, &Part::of(raw), wanted),
            Self::Text(wanted) => {
                let root = Part::of(raw);
                header_holds(&raw[root.header.clone()], None, wanted) || body_holds(raw, &root, wanted)
            }
        }
    }
}

impl Than {
    fn holds(self, date: Date, than: Date) -> bool {
        match self {
            Self::Before => date < than,
            Self::On => date == than,
            Self::Since => date >= than,
        }
    }
}

/// Looks in the fields as they stand and as they read; without a name, in all.
fn header_holds(header: &[u8], name: Option<&str>, wanted: &str) -> bool {
    let named = |field: &[u8]| name.is_none_or(|name| name.as_bytes().eq_ignore_ascii_case(field));
    let as_it_stands = raw_fields(header).filter(|(field, _)| named(field)).any(|(field, text)| {
        let value = text.get(field.len() + 1..).unwrap_or_default();
        holds(&String::from_utf8_lossy(if name.is_some() { value } else { text }), wanted)
    });
    as_it_stands
        || Fields::of(header)
            .all()
            .iter()
            .filter(|field| named(field.name.as_str().as_bytes()))
            .any(|field| holds(&readable(&field.value), wanted))
}

fn readable(value: &HeaderValue<'_>) -> String {
    match value {
        HeaderValue::Text(text) => text.to_string(),
        HeaderValue::TextList(texts) => texts.join(" "),
        HeaderValue::Address(addresses) => addresses
            .iter()
            .map(|addr| format!("{} {}", addr.name().unwrap_or_default(), addr.address().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(", "),
        _ => String::new(),
    }
}

/// Looks in the texts of a message, decoded.
fn body_holds(raw: &[u8], part: &Part, wanted: &str) -> bool {
    match &part.kind {
        Kind::Multipart(parts) => parts.iter().any(|child| body_holds(raw, child, wanted)),
        Kind::Message(inner) => {
            header_holds(&raw[inner.header.clone()], None, wanted) || body_holds(raw, inner, wanted)
        }
        Kind::Leaf => {
            let header = &raw[part.header.clone()];
            let is_text = Fields::of(header).content_type().is_none_or(|kind| kind.c_type.eq_ignore_ascii_case("text"));
            // Only a text is given to the decoder: it opens messages within messages to any depth.
            is_text
                && MessageParser::default()
                    .parse(&raw[part.header.start..part.body.end])
                    .and_then(|message| {
                        message.parts.first().and_then(|part| part.text_contents().map(|text| holds(text, wanted)))
                    })
                    .unwrap_or_else(|| holds(&String::from_utf8_lossy(&raw[part.body.clone()]), wanted))
        }
    }
}

fn holds(text: &str, wanted: &str) -> bool {
    text.to_lowercase().contains(wanted)
}

/// The day in the Date field; its time and zone do not count.
fn sent(fields: &Fields<'_>) -> Option<Date> {
    let date = fields.date()?;
    Date::from_calendar_date(date.year.into(), Month::try_from(date.month).ok()?, date.day).ok()
}

fn text(cursor: &mut Cursor) -> Result<String, BadSyntax> {
    cursor.space()?;
    Ok(String::from_utf8_lossy(&cursor.astring()?).into_owned())
}

fn size(cursor: &mut Cursor) -> Result<usize, BadSyntax> {
    cursor.space()?;
    Ok(usize::try_from(cursor.number()?).unwrap_or(usize::MAX))
}

fn date(cursor: &mut Cursor) -> Result<Date, BadSyntax> {
    let text = text(cursor)?;
    let text = text.strip_prefix('0').unwrap_or(&text);
    Date::parse(text, DATE).map_err(|_| BadSyntax("that is no date"))
}

#[cfg(test)]
mod tests {
    use super::super::super::store::{Flags, Message, Store};
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use time::macros::datetime;

    fn item(raw: &'static str) -> Item {
        let space = Store::new().space(raw.len()).unwrap();
        let message = Message::new(Bytes::from_static(raw.as_bytes()), space);
        Item { uid: 7, flags: Flags::of(&["\\Seen", "work"]), arrived: datetime!(2026-11-07 09:30 UTC), message }
    }

    #[test]
    fn criteria_mean_what_rfc_3501_says() {
        let item = item(
            "From: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= <m@example.net>\r\nSubject: =?utf-8?B?R3LDvMOfZQ==?=\r\n\
             Date: Mon, 2 Nov 2026 08:00:00 +0000\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\r\nBlumen bl=C3=BChen\r\n",
        );
        let place = Place { number: 2, recent: false, last_number: 3, last_uid: 9 };
        let cases = [
            ("ALL", true),
            ("SEEN UNDELETED KEYWORD work", true),
            ("UNSEEN", false),
            ("NOT SEEN", false),
            ("OR UNSEEN UID 7", true),
            ("(SEEN DELETED)", false),
            ("1:2", true),
            ("*", false),
            ("UID 8:*", false),
            ("NEW", false),
            ("OLD", true),
            ("SINCE 7-Nov-2026", true),
            ("BEFORE 07-Nov-2026", false),
            ("ON \"7-Nov-2026\"", true),
            ("SENTON 2-Nov-2026", true),
            ("SENTBEFORE 2-Nov-2026", false),
            ("LARGER 10 SMALLER 10000", true),
            ("SUBJECT grüße", true),
            ("FROM GRÜSSE", false),
            ("FROM grüße", true),
            ("FROM m@example", true),
            ("HEADER date Nov", true),
            ("HEADER X-None \"\"", false),
            ("BODY blühen", true),
            ("TEXT example.net", true),
            ("BODY example.net", false),
        ];
        for (text, expected) in cases {
            // As literals, since that is how 8-bit text comes.
            let text = text
                .split(' ')
                .map(|word| if word.is_ascii() { word.to_owned() } else { format!("{{{}}}\r\n{word}", word.len()) });
            let text = text.collect::<Vec<_>>().join(" ");
            let key = Key::read_all(&mut Cursor::new(Bytes::from(format!("CHARSET utf-8 {text}")))).expect(&text);
            assert_eq!(key.meets(&item, &place), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_criterion_is_refused() {
        let deep = "NOT ".repeat(100) + "ALL";
        let many = vec!["ALL"; 1000].join(" ");
        for bad in ["", "SUBJECT", "XYZ", "SINCE yesterday", "OR ALL", "(ALL", "CHARSET koi8-r ALL", &deep, &many] {
            assert!(Key::read_all(&mut Cursor::new(Bytes::copy_from_slice(bad.as_bytes()))).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(words in prop::collection::vec(
            prop_oneof![
                "ALL|NOT|OR|UID|SUBJECT|HEADER|SINCE|LARGER|CHARSET|FLAGS|BODY|BODY.PEEK\\[|HEADER.FIELDS",
                "[()\\[\\]<>.:,*{}\"\\\\+0-9 ]{1,4}", "\\PC{0,6}",
            ], 0..12), glue in "[ ]?")
        {
            let text = Bytes::from(words.join(&glue));
            let _ = Key::read_all(&mut Cursor::new(text.clone()));
            let _ = super::super::fetch::Attribute::read_all(&mut Cursor::new(text));
        }
    }
}
