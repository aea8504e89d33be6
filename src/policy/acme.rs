//! What is wanted of a public CA.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// `tls.acme`: certificates from a public CA, by its protocol (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// Whom the CA may write to: `mailto:…`.
    pub contact: Option<String>,
    /// The names on the certificate: one to a hundred host names in lower case, each once. With [`AcmeChallenge::Dns01`] a
    /// first label may be `*`, and then no other name is covered by it.
    pub names: Vec<String>,
    /// The CA's directory: an `https://` URL.
    pub directory: String,
    /// The CA to trust at the directory; by default those that the system trusts.
    pub ca: Option<PathBuf>,
    /// How it is proved that the names are ours.
    pub challenge: AcmeChallenge,
    /// With what keys.
    pub key: AcmeKey,
}

/// How the CA sees that a name is ours. The first two listen at an address for that; the CA connects to port 80 or 443 of each
/// name, whatever stands here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// By a page at port 80 of the name (RFC 8555, section 8.3).
    Http01(SocketAddr),
    /// By a certificate in a TLS handshake at port 443 of the name (RFC 8737).
    TlsAlpn01(SocketAddr),
    /// By a TXT record below the name, that a program of the operator's sets (RFC 8555, section 8.4).
    Dns01(DnsHook),
}

/// The program that sets and removes TXT records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsHook {
    /// Where it is: an absolute path.
    pub program: PathBuf,
    /// What stands before the arguments of each call.
    pub arguments: Vec<String>,
    /// How long a call may take before it is ended: from a second to an hour.
    pub timeout: Duration,
    /// How long the CA is not asked to look after the records are set: at most an hour.
    pub wait: Duration,
}

/// The keys of the certificates that a public CA issues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcmeKey {
    /// ECDSA on P-256.
    Ecdsa,
    /// RSA with 2048 bits.
    Rsa,
    /// A certificate of each.
    Both,
}

impl AcmeChallenge {
    /// Where it is listened for the CA; `None` where that looks in the DNS.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Http01(address) | Self::TlsAlpn01(address) => Some(*address),
            Self::Dns01(_) => None,
        }
    }
}
