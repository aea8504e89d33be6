//! `gatepost passwd`: a user and a password's hash, for `auth.submission: file:FILE`.
//!
//! A line is `user:$argon2id$…` (a PHC string); `#` begins a comment line. Argon2id with the parameters that OWASP's password
//! storage cheat sheet names first: 19 MiB, two passes, one lane.

use super::{FAILED, FINE, say};
use anyhow::{Context, bail};
use argon2::password_hash::{PasswordHasher, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The largest file taken, in octets.
const LARGEST: u64 = 64 * 1024 * 1024;
/// The longest password, in octets: what a SASL response may carry (RFC 4616 has 255, old servers more).
const LONGEST: usize = 1_024;
/// KiB of memory, passes, lanes.
const COST: (u32, u32, u32) = (19 * 1_024, 2, 1);

/// Flags of `passwd`.
#[derive(Debug, clap::Args)]
pub(crate) struct PasswdArguments {
    /// The file; made where there is none
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The user, as it is typed at the login
    #[arg(value_name = "USER", value_parser = user)]
    user: String,
}

/// Adds a user to a file, or gives one another password. It is asked for twice on a terminal, and read as one line elsewhere.
pub(super) fn passwd(arguments: &PasswdArguments) -> u8 {
    match set(arguments) {
        Ok(replaced) => {
            let done = if replaced { "has another password now" } else { "is added" };
            let file = arguments.file.display();
            say(format_args!("{} {done} in {file}", arguments.user));
            say(format_args!(
                "it is used by `auth: {{ submission: \"file:{file}\" }}`, after `gatepost reload`, and must belong to the user the gateway runs as: chown gatepost {file}"
            ));
            FINE
        }
        Err(error) => {
            say(format_args!("{error:#}"));
            FAILED
        }
    }
}

fn set(arguments: &PasswdArguments) -> anyhow::Result<bool> {
    // A link stays a link: what it leads to is replaced.
    let file = fs::canonicalize(&arguments.file).unwrap_or_else(|_| arguments.file.clone());
    let old = read(&file)?;
    let password = if io::stdin().is_terminal() { asked()? } else { one_line(io::stdin().lock())? };
    let hash = hash(&password)?;
    let (text, replaced) = with_user(&old, &arguments.user, &hash);
    replace(&file, text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(replaced)
}

/// A name that a line can hold.
fn user(text: &str) -> Result<String, String> {
    if text.is_empty()
        || text.len() > 255
        || text.starts_with('#')
        || text.trim() != text
        || text.contains(|c: char| c == ':' || c.is_control())
    {
        return Err(
            "a user has 1 to 255 octets, no colon, no control character, and begins neither with # nor with a blank"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

fn read(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let metadata = match fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Zeroizing::default()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    if !metadata.is_file() || metadata.len() > LARGEST {
        bail!("{} is not a regular file of at most 64 MiB", file.display());
    }
    let mut text = Zeroizing::new(String::new());
    let opened = File::open(file).and_then(|opened| opened.take(LARGEST + 1).read_to_string(&mut text));
    opened.with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text)
}

fn asked() -> anyhow::Result<Zeroizing<String>> {
    let ask =
        |prompt| anyhow::Ok(Zeroizing::new(rpassword::prompt_password(prompt).context("cannot ask for the password")?));
    let password = ask("Password: ")?;
    if *password != *ask("Again: ")? {
        bail!("the two are not the same: nothing was changed");
    }
    good(password)
}

fn one_line(input: impl BufRead) -> anyhow::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(LONGEST + 4));
    input.take(LONGEST as u64 + 3).read_line(&mut line).context("cannot read the password from standard input")?;
    let kept = line.strip_suffix('\n').unwrap_or(&line);
    let kept = kept.strip_suffix('\r').unwrap_or(kept).len();
    line.truncate(kept);
    good(line)
}

/// A password that a login can carry.
fn good(password: Zeroizing<String>) -> anyhow::Result<Zeroizing<String>> {
    if password.is_empty() {
        bail!("the password is empty: nothing was changed");
    }
    if password.len() > LONGEST {
        bail!("the password has more than {LONGEST} octets: nothing was changed");
    }
    if password.contains(['\0', '\r', '\n']) {
        bail!("the password holds a line break or a zero, which no login can carry: nothing was changed");
    }
    Ok(password)
}

fn hash(password: &str) -> anyhow::Result<String> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None).map_err(|error| anyhow::anyhow!("argon2: {error}"))?;
    let salt =
        SaltString::encode_b64(&rand::random::<[u8; 16]>()).map_err(|error| anyhow::anyhow!("argon2: {error}"))?;
    let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(|error| anyhow::anyhow!("argon2: {error}"))?.to_string())
}

/// The file's text with this user's line, in the place of an old one, and whether there was one. Names are compared as
/// logins are: without regard to case.
fn with_user(old: &str, user: &str, hash: &str) -> (Zeroizing<String>, bool) {
    let mut text = Zeroizing::new(String::with_capacity(old.len() + user.len() + hash.len() + 3));
    let mut placed = false;
    let is_user = |line: &str| line.split_once(':').is_some_and(|(name, _)| name.to_lowercase() == user.to_lowercase());
    for line in old.lines() {
        if !is_user(line) {
            text.push_str(line);
            text.push('\n');
        } else if !std::mem::replace(&mut placed, true) {
            text.push_str(&format!("{user}:{hash}\n"));
        }
    }
    if !placed {
        text.push_str(&format!("{user}:{hash}\n"));
    }
    (text, placed)
}

/// Puts a file of mode 0600 in the place of another in one rename; it keeps the owner.
fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".new.{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let attempt = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        if let Ok(old) = fs::metadata(path) {
            let new = file.metadata()?;
            if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
                std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
        }
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    attempt().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::{PasswordHash, PasswordVerifier};

    #[test]
    fn a_hash_is_the_passwords_alone_and_says_what_it_cost() {
        let hash = hash("correct horse").expect("hashed");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let parsed = PasswordHash::new(&hash).expect("a PHC string");
        assert!(Argon2::default().verify_password(b"correct horse", &parsed).is_ok());
        assert!(Argon2::default().verify_password(b"Correct horse", &parsed).is_err());
        assert_ne!(hash, super::hash("correct horse").expect("hashed"), "the salt is another each time");
    }

    #[test]
    fn a_user_has_one_line_and_the_others_stay_as_they_are() {
        let old = "# who may send\njoe:$a\nAnn:$b\nANN:$c\n";
        assert_eq!(*with_user(old, "ann", "$n").0, "# who may send\njoe:$a\nann:$n\n");
        assert!(with_user(old, "ann", "$n").1);
        let (text, replaced) = with_user("joe:$a", "ann", "$n");
        assert!(!replaced && *text == "joe:$a\nann:$n\n");
    }

    #[test]
    fn what_no_login_can_carry_is_refused() {
        for (input, words) in [("", "empty"), ("\n", "empty"), ("a\0b\n", "zero"), (&"x".repeat(2_000), "1024")] {
            let said = one_line(input.as_bytes()).expect_err(words).to_string();
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(*one_line(&b"pa ss\r\nmore"[..]).expect("good"), "pa ss");
        for bad in ["", "a:b", "#a", " a", "a\n"] {
            assert!(user(bad).is_err(), "{bad:?}");
        }
        assert_eq!(user("joe@example.net").as_deref(), Ok("joe@example.net"));
    }
}
