//! A server's certificate seen from outside: everything that is wrong with it at once, whoever signed it.
//!
//! A handshake that verifies ends at the first thing that is wrong. So [`witness`] makes one that believes anybody, and
//! [`examine_presented`] looks at what was shown. Nothing secret may go through such a connection.

use super::chain::{self, Link};
use super::finding::ChainFinding;
use super::name::Name;
use super::provider;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What the findings call the chain, where those about files have a file's name.
const SENT: &str = "what it sends";

/// How long before its end a certificate should have been renewed.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// What a server proves itself with, as somebody sees it who connects to it.
#[derive(Debug)]
pub struct Presented {
    /// The names it is for.
    pub names: Vec<Name>,
    /// Whether the name that was asked for is among them (RFC 9525).
    pub covers: bool,
    /// Who vouches for it, or in a sentence why nobody does. The dates are another matter.
    pub trust: Result<(), String>,
    /// The certificates in the order in which they came, the server's own first; at least one, at most 16.
    pub chain: Vec<Link>,
    /// All that is wrong, whoever is trusted: a certificate that signs itself is found to do so though it be trusted.
    pub findings: Vec<ChainFinding>,
}

/// Makes handshakes with servers of which nothing is believed, in order to see what they show.
///
/// # Errors
/// None but a fault of the library's.
pub fn witness() -> Result<Arc<ClientConfig>, rustls::Error> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Witness))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Examines the chain of a server that was asked for by `host`. `roots` are those who are trusted. `Err` has the
/// findings of a chain that cannot be parsed.
///
/// # Errors
/// A certificate in it is none, there are more than 16, or there is none.
pub fn examine_presented(
    sent: &[CertificateDer<'_>],
    host: &str,
    roots: &RootCertStore,
    now: SystemTime,
) -> Result<Presented, Vec<ChainFinding>> {
    let file = Path::new(SENT);
    let certificates: Vec<CertificateDer<'static>> = sent.iter().map(|one| one.clone().into_owned()).collect();
    let mut findings = Vec::new();
    let Some(examined) = chain::examine(file, certificates.clone(), None, now, &mut findings) else {
        return Err(findings);
    };
    let leaf = examined.leaf;
    let covers = leaf.names.iter().any(|name| name.covers(host));
    if !covers && !leaf.names.is_empty() {
        let (file, wanted) = (file.to_owned(), host.to_owned());
        findings.push(ChainFinding::WrongName { file, wanted, names: leaf.names.clone() });
    }
    let known = |finding: &ChainFinding| matches!(finding, ChainFinding::ExpiresSoon { .. });
    if expires_soon(leaf.not_before, leaf.not_after, now) && !findings.iter().any(known) {
        let (file, subject) = (file.to_owned(), leaf.subject.clone());
        findings.push(ChainFinding::ExpiresSoon { file, subject, not_after: leaf.not_after });
    }
    let trust = chain::trust(&certificates, roots, now);
    Ok(Presented { covers, trust, chain: chain::links(&certificates), findings, names: leaf.names })
}

/// Two weeks before the end, or a quarter of its life where that is short. Whoever looks from outside, and now and then,
/// wants to hear of it a little earlier than the gateway says it of its own.
fn expires_soon(not_before: SystemTime, not_after: SystemTime, now: SystemTime) -> bool {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    not_after.duration_since(now).is_ok_and(|left| left < SOON.min(life / 4))
}

/// Takes any certificate, and any signature: a key too short for the library is to be seen too.
#[derive(Debug)]
struct Witness;

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = provider().signature_verification_algorithms.supported_schemes();
        // Of servers that have nothing better, so that the handshake comes to the certificate.
        schemes.extend([SignatureScheme::ECDSA_SHA1_Legacy, SignatureScheme::RSA_PKCS1_SHA1]);
        schemes
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, DAY, Leaf, identity, key, leaf_params};
    use super::*;
    use rustls::pki_types::pem::PemObject;
    use time::OffsetDateTime;

    const HOST: &str = "mail.example.net";

    fn der(pem: &str) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().expect("PEM")
    }

    fn roots(pem: &str) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(der(pem));
        roots
    }

    /// Whether it is trusted, and the codes of what is wrong.
    fn seen(sent: &str, roots: &RootCertStore) -> (bool, Vec<&'static str>) {
        let presented = examine_presented(&der(sent), HOST, roots, SystemTime::now()).expect("X.509");
        (presented.trust.is_ok(), presented.findings.iter().map(ChainFinding::code).collect())
    }

    fn lasting(ca: &Authority, begin: Duration, left: Duration) -> Leaf {
        let mut params = leaf_params(&[HOST]);
        params.not_before = OffsetDateTime::from(SystemTime::now() - begin);
        params.not_after = OffsetDateTime::from(SystemTime::now() + left);
        ca.sign(params, &key())
    }

    #[test]
    fn everything_that_is_wrong_is_found_at_once() {
        let (ca, other) = (Authority::new(), Authority::new());
        let roots = roots(&ca.root.pem());
        let good = ca.leaf(&[HOST]);
        assert_eq!(seen(&good.chain(), &roots), (true, vec![]));
        assert_eq!(seen(&good.certificate, &roots), (false, vec!["incomplete_chain"]));
        assert_eq!(seen(&ca.leaf(&["imap.example.net"]).chain(), &roots), (true, vec!["wrong_name"]));
        assert_eq!(seen(&other.leaf(&[HOST]).chain(), &roots), (false, vec![]));
        let wrong = other.expired_leaf(&["imap.example.net"]);
        assert_eq!(seen(&wrong.chain(), &roots), (false, vec!["expired", "wrong_name"]));
        assert_eq!(seen(&ca.expired_leaf(&[HOST]).chain(), &roots), (true, vec!["expired"]), "trust has no date");
        let own = rcgen::generate_simple_self_signed([HOST.to_owned()]).expect("signs").cert.pem();
        let (trusted, codes) = seen(&own, &roots);
        assert!(!trusted && codes.contains(&"self_signed"), "{codes:?}");
        assert!(seen(&own, &super::tests::roots(&own)).0, "who is given that very certificate takes it");
    }

    #[test]
    fn the_end_is_announced_two_weeks_before_and_later_for_short_lives() {
        let ca = Authority::new();
        let roots = roots(&ca.root.pem());
        for (begin, left, soon) in [(77, 13, true), (75, 15, false), (4, 2, false), (5, 1, true), (300, 13, true)] {
            let leaf = lasting(&ca, begin * DAY, left * DAY);
            let expected = if soon { vec!["expires_soon"] } else { vec![] };
            assert_eq!(seen(&leaf.chain(), &roots), (true, expected), "{left} days of {}", begin + left);
        }
    }

    #[test]
    fn the_links_say_who_vouches_for_whom_and_with_what() {
        let ca = Authority::new();
        let leaf = ca.rsa_leaf(&[HOST]);
        let presented =
            examine_presented(&der(&leaf.chain()), HOST, &roots(&ca.root.pem()), SystemTime::now()).expect("X.509");
        let chain: Vec<_> = presented.chain.iter().map(|link| (link.key.as_str(), link.signature.as_str())).collect();
        assert_eq!(chain, [("RSA, 2048 bits", "ECDSA with SHA-256"), ("ECDSA P-256", "ECDSA with SHA-256")]);
        assert!(presented.chain[0].issuer.contains("Test Intermediate"), "{:?}", presented.chain[0]);
        assert_eq!(presented.names, identity(&leaf).names());
        assert!(presented.covers);
    }

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        let garbage = [CertificateDer::from(vec![1, 2, 3])];
        let findings =
            examine_presented(&garbage, HOST, &RootCertStore::empty(), SystemTime::now()).expect_err("garbage");
        assert_eq!(findings.iter().map(ChainFinding::code).collect::<Vec<_>>(), ["bad_certificate"]);
        assert!(examine_presented(&[], HOST, &RootCertStore::empty(), SystemTime::now()).is_err());
    }
}
