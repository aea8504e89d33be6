//! `BODY[…]<…>`: which octets of a message a client asks for (RFC 3501 section 6.4.5).

use super::cursor::{BadSyntax, Cursor, upper};
use super::mime::{Kind, Part, raw_fields};
use bytes::Bytes;
use std::fmt::Write as _;

/// Header fields named in one section.
const FIELDS: usize = 100;

/// A section of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    numbers: Vec<u32>,
    text: Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    Everything,
    Header,
    Fields { names: Vec<String>, not: bool },
    Body,
    Mime,
}

impl Section {
    /// What RFC822 means.
    pub(super) fn everything() -> Self {
        Self { numbers: Vec::new(), text: Text::Everything }
    }

    /// What RFC822.HEADER means.
    pub(super) fn header() -> Self {
        Self { numbers: Vec::new(), text: Text::Header }
    }

    /// What RFC822.TEXT means.
    pub(super) fn body() -> Self {
        Self { numbers: Vec::new(), text: Text::Body }
    }

    /// Reads what stands between the brackets, and the closing one.
    pub(super) fn read(cursor: &mut Cursor) -> Result<Self, BadSyntax> {
        let mut numbers = Vec::new();
        while cursor.peek().is_some_and(|b| b.is_ascii_digit()) {
            numbers.push(cursor.number()?);
            if !cursor.take(b'.') {
                cursor.expect(b']', "a ] is missing")?;
                return Ok(Self { numbers, text: Text::Everything });
            }
        }
        if numbers.is_empty() && cursor.take(b']') {
            return Ok(Self::everything());
        }
        let word = upper(&cursor.run(|b| b.is_ascii_alphabetic() || b == b'.'));
        let text = match word.as_str() {
            "HEADER" => Text::Header,
            "TEXT" => Text::Body,
            "MIME" if !numbers.is_empty() => Text::Mime,
            "HEADER.FIELDS" | "HEADER.FIELDS.NOT" => {
                cursor.space()?;
                let names = cursor.list(|cursor| field_name(&cursor.astring()?))?;
                if names.is_empty() || names.len() > FIELDS {
                    return Err(BadSyntax("no field named, or too many"));
                }
                Text::Fields { names, not: word.ends_with(".NOT") }
            }
            _ => return Err(BadSyntax("there is no such section")),
        };
        cursor.expect(b']', "a ] is missing")?;
        Ok(Self { numbers, text })
    }

    /// The section as it stands in the answer.
    pub(super) fn name(&self) -> String {
        let mut name = self.numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(".");
        if !self.numbers.is_empty() && self.text != Text::Everything {
            name.push('.');
        }
        match &self.text {
            Text::Everything => {}
            Text::Header => name.push_str("HEADER"),
            Text::Body => name.push_str("TEXT"),
            Text::Mime => name.push_str("MIME"),
            Text::Fields { names, not } => {
                let not = if *not { ".NOT" } else { "" };
                write!(name, "HEADER.FIELDS{not} ({})", names.join(" ")).expect("a String takes everything");
            }
        }
        name
    }

    /// The octets, or `None` where the message has no such part.
    pub(super) fn of(&self, raw: &Bytes, root: &Part) -> Option<Bytes> {
        let part = root.at(&self.numbers)?;
        // HEADER and TEXT of a numbered part are those of the message in it.
        let message = match (&part.kind, self.numbers.is_empty()) {
            (_, true) => Some(part),
            (Kind::Message(inner), false) => Some(&**inner),
            _ => None,
        };
        Some(match &self.text {
            Text::Everything if self.numbers.is_empty() => raw.clone(),
            Text::Everything => raw.slice(part.body.clone()),
            Text::Mime => raw.slice(part.header.clone()),
            Text::Header => raw.slice(message?.header.clone()),
            Text::Body => raw.slice(message?.body.clone()),
            Text::Fields { names, not } => {
                let mut chosen = Vec::new();
                for (name, field) in raw_fields(&raw[message?.header.clone()]) {
                    if names.iter().any(|wanted| wanted.as_bytes().eq_ignore_ascii_case(name)) != *not {
                        chosen.extend_from_slice(field);
                    }
                }
                chosen.extend_from_slice(b"\r\n");
                chosen.into()
            }
        })
    }
}

/// RFC 5322 section 2.2, and nothing that would have to be quoted when it is said again.
fn field_name(name: &[u8]) -> Result<String, BadSyntax> {
    if name.is_empty() || !name.iter().all(|&b| b.is_ascii_graphic() && !b"(){%*\"\\]:".contains(&b)) {
        return Err(BadSyntax("that is no field's name"));
    }
    Ok(upper(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: &str = "Subject: s\r\nFrom: f\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nX-Part: 1\r\n\r\none\r\n\
        --a\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ntwo\r\n--a--\r\n";

    #[test]
    fn a_section_is_the_octets_it_names() {
        let raw = Bytes::from_static(RAW.as_bytes());
        let root = Part::of(&raw);
        let cases = [
            ("", Some(RAW)),
            ("1", Some("one")),
            ("1.MIME", Some("X-Part: 1\r\n\r\n")),
            ("2", Some("Subject: inner\r\n\r\ntwo")),
            ("2.HEADER", Some("Subject: inner\r\n\r\n")),
            ("2.TEXT", Some("two")),
            ("2.1", Some("two")),
            ("HEADER.FIELDS (SUBJECT X-NONE)", Some("Subject: s\r\n\r\n")),
            ("HEADER.FIELDS.NOT (SUBJECT CONTENT-TYPE)", Some("From: f\r\n\r\n")),
            ("1.HEADER", None),
            ("3", None),
        ];
        for (name, octets) in cases {
            let section = Section::read(&mut Cursor::new(Bytes::from(format!("{name}]")))).unwrap();
            assert_eq!(section.name(), name);
            assert_eq!(section.of(&raw, &root).as_deref(), octets.map(str::as_bytes), "{name}");
        }
        for bad in
            ["MIME]", "1.]", "BODY]", "HEADER", "HEADER.FIELDS]", "HEADER.FIELDS ()]", "HEADER.FIELDS (\"a b\")]"]
        {
            assert!(Section::read(&mut Cursor::new(Bytes::from(bad))).is_err(), "{bad}");
        }
    }
}
