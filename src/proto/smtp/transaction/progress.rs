//! What a follower reports: questions, outcomes, and how a session ended.

use super::super::path::Address;
#[cfg(doc)]
use super::{MAX_RECIPIENTS, Transaction};
use crate::proto::{BackFault, Refusal, Reply, Violation};

/// What a follower reports. It is asked again until it says [`Progress::More`].
#[derive(Debug)]
pub enum Progress {
    /// Nothing: write what is in the buffers, wait for more.
    More,
    /// May this sender (`None` for `<>`) begin a message? Waits for [`Transaction::decide`].
    Sender(Option<Address>),
    /// May this recipient be added? Waits for [`Transaction::decide`].
    Recipient(Address),
    /// The connection to the backend was given up with an earlier message, and a new one begins: dial and log in
    /// again, then [`Transaction::redialed`] or [`Transaction::unavailable`].
    Redial,
    /// The backend waits for the message and none of it has been moved: the one moment to put a header before it.
    Data,
    /// A message will not be ended: the connection to the backend is to be closed without another byte. The client's
    /// data is read to its end and answered then.
    Abandon(Refused),
    /// The backend took a message.
    Accepted(Message),
    /// A sender, a recipient or a message was refused, by us or by the backend; the client has been told.
    Refused(Refused),
    /// The session is over and `to_client` holds the last words: write both buffers, close both connections.
    Over(Over),
}

/// A message the backend took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it, and how many recipients the backend took.
    pub envelope: Envelope,
    /// Its octets, as the backend has it.
    pub size: u64,
    /// The backend's answer.
    pub reply: Reply,
}

/// From whom, to how many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// None for `<>`.
    pub from: Option<Address>,
    /// How many recipients the backend took, at most [`MAX_RECIPIENTS`]. Who they are was asked one by one
    /// ([`Progress::Recipient`]) and is not kept: a stranger names a thousand, and each is half a kilobyte.
    pub recipients: usize,
}

/// What was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// At which point.
    pub stage: Stage,
    /// The sender of the message under way; none for `<>`, or where no MAIL had been taken.
    pub from: Option<Address>,
    /// Our reason; none where the backend refused.
    pub reason: Option<Refusal>,
    /// What the client is told.
    pub reply: Reply,
}

/// The point at which something was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// MAIL.
    Sender,
    /// RCPT.
    Recipient(Address),
    /// DATA, or the message behind it.
    Message {
        /// How many recipients the backend had taken.
        recipients: usize,
        /// The octets that had come.
        size: u64,
    },
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// The client said QUIT.
    Left,
    /// The client went past a bound.
    Violation(Violation),
    /// The backend closes, or what it says is no SMTP.
    Backend(BackFault),
}

/// Whose turn it is: which deadline runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The client's next command.
    Client,
    /// More of the client's message.
    ClientData,
    /// The backend's reply to a command.
    Backend,
    /// The backend's reply to a whole message: it may be scanning or delivering it (RFC 5321 section 4.5.3.2.6).
    BackendDataEnd,
    /// The caller's, after a question.
    Caller,
    /// Nobody's: the session is over.
    Nobody,
}
