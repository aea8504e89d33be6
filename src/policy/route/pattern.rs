//! Patterns for users' and servers' names, and templates that a login name is made by.

use crate::proto::UserName;
use crate::proto::sasl::BadCredential;
use std::fmt;

/// A pattern in which `*` stands for any octets, also none. ASCII letters match in either case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What stands between the asterisks, lower-cased: at least one part.
    parts: Vec<Box<[u8]>>,
}

impl Pattern {
    /// Reads a pattern. There is none that cannot be one.
    pub fn new(text: &str) -> Self {
        Self { parts: text.to_ascii_lowercase().split('*').map(|part| part.as_bytes().into()).collect() }
    }

    /// Whether it matches whatever comes.
    pub fn is_anything(&self) -> bool {
        self.parts.len() > 1 && self.parts.iter().all(|part| part.is_empty())
    }

    /// Whether it ends with a domain that is written out.
    pub fn names_domain(&self) -> bool {
        self.parts
            .last()
            .and_then(|last| last.split(|byte| *byte == b'@').nth(1))
            .is_some_and(|domain| !domain.is_empty())
    }

    /// Whether the name matches. Takes time in proportion to the product of both lengths at worst.
    pub fn matches(&self, name: &[u8]) -> bool {
        let name = name.to_ascii_lowercase();
        let (Some(first), Some(last)) = (self.parts.first(), self.parts.last()) else { return false };
        if self.parts.len() == 1 {
            return **first == *name;
        }
        let Some(mut rest) = name.strip_prefix(&**first).and_then(|rest| rest.strip_suffix(&**last)) else {
            return false;
        };
        self.parts[1..self.parts.len() - 1].iter().all(|part| match memchr::memmem::find(rest, part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    }
}

/// How a login name is made of the one the client gave: `{user}` is all of it, `{local}` what stands before its last `@`
/// (all of it, if there is none), `{domain}` what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginTemplate(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<[u8]>),
    User,
    Local,
    Domain,
}

/// Why a template is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadTemplate(String);

impl fmt::Display for BadTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl LoginTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// It is empty, names something else in braces, or a brace stands alone.
    pub fn parse(text: &str) -> Result<Self, BadTemplate> {
        let bad = |what: &str| Err(BadTemplate(format!("{what}: write {{user}}, {{local}} or {{domain}}")));
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some(open) = rest.find(['{', '}']) {
            let (before, braced) = rest.split_at(open);
            let Some((name, behind)) = braced.strip_prefix('{').and_then(|braced| braced.split_once('}')) else {
                return bad("a brace stands alone");
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.as_bytes().into()));
            }
            pieces.push(match name {
                "user" => Piece::User,
                "local" => Piece::Local,
                "domain" => Piece::Domain,
                other => {
                    return bad(&format!("there is no {{{}}}", crate::proto::line::printable(other.as_bytes(), 64)));
                }
            });
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.as_bytes().into()));
        }
        if pieces.is_empty() {
            return bad("it is empty");
        }
        if text.contains(['\r', '\n', '\0']) {
            return bad("a login name has no line end in it");
        }
        Ok(Self(pieces))
    }

    /// Makes the name to log in with.
    ///
    /// # Errors
    /// Nothing is left of it (`{domain}` of a name without one).
    pub fn apply(&self, user: &UserName) -> Result<UserName, BadCredential> {
        let whole = user.as_bytes();
        let at = whole.iter().rposition(|byte| *byte == b'@');
        let (local, domain) = at.map_or((whole, &[][..]), |at| (&whole[..at], &whole[at + 1..]));
        let mut name = Vec::with_capacity(whole.len());
        for piece in &self.0 {
            name.extend_from_slice(match piece {
                Piece::Text(text) => text,
                Piece::User => whole,
                Piece::Local => local,
                Piece::Domain => domain,
            });
        }
        UserName::new(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asterisk_stands_for_anything() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("joe", &["joe", "JOE"], &["joey", "joe@example.net", ""]),
            ("*@Shell.example.net", &["joe@shell.example.net", "@SHELL.example.NET"], &["joe@example.net", "joe"]),
            ("*", &["", "joe", "a@b"], &[]),
            ("a*c*e", &["ace", "abcde", "aXcYcZe"], &["ac", "aec", "abc", "xace"]),
            ("*.example.net", &["pop.example.net", ".example.net"], &["example.net"]),
            ("ab*ba", &["abba", "abxba"], &["aba"]),
            ("a**b", &["ab", "axb"], &["a"]),
        ];
        for (pattern, yes, no) in cases {
            let pattern = Pattern::new(pattern);
            yes.iter().for_each(|name| assert!(pattern.matches(name.as_bytes()), "{pattern:?} {name}"));
            no.iter().for_each(|name| assert!(!pattern.matches(name.as_bytes()), "{pattern:?} {name}"));
        }
        assert!(Pattern::new("*").is_anything() && Pattern::new("**").is_anything());
        assert!(!Pattern::new("").is_anything() && !Pattern::new("*a").is_anything());
    }

    #[test]
    fn a_login_name_is_made_of_the_parts_of_the_users() {
        let made = |template: &str, user: &str| {
            let template = LoginTemplate::parse(template).expect(template);
            let name = template.apply(&UserName::new(user.as_bytes()).expect("a name"));
            name.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned()).ok()
        };
        let cases = [
            ("{local}", "joe@example.net", Some("joe")),
            ("{local}", "joe", Some("joe")),
            ("{local}", "a@b@example.net", Some("a@b")),
            ("{domain}!{local}", "joe@example.net", Some("example.net!joe")),
            ("mbox-{user}-x", "Joe", Some("mbox-Joe-x")),
            ("shared", "joe", Some("shared")),
            ("{domain}", "joe", None),
            ("{local}", "@example.net", None),
        ];
        for (template, user, expected) in cases {
            assert_eq!(made(template, user).as_deref(), expected, "{template} {user}");
        }
    }

    #[test]
    fn a_template_that_is_none_says_what_to_write() {
        for (text, said) in [
            ("{usr}", "there is no {usr}: write {user}, {local} or {domain}"),
            ("{user", "a brace stands alone: write {user}, {local} or {domain}"),
            ("user}", "a brace stands alone: write {user}, {local} or {domain}"),
            ("", "it is empty: write {user}, {local} or {domain}"),
        ] {
            assert_eq!(LoginTemplate::parse(text).expect_err(text).to_string(), said);
        }
    }
}
