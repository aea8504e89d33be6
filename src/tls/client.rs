//! TLS towards servers: whom we trust, what we prove ourselves with, and the words for a server that proves nothing.

use super::{Identity, provider};
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, OtherError, RootCertStore};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file of CA certificates that is read; the system's bundle has a quarter of a megabyte.
const LARGEST: u64 = 8 * 1024 * 1024;

/// Whose signature on a server's certificate is believed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Trust {
    /// The system's store, or Mozilla's list where the system has none.
    System,
    /// The certificates of a PEM file, and no other.
    File(PathBuf),
}

/// Why there is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is no PEM.
    #[error("is not PEM: {0}")]
    NotPem(rustls::pki_types::pem::Error),
    /// It has no certificate in it.
    #[error("holds no certificate that could sign another")]
    Empty,
}

impl Trust {
    /// Reads the certificates. This blocks on the disk.
    ///
    /// # Errors
    /// [`TrustError`], of the file alone: without the system's store Mozilla's list stands in.
    pub fn roots(&self) -> Result<RootCertStore, TrustError> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::System => {
                // What cannot be read or understood in it is left out, as everybody does.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
                }
            }
            Self::File(path) => {
                let certificates = read(path)?;
                roots.add_parsable_certificates(certificates);
                if roots.is_empty() {
                    return Err(TrustError::Empty);
                }
            }
        }
        Ok(roots)
    }
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(TrustError::NotPem)
}

/// Makes what a client's handshakes are made with: servers are verified against `roots` and by name; `identity` is shown to
/// those that ask for a certificate. No ALPN: old servers know none.
///
/// # Errors
/// `roots` is empty, or the identity's key cannot sign.
pub fn client_config(roots: RootCertStore, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| rustls::Error::Other(OtherError(Arc::new(error))))?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_webpki_verifier(verifier);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let certified = CertifiedKey::clone(identity.certified());
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    };
    Ok(Arc::new(config))
}

/// The name or address by which a server is verified.
///
/// # Errors
/// It is neither.
pub fn server_name(host: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(host.strip_suffix('.').unwrap_or(host).to_owned())
}

/// Says in a person's words why a handshake with the server `host` failed, and what could be done about it.
pub fn words(error: &io::Error, host: &str) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => words_of_tls(error, host),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it closed the connection in the middle of the TLS handshake".to_owned()
        }
        None => error.to_string(),
    }
}

fn words_of_tls(error: &rustls::Error, host: &str) -> String {
    use rustls::{Error, InvalidMessage};
    match error {
        Error::InvalidCertificate(fault) => match fault {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired".to_owned(),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet: are the clocks right?".to_owned()
            }
            CertificateError::UnknownIssuer => {
                "its certificate is signed by nobody who is trusted: name the CA (tls_ca), or have it send the whole chain".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("its certificate is not for {host}")
            }
            CertificateError::BadSignature => {
                "its certificate is signed by another key than that of the trusted CA of that name: is tls_ca an old one?".to_owned()
            }
            CertificateError::Revoked => "its certificate is revoked".to_owned(),
            other => format!("its certificate is refused: {other}"),
        },
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "it does not speak TLS there".to_owned(),
        Error::AlertReceived(alert) => format!("it ends the TLS handshake with {alert:?}"),
        other => format!("the TLS handshake failed: {other}"),
    }
}
