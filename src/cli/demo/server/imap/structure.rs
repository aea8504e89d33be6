//! ENVELOPE and BODYSTRUCTURE (RFC 3501 section 7.4.2).

use super::cursor::string;
use super::mime::{Fields, Kind, Part};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mail_parser::{Addr, Address, ContentType, HeaderName, HeaderValue};

/// A message's envelope.
pub(super) fn envelope(header: &[u8]) -> Vec<u8> {
    let fields = Fields::of(header);
    let mut out = vec![b'('];
    let text =
        |out: &mut Vec<u8>, name| out.extend(raw_text(&fields, header, &name).map_or(NIL.into(), |t| string(&t)));
    text(&mut out, HeaderName::Date);
    out.push(b' ');
    text(&mut out, HeaderName::Subject);
    let from = addresses(&fields, &HeaderName::From);
    for name in [HeaderName::From, HeaderName::Sender, HeaderName::ReplyTo] {
        out.push(b' ');
        // Sender and Reply-To are the author where they are not given.
        out.extend(addresses(&fields, &name).or(from.clone()).unwrap_or(NIL.into()));
    }
    for name in [HeaderName::To, HeaderName::Cc, HeaderName::Bcc] {
        out.push(b' ');
        out.extend(addresses(&fields, &name).unwrap_or(NIL.into()));
    }
    for name in [HeaderName::InReplyTo, HeaderName::MessageId] {
        out.push(b' ');
        text(&mut out, name);
    }
    out.push(b')');
    out
}

/// A part's structure; `extended` tells BODYSTRUCTURE from BODY.
pub(super) fn structure(raw: &[u8], part: &Part, extended: bool) -> Vec<u8> {
    let fields = Fields::of(&raw[part.header.clone()]);
    let mut out = vec![b'('];
    match &part.kind {
        Kind::Multipart(parts) => {
            for child in parts {
                out.extend(structure(raw, child, extended));
            }
            out.push(b' ');
            out.extend(string(subtype(&fields).unwrap_or("mixed").as_bytes()));
            if extended {
                out.push(b' ');
                out.extend(parameters(fields.content_type()));
            }
        }
        kind => single(raw, part, kind, &fields, extended, &mut out),
    }
    if extended {
        out.push(b' ');
        out.extend(disposition(&fields));
        // Language and location.
        out.extend(b" NIL NIL");
    }
    out.push(b')');
    out
}

const NIL: &[u8] = b"NIL";

fn single(raw: &[u8], part: &Part, kind: &Kind, fields: &Fields<'_>, extended: bool, out: &mut Vec<u8>) {
    let body = &raw[part.body.clone()];
    let (main, sub) = match (kind, fields.content_type(), subtype(fields)) {
        (Kind::Message(_), ..) => ("message", "rfc822"),
        (_, Some(content_type), Some(sub)) => match &*content_type.c_type {
            // What was too deep to be opened must not claim an envelope it does not show.
            "message" if sub.eq_ignore_ascii_case("rfc822") => ("application", "octet-stream"),
            main => (main, sub),
        },
        _ => ("text", "plain"),
    };
    let words = [main, sub].map(|word| string(word.as_bytes()));
    out.extend(words.join(&b' '));
    out.push(b' ');
    out.extend(match fields.content_type() {
        None => b"(\"charset\" \"us-ascii\")".to_vec(),
        content_type => parameters(content_type),
    });
    for name in [HeaderName::ContentId, HeaderName::ContentDescription] {
        out.push(b' ');
        out.extend(raw_text(fields, &raw[part.header.clone()], &name).map_or(NIL.into(), |text| string(&text)));
    }
    let encoding = raw_text(fields, &raw[part.header.clone()], &HeaderName::ContentTransferEncoding);
    out.push(b' ');
    out.extend(string(encoding.filter(|text| !text.is_empty()).as_deref().unwrap_or(b"7bit")));
    out.extend(format!(" {}", body.len()).bytes());
    let lines = memchr::memchr_iter(b'\n', body).count();
    if let Kind::Message(inner) = kind {
        out.push(b' ');
        out.extend(envelope(&raw[inner.header.clone()]));
        out.push(b' ');
        out.extend(structure(raw, inner, extended));
        out.extend(format!(" {lines}").bytes());
    } else if main.eq_ignore_ascii_case("text") {
        out.extend(format!(" {lines}").bytes());
    }
    if extended {
        // MD5.
        out.extend(b" NIL");
    }
}

fn subtype<'a>(fields: &'a Fields<'_>) -> Option<&'a str> {
    fields.content_type()?.c_subtype.as_deref()
}

fn parameters(content_type: Option<&ContentType<'_>>) -> Vec<u8> {
    let pairs: Vec<_> = content_type
        .and_then(ContentType::attributes)
        .unwrap_or_default()
        .iter()
        .map(|attribute| [string(attribute.name.as_bytes()), string(attribute.value.as_bytes())].join(&b' '))
        .collect();
    if pairs.is_empty() { NIL.into() } else { [b"(", &pairs.join(&b' ')[..], b")"].concat() }
}

fn disposition(fields: &Fields<'_>) -> Vec<u8> {
    match fields.disposition() {
        Some(disposition) => {
            let kind = string(disposition.c_type.as_bytes());
            [b"(", &kind[..], b" ", &parameters(Some(disposition))[..], b")"].concat()
        }
        None => NIL.into(),
    }
}

/// A field's text as it stands, unfolded: encoded words are the client's to decode.
fn raw_text(fields: &Fields<'_>, header: &[u8], name: &HeaderName<'_>) -> Option<Vec<u8>> {
    let field = fields.field(name)?;
    let text = header.get(usize::try_from(field.offset_start).ok()?..usize::try_from(field.offset_end).ok()?)?;
    Some(text.trim_ascii().iter().copied().filter(|b| !matches!(b, b'\r' | b'\n' | 0)).collect())
}

fn addresses(fields: &Fields<'_>, name: &HeaderName<'_>) -> Option<Vec<u8>> {
    let HeaderValue::Address(addresses) = fields.value(name)? else { return None };
    let mut out = Vec::new();
    match addresses {
        Address::List(list) => list.iter().for_each(|addr| address(addr, &mut out)),
        Address::Group(groups) => {
            for group in groups {
                // A group begins with a name without host and ends with nothing at all.
                if let Some(name) = &group.name {
                    out.extend(b"(NIL NIL ");
                    out.extend(string(&encoded(name)));
                    out.extend(b" NIL)");
                }
                group.addresses.iter().for_each(|addr| address(addr, &mut out));
                if group.name.is_some() {
                    out.extend(b"(NIL NIL NIL NIL)");
                }
            }
        }
    }
    if out.is_empty() { None } else { Some([b"(", &out[..], b")"].concat()) }
}

fn address(addr: &Addr<'_>, out: &mut Vec<u8>) {
    let address = addr.address.as_deref().unwrap_or_default();
    let (mailbox, host) = address.rsplit_once('@').unwrap_or((address, ""));
    out.push(b'(');
    out.extend(addr.name.as_deref().map_or(NIL.into(), |name| string(&encoded(name))));
    out.extend(b" NIL ");
    out.extend(string(mailbox.as_bytes()));
    out.push(b' ');
    out.extend(string(host.as_bytes()));
    out.push(b')');
}

/// A name as a field would hold it (RFC 2047): at most 45 octets an encoded word, none cut within a character.
fn encoded(name: &str) -> Vec<u8> {
    if name.is_ascii() {
        return name.bytes().filter(|b| !b.is_ascii_control()).collect();
    }
    let mut words: Vec<String> = Vec::new();
    for c in name.chars() {
        match words.last_mut() {
            Some(word) if word.len() + c.len_utf8() <= 45 => word.push(c),
            _ => words.push(c.into()),
        }
    }
    let words: Vec<_> = words.iter().map(|word| format!("=?utf-8?B?{}?=", BASE64.encode(word))).collect();
    words.join(" ").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_envelope_names_everybody() {
        let header = b"Date: Mon, 2 Nov 2026 08:00:00 +0000\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n folded\r\n\
            From: \"Joe \\\"J\\\"\" <joe@example.net>\r\nTo: =?utf-8?Q?M=C3=BC?= <m@example.net>, x@example.org\r\n\
            Cc: friends: a@example.net;\r\nMessage-ID: <1@example.net>\r\n\r\n";
        let joe = r#"(("Joe \"J\"" NIL "joe" "example.net"))"#;
        assert_eq!(
            text(envelope(header)),
            format!(
                "(\"Mon, 2 Nov 2026 08:00:00 +0000\" \"=?utf-8?Q?Gr=C3=BC=C3=9Fe?= folded\" {joe} {joe} {joe} \
                 ((\"=?utf-8?B?TcO8?=\" NIL \"m\" \"example.net\")(NIL NIL \"x\" \"example.org\")) \
                 ((NIL NIL \"friends\" NIL)(NIL NIL \"a\" \"example.net\")(NIL NIL NIL NIL)) NIL NIL \
                 \"<1@example.net>\")"
            )
        );
        assert_eq!(text(envelope(b"")), "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
    }

    #[test]
    fn a_structure_shows_types_sizes_and_lines() {
        let cases = [
            ("\r\na\r\nb\r\n", r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 6 2 NIL NIL NIL NIL)"#),
            (
                "Content-Type: text/csv; name=\"p.csv\"\r\nContent-Transfer-Encoding: base64\r\n\
                 Content-Disposition: attachment; filename=\"p.csv\"\r\n\r\nYQ==",
                r#"("text" "csv" ("name" "p.csv") NIL NIL "base64" 4 0 NIL ("attachment" ("filename" "p.csv")) NIL NIL)"#,
            ),
            (
                "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\nx\r\n--a\r\nContent-Type: image/png\r\n\r\ny\r\n--a--\r\n",
                r#"(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL)("image" "png" NIL NIL NIL "7bit" 1 NIL NIL NIL NIL) "mixed" ("boundary" "a") NIL NIL NIL)"#,
            ),
        ];
        for (raw, expected) in cases {
            assert_eq!(text(structure(raw.as_bytes(), &Part::of(raw.as_bytes()), true)), expected, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_message_holds_has_a_structure(
            lines in prop::collection::vec(
                prop_oneof![
                    "From: [ -~]{0,30}", "Content-Type: [ -~]{0,30}", "Content-Type: multipart/mixed; boundary=a",
                    "Content-Disposition: [a-z;=\"*%0-9' ]{0,30}", "Date: [ -~]{0,30}", "--a", "", "\\PC{0,20}",
                ],
                0..20,
            ),
            noise: Vec<u8>,
        ) {
            let raw = [lines.join("\r\n").as_bytes(), &noise].concat();
            let root = Part::of(&raw);
            for text in [envelope(&raw[root.header.clone()]), structure(&raw, &root, true)] {
                prop_assert!(text.starts_with(b"(") && text.ends_with(b")"));
            }
        }
    }
}
