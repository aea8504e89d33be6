//! The version of a client that is too old to be served.

/// A client that knows nothing newer than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TooOld {
    /// SSL 2.0.
    Ssl2,
    /// SSL 3.0.
    Ssl3,
    /// TLS 1.0.
    Tls10,
    /// TLS 1.1.
    Tls11,
}

impl TooOld {
    /// Names the version for events and labels: `ssl2`, `ssl3`, `1.0`, `1.1`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ssl2 => "ssl2",
            Self::Ssl3 => "ssl3",
            Self::Tls10 => "1.0",
            Self::Tls11 => "1.1",
        }
    }

    fn of(version: u16) -> Option<Self> {
        match version {
            0x0002 => Some(Self::Ssl2),
            0x0300 => Some(Self::Ssl3),
            0x0301 => Some(Self::Tls10),
            0x0302 => Some(Self::Tls11),
            _ => None,
        }
    }
}

/// Tells from the first bytes a client sent whether the newest version it offers is older than TLS 1.2, so that whoever
/// closes old doors knows who stood before them. `None` means newer, not TLS, or too few bytes to tell.
///
/// The version is that of `supported_versions` (RFC 8446 section 4.2.1) where the client sends it, else the hello's own; never
/// the record's, which is a formality. SSL 2.0's form of the hello, which clients of its time also used to offer TLS 1.0,
/// is understood.
pub fn client_hello_version(first_bytes: &[u8]) -> Option<TooOld> {
    if let [length, _, 1, major, minor, ..] = first_bytes
        && length & 0x80 != 0
    {
        return TooOld::of(u16::from_be_bytes([*major, *minor]));
    }
    let message = handshake_bytes(first_bytes);
    let mut reader = Reader(&message);
    let (1, length) = (reader.u8()?, reader.u24()?) else { return None };
    let mut hello = Reader(reader.take(length)?);
    let legacy = hello.u16()?;
    match offered(&mut hello) {
        Some(versions) => newest(versions),
        None => TooOld::of(legacy),
    }
}

/// Puts together what the records of type handshake carry: a hello may be cut over any number of them. Stops at whatever
/// is not such a record, and where no real hello goes on.
fn handshake_bytes(mut bytes: &[u8]) -> Vec<u8> {
    const LONGEST: usize = 64 * 1024;
    let mut message = Vec::new();
    while let [22, 3, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let fragment = rest.get(..length).unwrap_or(rest);
        message.extend_from_slice(fragment);
        if message.len() > LONGEST {
            break;
        }
        bytes = rest.get(fragment.len()..).unwrap_or_default();
    }
    message
}

/// Finds the versions of the extension, if the hello, read from behind its own version, carries it.
fn offered<'a>(hello: &mut Reader<'a>) -> Option<&'a [u8]> {
    const SUPPORTED_VERSIONS: u16 = 43;
    hello.take(32)?;
    let session = hello.u8()?;
    hello.take(session.into())?;
    let suites = hello.u16()?;
    hello.take(suites.into())?;
    let compressions = hello.u8()?;
    hello.take(compressions.into())?;
    let length = hello.u16()?;
    let mut extensions = Reader(hello.take(length.into())?);
    loop {
        let (kind, length) = (extensions.u16()?, extensions.u16()?);
        let mut body = Reader(extensions.take(length.into())?);
        if kind == SUPPORTED_VERSIONS {
            let length = body.u8()?;
            return body.take(length.into());
        }
    }
}

/// Judges by the newest version that is one: GREASE (RFC 8701) puts others among them.
fn newest(versions: &[u8]) -> Option<TooOld> {
    let (pairs, _) = versions.as_chunks::<2>();
    let known =
        pairs.iter().map(|pair| u16::from_be_bytes(*pair)).filter(|version| (0x0300..=0x03ff).contains(version));
    TooOld::of(known.max()?)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u24(&mut self) -> Option<usize> {
        let [high, middle, low] = self.take(3)?.try_into().ok()?;
        Some(usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low))
    }
}
