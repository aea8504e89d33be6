//! The certificates in service, and which of them a client is shown.

use super::ca::Root;
use super::identity::Identity;
use super::name::{self, Name};
use rustls::SignatureScheme;
use std::collections::HashMap;
use std::sync::Arc;

/// One or more identities and the way to choose among them: by the name the client asks for (SNI), then by the
/// signatures it can check, so that an RSA and an ECDSA certificate stand side by side for one name. A client that
/// asks for no name, or for one nobody has, gets the first.
///
/// A choice costs two lookups and one lower-cased copy of a name that rustls has already held to 253 bytes.
#[derive(Debug)]
pub struct Certificates {
    identities: Vec<Arc<Identity>>,
    /// Places in `identities`, ECDSA before RSA, else in the order given.
    exact: HashMap<String, Vec<usize>>,
    /// The same for `*.` names, by what stands behind the `*.`.
    wildcard: HashMap<String, Vec<usize>>,
    /// The first, then those that share a name with it.
    default: Vec<usize>,
    first: Arc<Identity>,
    root: Option<Arc<Root>>,
}

impl Certificates {
    /// Puts identities in service; the first is the one for clients without SNI. `None` if there are none.
    pub fn new(identities: Vec<Arc<Identity>>) -> Option<Self> {
        let first = Arc::clone(identities.first()?);
        let mut exact: HashMap<String, Vec<usize>> = HashMap::new();
        let mut wildcard: HashMap<String, Vec<usize>> = HashMap::new();
        let mut default = vec![0];
        for (place, identity) in identities.iter().enumerate() {
            for name in identity.names() {
                let Name::Dns(name) = name else { continue };
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_default().push(place),
                    None => exact.entry(name.clone()).or_default().push(place),
                }
            }
            if place > 0 && identity.names().iter().any(|name| first.names().contains(name)) {
                default.push(place);
            }
        }
        for places in exact.values_mut().chain(wildcard.values_mut()) {
            places.sort_by_key(|place| identities.get(*place).map(|identity| identity.key_kind()));
        }
        Some(Self { identities, exact, wildcard, default, first, root: None })
    }

    /// Says which private root signed one of them, for clients that want to trust it.
    #[must_use]
    pub fn signed_by(self, root: Option<Arc<Root>>) -> Self {
        Self { root, ..self }
    }

    /// Gives the private root behind what is served; none where all of it is from elsewhere.
    pub fn root(&self) -> Option<&Arc<Root>> {
        self.root.as_ref()
    }

    /// Whether a certificate has this very name: a wildcard is none, for it covers other people's servers too.
    pub fn names_exactly(&self, host: &str) -> bool {
        self.exact.contains_key(host)
    }

    /// Lists the identities in the order given, for metrics, `certificate.expiring` and `GET certificates`.
    pub fn identities(&self) -> &[Arc<Identity>] {
        &self.identities
    }

    /// Chooses for a client that asks for `sni` and can check `schemes`. If the name is there but with no key whose
    /// signature the client can check, it is chosen all the same: the handshake then fails for what it lacks, and
    /// not at the client over a name.
    pub fn choose(&self, sni: Option<&str>, schemes: &[SignatureScheme]) -> &Arc<Identity> {
        let places = sni.and_then(|sni| self.places(sni)).unwrap_or(&self.default);
        let mut candidates = places.iter().filter_map(|place| self.identities.get(*place));
        candidates.clone().find(|identity| identity.suits(schemes)).or_else(|| candidates.next()).unwrap_or(&self.first)
    }

    fn places(&self, sni: &str) -> Option<&Vec<usize>> {
        let host = name::canonical(sni);
        self.exact.get(&host).or_else(|| {
            let (_, parent) = host.split_once('.')?;
            self.wildcard.get(parent)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, identity};
    use super::*;
    use SignatureScheme::{ECDSA_NISTP256_SHA256, RSA_PSS_SHA256};

    const BOTH: &[SignatureScheme] = &[RSA_PSS_SHA256, ECDSA_NISTP256_SHA256];

    #[test]
    fn a_client_gets_the_certificate_of_the_name_it_asks_for() {
        let ca = Authority::new();
        let certificates = Certificates::new(vec![
            identity(&ca.leaf(&["mail.example.net", "192.0.2.1"])),
            identity(&ca.leaf(&["*.example.org", "example.org"])),
            identity(&ca.leaf(&["imap.example.org"])),
        ])
        .expect("three");
        let long = "a".repeat(70_000);
        for (sni, expected) in [
            (None, 0),
            (Some("mail.example.net"), 0),
            (Some("MAIL.example.NET."), 0),
            (Some("smtp.example.org"), 1),
            (Some("example.org"), 1),
            (Some("imap.example.org"), 2),
            (Some("a.imap.example.org"), 0),
            (Some("elsewhere.example"), 0),
            (Some("192.0.2.1"), 0),
            (Some(""), 0),
            (Some("."), 0),
            (Some(".example.org"), 1),
            (Some("mail.example.net\0"), 0),
            (Some("bücher.example.net"), 0),
            (Some(long.as_str()), 0),
        ] {
            let chosen = certificates.choose(sni, BOTH);
            assert!(Arc::ptr_eq(chosen, &certificates.identities()[expected]), "{sni:?} gets {}", chosen.subject());
        }
    }

    #[test]
    fn rsa_and_ecdsa_stand_side_by_side_for_one_name() {
        let ca = Authority::new();
        for sni in [Some("mail.example.net"), None] {
            let (rsa, ecdsa) = (ca.rsa_leaf(&["mail.example.net"]), ca.leaf(&["mail.example.net"]));
            let certificates = Certificates::new(vec![identity(&ecdsa), identity(&rsa)]).expect("two");
            assert_eq!(certificates.choose(sni, BOTH).key_kind(), super::super::KeyKind::Ecdsa);
            assert_eq!(certificates.choose(sni, &[RSA_PSS_SHA256]).key_kind(), super::super::KeyKind::Rsa);
            assert_eq!(certificates.choose(sni, &[ECDSA_NISTP256_SHA256]).key_kind(), super::super::KeyKind::Ecdsa);
            assert_eq!(
                certificates.choose(sni, &[]).key_kind(),
                super::super::KeyKind::Ecdsa,
                "fails for what it lacks"
            );
        }
        let certificates = Certificates::new(vec![
            identity(&ca.rsa_leaf(&["mail.example.net"])),
            identity(&ca.leaf(&["mail.example.net"])),
        ])
        .expect("two");
        let name = Some("mail.example.net");
        assert_eq!(certificates.choose(name, BOTH).key_kind(), super::super::KeyKind::Ecdsa, "by name, the cheaper");
        assert_eq!(certificates.choose(None, BOTH).key_kind(), super::super::KeyKind::Rsa, "without a name, the first");
    }

    #[test]
    fn without_identities_there_is_nothing_to_serve() {
        assert!(Certificates::new(Vec::new()).is_none());
    }
}
