//! The user as limits know one.

use crate::proto::UserName;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// The login name as sent to the backend, lower-cased. Names of at most 255 octets are kept as they are, longer ones as their
/// beginning and a hash of the whole, so that different names stay different.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct User(Arc<[u8]>);

/// The longest name kept whole.
const MAX_NAME: usize = 255;

impl User {
    /// The user behind a login name.
    pub fn new(name: &UserName) -> Self {
        let mut lower = match std::str::from_utf8(name.as_bytes()) {
            Ok(text) => lowercase(text).into_bytes(),
            Err(_) => name.as_bytes().to_ascii_lowercase(),
        };
        if lower.len() > MAX_NAME {
            let hash = Sha256::digest(&lower);
            lower.truncate(MAX_NAME - hash.len());
            lower.extend_from_slice(&hash);
        }
        Self(lower.into())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({})", crate::proto::line::printable(&self.0, MAX_NAME))
    }
}

/// Lower case, but for the few letters beyond ASCII whose lower case is within (KELVIN SIGN becomes `k`): they would let a
/// stranger fail and succeed in another's name.
fn lowercase(text: &str) -> String {
    let mut lower = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_ascii() || c.to_lowercase().all(|l| !l.is_ascii()) {
            true => lower.extend(c.to_lowercase()),
            false => lower.push(c),
        }
    }
    lower
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &[u8]) -> User {
        User::new(&UserName::new(name).expect("a name"))
    }

    #[test]
    fn case_makes_no_other_user_and_nothing_else_makes_the_same() {
        assert_eq!(user(b"Joe@Example.NET"), user(b"joe@example.net"));
        assert_eq!(user("JÜRGEN".as_bytes()), user("jürgen".as_bytes()));
        assert_ne!(user(b"joe"), user(b"joe "));
        assert_ne!(user("\u{212a}arl".as_bytes()), user(b"karl"), "KELVIN SIGN");
        assert_ne!(user(b"\xff"), user("\u{fffd}".as_bytes()));
        let (one, two) = ([b'x'; 5000], {
            let mut name = [b'x'; 5000];
            name[4999] = b'y';
            name
        });
        assert_ne!(user(&one), user(&two));
        assert!(user(&one).as_bytes().len() <= MAX_NAME);
    }
}
