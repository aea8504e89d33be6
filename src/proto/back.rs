//! The client half of a dialogue, towards the backend: what it is told and what it reports.

use super::{Capabilities, Login};
use bytes::BytesMut;

/// What a back half reports.
#[derive(Debug)]
pub enum BackStep {
    /// Write what is in `out`, wait for more.
    More,
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
    /// Not the protocol: HTTP, SSH, garbage.
    #[error("the backend does not speak {0}: {1}")]
    Garbage(&'static str, String),
    /// A line past 8 KiB, or more than 64 KiB before an answer was complete.
    #[error("the backend's answer is past its bound")]
    TooLarge,
    /// Bytes behind the greeting or behind an answer, where nothing was asked.
    #[error("the backend spoke without being asked")]
    Unsolicited,
    /// It lists no way to log in that this login could be brought to.
    #[error("the backend offers no way to take a login by {0}")]
    NoWayIn(String),
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
#[derive(Debug, Clone)]
pub struct BackSettings {
    /// SMTP: the name in our EHLO.
    pub ehlo: String,
    /// `backends.NAME.temporary_replies`, lower-cased: words in a code-less refusal that mean "not now".
    pub temporary_replies: std::sync::Arc<[String]>,
}

impl BackSettings {
    /// Whether a code-less refusal means "not now" by one of the configured words.
    pub fn is_temporary(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.temporary_replies.iter().any(|word| text.contains(word.as_str()))
    }
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
        match &self.code {
            Some(code) => format!("{code} {}", self.text).trim_end().to_owned(),
            None => self.text.clone(),
        }
    }
}
