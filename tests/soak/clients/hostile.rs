//! Those who mean no good: none of them may get anything, and none may be left hanging.

use super::Client;
use crate::wire::{PATIENCE, Trouble, Wire, client_hello};
use base64::Engine;
use rand::Rng;
use rand::seq::IndexedRandom;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Never to be read back. (A tag of IMAP is, so it stands behind one.)
const MARKER: &str = "xyzzy-soak-marker";

impl Client {
    /// A guess or three, from one of a few addresses, so that these are banned, and the ban ends, again and again.
    pub async fn wrong_password(&mut self) -> Result<(), Trouble> {
        let [a, b, ..] = self.rough.source.octets();
        let mut way = self.rough.clone();
        way.source = Ipv4Addr::new(a, b, 200, self.chance.random_range(1..=6));
        // Customers are guessed at too: that must not lock them out at the addresses where they log in.
        let stranger = format!("victim-{}", self.chance.random_range(0..20));
        let victim = self.either(self.imap_user(), stranger);
        let guess = format!("wrong-{}", self.chance.random::<u16>());
        let (port, lines, allowed): (_, Vec<String>, &[&str]) = match self.chance.random_range(0..3) {
            0 => (
                993,
                vec![format!("a LOGIN {victim} {guess}")],
                &["a NO [AUTHENTICATIONFAILED]", "a NO [UNAVAILABLE]", "* BYE"],
            ),
            1 => (
                995,
                vec![format!("USER {victim}"), format!("PASS {guess}")],
                &["+OK", "-ERR [AUTH]", "-ERR [SYS/TEMP]"],
            ),
            _ => {
                let secret = base64::engine::general_purpose::STANDARD.encode(format!("\0{victim}\0{guess}"));
                (
                    465,
                    vec!["EHLO x".to_owned(), format!("AUTH PLAIN {secret}")],
                    &["250", "535 5.7.8", "454 4.7.0", "421"],
                )
            }
        };
        let Ok(mut wire) = Wire::connect_tls(&way, self.port(port)).await else { return Ok(()) };
        let greeting = wire.text().await;
        if greeting.is_err() {
            return Ok(());
        }
        for _ in 0..self.chance.random_range(1..=4) {
            for line in &lines {
                wire.say(format!("{line}\r\n")).await?;
                let answer = loop {
                    match wire.text().await {
                        Ok(line) if line.starts_with("250-") => {}
                        Ok(line) => break line,
                        Err(Trouble::Silent) => return Err(Trouble::Silent),
                        Err(_) => return Ok(()),
                    }
                };
                let is_login = line != "EHLO x" && !line.starts_with("USER");
                let let_in = is_login && ["a OK", "+OK", "235"].iter().any(|word| answer.starts_with(word));
                if let_in || !allowed.iter().any(|word| answer.starts_with(word)) {
                    return Err(Trouble::Wrong(format!("a wrong password was answered by {answer}")));
                }
            }
        }
        wire.end().await;
        self.sees_the_end(wire).await
    }

    pub async fn garbage(&mut self) -> Result<(), Trouble> {
        let port = *[993, 995, 465, 143, 110, 587].choose(&mut self.chance).expect("some");
        let Some(mut wire) = self.rough_wire(port).await? else { return Ok(()) };
        let in_tls = port > 600 || port == 465;
        if in_tls && self.chance.random() && wire.secure().await.is_err() {
            return Ok(());
        }
        let mut bytes = vec![0; self.chance.random_range(1..60_000)];
        self.chance.fill(&mut bytes[..]);
        if self.chance.random() {
            bytes.iter_mut().step_by(40).for_each(|byte| *byte = b'\n');
        }
        bytes.extend_from_slice(format!("\r\na {MARKER} {MARKER}\r\n").as_bytes());
        wire.say(bytes).await?;
        wire.end().await;
        self.sees_the_end(wire).await
    }

    /// What scanners say to whatever listens.
    pub async fn scan(&mut self) -> Result<(), Trouble> {
        let port = *[993, 995, 465, 143, 110, 587].choose(&mut self.chance).expect("some");
        let Some(mut wire) = self.rough_wire(port).await? else { return Ok(()) };
        let long = format!("{}\r\n", "A".repeat(100_000));
        let many = "NOOP\r\n".repeat(5_000);
        let probes = [
            "",
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "SSH-2.0-scan\r\n",
            "\x16\x03\x01\x02\x00\x01\x00",
            "\u{80}.\x01\x00\x02",
            "a LOGIN {4294967295}\r\n",
            "a LOGIN {4294967295+}\r\n",
            "HELP\r\nVRFY root\r\nEXPN root\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
            "XCLIENT ADDR=127.0.0.1\r\n",
            "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
            &long,
            &many,
        ];
        let probe = *probes.choose(&mut self.chance).expect("some");
        if self.chance.random_bool(0.3) {
            wire.vanish(self.chance.random());
            return Ok(());
        }
        wire.say(probe).await?;
        if self.chance.random() {
            wire.end().await;
            self.sees_the_end(wire).await
        } else {
            wire.vanish(false);
            Ok(())
        }
    }

    /// A client told the wrong kind of TLS: it may get an alert, and never a word.
    pub async fn plaintext_on_tls(&mut self) -> Result<(), Trouble> {
        let (port, said) = *[
            (993, "a CAPABILITY\r\nb LOGIN imap-1 secret\r\n"),
            (995, "CAPA\r\nUSER pop-1\r\nPASS secret\r\n"),
            (465, "EHLO client.example.org\r\nAUTH PLAIN AGxlZnQtMQBzZWNyZXQ=\r\n"),
        ]
        .choose(&mut self.chance)
        .expect("some");
        let Some(mut wire) = self.rough_wire(port).await? else { return Ok(()) };
        wire.say(said).await?;
        let (rest, end) = wire.rest().await;
        no_word_but_an_alert(&rest, &end)
    }

    /// Words behind STARTTLS, in the same segment or instead of the handshake: nothing of them is answered.
    pub async fn inject_at_starttls(&mut self) -> Result<(), Trouble> {
        let (port, before, starttls, injected) = *[
            (143, "", "a STARTTLS\r\n", "b LOGIN imap-1 secret\r\nc CAPABILITY\r\n"),
            (110, "", "STLS\r\n", "USER pop-1\r\nPASS secret\r\nSTAT\r\n"),
            (
                587,
                "EHLO x\r\n",
                "STARTTLS\r\n",
                "EHLO y\r\nAUTH PLAIN AGxlZnQtMQBzZWNyZXQ=\r\nMAIL FROM:<a@example.net>\r\n",
            ),
        ]
        .choose(&mut self.chance)
        .expect("some");
        let Some(mut wire) = self.rough_wire(port).await? else { return Ok(()) };
        // A banned address is told so, and not more.
        let greeting = wire.text().await;
        if !greeting.is_ok_and(|line| ["* OK", "+OK", "220"].iter().any(|word| line.starts_with(word))) {
            return Ok(());
        }
        if !before.is_empty() {
            wire.say(before).await?;
            while wire.text().await?.starts_with("250-") {}
        }
        if self.chance.random() {
            let mut said = format!("{starttls}{injected}").into_bytes();
            if self.chance.random() {
                said.extend_from_slice(&client_hello(&self.rough.tls));
            }
            wire.say(said).await?;
        } else {
            wire.say(starttls).await?;
            let go_ahead = wire.text().await?;
            if !["a OK", "+OK", "220"].iter().any(|word| go_ahead.starts_with(word)) {
                return Err(Trouble::Said(go_ahead));
            }
            wire.say(injected).await?;
        }
        let (rest, end) = wire.rest().await;
        no_word_but_an_alert(&rest, &end)
    }

    /// What comes until the connection ends holds nothing of ours, and it does end.
    async fn sees_the_end(&mut self, mut wire: Wire) -> Result<(), Trouble> {
        let limit = PATIENCE + Duration::from_secs(30);
        match tokio::time::timeout(limit, wire.rest()).await {
            Err(_) | Ok((_, Trouble::Silent)) => Err(Trouble::Silent),
            Ok((rest, _)) if memchr::memmem::find(&rest, MARKER.as_bytes()).is_some() => {
                Err(Trouble::Wrong("its own words were told to a client".to_owned()))
            }
            Ok(_) => Ok(()),
        }
    }
}

fn no_word_but_an_alert(rest: &[u8], end: &Trouble) -> Result<(), Trouble> {
    const ALERT: u8 = 21;
    match () {
        () if *end == Trouble::Silent => Err(Trouble::Silent),
        () if rest.is_empty() || rest[0] == ALERT => Ok(()),
        () => Err(Trouble::Wrong(format!("words in the clear got an answer: {}", rest.escape_ascii()))),
    }
}
