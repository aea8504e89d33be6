//! Whom a program that logs in for others, a webmail say, speaks for: the address of its user.
//!
//! It is believed only of clients whose listener says so. What they said is never passed on as they gave it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address in the parameters of IMAP's ID, `("name" "Roundcube" "x-originating-ip" "192.0.2.7")` (RFC 2971): quoted strings
/// alone, as every such program sends them.
pub(super) fn of_imap_id(parameters: &[u8]) -> Option<IpAddr> {
    let mut rest = parameters.trim_ascii().strip_prefix(b"(")?.strip_suffix(b")")?.trim_ascii();
    let mut found = None;
    while !rest.is_empty() {
        let (key, behind) = string(rest)?;
        let (value, behind) = string(behind).or_else(|| Some((None, nil(behind)?)))?;
        if key.is_some_and(|key| key.eq_ignore_ascii_case(b"x-originating-ip")) {
            found = value.and_then(address);
        }
        rest = behind;
    }
    found
}

/// A quoted string, as it stands between its quotes, and what stands behind it.
fn string(text: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let inside = text.strip_prefix(b"\"")?;
    let mut end = 0;
    while *inside.get(end)? != b'"' {
        // Behind a backslash any octet is itself.
        end += if inside[end] == b'\\' { 2 } else { 1 };
    }
    Some((Some(&inside[..end]), inside[end + 1..].trim_ascii_start()))
}

fn nil(text: &[u8]) -> Option<&[u8]> {
    let word = text.get(..3).filter(|word| word.eq_ignore_ascii_case(b"NIL"))?;
    Some(text[word.len()..].trim_ascii_start())
}

/// The address in the attributes of XCLIENT: `NAME=x ADDR=192.0.2.7`, `ADDR=IPV6:2001:db8::7`. `Err` for attributes of no form.
pub(super) fn of_xclient(attributes: &[u8]) -> Result<Option<IpAddr>, ()> {
    let mut found = None;
    for attribute in attributes.split(|byte| *byte == b' ').filter(|attribute| !attribute.is_empty()) {
        let at = memchr::memchr(b'=', attribute).ok_or(())?;
        let (name, value) = (&attribute[..at], &attribute[at + 1..]);
        if name.eq_ignore_ascii_case(b"ADDR") {
            let unknown = matches!(value.to_ascii_uppercase().as_slice(), b"[UNAVAILABLE]" | b"[TEMPUNAVAIL]");
            found = if unknown { None } else { Some(xclient_address(value).ok_or(())?) };
        }
    }
    Ok(found)
}

fn xclient_address(value: &[u8]) -> Option<IpAddr> {
    let v6 = value.get(..5).filter(|prefix| prefix.eq_ignore_ascii_case(b"IPV6:")).and_then(|_| value.get(5..));
    match v6 {
        Some(literal) => Some(IpAddr::V6(std::str::from_utf8(literal).ok()?.parse::<Ipv6Addr>().ok()?)),
        None => Some(IpAddr::V4(std::str::from_utf8(value).ok()?.parse::<Ipv4Addr>().ok()?)),
    }
}

fn address(value: &[u8]) -> Option<IpAddr> {
    Some(std::str::from_utf8(value).ok()?.parse::<IpAddr>().ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_the_address_of_the_user() {
        let cases: &[(&str, Option<&str>)] = &[
            ("(\"x-originating-ip\" \"192.0.2.7\")", Some("192.0.2.7")),
            (" (\"name\" \"web mail\" \"X-Originating-IP\" \"2001:db8::7\" \"os\" NIL)", Some("2001:db8::7")),
            ("(\"x-originating-ip\" \"::ffff:192.0.2.7\")", Some("192.0.2.7")),
            ("(\"name\" \"x-originating-ip\" \"version\" \"192.0.2.7\")", None),
            ("(\"x-originating-ip\" \"somewhere\")", None),
            ("(\"x-originating-ip\" \"192.0.2.7\\\"\")", None),
            ("(\"command\" \"/?a=\\\"\" \"x-originating-ip\" \"192.0.2.7\")", Some("192.0.2.7")),
            ("(\"command\" \"x\\", None),
            ("(\"x-originating-ip\")", None),
            ("NIL", None),
            ("", None),
            ("(\"x-originating-ip\" \"192.0.2.7\"", None),
        ];
        for (parameters, expected) in cases {
            assert_eq!(
                of_imap_id(parameters.as_bytes()).map(|ip| ip.to_string()).as_deref(),
                *expected,
                "{parameters}"
            );
        }
    }

    #[test]
    fn an_xclient_names_the_address_of_the_user() {
        let cases: &[(&str, Result<Option<&str>, ()>)] = &[
            ("ADDR=192.0.2.7", Ok(Some("192.0.2.7"))),
            ("NAME=pc.example addr=ipv6:2001:db8::7 PORT=5", Ok(Some("2001:db8::7"))),
            ("ADDR=[UNAVAILABLE]", Ok(None)),
            ("NAME=x", Ok(None)),
            ("ADDR=2001:db8::7", Err(())),
            ("ADDR=", Err(())),
            ("ADDR", Err(())),
        ];
        for (attributes, expected) in cases {
            let found = of_xclient(attributes.as_bytes()).map(|found| found.map(|ip| ip.to_string()));
            assert_eq!(found, expected.map(|found| found.map(str::to_owned)), "{attributes}");
        }
    }
}
