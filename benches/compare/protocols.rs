//! What is said in a session: login, one small thing, goodbye.

use crate::load::{Answer, Caller, Talk};
use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::sync::LazyLock;
use std::time::Instant;

/// Where a client comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    Imaps,
    ImapStarttls,
    Pop3s,
    Pop3Stls,
    Smtps,
    SubmissionStarttls,
}

/// How many customers there are: three to five sessions each is what a provider sees.
const USERS: u32 = 2_000;

impl Door {
    pub const ALL: [Self; 6] =
        [Self::Imaps, Self::ImapStarttls, Self::Pop3s, Self::Pop3Stls, Self::Smtps, Self::SubmissionStarttls];

    pub fn port(self) -> u16 {
        match self {
            Self::Imaps => 993,
            Self::ImapStarttls => 143,
            Self::Pop3s => 995,
            Self::Pop3Stls => 110,
            Self::Smtps => 465,
            Self::SubmissionStarttls => 587,
        }
    }

    /// The backend's port.
    pub fn behind(self) -> u16 {
        match self {
            Self::Imaps | Self::ImapStarttls => crate::site::IMAP,
            Self::Pop3s | Self::Pop3Stls => crate::site::POP3,
            Self::Smtps | Self::SubmissionStarttls => crate::site::SMTP,
        }
    }

    /// Whether TLS begins in the protocol, not before it.
    pub fn begins_in_the_clear(self) -> bool {
        matches!(self, Self::ImapStarttls | Self::Pop3Stls | Self::SubmissionStarttls)
    }
}

/// A whole session.
pub async fn session(caller: &mut Caller, door: Door, number: u32, measured: bool) -> Result<()> {
    let begun = Instant::now();
    let mut talk = open(caller, door).await?;
    if measured {
        caller.resumes(&talk)?;
    }
    log_in(caller, &mut talk, door, number).await?;
    one_small_thing(caller, &mut talk, door).await?;
    let (goodbye, answer) = match door {
        Door::Imaps | Door::ImapStarttls => ("a9 LOGOUT\r\n", Answer::Tagged("a9")),
        Door::Pop3s | Door::Pop3Stls => ("QUIT\r\n", Answer::Begins("+OK")),
        Door::Smtps | Door::SubmissionStarttls => ("QUIT\r\n", Answer::Code("221")),
    };
    caller.ask(&mut talk, "goodbye", goodbye, answer).await?;
    // A client that has heard the goodbye waits for nothing any more; that the connection ends well is seen apart.
    caller.took(SESSION, begun);
    caller.end(talk).await
}

/// The name under which a whole session's duration stands among the exchanges.
pub const SESSION: &str = "session";

/// Connects, and has TLS and the greeting when it returns.
pub async fn open(caller: &mut Caller, door: Door) -> Result<Talk> {
    let mut talk = caller.connect(door.port()).await?;
    let greeting = match door {
        Door::Imaps | Door::ImapStarttls => Answer::Begins("* OK"),
        Door::Pop3s | Door::Pop3Stls => Answer::Begins("+OK"),
        Door::Smtps | Door::SubmissionStarttls => Answer::Code("220"),
    };
    if !door.begins_in_the_clear() {
        talk = caller.secure(talk).await?;
        caller.hear(&mut talk, "greeting", greeting).await?;
        return Ok(talk);
    }
    caller.hear(&mut talk, "greeting", greeting).await?;
    match door {
        Door::ImapStarttls => caller.ask(&mut talk, "starttls", "a0 STARTTLS\r\n", Answer::Tagged("a0")).await?,
        Door::Pop3Stls => caller.ask(&mut talk, "starttls", "STLS\r\n", Answer::Begins("+OK")).await?,
        _ => {
            caller.ask(&mut talk, "ehlo", "EHLO client\r\n", Answer::Code("250")).await?;
            caller.ask(&mut talk, "starttls", "STARTTLS\r\n", Answer::Code("220")).await?;
        }
    }
    caller.secure(talk).await
}

/// Logs in as one of the customers.
pub async fn log_in(caller: &mut Caller, talk: &mut Talk, door: Door, number: u32) -> Result<()> {
    let (user, password) = (format!("user{}@example.net", number % USERS), format!("secret{}", number % USERS));
    match door {
        Door::Imaps | Door::ImapStarttls => {
            caller.ask(talk, "login", &format!("a1 LOGIN {user} {password}\r\n"), Answer::Tagged("a1")).await
        }
        Door::Pop3s | Door::Pop3Stls => {
            caller.ask(talk, "user", &format!("USER {user}\r\n"), Answer::Begins("+OK")).await?;
            caller.ask(talk, "login", &format!("PASS {password}\r\n"), Answer::Begins("+OK")).await
        }
        Door::Smtps | Door::SubmissionStarttls => {
            caller.ask(talk, "ehlo", "EHLO client\r\n", Answer::Code("250")).await?;
            let secret = BASE64_STANDARD.encode(format!("\0{user}\0{password}"));
            caller.ask(talk, "login", &format!("AUTH PLAIN {secret}\r\n"), Answer::Code("235")).await
        }
    }
}

async fn one_small_thing(caller: &mut Caller, talk: &mut Talk, door: Door) -> Result<()> {
    match door {
        Door::Imaps | Door::ImapStarttls => caller.ask(talk, "noop", "a2 NOOP\r\n", Answer::Tagged("a2")).await,
        Door::Pop3s | Door::Pop3Stls => caller.ask(talk, "stat", "STAT\r\n", Answer::Begins("+OK 1 ")).await,
        Door::Smtps | Door::SubmissionStarttls => {
            caller.ask(talk, "mail", "MAIL FROM:<user@example.net>\r\n", Answer::Code("250")).await?;
            caller.ask(talk, "rcpt", "RCPT TO:<friend@example.org>\r\n", Answer::Code("250")).await?;
            caller.ask(talk, "data", "DATA\r\n", Answer::Code("354")).await?;
            caller.ask(talk, "message", &MESSAGE, Answer::Code("250")).await
        }
    }
}

/// A message of 1 KiB, and the dot that ends it.
static MESSAGE: LazyLock<String> = LazyLock::new(|| {
    let mut text =
        "From: <user@example.net>\r\nTo: <friend@example.org>\r\nSubject: a small message\r\n\r\n".to_owned();
    while text.len() < 1000 {
        text += "The quick brown fox jumps over the lazy dog, and nobody minds.\r\n";
    }
    text + ".\r\n"
});
