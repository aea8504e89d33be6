//! The reader of a ClientHello, which says who is too old.

use super::Input;
use gatepost::tls::{TooOld, client_hello_version};

/// The door. Holds for every input: no panic; what is said of a beginning stays true when more comes; a hello cut over
/// any number of records is the same hello, and is judged as a plain reading of RFC 8446 section 4.1.2 judges it.
pub fn door(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let whole = client_hello_version(input.text);
    let first = usize::from(input.settings[0]).min(input.text.len());
    for end in [first, input.text.len() / 2, input.text.len().saturating_sub(1)] {
        if let Some(version) = client_hello_version(&input.text[..end]) {
            assert_eq!(whole, Some(version), "another version when more had come");
        }
    }
    if input.text.first().is_some_and(|first| first & 0x80 == 0) {
        let one = client_hello_version(&records(input.text, usize::from(u16::MAX)));
        let many = client_hello_version(&records(input.text, 1 + usize::from(input.settings[1])));
        assert_eq!(one, many, "cut over records");
        assert_eq!(one, plainly(input.text), "another version than a plain reading finds");
    }
}

/// The message in records of at most `width` octets.
fn records(message: &[u8], width: usize) -> Vec<u8> {
    let record = |fragment: &[u8]| {
        let length = u16::try_from(fragment.len()).expect("a record's length").to_be_bytes();
        [&[22, 3, 1], &length[..], fragment].concat()
    };
    message.chunks(width).flat_map(record).collect()
}

/// Takes a whole hello apart by index.
fn plainly(message: &[u8]) -> Option<TooOld> {
    let at = |index: usize| message.get(index).copied().map(usize::from);
    let pair = |index: usize| Some(at(index)? << 8 | at(index + 1)?);
    let length = at(1)? << 16 | pair(2)?;
    if at(0)? != 1 || message.len() < 4 + length {
        return None;
    }
    let end = 4 + length;
    let inside = |index: usize| (index <= end).then_some(index);
    let legacy = pair(4).filter(|_| end >= 6)?;
    let named = |version: usize| match version {
        2 => Some(TooOld::Ssl2),
        0x300 => Some(TooOld::Ssl3),
        0x301 => Some(TooOld::Tls10),
        0x302 => Some(TooOld::Tls11),
        _ => None,
    };
    let listed = || {
        let session = inside(6 + 32 + 1)?;
        let suites = inside(session + at(session - 1)? + 2)?;
        let compressions = inside(suites + pair(suites - 2)? + 1)?;
        let extensions = inside(compressions + at(compressions - 1)? + 2)?;
        let last = inside(extensions + pair(extensions - 2)?)?;
        let mut next = extensions;
        while next + 4 <= last {
            let (kind, length) = (pair(next)?, pair(next + 2)?);
            let body = next + 4;
            next = Some(body + length).filter(|&next| next <= last)?;
            if kind == 43 {
                let list = at(body).filter(|list| body + 1 + list <= next)?;
                return Some((0..list / 2).filter_map(|n| pair(body + 1 + 2 * n)).collect::<Vec<_>>());
            }
        }
        None
    };
    match listed() {
        Some(versions) => named(versions.into_iter().filter(|version| version >> 8 == 3).max()?),
        None => named(legacy),
    }
}
