//! What a backend must not repeat into our log: some old servers say in a refusal what they were sent.

use crate::proto::{Credentials, Login, Secret, line::printable};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

/// What stands in the place of a secret.
const HIDDEN: &str = "[secret]";
/// What stands there meanwhile: nothing printable holds it, so that it is not looked into for other secrets.
const MARK: &str = "\0";
/// A shorter secret is in so many texts by chance that hiding it in place would tell what it is: the text is hidden.
const SHORT: usize = 4;
/// A part of a response that is hidden by itself, such as a token or a digest.
const PART: usize = 8;

/// The challenges and responses of one attempt to log in.
#[derive(Default)]
pub(super) struct Unspoken(Vec<Secret<Vec<u8>>>);

impl Unspoken {
    /// Adds a challenge, or a response to one.
    pub(super) fn add(&mut self, words: &[u8]) {
        self.0.push(Secret::from(words));
    }

    /// The text without anything of the login and its exchange, in the forms in which it crossed the wire.
    pub(super) fn hide(&self, login: &Login, text: &str) -> String {
        if self.may_stand_in(login, text) { self.cut_out(login, text) } else { text.to_owned() }
    }

    /// Whether a text holds the beginning of any of it. As a rule it does not, and then there is nothing to be put together,
    /// written in its forms and wiped again.
    fn may_stand_in(&self, login: &Login, text: &str) -> bool {
        let begins = |words: &[&[u8]]| beginnings_stand_in(text, words);
        let response_begins = |words: &[u8]| begins(&[words]) || parts(words).any(|part| begins(&[part]));
        let login_begins = match &login.credentials {
            Credentials::Password { authzid, user, password } => {
                let (user, password) = (user.as_bytes(), password.declassify());
                begins(&[password])
                    || begins(&[b"\0", user, b"\0", password])
                    || begins(&[user, b"\0", user, b"\0", password])
                    || authzid
                        .as_ref()
                        .is_some_and(|authzid| begins(&[authzid.as_bytes(), b"\0", user, b"\0", password]))
            }
            Credentials::Apop { digest, .. } => begins(&[digest.declassify()]),
            Credentials::Sasl { initial } => {
                initial.as_ref().is_some_and(|initial| response_begins(initial.declassify()))
            }
        };
        login_begins || self.0.iter().any(|words| response_begins(words.declassify()))
    }

    fn cut_out(&self, login: &Login, text: &str) -> String {
        let mut forms = forms(login);
        for words in &self.0 {
            response(words.declassify(), &mut forms);
        }
        forms.retain(|form| !form.is_empty());
        // A form that holds another one goes first.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        let mut text = text.to_owned();
        for form in &forms {
            if form.len() < SHORT && find(&text, form).is_some() {
                return HIDDEN.to_owned();
            }
            while let Some(at) = find(&text, form) {
                text.replace_range(at..at + form.len(), MARK);
            }
            cut_beginning(&mut text, form);
        }
        text.replace(MARK, HIDDEN)
    }
}

/// Whether a text holds what words begin with, in one of their forms: enough of it to be looked for ([`SHORT`]), or all of a
/// shorter one. Where that cannot be told in place it may.
fn beginnings_stand_in(text: &str, words: &[&[u8]]) -> bool {
    let mut first = [0; SHORT];
    let (mut length, mut whole) = (0, 0);
    for word in words {
        let taken = word.len().min(SHORT - length);
        first[length..length + taken].copy_from_slice(&word[..taken]);
        length += taken;
        whole += word.len();
    }
    if whole == 0 {
        return false;
    }
    let is_plain = |byte: &u8| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\');
    let plain = first[..length].iter().position(|byte| !is_plain(byte)).unwrap_or(length);
    let escape = b"\\u{";
    let beginning = match (&first[..plain], first[0]) {
        // As it is written where it is made printable.
        ([], byte) if byte.is_ascii_control() => &escape[..],
        (plain, _) => plain,
    };
    let mut encoded = [0; SHORT];
    let encodes = STANDARD.encode_slice(&first[..length.min(3)], &mut encoded).is_ok();
    let stands = !encodes || beginning.is_empty() || holds(text, beginning) || holds(text, &encoded);
    first.zeroize();
    encoded.zeroize();
    stands
}

fn holds(text: &str, beginning: &[u8]) -> bool {
    text.as_bytes().windows(beginning.len()).any(|window| window.eq_ignore_ascii_case(beginning))
}

/// Where a text holds a form. Some servers repeat what they were sent in capitals.
fn find(text: &str, form: &str) -> Option<usize> {
    let windows = text.as_bytes().windows(form.len());
    windows.enumerate().find_map(|(at, window)| window.eq_ignore_ascii_case(form.as_bytes()).then_some(at))
}

/// A reply is cut at its bound, perhaps in the middle of a secret.
fn cut_beginning(text: &mut String, form: &str) {
    let longest = form.len().min(text.len() + 1);
    let cut = (SHORT..longest).rev().find(|&length| {
        let (end, beginning) = (&text.as_bytes()[text.len() - length..], &form.as_bytes()[..length]);
        form.is_char_boundary(length) && end.eq_ignore_ascii_case(beginning)
    });
    if let Some(length) = cut {
        text.truncate(text.len() - length);
        text.push_str(MARK);
    }
}

fn forms(login: &Login) -> Vec<Zeroizing<String>> {
    let mut forms = Vec::new();
    match &login.credentials {
        Credentials::Password { authzid, user, password } => {
            let password = password.declassify();
            form(password, &mut forms);
            let authzids = [&b""[..], user.as_bytes(), authzid.as_ref().map_or(&b""[..], |name| name.as_bytes())];
            for authzid in authzids {
                let mut plain = [authzid, b"\0", user.as_bytes(), b"\0", password].concat();
                form(&plain, &mut forms);
                plain.zeroize();
            }
        }
        Credentials::Apop { digest, .. } => form(digest.declassify(), &mut forms),
        Credentials::Sasl { initial } => {
            if let Some(initial) = initial {
                response(initial.declassify(), &mut forms);
            }
        }
    }
    forms
}

/// A challenge or a response, and what it is made of.
fn response(words: &[u8], forms: &mut Vec<Zeroizing<String>>) {
    form(words, forms);
    for part in parts(words) {
        forms.push(Zeroizing::new(printable(part, usize::MAX)));
    }
}

fn parts(words: &[u8]) -> impl Iterator<Item = &[u8]> {
    words.split(|byte| matches!(byte, 0 | 1 | b' ' | b',')).filter(|part| part.len() >= PART)
}

/// As it is, as it stands in a quoted string (RFC 3501 section 4.3), and in base64.
fn form(words: &[u8], forms: &mut Vec<Zeroizing<String>>) {
    let plain = Zeroizing::new(printable(words, usize::MAX));
    let quoted = Zeroizing::new(plain.replace('\\', "\\\\").replace('"', "\\\""));
    forms.extend([plain, quoted, Zeroizing::new(STANDARD.encode(words))]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Mechanism, UserName};
    use proptest::prelude::*;

    fn hidden(password: &str, text: &str) -> String {
        let login = Login::password(Mechanism::PLAIN, b"joe", password.as_bytes()).expect("a login");
        Unspoken::default().hide(&login, text)
    }

    #[test]
    fn a_password_is_hidden_in_every_form() {
        for (password, text, left) in [
            ("secret", "no such password: secret!", "no such password: [secret]!"),
            ("se\"cr\\et", r#"LOGIN "joe" "se\"cr\\et""#, r#"LOGIN "joe" "[secret]""#),
            ("secret", "cannot decode AGpvZQBzZWNyZXQ= here", "cannot decode [secret] here"),
            ("secret", "cannot decode c2VjcmV0", "cannot decode [secret]"),
            ("secret", "it is cut: AGpvZQBzZW", "it is cut: [secret]"),
            ("secret", "it is cut: secr", "it is cut: [secret]"),
            ("secret", r#"LOGIN "JOE" "SECRET""#, r#"LOGIN "JOE" "[secret]""#),
            ("Secret", "it is cut: SECR", "it is cut: [secret]"),
            ("secret", "Authentication failed", "Authentication failed"),
            ("no", "no such user", "[secret]"),
            ("", "no such user", "no such user"),
        ] {
            assert_eq!(hidden(password, text), left);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_overlooked_by_looking_for_beginnings(
            user in "[a-c\\\\\"é ]{1,3}",
            authzid in proptest::option::of("[a-c]{1,3}"),
            password in "[a-c\\\\\"é\u{1}\u{7f}]{0,6}",
            sasl in proptest::option::of("[a-c ,\u{0}é]{0,20}"),
            parts in proptest::collection::vec((0usize..7, 0usize..30, "[a-c \\\\u{}=]{0,3}"), 0..4),
        ) {
            let name = |name: &str| UserName::new(name.as_bytes()).expect("a name");
            let credentials = Credentials::Password {
                authzid: authzid.as_deref().map(name),
                user: name(&user),
                password: Secret::from(password.as_bytes()),
            };
            let login = Login { mechanism: Mechanism::PLAIN, credentials };
            let mut unspoken = Unspoken::default();
            if let Some(words) = &sasl {
                unspoken.add(words.as_bytes());
            }
            // A text out of pieces of the forms themselves.
            let mut known = forms(&login);
            response(sasl.as_deref().unwrap_or("abc").as_bytes(), &mut known);
            let mut text = String::new();
            for (which, length, between) in parts {
                text.push_str(&between);
                text.extend(known[which % known.len()].chars().take(length));
            }
            for text in [text.as_str(), &text.to_uppercase()] {
                prop_assert_eq!(unspoken.hide(&login, text), unspoken.cut_out(&login, text));
            }
        }
    }

    #[test]
    fn what_passed_through_is_hidden_with_its_parts() {
        let login = Login { mechanism: Mechanism::CRAM_MD5, credentials: Credentials::Sasl { initial: None } };
        let mut unspoken = Unspoken::default();
        unspoken.add(b"joe b913a602c7eda7a4");
        unspoken.add(b"<1.2@old>");
        for (text, left) in [
            ("digest b913a602c7eda7a4 of joe", "digest [secret] of joe"),
            ("am9lIGI5MTNhNjAyYzdlZGE3YTQ=", "[secret]"),
            ("for <1.2@old>", "for [secret]"),
        ] {
            assert_eq!(unspoken.hide(&login, text), left);
        }
    }
}
