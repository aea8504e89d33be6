//! Those who vanish in the middle of something, by FIN or by reset.

use super::Client;
use super::imap::{Imap, LARGE};
use super::pop3::Pop3;
use super::sending::{Smtp, stuffed};
use crate::ledger::Fate;
use crate::message::message;
use crate::wire::{Trouble, Wire, client_hello};
use rand::Rng;
use rand::seq::IndexedRandom;
use std::time::Duration;

impl Client {
    pub async fn abandon_handshake(&mut self) -> Result<(), Trouble> {
        let (port, before) = *[
            (993, ""),
            (995, ""),
            (465, ""),
            (143, "a STARTTLS\r\n"),
            (110, "STLS\r\n"),
            (587, "EHLO x\r\nSTARTTLS\r\n"),
        ]
        .choose(&mut self.chance)
        .expect("some");
        let Some(mut wire) = self.rough_wire(port).await? else { return Ok(()) };
        if !before.is_empty() {
            // The greeting, and perhaps the go-ahead: it need not be waited for.
            let _ = wire.line().await;
            wire.say(before).await?;
        }
        let hello = client_hello(&self.rough.tls);
        let cut = self.chance.random_range(0..hello.len());
        wire.say(&hello[..cut]).await?;
        self.leave(wire).await;
        Ok(())
    }

    pub async fn abandon_command(&mut self) -> Result<(), Trouble> {
        let (port, said) = *[
            (993, "a LOGIN left"),
            (993, "a LOGIN {4}\r\n"),
            (993, "a LOGIN {4+}\r\nle"),
            (993, "a AUTHENTICATE PLAIN\r\n"),
            (993, "a AUTHENTICATE CRAM-MD5\r\n"),
            (993, "a CAPABILITY\r\nb NOOP\r\nc LOG"),
            (995, "USER left-1\r\nPAS"),
            (995, "AUTH PLAIN\r\n"),
            (995, "CAPA\r\nUSER left-1\r\n"),
            (465, "EHLO x\r\nAUTH LOGIN\r\n"),
            (465, "EHLO x\r\nAUTH PLAIN AGxl"),
            (465, "EHLO x\r\nMAIL FROM:<"),
            (465, "EHL"),
        ]
        .choose(&mut self.chance)
        .expect("some");
        let Some(mut wire) = self.rough_wire(port).await? else { return Ok(()) };
        // The address may be banned for what it did before; then there is no handshake.
        if wire.secure().await.is_err() {
            return Ok(());
        }
        wire.say(said).await?;
        self.leave(wire).await;
        Ok(())
    }

    /// A login, and away while the answer to it, or a message, is on its way.
    pub async fn abandon_download(&mut self) -> Result<(), Trouble> {
        let user = self.left_user();
        let way = self.rough.clone();
        let read = self.chance.random_range(0..LARGE);
        let logs_in = self.chance.random_bool(0.8);
        let wire = if self.chance.random() {
            let Ok(mut imap) = Imap::open(&way, self, true).await else { return Ok(()) };
            if logs_in {
                if imap.login(&user, true).await.is_err() || imap.select("INBOX").await.is_err() {
                    return Ok(());
                }
                imap.wire.say("z FETCH 1:* BODY.PEEK[]\r\n").await?;
                let _ = imap.wire.exactly(read, Duration::ZERO).await;
            } else {
                imap.wire.say(format!("a LOGIN {user} secret\r\n")).await?;
            }
            imap.wire
        } else {
            let Ok(mut pop3) = Pop3::open(&way, self, true).await else { return Ok(()) };
            if logs_in {
                if pop3.login(&user, false).await.is_err() {
                    return Ok(());
                }
                pop3.wire.say("RETR 1\r\nRETR 2\r\nRETR 3\r\nRETR 4\r\nDELE 1\r\n").await?;
                let _ = pop3.wire.exactly(read, Duration::ZERO).await;
            } else {
                pop3.wire.say(format!("USER {user}\r\nPASS secret\r\n")).await?;
            }
            pop3.wire
        };
        self.leave(wire).await;
        Ok(())
    }

    /// Away within a message, which must not arrive then; or behind its end, before the answer, when it may.
    pub async fn abandon_message(&mut self) -> Result<(), Trouble> {
        let (way, implicit) = (self.rough.clone(), self.chance.random());
        let Ok(mut smtp) = Smtp::open(&way, self, implicit).await else { return Ok(()) };
        if smtp.login(&self.sender(), true).await.is_err() {
            return Ok(());
        }
        let size = self.size().min(256 * 1024);
        for command in self.envelope(size) {
            if smtp.command(&command, "250").await.is_err() {
                return Ok(());
            }
        }
        if smtp.command("DATA", "354").await.is_err() {
            return Ok(());
        }
        let id = self.field.ledger.begin();
        let mut text = stuffed(&message(self.field.seed, id, size));
        text.extend_from_slice(b".\r\n");
        let whole = text.len();
        let sent = match self.chance.random_range(0..10) {
            // All but the last bytes of CRLF.CRLF: that is where a server errs.
            n @ 1..6 => whole - n,
            6 | 7 => whole,
            _ => self.chance.random_range(0..whole - 5),
        };
        let said = smtp.wire.say(&text[..sent]).await;
        self.leave(smtp.wire).await;
        self.field.ledger.settle(id, if sent == whole { Fate::Unsure } else { Fate::Never });
        said
    }

    /// A connection from the rough address, unless it is turned away at once.
    pub async fn rough_wire(&mut self, port: u16) -> Result<Option<Wire>, Trouble> {
        match Wire::connect(&self.rough.clone(), self.port(port)).await {
            Ok(wire) => Ok(Some(wire)),
            Err(Trouble::Torn(_)) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    async fn leave(&mut self, wire: Wire) {
        if self.chance.random() {
            tokio::time::sleep(Duration::from_millis(self.chance.random_range(0..300))).await;
        }
        wire.vanish(self.chance.random());
    }
}
