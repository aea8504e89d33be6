//! Whom a client's certificate is for.

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The longest name (RFC 5280 appendix A.1, ub-emailaddress-length). A longer one is none: cut, it might be another's.
const LONGEST: usize = 255;

/// Who proved, in the handshake, to have a certificate that was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The first address (rfc822Name) among the certificate's alternative names, else the subject's emailAddress, else its
    /// common name: at most 255 octets, no control character. None where that is not to be had.
    pub name: Option<String>,
    /// The SHA-256 of the certificate.
    pub sha256: [u8; 32],
}

impl Holder {
    /// Reads it off the chain that the client sent; none without one. That the chain is good must be known already.
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let own = chain.first()?;
        let parsed = X509Certificate::from_der(own).ok();
        let name = parsed.and_then(|(_, certificate)| name(&certificate));
        Some(Self { name, sha256: Sha256::digest(own).into() })
    }
}

/// What stands first counts, and where it cannot be a name there is none: what comes behind it was perhaps not looked at by
/// whoever signed it.
pub(super) fn name(certificate: &X509Certificate<'_>) -> Option<String> {
    let alternatives = certificate.subject_alternative_name().ok()?;
    let address =
        alternatives.iter().flat_map(|extension| &extension.value.general_names).find_map(|name| match name {
            GeneralName::RFC822Name(address) => Some(*address),
            // An address, and none that can be read: 1 is its tag (RFC 5280 section 4.2.1.6).
            GeneralName::Invalid(tag, _) if tag.0 == 1 => Some(""),
            _ => None,
        });
    let name = match address {
        Some(address) => address,
        None => {
            let subject = certificate.subject();
            let attribute = subject.iter_email().next().or_else(|| subject.iter_common_name().next())?;
            attribute.as_str().ok()?
        }
    };
    let is_name = !name.is_empty() && name.len() <= LONGEST && !name.chars().any(char::is_control);
    is_name.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, key, leaf_params};
    use super::*;
    use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, SanType};
    use rustls::pki_types::pem::PemObject;

    /// The name of a certificate with this subject (`CN` and `E`) and these alternative names.
    fn named(common: Option<&str>, email: Option<&str>, alternatives: Vec<SanType>) -> Option<String> {
        let mut params = leaf_params(&[]);
        params.distinguished_name = DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        if let Some(email) = email {
            params.distinguished_name.push(DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]), email);
        }
        params.subject_alt_names = alternatives;
        signed(params).name
    }

    fn signed(params: CertificateParams) -> Holder {
        let leaf = Authority::new().sign(params, &key());
        let der = CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).expect("PEM");
        Holder::of(&[der]).expect("a certificate")
    }

    fn address(text: &str) -> SanType {
        SanType::Rfc822Name(text.try_into().expect("ASCII"))
    }

    #[test]
    fn an_address_counts_more_than_a_subject() {
        let host = || SanType::DnsName("laptop.example.net".try_into().expect("a name"));
        let long = "x".repeat(256);
        for (common, email, alternatives, expected) in [
            (Some("Joe"), Some("j@example.net"), vec![host(), address("joe@example.net")], Some("joe@example.net")),
            (Some("Joe"), None, vec![address("a@example.net"), address("b@example.net")], Some("a@example.net")),
            (Some("Joe"), Some("j@example.net"), vec![host()], Some("j@example.net")),
            (Some("Joe Bäcker"), None, vec![host()], Some("Joe Bäcker")),
            (None, None, vec![host()], None),
            (Some(""), None, vec![], None),
            (Some("joe\r\n* OK"), None, vec![], None),
            (Some("joe\0@example.net"), None, vec![], None),
            (Some("Joe"), None, vec![address("joe\0@example.net")], None),
            (Some(long.as_str()), None, vec![], None),
            (Some(&long[1..]), None, vec![], Some(&long[1..])),
        ] {
            assert_eq!(named(common, email, alternatives.clone()).as_deref(), expected, "{common:?} {alternatives:?}");
        }
    }

    #[test]
    fn a_certificate_that_says_it_oddly_has_a_fingerprint_and_no_name() {
        let mut params = leaf_params(&[]);
        params.distinguished_name.push(DnType::CommonName, "Joe");
        let oddly = params.clone();
        // A subjectAltName that is no sequence.
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![1, 1, 0])];
        let holder = signed(params);
        assert_eq!(holder.name, None);
        // An address in Latin-1, and one behind it that nobody has looked at.
        let mut params = oddly;
        let names = [&[0x30, 18, 0x81, 3, 0xe4, b'@', b'x', 0x81, 11][..], b"boss@staff."].concat();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], names)];
        assert_eq!(signed(params).name, None);
        assert_ne!(holder.sha256, [0; 32]);
        assert_eq!(Holder::of(&[]), None);
        let garbage = Holder::of(&[CertificateDer::from(vec![0x30, 3, 1, 1, 0])]).expect("bytes");
        assert_eq!(garbage.name, None);
    }
}
