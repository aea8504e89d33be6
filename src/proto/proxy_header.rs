//! The PROXY header that a load balancer writes before a client's first byte, to say whose connection this is
//! (HAProxy's `proxy-protocol.txt`, versions 1 and 2).
//!
//! ```text
//! v1   PROXY TCP4 192.0.2.7 198.51.100.1 56324 993 CRLF                                        (section 2.1)
//! v2   CR LF CR LF NUL CR LF "QUIT" LF, version and command, family and protocol, length,      (section 2.2)
//!      addresses, ports, TLVs
//! ```
//!
//! "Any sequence which does not exactly match the protocol must be discarded and cause the receiver to abort the
//! connection" (section 2.1): whoever may write this header may choose an address, so nothing is guessed. Whether the peer
//! may write one is not decided here. The destination is held against the grammar and not kept. The TLVs are skipped, their
//! checksum with them: it guards against mistakes, and TCP has one of its own.

//!
//! The same headers are written, by [`introduce`], to a backend that is told to expect them.

// `core`, not `std`: addresses are data, and there is nothing beside them to open a socket with.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest header taken: "both formats are designed to fit in the smallest TCP segment that any TCP/IP host is required
/// to support (576 - 40 = 536 bytes)" (section 2). With so many bytes [`parse`] never asks for more.
pub const MAX: usize = 536;

/// The longest line of version 1, CRLF included (section 2.1).
const MAX_V1: usize = 107;

const V1: &[u8] = b"PROXY ";
const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Of version 2: the signature and the four bytes behind it.
const FIXED: usize = 16;

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whose connection it is, an IPv4 address in its own form. `None`: the sender speaks for itself (a health check), or
    /// does not know; then "use the real connection's parameters".
    pub source: Option<SocketAddr>,
    /// The bytes it takes. What follows is the client's.
    pub length: usize,
}

/// What is wrong with what came instead of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The first bytes are those of neither version.
    #[error("no PROXY header: the connection begins with something else")]
    NoHeader,
    /// Version 1: no CRLF within 107 bytes.
    #[error("a PROXY line without an end")]
    EndlessLine,
    /// Version 1: "the receiver must not tolerate a single CR or LF character to end the line".
    #[error("a PROXY line that ends with CR or LF alone")]
    BareLineEnd,
    /// Version 1: neither TCP4 nor TCP6 nor UNKNOWN.
    #[error("a PROXY line of a family that is none")]
    UnknownFamily,
    /// Version 1: not four fields, each behind exactly one space.
    #[error("a PROXY line with fields missing or too many")]
    Fields,
    /// Version 1: an address that is none, or of the other family.
    #[error("a PROXY line with an address that is none")]
    Address,
    /// Version 1: not a number up to 65535, or one with zeros or a sign before it.
    #[error("a PROXY line with a port that is none")]
    Port,
    /// Version 2: another version in its place.
    #[error("a PROXY header of version {0}")]
    Version(u8),
    /// Version 2: neither LOCAL nor PROXY.
    #[error("a PROXY header with the unknown command {0}")]
    Command(u8),
    /// Version 2: an address family or protocol that the specification does not know.
    #[error("a PROXY header with the unknown family and protocol {0:#04x}")]
    Family(u8),
    /// Version 2: longer than [`MAX`].
    #[error("a PROXY header that announces {0} bytes")]
    TooLong(u16),
    /// Version 2: fewer bytes than the family's addresses take.
    #[error("a PROXY header too short for its addresses")]
    TooShort,
}

/// Reads the header that these bytes, the first of a connection, begin with. `None`: so far they are one, and all of them
/// belong to it.
///
/// # Errors
/// They are no header, and will not become one.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Violation> {
    if bytes.starts_with(V1) {
        version_1(bytes)
    } else if bytes.starts_with(V2) {
        version_2(bytes)
    } else if V1.starts_with(bytes) || V2.starts_with(bytes) {
        Ok(None)
    } else {
        Err(Violation::NoHeader)
    }
}

/// A version of the header, for writing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    One,
    /// Binary.
    Two,
}

/// The header that says whose connection this is: `ends` are the client's address and the one it connected to. `None`: we speak
/// for ourselves (a health check), and the backend takes the real connection's addresses. Ends of two families are both written
/// as IPv6, the IPv4 one mapped.
pub fn introduce(version: Version, ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    match version {
        Version::One => introduce_by_line(ends).into_bytes(),
        Version::Two => introduce_in_binary(ends),
    }
}

fn introduce_by_line(ends: Option<(SocketAddr, SocketAddr)>) -> String {
    let Some((client, local)) = ends else { return "PROXY UNKNOWN\r\n".to_owned() };
    let (from, to) = (client.port(), local.port());
    match of_one_family(client.ip(), local.ip()) {
        (IpAddr::V4(client), IpAddr::V4(local)) => format!("PROXY TCP4 {client} {local} {from} {to}\r\n"),
        (client, local) => format!("PROXY TCP6 {client} {local} {from} {to}\r\n"),
    }
}

fn introduce_in_binary(ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    const UNSPEC: u8 = 0x00;
    const TCP4: u8 = 0x11;
    const TCP6: u8 = 0x21;
    let mut header = V2.to_vec();
    let Some((client, local)) = ends else {
        header.extend_from_slice(&[LOCAL, UNSPEC, 0, 0]);
        return header;
    };
    match of_one_family(client.ip(), local.ip()) {
        (IpAddr::V4(client), IpAddr::V4(local)) => {
            header.extend_from_slice(&[PROXY, TCP4, 0, 12]);
            header.extend_from_slice(&client.octets());
            header.extend_from_slice(&local.octets());
        }
        (client, local) => {
            header.extend_from_slice(&[PROXY, TCP6, 0, 36]);
            header.extend_from_slice(&mapped(client).octets());
            header.extend_from_slice(&mapped(local).octets());
        }
    }
    header.extend_from_slice(&client.port().to_be_bytes());
    header.extend_from_slice(&local.port().to_be_bytes());
    header
}

/// Both as they are if they are of one family, else both as IPv6.
fn of_one_family(one: IpAddr, other: IpAddr) -> (IpAddr, IpAddr) {
    if one.is_ipv4() == other.is_ipv4() { (one, other) } else { (mapped(one).into(), mapped(other).into()) }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn version_1(bytes: &[u8]) -> Result<Option<Header>, Violation> {
    let bytes = &bytes[..bytes.len().min(MAX_V1)];
    let end = match memchr::memchr2(b'\r', b'\n', bytes) {
        None if bytes.len() == MAX_V1 => return Err(Violation::EndlessLine),
        None => return Ok(None),
        Some(end) => end,
    };
    match bytes[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if bytes.len() == MAX_V1 => return Err(Violation::EndlessLine),
        [b'\r'] => return Ok(None),
        _ => return Err(Violation::BareLineEnd),
    }
    // What is not ASCII is no address and no port; for UNKNOWN it does not matter.
    let line = String::from_utf8_lossy(&bytes[V1.len()..end]);
    let (family, fields) = line.split_once(' ').unwrap_or((&line, ""));
    let source = match family {
        "TCP4" => Some(endpoints::<Ipv4Addr>(fields)?),
        "TCP6" => Some(endpoints::<Ipv6Addr>(fields)?),
        // "The receiver must ignore anything presented before the CRLF is found."
        "UNKNOWN" => None,
        _ => return Err(Violation::UnknownFamily),
    };
    Ok(Some(Header { source, length: end + 2 }))
}

/// The source, where both ends are well-formed.
fn endpoints<A: FromStr + Into<IpAddr>>(fields: &str) -> Result<SocketAddr, Violation> {
    let mut fields = fields.split(' ');
    let (Some(source), Some(destination), Some(from), Some(to), None) =
        (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(Violation::Fields);
    };
    let (source, _) = (address::<A>(source)?, address::<A>(destination)?);
    let (from, _) = (port(from)?, port(to)?);
    Ok(SocketAddr::new(source, from))
}

fn address<A: FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, Violation> {
    // The standard library refuses zeros before the octets of an IPv4 address, as the specification does.
    text.parse::<A>().map(|address| address.into().to_canonical()).map_err(|_| Violation::Address)
}

fn port(text: &str) -> Result<u16, Violation> {
    let canonical = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
    text.parse().ok().filter(|_| canonical).ok_or(Violation::Port)
}

fn version_2(bytes: &[u8]) -> Result<Option<Header>, Violation> {
    let Some(&version_and_command) = bytes.get(V2.len()) else { return Ok(None) };
    let (version, command) = (version_and_command >> 4, version_and_command & 0x0f);
    if version != 2 {
        return Err(Violation::Version(version));
    }
    if command > 1 {
        return Err(Violation::Command(command));
    }
    let Some((head, rest)) = bytes.split_at_checked(FIXED) else { return Ok(None) };
    let (family, announced) = (head[13], u16::from_be_bytes([head[14], head[15]]));
    let length = FIXED + usize::from(announced);
    if length > MAX {
        return Err(Violation::TooLong(announced));
    }
    // LOCAL: "discard the protocol block including the family which is ignored".
    let kind = if command == 0 { Kind::Other } else { Kind::of(family)? };
    if usize::from(announced) < kind.size() {
        return Err(Violation::TooShort);
    }
    let Some(block) = rest.get(..announced.into()) else { return Ok(None) };
    let source = match (kind, block) {
        (Kind::Tcp4, [a, b, c, d, _, _, _, _, high, low, ..]) => {
            Some((Ipv4Addr::new(*a, *b, *c, *d).into(), u16::from_be_bytes([*high, *low])))
        }
        (Kind::Tcp6, block) => block
            .first_chunk::<16>()
            .zip(block.get(32..34))
            .map(|(address, port)| (IpAddr::from(*address).to_canonical(), u16::from_be_bytes([port[0], port[1]]))),
        _ => None,
    };
    Ok(Some(Header { source: source.map(SocketAddr::from), length }))
}

/// What the 14th byte of version 2 stands for.
#[derive(Clone, Copy)]
enum Kind {
    Tcp4,
    Tcp6,
    /// AF_UNIX has no address that we know, and a datagram never is a mail session: a receiver "automatically falls back to
    /// the UNSPEC mode for the valid combinations above that it does not support".
    Other,
}

impl Kind {
    fn of(byte: u8) -> Result<Self, Violation> {
        match (byte >> 4, byte & 0x0f) {
            (1, 1) => Ok(Self::Tcp4),
            (2, 1) => Ok(Self::Tcp6),
            (0..=3, 0..=2) => Ok(Self::Other),
            _ => Err(Violation::Family(byte)),
        }
    }

    /// What its addresses and ports take.
    fn size(self) -> usize {
        match self {
            Self::Tcp4 => 2 * 4 + 2 * 2,
            Self::Tcp6 => 2 * 16 + 2 * 2,
            Self::Other => 0,
        }
    }
}

#[cfg(test)]
mod tests;
