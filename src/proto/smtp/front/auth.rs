//! AUTH before a login (RFC 4954): which mechanism may be used now, and the client's lines of the exchange.

use super::super::words;
use super::{SmtpFront, State};
use crate::proto::sasl::{Exchange, Outcome, encode};
use crate::proto::{Mechanism, Refusal, Step, TlsRule, Violation};
use bytes::BytesMut;

impl SmtpFront {
    /// Takes an AUTH with or without an EHLO before it: devices exist that send none, and none is needed to decide.
    pub(super) fn auth(&mut self, argument: &[u8], out: &mut BytesMut) -> Result<Step, Violation> {
        let mut parts = argument.split(|b| matches!(b, b' ' | b'\t')).filter(|part| !part.is_empty());
        let name = parts.next().unwrap_or_default();
        let (initial, too_many) = (parts.next(), parts.next().is_some());
        let needs_tls = !self.tls_active && self.settings.tls == TlsRule::StartTls;
        let Some(mechanism) = Mechanism::parse(name) else {
            let text = match name {
                _ if needs_tls => words::STARTTLS_FIRST,
                b"" => words::BAD_ARGUMENT,
                _ => words::NO_SUCH_MECHANISM,
            };
            return self.complain(text, out);
        };
        let denied = |refusal| Step::Denied { refusal, mechanism: mechanism.clone() };
        if needs_tls {
            return self.deny(words::STARTTLS_FIRST, denied(Refusal::TlsRequired), out);
        }
        let possible = self.capabilities.can_take(&mechanism);
        if possible && self.settings.allows(&mechanism, true) && !self.settings.allows(&mechanism, self.tls_active) {
            return self.deny(words::MECHANISM_NEEDS_TLS, denied(Refusal::TlsRequired), out);
        }
        if !possible || !self.settings.allows(&mechanism, self.tls_active) {
            return self.deny(words::NO_SUCH_MECHANISM, denied(Refusal::MechanismDisabled), out);
        }
        if too_many {
            return self.deny(words::BAD_ARGUMENT, denied(Refusal::BadSyntax), out);
        }
        let (exchange, outcome) = Exchange::begin(mechanism, initial);
        self.outcome(exchange, outcome, out)
    }

    /// A line of the exchange. One that ends without CRLF, or holds a CR or NUL, is no base64 either.
    pub(super) fn response(
        &mut self,
        mut exchange: Exchange,
        line: &[u8],
        bare_lf: bool,
        out: &mut BytesMut,
    ) -> Result<Step, Violation> {
        let outcome = if bare_lf { Outcome::Bad } else { exchange.line(line) };
        self.outcome(exchange, outcome, out)
    }

    fn outcome(&mut self, exchange: Exchange, outcome: Outcome, out: &mut BytesMut) -> Result<Step, Violation> {
        match outcome {
            Outcome::Ask(challenge) => {
                challenge_line(challenge, out);
                self.state = State::Response(exchange);
                Ok(Step::More)
            }
            Outcome::Login(login) => {
                self.state = State::Deciding(exchange);
                Ok(Step::Login(login))
            }
            Outcome::Respond(response) => {
                self.state = State::Deciding(exchange);
                Ok(Step::Respond(response))
            }
            Outcome::Cancelled => self.deny(words::CANCELLED, Step::Cancelled, out),
            Outcome::Bad => {
                let step = Step::Denied { refusal: Refusal::BadSyntax, mechanism: exchange.mechanism().clone() };
                self.deny(words::BAD_BASE64, step, out)
            }
        }
    }
}

/// `334 ` and the challenge in base64 (RFC 4954 section 4).
pub(super) fn challenge_line(challenge: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(b"334 ");
    encode(challenge, out);
    out.extend_from_slice(b"\r\n");
}
