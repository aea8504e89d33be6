//! The clients: each does one thing after the other, chosen by chance, some of them well and some of them not.

pub mod abandoning;
pub mod hostile;
pub mod imap;
pub mod pop3;
pub mod sending;

use crate::ledger::Ledger;
use crate::message::message;
use crate::servers::dovecot::deliver_into;
use crate::tally::{Outcome, Tally};
use crate::weather::{Needs, Weather};
use crate::wire::{Story, Trouble, Way};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustls::ClientConfig;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// What all clients know.
pub struct Field {
    pub seed: u64,
    pub gateway: Ipv4Addr,
    /// Where Dovecot keeps the mail of its users.
    pub homes: PathBuf,
    pub ledger: Ledger,
    pub weather: Weather,
    pub tally: Tally,
    /// The last line of events at the gateway about an address, for the record of a failure.
    pub log: crate::gateway::Log,
    pub verbose: bool,
}

impl Field {
    /// The INBOX of a user, or a folder in it.
    fn folder(&self, user: &str, name: &str) -> PathBuf {
        self.homes.join(user).join("Maildir").join(name)
    }
}

/// How many mailboxes take the mail that is sent.
pub const LEDGER_BOXES: usize = 8;

/// The mailbox `number` of those.
pub fn ledger_box(number: usize) -> String {
    format!("ledger-{number}")
}

/// A kind of session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Behaviour {
    ImapRead,
    ImapIdle,
    ImapLongIdle,
    ImapPipelined,
    ImapByteByByte,
    ImapSlowReader,
    Pop3Read,
    Pop3ByteByByte,
    Send,
    SendPipelined,
    SendByteByByte,
    AbandonHandshake,
    AbandonCommand,
    AbandonDownload,
    AbandonMessage,
    WrongPassword,
    Garbage,
    Scan,
    PlaintextOnTls,
    StartTlsInjection,
}

use Behaviour as B;

impl Behaviour {
    /// How often each, of the sum of all.
    const WEIGHTS: [(B, u32); 20] = [
        (B::ImapRead, 18),
        (B::ImapIdle, 8),
        (B::ImapLongIdle, 1),
        (B::ImapPipelined, 6),
        (B::ImapByteByByte, 3),
        (B::ImapSlowReader, 2),
        (B::Pop3Read, 14),
        (B::Pop3ByteByByte, 3),
        (B::Send, 22),
        (B::SendPipelined, 6),
        (B::SendByteByByte, 3),
        (B::AbandonHandshake, 4),
        (B::AbandonCommand, 4),
        (B::AbandonDownload, 4),
        (B::AbandonMessage, 6),
        (B::WrongPassword, 6),
        (B::Garbage, 5),
        (B::Scan, 5),
        (B::PlaintextOnTls, 4),
        (B::StartTlsInjection, 6),
    ];

    fn by_chance(chance: &mut StdRng) -> B {
        let sum = Self::WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut left = chance.random_range(0..sum);
        for (behaviour, weight) in Self::WEIGHTS {
            if left < weight {
                return behaviour;
            }
            left -= weight;
        }
        unreachable!("less than the sum")
    }

    /// The servers without which it cannot go well; none for what the gateway alone answers, or answers in any weather.
    pub fn needs(self) -> Option<Needs> {
        match self {
            B::ImapRead
            | B::ImapIdle
            | B::ImapLongIdle
            | B::ImapPipelined
            | B::ImapByteByByte
            | B::ImapSlowReader
            | B::Pop3Read
            | B::Pop3ByteByByte => Some(Needs::Reading),
            B::Send | B::SendPipelined | B::SendByteByByte => Some(Needs::Sending),
            _ => None,
        }
    }
}

/// One client, with addresses, mailboxes and chances of its own.
pub struct Client {
    number: usize,
    chance: StdRng,
    field: Arc<Field>,
    way: Way,
    /// Where it misbehaves from, so that what it earns hits nobody else.
    rough: Way,
    pop: pop3::Mailbox,
}

impl Client {
    /// The client `number`, with mail in its mailboxes.
    pub fn new(number: usize, field: &Arc<Field>, tls: &Arc<ClientConfig>) -> Self {
        let octet = |n: usize| u8::try_from(n % 250 + 1).expect("below 251");
        let [.., network, _] = field.gateway.octets();
        let way = |b: u8, n: usize| Way {
            source: Ipv4Addr::new(127, 200 + (network & 0x1f), b + u8::try_from(n / 250).expect("few"), octet(n)),
            tls: Arc::clone(tls),
            bytewise: false,
            narrow: false,
            story: Story::default(),
        };
        let mut client = Self {
            number,
            chance: StdRng::seed_from_u64(field.seed.wrapping_add(number as u64)),
            field: Arc::clone(field),
            way: way(0, number),
            rough: way(100, number),
            pop: pop3::Mailbox::default(),
        };
        client.rough.story = client.way.story.clone();
        client.put_known_mail();
        client
    }

    /// Does one thing after the other until it is told to stop.
    pub async fn live(mut self, stop: CancellationToken) -> Self {
        while !stop.is_cancelled() {
            let behaviour = Behaviour::by_chance(&mut self.chance);
            self.once(behaviour, &stop).await;
            let pause = Duration::from_millis(self.chance.random_range(50..2000));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        self
    }

    /// Logs in to each protocol once, so that the gateway has seen this user well at this address.
    pub async fn introduce(mut self, stop: CancellationToken) -> Self {
        for behaviour in [B::ImapRead, B::Pop3Read, B::Send] {
            self.once(behaviour, &stop).await;
        }
        self
    }

    async fn once(&mut self, behaviour: Behaviour, stop: &CancellationToken) {
        self.way.story.clear();
        let began = Instant::now();
        let result = self.act(behaviour, stop).await;
        let outcome = self.judge(behaviour, began, result);
        self.field.tally.add(behaviour, began.elapsed(), outcome);
    }

    async fn act(&mut self, behaviour: Behaviour, stop: &CancellationToken) -> Result<(), Trouble> {
        match behaviour {
            B::ImapRead => self.imap_read().await,
            B::ImapIdle => self.imap_idle().await,
            B::ImapLongIdle => self.imap_long_idle(stop).await,
            B::ImapPipelined => self.imap_pipelined().await,
            B::ImapByteByByte => self.imap_byte_by_byte().await,
            B::ImapSlowReader => self.imap_slowly().await,
            B::Pop3Read => self.pop3_read(false).await,
            B::Pop3ByteByByte => self.pop3_read(true).await,
            B::Send => self.send().await,
            B::SendPipelined => self.send_pipelined().await,
            B::SendByteByByte => self.send_byte_by_byte().await,
            B::AbandonHandshake => self.abandon_handshake().await,
            B::AbandonCommand => self.abandon_command().await,
            B::AbandonDownload => self.abandon_download().await,
            B::AbandonMessage => self.abandon_message().await,
            B::WrongPassword => self.wrong_password().await,
            B::Garbage => self.garbage().await,
            B::Scan => self.scan().await,
            B::PlaintextOnTls => self.plaintext_on_tls().await,
            B::StartTlsInjection => self.inject_at_starttls().await,
        }
    }

    fn judge(&self, behaviour: Behaviour, began: Instant, result: Result<(), Trouble>) -> Outcome {
        let Err(trouble) = result else { return Outcome::Well };
        let is_fair = behaviour.needs().is_none_or(|needs| self.field.weather.was_fair(needs, began));
        if !is_fair && is_the_contracts(behaviour, &trouble) {
            if self.field.verbose {
                println!("    {behaviour:?} of client {} in foul weather: {trouble}", self.number);
            }
            return Outcome::Disturbed(trouble.to_string());
        }
        let mut lines = vec![format!(
            "{behaviour:?} of client {} after {:.1} s in {} weather: {trouble}",
            self.number,
            began.elapsed().as_secs_f64(),
            if is_fair { "fair" } else { "foul" }
        )];
        lines.extend(self.way.story.lines());
        let source = if behaviour.needs().is_some() { self.way.source } else { self.rough.source };
        lines.extend(self.field.log.about(source, 8));
        Outcome::Failed(lines)
    }

    /// Messages that are read and never changed, and those that POP3 leaves where they are.
    fn put_known_mail(&mut self) {
        for (user, folder) in [(self.imap_user(), ".Known"), (self.left_user(), "")] {
            deliver_into(&self.field.folder(&user, ""), message(self.field.seed, self.field.ledger.number(), 1000));
            for size in [2_000, 60_000, imap::LARGE] {
                let message = message(self.field.seed, self.field.ledger.number(), size);
                deliver_into(&self.field.folder(&user, folder), message);
            }
        }
        let id = self.field.ledger.number();
        deliver_into(&self.field.folder(&self.pop_user(), ""), message(self.field.seed, id, 1000));
        self.pop.there.insert(id);
    }

    /// Who reads by IMAP.
    fn imap_user(&self) -> String {
        format!("imap-{}", self.number)
    }

    /// Who reads by POP3 and deletes.
    fn pop_user(&self) -> String {
        format!("pop-{}", self.number)
    }

    /// Who sends.
    fn sender(&self) -> String {
        format!("sender-{}", self.number)
    }

    /// Who is always left in the middle.
    fn left_user(&self) -> String {
        format!("left-{}", self.number)
    }

    fn port(&self, port: u16) -> SocketAddr {
        (self.field.gateway, port).into()
    }

    /// One of two, by chance.
    fn either<T>(&mut self, one: T, other: T) -> T {
        if self.chance.random() { one } else { other }
    }
}

/// Whether this is what a client may meet while a server behind is down (the contract's section 5): a "not now" in the
/// protocol's words, or a connection that ends properly. Once the session is open these may be the server's own words.
fn is_the_contracts(behaviour: Behaviour, trouble: &Trouble) -> bool {
    let Trouble::Said(words) = trouble else { return *trouble == Trouble::Closed };
    match behaviour {
        B::Pop3Read | B::Pop3ByteByByte => words.starts_with("-ERR [SYS/TEMP]") || words.starts_with("-ERR [IN-USE]"),
        B::Send | B::SendPipelined | B::SendByteByByte => words.starts_with('4'),
        _ => words.starts_with("* BYE") || words.contains(" NO [UNAVAILABLE]") || words.contains(" NO [SERVERBUG]"),
    }
}
