//! TLS records between byte buffers, driven until there is nothing more to say.
//!
//! Nothing is kept of what was read or is to be written, so that a session which waits has its keys and no buffer. What
//! stands in `incoming` is opened where it stands; what is not used up must be there again, as it was left, at the next
//! call.
//!
//! The handshake is rustls', and so is everything that a stranger sends behind it (`library`). For a user of TLS 1.3 who has
//! logged in (and for anybody on a `tcp` listener), and then says much or waits, rustls keeps the key schedule alone, and
//! the records are ours (`traffic`): a third of the memory, and no octet copied more often than it must be.

mod key;
mod library;
mod traffic;

use super::super::leftover::Leftover;
use crate::tls::Facts;
use library::Library;
use rustls::ServerConfig;
use rustls::unbuffered::{EncodeError, EncryptError};
use std::sync::Arc;
use traffic::Traffic;

/// A record holds so much at most (RFC 8446 section 5.1).
pub(super) const PLAIN: usize = 16 * 1024;
/// What stands before each record: its kind, a version and its length.
const HEADER: usize = 5;
/// What a record that we write adds at most to what it holds: its header, and in TLS 1.2 a nonce, and a tag.
const AROUND: usize = HEADER + 8 + 16;

/// One connection's records.
pub(super) struct Records {
    layer: Layer,
}

/// Who makes and opens the records.
enum Layer {
    Library(Box<Library>),
    Ours(Box<Traffic>),
    /// Nobody: there was a fault.
    Over,
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

/// Who reads what the records hold.
pub(super) trait Reader {
    /// Takes text, and says whether more may come.
    fn take(&mut self, text: &[u8]) -> bool;

    /// Memory for so many octets, where the reader has it: they are opened there, and count once they are kept.
    fn room(&mut self, length: usize) -> Option<&mut [u8]>;

    /// Takes so many octets at the front of the room that was given last, and says whether more may come.
    fn keep(&mut self, length: usize) -> bool;
}

/// Takes everything.
impl Reader for Leftover {
    fn take(&mut self, text: &[u8]) -> bool {
        self.push(text);
        true
    }

    fn room(&mut self, _: usize) -> Option<&mut [u8]> {
        None
    }

    fn keep(&mut self, _: usize) -> bool {
        true
    }
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
        Ok(Self { layer: Layer::Library(Box::new(Library::new(config)?)) })
    }

    /// Whether the handshake is under way.
    pub(super) fn is_handshaking(&self) -> bool {
        matches!(&self.layer, Layer::Library(library) if library.is_handshaking())
    }

    /// Whether a browser is there: known once its hello was read, until the client is trusted.
    pub(super) fn is_for_the_page(&self) -> bool {
        matches!(&self.layer, Layer::Library(library) if library.is_for_the_page())
    }

    /// Whether what a handshake ends with on our side is nothing that the client waits for (TLS 1.3).
    pub(super) fn ends_with_tickets(&self) -> bool {
        matches!(&self.layer, Layer::Library(library) if library.is_tls13())
    }

    /// What was agreed on. To be asked once, when the handshake is over; none once the client is trusted.
    pub(super) fn facts(&mut self) -> Option<Facts> {
        match &mut self.layer {
            Layer::Library(library) => Some(library.facts()),
            Layer::Ours(_) | Layer::Over => None,
        }
    }

    /// Whether the client has ended its side with a close_notify.
    pub(super) fn is_closed(&self) -> bool {
        match &self.layer {
            Layer::Library(library) => library.is_closed(),
            Layer::Ours(traffic) => traffic.is_closed(),
            Layer::Over => false,
        }
    }

    /// Looks at the records in `incoming`. What they hold goes to `reader`, who says whether more may come; what TLS itself
    /// has to say goes to `out`. Then does what is to be done, unless the reader had enough before.
    ///
    /// # Errors
    /// [`Fault`]. Where there is an alert for it, it stands in `out`; only [`Then::Close`] is still understood, and has nothing to say.
    pub(super) fn drive(
        &mut self,
        incoming: &mut [u8],
        out: &mut Outgoing<'_>,
        then: Then<'_>,
        reader: &mut impl Reader,
    ) -> Result<Driven, Fault> {
        let outcome = match &mut self.layer {
            Layer::Library(library) => library.drive(incoming, out, then, reader),
            Layer::Ours(traffic) => traffic.drive(incoming, out, then, reader),
            // Our alert, where there is one for the fault, was the last word.
            Layer::Over if matches!(then, Then::Close) => {
                return Ok(Driven { used: incoming.len(), stopped: false, done: true });
            }
            Layer::Over => return Err(Fault::Over),
        };
        if outcome.is_err() {
            self.layer = Layer::Over;
        }
        outcome
    }

    /// Makes the records ours, if that can be now. `incoming` is what of the client's is not used up. It costs as much as some
    /// ten records, so it is for a client who has much to say or waits for long.
    pub(super) fn take_over(&mut self, incoming: &[u8]) {
        if !matches!(&self.layer, Layer::Library(library) if library.can_be_left()) || !is_less_than_a_record(incoming)
        {
            return;
        }
        if let Layer::Library(library) = std::mem::replace(&mut self.layer, Layer::Over) {
            match library.into_traffic() {
                Ok(traffic) => self.layer = Layer::Ours(Box::new(traffic)),
                // Nothing of the connection is left but its end.
                Err(error) => tracing::error!("rustls does not let go of its keys: {error}"),
            }
        }
    }

    /// There is nothing to do for now: what can be made anew is let go of.
    pub(super) fn rest(&mut self) {
        if let Layer::Ours(traffic) = &mut self.layer {
            traffic.rest();
        }
    }
}

/// Whether nobody can have looked at it yet.
fn is_less_than_a_record(incoming: &[u8]) -> bool {
    let Some(([_, _, _, high, low], rest)) = incoming.split_first_chunk::<HEADER>() else { return true };
    rest.len() < usize::from(u16::from_be_bytes([*high, *low]))
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
