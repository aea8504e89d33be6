//! Those who read by IMAP.

use super::Client;
use crate::message::{message, proven};
use crate::servers::dovecot::deliver_into;
use crate::wire::{Trouble, Way, Wire};
use base64::Engine;
use rand::Rng;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The largest known message.
pub const LARGE: usize = 600_000;

/// A session and its next tag.
pub struct Imap {
    pub wire: Wire,
    tag: u32,
}

impl Imap {
    /// Connects by implicit TLS or STARTTLS, up to where a login may follow.
    pub async fn open(way: &Way, client: &Client, implicit: bool) -> Result<Self, Trouble> {
        let wire = if implicit {
            Wire::connect_tls(way, client.port(993)).await?
        } else {
            Wire::connect(way, client.port(143)).await?
        };
        let mut imap = Self { wire, tag: 0 };
        let greeting = imap.wire.text().await?;
        if !greeting.starts_with("* OK") {
            return Err(Trouble::Said(greeting));
        }
        if !implicit {
            imap.command("STARTTLS").await?;
            imap.wire.secure().await?;
        }
        Ok(imap)
    }

    /// Logs in, by a command or by SASL.
    pub async fn login(&mut self, user: &str, by_sasl: bool) -> Result<(), Trouble> {
        let command = if by_sasl {
            format!(
                "AUTHENTICATE PLAIN {}",
                base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0secret"))
            )
        } else {
            format!("LOGIN {user} secret")
        };
        self.command(&command).await.map(drop)
    }

    /// Says a command and gives what came before its OK, literals included.
    pub async fn command(&mut self, command: &str) -> Result<Vec<Vec<u8>>, Trouble> {
        let tag = self.say(command).await?;
        self.answer(&tag, Duration::ZERO).await
    }

    async fn say(&mut self, command: &str) -> Result<String, Trouble> {
        self.tag += 1;
        let tag = format!("a{}", self.tag);
        self.wire.say(format!("{tag} {command}\r\n")).await?;
        Ok(tag)
    }

    async fn answer(&mut self, tag: &str, pause: Duration) -> Result<Vec<Vec<u8>>, Trouble> {
        match self.next_answer(pause).await? {
            (answered, parts) if answered == tag => Ok(parts),
            (answered, _) => Err(Trouble::Wrong(format!("an answer to {answered} instead of {tag}"))),
        }
    }

    /// Reads to the next tagged OK.
    async fn next_answer(&mut self, pause: Duration) -> Result<(String, Vec<Vec<u8>>), Trouble> {
        let mut parts = Vec::new();
        loop {
            let line = self.wire.line().await?;
            if let Some(size) = literal(&line) {
                parts.push(line);
                parts.push(self.wire.exactly(size, pause).await?);
                continue;
            }
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            match text.split(' ').collect::<Vec<_>>()[..] {
                ["*", "BYE", ..] => return Err(Trouble::Said(text)),
                ["*" | ")" | "", ..] => parts.push(line),
                [tag, "OK", ..] => return Ok((tag.to_owned(), parts)),
                [_, "NO" | "BAD", ..] => return Err(Trouble::Said(text)),
                _ => return Err(Trouble::Wrong(format!("no answer of IMAP: {text}"))),
            }
        }
    }

    /// Selects a folder and says how many messages are in it.
    pub async fn select(&mut self, folder: &str) -> Result<usize, Trouble> {
        let lines = self.command(&format!("SELECT {folder}")).await?;
        lines.iter().find_map(|line| exists(line)).ok_or_else(|| Trouble::Wrong("SELECT without EXISTS".to_owned()))
    }

    /// Reads a message and proves it.
    pub async fn fetch(&mut self, number: usize, seed: u64, pause: Duration) -> Result<u64, Trouble> {
        let tag = self.say(&format!("FETCH {number} (UID BODY.PEEK[])")).await?;
        let parts = self.answer(&tag, pause).await?;
        let body = parts.iter().skip_while(|part| literal(part).is_none()).nth(1);
        let body = body.ok_or_else(|| Trouble::Wrong(format!("FETCH {number} without a message")))?;
        proven(seed, body).map_err(Trouble::Wrong)
    }

    /// Waits for a message to come while idle, and ends that.
    pub async fn idle(&mut self, until_mail: bool, quiet: impl Future<Output = ()>) -> Result<(), Trouble> {
        let tag = self.say("IDLE").await?;
        loop {
            let line = self.wire.text().await?;
            match () {
                () if line.starts_with('+') => break,
                () if line.starts_with("* BYE") || line.starts_with(&tag) => return Err(Trouble::Said(line)),
                () => {}
            }
        }
        quiet.await;
        let mut has_come = !until_mail;
        while !has_come {
            let line = self.wire.line().await?;
            if line.starts_with(b"* BYE") {
                return Err(Trouble::Said(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            has_come = exists(&line).is_some();
        }
        self.wire.say("DONE\r\n").await?;
        self.answer(&tag, Duration::ZERO).await.map(drop)
    }

    /// Says goodbye and sees the connection end.
    pub async fn logout(mut self) -> Result<(), Trouble> {
        let tag = self.say("LOGOUT").await?;
        let bye = self.wire.text().await?;
        let ok = self.wire.text().await?;
        if !bye.starts_with("* BYE") || !ok.starts_with(&format!("{tag} OK")) {
            return Err(Trouble::Said(format!("{bye} {ok}")));
        }
        self.wire.finish().await
    }
}

impl Client {
    /// A session as most programs have it, logged in.
    pub async fn imap(&mut self, way: &Way) -> Result<Imap, Trouble> {
        let (implicit, by_sasl) = (self.chance.random(), self.chance.random());
        let mut imap = Imap::open(way, self, implicit).await?;
        imap.login(&self.imap_user(), by_sasl).await?;
        Ok(imap)
    }

    pub async fn imap_read(&mut self) -> Result<(), Trouble> {
        let mut imap = self.imap(&self.way.clone()).await?;
        imap.command("CAPABILITY").await?;
        imap.command("LIST \"\" *").await?;
        let count = imap.select("Known").await?;
        if count != 3 {
            return Err(Trouble::Wrong(format!("{count} known messages instead of 3")));
        }
        for _ in 0..self.chance.random_range(1..4) {
            imap.fetch(self.chance.random_range(1..=3), self.field.seed, Duration::ZERO).await?;
        }
        imap.logout().await
    }

    pub async fn imap_idle(&mut self) -> Result<(), Trouble> {
        let mut imap = self.imap(&self.way.clone()).await?;
        // What an earlier session left when it was cut off.
        if imap.select("INBOX").await? > 0 {
            imap.command("STORE 1:* +FLAGS.SILENT (\\Deleted)").await?;
            imap.command("EXPUNGE").await?;
        }
        let id = self.field.ledger.number();
        let text = message(self.field.seed, id, self.chance.random_range(500..20_000));
        let folder = self.field.folder(&self.imap_user(), "");
        let pause = Duration::from_millis(self.chance.random_range(0..4000));
        let coming = async {
            tokio::time::sleep(pause).await;
            deliver_into(&folder, text);
        };
        imap.idle(true, coming).await?;
        let got = imap.fetch(1, self.field.seed, Duration::ZERO).await?;
        if got != id {
            return Err(Trouble::Wrong(format!("message {got} instead of {id}")));
        }
        imap.command("STORE 1 +FLAGS.SILENT (\\Deleted)").await?;
        imap.command("EXPUNGE").await?;
        imap.logout().await
    }

    /// Idles for minutes, as a telephone does, until the servers or the end of the soak end it.
    pub async fn imap_long_idle(&mut self, stop: &CancellationToken) -> Result<(), Trouble> {
        let mut imap = self.imap(&self.way.clone()).await?;
        imap.select("Known").await?;
        let length = Duration::from_secs(self.chance.random_range(20..240));
        let quiet = async {
            tokio::select! {
                () = tokio::time::sleep(length) => {}
                () = stop.cancelled() => {}
            }
        };
        imap.idle(false, quiet).await?;
        imap.fetch(1, self.field.seed, Duration::ZERO).await?;
        imap.logout().await
    }

    /// Everything at once. The answers come in the server's order, which need not be that of the questions.
    pub async fn imap_pipelined(&mut self) -> Result<(), Trouble> {
        let mut imap = self.imap(&self.way.clone()).await?;
        imap.select("Known").await?;
        let count = self.chance.random_range(2..60);
        let commands: String = (0..count)
            .map(|n| match n % 3 {
                0 => format!("p{n} NOOP\r\n"),
                1 => format!("p{n} FETCH 1:2 (UID BODY.PEEK[])\r\n"),
                _ => format!("p{n} STATUS INBOX (MESSAGES)\r\n"),
            })
            .collect();
        let mut left: BTreeSet<String> = (0..count).map(|n| format!("p{n}")).collect();
        imap.wire.say(commands).await?;
        for _ in 0..count {
            let (tag, parts) = imap.next_answer(Duration::ZERO).await?;
            if !left.remove(&tag) {
                return Err(Trouble::Wrong(format!("{tag} answered and not asked, or twice")));
            }
            let mut parts = parts.iter();
            while let Some(part) = parts.next() {
                // A message may itself end as the announcement of a literal does.
                if let Some(body) = literal(part).and_then(|_| parts.next()) {
                    proven(self.field.seed, body).map_err(Trouble::Wrong)?;
                }
            }
        }
        imap.logout().await
    }

    pub async fn imap_byte_by_byte(&mut self) -> Result<(), Trouble> {
        let mut imap = self.imap(&Way { bytewise: true, ..self.way.clone() }).await?;
        imap.select("Known").await?;
        imap.fetch(1, self.field.seed, Duration::ZERO).await?;
        imap.logout().await
    }

    pub async fn imap_slowly(&mut self) -> Result<(), Trouble> {
        let mut imap = self.imap(&Way { narrow: true, ..self.way.clone() }).await?;
        imap.select("Known").await?;
        let pause = Duration::from_millis(self.chance.random_range(20..150));
        imap.fetch(3, self.field.seed, pause).await?;
        imap.logout().await
    }
}

/// The size of the literal that follows a line.
fn literal(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"}\r\n")?;
    let open = line.iter().rposition(|byte| *byte == b'{')?;
    std::str::from_utf8(&line[open + 1..]).ok()?.parse().ok()
}

fn exists(line: &[u8]) -> Option<usize> {
    std::str::from_utf8(line).ok()?.trim_end().strip_prefix("* ")?.strip_suffix(" EXISTS")?.parse().ok()
}
