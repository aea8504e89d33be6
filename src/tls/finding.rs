//! What can be wrong with a certificate and its key, each with what to do about it.

use super::name::{self, Name};
use super::staple::StapleFault;
use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;
use time::OffsetDateTime;
use time::macros::format_description;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Clients are served, some perhaps badly.
    Warning,
    /// Most clients would refuse it, or it cannot be served at all. It never replaces a certificate that works.
    Error,
}

/// One thing that is wrong with a certificate, its chain or its key. It prints as a sentence for the operator:
/// which file, what is wrong, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what the sentence above each variant names")]
pub enum ChainFinding {
    /// The file cannot be read.
    Unreadable { file: PathBuf, error: String, denied: bool },
    /// The file is too large to be a certificate or a key.
    TooLarge { file: PathBuf, limit: u64 },
    /// The file holds DER, PKCS#12 or something else that is not PEM; `holds` names it.
    NotPem { file: PathBuf, holds: &'static str },
    /// The PEM is cut off or garbled.
    Garbled { file: PathBuf, error: String },
    /// There is no certificate in the file; `holds` says what there is.
    NoCertificate { file: PathBuf, holds: &'static str },
    /// There is nobody in the file who could sign clients' certificates; `holds` says what there is.
    NoClientCa { file: PathBuf, holds: &'static str },
    /// A list of revoked certificates in the file cannot be used.
    BadList { file: PathBuf, error: String },
    /// There is no private key in the file; `holds` says what there is.
    NoKey { file: PathBuf, holds: &'static str },
    /// The key is protected by a passphrase.
    EncryptedKey { file: PathBuf },
    /// A certificate (counted from 1) cannot be parsed.
    BadCertificate { file: PathBuf, position: usize, error: String },
    /// The key cannot be parsed, or is of a kind that TLS has no use for.
    BadKey { file: PathBuf, error: String },
    /// The key is another certificate's.
    KeyMismatch { chain: PathBuf, key: PathBuf, subject: String },
    /// The certificates do not follow one another; they are served in the right order.
    WrongOrder { file: PathBuf },
    /// What follows the certificate did not issue it.
    BrokenChain { file: PathBuf, subject: String, issuer: String, why: String },
    /// A certificate that belongs to no link of the chain; it is left out.
    Stranger { file: PathBuf, subject: String },
    /// Only the server's own certificate is there, and its issuer is no root that clients know.
    Incomplete { file: PathBuf, issuer: String },
    /// Its time is over.
    Expired { file: PathBuf, subject: String, not_after: SystemTime },
    /// Its time has not come.
    NotYetValid { file: PathBuf, subject: String, not_before: SystemTime },
    /// Its time is nearly over, and whatever renews it has not.
    ExpiresSoon { file: PathBuf, subject: String, not_after: SystemTime },
    /// The key is too short, or on a curve that clients refuse.
    WeakKey { file: PathBuf, subject: String, key: String },
    /// The key is sound but some clients do not know its kind.
    UnusualKey { file: PathBuf, subject: String, key: String },
    /// It was signed with SHA-1 or MD5.
    WeakSignature { file: PathBuf, subject: String, algorithm: &'static str },
    /// No names where clients look for them.
    NoNames { file: PathBuf, subject: String },
    /// The name clients are told to use is not among its names.
    WrongName { file: PathBuf, wanted: String, names: Vec<Name> },
    /// It is for other purposes than a server's.
    NotForServers { file: PathBuf, subject: String },
    /// It vouches for itself.
    SelfSigned { file: PathBuf, subject: String },
    /// Everybody on the machine can read the key.
    KeyReadable { file: PathBuf, mode: u32 },
    /// The OCSP response beside the chain is not sent to clients.
    NotStapled { file: PathBuf, fault: StapleFault },
    /// The gateway's private CA could not issue its certificate.
    PrivateCa { error: String },
}

impl ChainFinding {
    /// Weighs the finding.
    pub fn severity(&self) -> Severity {
        match self {
            Self::WrongOrder { .. }
            | Self::Stranger { .. }
            | Self::Incomplete { .. }
            | Self::ExpiresSoon { .. }
            | Self::UnusualKey { .. }
            | Self::NoNames { .. }
            | Self::WrongName { .. }
            | Self::SelfSigned { .. }
            | Self::KeyReadable { .. }
            | Self::NotStapled { .. } => Severity::Warning,
            _ => Severity::Error,
        }
    }

    /// Tells whether this is about the date alone, so that waiting or a right clock cures it and the pair is sound
    /// otherwise. A caller may start with such a pair rather than not at all.
    pub fn is_about_time(&self) -> bool {
        matches!(self, Self::Expired { .. } | Self::NotYetValid { .. } | Self::ExpiresSoon { .. })
    }

    /// Tells whether this is what a pair looks like while a renewal is writing it: one file new, the other old,
    /// absent, or half there. Worth another look for [`SETTLING`](super::SETTLING).
    pub fn may_settle(&self) -> bool {
        matches!(
            self,
            Self::Unreadable { .. }
                | Self::NotPem { .. }
                | Self::Garbled { .. }
                | Self::NoCertificate { .. }
                | Self::NoClientCa { .. }
                | Self::NoKey { .. }
                | Self::BadCertificate { .. }
                | Self::BadKey { .. }
                | Self::KeyMismatch { .. }
                | Self::BrokenChain { .. }
        )
    }

    /// Names the finding in one word, for an event's `reason`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::TooLarge { .. } => "too_large",
            Self::NotPem { .. } => "not_pem",
            Self::Garbled { .. } => "garbled",
            Self::NoCertificate { .. } => "no_certificate",
            Self::NoClientCa { .. } => "no_client_ca",
            Self::BadList { .. } => "bad_list",
            Self::NoKey { .. } => "no_key",
            Self::EncryptedKey { .. } => "encrypted_key",
            Self::BadCertificate { .. } => "bad_certificate",
            Self::BadKey { .. } => "bad_key",
            Self::KeyMismatch { .. } => "key_mismatch",
            Self::WrongOrder { .. } => "wrong_order",
            Self::BrokenChain { .. } => "broken_chain",
            Self::Stranger { .. } => "stranger_in_chain",
            Self::Incomplete { .. } => "incomplete_chain",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::ExpiresSoon { .. } => "expires_soon",
            Self::WeakKey { .. } => "weak_key",
            Self::UnusualKey { .. } => "unusual_key",
            Self::WeakSignature { .. } => "weak_signature",
            Self::NoNames { .. } => "no_names",
            Self::WrongName { .. } => "wrong_name",
            Self::NotForServers { .. } => "not_for_servers",
            Self::SelfSigned { .. } => "self_signed",
            Self::KeyReadable { .. } => "key_readable",
            Self::NotStapled { .. } => "not_stapled",
            Self::PrivateCa { .. } => "private_ca",
        }
    }
}

impl fmt::Display for ChainFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error, denied: false } => write!(f, "{} cannot be read: {error}", file.display()),
            Self::Unreadable { file, error, denied: true } => write!(
                f,
                "{} cannot be read: {error}; the user the gateway runs as needs read permission on it and search \
                 permission on every directory above",
                file.display()
            ),
            Self::TooLarge { file, limit } => {
                write!(f, "{} is larger than {limit} bytes and cannot be a certificate or a key", file.display())
            }
            Self::NotPem { file, holds } => write!(
                f,
                "{} holds {holds}, not PEM: convert it (openssl x509 -inform der, openssl pkcs12 -nodes)",
                file.display()
            ),
            Self::Garbled { file, error } => {
                write!(f, "{} is garbled or cut off ({error}): copy it again whole", file.display())
            }
            Self::NoCertificate { file, holds } => write!(
                f,
                "no certificate in {}: it holds {holds}; give the file with the BEGIN CERTIFICATE lines \
                 (fullchain.pem) as chain",
                file.display()
            ),
            Self::NoClientCa { file, holds } => write!(
                f,
                "nobody in {} who signs clients' certificates: it holds {holds}; give the CA's own certificate (BEGIN \
                 CERTIFICATE)",
                file.display()
            ),
            Self::BadList { file, error } => {
                write!(f, "a list of revoked certificates (CRL) in {} cannot be used: {error}", file.display())
            }
            Self::NoKey { file, holds } => write!(
                f,
                "no private key in {}: it holds {holds}; give the file with the BEGIN PRIVATE KEY line \
                 (privkey.pem) as key",
                file.display()
            ),
            Self::EncryptedKey { file } => write!(
                f,
                "the key in {0} is protected by a passphrase, which nobody types at start: write it without one \
                 (openssl pkey -in {0} -out NEW), readable by the gateway's user alone",
                file.display()
            ),
            Self::BadCertificate { file, position, error } => {
                write!(f, "certificate {position} in {} is not valid X.509: {error}", file.display())
            }
            Self::BadKey { file, error } => write!(
                f,
                "the key in {} cannot be used ({error}): RSA of 2048 to 8192 bits or ECDSA on P-256 or P-384 can",
                file.display()
            ),
            Self::KeyMismatch { chain, key, subject } => write!(
                f,
                "the key in {} does not belong to the certificate in {}: that one is for {subject}; give the key \
                 that was made with it",
                key.display(),
                chain.display()
            ),
            Self::WrongOrder { file } => write!(
                f,
                "the certificates in {} are not in order: the server's own first, then each one's issuer; they are \
                 served in the right order",
                file.display()
            ),
            Self::BrokenChain { file, subject, issuer, why } => write!(
                f,
                "the chain in {} is broken: {why}; {subject} was issued by {issuer}, so that one's certificate must \
                 follow it",
                file.display()
            ),
            Self::Stranger { file, subject } => write!(
                f,
                "{} holds a certificate that is no part of the chain ({subject}): it is not sent; remove it",
                file.display()
            ),
            Self::Incomplete { file, issuer } => write!(
                f,
                "{} holds the server's certificate alone, and its issuer ({issuer}) is no root that clients know: \
                 unless they were given that root, append the issuer's certificate (fullchain.pem, not cert.pem)",
                file.display()
            ),
            Self::Expired { file, subject, not_after } => write!(
                f,
                "the certificate of {subject} in {} expired on {}: renew it",
                file.display(),
                date(*not_after)
            ),
            Self::NotYetValid { file, subject, not_before } => write!(
                f,
                "the certificate of {subject} in {} is not valid before {}: check this machine's clock, or wait",
                file.display(),
                date(*not_before)
            ),
            Self::ExpiresSoon { file, subject, not_after } => write!(
                f,
                "the certificate of {subject} in {} expires on {}: see why it was not renewed",
                file.display(),
                date(*not_after)
            ),
            Self::WeakKey { file, subject, key } => write!(
                f,
                "the certificate of {subject} in {} has a weak key ({key}), which clients refuse: have one issued for \
                 an ECDSA P-256 or RSA 2048 key",
                file.display()
            ),
            Self::UnusualKey { file, subject, key } => write!(
                f,
                "the certificate of {subject} in {} has an {key} key, which many mail clients do not know: put one \
                 for ECDSA P-256 or RSA beside it",
                file.display()
            ),
            Self::WeakSignature { file, subject, algorithm } => write!(
                f,
                "the certificate of {subject} in {} is signed with {algorithm}, which clients refuse: have it issued \
                 again with SHA-256",
                file.display()
            ),
            Self::NoNames { file, subject } => write!(
                f,
                "the certificate of {subject} in {} has no subjectAltName, and clients look nowhere else for a name: \
                 have it issued with one",
                file.display()
            ),
            Self::WrongName { file, wanted, names } if names.is_empty() => {
                write!(f, "the certificate in {} is not for {wanted}: it is for no name at all", file.display())
            }
            Self::WrongName { file, wanted, names } => {
                write!(f, "the certificate in {} is not for {wanted} but for {}", file.display(), name::list(names))
            }
            Self::NotForServers { file, subject } => write!(
                f,
                "the certificate of {subject} in {} is not meant for servers (no serverAuth among its extended key \
                 usages): have one issued that is",
                file.display()
            ),
            Self::SelfSigned { file, subject } => write!(
                f,
                "the certificate of {subject} in {} is signed by itself: a client takes it only if it was given that \
                 very certificate",
                file.display()
            ),
            Self::KeyReadable { file, mode } => write!(
                f,
                "the key in {0} can be read by everybody on this machine (mode {mode:04o}): chmod 0600 {0}",
                file.display()
            ),
            Self::NotStapled { file, fault } => {
                write!(f, "the OCSP response {} is not sent to clients: {fault}", file.display())
            }
            Self::PrivateCa { error } => f.write_str(error),
        }
    }
}

pub(super) fn date(time: SystemTime) -> String {
    OffsetDateTime::from(time)
        .format(format_description!("[year]-[month]-[day] [hour]:[minute] UTC"))
        .unwrap_or_else(|_| "a date out of range".to_owned())
}
