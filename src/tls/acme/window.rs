//! When the CA wants a certificate renewed (ARI, RFC 9773): earlier where it will revoke it, say.

use super::super::identity::Identity;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::time::SystemTime;
use x509_parser::extensions::ParsedExtension;
use x509_parser::parse_x509_certificate;

/// The time in which the CA suggests that one certificate be renewed (RFC 9773, section 4.2). It has a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    start: SystemTime,
    end: SystemTime,
}

impl Window {
    /// The time between these two; `None` if the end is not behind the start, which counts as no answer.
    pub fn new(start: SystemTime, end: SystemTime) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// When it begins.
    pub fn start(&self) -> SystemTime {
        self.start
    }

    /// When it is over.
    pub fn end(&self) -> SystemTime {
        self.end
    }

    /// The moment in it to renew this certificate: anyone, the same whenever it is asked. None where it begins when nine
    /// tenths of the certificate's life are over: whatever the CA means by that, customers would see it expire.
    pub(super) fn moment(&self, identity: &Identity) -> Option<SystemTime> {
        let life = identity.not_after().duration_since(identity.not_before()).unwrap_or_default();
        let last = identity.not_before() + life / 10 * 9;
        let length = self.end.min(last).duration_since(self.start).ok()?;
        Some(self.start + length.mul_f64(share(identity)))
    }
}

/// From 0 to 1, by chance, but the same for one certificate.
fn share(identity: &Identity) -> f64 {
    let first = identity.chain().first().map(AsRef::as_ref).unwrap_or_default();
    // Another than for the renewal without a window; which bytes does not matter.
    let digest: [u8; 32] = Sha256::digest(first).into();
    f64::from(u32::from_be_bytes([digest[8], digest[9], digest[10], digest[11]])) / f64::from(u32::MAX)
}

/// Names a certificate as the CA is asked about it: the key identifier of its issuer and its serial number (RFC 9773, section
/// 4.1). `None` for one that does not name its issuer's key.
pub fn certificate_id(identity: &Identity) -> Option<String> {
    id_of(identity.chain().first()?.as_ref())
}

fn id_of(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let issuer = certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(issuer) => issuer.key_identifier.as_ref(),
        _ => None,
    })?;
    Some(format!("{}.{}", URL_SAFE_NO_PAD.encode(issuer.0), URL_SAFE_NO_PAD.encode(certificate.raw_serial())))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Authority, DAY, Folder as Directory};
    use super::super::{Folder, Request, renewal};
    use super::*;
    use crate::tls::KeyKind;
    use std::time::Duration;

    /// A certificate that began now and lives for ninety days.
    fn certificate(now: SystemTime) -> std::sync::Arc<Identity> {
        let (directory, authority) = (Directory::new(), Authority::new());
        let names = vec!["mail.example.net".to_owned()];
        let request = Request::new(KeyKind::Ecdsa, &names).expect("a request");
        let chain = super::super::tests::issue(&authority, &request, 90 * DAY, now);
        let folder = Folder::of(directory.path(), "https://acme.example.net/");
        folder.keep(&request, &chain, &names, now).expect("sound")
    }

    #[test]
    fn the_cas_window_goes_before_two_thirds_whether_earlier_or_later() {
        let now = SystemTime::now();
        let identity = certificate(now);
        let begun = identity.not_before();
        for (start, end) in [(10, 12), (70, 72), (0, 1), (79, 200)] {
            let window = Window::new(begun + start * DAY, begun + end * DAY).expect("it has a length");
            let at = renewal(&identity, Some(&window));
            let (first, last) = (begun + start * DAY, (begun + end * DAY).min(begun + 81 * DAY));
            assert!((first..=last).contains(&at), "{start} {end}: day {:?}", at.duration_since(begun));
            assert_eq!(at, renewal(&identity, Some(&window)), "whenever it is asked");
        }
        let past = Window::new(now - 30 * DAY, now - 29 * DAY).expect("it has a length");
        assert!(renewal(&identity, Some(&past)) <= now, "now");
    }

    #[test]
    fn a_window_that_makes_no_sense_leaves_two_thirds() {
        let now = SystemTime::now();
        let identity = certificate(now);
        for (start, end) in [(82, 83), (90, 95), (400, 500)] {
            let window = Window::new(now + start * DAY, now + end * DAY).expect("it has a length");
            assert_eq!(renewal(&identity, Some(&window)), renewal(&identity, None), "{start} {end}");
        }
        assert_eq!(Window::new(now, now), None);
        assert_eq!(Window::new(now, now - Duration::from_secs(1)), None);
    }

    #[test]
    fn gateways_that_share_a_window_do_not_come_at_once() {
        let now = SystemTime::now();
        let window = Window::new(now + 10 * DAY, now + 20 * DAY).expect("it has a length");
        let moments: std::collections::BTreeSet<_> =
            (0..5).map(|_| renewal(&certificate(now), Some(&window))).collect();
        assert!(moments.len() > 3, "{moments:?}");
    }

    /// The certificate in RFC 9773, appendix A.
    const APPENDIX_A: &str = "-----BEGIN CERTIFICATE-----
MIIBQzCB66ADAgECAgUAh2VDITAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt
cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS
BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu
7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf
qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B
yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb
+FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK
-----END CERTIFICATE-----
";

    #[test]
    fn a_certificate_is_named_as_in_the_rfc() {
        let (_, pem) = x509_parser::pem::parse_x509_pem(APPENDIX_A.as_bytes()).expect("PEM");
        assert_eq!(id_of(&pem.contents).as_deref(), Some("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"));
        assert_eq!(id_of(b"no certificate"), None);
    }
}
