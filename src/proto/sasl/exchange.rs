//! The client's side of an exchange: what a front half does with an AUTH and the lines after it.
//!
//! ```text
//!   PLAIN    begin ─ no initial → Ask("")          ─ line → Login
//!   LOGIN    begin ─ no initial → Ask("Username:") ─ line → Ask("Password:") ─ line → Login
//!   others   begin → Login, then after each challenge  ─ line → Respond
//!   any line "*" → Cancelled          anything that is not base64 → Bad
//! ```

use super::{Credentials, Login, Mechanism, UserName, decode};
use crate::proto::Secret;

/// An authentication exchange under way.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    state: State,
}

#[derive(Debug)]
enum State {
    Plain,
    LoginUser,
    LoginPassword(UserName),
    Through,
}

/// What a front half has to do next.
#[derive(Debug)]
pub enum Outcome {
    /// Send this as a challenge (not yet encoded) and wait for a line.
    Ask(&'static [u8]),
    /// Report the attempt.
    Login(Login),
    /// Report the response to the backend's challenge.
    Respond(Secret<Vec<u8>>),
    /// The client sent `*`: answer that, the exchange is over.
    Cancelled,
    /// Not base64, a wrong number of fields, a forbidden byte: answer that, the exchange is over.
    Bad,
}

impl Exchange {
    /// Begins with the argument of AUTH or AUTHENTICATE: base64, `=` for an empty response, or none.
    pub fn begin(mechanism: Mechanism, initial: Option<&[u8]>) -> (Self, Outcome) {
        let initial = match initial.map(|text| if text == b"=" { Ok(Secret::new(Vec::new())) } else { decode(text) }) {
            Some(Err(_)) => return (Self { mechanism, state: State::Through }, Outcome::Bad),
            Some(Ok(response)) => Some(response),
            None => None,
        };
        let state = match mechanism.as_str() {
            "PLAIN" => State::Plain,
            "LOGIN" => State::LoginUser,
            _ => State::Through,
        };
        let mut exchange = Self { mechanism, state };
        let outcome = match (&exchange.state, initial) {
            (State::Through, initial) => Outcome::Login(Login {
                mechanism: exchange.mechanism.clone(),
                credentials: Credentials::Sasl { initial },
            }),
            (State::LoginUser, None) => Outcome::Ask(b"Username:"),
            (_, None) => Outcome::Ask(b""),
            (_, Some(response)) => exchange.response(response),
        };
        (exchange, outcome)
    }

    /// Takes the client's next line, without its line end.
    pub fn line(&mut self, line: &[u8]) -> Outcome {
        match line {
            b"*" => Outcome::Cancelled,
            text => decode(text).map_or(Outcome::Bad, |response| self.response(response)),
        }
    }

    /// The mechanism under way.
    pub fn mechanism(&self) -> &Mechanism {
        &self.mechanism
    }

    fn response(&mut self, response: Secret<Vec<u8>>) -> Outcome {
        match std::mem::replace(&mut self.state, State::Through) {
            State::Plain => plain(response.declassify()).map_or(Outcome::Bad, Outcome::Login),
            State::LoginUser => match UserName::new(response.declassify()) {
                Ok(user) => {
                    self.state = State::LoginPassword(user);
                    Outcome::Ask(b"Password:")
                }
                Err(_) => Outcome::Bad,
            },
            State::LoginPassword(user) => Login::password(Mechanism::LOGIN, user.as_bytes(), response.declassify())
                .map_or(Outcome::Bad, Outcome::Login),
            State::Through => Outcome::Respond(response),
        }
    }
}

/// RFC 4616 section 2: `[authzid] NUL authcid NUL passwd`, exactly two NULs.
fn plain(message: &[u8]) -> Option<Login> {
    let mut fields = message.split(|&b| b == 0);
    let (authzid, user, password) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() {
        return None;
    }
    let mut login = Login::password(Mechanism::PLAIN, user, password).ok()?;
    if !authzid.is_empty() && authzid != user {
        let other = UserName::new(authzid).ok()?;
        if let Credentials::Password { authzid, .. } = &mut login.credentials {
            *authzid = Some(other);
        }
    }
    Some(login)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(outcome: &Outcome) -> String {
        match outcome {
            Outcome::Ask(challenge) => format!("ask {}", String::from_utf8_lossy(challenge)),
            Outcome::Login(login) => match &login.credentials {
                Credentials::Password { authzid, user, password } => format!(
                    "login {}{} {}",
                    authzid.as_ref().map(|a| a.display() + " as ").unwrap_or_default(),
                    user.display(),
                    String::from_utf8_lossy(password.declassify())
                ),
                _ => "through".to_owned(),
            },
            Outcome::Respond(response) => format!("respond {}", String::from_utf8_lossy(response.declassify())),
            Outcome::Cancelled => "cancelled".to_owned(),
            Outcome::Bad => "bad".to_owned(),
        }
    }

    #[test]
    fn exchanges_go_as_the_mechanisms_have_it() {
        /// Mechanism, initial response, then the client's lines; what comes of each.
        type Case<'a> = (&'a str, Option<&'a str>, &'a [&'a str], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            ("PLAIN", Some("AGpvZQBzZWNyZXQ="), &[], &["login joe secret"]),
            ("PLAIN", None, &["AGpvZQBzZWNyZXQ="], &["ask ", "login joe secret"]),
            ("PLAIN", Some("am9lAGpvZQBzZWNyZXQ="), &[], &["login joe secret"]),
            ("PLAIN", Some("Ym9zcwBqb2UAc2VjcmV0"), &[], &["login boss as joe secret"]),
            ("PLAIN", Some("AGpvZQBzZWNyZXQ"), &[], &["login joe secret"]),
            ("PLAIN", Some("!!!"), &[], &["bad"]),
            ("PLAIN", Some("="), &[], &["bad"]),
            ("PLAIN", Some("AGpvZQ=="), &[], &["bad"]),
            ("PLAIN", Some("AGpvZQBzZWNyZXQAeA=="), &[], &["bad"]),
            ("PLAIN", Some("AGpvDQplAHNlY3JldA=="), &[], &["bad"]),
            ("PLAIN", None, &["*"], &["ask ", "cancelled"]),
            ("LOGIN", None, &["am9l", "c2VjcmV0"], &["ask Username:", "ask Password:", "login joe secret"]),
            ("LOGIN", Some("am9l"), &["c2VjcmV0"], &["ask Password:", "login joe secret"]),
            ("LOGIN", None, &["am9l", "*"], &["ask Username:", "ask Password:", "cancelled"]),
            ("LOGIN", None, &["am9l", "cw0KcQ=="], &["ask Username:", "ask Password:", "bad"]),
            ("CRAM-MD5", None, &["am9lIGFi"], &["through", "respond joe ab"]),
            ("CRAM-MD5", None, &["*"], &["through", "cancelled"]),
        ];
        for (mechanism, initial, lines, expected) in cases {
            let mechanism = Mechanism::parse(mechanism.as_bytes()).expect("a mechanism of the table");
            let (mut exchange, first) = Exchange::begin(mechanism, initial.map(str::as_bytes));
            let mut seen = vec![text(&first)];
            seen.extend(lines.iter().map(|line| text(&exchange.line(line.as_bytes()))));
            assert_eq!(seen, *expected, "{exchange:?} {initial:?}");
        }
    }
}
