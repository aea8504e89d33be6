//! A client's commands: the verb, and the arguments of those that have some.

use super::path::{self, Address};
use std::fmt::Write as _;

/// The first word of a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Ehlo,
    Helo,
    Mail,
    Rcpt,
    Data,
    Rset,
    Noop,
    Quit,
    Help,
    Vrfy,
    StartTls,
    Auth,
    /// Known, and not for a client of ours: what it does the follower could not follow, or nobody needs.
    NotHere,
    /// A proxy's word about its client (XCLIENT, XFORWARD), or something in its place: never believed, never passed.
    NotForYou,
    /// A browser, or a page that makes one speak to us.
    Http,
    Unknown,
}

impl Verb {
    /// Splits a line into its verb and its argument, spaces around it cut off.
    pub(super) fn split(line: &[u8]) -> (Self, &[u8]) {
        let end = line.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(line.len());
        let (word, argument) = line.split_at(end);
        // None that is known is longer.
        let mut upper = [0; 8];
        let known = upper.get_mut(..word.len()).map(|upper| {
            upper.copy_from_slice(word);
            upper.make_ascii_uppercase();
            &*upper
        });
        let verb = match known.unwrap_or_default() {
            b"EHLO" => Verb::Ehlo,
            b"HELO" => Verb::Helo,
            b"MAIL" => Verb::Mail,
            b"RCPT" => Verb::Rcpt,
            b"DATA" => Verb::Data,
            b"RSET" => Verb::Rset,
            b"NOOP" => Verb::Noop,
            b"QUIT" => Verb::Quit,
            b"HELP" => Verb::Help,
            b"VRFY" => Verb::Vrfy,
            b"STARTTLS" => Verb::StartTls,
            b"AUTH" => Verb::Auth,
            b"BDAT" | b"BURL" | b"EXPN" | b"ETRN" | b"TURN" | b"ATRN" | b"SEND" | b"SOML" | b"SAML" | b"ONEX"
            | b"VERB" => Verb::NotHere,
            b"XCLIENT" | b"XFORWARD" | b"PROXY" => Verb::NotForYou,
            b"GET" | b"POST" | b"PUT" | b"HEAD" | b"DELETE" | b"CONNECT" | b"OPTIONS" | b"PATCH" | b"TRACE"
            | b"PRI" => Verb::Http,
            _ => Verb::Unknown,
        };
        (verb, argument.trim_ascii())
    }
}

/// The client's name in EHLO or HELO: the first word, 1 to 255 octets. What it says is not checked further, as clients
/// give bare host names, underscores and address literals without brackets.
pub(super) fn client_name(argument: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(argument).ok()?.split([' ', '\t']).next()?;
    let fits = (1..=255).contains(&name.len()) && !name.contains(|c: char| c.is_control() || c.is_whitespace());
    fits.then(|| name.to_owned())
}

/// Why a MAIL or RCPT is refused before it is looked at further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// No `FROM:` or `TO:`, or no path behind it.
    Path,
    /// A parameter of no form, or twice the same.
    Parameter,
}

/// What most MAIL and RCPT lines fit into.
const LINE: usize = 96;

/// The argument of MAIL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mail {
    /// None for `<>`.
    pub(super) from: Option<Address>,
    pub(super) parameters: Parameters,
}

impl Mail {
    pub(super) fn parse(argument: &[u8]) -> Result<Self, Flaw> {
        let (from, rest) = path_behind("FROM:", argument)?;
        Ok(Self { from, parameters: Parameters::parse(rest)? })
    }

    /// The command for a backend, without line end.
    pub(super) fn to_line(&self) -> String {
        let mut line = String::with_capacity(LINE);
        line.push_str("MAIL FROM:<");
        if let Some(from) = &self.from {
            // Writing to a String does not fail.
            let _ = write!(line, "{from}");
        }
        line.push('>');
        self.parameters.write(&mut line);
        line
    }
}

/// The argument of RCPT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rcpt {
    pub(super) to: Address,
    pub(super) parameters: Parameters,
}

impl Rcpt {
    pub(super) fn parse(argument: &[u8]) -> Result<Self, Flaw> {
        let (to, rest) = path_behind("TO:", argument)?;
        Ok(Self { to: to.ok_or(Flaw::Path)?, parameters: Parameters::parse(rest)? })
    }

    /// The command for a backend, without line end.
    pub(super) fn to_line(&self) -> String {
        let mut line = String::with_capacity(LINE);
        // Writing to a String does not fail.
        let _ = write!(line, "RCPT TO:<{}>", self.to);
        self.parameters.write(&mut line);
        line
    }
}

/// A space behind the colon is for the many clients that put one there.
fn path_behind<'a>(word: &str, argument: &'a [u8]) -> Result<(Option<Address>, &'a str), Flaw> {
    let text = std::str::from_utf8(argument).map_err(|_| Flaw::Path)?;
    let (head, rest) = text.split_at_checked(word.len()).ok_or(Flaw::Path)?;
    if !head.eq_ignore_ascii_case(word) {
        return Err(Flaw::Path);
    }
    path::read(rest.trim_start_matches([' ', '\t'])).map_err(|_| Flaw::Path)
}

/// ESMTP parameters: keywords, upper-cased, with or without a value (RFC 5321 section 4.1.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parameters(Vec<(String, Option<String>)>);

impl Parameters {
    fn parse(text: &str) -> Result<Self, Flaw> {
        let mut list: Vec<(String, Option<String>)> = Vec::new();
        for word in text.split([' ', '\t']).filter(|word| !word.is_empty()) {
            let (keyword, value) = match word.split_once('=') {
                Some((keyword, value)) => (keyword, Some(value)),
                None => (word, None),
            };
            let keyword = keyword.to_ascii_uppercase();
            let named = keyword.starts_with(|c: char| c.is_ascii_alphanumeric())
                && keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            // A value beyond ASCII is ORCPT's under SMTPUTF8 (RFC 6533 section 3).
            let valued = value.is_none_or(|v| {
                !v.is_empty()
                    && v.chars().all(|c| c != '=' && (c.is_ascii_graphic() || !c.is_ascii() && !c.is_control()))
            });
            if !named || !valued || list.iter().any(|(known, _)| *known == keyword) {
                return Err(Flaw::Parameter);
            }
            list.push((keyword, value.map(str::to_owned)));
        }
        Ok(Self(list))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(keyword, value)| (keyword.as_str(), value.as_deref()))
    }

    pub(super) fn has(&self, keyword: &str) -> bool {
        self.0.iter().any(|(known, _)| known == keyword)
    }

    pub(super) fn remove(&mut self, keyword: &str) {
        self.0.retain(|(known, _)| known != keyword);
    }

    fn write(&self, line: &mut String) {
        for (keyword, value) in self.iter() {
            line.push(' ');
            line.push_str(keyword);
            if let Some(value) = value {
                line.push('=');
                line.push_str(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_is_read_in_either_case_and_its_argument_trimmed() {
        assert_eq!(Verb::split(b"ehlo  pc.example.net "), (Verb::Ehlo, &b"pc.example.net"[..]));
        assert_eq!(Verb::split(b"MAIL\tFROM:<>"), (Verb::Mail, &b"FROM:<>"[..]));
        assert_eq!(Verb::split(b"NOOP"), (Verb::Noop, &b""[..]));
        for (line, verb) in [
            (&b"XCLIENT ADDR=192.0.2.1"[..], Verb::NotForYou),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25", Verb::NotForYou),
            (b"BDAT 10 LAST", Verb::NotHere),
            (b"POST / HTTP/1.1", Verb::Http),
            (b" NOOP", Verb::Unknown),
            (b"NOOPS", Verb::Unknown),
            (b"", Verb::Unknown),
        ] {
            assert_eq!(Verb::split(line).0, verb);
        }
    }

    #[test]
    fn mail_and_rcpt_are_written_anew() {
        for (argument, line) in [
            ("FROM:<joe@example.net>", "MAIL FROM:<joe@example.net>"),
            ("from: <joe@example.net>  size=10 body=8bitmime", "MAIL FROM:<joe@example.net> SIZE=10 BODY=8bitmime"),
            ("FROM:<>", "MAIL FROM:<>"),
            ("FROM:joe@example.net SMTPUTF8", "MAIL FROM:<joe@example.net> SMTPUTF8"),
            ("FROM:<@a:joe@example.net> ENVID=q+3D", "MAIL FROM:<joe@example.net> ENVID=q+3D"),
        ] {
            assert_eq!(Mail::parse(argument.as_bytes()).expect(argument).to_line(), line);
        }
        let rcpt =
            Rcpt::parse(b"TO:<ann@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;ann@example.net").expect("an RCPT");
        assert_eq!(rcpt.to_line(), "RCPT TO:<ann@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;ann@example.net");
    }

    #[test]
    fn what_is_neither_is_refused() {
        for (argument, flaw) in [
            (&b""[..], Flaw::Path),
            (b"<joe@example.net>", Flaw::Path),
            (b"FROM <joe@example.net>", Flaw::Path),
            (b"FROM:<jo\xe9@example.net>", Flaw::Path),
            (b"FROM:<joe@example.net>SIZE=1", Flaw::Path),
            (b"FROM:<joe@example.net> SIZE=", Flaw::Parameter),
            (b"FROM:<joe@example.net> =1", Flaw::Parameter),
            (b"FROM:<joe@example.net> -X", Flaw::Parameter),
            (b"FROM:<joe@example.net> SIZE=1 size=2", Flaw::Parameter),
            (b"FROM:<joe@example.net> X=a=b", Flaw::Parameter),
            (b"FROM:<joe@example.net> X=a\x01", Flaw::Parameter),
        ] {
            assert_eq!(Mail::parse(argument), Err(flaw), "{}", argument.escape_ascii());
        }
        assert_eq!(Rcpt::parse(b"TO:<>"), Err(Flaw::Path));
    }

    #[test]
    fn a_name_is_the_first_word() {
        assert_eq!(client_name(b"my pc").as_deref(), Some("my"));
        assert_eq!(client_name(b"[192.0.2.1]").as_deref(), Some("[192.0.2.1]"));
        for bad in [&b""[..], b"a\x01b", b"\xff", &[b'a'; 256]] {
            assert_eq!(client_name(bad), None);
        }
    }
}
