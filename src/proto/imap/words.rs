//! What a client is told, word by word: short, friendly, and nothing of what it sent but its tag.

use super::capability;
use super::command::Tag;
use crate::proto::{Goodbye, Refusal, Reply};
use bytes::{BufMut, BytesMut};

/// The login has succeeded; the backend's capabilities go with it if it told them.
pub(super) fn accepted(tag: &Tag, reply: &Reply, out: &mut BytesMut) {
    match &reply.capabilities {
        Some(capabilities) => {
            out.put_slice(format!("{tag} OK [").as_bytes());
            capability::after_login(capabilities, out);
            out.put_slice(b"] Logged in.\r\n");
        }
        None => tagged(out, tag, "OK Logged in."),
    }
}

/// The same words for an unknown user, a wrong password and a blocked user (RFC 5530 section 3).
pub(super) fn rejected(reply: &Reply) -> &'static str {
    match reply.code.as_deref() {
        Some("EXPIRED") => "NO [EXPIRED] The password has expired.",
        Some("AUTHORIZATIONFAILED") => "NO [AUTHORIZATIONFAILED] Logging in for this user is not allowed.",
        _ => "NO [AUTHENTICATIONFAILED] Authentication failed.",
    }
}

/// A service's own words. Where they begin with no response code, the one that fits stands before them.
pub(super) fn worded(tag: &Tag, reply: &Reply, is_temporary: bool, out: &mut BytesMut) {
    let code = match is_temporary {
        _ if reply.text.starts_with('[') => "",
        true => "[UNAVAILABLE] ",
        false => "[AUTHENTICATIONFAILED] ",
    };
    tagged(out, tag, &format!("NO {code}{}", reply.text));
}

/// No verdict on the credentials: a client keeps the password and tries again. Three codes are the backend's to say.
pub(super) fn unavailable(reply: Option<&Reply>) -> &'static str {
    match reply.and_then(|reply| reply.code.as_deref()) {
        Some("CONTACTADMIN") => "NO [CONTACTADMIN] Ask your mail provider for help.",
        Some("INUSE" | "IN-USE") => "NO [INUSE] The mailbox is in use. Try again later.",
        Some("LIMIT") => "NO [LIMIT] A limit is reached. Try again later.",
        _ => "NO [UNAVAILABLE] The mail server is not available now. Try again later.",
    }
}

/// The tagged answer where we say no.
pub(super) fn refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::TlsRequired => "NO [PRIVACYREQUIRED] Use TLS: connect to port 993 or send STARTTLS.",
        Refusal::MechanismDisabled => "NO [CANNOT] This way to log in is not available here.",
        Refusal::Banned | Refusal::RateLimited => "NO [UNAVAILABLE] Too many attempts. Try again later.",
        Refusal::Timeout => "NO [UNAVAILABLE] This took too long. Try again later.",
        Refusal::TooManySessions => "NO [LIMIT] Too many sessions. Close one or try again later.",
        Refusal::NotAllowed | Refusal::Denied => "NO [NOPERM] Logging in from your address is not allowed.",
        Refusal::BadSyntax => "BAD A name or password is missing, or not as it should be.",
        Refusal::SenderMismatch
        | Refusal::LoginRequired
        | Refusal::RelayDenied
        | Refusal::PipelinedStartTls
        | Refusal::BareNewline
        | Refusal::TooLarge
        | Refusal::Cancelled
        | Refusal::TooManyErrors
        | Refusal::TlsOnPlaintextPort => "NO This is not allowed here.",
    }
}

/// The goodbye in the same write as the refusal, where the session ends with it.
pub(super) fn goodbye_after(refusal: Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::Banned | Refusal::RateLimited => Some("BYE Try again later."),
        Refusal::TooManySessions => Some("BYE Too many sessions."),
        Refusal::NotAllowed | Refusal::Denied => Some("BYE Your address is not allowed here."),
        Refusal::Timeout => Some("BYE Too much time has passed."),
        _ => None,
    }
}

/// What stands in the greeting's place.
pub(super) fn before_greeting(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotAllowed | Refusal::Denied => "BYE Your address is not allowed here.",
        Refusal::TooManySessions => "BYE [UNAVAILABLE] Too many sessions. Try again later.",
        _ => "BYE [UNAVAILABLE] Too many connections. Try again later.",
    }
}

/// The last words of a session.
pub(super) fn farewell(goodbye: Goodbye) -> &'static str {
    match goodbye {
        Goodbye::TooManyAttempts => "BYE Too many failed logins.",
        Goodbye::Timeout => "BYE Too much time has passed.",
        Goodbye::ShuttingDown => "BYE The server is going down. Connect again.",
        Goodbye::BackendLost => "BYE The mail server has ended the session.",
    }
}

pub(super) fn tagged(out: &mut BytesMut, tag: &Tag, text: &str) {
    out.put_slice(format!("{tag} {text}\r\n").as_bytes());
}

pub(super) fn untagged(out: &mut BytesMut, text: &str) {
    out.put_slice(format!("* {text}\r\n").as_bytes());
}

pub(super) fn say_bad(out: &mut BytesMut, tag: Option<&Tag>, text: &str) {
    match tag {
        Some(tag) => tagged(out, tag, &format!("BAD {text}")),
        None => untagged(out, &format!("BAD {text}")),
    }
}
