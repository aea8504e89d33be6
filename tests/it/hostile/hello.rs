//! A ClientHello written by hand, in any shape, and what a server says to it before it is encrypted.

/// What a client offers. Each extension is its number and its body.
#[derive(Debug, Clone)]
pub(super) struct Hello {
    pub(super) version: u16,
    pub(super) suites: Vec<u16>,
    pub(super) compressions: Vec<u8>,
    pub(super) extensions: Vec<(u16, Vec<u8>)>,
}

/// The suites a modern client offers for TLS 1.2.
pub(super) const AEAD: [u16; 6] = [0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8];

impl Hello {
    /// A client of TLS 1.2, or of an older version in the same shape.
    pub(super) fn old(version: u16) -> Self {
        let suites = AEAD.to_vec();
        Self { version, suites, compressions: vec![0], extensions: vec![groups(&[0x001d, 0x0017]), signatures()] }
    }

    /// A client of TLS 1.3 with X25519 alone.
    pub(super) fn modern() -> Self {
        let mut hello = Self::old(0x0303);
        hello.suites.splice(0..0, [0x1302, 0x1301, 0x1303]);
        hello.extensions.push((43, vec![4, 3, 4, 3, 3]));
        hello.extensions.push((51, [&[0, 36, 0, 0x1d, 0, 32][..], &[9; 32]].concat()));
        hello
    }

    pub(super) fn with(mut self, extension: u16, body: impl Into<Vec<u8>>) -> Self {
        self.extensions.push((extension, body.into()));
        self
    }

    pub(super) fn suites(mut self, suites: &[u16]) -> Self {
        self.suites = suites.to_vec();
        self
    }

    /// The handshake message.
    pub(super) fn message(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.push(0);
        body.extend(sized(&self.suites.iter().flat_map(|suite| suite.to_be_bytes()).collect::<Vec<u8>>()));
        body.push(u8::try_from(self.compressions.len()).expect("few"));
        body.extend(&self.compressions);
        let extensions = self.extensions.iter();
        let extensions = extensions.flat_map(|(number, body)| [&number.to_be_bytes()[..], &sized(body)].concat());
        body.extend(sized(&extensions.collect::<Vec<u8>>()));
        let length = u32::try_from(body.len()).expect("short").to_be_bytes();
        [&[1][..], &length[1..], &body].concat()
    }

    /// As it goes over the wire, in records of so many octets.
    pub(super) fn wire(&self, fragment: usize) -> Vec<u8> {
        self.message().chunks(fragment).flat_map(record).collect()
    }
}

pub(super) fn record(fragment: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &sized(fragment)].concat()
}

/// A body with its length in two octets before it.
pub(super) fn sized(body: &[u8]) -> Vec<u8> {
    [&u16::try_from(body.len()).expect("fits").to_be_bytes()[..], body].concat()
}

pub(super) fn groups(groups: &[u16]) -> (u16, Vec<u8>) {
    (10, sized(&groups.iter().flat_map(|group| group.to_be_bytes()).collect::<Vec<u8>>()))
}

fn signatures() -> (u16, Vec<u8>) {
    (13, sized(&[4, 3, 8, 4, 4, 1, 5, 3, 8, 5, 5, 1]))
}

pub(super) fn server_name(name: &[u8]) -> Vec<u8> {
    sized(&[&[0][..], &sized(name)].concat())
}

/// The first thing a server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Hello(ServerHello),
    /// Level and description.
    Alert(u8, u8),
    /// It closed without a word.
    Nothing,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerHello {
    pub(super) version: u16,
    pub(super) random: Vec<u8>,
    pub(super) suite: u16,
    pub(super) compression: u8,
    pub(super) extensions: Vec<(u16, Vec<u8>)>,
}

impl ServerHello {
    pub(super) fn has(&self, number: u16) -> bool {
        self.extensions.iter().any(|(extension, _)| *extension == number)
    }
}

/// Reads it from all that came; none until it is whole.
pub(super) fn read(bytes: &[u8]) -> Option<Said> {
    let mut record = Bytes(bytes);
    let (kind, _, length) = (record.take(1)?[0], record.take(2)?, record.number(2)?);
    let mut body = Bytes(record.take(length)?);
    match kind {
        21 => Some(Said::Alert(body.take(1)?[0], body.take(1)?[0])),
        22 => {
            assert_eq!(body.take(1)?, [2], "a ServerHello");
            let length = body.number(3)?;
            let mut hello = Bytes(body.take(length)?);
            let (version, random) = (hello.number(2)?, hello.take(32)?.to_vec());
            let session = hello.number(1)?;
            hello.take(session)?;
            let (suite, compression) = (hello.number(2)?, hello.take(1)?[0]);
            let mut extensions = Vec::new();
            if let Some(length) = hello.number(2) {
                let mut list = Bytes(hello.take(length)?);
                while let Some(number) = list.number(2) {
                    let length = list.number(2)?;
                    extensions.push((u16::try_from(number).ok()?, list.take(length)?.to_vec()));
                }
            }
            let (version, suite) = (u16::try_from(version).ok()?, u16::try_from(suite).ok()?);
            Some(Said::Hello(ServerHello { version, random, suite, compression, extensions }))
        }
        kind => panic!("a record of type {kind}"),
    }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, octets: usize) -> Option<usize> {
        Some(self.take(octets)?.iter().fold(0, |number, octet| number << 8 | usize::from(*octet)))
    }
}
