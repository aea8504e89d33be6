//! Those who send, and write down what they heard.

use super::{Client, LEDGER_BOXES, ledger_box};
use crate::ledger::Fate;
use crate::message::message;
use crate::wire::{Trouble, Way, Wire};
use base64::Engine;
use rand::Rng;

/// A session.
pub struct Smtp {
    pub wire: Wire,
}

impl Smtp {
    /// Connects by implicit TLS or STARTTLS, up to where a login may follow.
    pub async fn open(way: &Way, client: &Client, implicit: bool) -> Result<Self, Trouble> {
        let wire = if implicit {
            Wire::connect_tls(way, client.port(465)).await?
        } else {
            Wire::connect(way, client.port(587)).await?
        };
        let mut smtp = Self { wire };
        smtp.expect("220").await?;
        smtp.command("EHLO client.example.org", "250").await?;
        if !implicit {
            smtp.command("STARTTLS", "220").await?;
            smtp.wire.secure().await?;
            smtp.command("EHLO client.example.org", "250").await?;
        }
        Ok(smtp)
    }

    pub async fn login(&mut self, user: &str, by_plain: bool) -> Result<(), Trouble> {
        let encode = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
        if by_plain {
            let secret = encode(format!("\0{user}\0secret"));
            return self.command(&format!("AUTH PLAIN {secret}"), "235").await;
        }
        self.command("AUTH LOGIN", "334").await?;
        self.command(&encode(user.to_owned()), "334").await?;
        self.command(&encode("secret".to_owned()), "235").await
    }

    pub async fn command(&mut self, command: &str, wanted: &str) -> Result<(), Trouble> {
        self.wire.say(format!("{command}\r\n")).await?;
        self.expect(wanted).await
    }

    /// Reads a reply to its last line.
    pub async fn expect(&mut self, wanted: &str) -> Result<(), Trouble> {
        loop {
            let line = self.wire.text().await?;
            let is_reply = line.len() >= 3 && line.as_bytes()[..3].iter().all(u8::is_ascii_digit);
            if !is_reply {
                return Err(Trouble::Wrong(format!("no reply of SMTP: {line}")));
            }
            if line.as_bytes().get(3) == Some(&b'-') {
                continue;
            }
            return if line.starts_with(wanted) { Ok(()) } else { Err(Trouble::Said(line)) };
        }
    }
}

/// A message as it goes over the wire, without the dot at the end.
pub fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(message.len() + message.len() / 64);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            text.push(b'.');
        }
        text.extend_from_slice(line);
    }
    text
}

impl Client {
    /// A session as most programs have it, logged in.
    pub async fn smtp(&mut self, way: &Way) -> Result<Smtp, Trouble> {
        let (implicit, by_plain) = (self.chance.random(), self.chance.random());
        let mut smtp = Smtp::open(way, self, implicit).await?;
        smtp.login(&self.sender(), by_plain).await?;
        Ok(smtp)
    }

    /// The commands before DATA.
    pub fn envelope(&mut self, size: usize) -> [String; 2] {
        let to = ledger_box(self.chance.random_range(0..LEDGER_BOXES));
        [
            format!("MAIL FROM:<{}@example.net> SIZE={size} BODY=8BITMIME", self.sender()),
            format!("RCPT TO:<{to}@example.net>"),
        ]
    }

    /// From 1 KiB to 2 MiB, small ones more often.
    pub fn size(&mut self) -> usize {
        let power = self.chance.random_range(0.0..11.0_f64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1024 to 2097152")]
        let size = (1024.0 * power.exp2()) as usize;
        size
    }

    pub async fn send(&mut self) -> Result<(), Trouble> {
        let mut smtp = self.smtp(&self.way.clone()).await?;
        for _ in 0..self.chance.random_range(1..4) {
            let size = self.size();
            self.send_one(&mut smtp, size).await?;
        }
        smtp.command("QUIT", "221").await?;
        smtp.wire.finish().await
    }

    async fn send_one(&mut self, smtp: &mut Smtp, size: usize) -> Result<(), Trouble> {
        for command in self.envelope(size) {
            smtp.command(&command, "250").await?;
        }
        let id = self.field.ledger.begin();
        if let Err(trouble) = smtp.command("DATA", "354").await {
            self.field.ledger.settle(id, Fate::Never);
            return Err(trouble);
        }
        let text = stuffed(&message(self.field.seed, id, size));
        smtp.wire.say(text).await.inspect_err(|_| self.field.ledger.settle(id, Fate::Never))?;
        smtp.wire.say(".\r\n").await.inspect_err(|_| self.field.ledger.settle(id, Fate::Unsure))?;
        self.heard(id, smtp.expect("250").await)
    }

    /// Writes down what the answer to a message was.
    fn heard(&self, id: u64, answer: Result<(), Trouble>) -> Result<(), Trouble> {
        let fate = match &answer {
            Ok(()) => Fate::Accepted,
            Err(Trouble::Said(words)) if words.starts_with('5') => Fate::Never,
            Err(_) => Fate::Unsure,
        };
        self.field.ledger.settle(id, fate);
        answer
    }

    /// The envelope in one write, and the next one behind each dot (RFC 2920).
    pub async fn send_pipelined(&mut self) -> Result<(), Trouble> {
        let mut smtp = self.smtp(&self.way.clone()).await?;
        let count = self.chance.random_range(1..12);
        let mut size = self.size().min(64 * 1024);
        smtp.wire.say(self.pipelined(size)).await?;
        for left in (0..count).rev() {
            for wanted in ["250", "250", "354"] {
                smtp.expect(wanted).await?;
            }
            let id = self.field.ledger.begin();
            let mut text = stuffed(&message(self.field.seed, id, size));
            text.extend_from_slice(b".\r\n");
            size = self.size().min(64 * 1024);
            text.extend_from_slice(if left > 0 { self.pipelined(size) } else { "QUIT\r\n".to_owned() }.as_bytes());
            smtp.wire.say(text).await.inspect_err(|_| self.field.ledger.settle(id, Fate::Unsure))?;
            let answer = smtp.expect("250").await;
            self.heard(id, answer)?;
        }
        smtp.expect("221").await?;
        smtp.wire.finish().await
    }

    fn pipelined(&mut self, size: usize) -> String {
        let [mail, rcpt] = self.envelope(size);
        format!("{mail}\r\n{rcpt}\r\nDATA\r\n")
    }

    pub async fn send_byte_by_byte(&mut self) -> Result<(), Trouble> {
        let mut smtp = self.smtp(&Way { bytewise: true, ..self.way.clone() }).await?;
        let size = self.chance.random_range(1000..6000);
        self.send_one(&mut smtp, size).await?;
        smtp.command("QUIT", "221").await?;
        smtp.wire.finish().await
    }
}
