//! What is wanted of a public CA.

use std::net::SocketAddr;
use std::path::PathBuf;

/// `tls.acme`: certificates from a public CA, by its protocol (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// Whom the CA may write to: `mailto:…`.
    pub contact: Option<String>,
    /// The names on the certificate: one to a hundred host names in lower case, each once, no wildcard.
    pub names: Vec<String>,
    /// The CA's directory: an `https://` URL.
    pub directory: String,
    /// The CA to trust at the directory; by default those that the system trusts.
    pub ca: Option<PathBuf>,
    /// How it is proved that the names are ours.
    pub challenge: AcmeChallenge,
    /// The address to listen on for that. The CA connects to port 80 or 443 of each name, whatever stands here.
    pub address: SocketAddr,
    /// With what keys.
    pub key: AcmeKey,
}

/// How the CA sees that a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// By a page at port 80 of the name (RFC 8555, section 8.3).
    Http01,
    /// By a certificate in a TLS handshake at port 443 of the name (RFC 8737).
    TlsAlpn01,
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
