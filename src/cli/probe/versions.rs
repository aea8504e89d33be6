//! Which versions of TLS a server takes that ours no longer speaks: a hello for just that version, and the first thing
//! that comes back.
//!
//! The hello is written by hand, since no library that is kept would write it. Nothing is negotiated: the server's first
//! flight, or its alert, is all that is read, and the connection ends there.

use rustls::pki_types::ServerName;
use std::fmt;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// The most octets of an answer that are read: a chain of certificates is in it.
const LARGEST: usize = 64 * 1024;

/// A version older than TLS 1.3, as it is written on the wire. TLS 1.3 shows in an ordinary handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Ssl3,
    Tls10,
    Tls11,
    Tls12,
}

impl Version {
    /// All of them, the oldest first.
    pub(super) const ALL: [Self; 4] = [Self::Ssl3, Self::Tls10, Self::Tls11, Self::Tls12];

    /// Nobody should speak it any more (RFC 7568, RFC 8996).
    pub(super) fn is_old(self) -> bool {
        self < Self::Tls12
    }

    /// The word for programs: `ssl3`, `1.0`, `1.1`, `1.2`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ssl3 => "ssl3",
            Self::Tls10 => "1.0",
            Self::Tls11 => "1.1",
            Self::Tls12 => "1.2",
        }
    }

    fn number(self) -> u16 {
        match self {
            Self::Ssl3 => 0x0300,
            Self::Tls10 => 0x0301,
            Self::Tls11 => 0x0302,
            Self::Tls12 => 0x0303,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssl3 => f.write_str("SSL 3.0"),
            other => write!(f, "TLS {}", other.as_str()),
        }
    }
}

/// What a server made of a hello for one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It goes on with that very version.
    Taken,
    /// An alert, another version, or the end of the connection.
    Refused,
    /// Nothing that could be understood, or nothing in time.
    Unknown,
}

/// Offers just `version` and sees what comes back.
pub(super) async fn offer<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    version: Version,
    host: &ServerName<'_>,
    patience: Duration,
) -> Answer {
    let asking = async {
        if stream.write_all(&hello(version, host)).await.is_err() || stream.flush().await.is_err() {
            return Answer::Refused;
        }
        let mut heard = Vec::new();
        while heard.len() < LARGEST {
            match stream.read_buf(&mut heard).await {
                // Servers that know no alert for it hang up, and some reset.
                Ok(0) | Err(_) => return Answer::Refused,
                Ok(_) => {}
            }
            if let Some(answer) = understand(&heard, version) {
                return answer;
            }
        }
        Answer::Unknown
    };
    timeout(patience, asking).await.unwrap_or(Answer::Unknown)
}

/// A ClientHello (RFC 5246 section 7.4.1.2, RFC 6101 section 5.6.1.2) in one record.
fn hello(version: Version, host: &ServerName<'_>) -> Vec<u8> {
    let mut body = version.number().to_be_bytes().to_vec();
    body.extend(rand::random::<[u8; 32]>());
    body.push(0);
    let suites: Vec<u8> = suites(version).flat_map(u16::to_be_bytes).collect();
    put(&mut body, 2, &suites);
    put(&mut body, 1, &[0]);
    if version != Version::Ssl3 {
        let extensions = extensions(version, host);
        put(&mut body, 2, &extensions);
    }
    let mut message = vec![1];
    put(&mut message, 3, &body);
    // What a record says of its version is a formality, but SSL 3.0's servers know no other.
    let mut record = vec![22];
    record.extend(version.number().min(0x0301).to_be_bytes());
    put(&mut record, 2, &message);
    record
}

/// What servers of the time have at least one of.
fn suites(version: Version) -> impl Iterator<Item = u16> {
    const NEWER: &[u16] = &[
        0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0x009e, 0x009f, 0xc023, 0xc027, 0x0067, 0x006b, 0x009c, 0x009d,
        0x003c, 0x003d,
    ];
    // ECDHE, DHE and RSA with AES-CBC, 3DES and RC4; last the mark of a client that knows RFC 5746.
    const OLDER: &[u16] = &[
        0xc009, 0xc013, 0xc00a, 0xc014, 0x0033, 0x0039, 0x002f, 0x0035, 0xc008, 0xc012, 0x0016, 0x000a, 0xc007, 0xc011,
        0x0005, 0x0004, 0x00ff,
    ];
    let newer = if version == Version::Tls12 { NEWER } else { &[] };
    newer.iter().chain(OLDER).copied()
}

fn extensions(version: Version, host: &ServerName<'_>) -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut add = |kind: u16, content: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        put(&mut extensions, 2, content);
    };
    if let ServerName::DnsName(name) = host {
        let (mut entry, mut list) = (vec![0], Vec::new());
        put(&mut entry, 2, name.as_ref().as_bytes());
        put(&mut list, 2, &entry);
        add(0, &list);
    }
    // x25519, P-256, P-384, P-521; uncompressed points.
    add(10, &[0, 8, 0, 0x1d, 0, 0x17, 0, 0x18, 0, 0x19]);
    add(11, &[1, 0]);
    if version == Version::Tls12 {
        add(13, &[0, 18, 4, 3, 5, 3, 6, 3, 8, 4, 8, 5, 8, 6, 4, 1, 5, 1, 2, 1]);
    }
    extensions
}

/// Appends `content` behind its length in `width` octets. All there is here is shorter than 64 KiB.
fn put(to: &mut Vec<u8>, width: usize, content: &[u8]) {
    let length = content.len().to_be_bytes();
    to.extend_from_slice(&length[length.len() - width..]);
    to.extend_from_slice(content);
}

/// Reads the server's flight as far as it has come; `None` until enough has.
///
/// Its hello alone would not do: OpenSSL with a security level may agree to a version there, and fail at the signature
/// that comes next. ServerHelloDone (RFC 5246 section 7.4.5) is when it waits for the client to go on.
fn understand(heard: &[u8], version: Version) -> Option<Answer> {
    let (mut rest, mut messages, mut ended) = (heard, Vec::new(), None);
    while let [kind, _, _, high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        match kind {
            22 => messages.extend_from_slice(more.get(..length).unwrap_or(more)),
            21 => ended = Some(Answer::Refused),
            _ => ended = Some(Answer::Unknown),
        }
        rest = more.get(length..).unwrap_or_default();
        if ended.is_some() {
            break;
        }
    }
    if !matches!(heard.first(), None | Some(21 | 22)) {
        ended = Some(Answer::Unknown);
    }
    understand_messages(&messages, version).or(ended)
}

fn understand_messages(mut messages: &[u8], version: Version) -> Option<Answer> {
    let mut agreed = false;
    while let [kind, a, b, c, rest @ ..] = messages {
        let body = rest.get(..usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c))?;
        match (kind, body) {
            (2, [high, low, ..]) => agreed = u16::from_be_bytes([*high, *low]) == version.number(),
            _ if !agreed => return Some(Answer::Unknown),
            (14, _) => return Some(Answer::Taken),
            _ => {}
        }
        if !agreed {
            return Some(Answer::Refused);
        }
        messages = &rest[body.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{TooOld, client_hello_version, server_name};

    #[test]
    fn the_gateways_own_reader_takes_the_hellos_for_what_they_are() {
        for host in ["mail.example.net", "192.0.2.1"] {
            let host = server_name(host).expect("a host");
            let seen = Version::ALL.map(|version| client_hello_version(&hello(version, &host)));
            assert_eq!(seen, [Some(TooOld::Ssl3), Some(TooOld::Tls10), Some(TooOld::Tls11), None]);
        }
    }

    #[test]
    fn rustls_takes_the_newest_of_them_and_hears_the_name() {
        let host = server_name("mail.example.net").expect("a host");
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut hello(Version::Tls12, &host).as_slice()).expect("reads");
        let accepted = acceptor.accept().map_err(|(error, _)| error).expect("a hello").expect("a whole one");
        assert_eq!(accepted.client_hello().server_name(), Some("mail.example.net"));
    }

    /// Messages of a handshake in one record.
    fn record(messages: &[&[u8]]) -> Vec<u8> {
        let mut record = vec![22, 3, 1];
        put(&mut record, 2, &messages.concat());
        record
    }

    fn server_hello(version: [u8; 2]) -> Vec<u8> {
        let mut message = vec![2];
        put(&mut message, 3, &[&version[..], &[0; 70]].concat());
        message
    }

    #[test]
    fn a_version_is_taken_when_the_server_waits_for_the_client_to_go_on() {
        let (certificate, done) = ([11, 0, 0, 1, 9], [14, 0, 0, 0]);
        let alert = [21, 3, 1, 0, 2, 2, 80];
        let good = record(&[&server_hello([3, 1]), &certificate, &done]);
        let cut_over_records =
            [record(&[&server_hello([3, 1])]), record(&[&certificate[..3]]), record(&[&certificate[3..], &done])]
                .concat();
        for (heard, expected) in [
            (good.clone(), Some(Answer::Taken)),
            (cut_over_records, Some(Answer::Taken)),
            (good[..good.len() - 1].to_vec(), None),
            (record(&[&server_hello([3, 1])]), None),
            ([record(&[&server_hello([3, 1])]), alert.to_vec()].concat(), Some(Answer::Refused)),
            (record(&[&server_hello([3, 0]), &done]), Some(Answer::Refused)),
            (record(&[&server_hello([3, 3]), &done]), Some(Answer::Refused)),
            (alert.to_vec(), Some(Answer::Refused)),
            (record(&[&certificate, &done]), Some(Answer::Unknown)),
            (vec![], None),
            (vec![22], None),
            (b"* BAD what?\r\n".to_vec(), Some(Answer::Unknown)),
        ] {
            assert_eq!(understand(&heard, Version::Tls10), expected, "{heard:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_can_make_it_panic(heard: Vec<u8>) {
            let in_a_record = record(&[&heard]);
            for heard in [heard, in_a_record] {
                understand(&heard, Version::Tls11);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_drips_or_is_silent_is_given_up() {
        let host = server_name("mail.example.net").expect("a host");
        let (ours, _silent) = tokio::io::duplex(1 << 16);
        assert_eq!(offer(ours, Version::Tls10, &host, Duration::from_secs(10)).await, Answer::Unknown);
        let (ours, gone) = tokio::io::duplex(1 << 16);
        drop(gone);
        assert_eq!(offer(ours, Version::Tls10, &host, Duration::from_secs(10)).await, Answer::Refused);
    }
}
