//! TLS records between byte buffers: rustls' unbuffered connection, driven until it has nothing more to say.
//!
//! The library keeps nothing of what was read or is to be written, so that a session which waits has its keys and no
//! buffer. What stands in `incoming` is opened where it stands; what is not used up must be there again, as it was
//! left, at the next call.

use crate::tls::{self, Facts, Holder};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ProtocolVersion, ServerConfig};
use std::sync::Arc;

/// A record holds so much at most (RFC 8446 section 5.1).
pub(super) const PLAIN: usize = 16 * 1024;
/// What a record that we write adds at most to what it holds: its header, and in TLS 1.2 a nonce, and a tag.
const AROUND: usize = 5 + 8 + 16;

/// One connection's records.
pub(super) struct Records {
    tls: UnbufferedServerConnection,
    /// The name the client asked for, until it is told.
    sni: Option<String>,
    /// The client has said that it will send nothing more.
    closed: bool,
    /// There was a fault. rustls must not be asked again: it still counts on what it has seen of the record that was wrong.
    failed: bool,
}

/// What is to be done once everything that came has been looked at.
#[derive(Clone, Copy)]
pub(super) enum Then<'a> {
    /// Nothing.
    Wait,
    /// Make records of this.
    Write(&'a [u8]),
    /// Say that we will send nothing more.
    Close,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Driven {
    /// Octets at the front of `incoming` that are used up.
    pub(super) used: usize,
    /// Whole records may be left: the reader had enough before they were looked at.
    pub(super) stopped: bool,
    /// What was to be done is done.
    pub(super) done: bool,
}

/// Records on their way to the client, in a piece of memory that is large enough for all of them.
pub(super) struct Outgoing<'a> {
    room: &'a mut [u8],
    filled: usize,
}

impl<'a> Outgoing<'a> {
    /// Nothing yet.
    pub(super) fn new(room: &'a mut [u8]) -> Self {
        Self { room, filled: 0 }
    }

    /// How much memory it takes for so many octets of text.
    pub(super) const fn room_for(plain: usize) -> usize {
        plain + (plain / PLAIN + 1) * AROUND
    }

    /// What there is.
    pub(super) fn filled(&mut self) -> &mut [u8] {
        &mut self.room[..self.filled]
    }

    /// Puts what was made earlier before what will be made.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.room[self.filled..][..bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    fn append<E: Into<Fault>>(&mut self, write: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<(), Fault> {
        self.filled += write(&mut self.room[self.filled..]).map_err(Into::into)?;
        Ok(())
    }
}

/// Why there will be no more records.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// What the client did.
    #[error(transparent)]
    Client(#[from] rustls::Error),
    /// There was a fault before.
    #[error("the connection is over")]
    Over,
    /// No room for the handshake's messages, or all that a key is good for is written.
    #[error("no further record can be written: {0}")]
    Unwritable(String),
}

impl From<EncodeError> for Fault {
    fn from(error: EncodeError) -> Self {
        Self::Unwritable(error.to_string())
    }
}

impl From<EncryptError> for Fault {
    fn from(error: EncryptError) -> Self {
        Self::Unwritable(error.to_string())
    }
}

impl Records {
    /// A server's side before the first octet.
    ///
    /// # Errors
    /// A configuration that cannot serve.
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self { tls: UnbufferedServerConnection::new(config)?, sni: None, closed: false, failed: false })
    }

    /// Whether the handshake is under way.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether a browser is there: known once its hello was read.
    pub(super) fn is_for_the_page(&self) -> bool {
        self.tls.alpn_protocol() == Some(tls::Alpn::PAGE.as_bytes())
    }

    /// Whether what a handshake ends with on our side is nothing that the client waits for (TLS 1.3).
    pub(super) fn ends_with_tickets(&self) -> bool {
        self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Whether the client has ended its side with a close_notify.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// What was agreed on. To be asked once, when the handshake is over.
    pub(super) fn facts(&mut self) -> Facts {
        // The library keeps the chain, and no call of it lets that go; here a name is taken of it and no more.
        let client = self.tls.peer_certificates().and_then(Holder::of).map(Box::new);
        Facts { client, ..Facts::of(&self.tls, self.sni.take()) }
    }

    /// Looks at the records in `incoming`. What they hold goes to `plain`, which says whether more may come; what TLS itself
    /// has to say goes to `out`. Then does what is to be done, unless `plain` had enough before.
    ///
    /// # Errors
    /// [`Fault`]. Where there is an alert for it, it stands in `out`; only [`Then::Close`] is still understood, and has nothing to say.
    pub(super) fn drive(
        &mut self,
        incoming: &mut [u8],
        out: &mut Outgoing<'_>,
        then: Then<'_>,
        mut plain: impl FnMut(&[u8]) -> bool,
    ) -> Result<Driven, Fault> {
        if self.failed {
            // Our alert, where rustls has one for the fault, was the last word.
            let done = Driven { used: incoming.len(), stopped: false, done: true };
            return if matches!(then, Then::Close) { Ok(done) } else { Err(Fault::Over) };
        }
        let mut driven = Driven::default();
        loop {
            let status = self.process(&mut incoming[driven.used..]);
            let mut discard = status.discard;
            let goes_on = match status.state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        driven.stopped |= !plain(record.payload);
                    }
                    !driven.stopped
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    out.append(|room| data.encode(room))?;
                    true
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    true
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.closed = true;
                    true
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    match then {
                        Then::Wait => {}
                        Then::Write(words) => out.append(|room| traffic.encrypt(words, room))?,
                        Then::Close => out.append(|room| traffic.queue_close_notify(room))?,
                    }
                    driven.done = true;
                    false
                }
                // Nothing is to be had from what there is. Early data is never taken, so it never stands there.
                Ok(_) => false,
                Err(error) => {
                    self.last_words(&mut incoming[driven.used + discard..], out);
                    self.failed = true;
                    return Err(error.into());
                }
            };
            driven.used += discard;
            if !goes_on {
                return Ok(driven);
            }
        }
    }

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        if !self.tls.is_handshaking() {
            return self.tls.process_tls_records(incoming);
        }
        let Self { tls, sni, .. } = self;
        let (status, name) = tls::hearing_the_name(|| tls.process_tls_records(incoming));
        if name.is_some() {
            *sni = name;
        }
        status
    }

    /// The alert that tells the client what was wrong, where there is one. While there is, nothing that came is looked at.
    fn last_words(&mut self, incoming: &mut [u8], out: &mut Outgoing<'_>) {
        while self.tls.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut data)) = self.tls.process_tls_records(incoming).state else {
                return;
            };
            if out.append(|room| data.encode(room)).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
