//! What a client may say before its login.

use crate::proto::Mechanism;

/// A command line cut at its first space.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command<'a> {
    pub(super) verb: Verb,
    /// What stands behind the first space, byte for byte: names and passwords may begin and end with spaces.
    /// `None` where there is no space.
    pub(super) argument: Option<&'a [u8]>,
}

/// The commands that have an answer of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Capa,
    Quit,
    Stls,
    User,
    Pass,
    Apop,
    Auth,
    /// What RFC 1939 has for the TRANSACTION state alone, NOOP with it: out of place before a login.
    Mailbox,
    /// UTF8 and LANG (RFC 6856): legal here, but not to be had.
    Language,
    /// Everything else, the trust extensions of proxies (XCLIENT, XOIP) with it.
    Unknown,
}

const VERBS: [(&str, Verb); 19] = [
    ("CAPA", Verb::Capa),
    ("QUIT", Verb::Quit),
    ("STLS", Verb::Stls),
    ("USER", Verb::User),
    ("PASS", Verb::Pass),
    ("APOP", Verb::Apop),
    ("AUTH", Verb::Auth),
    ("NOOP", Verb::Mailbox),
    ("STAT", Verb::Mailbox),
    ("LIST", Verb::Mailbox),
    ("UIDL", Verb::Mailbox),
    ("RETR", Verb::Mailbox),
    ("DELE", Verb::Mailbox),
    ("RSET", Verb::Mailbox),
    ("TOP", Verb::Mailbox),
    ("LAST", Verb::Mailbox),
    ("XTND", Verb::Mailbox),
    ("UTF8", Verb::Language),
    ("LANG", Verb::Language),
];

impl<'a> Command<'a> {
    /// Reads a line, in either case.
    pub(super) fn parse(line: &'a [u8]) -> Self {
        let (word, argument) = match memchr::memchr(b' ', line) {
            Some(space) => (&line[..space], Some(&line[space + 1..])),
            None => (line, None),
        };
        let known = VERBS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
        Self { verb: known.map_or(Verb::Unknown, |(_, verb)| *verb), argument }
    }

    /// Whether nothing stands behind the verb but blanks, which some clients leave there.
    pub(super) fn is_bare(&self) -> bool {
        self.argument.is_none_or(|rest| rest.iter().all(|&b| b == b' '))
    }

    /// How the client wants to log in by this command. `None` if it does not, or by nothing that has a name.
    pub(super) fn mechanism(&self) -> Option<Mechanism> {
        match self.verb {
            Verb::User | Verb::Pass => Some(Mechanism::USER),
            Verb::Apop => Some(Mechanism::APOP),
            Verb::Auth => Mechanism::parse(self.first_word()?),
            _ => None,
        }
    }

    /// AUTH's initial response: what stands behind the mechanism, without blanks at its end.
    pub(super) fn initial_response(&self) -> Option<&'a [u8]> {
        let (word, argument) = (self.first_word()?, self.argument?);
        let rest = argument.get(word.len() + 1..)?.trim_ascii_end();
        (!rest.is_empty()).then_some(rest)
    }

    /// APOP's name and digest (RFC 1939 section 7): 32 hexadecimal digits behind the last space.
    pub(super) fn name_and_digest(&self) -> Option<(&'a [u8], &'a [u8])> {
        let argument = self.argument?;
        let space = memchr::memrchr(b' ', argument)?;
        let (name, digest) = (&argument[..space], &argument[space + 1..]);
        (digest.len() == 32 && digest.iter().all(u8::is_ascii_hexdigit)).then_some((name, digest))
    }

    fn first_word(&self) -> Option<&'a [u8]> {
        self.argument?.split(|&b| b == b' ').next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_at_its_first_space_and_nowhere_else() {
        let cases = [
            (&b"CAPA"[..], Verb::Capa, None),
            (b"capa ", Verb::Capa, Some(&b""[..])),
            (b"User joe smith ", Verb::User, Some(b"joe smith ")),
            (b"PASS  a  b ", Verb::Pass, Some(b" a  b ")),
            (b"PASS\tx", Verb::Unknown, None),
            (b" USER joe", Verb::Unknown, Some(b"USER joe")),
            (b"top 1 1", Verb::Mailbox, Some(b"1 1")),
            (b"UTF8", Verb::Language, None),
            (b"XCLIENT ADDR=10.0.0.1", Verb::Unknown, Some(b"ADDR=10.0.0.1")),
            (b"", Verb::Unknown, None),
        ];
        for (line, verb, argument) in cases {
            assert_eq!(Command::parse(line), Command { verb, argument }, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn auth_names_its_mechanism_and_may_bring_a_response() {
        let cases: &[(&str, Option<&str>, Option<&str>)] = &[
            ("AUTH", None, None),
            ("AUTH ", None, None),
            ("AUTH plain", Some("PLAIN"), None),
            ("AUTH PLAIN ", Some("PLAIN"), None),
            ("AUTH PLAIN =", Some("PLAIN"), Some("=")),
            ("AUTH PLAIN AGE= ", Some("PLAIN"), Some("AGE=")),
            ("AUTH PLAIN A B", Some("PLAIN"), Some("A B")),
            ("AUTH {x}", None, None),
            ("CAPA PLAIN", None, None),
        ];
        for (line, mechanism, initial) in cases {
            let command = Command::parse(line.as_bytes());
            assert_eq!(command.mechanism().map(|m| m.to_string()).as_deref(), *mechanism, "{line}");
            if mechanism.is_some() {
                assert_eq!(command.initial_response(), initial.map(str::as_bytes), "{line}");
            }
        }
    }

    #[test]
    fn apop_wants_a_name_and_32_digits() {
        let digest = "c4c9334bac560ecc979e58001b3e22fb";
        let named = |line: String| {
            Command::parse(line.as_bytes())
                .name_and_digest()
                .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
        };
        assert_eq!(named(format!("APOP joe {digest}")).as_deref(), Some("joe"));
        assert_eq!(named(format!("APOP joe smith {digest}")).as_deref(), Some("joe smith"));
        for bad in
            [format!("APOP {digest}"), format!("APOP joe {digest}0"), format!("APOP joe {digest} "), "APOP".into()]
        {
            assert_eq!(named(bad.clone()), None, "{bad}");
        }
        assert_eq!(named("APOP joe zzc9334bac560ecc979e58001b3e22fb".into()), None);
    }
}
