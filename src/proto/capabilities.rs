//! What a backend can do, and what of it a client is shown.

use super::{FrontSettings, Mechanism, Protocol};

/// What a backend says it can do, in its own words and order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// IMAP: atoms of CAPABILITY. POP3: lines of CAPA. SMTP: lines of the EHLO reply behind the first, without their code.
    /// Bounded by the `Back` that collected them: at most 128 lines of 512 octets.
    pub lines: Vec<String>,
    /// The SASL mechanisms it lists.
    pub mechanisms: Vec<Mechanism>,
    /// IMAP LOGIN (no LOGINDISABLED) or POP3 USER is open. Always false on SMTP.
    pub login_command: bool,
    /// POP3: the timestamp in the greeting, with its angle brackets (RFC 1939 section 7). It belongs to
    /// one connection; remembered capabilities keep it only as the sign that the backend has APOP.
    pub apop: Option<String>,
}

impl Capabilities {
    /// What may be claimed while nothing has been learnt of the backend: the protocol's minimum, and a login with a password.
    pub fn minimum(protocol: Protocol) -> Self {
        let (lines, mechanisms, login_command): (&[&str], _, _) = match protocol {
            Protocol::Imap => (&["IMAP4rev1"], vec![], true),
            Protocol::Pop3 => (&["USER", "UIDL", "TOP"], vec![], true),
            Protocol::Smtp => (&["8BITMIME"], vec![Mechanism::PLAIN, Mechanism::LOGIN], false),
        };
        Self { lines: lines.iter().map(ToString::to_string).collect(), mechanisms, login_command, apop: None }
    }

    /// Whether a line begins with this word (ASCII case ignored): `has("SIZE")` for `SIZE 1000`.
    pub fn has(&self, word: &str) -> bool {
        self.argument(word).is_some()
    }

    /// What follows the word on its line, if there is such a line: `""` where nothing does.
    pub fn argument(&self, word: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| {
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            first.eq_ignore_ascii_case(word).then_some(rest)
        })
    }

    /// Whether some way is open to hand over a plain password: the login command, PLAIN or LOGIN.
    pub fn takes_passwords(&self) -> bool {
        self.login_command || self.offers(&Mechanism::PLAIN) || self.offers(&Mechanism::LOGIN)
    }

    /// Whether the backend lists the SASL mechanism.
    pub fn offers(&self, mechanism: &Mechanism) -> bool {
        self.mechanisms.contains(mechanism)
    }

    /// Whether a login by `mechanism` can be brought to this backend, translated where need be.
    pub fn can_take(&self, mechanism: &Mechanism) -> bool {
        if mechanism.names_the_user_first() {
            self.takes_passwords()
        } else if *mechanism == Mechanism::APOP {
            self.apop.is_some()
        } else {
            self.offers(mechanism)
        }
    }

    /// The SASL mechanisms to show a client, ours for passwords first and then the backend's in its order.
    pub fn shown(&self, settings: &FrontSettings, tls_active: bool) -> Vec<Mechanism> {
        let passwords = [Mechanism::PLAIN, Mechanism::LOGIN].into_iter().filter(|_| self.takes_passwords());
        let others = self.mechanisms.iter().filter(|m| !m.names_the_user_first()).cloned();
        passwords.chain(others).filter(|m| settings.allows(m, tls_active)).collect()
    }
}
