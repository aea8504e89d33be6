//! A file of users and the hashes of their passwords: `auth.submission: file:PATH`.

use super::reread::Reread;
use crate::proto::{UserName, fold};
use arc_swap::ArcSwap;
use argon2::password_hash::{PasswordHash, PasswordVerifier};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The largest file taken, in octets: some half a million users.
const LARGEST: u64 = 64 * 1024 * 1024;
/// The most complaints about one file.
const MOST_COMPLAINTS: usize = 20;
/// Nobody's password, with what `gatepost passwd` has a hash cost.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The file, and what stood in it when it was last good. A line is `user:hash`, `#` begins a comment line; a hash is one of
/// argon2id (RFC 9106, as a PHC string), bcrypt (`$2b$`, `$2a$`, `$2y$`) or SHA-512 crypt (`$6$`).
#[derive(Debug)]
pub struct PasswordFile {
    file: Reread,
    current: ArcSwap<Users>,
}

/// By the user's name, lower-cased.
type Users = HashMap<Box<[u8]>, Entry>;

/// A line.
#[derive(Debug, PartialEq)]
struct Entry {
    /// The user's name as it stands there, where that is not lower-cased.
    name: Option<Box<str>>,
    hash: Box<str>,
}

/// Why a file of passwords is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PasswordFileError {
    /// It is not there, not readable, not a file, not UTF-8 or too large.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Lines that cannot be understood; never empty.
    #[error("{}", .0.iter().map(|(line, what)| format!("line {line}: {what}")).collect::<Vec<_>>().join("; "))]
    Bad(Vec<(usize, String)>),
}

impl PasswordFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// It is missing, or has a line that cannot be understood.
    pub fn open(path: PathBuf) -> Result<Self, PasswordFileError> {
        let file = Self { file: Reread::new(path, LARGEST), current: ArcSwap::default() };
        file.reread()?;
        Ok(file)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Whether this is the user's password. Takes as long for a user that is not there. It takes tens of milliseconds and, with
    /// argon2id, some 20 MiB: not for a thread that serves sessions, and not many at once.
    pub fn verify(&self, user: &UserName, password: &[u8]) -> bool {
        let users = self.current.load();
        match users.get(&*fold(user.as_bytes())) {
            Some(entry) => matches(&entry.hash, password),
            None => {
                // Of the kind that stands in the file.
                let decoy = users.values().next().map_or(DECOY, |entry| &*entry.hash);
                let _ = std::hint::black_box(matches(decoy, password));
                false
            }
        }
    }

    /// The user's name in the spelling of the file; none for a user that is not there.
    pub fn spelling(&self, user: &UserName) -> Option<UserName> {
        let folded = fold(user.as_bytes());
        let users = self.current.load();
        let name = users.get(&*folded)?.name.as_deref().map_or(&*folded, str::as_bytes);
        UserName::new(name).ok()
    }

    /// Reads the file again if it has changed, and says whether something else stands in it now.
    ///
    /// # Errors
    /// What stood in it when it was last good stays; the next call tries again.
    pub fn reread(&self) -> Result<bool, PasswordFileError> {
        let parse = |text: String| parse(&Zeroizing::new(text)).map_err(PasswordFileError::Bad);
        let changed = self.file.if_changed(parse)?.filter(|users| **self.current.load() != *users);
        let is_changed = changed.is_some();
        if let Some(users) = changed {
            self.current.store(Arc::new(users));
        }
        Ok(is_changed)
    }
}

/// The same file is the same, whatever stands in it at the moment.
impl PartialEq for PasswordFile {
    fn eq(&self, other: &Self) -> bool {
        self.path() == other.path()
    }
}

impl Eq for PasswordFile {}

fn parse(text: &str) -> Result<Users, Vec<(usize, String)>> {
    let (mut users, mut complaints) = (Users::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let complaint = match line.split_once(':') {
            // Nothing of the line is shown: it may be a password.
            None => "is not `user:hash`: write it with gatepost passwd".to_owned(),
            Some((user, hash)) if !user.is_empty() && is_known(hash) => {
                let folded = fold(user.as_bytes());
                let name = (*folded != *user.as_bytes()).then(|| user.into());
                match users.insert(folded.into(), Entry { name, hash: hash.into() }) {
                    None => continue,
                    Some(_) => "the user stands in a line before: leave one of them out".to_owned(),
                }
            }
            Some(_) => "has no hash by argon2id, bcrypt or sha512-crypt: write it with gatepost passwd".to_owned(),
        };
        complaints.push((number + 1, complaint));
        if complaints.len() == MOST_COMPLAINTS {
            break;
        }
    }
    if complaints.is_empty() { Ok(users) } else { Err(complaints) }
}

fn is_known(hash: &str) -> bool {
    match kind(hash) {
        Some(Kind::Argon2) => PasswordHash::new(hash).is_ok_and(|hash| hash.hash.is_some()),
        Some(Kind::Bcrypt) => hash.parse::<bcrypt::HashParts>().is_ok(),
        Some(Kind::Sha512Crypt) => hash.rsplit('$').next().is_some_and(|digest| digest.len() == 86),
        None => false,
    }
}

enum Kind {
    Argon2,
    Bcrypt,
    Sha512Crypt,
}

fn kind(hash: &str) -> Option<Kind> {
    let begins = |words: &[&str]| words.iter().any(|word| hash.starts_with(word));
    if begins(&["$argon2id$"]) {
        Some(Kind::Argon2)
    } else if begins(&["$2b$", "$2a$", "$2y$"]) {
        Some(Kind::Bcrypt)
    } else if begins(&["$6$"]) {
        Some(Kind::Sha512Crypt)
    } else {
        None
    }
}

fn matches(hash: &str, password: &[u8]) -> bool {
    match kind(hash) {
        Some(Kind::Argon2) => {
            PasswordHash::new(hash).is_ok_and(|hash| argon2::Argon2::default().verify_password(password, &hash).is_ok())
        }
        Some(Kind::Bcrypt) => bcrypt::verify(password, hash).unwrap_or(false),
        Some(Kind::Sha512Crypt) => {
            std::str::from_utf8(password).is_ok_and(|password| sha_crypt::sha512_check(password, hash).is_ok())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `secret`, by each kind: gatepost passwd, `htpasswd -nbB`, `openssl passwd -6`.
    const BCRYPT: &str = "$2b$04$5dc8HpW/FRhur3uTODFjIeRNr.T6Po1g4JRYOmzqOa9KF4k8SK9lu";
    const SHA512: &str =
        "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.";
    const ARGON2: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$BoAUsjtk/DHZPSUZEVPW5Q$B77jkMdQc8Efaf717qzzPsGS7r8Z4qvMhNGfc/CyjdA";

    fn file(text: &str) -> Result<PasswordFile, PasswordFileError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        PasswordFile::open(file.path().to_owned())
    }

    fn user(name: &str) -> UserName {
        UserName::new(name.as_bytes()).expect("a name")
    }

    #[test]
    fn each_kind_of_hash_knows_its_password_and_no_other() {
        let file = file(&format!("# users\nann:{ARGON2}\n\nBob@Example.NET:{BCRYPT}\ncem:{SHA512}\n")).expect("good");
        for name in ["ann", "ANN", "bob@example.net", "cem"] {
            assert!(file.verify(&user(name), b"secret"), "{name}");
            assert!(!file.verify(&user(name), b"Secret") && !file.verify(&user(name), b""), "{name}");
        }
        assert!(!file.verify(&user("dan"), b"secret"));
        assert!(!file.verify(&user("bob@example.\u{212a}ET"), b"secret"), "KELVIN SIGN is no k");
    }

    #[test]
    fn a_user_is_spelt_as_in_the_file_however_he_types() {
        let file = file(&format!("ann:{SHA512}\nBob@Example.NET:{SHA512}\n")).expect("good");
        for (typed, spelt) in [
            ("ANN", Some("ann")),
            ("ann", Some("ann")),
            ("bob@example.net", Some("Bob@Example.NET")),
            ("BOB@EXAMPLE.NET", Some("Bob@Example.NET")),
            ("dan", None),
        ] {
            assert_eq!(file.spelling(&user(typed)), spelt.map(user), "{typed}");
        }
    }

    #[test]
    fn a_line_that_is_none_is_told_and_not_shown() {
        let said = file(&format!("ann\nbob:hunter2\ncem:{SHA512}\nCEM:{SHA512}\ndan:$6$x$short\n:{SHA512}\n"))
            .expect_err("bad")
            .to_string();
        for line in [
            "line 1: is not `user:hash`",
            "line 2: has no hash",
            "line 4: the user stands",
            "line 5: has no hash",
            "line 6:",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert!(!said.contains("hunter2"), "{said}");
    }

    #[test]
    fn nobody_has_the_decoys_password() {
        assert!(is_known(DECOY) && !matches(DECOY, b"") && !matches(DECOY, b"secret"));
    }
}
