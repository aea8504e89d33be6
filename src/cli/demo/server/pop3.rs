//! POP3 (RFC 1939, 2449, 5034) over the INBOX.

use super::login::{self, MECHANISMS, Verdict};
use super::store::{INBOX, Item, Store};
use super::wire::Wire;
use crate::proto::line::Line;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// A command line: RFC 2449 says 255 octets; an AUTH with initial response may be longer.
const LINE: usize = 4096;

/// Serves one connection to its end.
pub(super) async fn serve(mut wire: Wire, store: Arc<Store>) -> io::Result<()> {
    let timestamp = login::timestamp();
    wire.send(format!("+OK mail.example.net plaintext POP3 ready {timestamp}\r\n")).await?;
    let Some(maildrop) = authorization(&mut wire, &store, &timestamp).await? else { return wire.flush().await };
    transaction(&mut wire, &store, maildrop).await?;
    wire.flush().await
}

/// Everything up to a login; `None` when the client leaves before.
async fn authorization(wire: &mut Wire, store: &Store, timestamp: &str) -> io::Result<Option<Maildrop>> {
    let mut user = None;
    while let Some((verb, argument)) = command(wire).await? {
        let right = match (verb.as_str(), argument.as_slice()) {
            ("USER", name) if !name.is_empty() => {
                user = Some(name.to_vec());
                wire.send("+OK now the password\r\n").await?;
                continue;
            }
            ("PASS", password) => match user.take() {
                Some(name) => login::accepts(&name, password),
                None => {
                    wire.send("-ERR first USER\r\n").await?;
                    continue;
                }
            },
            ("APOP", argument) => match argument.iter().position(|&b| b == b' ') {
                Some(space) => login::accepts_apop(&argument[..space], timestamp, &argument[space + 1..]),
                None => false,
            },
            ("AUTH", b"") => {
                wire.send(format!("+OK\r\n{}\r\n.\r\n", MECHANISMS.join("\r\n"))).await?;
                continue;
            }
            ("AUTH", argument) => match authenticate(wire, argument).await? {
                Verdict::Accepted => true,
                Verdict::Wrong => false,
                Verdict::Cancelled | Verdict::Malformed | Verdict::Unknown => {
                    wire.send("-ERR no login\r\n").await?;
                    continue;
                }
            },
            ("CAPA", _) => {
                wire.send(capabilities()).await?;
                continue;
            }
            ("NOOP", _) => {
                wire.send("+OK\r\n").await?;
                continue;
            }
            ("QUIT", _) => {
                wire.send("+OK goodbye\r\n").await?;
                return Ok(None);
            }
            _ => {
                wire.send("-ERR not known, or not before a login\r\n").await?;
                continue;
            }
        };
        if right {
            let maildrop = Maildrop::open(store);
            wire.send(format!("+OK {} messages, {} octets\r\n", maildrop.items.len(), maildrop.size())).await?;
            return Ok(Some(maildrop));
        }
        wire.send("-ERR [AUTH] wrong name or password\r\n").await?;
    }
    Ok(None)
}

async fn authenticate(wire: &mut Wire, argument: &[u8]) -> io::Result<Verdict> {
    let mut words = argument.splitn(2, |&b| b == b' ');
    let mechanism = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
    login::converse(wire, &mechanism, words.next(), "+ ").await
}

/// Everything after the login. What was marked is deleted at QUIT and at no other end.
async fn transaction(wire: &mut Wire, store: &Store, mut maildrop: Maildrop) -> io::Result<()> {
    while let Some((verb, argument)) = command(wire).await? {
        let argument = String::from_utf8_lossy(&argument).into_owned();
        let mut numbers = argument.split_ascii_whitespace().map(|word| word.parse::<usize>().unwrap_or(usize::MAX));
        let (first, second) = (numbers.next(), numbers.next());
        match verb.as_str() {
            "STAT" => wire.send(format!("+OK {} {}\r\n", maildrop.left().count(), maildrop.size())).await?,
            "LIST" => listing(wire, &maildrop, first, |item| item.message.raw.len().to_string()).await?,
            "UIDL" => {
                listing(wire, &maildrop, first, |item| format!("{:08x}{:08x}", maildrop.folder, item.uid)).await?;
            }
            "RETR" => match first.and_then(|number| maildrop.item(number)) {
                Some(item) => {
                    wire.send(format!("+OK {} octets\r\n", item.message.raw.len())).await?;
                    text(wire, &item.message.raw, None).await?;
                }
                None => wire.send("-ERR no such message\r\n").await?,
            },
            "TOP" => match first.and_then(|number| maildrop.item(number)).zip(second) {
                Some((item, lines)) => {
                    wire.send("+OK\r\n").await?;
                    text(wire, &item.message.raw, Some(lines)).await?;
                }
                None => wire.send("-ERR no such message, or no number of lines\r\n").await?,
            },
            "DELE" => match first.filter(|&number| maildrop.item(number).is_some()) {
                Some(number) => {
                    maildrop.marked.insert(number);
                    wire.send("+OK marked\r\n").await?;
                }
                None => wire.send("-ERR no such message\r\n").await?,
            },
            "RSET" => {
                maildrop.marked.clear();
                wire.send(format!("+OK {} messages\r\n", maildrop.items.len())).await?;
            }
            "NOOP" => wire.send("+OK\r\n").await?,
            "CAPA" => wire.send(capabilities()).await?,
            "QUIT" => {
                maildrop.delete_marked(store);
                return wire.send("+OK goodbye\r\n").await;
            }
            _ => wire.send("-ERR not known\r\n").await?,
        }
    }
    Ok(())
}

/// The next command: its word in capitals, and the rest as it stands.
async fn command(wire: &mut Wire) -> io::Result<Option<(String, Vec<u8>)>> {
    loop {
        match wire.line(LINE).await? {
            Some(Line::Whole { bytes, .. }) => {
                let mut words = bytes.splitn(2, |&b| b == b' ');
                let verb = String::from_utf8_lossy(words.next().unwrap_or_default()).to_ascii_uppercase();
                return Ok(Some((verb, words.next().unwrap_or_default().to_vec())));
            }
            Some(Line::TooLong) => wire.send("-ERR line too long\r\n").await?,
            None => return Ok(None),
        }
    }
}

fn capabilities() -> String {
    let sasl = MECHANISMS.join(" ");
    format!(
        "+OK\r\nUSER\r\nSASL {sasl}\r\nTOP\r\nUIDL\r\nPIPELINING\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n\
         IMPLEMENTATION gatepost-demo\r\n.\r\n"
    )
}

/// LIST and UIDL: of one message, or of all that are not marked.
async fn listing(
    wire: &mut Wire,
    maildrop: &Maildrop,
    number: Option<usize>,
    say: impl Fn(&Item) -> String,
) -> io::Result<()> {
    match number {
        Some(number) => match maildrop.item(number) {
            Some(item) => wire.send(format!("+OK {number} {}\r\n", say(item))).await,
            None => wire.send("-ERR no such message\r\n").await,
        },
        None => {
            wire.send("+OK\r\n").await?;
            for (number, item) in maildrop.left() {
                wire.send(format!("{number} {}\r\n", say(item))).await?;
            }
            wire.send(".\r\n").await
        }
    }
}

/// A message, dots doubled (RFC 1939 section 3); of its body only the first `body_lines`, if given.
async fn text(wire: &mut Wire, raw: &[u8], body_lines: Option<usize>) -> io::Result<()> {
    let mut left = body_lines;
    let mut in_body = false;
    for line in raw.split_inclusive(|&b| b == b'\n') {
        if in_body && let Some(left) = &mut left {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => break,
            }
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        in_body |= line.is_empty();
        if line.starts_with(b".") {
            wire.send(".").await?;
        }
        wire.send(line).await?;
        wire.send("\r\n").await?;
    }
    wire.send(".\r\n").await
}

/// The INBOX as it was at the login: numbers stay what they are for the whole session.
struct Maildrop {
    folder: u32,
    items: Vec<Item>,
    marked: BTreeSet<usize>,
}

impl Maildrop {
    fn open(store: &Store) -> Self {
        let (folder, items) =
            store.read(|folders| folders.named(INBOX).map(|inbox| (inbox.id, inbox.items.clone())).unwrap_or_default());
        Self { folder, items, marked: BTreeSet::new() }
    }

    fn item(&self, number: usize) -> Option<&Item> {
        if self.marked.contains(&number) { None } else { self.items.get(number.checked_sub(1)?) }
    }

    fn left(&self) -> impl Iterator<Item = (usize, &Item)> {
        (1..).zip(&self.items).filter(|(number, _)| !self.marked.contains(number))
    }

    fn size(&self) -> usize {
        self.left().map(|(_, item)| item.message.raw.len()).sum()
    }

    fn delete_marked(&self, store: &Store) {
        let gone: BTreeSet<u32> =
            self.marked.iter().filter_map(|number| Some(self.items.get(number.checked_sub(1)?)?.uid)).collect();
        store.change(|folders| {
            if let Some(inbox) = folders.with_id_mut(self.folder) {
                inbox.items.retain(|item| !gone.contains(&item.uid));
            }
        });
    }
}
