//! A value that must not be seen: it prints as `[secret]` and is wiped when dropped.

use bytes::BytesMut;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// Wraps a password, a digest or a SASL response. The one way to its inside is
/// [`Secret::declassify`], a name one can search for.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes a value into custody. The caller's own copies are the caller's to wipe.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// Shows the value. Every call is a place where a secret could leak.
    pub fn declassify(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl From<&[u8]> for Secret<Vec<u8>> {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec())
    }
}

/// Gives back the memory of a buffer in which a secret may have stood. What is taken from a buffer's front stays in its
/// memory, out of everybody's sight, until it is written over by chance; what is given back is wiped by the program's
/// allocator (`main.rs`). Bytes that are still to be read stay readable.
pub fn shed(buffer: &mut BytesMut) {
    *buffer = if buffer.is_empty() { BytesMut::new() } else { BytesMut::from(&buffer[..]) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_to_be_read_is_kept_and_the_memory_is_another() {
        let mut buffer = BytesMut::from(&b"PASS hunter2\r\nSTAT\r\n"[..]);
        let line = buffer.split_to(14).as_ptr();
        shed(&mut buffer);
        assert_eq!(&buffer[..], b"STAT\r\n");
        assert_ne!(buffer.as_ptr(), line);
        let _ = buffer.split_to(6);
        shed(&mut buffer);
        assert_eq!(buffer.capacity(), 0);
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert_eq!(secret.declassify(), b"hunter2");
    }
}
