//! What became of an attempt, in words that somebody who only wants his mail understands.

use crate::observe::{Attempt, Kind};

/// How it stands with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// It worked.
    Good,
    /// It did not, and the reader can do something.
    Bad,
    /// It did not, and passes by itself.
    Wait,
}

/// An attempt, told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Story {
    pub(super) tone: Tone,
    /// What happened.
    pub(super) what: String,
    /// What to do about it; empty where there is nothing to do.
    pub(super) cure: &'static str,
}

/// Tells an attempt.
pub(super) fn tell(attempt: &Attempt) -> Story {
    let (tone, what, cure) = match (attempt.kind, &*attempt.reason) {
        (Kind::AuthOk, _) => (Tone::Good, "The login worked.", ""),
        (Kind::AuthFailed, "stale_password") => (
            Tone::Bad,
            "The password was an old one: it worked once, and has been changed since.",
            "Put the new password into this mail program. A telephone or a second computer may have the old one too.",
        ),
        (Kind::AuthFailed, "repeated") => (
            Tone::Bad,
            "The same wrong password was tried again.",
            "A mail program on some device has it saved. Find that device, and put the right password in.",
        ),
        (Kind::AuthFailed, _) => (
            Tone::Bad,
            "The user name or the password was wrong.",
            "Type both anew. Look out for capital letters, and for a user name that is not complete.",
        ),
        (Kind::AuthError, _) => (
            Tone::Wait,
            "The mail server could not check the password just then.",
            "Nothing is wrong with your settings. Try again in a few minutes.",
        ),
        (Kind::TlsFailed, "too_old") => return too_old(attempt),
        (Kind::TlsFailed, reason) => tls(reason),
        (_, reason) => refused(reason),
    };
    Story { tone, what: what.to_owned(), cure }
}

fn too_old(attempt: &Attempt) -> Story {
    let version = attempt.version.unwrap_or("an old encryption");
    Story {
        tone: Tone::Bad,
        what: format!("The mail program speaks only {version}, which is no longer safe."),
        cure: "Update the mail program or the device. TLS 1.2 or newer is needed.",
    }
}

fn tls(reason: &str) -> (Tone, &'static str, &'static str) {
    match reason {
        "certificate_rejected" => (
            Tone::Bad,
            "The mail program did not trust the server's certificate.",
            "Check that the server's name is typed exactly as above, and the date on the device. If there is a certificate authority to install above, install it.",
        ),
        "plaintext_on_tls_port" | "not_tls" => (
            Tone::Bad,
            "The mail program did not begin with encryption.",
            "In its settings choose SSL/TLS, with the port that stands above.",
        ),
        "no_common_version" | "no_common_cipher" => (
            Tone::Bad,
            "The mail program knows no encryption that is safe today.",
            "Update the mail program or the device. TLS 1.2 or newer is needed.",
        ),
        "no_alpn" => (
            Tone::Bad,
            "A program that is none for this kind of mail came to this port.",
            "Check the port: it differs between IMAP, POP3 and outgoing mail.",
        ),
        "no_client_certificate" => (
            Tone::Bad,
            "The mail program showed no certificate of yours, and without one nobody comes in here.",
            "Install the certificate that you were given, and choose it in the mail program's account settings.",
        ),
        "client_certificate" => (
            Tone::Bad,
            "The certificate that the mail program showed is expired, revoked, or not one for this server.",
            "Ask for a new one, or choose the one you were given in the mail program's account settings.",
        ),
        "timeout" => (
            Tone::Wait,
            "The connection was too slow: encryption was not agreed on in time.",
            "Try again, or from another network.",
        ),
        "client_closed" => (
            Tone::Bad,
            "The mail program hung up while encryption was being agreed on.",
            "Often it asks whether to trust the certificate, and waits for your answer.",
        ),
        _ => (
            Tone::Bad,
            "Encryption could not be agreed on.",
            "Choose SSL/TLS in the mail program, and update it. A virus scanner that looks into mail can be the cause.",
        ),
    }
}

fn refused(reason: &str) -> (Tone, &'static str, &'static str) {
    match reason {
        "banned" => (
            Tone::Wait,
            "Too many wrong passwords came from your address, so it has to wait.",
            "Correct the password in every device before the time is over, or it begins anew.",
        ),
        "rate_limited" => (
            Tone::Wait,
            "Too many attempts came in a short time.",
            "Wait some minutes. A mail program that checks for mail every few seconds can be the cause.",
        ),
        "too_many_sessions" => (
            Tone::Wait,
            "Too many connections were open at once.",
            "Close mail programs that you do not need, and try again in some minutes.",
        ),
        "not_allowed" | "denied" => (
            Tone::Bad,
            "Mail may not be used from the network that you are in.",
            "Use your usual network, or ask whom to turn to below.",
        ),
        "tls_required" | "plaintext_stage" | "ratchet" => (
            Tone::Bad,
            "The mail program wanted to send the password without encryption.",
            "In its settings choose SSL/TLS (or STARTTLS), with the port that stands above.",
        ),
        "mechanism_disabled" => (
            Tone::Bad,
            "The mail program wanted to log in in a way that there is not.",
            "In its settings choose “Normal password” as the way of authentication.",
        ),
        "tls_on_plaintext_port" => (
            Tone::Bad,
            "The mail program began with encryption at once, on a port where it comes later.",
            "Choose STARTTLS for this port, or SSL/TLS with its own port; both stand above.",
        ),
        "timeout" => (
            Tone::Wait,
            "The mail program took too long to log in.",
            "Try again. It may have waited for you to type a password.",
        ),
        "cancelled" => (Tone::Bad, "The mail program broke off the login.", "Try again."),
        _ => (
            Tone::Bad,
            "The mail program said something that is not understood here.",
            "Check the kind of server and the port, and update the program.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Refusal, Service};
    use crate::tls::FAILURE_REASONS;
    use std::time::SystemTime;

    fn told(kind: Kind, reason: &str, version: Option<&'static str>) -> Story {
        let (at, service, tls) = (SystemTime::UNIX_EPOCH, Service::Imap, true);
        tell(&Attempt { at, kind, service, tls, reason: reason.into(), version })
    }

    #[test]
    fn a_customer_reads_what_happened_and_what_to_do() {
        for (kind, reason, what) in [
            (Kind::AuthFailed, "bad_credentials", "password was wrong"),
            (Kind::AuthFailed, "stale_password", "an old one"),
            (Kind::AuthError, "backend_down", "could not check"),
            (Kind::AuthRefused, "tls_required", "without encryption"),
            (Kind::ConnectionRefused, "banned", "Too many wrong passwords"),
            (Kind::TlsFailed, "certificate_rejected", "did not trust"),
        ] {
            let story = told(kind, reason, None);
            assert!(story.what.contains(what) && !story.cure.is_empty(), "{reason}: {story:?}");
        }
        assert!(told(Kind::TlsFailed, "too_old", Some("TLS 1.0")).what.contains("speaks only TLS 1.0"));
    }

    #[test]
    fn no_word_of_ours_stands_in_a_story() {
        let refusals = [Refusal::NotAllowed, Refusal::Banned, Refusal::MechanismDisabled, Refusal::TlsOnPlaintextPort];
        let words = refusals.iter().map(|refusal| refusal.as_str()).chain(FAILURE_REASONS.iter().copied());
        for word in words {
            for kind in [Kind::AuthRefused, Kind::ConnectionRefused, Kind::TlsFailed] {
                let story = told(kind, word, None);
                assert!(!story.what.contains('_') && story.what.ends_with('.'), "{word}: {story:?}");
            }
        }
    }
}
