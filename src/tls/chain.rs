//! What is wrong with a chain of certificates, and in which order it is sent.

use super::finding::ChainFinding;
use super::name::Name;
use super::provider;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, SystemTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry as oid;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Version;

/// Chains are two to four long; each certificate more costs every client.
const LONGEST: usize = 16;

/// What the server's own certificate says.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) names: Vec<Name>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    /// The bits of the public key.
    pub(super) public_key: Vec<u8>,
    /// The serial number as it is encoded.
    pub(super) serial: Vec<u8>,
}

/// A chain that can be sent.
pub(super) struct Examined {
    pub(super) leaf: Leaf,
    /// The server's certificate, then each one's issuer, without the root: a client has that or has no use for it.
    pub(super) sent: Vec<CertificateDer<'static>>,
}

/// Examines the certificates of one file. `key` is the public half of the key that goes with them, by which the
/// server's own is found wherever it stands; without it the first is taken.
pub(super) fn examine(
    file: &Path,
    certificates: Vec<CertificateDer<'static>>,
    key: Option<&[u8]>,
    now: SystemTime,
    findings: &mut Vec<ChainFinding>,
) -> Option<Examined> {
    let parsed = parse(file, &certificates, findings)?;
    let order = order(&parsed, key);
    let (leaf, above) = order.split_first()?;
    let leaf = parsed.get(*leaf)?;

    examine_links(file, &parsed, &order, findings);
    examine_dates(file, &parsed, &order, now, findings);
    examine_signatures(file, &parsed, &order, &certificates, findings);
    examine_key(file, leaf, findings);
    examine_purpose(file, leaf, findings);
    let names = names(leaf);
    if names.is_empty() {
        findings.push(ChainFinding::NoNames { file: file.to_owned(), subject: describe(leaf) });
    }

    let root = above.last().copied().filter(|last| parsed.get(*last).is_some_and(is_self_issued));
    let sent = order.iter().filter(|index| Some(**index) != root);
    let sent = sent.filter_map(|index| certificates.get(*index).cloned()).collect();
    let leaf = Leaf {
        subject: describe(leaf),
        issuer: leaf.issuer().to_string(),
        names,
        not_before: system_time(leaf.validity().not_before),
        not_after: system_time(leaf.validity().not_after),
        public_key: leaf.public_key().subject_public_key.data.to_vec(),
        serial: leaf.raw_serial().to_vec(),
    };
    Some(Examined { leaf, sent })
}

/// One certificate of a chain as it was sent, for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its first name, else its subject's distinguished name.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// The moment before which it is refused.
    pub not_before: SystemTime,
    /// The moment after which it is refused.
    pub not_after: SystemTime,
    /// The kind and size of its key: `RSA, 2048 bits`, `ECDSA P-256`.
    pub key: String,
    /// What it is signed with: `RSA with SHA-256`.
    pub signature: String,
}

/// Describes the certificates in the order in which they stand; what is no certificate is left out.
pub(super) fn links(certificates: &[CertificateDer<'_>]) -> Vec<Link> {
    let parsed = certificates.iter().filter_map(|der| X509Certificate::from_der(der).ok());
    let link = |certificate: X509Certificate<'_>| Link {
        subject: describe(&certificate),
        issuer: certificate.issuer().to_string(),
        not_before: system_time(certificate.validity().not_before),
        not_after: system_time(certificate.validity().not_after),
        key: key_in_words(&certificate),
        signature: signature_in_words(&certificate),
    };
    parsed.map(|(_, certificate)| link(certificate)).collect()
}

/// Tells whether a way leads from the first of the certificates to one of the roots, or in a sentence why none does. It is
/// looked for now and, since the dates are findings of their own, at a moment when all were valid.
pub(super) fn trust(
    certificates: &[CertificateDer<'static>],
    roots: &RootCertStore,
    now: SystemTime,
) -> Result<(), String> {
    let unreadable = || "its certificate cannot be read".to_owned();
    let parsed: Vec<_> = certificates.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1)).collect();
    let ([first, middle @ ..], Some(own)) = (certificates, parsed.first()) else { return Err(unreadable()) };
    // A root that serves: clients which were given that very certificate take it.
    let is_own = |root: &rustls::pki_types::TrustAnchor<'_>| {
        contents(own.subject().as_raw()) == Some(root.subject.as_ref())
            && contents(own.public_key().raw) == Some(root.subject_public_key_info.as_ref())
    };
    if roots.roots.iter().any(is_own) {
        return Ok(());
    }
    let leaf = ParsedCertificate::try_from(first).map_err(|_| unreadable())?;
    let algorithms = provider().signature_verification_algorithms.all;
    let at = |moment| verify_server_cert_signed_by_trust_anchor(&leaf, roots, middle, moment, algorithms);
    let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let begins = parsed.iter().map(|certificate| certificate.validity().not_before.timestamp()).max();
    let begins = Duration::from_secs(begins.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0));
    match at(now).or_else(|_| at(UnixTime::since_unix_epoch(begins))) {
        Ok(()) => Ok(()),
        Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            let last = parsed.last().map_or_else(String::new, |last| last.issuer().to_string());
            Err(format!("its certificate leads to {last}, who is not trusted here"))
        }
        Err(error) => Err(format!("its certificate is refused: {error}")),
    }
}

/// Tells whether a certificate is past its end, or so near it that whatever renews it must have failed: two weeks, or
/// for short-lived ones an eighth of their life. (Renewal happens at two thirds, by custom.)
pub(super) fn expires_soon(not_before: SystemTime, not_after: SystemTime, now: SystemTime) -> bool {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    let margin = Duration::from_secs(14 * 24 * 3600).min(life / 8);
    not_after.duration_since(now).map_or(true, |left| left < margin)
}

fn parse<'a>(
    file: &Path,
    certificates: &'a [CertificateDer<'static>],
    findings: &mut Vec<ChainFinding>,
) -> Option<Vec<X509Certificate<'a>>> {
    if certificates.len() > LONGEST {
        let error = format!("a chain has at most {LONGEST} certificates, and this file has {}", certificates.len());
        findings.push(ChainFinding::BadCertificate { file: file.to_owned(), position: LONGEST + 1, error });
        return None;
    }
    let mut parsed = Vec::with_capacity(certificates.len());
    for (index, der) in certificates.iter().enumerate() {
        match X509Certificate::from_der(der) {
            Ok((_, certificate)) => parsed.push(certificate),
            Err(error) => findings.push(ChainFinding::BadCertificate {
                file: file.to_owned(),
                position: index + 1,
                error: error.to_string(),
            }),
        }
    }
    (parsed.len() == certificates.len() && !parsed.is_empty()).then_some(parsed)
}

/// Puts the chain in order, as positions in the file: the server's own, its issuer, that one's issuer.
fn order(parsed: &[X509Certificate<'_>], key: Option<&[u8]>) -> Vec<usize> {
    let own =
        |certificate: &X509Certificate<'_>| key == Some(certificate.public_key().subject_public_key.data.as_ref());
    let mut order = vec![parsed.iter().position(own).unwrap_or(0)];
    while let Some(current) = order.last().and_then(|last| parsed.get(*last)) {
        if is_self_issued(current) {
            break;
        }
        let issued = |(index, candidate): &(usize, &X509Certificate<'_>)| {
            !order.contains(index) && candidate.subject().as_raw() == current.issuer().as_raw()
        };
        match parsed.iter().enumerate().find(issued) {
            Some((index, _)) => order.push(index),
            None => break,
        }
    }
    order
}

fn examine_links(file: &Path, parsed: &[X509Certificate<'_>], order: &[usize], findings: &mut Vec<ChainFinding>) {
    let file = file.to_owned();
    let Some(leaf) = order.first().and_then(|first| parsed.get(*first)) else { return };
    let alone = order.len() == 1;
    let strangers: Vec<&X509Certificate<'_>> = parsed
        .iter()
        .enumerate()
        .filter(|(index, candidate)| {
            let copy = order.iter().any(|placed| parsed.get(*placed).is_some_and(|p| p.as_raw() == candidate.as_raw()));
            !order.contains(index) && !copy
        })
        .map(|(_, stranger)| stranger)
        .collect();

    if alone && is_self_issued(leaf) {
        findings.push(ChainFinding::SelfSigned { file: file.clone(), subject: describe(leaf) });
    } else if let (true, Some(next)) = (alone, strangers.first()) {
        findings.push(ChainFinding::BrokenChain {
            file,
            subject: describe(leaf),
            issuer: leaf.issuer().to_string(),
            why: format!("it goes on with {}, which did not issue it", describe(next)),
        });
        return;
    } else if alone && !is_known_root(leaf.issuer().as_raw()) {
        findings.push(ChainFinding::Incomplete { file: file.clone(), issuer: leaf.issuer().to_string() });
    }
    if !order.is_sorted() || order.first() != Some(&0) {
        findings.push(ChainFinding::WrongOrder { file: file.clone() });
    }
    for stranger in strangers {
        findings.push(ChainFinding::Stranger { file: file.clone(), subject: describe(stranger) });
    }
}

fn examine_dates(
    file: &Path,
    parsed: &[X509Certificate<'_>],
    order: &[usize],
    now: SystemTime,
    findings: &mut Vec<ChainFinding>,
) {
    for (place, certificate) in order.iter().filter_map(|index| parsed.get(*index)).enumerate() {
        if place > 0 && is_self_issued(certificate) {
            // A root is trusted for its key, whatever its dates; clients do not look at them.
            continue;
        }
        let (file, subject) = (file.to_owned(), describe(certificate));
        let not_before = system_time(certificate.validity().not_before);
        let not_after = system_time(certificate.validity().not_after);
        if not_after < now {
            findings.push(ChainFinding::Expired { file, subject, not_after });
        } else if not_before > now {
            findings.push(ChainFinding::NotYetValid { file, subject, not_before });
        } else if place == 0 && expires_soon(not_before, not_after, now) {
            findings.push(ChainFinding::ExpiresSoon { file, subject, not_after });
        }
    }
}

/// Checks who signed what with which hash. The signature of a certificate
/// that vouches for itself is nothing that anybody checks.
fn examine_signatures(
    file: &Path,
    parsed: &[X509Certificate<'_>],
    order: &[usize],
    certificates: &[CertificateDer<'static>],
    findings: &mut Vec<ChainFinding>,
) {
    let mut weak = false;
    for certificate in order.iter().filter_map(|index| parsed.get(*index)) {
        if is_self_issued(certificate) {
            continue;
        }
        if let Some(algorithm) = weak_hash(certificate) {
            weak = true;
            let subject = describe(certificate);
            findings.push(ChainFinding::WeakSignature { file: file.to_owned(), subject, algorithm });
        }
    }
    if weak {
        return;
    }
    let chain: Vec<_> = order.iter().filter_map(|index| certificates.get(*index)).collect();
    if let (Some(why), Some(leaf)) = (unproven(&chain, parsed, order), order.first().and_then(|i| parsed.get(*i))) {
        let (subject, issuer) = (describe(leaf), leaf.issuer().to_string());
        findings.push(ChainFinding::BrokenChain { file: file.to_owned(), subject, issuer, why });
    }
}

/// Says why the last certificate of the chain does not vouch for the first, if it does not. The last is taken as if
/// it were a root, at a moment when all were valid: the dates are another finding.
fn unproven(chain: &[&CertificateDer<'static>], parsed: &[X509Certificate<'_>], order: &[usize]) -> Option<String> {
    let [leaf, middle @ .., last] = chain else { return None };
    let may_issue = |issuer: &X509Certificate<'_>| issuer.is_ca() || issuer.version() != X509Version::V3;
    if !order.iter().skip(1).filter_map(|index| parsed.get(*index)).all(may_issue) {
        return Some("what follows a certificate has its issuer's name but may not issue certificates".to_owned());
    }
    let leaf = ParsedCertificate::try_from(*leaf).ok()?;
    let mut anchor = RootCertStore::empty();
    anchor.add((*last).clone()).ok()?;
    let middle: Vec<CertificateDer<'_>> = middle.iter().map(|&certificate| certificate.clone()).collect();
    let begins =
        order.iter().filter_map(|index| parsed.get(*index)).map(|c| c.validity().not_before.timestamp()).max()?;
    let moment = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(begins).unwrap_or(0)));
    let algorithms = provider().signature_verification_algorithms;
    match verify_server_cert_signed_by_trust_anchor(&leaf, &anchor, &middle, moment, algorithms.all) {
        Err(rustls::Error::InvalidCertificate(CertificateError::BadSignature)) => {
            Some("a signature in it is not by the key of the certificate that follows".to_owned())
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            Some("no way leads from its first certificate to its last".to_owned())
        }
        // The rest has findings of its own, or (a CA's certificate used by a server) is taken by mail clients.
        _ => None,
    }
}

fn examine_key(file: &Path, leaf: &X509Certificate<'_>, findings: &mut Vec<ChainFinding>) {
    let (file, subject) = (file.to_owned(), describe(leaf));
    let algorithm = &leaf.public_key().algorithm;
    let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match leaf.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < 2048 => {
            findings.push(ChainFinding::WeakKey { file, subject, key: format!("RSA, {} bits", key.key_size()) });
        }
        Ok(PublicKey::EC(_)) => match curve {
            Some(curve) if curve == oid::OID_EC_P256 || curve == oid::OID_NIST_EC_P384 => {}
            Some(curve) if curve == oid::OID_NIST_EC_P521 => {
                findings.push(ChainFinding::UnusualKey { file, subject, key: "ECDSA P-521".to_owned() });
            }
            curve => {
                let curve = curve.map_or_else(|| "without a name".to_owned(), |curve| curve.to_id_string());
                findings.push(ChainFinding::WeakKey { file, subject, key: format!("ECDSA on the curve {curve}") });
            }
        },
        Ok(PublicKey::DSA(_)) => {
            findings.push(ChainFinding::WeakKey { file, subject, key: "DSA".to_owned() });
        }
        _ if algorithm.algorithm == oid::OID_SIG_ED25519 => {
            findings.push(ChainFinding::UnusualKey { file, subject, key: "Ed25519".to_owned() });
        }
        _ => {}
    }
}

fn examine_purpose(file: &Path, leaf: &X509Certificate<'_>, findings: &mut Vec<ChainFinding>) {
    if let Ok(Some(usage)) = leaf.extended_key_usage()
        && !usage.value.server_auth
        && !usage.value.any
    {
        findings.push(ChainFinding::NotForServers { file: file.to_owned(), subject: describe(leaf) });
    }
}

fn weak_hash(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    match certificate.signature_algorithm.algorithm.to_id_string().as_str() {
        // With RSA (two spellings), DSA and ECDSA.
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" | "1.2.840.10040.4.3" | "1.2.840.10045.4.1" => Some("SHA-1"),
        "1.2.840.113549.1.1.4" | "1.3.14.3.2.25" => Some("MD5"),
        _ => None,
    }
}

/// The kind and size of its key: `ECDSA P-256`, `RSA, 2048 bits`.
pub(super) fn key_in_words(certificate: &X509Certificate<'_>) -> String {
    let algorithm = &certificate.public_key().algorithm;
    let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match (certificate.public_key().parsed(), curve) {
        (Ok(PublicKey::RSA(key)), _) => format!("RSA, {} bits", key.key_size()),
        (Ok(PublicKey::EC(_)), Some(curve)) if curve == oid::OID_EC_P256 => "ECDSA P-256".to_owned(),
        (Ok(PublicKey::EC(_)), Some(curve)) if curve == oid::OID_NIST_EC_P384 => "ECDSA P-384".to_owned(),
        (Ok(PublicKey::EC(_)), Some(curve)) if curve == oid::OID_NIST_EC_P521 => "ECDSA P-521".to_owned(),
        (Ok(PublicKey::EC(_)), Some(curve)) => format!("ECDSA on the curve {}", curve.to_id_string()),
        (Ok(PublicKey::DSA(_)), _) => "DSA".to_owned(),
        _ if algorithm.algorithm == oid::OID_SIG_ED25519 => "Ed25519".to_owned(),
        _ => algorithm.algorithm.to_id_string(),
    }
}

fn signature_in_words(certificate: &X509Certificate<'_>) -> String {
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    let known = match algorithm.as_str() {
        "1.2.840.113549.1.1.4" => "RSA with MD5",
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => "RSA with SHA-1",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.113549.1.1.11" => "RSA with SHA-256",
        "1.2.840.113549.1.1.12" => "RSA with SHA-384",
        "1.2.840.113549.1.1.13" => "RSA with SHA-512",
        "1.2.840.10045.4.1" => "ECDSA with SHA-1",
        "1.2.840.10045.4.3.2" => "ECDSA with SHA-256",
        "1.2.840.10045.4.3.3" => "ECDSA with SHA-384",
        "1.2.840.10045.4.3.4" => "ECDSA with SHA-512",
        "1.3.101.112" => "Ed25519",
        other => other,
    };
    known.to_owned()
}

pub(super) fn names(certificate: &X509Certificate<'_>) -> Vec<Name> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |general: &GeneralName<'_>| match general {
        GeneralName::DNSName(name) => name.parse().ok().filter(|name| matches!(name, Name::Dns(_))),
        GeneralName::IPAddress(bytes) => address(bytes).map(Name::Ip),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into())
}

fn describe(certificate: &X509Certificate<'_>) -> String {
    match names(certificate).first() {
        Some(name) => name.to_string(),
        None => certificate.subject().to_string(),
    }
}

fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

/// Tells whether an issuer is one of the roots that browsers and mail programs ship.
pub(super) fn is_known_root(name: &[u8]) -> bool {
    webpki_roots::TLS_SERVER_ROOTS.iter().any(|root| contents(name) == Some(root.subject.as_ref()))
}

/// Takes the outer tag and length off a DER SEQUENCE.
fn contents(der: &[u8]) -> Option<&[u8]> {
    let header = match der.get(1)? {
        length @ 0x80.. => 2 + usize::from(length & 0x7f),
        _ => 2,
    };
    der.get(header..)
}

pub(super) fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    moved.unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
