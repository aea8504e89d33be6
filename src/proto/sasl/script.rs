//! The backend's side of an exchange: how a login is brought to what the backend offers.

use super::{Credentials, Login, Mechanism, encode};
use crate::proto::{Capabilities, Secret};
use bytes::{BufMut, BytesMut};
use std::collections::VecDeque;

/// How a login is handed to a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// IMAP LOGIN, or USER and PASS.
    Command,
    /// POP3 APOP.
    Apop,
    /// AUTH or AUTHENTICATE with this mechanism.
    Sasl(Mechanism),
}

impl Way {
    /// Chooses the way that loses nothing and costs the fewest turns: a mechanism that passes through as it is, PLAIN
    /// for PLAIN, the login command else, then what SASL offers. `None`: no way in.
    pub fn choose(login: &Login, capabilities: &Capabilities) -> Option<Self> {
        match &login.credentials {
            Credentials::Apop { .. } => capabilities.apop.as_ref().map(|_| Way::Apop),
            Credentials::Sasl { .. } => {
                capabilities.offers(&login.mechanism).then(|| Way::Sasl(login.mechanism.clone()))
            }
            Credentials::Password { authzid: Some(_), .. } => {
                capabilities.offers(&Mechanism::PLAIN).then_some(Way::Sasl(Mechanism::PLAIN))
            }
            Credentials::Password { .. } => {
                let command = || capabilities.login_command.then_some(Way::Command);
                let sasl = |mechanism: Mechanism| capabilities.offers(&mechanism).then_some(Way::Sasl(mechanism));
                if login.mechanism == Mechanism::PLAIN {
                    sasl(Mechanism::PLAIN).or_else(command).or_else(|| sasl(Mechanism::LOGIN))
                } else {
                    command().or_else(|| sasl(Mechanism::PLAIN)).or_else(|| sasl(Mechanism::LOGIN))
                }
            }
        }
    }
}

/// The responses we have ready for the backend's challenges; past them, a challenge is the client's to answer.
#[derive(Debug, Default)]
pub struct Script {
    ready: VecDeque<Secret<Vec<u8>>>,
    through: bool,
}

impl Script {
    /// The script for a login by `mechanism`.
    pub fn new(mechanism: &Mechanism, credentials: &Credentials) -> Self {
        match credentials {
            Credentials::Password { user, password, .. } if *mechanism == Mechanism::LOGIN => {
                let ready = [Secret::from(user.as_bytes()), password.clone()].into();
                Self { ready, through: false }
            }
            Credentials::Password { authzid, user, password } => {
                let authzid = authzid.as_ref().map_or(&[][..], |name| name.as_bytes());
                // One allocation, so that no copy of the password is left behind by a growing vector.
                let mut message =
                    Vec::with_capacity(authzid.len() + user.as_bytes().len() + password.declassify().len() + 2);
                for (field, end) in [(authzid, true), (user.as_bytes(), true), (password.declassify(), false)] {
                    message.extend_from_slice(field);
                    message.extend(end.then_some(0));
                }
                Self { ready: [Secret::new(message)].into(), through: false }
            }
            Credentials::Sasl { initial } => Self { ready: initial.iter().cloned().collect(), through: true },
            Credentials::Apop { .. } => Self::default(),
        }
    }

    /// Appends ` ` and the initial response (`=` for an empty one, RFC 4954 section 4) to the AUTH command, if
    /// there is one to send. Not for LOGIN, whose initial response many servers do not know.
    pub fn initial(&mut self, mechanism: &Mechanism, out: &mut BytesMut) {
        if *mechanism == Mechanism::LOGIN {
            return;
        }
        if let Some(response) = self.ready.pop_front() {
            match response.declassify().as_slice() {
                [] => out.put_slice(b" ="),
                bytes => {
                    out.put_u8(b' ');
                    encode(bytes, out);
                }
            }
        }
    }

    /// Answers a challenge with the next response and CRLF. `false`: it is for the client, if [`Script::passes_through`].
    pub fn answer(&mut self, out: &mut BytesMut) -> bool {
        match self.ready.pop_front() {
            Some(response) => {
                encode(response.declassify(), out);
                out.put_slice(b"\r\n");
                true
            }
            None => false,
        }
    }

    /// Whether nothing is left to be said of what the credentials make.
    pub fn is_said(&self) -> bool {
        self.ready.is_empty()
    }

    /// Whether challenges past the script are the client's to answer. Otherwise one is a fault: answer it with `*`.
    pub fn passes_through(&self) -> bool {
        self.through
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_brought_to_what_the_backend_offers() {
        let offers = |login_command, mechanisms: &[Mechanism]| Capabilities {
            login_command,
            mechanisms: mechanisms.to_vec(),
            ..Capabilities::default()
        };
        let login = |mechanism| Login::password(mechanism, b"joe", b"pw").expect("plain words");
        let (plain, named) = (Mechanism::PLAIN, Mechanism::LOGIN);
        let cases = [
            (login(plain.clone()), offers(true, std::slice::from_ref(&plain)), Some(Way::Sasl(plain.clone()))),
            (login(plain.clone()), offers(true, std::slice::from_ref(&named)), Some(Way::Command)),
            (login(plain.clone()), offers(false, std::slice::from_ref(&named)), Some(Way::Sasl(named.clone()))),
            (login(Mechanism::USER), offers(false, std::slice::from_ref(&plain)), Some(Way::Sasl(plain.clone()))),
            (login(named.clone()), offers(false, &[named.clone(), plain.clone()]), Some(Way::Sasl(plain.clone()))),
            (login(named), offers(false, &[Mechanism::CRAM_MD5]), None),
        ];
        for (login, capabilities, way) in cases {
            assert_eq!(Way::choose(&login, &capabilities), way, "{login:?} {capabilities:?}");
        }
    }

    #[test]
    fn the_script_says_plain_at_once_and_login_in_turn() {
        let login = Login::password(Mechanism::PLAIN, b"joe", b"secret").expect("plain words");
        let mut out = BytesMut::new();
        Script::new(&Mechanism::PLAIN, &login.credentials).initial(&Mechanism::PLAIN, &mut out);
        assert_eq!(&out[..], b" AGpvZQBzZWNyZXQ=");

        let mut script = Script::new(&Mechanism::LOGIN, &login.credentials);
        let mut out = BytesMut::new();
        script.initial(&Mechanism::LOGIN, &mut out);
        assert!(script.answer(&mut out) && script.answer(&mut out) && !script.answer(&mut out));
        assert_eq!(&out[..], b"am9l\r\nc2VjcmV0\r\n");
    }
}
