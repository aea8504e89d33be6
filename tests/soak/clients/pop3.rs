//! Those who read by POP3 and delete what they have read.

use super::Client;
use crate::message::{message, proven};
use crate::servers::dovecot::deliver_into;
use crate::wire::{Trouble, Way, Wire};
use base64::Engine;
use rand::Rng;
use std::collections::BTreeSet;

/// What a client knows of its mailbox.
#[derive(Default)]
pub struct Mailbox {
    /// Delivered and not deleted.
    pub there: BTreeSet<u64>,
    /// Deleted in a session whose end was lost.
    perhaps: BTreeSet<u64>,
}

/// A session.
pub struct Pop3 {
    pub wire: Wire,
}

impl Pop3 {
    /// Connects by implicit TLS or STLS, up to where a login may follow.
    pub async fn open(way: &Way, client: &Client, implicit: bool) -> Result<Self, Trouble> {
        let wire = if implicit {
            Wire::connect_tls(way, client.port(995)).await?
        } else {
            Wire::connect(way, client.port(110)).await?
        };
        let mut pop3 = Self { wire };
        pop3.ok().await?;
        if !implicit {
            pop3.command("STLS").await?;
            pop3.wire.secure().await?;
        }
        Ok(pop3)
    }

    pub async fn login(&mut self, user: &str, by_sasl: bool) -> Result<(), Trouble> {
        if by_sasl {
            let secret = base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0secret"));
            self.command(&format!("AUTH PLAIN {secret}")).await.map(drop)
        } else {
            self.command(&format!("USER {user}")).await?;
            self.command("PASS secret").await.map(drop)
        }
    }

    pub async fn command(&mut self, command: &str) -> Result<String, Trouble> {
        self.wire.say(format!("{command}\r\n")).await?;
        self.ok().await
    }

    async fn ok(&mut self) -> Result<String, Trouble> {
        let line = self.wire.text().await?;
        match () {
            () if line.starts_with("+OK") => Ok(line),
            () if line.starts_with("-ERR") => Err(Trouble::Said(line)),
            () => Err(Trouble::Wrong(format!("no answer of POP3: {line}"))),
        }
    }

    /// The lines up to the dot, without the dots that were put before others.
    async fn lines(&mut self) -> Result<Vec<u8>, Trouble> {
        let mut text = Vec::new();
        loop {
            let line = self.wire.line().await?;
            match line.strip_prefix(b".") {
                Some(b"\r\n") => return Ok(text),
                Some(rest) => text.extend_from_slice(rest),
                None => text.extend_from_slice(&line),
            }
        }
    }
}

impl Client {
    pub async fn pop3_read(&mut self, bytewise: bool) -> Result<(), Trouble> {
        let folder = self.field.folder(&self.pop_user(), "");
        for _ in 0..self.chance.random_range(0..3) {
            let id = self.field.ledger.number();
            deliver_into(&folder, message(self.field.seed, id, self.chance.random_range(500..100_000)));
            self.pop.there.insert(id);
        }
        let (implicit, by_sasl) = (self.chance.random(), self.chance.random());
        let mut pop3 = Pop3::open(&Way { bytewise, ..self.way.clone() }, self, implicit).await?;
        pop3.login(&self.pop_user(), by_sasl).await?;
        let stat = pop3.command("STAT").await?;
        let count: usize = stat.split(' ').nth(1).and_then(|count| count.parse().ok()).unwrap_or(0);
        pop3.command("LIST").await?;
        let listed = pop3.lines().await?.split(|byte| *byte == b'\n').count() - 1;
        pop3.command("UIDL").await?;
        pop3.lines().await?;
        let mut got = BTreeSet::new();
        for number in 1..=count {
            pop3.command(&format!("RETR {number}")).await?;
            let text = pop3.lines().await?;
            got.insert(proven(self.field.seed, &text).map_err(Trouble::Wrong)?);
        }
        self.pop_compare(&got, count, listed)?;
        for number in 1..=count {
            pop3.command(&format!("DELE {number}")).await?;
        }
        // From here on an end that is not heard leaves it open whether they are gone.
        self.pop.perhaps.append(&mut self.pop.there);
        pop3.command("QUIT").await?;
        self.pop.perhaps.clear();
        pop3.wire.finish().await
    }

    /// Nothing deleted comes back, nothing delivered is missing.
    fn pop_compare(&mut self, got: &BTreeSet<u64>, count: usize, listed: usize) -> Result<(), Trouble> {
        let Mailbox { there, perhaps } = &mut self.pop;
        let missing: Vec<_> = there.difference(got).collect();
        let back: Vec<_> = got.iter().filter(|id| !there.contains(id) && !perhaps.contains(id)).collect();
        if !missing.is_empty() || !back.is_empty() || got.len() != count || listed != count {
            return Err(Trouble::Wrong(format!(
                "{count} messages, {listed} listed, {} read; missing {missing:?}, come back {back:?}",
                got.len()
            )));
        }
        there.extend(got);
        perhaps.clear();
        Ok(())
    }
}
