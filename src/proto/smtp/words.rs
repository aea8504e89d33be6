//! What a client is told by us, in one place: front and follower say the same in the same case.
//!
//! Nothing the client sent stands in an answer, and every one has an enhanced code (RFC 2034, RFC 3463).

use crate::proto::{Goodbye, Refusal, Reply};
use bytes::BytesMut;

pub(super) const OK: &str = "250 2.0.0 OK";
/// A service's own words behind its code, in ASCII (RFC 5321 section 4.2); what is temporary has no code that says otherwise.
pub(super) fn worded(reply: &Reply, is_temporary: bool) -> String {
    let is_permanent = !reply.code.as_deref().is_some_and(|code| code.starts_with('4'));
    let line = if is_temporary && is_permanent { format!("454 4.7.0 {}", reply.text) } else { reply.to_line() };
    line.replace(|c: char| !c.is_ascii(), "?")
}

pub(super) const BYE: &str = "221 2.0.0 Bye";
pub(super) const HELP: &str = "214 2.0.0 See RFC 5321";
pub(super) const CANNOT_VERIFY: &str = "252 2.1.5 Send some mail and I will try my best";
pub(super) const GO_AHEAD_FOR_TLS: &str = "220 2.0.0 Ready to start TLS";

pub(super) const STARTTLS_FIRST: &str = "530 5.7.0 Must issue a STARTTLS command first";
pub(super) const LOGIN_FIRST: &str = "530 5.7.0 Authentication required";
pub(super) const HELLO_FIRST: &str = "503 5.5.1 Send EHLO or HELO first";
pub(super) const MAIL_FIRST: &str = "503 5.5.1 Need MAIL first";
pub(super) const TLS_ALREADY: &str = "503 5.5.1 TLS is active already";
pub(super) const NO_TLS_NOW: &str = "503 5.5.1 STARTTLS is not possible here";
pub(super) const NO_LOGIN_NOW: &str = "503 5.5.1 AUTH is not possible here";
pub(super) const TOO_MANY_HELLOS: &str = "503 5.5.1 Greeted too often";

pub(super) const NO_COMMAND: &str = "500 5.5.1 Command not recognized";
pub(super) const NO_SUCH_COMMAND: &str = "502 5.5.1 Command not implemented";
pub(super) const NOT_FOR_YOU: &str = "550 5.7.0 Not authorized";
pub(super) const NO_ARGUMENT_HERE: &str = "501 5.5.4 No parameter allowed here";
pub(super) const BAD_NAME: &str = "501 5.5.4 A host name is needed";
pub(super) const BAD_ARGUMENT: &str = "501 5.5.4 Syntax error in parameters";
pub(super) const UNKNOWN_PARAMETER: &str = "555 5.5.4 Parameter not recognized or not implemented";
pub(super) const BAD_SENDER: &str = "501 5.1.7 Bad sender address syntax";
pub(super) const BAD_RECIPIENT: &str = "501 5.1.3 Bad recipient address syntax";
pub(super) const NEEDS_SMTPUTF8: &str = "553 5.6.7 An address with such characters needs SMTPUTF8";
pub(super) const TOO_LONG: &str = "500 5.5.2 Line too long";
pub(super) const BAD_LINE_END: &str = "500 5.5.2 A line ends with CRLF and holds no other CR, LF or NUL";

pub(super) const BAD_BASE64: &str = "501 5.5.2 Cannot decode the response";
pub(super) const CANCELLED: &str = "501 5.7.0 Authentication cancelled";
pub(super) const NO_SUCH_MECHANISM: &str = "504 5.5.4 Authentication mechanism not supported";
pub(super) const MECHANISM_NEEDS_TLS: &str = "538 5.7.11 Encryption required for this mechanism";
pub(super) const LOGGED_IN: &str = "235 2.7.0 Authentication successful";
pub(super) const WRONG_PASSWORD: &str = "535 5.7.8 Authentication credentials invalid";
pub(super) const LOGIN_UNAVAILABLE: &str = "454 4.7.0 Temporary authentication failure";

pub(super) const MAIL_UNAVAILABLE: &str = "451 4.3.0 Mail server temporarily unavailable, try again later";
pub(super) const RELAY_DENIED: &str = "554 5.7.1 Relay access denied";
pub(super) const TOO_MANY_RECIPIENTS: &str = "452 4.5.3 Too many recipients";
pub(super) const TOO_LARGE: &str = "552 5.3.4 Message too large";
pub(super) const BARE_NEWLINE: &str = "550 5.5.2 Message holds a bare newline: CR or LF alone";
pub(super) const HOLDS_NUL: &str = "550 5.5.2 Message holds NUL, which no message may";
pub(super) const BACKEND_LOST: &str = "421 4.3.0 Mail server lost, closing connection";
pub(super) const TOO_MANY_ERRORS: &str = "421 4.7.0 Too many errors, closing connection";
pub(super) const TOO_MANY_LONG_LINES: &str = "421 4.7.0 Too many lines past the bound, closing connection";

/// What stands for a refusal, at a login or a command of its own.
pub(super) fn refusal(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotAllowed | Refusal::Denied => "554 5.7.1 Access denied",
        Refusal::Banned | Refusal::RateLimited => "421 4.7.0 Try again later, closing connection",
        Refusal::TooManySessions => "421 4.7.0 Too many sessions, closing connection",
        Refusal::TlsRequired => STARTTLS_FIRST,
        Refusal::MechanismDisabled => NO_SUCH_MECHANISM,
        Refusal::SenderMismatch => "553 5.7.1 Sender address is not owned by the user logged in",
        Refusal::LoginRequired => LOGIN_FIRST,
        Refusal::RelayDenied => RELAY_DENIED,
        Refusal::BadSyntax => BAD_ARGUMENT,
        Refusal::PipelinedStartTls | Refusal::TlsOnPlaintextPort => "421 4.7.0 Closing connection",
        Refusal::BareNewline => BARE_NEWLINE,
        Refusal::TooLarge => TOO_LARGE,
        Refusal::Timeout => goodbye(Goodbye::Timeout),
        Refusal::Cancelled => CANCELLED,
        Refusal::TooManyErrors => TOO_MANY_ERRORS,
    }
}

/// What stands for a refusal at MAIL.
pub(super) fn sender_refusal(reason: Refusal) -> &'static str {
    match reason {
        Refusal::RateLimited | Refusal::TooManySessions | Refusal::Banned => {
            "450 4.7.1 Too many messages, try again later"
        }
        reason => refusal(reason),
    }
}

/// What stands for a refusal at RCPT.
pub(super) fn recipient_refusal(reason: Refusal) -> &'static str {
    match reason {
        Refusal::RateLimited | Refusal::TooManySessions | Refusal::Banned => TOO_MANY_RECIPIENTS,
        reason => refusal(reason),
    }
}

/// One of these texts as a reply, for the event.
pub(super) fn reply(text: &str) -> Reply {
    let (code, rest) = text.split_at_checked("250 2.0.0".len()).unwrap_or((text, ""));
    Reply { code: Some(code.to_owned()), text: rest.trim_start().to_owned(), capabilities: None }
}

/// The last words of a session.
pub(super) fn goodbye(goodbye: Goodbye) -> &'static str {
    match goodbye {
        Goodbye::TooManyAttempts => "421 4.7.0 Too many failed logins, closing connection",
        Goodbye::Timeout => "421 4.4.2 Timeout, closing connection",
        Goodbye::ShuttingDown => "421 4.3.2 Service shutting down, closing connection",
        Goodbye::BackendLost => BACKEND_LOST,
    }
}

/// Appends one line.
pub(super) fn line(text: &str, out: &mut BytesMut) {
    out.reserve(text.len() + 2);
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends the answer to EHLO: our name, then a line for each extension (RFC 5321 section 4.1.1.1).
pub(super) fn extensions(hostname: &str, extensions: &[String], out: &mut BytesMut) {
    let lines = std::iter::once(hostname).chain(extensions.iter().map(String::as_str));
    out.reserve(lines.clone().map(|text| "250 \r\n".len() + text.len()).sum());
    for (index, text) in lines.enumerate() {
        out.extend_from_slice(if index == extensions.len() { b"250 " } else { b"250-" });
        line(text, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_an_ehlo_answer_has_no_hyphen() {
        let mut out = BytesMut::new();
        extensions("mail.example.net", &[], &mut out);
        extensions("mail.example.net", &["SIZE 1".into(), "DSN".into()], &mut out);
        assert_eq!(&out[..], b"250 mail.example.net\r\n250-mail.example.net\r\n250-SIZE 1\r\n250 DSN\r\n");
    }

    #[test]
    fn a_ban_and_a_full_gateway_are_goodbyes_that_bring_the_client_back() {
        for reason in [Refusal::Banned, Refusal::RateLimited, Refusal::TooManySessions] {
            assert!(refusal(reason).starts_with("421 4.7.0 "), "{reason}");
        }
        assert!(refusal(Refusal::NotAllowed).starts_with("554 5.7.1 "));
    }
}
