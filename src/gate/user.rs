//! The user as limits know one.

use crate::proto::{Protocol, UserName, fold};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// The backend's name and the login name as that backend takes it: lower-cased, without blanks around it, and on POP3 only its
/// first word, for that is all many old servers take. The same name at another backend is another user. Names of at most 255
/// octets are kept as they are, longer ones as their beginning and a hash of the whole, so that different names stay different.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct User(Arc<[u8]>);

/// The longest name kept whole.
const MAX_NAME: usize = 255;

impl User {
    /// The user behind a login name at a backend.
    pub fn new(backend: &str, protocol: Protocol, name: &UserName) -> Self {
        let mut lower = fold(name.as_taken(protocol));
        if lower.len() > MAX_NAME {
            let hash = Sha256::digest(&lower);
            lower.truncate(MAX_NAME - hash.len());
            lower.extend_from_slice(&hash);
        }
        // No login name holds NUL, so no backend and name read like another two.
        Self([backend.as_bytes(), b"\0", &lower].concat().into())
    }

    /// The same octets for the same user, whatever the spelling; the backend's name is among them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({})", crate::proto::line::printable(&self.0, MAX_NAME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &[u8]) -> User {
        User::new("main", Protocol::Imap, &UserName::new(name).expect("a name"))
    }

    #[test]
    fn a_blank_more_makes_no_other_user() {
        let on_pop3 = |name: &[u8]| User::new("main", Protocol::Pop3, &UserName::new(name).expect("a name"));
        for alias in [&b" joe"[..], b"joe ", b"\t  JOE  "] {
            assert_eq!(user(alias), user(b"joe"));
            assert_eq!(on_pop3(alias), on_pop3(b"joe"));
        }
        assert_eq!(on_pop3(b"joe x1"), on_pop3(b" joe\tx2"), "its first word is all that many servers take");
        assert_ne!(user(b"joe smith"), user(b"joe brown"));
        assert_eq!(on_pop3(b"joe"), user(b"joe"), "one user, whatever the protocol");
        assert_ne!(user(b"  "), user(b"joe"));
    }

    #[test]
    fn the_same_name_at_another_backend_is_another_user() {
        let joe = UserName::new(b"joe").expect("a name");
        assert_ne!(User::new("main", Protocol::Imap, &joe), User::new("other", Protocol::Imap, &joe));
    }

    #[test]
    fn case_makes_no_other_user_and_nothing_else_makes_the_same() {
        assert_eq!(user(b"Joe@Example.NET"), user(b"joe@example.net"));
        assert_eq!(user("JÜRGEN".as_bytes()), user("jürgen".as_bytes()));
        assert_ne!(user("\u{212a}arl".as_bytes()), user(b"karl"), "KELVIN SIGN");
        assert_ne!(user(b"\xff"), user("\u{fffd}".as_bytes()));
        let (one, two) = ([b'x'; 5000], {
            let mut name = [b'x'; 5000];
            name[4999] = b'y';
            name
        });
        assert_ne!(user(&one), user(&two));
        assert!(user(&one).as_bytes().len() <= MAX_NAME + "main\0".len());
    }
}
