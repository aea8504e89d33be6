//! A certificate as a person wants to see it, whoever's it is.

use super::chain;
use super::files::{self, CertificateFiles};
use super::finding::ChainFinding;
use super::holder;
use super::identity::Identity;
use super::name::Name;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::SystemTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The subject's distinguished name.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// The names it is for.
    pub names: Vec<Name>,
    /// The moment before which clients refuse it.
    pub not_before: SystemTime,
    /// The moment after which they do.
    pub not_after: SystemTime,
    /// Its key's kind and size: `ECDSA P-256`, `RSA, 2048 bits`.
    pub key: String,
    /// The SHA-256 fingerprint, as clients show it (`AB:CD:…`).
    pub fingerprint: String,
    /// Whether it may issue certificates.
    pub is_ca: bool,
    /// Whether it is for clients alone.
    pub is_clients: bool,
    /// The name by which its holder is known where clients are asked for certificates.
    pub holder: Option<String>,
}

impl Shown {
    /// Reads one certificate in DER; `None` where it is none.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        Some(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: chain::names(&certificate),
            not_before: chain::system_time(validity.not_before),
            not_after: chain::system_time(validity.not_after),
            key: chain::key_in_words(&certificate),
            fingerprint: Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"),
            is_ca: certificate.is_ca(),
            is_clients: is_for_clients(&certificate),
            holder: holder::name(&certificate),
        })
    }
}

fn is_for_clients(certificate: &X509Certificate<'_>) -> bool {
    let usage = certificate.extended_key_usage().ok().flatten();
    usage.is_some_and(|usage| usage.value.client_auth && !usage.value.server_auth && !usage.value.any)
}

/// Reads all certificates of a PEM file, and what is wrong with them as a chain: with the key, where the file holds it too.
/// This blocks on the disk.
///
/// # Errors
/// The file cannot be read, or holds no certificate.
pub fn show(file: &Path, now: SystemTime) -> Result<(Vec<Shown>, Vec<ChainFinding>), ChainFinding> {
    let both = CertificateFiles { chain: file.to_owned(), key: file.to_owned() };
    let contents = both.read();
    let bytes = contents.chain.clone()?;
    let certificates = files::certificates(file, &bytes)?;
    let shown: Vec<Shown> = certificates.iter().filter_map(|certificate| Shown::of(certificate)).collect();
    let mut findings = if memchr::memmem::find(&bytes, b"PRIVATE KEY-----").is_some() {
        Identity::examine(&both, &contents, now).findings
    } else {
        let mut findings = Vec::new();
        chain::examine(file, certificates, None, now, &mut findings);
        findings
    };
    // A root vouches for itself and is for no name: that is what it is.
    if shown.first().is_some_and(|first| first.is_ca) {
        findings.retain(|finding| !matches!(finding, ChainFinding::SelfSigned { .. } | ChainFinding::NoNames { .. }));
    }
    // A customer's is no server's, and has no host name in it.
    if shown.first().is_some_and(|first| first.is_clients) {
        let of_servers = |finding: &ChainFinding| {
            matches!(finding, ChainFinding::NotForServers { .. } | ChainFinding::NoNames { .. })
        };
        findings.retain(|finding| !of_servers(finding));
    }
    Ok((shown, findings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::PrivateCa;

    #[test]
    fn a_root_and_what_it_signed_are_shown_with_nothing_to_say_against_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let now = SystemTime::now();
        let ca = PrivateCa::open_or_create(dir.path(), "mail.example.net", now).expect("a CA");
        let issued = ca.issue(&["mail.example.net".parse().expect("a name")], now).expect("issued");
        let root = dir.path().join("ca/root.pem");
        let (shown, findings) = show(&root, now).expect("shown");
        assert_eq!((shown.len(), findings.as_slice()), (1, &[][..]));
        assert!(shown[0].is_ca && shown[0].subject.contains("mail.example.net") && shown[0].key == "ECDSA P-256");
        assert_eq!(shown[0].fingerprint, ca.fingerprint());

        let whole = dir.path().join("whole.pem");
        std::fs::write(&whole, format!("{}{}{}", issued.key_pem.as_str(), issued.certificate_pem, ca.root_pem()))
            .expect("written");
        let (shown, findings) = show(&whole, now).expect("shown");
        assert_eq!(shown.iter().map(|one| one.is_ca).collect::<Vec<_>>(), [false, true]);
        assert_eq!(shown[0].names, ["mail.example.net".parse().expect("a name")]);
        // The file's mode is whatever the umask made of it.
        assert!(findings.iter().all(|finding| matches!(finding, ChainFinding::KeyReadable { .. })), "{findings:?}");
    }
}
