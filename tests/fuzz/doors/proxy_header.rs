//! The header of a load balancer, which may give a connection any address.

use super::Input;
use gatepost::proto::proxy_header::{Header, MAX, parse};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The door. Holds for every input: no panic; a header is what a plain reading of the specification makes of the bytes,
/// and no other bytes are one; what is said of a beginning stays true when more comes; a header lies inside the bytes
/// and the bound, within which it is always decided.
pub fn door(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let bytes = input.text;
    let whole = parse(bytes);
    let first = usize::from(u16::from_le_bytes([input.settings[0], input.settings[1]])).min(bytes.len());
    for end in [first, bytes.len().saturating_sub(1), bytes.len().min(16)] {
        match parse(&bytes[..end]) {
            Ok(None) => {}
            decided => assert_eq!(decided, whole, "another word when more had come"),
        }
    }
    assert!(whole != Ok(None) || bytes.len() < MAX, "{} bytes, and not decided", bytes.len());
    match (whole, plainly(bytes)) {
        (Ok(Some(header)), Some(expected)) => {
            assert!(header.length <= bytes.len().min(MAX));
            assert_eq!(header, expected);
            assert_eq!(parse(&bytes[..header.length]), whole, "what follows is the client's");
        }
        (Ok(Some(header)), None) => panic!("{header:?} of what is none: {}", bytes.escape_ascii()),
        (_, Some(expected)) => panic!("{expected:?} is not seen: {}", bytes.escape_ascii()),
        (_, None) => {}
    }
}

/// A whole header at the front of the bytes.
fn plainly(bytes: &[u8]) -> Option<Header> {
    match bytes.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n") {
        Some(rest) => version_2(rest),
        None => version_1(bytes),
    }
}

fn version_1(bytes: &[u8]) -> Option<Header> {
    let end = (0..bytes.len().min(107)).find(|&at| matches!(bytes[at], b'\r' | b'\n'))?;
    let length = end + 2;
    if bytes.get(end..length)? != b"\r\n" || length > 107 {
        return None;
    }
    let line = bytes[..end].strip_prefix(b"PROXY ")?;
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    if words[0] == b"UNKNOWN" {
        return Some(Header { source: None, length });
    }
    let [family, fields @ ..] = words.as_slice() else { return None };
    let [source, destination, from, to] = fields else { return None };
    let address = |text: &[u8]| -> Option<IpAddr> {
        let text = std::str::from_utf8(text).ok()?;
        match *family {
            b"TCP4" => Some(IpAddr::V4(text.parse::<Ipv4Addr>().ok()?)),
            b"TCP6" => Some(IpAddr::V6(text.parse::<Ipv6Addr>().ok()?)),
            _ => None,
        }
    };
    let port = |text: &[u8]| -> Option<u16> {
        let number = text.iter().try_fold(0u32, |number, digit| {
            (digit.is_ascii_digit() && number < 100_000).then(|| number * 10 + u32::from(digit - b'0'))
        })?;
        let number = u16::try_from(number).ok()?;
        (number.to_string().as_bytes() == text).then_some(number)
    };
    address(destination)?;
    port(to)?;
    Some(Header { source: Some(SocketAddr::new(address(source)?.to_canonical(), port(from)?)), length })
}

/// Behind the signature.
fn version_2(rest: &[u8]) -> Option<Header> {
    let [first, family, high, low, block @ ..] = rest else { return None };
    let announced = usize::from(*high) << 8 | usize::from(*low);
    let length = 16 + announced;
    let block = block.get(..announced)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
    let source = match (first, family) {
        _ if length > MAX => return None,
        (0x20, _) => None,
        (0x21, 0x11) if announced >= 12 => {
            let address = u32::try_from(number(&block[..4])).ok()?;
            Some((IpAddr::V4(address.into()), number(&block[8..10])))
        }
        (0x21, 0x21) if announced >= 36 => Some((IpAddr::V6(number(&block[..16]).into()), number(&block[32..34]))),
        (0x21, 0x11 | 0x21) => return None,
        (0x21, family) if family >> 4 <= 3 && family & 15 <= 2 => None,
        _ => return None,
    };
    let source = source.and_then(|(ip, port)| Some(SocketAddr::new(ip.to_canonical(), u16::try_from(port).ok()?)));
    Some(Header { source, length })
}
