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
/// The version is that of `supported_versions` (RFC 8446 section 4.2.1) where the client sends it, else the hello's
/// own; never the record's, which is a formality. SSL 2.0's form of the hello, which clients of its time also used to
/// offer TLS 1.0, is understood.
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

/// Puts together what the records of type handshake carry: a hello may be cut over any number of them. Stops at
/// whatever is not such a record, and where no real hello goes on.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Hellos of OpenSSL's s_client.
    const TLS_1_0: &str = "16030100630100005f0301f0e2041baf44fa3be05a6beef2534f5d3e6afa088e0eb1ea6948ee4f022dccda0000\
        12c00ac0140039c009c01300330035002f00ff01000024000b000403000102000a000c000a001d0017001e00190018002300000016\
        000000170000";
    const TLS_1_1_WITH_SNI: &str = "16030100790100007503024399d512e753b85b78270ce09180de05522a121a0659945a339af4374ea\
        b1c3b000012c00ac0140039c009c01300330035002f00ff0100003a00000012001000000d6d2e6578616d706c652e6e6574000b0004\
        03000102000a000c000a001d0017001e00190018002300000016000000170000";
    const TLS_1_2: &str = "16030100d0010000cc030380d9ce3408f45f5e1692d6b055fcbe9630d589f0e281d77e4d2b05b9a9345371000\
        038c02cc030009fcca9cca8ccaac02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035\
        002f00ff0100006b0000001500130000106d61696c2e6578616d706c652e6e6574000b000403000102000a000c000a001d0017001e\
        00190018002300000016000000170000000d002a0028040305030603080708080809080a080b08040805080604010501060103030301\
        0302040205020602";
    const TLS_1_3: &str = "160301013d0100013903032a94e202ed6fe77216ba8f083ce8017d90b7245a20e719433b345bfad8ce3e3220cc\
        de0b3c4c5fa6f86ae0a9799d068d1b333eff90d4992013727c5928e1fdae33003e130213031301c02cc030009fcca9cca8ccaac02bc0\
        2f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff010000b2000000150013000010\
        6d61696c2e6578616d706c652e6e6574000b000403000102000a00160014001d0017001e001900180100010101020103010400230000\
        0016000000170000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602\
        002b0009080304030303020301002d00020101003300260024001d0020f432eec73dcb948565afe2648f65a9f40ee1387f68ad20e69c\
        5e1d74bda73d62";

    #[test]
    fn clients_are_judged_by_the_newest_version_they_offer() {
        // The 1.3 hello, whose list of versions is then made 1.1 and 1.0 behind GREASE.
        let listed = |versions: [u16; 4]| {
            let mut hello = bytes(TLS_1_3);
            let place = memchr::memmem::find(&hello, &[0x00, 0x2b, 0x00, 0x09, 0x08]).expect("the extension") + 5;
            let versions: Vec<u8> = versions.iter().flat_map(|version| version.to_be_bytes()).collect();
            hello.splice(place..place + 8, versions);
            hello
        };
        for (hello, expected) in [
            (bytes(TLS_1_0), Some(TooOld::Tls10)),
            (bytes(TLS_1_1_WITH_SNI), Some(TooOld::Tls11)),
            (bytes(TLS_1_2), None),
            (bytes(TLS_1_3), None),
            (listed([0x0a0a, 0x0302, 0x0301, 0x0301]), Some(TooOld::Tls11)),
            (listed([0xfafa, 0x0301, 0x0301, 0x0301]), Some(TooOld::Tls10)),
            (listed([0x0301, 0x0302, 0x0303, 0x1a1a]), None),
            (listed([0x0a0a, 0x1a1a, 0x2a2a, 0x3a3a]), None),
            (ssl3(), Some(TooOld::Ssl3)),
            (vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 16], Some(TooOld::Ssl2)),
            (vec![0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 16], Some(TooOld::Tls10)),
            (vec![0x80, 0x2e, 1, 3, 3, 0, 0x15, 0, 0, 0, 16], None),
            (b"a001 LOGIN user password\r\n".to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(client_hello_version(&hello), expected, "{}", hello.escape_ascii());
        }
    }

    #[test]
    fn the_versions_have_the_names_of_the_metrics() {
        let names = [TooOld::Ssl2, TooOld::Ssl3, TooOld::Tls10, TooOld::Tls11].map(TooOld::as_str);
        assert_eq!(names, ["ssl2", "ssl3", "1.0", "1.1"]);
    }

    proptest! {
        #[test]
        fn a_hello_cut_over_records_is_the_same_hello(cuts in prop::collection::vec(1_usize..60, 0..8)) {
            let hellos =
                [(TLS_1_0, Some(TooOld::Tls10)), (TLS_1_1_WITH_SNI, Some(TooOld::Tls11)), (TLS_1_3, None)];
            for (hello, expected) in hellos {
                let hello = bytes(hello);
                let mut message = &hello[5..];
                let mut records = Vec::new();
                for cut in &cuts {
                    let (fragment, rest) = message.split_at((*cut).min(message.len()));
                    records.extend(record(fragment));
                    message = rest;
                }
                records.extend(record(message));
                prop_assert_eq!(client_hello_version(&records), expected);
                records.extend(b"bytes of the next flight");
                prop_assert_eq!(client_hello_version(&records), expected);
            }
        }

        #[test]
        fn too_few_bytes_say_nothing(length in 0_usize..103) {
            prop_assert_eq!(client_hello_version(&bytes(TLS_1_0)[..length]), None);
        }

        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), like in any::<bool>()) {
            if like && bytes.len() > 6 {
                bytes[..6].copy_from_slice(&[22, 3, 1, 0, 200, 1]);
            }
            client_hello_version(&bytes);
        }

        #[test]
        fn no_flipped_byte_panics(place in 0_usize..300, with in any::<u8>()) {
            let mut hello = bytes(TLS_1_3);
            hello[place] = with;
            client_hello_version(&hello);
        }
    }

    /// The shape before extensions: version, random, no session, one suite, no compression.
    fn ssl3() -> Vec<u8> {
        let mut body = vec![3, 0];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0, 0x35, 1, 0]);
        let mut message = vec![1, 0, 0, u8::try_from(body.len()).expect("short")];
        message.extend(body);
        record(&message)
    }

    fn record(fragment: &[u8]) -> Vec<u8> {
        let mut record = vec![22, 3, 1];
        record.extend(u16::try_from(fragment.len()).expect("short").to_be_bytes());
        record.extend(fragment);
        record
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    }
}
