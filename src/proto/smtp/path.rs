//! The addresses of an envelope: `<local@domain>` as MAIL and RCPT have it (RFC 5321 section 4.1.2).
//!
//! What is read here is written anew for the backend, so no byte of a path reaches it that was not understood. The
//! leniencies, each for senders that exist:
//! - dots anywhere in a local part: `<.joe..x.@example.net>` (addresses of mobile carriers in Japan);
//! - no angle brackets: `MAIL FROM:joe@example.net` (scanners, alarm systems, old scripts);
//! - `_` in a domain (Windows host names);
//! - no domain: `<joe>` (an old server's own users).

use std::fmt;

/// The longest address, in octets. RFC 5321 asks for 254; bounce addresses are longer.
const MAX_ADDRESS: usize = 512;

/// A mailbox of an envelope, without the source route it may have come with (RFC 5321 appendix C: ignored).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// As written, quotes included.
    local: String,
    /// As written; an address literal with its square brackets.
    domain: Option<String>,
    /// There was a source route.
    routed: bool,
}

/// Text that is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadPath;

impl Address {
    /// What stands before the `@`, quotes and backslashes resolved.
    pub fn local_part(&self) -> String {
        let Some(quoted) = self.local.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
            return self.local.clone();
        };
        let (mut plain, mut chars) = (String::with_capacity(quoted.len()), quoted.chars());
        while let Some(c) = chars.next() {
            plain.extend(if c == '\\' { chars.next() } else { Some(c) });
        }
        plain
    }

    /// What stands behind the `@`, as written; none for a bare local part.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Whether every byte is ASCII; otherwise the address needs SMTPUTF8 (RFC 6531).
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii() && self.domain.as_ref().is_none_or(|domain| domain.is_ascii())
    }

    /// Whether a stranger may write there: a plain address ([`Address::is_plain`]) in a domain of the list (lower-cased), or the
    /// bare postmaster of RFC 5321 section 4.5.1.
    pub fn is_for(&self, domains: &[String]) -> bool {
        self.is_plain()
            && match &self.domain {
                None => self.local_part().eq_ignore_ascii_case("postmaster"),
                Some(domain) => domains.iter().any(|listed| listed.eq_ignore_ascii_case(domain)),
            }
    }

    /// Whether the address says where it leads. An old server may resend what hides another address to that address, so none of
    /// these is plain: a source route, `user%elsewhere@here`, `elsewhere!user@here`, `"user@elsewhere"@here`, an address literal.
    /// Nor is a name that is no mailbox's: see [`Address::is_no_mailbox`].
    pub fn is_plain(&self) -> bool {
        let is_literal = self.domain.as_ref().is_some_and(|domain| domain.starts_with('['));
        !self.routed && !is_literal && !self.local_part().contains(hides_an_address) && !self.is_no_mailbox()
    }

    /// Whether the local part is a program, a file or a list of them to servers that deliver to such, or an option to
    /// the program that a server delivers with. From a stranger none is taken, as a sender neither, since bounces go
    /// there: so commands were run at servers of the nineties. Postfix refuses the option, too (`allow_min_user`).
    pub fn is_no_mailbox(&self) -> bool {
        let local = self.local_part();
        local.trim_start().starts_with(['|', '/', '-', ':'])
    }
}

/// What some server somewhere reads as the mark of a route, a comment, a list or a pipe.
fn hides_an_address(c: char) -> bool {
    c.is_control() || "@%!:;,\\\"<>()[]|".contains(c)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.local)?;
        match &self.domain {
            Some(domain) => write!(f, "@{domain}"),
            None => Ok(()),
        }
    }
}

/// Reads a path at the front of `text`: the address, `None` for `<>`, and what stands behind it.
pub(super) fn read(text: &str) -> Result<(Option<Address>, &str), BadPath> {
    let (address, rest) = match text.strip_prefix('<') {
        Some(inside) => match inside.strip_prefix('>') {
            Some(rest) => (None, rest),
            None => {
                let (routed, inside) = skip_route(inside)?;
                let (address, rest) = mailbox(inside, routed)?;
                (Some(address), rest.strip_prefix('>').ok_or(BadPath)?)
            }
        },
        None => {
            let (address, rest) = mailbox(text, false)?;
            (Some(address), rest)
        }
    };
    if rest.is_empty() || rest.starts_with([' ', '\t']) { Ok((address, rest)) } else { Err(BadPath) }
}

/// `@one,@two:` before the mailbox.
fn skip_route(text: &str) -> Result<(bool, &str), BadPath> {
    if !text.starts_with('@') {
        return Ok((false, text));
    }
    let mut rest = text;
    loop {
        rest = domain(rest.strip_prefix('@').ok_or(BadPath)?)?.1;
        if let Some(mailbox) = rest.strip_prefix(':') {
            return Ok((true, mailbox));
        }
        rest = rest.strip_prefix(',').ok_or(BadPath)?;
    }
}

fn mailbox(text: &str, routed: bool) -> Result<(Address, &str), BadPath> {
    let (local, rest) = if text.starts_with('"') { quoted(text)? } else { dotted(text)? };
    let (domain, rest) = match rest.strip_prefix('@') {
        Some(behind) => {
            let (domain, rest) = domain(behind)?;
            (Some(domain.to_owned()), rest)
        }
        None => (None, rest),
    };
    if text.len() - rest.len() > MAX_ADDRESS {
        return Err(BadPath);
    }
    Ok((Address { local: local.to_owned(), domain, routed }, rest))
}

/// Atoms and dots.
fn dotted(text: &str) -> Result<(&str, &str), BadPath> {
    let atext = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c) || is_beyond_ascii(c);
    nonempty(text.split_at(text.find(|c| !atext(c)).unwrap_or(text.len())))
}

/// `"…"` with its quotes.
fn quoted(text: &str) -> Result<(&str, &str), BadPath> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if !(c == ' ' || c.is_ascii_graphic() || is_beyond_ascii(c)) => return Err(BadPath),
            _ if std::mem::take(&mut escaped) => {}
            '\\' => escaped = true,
            '"' if at > 1 => return Ok(text.split_at(at + 1)),
            '"' => return Err(BadPath),
            _ => {}
        }
    }
    Err(BadPath)
}

/// Labels with dots between them, or `[…]`.
fn domain(text: &str) -> Result<(&str, &str), BadPath> {
    if text.starts_with('[') {
        let end = text.find(']').ok_or(BadPath)?;
        let fits =
            end > 1 && text[1..end].bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'[' | b'\\' | b'<' | b'>'));
        return if fits { Ok(text.split_at(end + 1)) } else { Err(BadPath) };
    }
    let part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c) || is_beyond_ascii(c);
    let (name, rest) = nonempty(text.split_at(text.find(|c| !part(c)).unwrap_or(text.len())))?;
    if name.len() > 255 || name.split('.').any(str::is_empty) { Err(BadPath) } else { Ok((name, rest)) }
}

fn nonempty<'a>((text, rest): (&'a str, &'a str)) -> Result<(&'a str, &'a str), BadPath> {
    if text.is_empty() { Err(BadPath) } else { Ok((text, rest)) }
}

fn is_beyond_ascii(c: char) -> bool {
    !c.is_ascii() && !c.is_control() && !c.is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_read_and_written_anew() {
        for (text, address, rest) in [
            ("<joe@example.net>", "joe@example.net", ""),
            ("<joe@example.net> SIZE=1", "joe@example.net", " SIZE=1"),
            ("<@a.example,@b.example:joe@example.net>", "joe@example.net", ""),
            ("<\"joe smith\"@example.net>", "\"joe smith\"@example.net", ""),
            ("<\"a\\\"b@c\\\\\"@example.net>", "\"a\\\"b@c\\\\\"@example.net", ""),
            ("<.joe..x.@docomo.example>", ".joe..x.@docomo.example", ""),
            ("<joe@[192.0.2.1]>", "joe@[192.0.2.1]", ""),
            ("<joe@[IPv6:2001:db8::1]>", "joe@[IPv6:2001:db8::1]", ""),
            ("<joe>", "joe", ""),
            ("joe@example.net SIZE=1", "joe@example.net", " SIZE=1"),
            ("<jo\u{e9}@ex\u{e4}mple.net>", "jo\u{e9}@ex\u{e4}mple.net", ""),
            ("<prvs=joe/x=y@pc_7>", "prvs=joe/x=y@pc_7", ""),
        ] {
            let (read, behind) = read(text).unwrap_or_else(|_| panic!("{text}"));
            assert_eq!((read.map(|a| a.to_string()).as_deref(), behind), (Some(address), rest));
        }
        assert_eq!(read("<> BODY=7BIT"), Ok((None, " BODY=7BIT")));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let long = format!("<{}@example.net>", "x".repeat(MAX_ADDRESS));
        for text in [
            "",
            "<",
            "<joe",
            "<joe@>",
            "<@example.net>",
            "<joe@a@b>",
            "<joe@a..b>",
            "<joe@a.>",
            "<joe@.a>",
            "<jo e@a>",
            "<joe@a>x",
            "<joe@a>>",
            "<\"joe@a>",
            "<\"\"@a>",
            "<\"a\x01b\"@a>",
            "<a\\b@c>",
            "<joe@[]>",
            "<joe@[a>",
            "<joe@[a]b>",
            "<joe@a,b>",
            "<joe@a:b>",
            "<@a:@b:joe@c>",
            "<@a joe@c>",
            "<<joe@a>>",
            "<joe@a\u{a0}>",
            "<jo\u{85}e@a>",
            "<joe(x)@a>",
            &long,
        ] {
            assert_eq!(read(text), Err(BadPath), "{text}");
        }
    }

    #[test]
    fn no_stranger_relays_through_an_address_in_an_address() {
        let ours = ["example.net".to_owned(), "example.org".to_owned()];
        for (text, passes) in [
            ("<joe@example.net>", true),
            ("<joe@EXAMPLE.Net>", true),
            ("<\"joe smith\"@example.net>", true),
            ("<\"joe\"@example.net>", true),
            ("<postmaster>", true),
            ("<PostMaster>", true),
            ("<\"postmaster\">", true),
            ("<joe+tag@example.org>", true),
            ("<joe@elsewhere.example>", false),
            ("<joe@sub.example.net>", false),
            ("<joe@example.net.elsewhere.example>", false),
            ("<joe@xexample.net>", false),
            ("<joe>", false),
            ("<@example.net:joe@elsewhere.example>", false),
            ("<@elsewhere.example:joe@example.net>", false),
            ("<@example.net,@example.net:postmaster>", false),
            ("<joe%elsewhere.example@example.net>", false),
            ("<elsewhere.example!joe@example.net>", false),
            ("<\"joe@elsewhere.example\"@example.net>", false),
            ("<\"joe\\@elsewhere.example\"@example.net>", false),
            ("<\"joe%elsewhere.example\"@example.net>", false),
            ("<\"elsewhere.example!joe\"@example.net>", false),
            ("<\"@elsewhere.example:joe@x\"@example.net>", false),
            ("<\"|/bin/sh\"@example.net>", false),
            ("<-f@example.net>", false),
            ("</etc/passwd@example.net>", false),
            ("<\" /etc/passwd\"@example.net>", false),
            ("<joe-x/y@example.net>", true),
            ("<joe@[192.0.2.1]>", false),
            ("<joe@ex\u{e4}mple.net>", false),
        ] {
            let address = read(text).ok().and_then(|(address, _)| address).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(address.is_for(&ours), passes, "{text}");
            // Where no domains are written, the server's word about the domain is all there is.
            let elsewhere = ["<joe>", "<joe@elsewhere.example>", "<joe@sub.example.net>", "<joe@xexample.net>"]
                .contains(&text)
                || text.contains("net.elsewhere") && !text.starts_with("<@")
                || text.contains('\u{e4}');
            assert_eq!(address.is_plain(), passes || elsewhere, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_was_read_reads_the_same_again(text in "<?[@\"\\\\a%!.:,<>\\[\\] é]{0,12}>?") {
            if let Ok((Some(address), _)) = read(&text) {
                let again = read(&format!("<{address}>")).expect("what we wrote").0.expect("an address");
                prop_assert_eq!(again.to_string(), address.to_string());
                prop_assert_eq!(again.local_part(), address.local_part());
            }
        }
    }
}
