//! What a handshake came to: the facts of one that succeeded, the reason of one that failed.

use super::holder::Holder;
use rustls::{
    AlertDescription, CertificateError, CipherSuite, Error, HandshakeKind, InvalidMessage, PeerIncompatible,
    PeerMisbehaved,
};
use rustls::{CommonState, ProtocolVersion};

/// What was agreed on with a client, for the `tls` field of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// The cipher suite as IANA writes it: `TLS_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// The key exchange as IANA writes it (`X25519MLKEM768`, `x25519`, `secp256r1`). None where a TLS 1.2 session was
    /// resumed: there was no exchange.
    pub group: Option<&'static str>,
    /// The name the client asked for, in lower case: at most 253 bytes of ASCII.
    pub sni: Option<String>,
    /// The protocol agreed on by ALPN, if the client sent any.
    pub alpn: Option<String>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// Whom the client has proved to be by a certificate, if it was asked for one and had one.
    pub client: Option<Box<Holder>>,
}

impl Facts {
    /// Reads the facts off a connection whose handshake is done, whichever side of it is ours; the name is told apart from it
    /// ([`hearing_the_name`]), and so is who the client is.
    ///
    /// [`hearing_the_name`]: super::hearing_the_name
    pub fn of(connection: &CommonState, sni: Option<String>) -> Self {
        Self {
            version: version(connection.protocol_version()),
            cipher: connection.negotiated_cipher_suite().map_or("unknown", |suite| cipher(suite.suite())),
            group: connection.negotiated_key_exchange_group().and_then(|group| match group.name().as_str() {
                Some("X25519") => Some("x25519"),
                Some("X448") => Some("x448"),
                name => name,
            }),
            sni,
            alpn: connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            client: None,
        }
    }
}

/// Every word that [`failure_reason`] says, for metrics that want their labels from the start.
pub const FAILURE_REASONS: &[&str] = &[
    "no_common_version",
    "no_common_cipher",
    "no_alpn",
    "bad_sni",
    "not_tls",
    "bad_record",
    "certificate_rejected",
    "peer_alert",
    "no_client_certificate",
    "client_certificate",
    "misbehaved",
    "internal",
];

/// Puts a failed handshake into one of [`FAILURE_REASONS`], a set that no client can make larger. That it took too long
/// or broke off is the caller's to see.
///
/// `certificate_rejected` is the one to watch: clients that do not trust what they are shown.
pub fn failure_reason(error: &Error) -> &'static str {
    match error {
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13,
        ) => "no_common_version",
        Error::PeerIncompatible(_) => "no_common_cipher",
        Error::NoApplicationProtocol => "no_alpn",
        Error::PeerMisbehaved(PeerMisbehaved::ServerNameMustContainOneHostName)
        | Error::InvalidMessage(InvalidMessage::InvalidServerName) => "bad_sni",
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => "not_tls",
        Error::InvalidMessage(_)
        | Error::DecryptError
        | Error::PeerSentOversizedRecord
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => "bad_record",
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA,
        ) => "certificate_rejected",
        Error::AlertReceived(_) => "peer_alert",
        Error::NoCertificatesPresented => "no_client_certificate",
        Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => "client_certificate",
        Error::PeerMisbehaved(_) => "misbehaved",
        _ => "internal",
    }
}

/// Says in a person's words why a handshake with a client failed. Nothing in them is the client's.
pub fn failure_words(error: &Error) -> String {
    let fault = match error {
        Error::NoCertificatesPresented => {
            return "the client showed no certificate, and without one nobody comes in here".to_owned();
        }
        Error::InvalidCertificate(fault) => fault,
        Error::InvalidCertRevocationList(fault) => {
            return format!(
                "the client's certificate is held against a list of revoked ones that is of no use: {fault:?}"
            );
        }
        other => return other.to_string(),
    };
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the client's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the client's certificate is not valid yet: is our clock right?".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "the client's certificate is signed by nobody in tls.client_ca, or came without what is between".to_owned()
        }
        CertificateError::BadSignature => {
            "the client did not prove to have its certificate's key, or that is too weak (RSA below 2048 bits)"
                .to_owned()
        }
        CertificateError::Revoked => "the client's certificate is revoked".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the client's certificate is for other purposes than a client's (its extended key usage)".to_owned()
        }
        CertificateError::Other(fault) => format!("the client's certificate is refused: {}", fault.0),
        other => format!("the client's certificate is refused: {other}"),
    }
}

fn version(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        _ => "unknown",
    }
}

/// rustls writes the suites of TLS 1.3 with a prefix of its own.
fn cipher(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        suite => suite.as_str().unwrap_or("unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_a_known_one() {
        for (error, reason) in [
            (PeerIncompatible::Tls12NotOffered.into(), "no_common_version"),
            (PeerIncompatible::NoKxGroupsInCommon.into(), "no_common_cipher"),
            (Error::NoApplicationProtocol, "no_alpn"),
            (PeerMisbehaved::ServerNameMustContainOneHostName.into(), "bad_sni"),
            (InvalidMessage::InvalidContentType.into(), "not_tls"),
            (InvalidMessage::MessageTooShort.into(), "bad_record"),
            (Error::AlertReceived(AlertDescription::UnknownCA), "certificate_rejected"),
            (Error::AlertReceived(AlertDescription::HandshakeFailure), "peer_alert"),
            (Error::NoCertificatesPresented, "no_client_certificate"),
            (CertificateError::Expired.into(), "client_certificate"),
            (PeerMisbehaved::TooManyRenegotiationRequests.into(), "misbehaved"),
            (Error::General(String::new()), "internal"),
        ] {
            assert_eq!(failure_reason(&error), reason, "{error:?}");
            assert!(FAILURE_REASONS.contains(&reason));
        }
        assert_eq!(FAILURE_REASONS.len(), 12);
    }

    #[test]
    fn suites_are_written_as_iana_writes_them() {
        for suite in super::super::provider().cipher_suites.iter().map(rustls::SupportedCipherSuite::suite) {
            let name = cipher(suite);
            assert!(name.starts_with("TLS_"), "{name}");
            assert!(name.contains("GCM") || name.contains("POLY1305"), "{name} is AEAD");
        }
    }
}
