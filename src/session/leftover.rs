//! Octets that cannot go on yet.

use crate::proto::secret::shed;
use bytes::{Buf, BytesMut};
use std::ops::Deref;

/// There are none as a rule: then this is a pointer to nothing, and a session that waits is so much smaller.
#[derive(Debug, Default)]
pub(super) struct Leftover(Option<Box<BytesMut>>);

impl Leftover {
    /// Takes octets behind those that are there.
    pub(super) fn push(&mut self, octets: &[u8]) {
        if !octets.is_empty() {
            self.0.get_or_insert_default().extend_from_slice(octets);
        }
    }

    /// Lets go of so many at the front; of the last together with their memory.
    pub(super) fn advance(&mut self, count: usize) {
        if let Some(octets) = &mut self.0 {
            octets.advance(count);
            if octets.is_empty() {
                self.0 = None;
            }
        }
    }

    /// Lets go of all.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    /// Wipes what was let go of: what is left gets other memory.
    pub(super) fn forget(&mut self) {
        if let Some(octets) = &mut self.0 {
            shed(octets);
        }
    }
}

impl From<BytesMut> for Leftover {
    fn from(octets: BytesMut) -> Self {
        Self((!octets.is_empty()).then(|| Box::new(octets)))
    }
}

impl Deref for Leftover {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().map_or(&[], |octets| octets)
    }
}
