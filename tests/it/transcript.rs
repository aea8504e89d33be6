//! Sessions as text, for a postmaster to read and for every runner to play.
//!
//! ```text
//! # free text                        what the session shows
//! = listener imap starttls           service and TLS rule; comes first
//! = mechanisms PLAIN LOGIN           auth.mechanisms
//! = without_tls CRAM-MD5             auth.without_tls
//! = remembered IMAP4rev1 SASL-IR     what is known of the backend before it is dialled (see `remember`)
//! = early                            the backend is dialled before the greeting
//! = whole why                        its segments must arrive whole, for this reason: not played byte by byte
//! C: line      S: line               from and to the client, CRLF behind it
//! G: line      B: line               to and from the backend
//! C~ raw\r\n                         the same without the CRLF; escapes \r \n \t \\ \xNN. Also S~ G~ B~
//! = tls                              the client's handshake, after the go-ahead for an upgrade
//! = event auth.ok user=joe           an event with at least these fields
//! = backend down                     dialling fails from here on
//! = backend closes                   the backend's connection ends here
//! = closed                           the gateway closed the client's connection
//! ```
//!
//! `<*>` in S and G lines matches any text. Consecutive C lines arrive in one segment, and so do consecutive B lines.

use gatepost::proto::{Capabilities, FrontSettings, Mechanism, Mechanisms, Protocol, Service, TlsRule};
use std::fmt;
use std::path::{Path, PathBuf};

/// Our name in every transcript.
pub(crate) const HOSTNAME: &str = "mail.example.net";

/// A session read from its file.
#[derive(Debug)]
pub(crate) struct Transcript {
    pub(crate) path: PathBuf,
    pub(crate) service: Service,
    pub(crate) tls: TlsRule,
    pub(crate) mechanisms: Mechanisms,
    pub(crate) without_tls: Mechanisms,
    /// What is known of the backend before it is dialled.
    pub(crate) remembered: Capabilities,
    /// The backend is dialled before the greeting.
    pub(crate) early: bool,
    /// Why its segments must not be cut.
    pub(crate) whole: Option<String>,
    pub(crate) acts: Vec<Act>,
}

/// What happens, and the last line of the file that says so.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

/// What may happen in a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One segment from the client.
    FromClient(Vec<u8>),
    /// What the client must see next.
    ToClient(Pattern),
    /// One segment from the backend.
    FromBackend(Vec<u8>),
    /// What the backend must see next.
    ToBackend(Pattern),
    /// The client's TLS handshake.
    Tls,
    /// An event of this name with at least these fields.
    Event { name: String, fields: Vec<(String, String)> },
    /// Dialling fails from here on.
    BackendDown,
    /// The backend's connection ends.
    BackendCloses,
    /// The gateway has closed the client's connection.
    Closed,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::FromClient(bytes) => write!(f, "C {}", bytes.escape_ascii()),
            Kind::ToClient(pattern) => write!(f, "S {pattern}"),
            Kind::FromBackend(bytes) => write!(f, "B {}", bytes.escape_ascii()),
            Kind::ToBackend(pattern) => write!(f, "G {pattern}"),
            Kind::Tls => f.write_str("the client's TLS handshake"),
            Kind::Event { name, fields } => {
                write!(f, "event {name}")?;
                fields.iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))
            }
            Kind::BackendDown => f.write_str("a backend that is down"),
            Kind::BackendCloses => f.write_str("the end of the backend's connection"),
            Kind::Closed => f.write_str("the end of the client's connection"),
        }
    }
}

/// Bytes with wildcards between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    parts: Vec<Vec<u8>>,
}

impl Pattern {
    fn new(text: &[u8]) -> Self {
        let (mut parts, mut part, mut rest) = (Vec::new(), Vec::new(), text);
        while let Some((&first, tail)) = rest.split_first() {
            if let Some(behind) = rest.strip_prefix(b"<*>") {
                parts.push(std::mem::take(&mut part));
                rest = behind;
            } else {
                part.push(first);
                rest = tail;
            }
        }
        parts.push(part);
        Self { parts }
    }

    /// How many of the bytes at the front of `text` the pattern takes. A wildcard stays within its line.
    pub(crate) fn matches(&self, text: &[u8]) -> Option<usize> {
        let (first, wild) = self.parts.split_first()?;
        let mut at = text.starts_with(first).then_some(first.len())?;
        for part in wild {
            let line_end = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |lf| at + lf + 1);
            let found = memchr::memmem::find(&text[at..line_end.max(at)], part)?;
            at += found + part.len();
        }
        Some(at)
    }
}

impl Pattern {
    /// The pattern of a line, with its CRLF.
    pub(crate) fn line(text: &str) -> Self {
        Self::new(format!("{text}\r\n").as_bytes())
    }

    /// Whether text that the pattern does not match has come to where it should have: more will not help.
    pub(crate) fn is_beyond(&self, text: &[u8]) -> bool {
        let lines = |bytes: &[u8]| memchr::memchr_iter(b'\n', bytes).count();
        let wanted: usize = self.parts.iter().map(|part| lines(part)).sum();
        let length: usize = self.parts.iter().map(Vec::len).sum();
        if wanted == 0 { text.len() >= length } else { lines(text) >= wanted }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            write!(f, "{}{}", if index > 0 { "<*>" } else { "" }, part.escape_ascii())?;
        }
        Ok(())
    }
}

/// Where a transcript and the gateway part, or where a transcript is none.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) path: PathBuf,
    pub(crate) line: usize,
    pub(crate) expected: String,
    pub(crate) got: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:\n  expected {}\n  got      {}", self.path.display(), self.line, self.expected, self.got)
    }
}

/// Reads every transcript of a folder under `tests/transcripts`, those alone whose path holds `$TRANSCRIPT` if it is
/// set, and panics if there is none or one cannot be read.
pub(crate) fn folder(name: &str) -> Vec<Transcript> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(name);
    let wanted = std::env::var("TRANSCRIPT").unwrap_or_default();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "txt") && path.to_string_lossy().contains(&wanted))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no transcript in {}", folder.display());
    paths.into_iter().map(|path| Transcript::read(&path).unwrap_or_else(|failure| panic!("{failure}"))).collect()
}

/// Plays transcripts and panics with every failure at once.
pub(crate) fn play_all(transcripts: &[Transcript], play: impl Fn(&Transcript) -> Result<(), Failure>) {
    let failures: Vec<String> =
        transcripts.iter().filter_map(|transcript| play(transcript).err()).map(|f| f.to_string()).collect();
    assert!(failures.is_empty(), "{} of {}\n{}", failures.len(), transcripts.len(), failures.join("\n"));
}

impl Transcript {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let shown = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path);
        Self::parse(shown, &text)
    }

    /// Reads a text; `path` is for failures.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        let fail = |line: usize, expected: &str, got: &str| Failure {
            path: path.to_owned(),
            line,
            expected: expected.to_owned(),
            got: got.to_owned(),
        };
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));

        let (at, first) = lines.next().ok_or_else(|| fail(1, "= listener SERVICE RULE", "an empty file"))?;
        let (service, tls) = first
            .strip_prefix("= listener ")
            .and_then(listener)
            .ok_or_else(|| fail(at, "= listener SERVICE RULE", first))?;
        let mut transcript = Self {
            path: path.to_owned(),
            service,
            tls,
            mechanisms: Mechanisms::All,
            without_tls: Mechanisms::All,
            remembered: Capabilities::minimum(service.protocol()),
            early: false,
            whole: None,
            acts: Vec::new(),
        };
        let mut remembered = Vec::new();
        for (at, line) in lines {
            let setting = line.strip_prefix("= ").map(|s| s.split_once(' ').unwrap_or((s, "")));
            let kind = match setting {
                Some(("mechanisms", names)) => {
                    transcript.mechanisms = mechanisms(names).ok_or_else(|| fail(at, "names of mechanisms", names))?;
                    continue;
                }
                Some(("without_tls", names)) => {
                    transcript.without_tls = mechanisms(names).ok_or_else(|| fail(at, "names of mechanisms", names))?;
                    continue;
                }
                Some(("remembered", line)) => {
                    remembered.push(line);
                    continue;
                }
                Some(("whole", why)) if !why.is_empty() => {
                    transcript.whole = Some(why.to_owned());
                    continue;
                }
                Some(("early", "")) => {
                    transcript.early = true;
                    continue;
                }
                _ => act(line).ok_or_else(|| fail(at, "a C, S, G, B or = line", line))?,
            };
            match (transcript.acts.last_mut(), kind) {
                (Some(Act { kind: Kind::FromClient(segment), line }), Kind::FromClient(more))
                | (Some(Act { kind: Kind::FromBackend(segment), line }), Kind::FromBackend(more)) => {
                    segment.extend(more);
                    *line = at;
                }
                (_, kind) => transcript.acts.push(Act { line: at, kind }),
            }
        }
        if !remembered.is_empty() {
            transcript.remembered = remember(service.protocol(), &remembered);
        }
        Ok(transcript)
    }

    /// The listener as the front half sees it.
    pub(crate) fn front_settings(&self) -> FrontSettings {
        FrontSettings {
            hostname: HOSTNAME.to_owned(),
            service: self.service,
            tls: self.tls,
            mechanisms: self.mechanisms.clone(),
            without_tls: self.without_tls.clone(),
            user_first: false,
            may_be_granted: false,
            believes_origin: false,
            max_message: 50 * 1024 * 1024,
        }
    }

    /// A failure at an act of this transcript.
    pub(crate) fn failure(&self, line: usize, expected: impl Into<String>, got: impl Into<String>) -> Failure {
        Failure { path: self.path.clone(), line, expected: expected.into(), got: got.into() }
    }
}

fn listener(text: &str) -> Option<(Service, TlsRule)> {
    let (service, rule) = text.split_once(' ')?;
    let service = [Service::Imap, Service::Pop3, Service::Submission, Service::Smtp]
        .into_iter()
        .find(|known| known.as_str() == service)?;
    let rule = [TlsRule::Implicit, TlsRule::StartTls, TlsRule::Optional, TlsRule::Off]
        .into_iter()
        .find(|known| known.as_str() == rule)?;
    Some((service, rule))
}

fn mechanisms(names: &str) -> Option<Mechanisms> {
    names.split_whitespace().map(|name| Mechanism::parse(name.as_bytes())).collect::<Option<_>>().map(Mechanisms::Only)
}

/// IMAP: all atoms on a line, `AUTH=X` gives mechanisms, LOGINDISABLED closes LOGIN. POP3: CAPA lines, `SASL X Y` gives
/// mechanisms, `USER` opens USER/PASS, and `APOP` stands for a timestamp. SMTP: EHLO lines, `AUTH X Y` gives mechanisms.
fn remember(protocol: Protocol, lines: &[&str]) -> Capabilities {
    let mut capabilities = Capabilities::default();
    let names = |text: &str| -> Vec<Mechanism> {
        text.split_whitespace().filter_map(|name| Mechanism::parse(name.as_bytes())).collect()
    };
    match protocol {
        Protocol::Imap => {
            capabilities.lines = lines.iter().flat_map(|line| line.split_whitespace()).map(str::to_owned).collect();
            let auth = capabilities.lines.iter().filter_map(|atom| atom.strip_prefix("AUTH="));
            capabilities.mechanisms = auth.flat_map(names).collect();
            capabilities.login_command = !capabilities.has("LOGINDISABLED");
        }
        Protocol::Pop3 => {
            capabilities.apop = lines.contains(&"APOP").then(|| "<1.2@backend.example.net>".to_owned());
            capabilities.lines = lines.iter().filter(|line| **line != "APOP").map(ToString::to_string).collect();
            capabilities.mechanisms = capabilities.argument("SASL").map(names).unwrap_or_default();
            capabilities.login_command = capabilities.has("USER");
        }
        Protocol::Smtp => {
            capabilities.lines = lines.iter().map(ToString::to_string).collect();
            capabilities.mechanisms = capabilities.argument("AUTH").map(names).unwrap_or_default();
        }
    }
    capabilities
}

fn act(line: &str) -> Option<Kind> {
    let (mark, text) = line.split_at_checked(2)?;
    let text = text.strip_prefix(' ').unwrap_or(text);
    let bytes = match mark.as_bytes()[1] {
        b':' => [text.as_bytes(), b"\r\n"].concat(),
        b'~' => unescape(text)?,
        _ => text.as_bytes().to_vec(),
    };
    Some(match mark {
        "C:" | "C~" => Kind::FromClient(bytes),
        "S:" | "S~" => Kind::ToClient(Pattern::new(&bytes)),
        "B:" | "B~" => Kind::FromBackend(bytes),
        "G:" | "G~" => Kind::ToBackend(Pattern::new(&bytes)),
        "= " => match text.split_once(' ').unwrap_or((text, "")) {
            ("tls", "") => Kind::Tls,
            ("closed", "") => Kind::Closed,
            ("backend", "down") => Kind::BackendDown,
            ("backend", "closes") => Kind::BackendCloses,
            ("event", event) => {
                let (name, fields) = event.split_once(' ').unwrap_or((event, ""));
                let fields = fields
                    .split_whitespace()
                    .map(|field| field.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
                    .collect::<Option<_>>()?;
                Kind::Event { name: name.to_owned(), fields }
            }
            _ => return None,
        },
        _ => return None,
    })
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let (&code, tail) = rest.split_first()?;
        rest = tail;
        bytes.push(match code {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'\\' => b'\\',
            b'x' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                rest = tail;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(bytes)
}

#[test]
fn a_transcript_is_read_as_it_is_meant() {
    let text = "# a login\n= listener imap optional\n= without_tls CRAM-MD5\n= remembered IMAP4rev1 AUTH=CRAM-MD5\n\
                S: * OK [CAPABILITY <*>] <*>\nC: a NOOP\nC~ b\\x00\\r\\n\nS~ x\n= event auth.ok user=joe tls=null\n= closed\n";
    let transcript = Transcript::parse(Path::new("t.txt"), text).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!((transcript.service, transcript.tls), (Service::Imap, TlsRule::Optional));
    assert_eq!(transcript.without_tls, Mechanisms::Only(vec![Mechanism::CRAM_MD5]));
    assert_eq!(transcript.remembered.mechanisms, [Mechanism::CRAM_MD5]);
    let kinds: Vec<&Kind> = transcript.acts.iter().map(|act| &act.kind).collect();
    assert_eq!(kinds[1], &Kind::FromClient(b"a NOOP\r\nb\0\r\n".to_vec()));
    assert_eq!(transcript.acts[1].line, 7);
    let fields = vec![("user".to_owned(), "joe".to_owned()), ("tls".to_owned(), "null".to_owned())];
    assert_eq!(kinds[3], &Kind::Event { name: "auth.ok".to_owned(), fields });
    assert_eq!(kinds.len(), 5);
}

#[test]
fn what_is_no_transcript_is_refused_with_its_line() {
    for (text, line) in [
        ("S: * OK\n", 1),
        ("= listener gopher off\n", 1),
        ("= listener imap off\n\nX: what\n", 3),
        ("= listener imap off\nC~ \\q\n", 2),
        ("= listener imap off\n= backend sleeps\n", 2),
    ] {
        let failure = Transcript::parse(Path::new("t.txt"), text).expect_err(text);
        assert_eq!(failure.line, line, "{failure}");
    }
}

#[test]
fn a_wildcard_stays_within_its_line() {
    let pattern = Pattern::new(b"* OK <*> ready\r\n");
    assert_eq!(pattern.matches(b"* OK [x] mail ready\r\nnext"), Some(21));
    assert_eq!(pattern.matches(b"* OK mail\r\n* OK ready\r\n"), None);
    assert_eq!(pattern.matches(b"* NO x ready\r\n"), None);
}
