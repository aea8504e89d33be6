//! What the CA is shown as a proof that a name is ours: a page (http-01) or a certificate (tls-alpn-01).

use super::super::provider;
use super::AcmeError;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The protocol of a handshake that is a proof and nothing else (RFC 8737, section 6.2).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// The proofs that are shown now: those of the order under way, at most one a name.
#[derive(Debug, Default)]
pub struct Proofs(Mutex<Shown>);

#[derive(Debug, Default)]
struct Shown {
    /// By token.
    pages: HashMap<String, String>,
    /// By name, in lower case.
    certificates: HashMap<String, Arc<CertifiedKey>>,
}

impl Proofs {
    /// Shows a page from now on: `/.well-known/acme-challenge/TOKEN` (RFC 8555, section 8.3).
    pub fn show_page(&self, token: &str, authorization: &str) {
        self.shown().pages.insert(token.to_owned(), authorization.to_owned());
    }

    /// Shows a certificate for `name` from now on, with the SHA-256 of the key authorization in it (RFC 8737, section 3).
    ///
    /// # Errors
    /// [`AcmeError::Making`].
    pub fn show_certificate(&self, name: &str, digest: [u8; 32]) -> Result<(), AcmeError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
        let certificate = params.self_signed(&key)?.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = provider().key_provider.load_private_key(key).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        let certified = Arc::new(CertifiedKey::new(vec![certificate], key));
        self.shown().certificates.insert(name.to_ascii_lowercase(), certified);
        Ok(())
    }

    /// The page for a token.
    pub fn page(&self, token: &str) -> Option<String> {
        self.shown().pages.get(token).cloned()
    }

    /// Shows nothing any more.
    pub fn clear(&self) {
        *self.shown() = Shown::default();
    }

    /// Makes what handshakes are answered with that are proofs. Any other fails in it.
    ///
    /// # Errors
    /// None that could come up: the versions are those of the provider.
    pub fn tls(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(Arc::clone(self))));
        config.alpn_protocols = vec![ACME_TLS.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// What stands there is whole even if a thread that changed it has panicked: one insertion, or a new value.
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Resolver(Arc<Proofs>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Without this a client that names no protocol would be shown a certificate that nobody should take for ours.
        if !hello.alpn()?.any(|protocol| protocol == ACME_TLS) {
            return None;
        }
        self.0.shown().certificates.get(&hello.server_name()?.to_ascii_lowercase()).cloned()
    }
}
