//! Certificates, where they come from, and TLS towards clients.

use super::super::value::{Address, Span};
use super::Program;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Certificates and TLS versions towards clients.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    /// Chosen by SNI from the names in them; no or an unknown SNI: the first. None: the private CA issues one.
    pub(crate) certificates: Vec<Certificate>,
    /// A certificate from a public CA, renewed by itself; beside `certificates` for other names.
    pub(crate) acme: Option<Acme>,
    /// The oldest version taken.
    pub(crate) min_version: MinVersion,
    /// PEM: who signs client certificates, reread when it changes. Lists of revoked ones (CRL) may stand behind.
    pub(crate) client_ca: Option<PathBuf>,
    /// Whether sessions may be resumed.
    pub(crate) session_tickets: bool,
}

/// A certificate chain and its key.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Certificate {
    /// PEM: the server's certificate first, then what signed it. An OCSP response may lie beside it: the same name with `.ocsp`.
    pub(crate) chain: Option<PathBuf>,
    /// PEM: its private key.
    pub(crate) key: Option<PathBuf>,
}

/// Certificates from a public CA, by its protocol (ACME, RFC 8555).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Acme {
    /// Whom the CA may write to: mailto:postmaster@example.net.
    pub(crate) contact: Option<String>,
    /// The names on the certificate: all that clients connect to.
    pub(crate) names: Vec<String>,
    /// The CA's directory; by default that of Let's Encrypt.
    pub(crate) directory: String,
    /// PEM: the CA to trust at the directory; by default the system's.
    pub(crate) ca: Option<PathBuf>,
    /// How it is proved that the names are ours: `http-01` (a page at port 80 of each name), `tls-alpn-01` (a handshake at
    /// port 443), or `dns-01` (TXT records, which `hook` sets; for wildcards, and where the CA cannot reach us).
    pub(crate) challenge: AcmeChallenge,
    /// Where http-01 is answered.
    pub(crate) http_address: Address,
    /// Where tls-alpn-01 is answered.
    pub(crate) tls_address: Address,
    /// For dns-01: the program, or a list of it and its arguments, that is called with `present NAME VALUE` to set a TXT record
    /// and with `cleanup NAME VALUE` to remove it.
    pub(crate) hook: Option<Program>,
    /// How long a call of the hook may take before it is ended.
    pub(crate) hook_timeout: Span,
    /// For dns-01: how long the CA is not asked to look after the hook has set the records.
    pub(crate) dns_wait: Span,
    /// `ecdsa`, `rsa` (for programs from before 2012 or so), or `both`.
    pub(crate) key: AcmeKey,
}

/// How the CA sees that a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum AcmeChallenge {
    #[serde(rename = "http-01")]
    Http01,
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    #[serde(rename = "dns-01")]
    Dns01,
}

/// The keys of certificates from a public CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AcmeKey {
    Ecdsa,
    Rsa,
    Both,
}

/// The oldest TLS version taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum MinVersion {
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}
