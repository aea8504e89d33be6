//! The client half of a dialogue, towards the backend: what it is told and what it reports.

use super::{Capabilities, Login, UserName};
use bytes::BytesMut;
// `core`, not `std`: an address is data, and there is nothing beside it to open a socket with.
use core::net::SocketAddr;

/// What a back half reports.
#[derive(Debug)]
pub enum BackStep {
    /// Write what is in `out`, wait for more.
    More,
    /// The backend waits for the handshake: what was read is to be dropped, and [`Back::secured`] called when TLS is up.
    StartTls,
    /// Greeting and capabilities are in: a login may be sent. Said once.
    Ready(Capabilities),
    /// A challenge for the client, decoded.
    Challenge(Vec<u8>),
    /// Logged in. Bytes left in `input` belong to the session.
    Accepted(Reply),
    /// A verdict on the credentials.
    Rejected(Reply),
    /// "Not now": no verdict, never counted.
    Unavailable(Reply),
    /// POP3: "not now", said of a mailbox that is in use to whom has shown the right password (RFC 2449 section 8.1.1).
    InUse(Reply),
}

/// What a backend did that ends its connection without a verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackFault {
    /// BYE, -ERR or 421/554 where a greeting is due, or BYE/421 later.
    #[error("the backend turned us away: {0}")]
    TurnedAway(String),
    /// An IMAP PREAUTH greeting: nobody gets a session without login.
    #[error("the backend greeted with PREAUTH")]
    Preauth,
    /// It has no STARTTLS (STLS), or none today, and `tls` asks for it. There is no going on in the clear.
    #[error("the backend takes no TLS: {0}")]
    NoStartTls(String),
    /// It does not let us say who the client is, and `client_address` asks for it: it would take each for ourselves.
    #[error("the backend does not take the client's address by {0}")]
    NoIntroduction(String),
    /// Not the protocol: HTTP, SSH, garbage.
    #[error("the backend does not speak {0}: {1}")]
    Garbage(&'static str, String),
    /// A line past 8 KiB, or more than 64 KiB before an answer was complete.
    #[error("the backend's answer is past its bound")]
    TooLarge,
    /// Bytes behind the greeting or behind an answer, where nothing was asked.
    #[error("the backend spoke without being asked")]
    Unsolicited,
    /// It goes on asking for more where a verdict is due.
    #[error("the backend asks for more without end")]
    Endless,
    /// It lists no way to log in that this login could be brought to.
    #[error("the backend offers no way to take a login by {0}")]
    NoWayIn(String),
    /// An SMTP server that takes no logins.
    #[error("the backend offers no AUTH: write auth.submission: imap, and its IMAP server checks the passwords")]
    NoAuth,
    /// The name or the password would make a line that an old server could take for two commands.
    #[error("the name or the password does not fit into the {0} octets of a command")]
    TooLong(usize),
}

/// Our client half: it owns the dialogue with the backend until the verdict.
///
/// It never pipelines ahead of an answer: Courier and solid-pop3d lose what stands behind PASS.
pub trait Back: Send + Sync {
    /// Takes what the backend said. Until [`BackStep::Ready`] it reads the greeting and asks for the capabilities by itself.
    ///
    /// # Errors
    /// A [`BackFault`]: the connection is of no more use.
    fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<BackStep, BackFault>;
    /// TLS is up, after [`BackStep::StartTls`]: all that was said before is forgotten, and the capabilities are asked for anew.
    fn secured(&mut self, out: &mut BytesMut);
    /// Sends a login, translated to what the backend offers. Only after `Ready` or after a verdict.
    ///
    /// # Errors
    /// [`BackFault::NoWayIn`], [`BackFault::TooLong`]; nothing was written and the connection is as it was.
    fn login(&mut self, login: &Login, out: &mut BytesMut) -> Result<(), BackFault>;
    /// Sends the client's response to a challenge.
    fn respond(&mut self, response: &[u8], out: &mut BytesMut);
    /// Says goodbye (LOGOUT, QUIT), for a health check that wants to leave no trace.
    fn quit(&mut self, out: &mut BytesMut);
}

/// What a back half must know.
#[derive(Debug, Clone, Default)]
pub struct BackSettings {
    /// SMTP: the name in our EHLO.
    pub ehlo: String,
    /// That name is a client's: what the server makes of it says nothing about the server.
    pub for_client: bool,
    /// `backends.NAME.temporary_replies`, lower-cased: beginnings of words in a code-less refusal that mean "not now".
    pub temporary_replies: std::sync::Arc<[String]>,
    /// TLS is to begin, by STARTTLS or STLS, before anything else is said.
    pub starttls: bool,
    /// What the server is told of the client before the login.
    pub introduction: Introduction,
}

/// What a server that trusts us is told of the client, ahead of the login: by XCLIENT on SMTP and POP3, by ID on IMAP. A
/// server that does not list the command ends the dialogue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Introduction {
    /// Nothing.
    #[default]
    None,
    /// Nothing now, for there is no client (a health check), but the server must be ready to be told.
    Possible,
    /// This client.
    Client {
        /// Where it is.
        address: SocketAddr,
        /// Who it is, where somebody else than this server has checked the password: the server takes it for logged in.
        login: Option<UserName>,
    },
}

impl BackSettings {
    /// Whether a code-less refusal means "not now" by one of the configured words. `lock` is the beginning of "locked" and no
    /// part of "repeated failures will be blocked". The user's own name says nothing, whole or up to its `@`: the password of
    /// `lockwood` may be wrong without any lock, and whoever guesses at it must not go uncounted.
    pub fn is_temporary(&self, text: &str, user: Option<&UserName>) -> bool {
        let mut text = text.to_lowercase();
        if let Some(name) = user.map(|user| user.display().to_lowercase()) {
            let local = name.split('@').next().unwrap_or_default();
            for word in [name.as_str(), local] {
                text = without_word(&text, word);
            }
        }
        self.temporary_replies.iter().any(|word| begins_a_word(&text, word))
    }
}

fn begins_a_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(char::is_alphanumeric))
}

fn without_word(text: &str, word: &str) -> String {
    if word.is_empty() {
        return text.to_owned();
    }
    let (mut kept, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(word) {
        let (before, behind) = (&rest[..at], &rest[at + word.len()..]);
        let joins = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let inside = joins(before.chars().next_back().or(kept.chars().next_back())) || joins(behind.chars().next());
        kept.push_str(before);
        kept.push_str(if inside { word } else { " " });
        rest = behind;
    }
    kept + rest
}

/// A backend's answer, already made harmless: printable, one line, bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// IMAP and POP3: the response code without brackets (`UNAVAILABLE`, `IN-USE`), upper-cased.
    /// SMTP: code and enhanced code (`535 5.7.8`).
    pub code: Option<String>,
    /// The text behind the code: control bytes escaped, at most 512 octets. For the event; only where
    /// the contract passes a code on does it reach the client.
    pub text: String,
    /// IMAP: the capabilities in an `OK [CAPABILITY …]`, or untagged just before it.
    pub capabilities: Option<Vec<String>>,
}

impl Reply {
    /// Code and text as one line, for the event's `reply`.
    pub fn to_line(&self) -> String {
        let Some(code) = &self.code else { return self.text.clone() };
        let mut line = String::with_capacity(code.len() + 1 + self.text.len());
        for part in [code, " ", self.text.as_str()] {
            line.push_str(part);
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[test]
fn a_temporary_word_is_the_beginning_of_a_word_and_never_the_users_name() {
    let words = ["lock", "busy", "in use", "temporar"].map(str::to_owned);
    let settings = BackSettings { temporary_replies: words.into(), ..BackSettings::default() };
    let rows = [
        ("Mailbox LOCKED by another session", "joe", true),
        ("lock failed", "joe", true),
        ("(busy)", "joe", true),
        ("mailbox is in use", "joe", true),
        ("Temporarily out of order", "joe", true),
        ("Login failed, repeated failures will be blocked", "joe", false),
        ("unlock your account at https://example.net/", "joe", false),
        ("contemporary", "joe", false),
        ("Password supplied for \"Lockwood\" is incorrect.", "lockwood", false),
        ("no such user lockwood", "lockwood@example.net", false),
        ("lockwood: mailbox locked", "lockwood", true),
        ("", "joe", false),
    ];
    for (text, user, expected) in rows {
        let user = UserName::new(user.as_bytes()).expect("a name of the table");
        assert_eq!(settings.is_temporary(text, Some(&user)), expected, "{text}");
    }
    assert!(settings.is_temporary("locked", None));
}
