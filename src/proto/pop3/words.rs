//! What a client hears. Nothing it said itself is among it.
//!
//! A POP3 answer is one line of at most 512 octets (RFC 2449 section 4), and none is due but to a command: an unasked
//! `-ERR` would be taken for the answer to the next one. Hence some goodbyes are silent.

use crate::proto::{Goodbye, Refusal, Reply};
use bytes::{BufMut, BytesMut};

/// The longest text behind `+OK ` or `-ERR `, so that the line has no more than 512 octets.
const MAX_TEXT: usize = 500;

/// Codes of the backend that tell a user what nobody else can; they are passed on with the backend's text.
const PASSED_ON: [&str; 7] =
    ["EXPIRED", "AUTHORIZATIONFAILED", "CONTACTADMIN", "IN-USE", "LOGIN-DELAY", "SYS/PERM", "SYS/TEMP"];

/// Writes `+OK` and a text, cut to what a line may hold.
pub(super) fn ok(text: &str, out: &mut BytesMut) {
    line("+OK ", text, out);
}

/// Writes `-ERR` and a text, cut to what a line may hold.
pub(super) fn err(text: &str, out: &mut BytesMut) {
    line("-ERR ", text, out);
}

/// Writes the answer to a login that was accepted: the backend's own words, which some clients read ("3 messages").
pub(super) fn accepted(reply: &Reply, out: &mut BytesMut) {
    ok(if reply.text.is_empty() { "Logged in." } else { &reply.text }, out);
}

/// Writes the answer to wrong credentials (RFC 3206 section 4): always the same words, so that an unknown user, a
/// wrong password and a blocked user sound alike.
pub(super) fn rejected(reply: &Reply, out: &mut BytesMut) {
    let text = passed_on(reply);
    err(text.as_deref().unwrap_or("[AUTH] User name or password is wrong."), out);
}

/// Writes a service's own words. Where they begin with no response code, the one that fits stands before them.
pub(super) fn worded(reply: &Reply, is_temporary: bool, out: &mut BytesMut) {
    let code = match is_temporary {
        _ if reply.text.starts_with('[') => "",
        true => "[SYS/TEMP] ",
        false => "[AUTH] ",
    };
    err(&format!("{code}{}", reply.text), out);
}

/// Writes that it is not the credentials: the client keeps the password and tries again.
pub(super) fn unavailable(reply: Option<&Reply>, out: &mut BytesMut) {
    let text = reply.and_then(passed_on);
    err(text.as_deref().unwrap_or("[SYS/TEMP] The mail server is not available, try again later."), out);
}

/// The words for a refusal of ours, without `-ERR`.
pub(super) fn refusal(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotAllowed | Refusal::Denied => "[SYS/PERM] This service is not open to your address.",
        Refusal::Banned | Refusal::RateLimited => "[SYS/TEMP] Too many attempts from your address, try again later.",
        Refusal::TooManySessions => "[SYS/TEMP] Too many sessions, try again later.",
        Refusal::TlsRequired | Refusal::PipelinedStartTls => {
            "TLS is required: send STLS first, or connect to port 995."
        }
        Refusal::TlsOnPlaintextPort => "This port begins without TLS: send STLS first, or connect to port 995.",
        Refusal::MechanismDisabled => "This way to log in is not offered here.",
        Refusal::BadSyntax | Refusal::BareNewline => "Malformed command.",
        Refusal::TooLarge => "Line too long.",
        Refusal::Timeout => "[SYS/TEMP] Too slow, try again.",
        Refusal::Cancelled => "Authentication cancelled.",
        Refusal::TooManyErrors => "Too many bad commands.",
        Refusal::SenderMismatch | Refusal::LoginRequired | Refusal::RelayDenied => "[SYS/PERM] Not allowed.",
    }
}

/// The words for the end of a session, where there is room for any. A timeout has none (RFC 1939 section 3), and
/// after too many attempts the answer to the last one was the goodbye.
pub(super) fn goodbye(goodbye: Goodbye) -> Option<&'static str> {
    match goodbye {
        Goodbye::ShuttingDown => Some("[SYS/TEMP] The server is going down, try again later."),
        Goodbye::TooManyAttempts | Goodbye::Timeout | Goodbye::BackendLost => None,
    }
}

fn passed_on(reply: &Reply) -> Option<String> {
    let code = reply.code.as_deref().filter(|code| PASSED_ON.contains(code))?;
    Some(format!(
        "[{code}] {}",
        if reply.text.is_empty() { "Ask the administrator of this server." } else { &reply.text }
    ))
}

fn line(status: &str, text: &str, out: &mut BytesMut) {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    for part in [status, text[..end].trim_end(), "\r\n"] {
        out.put_slice(part.as_bytes());
    }
}
