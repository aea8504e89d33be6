//! Where the parts of a message lie (RFC 2045, 2046): ranges of octets, as IMAP numbers them.
//!
//! Fields are read by the mail-parser crate. The parts are cut here, since IMAP wants each part's exact octets and
//! a bound on depth, and no decoding.

use mail_parser::{ContentType, Header, HeaderName, HeaderValue, Message, MessageParser, MimeHeaders};
use memchr::memchr;
use std::ops::Range;

/// Multiparts and messages within one another; what lies deeper stays one part.
const DEPTH: usize = 20;
/// Parts of one multipart; what comes behind belongs to the last.
const PARTS: usize = 100;

/// A message or a part of one.
#[derive(Debug)]
pub(super) struct Part {
    /// Its header with the empty line behind it.
    pub(super) header: Range<usize>,
    pub(super) body: Range<usize>,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Leaf,
    Multipart(Vec<Part>),
    /// message/rfc822, with the message in it.
    Message(Box<Part>),
}

impl Part {
    /// Finds the parts of a message.
    pub(super) fn of(raw: &[u8]) -> Self {
        cut(raw, 0..raw.len(), "text/plain", DEPTH)
    }

    /// The part with the numbers of a section: `BODY[2.1]`.
    pub(super) fn at(&self, numbers: &[u32]) -> Option<&Part> {
        let mut container = Some(self);
        let mut found = self;
        for &number in numbers {
            found = match &container?.kind {
                Kind::Multipart(parts) => parts.get(usize::try_from(number).ok()?.checked_sub(1)?)?,
                // A message that has no parts is its own first part.
                Kind::Leaf | Kind::Message(_) if number == 1 => container?,
                Kind::Leaf | Kind::Message(_) => return None,
            };
            container = match &found.kind {
                Kind::Leaf => None,
                Kind::Multipart(_) => Some(found),
                Kind::Message(inner) => Some(inner),
            };
        }
        Some(found)
    }
}

/// The fields of a header, read.
pub(super) struct Fields<'a>(Option<Message<'a>>);

impl<'a> Fields<'a> {
    pub(super) fn of(header: &'a [u8]) -> Self {
        Self(MessageParser::default().parse_headers(header))
    }

    /// The last field of that name; of fields that may stand once, this is the one mail programs go by.
    pub(super) fn field(&self, name: &HeaderName<'_>) -> Option<&Header<'a>> {
        self.all().iter().rev().find(|header| header.name == *name)
    }

    pub(super) fn all(&self) -> &[Header<'a>] {
        self.0.as_ref().map_or(&[], |message| message.headers())
    }

    pub(super) fn value(&self, name: &HeaderName<'_>) -> Option<&HeaderValue<'a>> {
        self.field(name).map(|field| &field.value)
    }

    pub(super) fn content_type(&self) -> Option<&ContentType<'_>> {
        self.0.as_ref()?.content_type()
    }

    pub(super) fn disposition(&self) -> Option<&ContentType<'_>> {
        self.0.as_ref()?.content_disposition()
    }

    pub(super) fn date(&self) -> Option<&mail_parser::DateTime> {
        self.0.as_ref()?.date()
    }

    /// `type/subtype` in small letters.
    fn media_type(&self) -> Option<String> {
        let content_type = self.content_type()?;
        Some(format!("{}/{}", content_type.c_type, content_type.c_subtype.as_deref()?).to_ascii_lowercase())
    }
}

/// A header's fields as they stand: name, and the range with the line end.
pub(super) fn raw_fields(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = header;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let mut end = 0;
            while end < rest.len() {
                end += memchr(b'\n', &rest[end..]).map_or(rest.len() - end, |at| at + 1);
                if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                    break;
                }
            }
            let (field, behind) = rest.split_at(end);
            rest = behind;
            if let Some(colon) = memchr(b':', field) {
                return Some((field[..colon].trim_ascii_end(), field));
            }
        }
        None
    })
}

/// Cuts at the first empty line, which goes with the header.
fn header_and_body(raw: &[u8], range: Range<usize>) -> (Range<usize>, Range<usize>) {
    let mut at = range.start;
    while at < range.end {
        let next = memchr(b'\n', &raw[at..range.end]).map_or(range.end, |found| at + found + 1);
        if matches!(&raw[at..next], b"\n" | b"\r\n") {
            return (range.start..next, next..range.end);
        }
        at = next;
    }
    (range.clone(), range.end..range.end)
}

fn cut(raw: &[u8], range: Range<usize>, default_type: &str, depth: usize) -> Part {
    let (header, body) = header_and_body(raw, range);
    let fields = Fields::of(&raw[header.clone()]);
    let media_type = fields.media_type().unwrap_or_else(|| default_type.to_owned());
    let boundary = fields.content_type().and_then(|content_type| content_type.attribute("boundary"));
    let kind = match (media_type.as_str(), boundary) {
        _ if depth == 0 => Kind::Leaf,
        ("message/rfc822", _) => Kind::Message(Box::new(cut(raw, body.clone(), "text/plain", depth - 1))),
        (multipart, Some(boundary)) if multipart.starts_with("multipart/") => {
            let default_type = if multipart == "multipart/digest" { "message/rfc822" } else { "text/plain" };
            let parts: Vec<_> = between_boundaries(raw, body.clone(), boundary.as_bytes())
                .into_iter()
                .map(|range| cut(raw, range, default_type, depth - 1))
                .collect();
            if parts.is_empty() { Kind::Leaf } else { Kind::Multipart(parts) }
        }
        _ => Kind::Leaf,
    };
    Part { header, body, kind }
}

/// The parts of a multipart's body. The line end before a boundary belongs to the boundary (RFC 2046 section 5.1.1).
fn between_boundaries(raw: &[u8], body: Range<usize>, boundary: &[u8]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = None;
    let mut at = body.start;
    while at < body.end {
        let next = memchr(b'\n', &raw[at..body.end]).map_or(body.end, |found| at + found + 1);
        let rest = raw[at..next].strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary));
        if let Some(rest) = rest.filter(|rest| rest.starts_with(b"--") || rest.trim_ascii().is_empty()) {
            if let Some(start) = start {
                parts.push(start..without_line_end(raw, start, at));
            }
            if rest.starts_with(b"--") || parts.len() == PARTS {
                return parts;
            }
            start = Some(next);
        }
        at = next;
    }
    parts.extend(start.map(|start| start..body.end));
    parts
}

fn without_line_end(raw: &[u8], start: usize, end: usize) -> usize {
    let content = &raw[start..end];
    let content = content.strip_suffix(b"\n").map_or(content, |line| line.strip_suffix(b"\r").unwrap_or(line));
    start + content.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NESTED: &str = "Subject: s\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\npreamble\r\n--a\r\n\r\nfirst\r\n--a\r\n\
        Content-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n\
        --b\r\n\r\nplain\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\n--a--\r\nepilogue";

    #[test]
    fn parts_are_numbered_as_rfc_3501_says() {
        let root = Part::of(NESTED.as_bytes());
        for (numbers, body) in [(&[1][..], "first"), (&[2, 1], "plain"), (&[2, 2], "<p>")] {
            assert_eq!(&NESTED[root.at(numbers).unwrap().body.clone()], body, "{numbers:?}");
        }
        for missing in [&[0][..], &[3], &[1, 1], &[2, 3], &[2, 1, 1]] {
            assert!(root.at(missing).is_none(), "{missing:?}");
        }
        let single = Part::of(b"Subject: s\r\n\r\ntext");
        assert_eq!(single.at(&[1]).unwrap().body, 14..18);
        assert!(single.at(&[2]).is_none() && single.at(&[1, 1]).is_none());
    }

    #[test]
    fn fields_keep_their_continuation_lines() {
        let header = b"A: 1\r\n 2\r\nB : 3\r\nno colon\r\nC: 4\r\n\r\n";
        let fields: Vec<_> = raw_fields(header).collect();
        assert_eq!(fields[0], (&b"A"[..], &b"A: 1\r\n 2\r\n"[..]));
        assert_eq!(fields[1], (&b"B"[..], &b"B : 3\r\n"[..]));
        assert_eq!(fields[2], (&b"C"[..], &b"C: 4\r\n"[..]));
    }

    #[test]
    fn nesting_without_end_is_cut_off() {
        let bomb = "Content-Type: message/rfc822\r\n\r\n".repeat(50_000);
        let mut part = &Part::of(bomb.as_bytes());
        let mut depth = 0;
        while let Kind::Message(inner) = &part.kind {
            part = inner;
            depth += 1;
        }
        assert_eq!(depth, DEPTH);
    }

    proptest! {
        #[test]
        fn every_part_lies_within_the_message(
            lines in prop::collection::vec(
                prop::sample::select(vec![
                    "--a", "--a--", "--b", "", "text", "Content-Type: multipart/mixed; boundary=a",
                    "Content-Type: multipart/digest; boundary=b", "Content-Type: message/rfc822", "Subject: x",
                ]),
                0..30,
            )
        ) {
            fn within(part: &Part, outer: &Range<usize>) -> bool {
                let inside = |range: &Range<usize>| outer.start <= range.start && range.start <= range.end && range.end <= outer.end;
                inside(&part.header) && inside(&part.body) && match &part.kind {
                    Kind::Leaf => true,
                    Kind::Multipart(parts) => parts.iter().all(|child| within(child, &part.body)),
                    Kind::Message(inner) => within(inner, &part.body),
                }
            }
            let raw = lines.join("\r\n");
            prop_assert!(within(&Part::of(raw.as_bytes()), &(0..raw.len())));
        }
    }
}
