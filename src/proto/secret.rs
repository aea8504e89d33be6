//! A value that must not be seen: it prints as `[secret]` and is wiped when dropped.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert_eq!(secret.declassify(), b"hunter2");
    }
}
