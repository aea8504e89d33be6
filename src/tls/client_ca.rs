//! Who signs clients' certificates: a file of CAs, read again when it changes, and how a client's chain is held against it.
//!
//! The file is PEM: one CA's certificate or several, and behind them, as Dovecot has it too, the lists (CRL, RFC 5280
//! section 5) of certificates that were taken back. A list counts however old it is: an old one still names what is lost,
//! and a forgotten renewal must not lock all customers out.

use super::finding::{self, ChainFinding};
use super::{chain, files, provider};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::revocation_list::CertificateRevocationList;

/// The most that a client's chain may have in octets. rustls keeps it as long as the session lasts; three certificates with
/// RSA keys of 4096 bits have six thousand.
const LARGEST_CHAIN: usize = 12 * 1024;
/// The most certificates in it: a stranger can have each held against each.
const LONGEST_CHAIN: usize = 6;

/// The most that is spent on naming the CAs in each handshake, by which programs choose what to show; where it is more
/// they are not named, and programs choose freely.
const MOST_HINTS: usize = 8 * 1024;

/// What a listener wants to see of its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Demand {
    /// Nothing.
    #[default]
    Nothing,
    /// A certificate, if the client has one. One that is not good ends the handshake: whoever shows it means to be known by it,
    /// and would wonder where he is taken for a stranger.
    Request,
    /// A certificate, or there is no handshake.
    Require,
}

/// Who is believed about clients.
#[derive(Clone)]
pub struct ClientCa(Option<Arc<dyn ClientCertVerifier>>);

/// What is less than good about the CAs of clients. It prints as a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the sentence of each variant names")]
pub enum ClientCaWarning {
    /// Mail programs trust it, and so it issues to strangers.
    #[error(
        "{subject} in {} is a CA for everybody: whoever got a certificate from it comes in; name a CA of your own", file.display()
    )]
    Public { file: PathBuf, subject: String },
    /// It says of itself that it signs nobody.
    #[error(
        "the certificate of {subject} in {} is not a CA's: name the one that signed it, if its customers are meant", file.display()
    )]
    NotCa { file: PathBuf, subject: String },
    /// Its key is too short, and nothing that it has signed is believed.
    #[error(
        "the CA {subject} in {} has a weak key ({key}), and nobody with a certificate of it comes in: make a new one with \
         RSA of 2048 bits, or ECDSA P-256, and issue the certificates anew", file.display()
    )]
    WeakKey { file: PathBuf, subject: String, key: String },
    /// Its time is over. Its signatures count all the same, as a root's do everywhere.
    #[error(
        "the CA {subject} in {} expired on {}: who has a certificate of it still comes in; take it out, or put the new one there", file.display(), finding::date(*not_after)
    )]
    Expired { file: PathBuf, subject: String, not_after: SystemTime },
    /// A newer list was due.
    #[error(
        "the list of revoked certificates of {issuer} in {} was to be renewed by {}: what was revoked since comes in", file.display(), finding::date(*due)
    )]
    OldList { file: PathBuf, issuer: String, due: SystemTime },
    /// The library holds a certificate against one list of its issuer's, and no more.
    #[error(
        "there are two lists of revoked certificates of {issuer} in {}, and the newer one alone counts: take the other out", file.display()
    )]
    TwoLists { file: PathBuf, issuer: String },
}

impl ClientCa {
    /// Believes nobody: who must show a certificate is refused.
    pub(super) fn nobody() -> Self {
        Self(None)
    }

    /// Reads the file. This blocks on the disk.
    ///
    /// # Errors
    /// It cannot be read, holds no certificate, or something in it is garbled: a part of it alone would lock out
    /// customers of the rest.
    pub fn read(file: &Path, now: SystemTime) -> Result<(Self, Vec<ClientCaWarning>), ChainFinding> {
        Self::understand(file, &files::read(file).0?, now)
    }

    fn understand(file: &Path, bytes: &[u8], now: SystemTime) -> Result<(Self, Vec<ClientCaWarning>), ChainFinding> {
        let certificates = files::certificates(file, bytes).map_err(|finding| match finding {
            ChainFinding::NoCertificate { file, holds } => ChainFinding::NoClientCa { file, holds },
            other => other,
        })?;
        let mut roots = RootCertStore::empty();
        let mut warnings = Vec::new();
        for (index, certificate) in certificates.iter().enumerate() {
            let bad =
                |error: String| ChainFinding::BadCertificate { file: file.to_owned(), position: index + 1, error };
            roots.add(certificate.clone()).map_err(|error| bad(error.to_string()))?;
            let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| bad(error.to_string()))?;
            look_at(file, &parsed, now, &mut warnings);
        }
        let lists = newest_first(file, bytes, now, &mut warnings)?;
        let hints: usize = roots.subjects().iter().map(|subject| subject.as_ref().len() + 2).sum();
        // A CA without a list in the file is believed about all that it has signed.
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .with_crls(lists)
            .allow_unknown_revocation_status();
        let builder = if hints > MOST_HINTS { builder.clear_root_hint_subjects() } else { builder };
        let verifier = builder.build().map_err(|error| bad_list(file, error))?;
        Ok((Self(Some(verifier)), warnings))
    }

    /// How chains are held against it; none where nothing is asked for.
    pub(super) fn verifier(&self, demand: Demand) -> Option<Arc<dyn ClientCertVerifier>> {
        let is_required = match demand {
            Demand::Nothing => return None,
            Demand::Request => false,
            Demand::Require => true,
        };
        Some(Arc::new(Verifier { believed: self.0.clone(), is_required }))
    }
}

impl fmt::Debug for ClientCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCa").finish_non_exhaustive()
    }
}

fn look_at(file: &Path, ca: &X509Certificate<'_>, now: SystemTime, warnings: &mut Vec<ClientCaWarning>) {
    let (file, subject) = (file.to_owned(), ca.subject().to_string());
    let not_after = chain::system_time(ca.validity().not_after);
    // Of a whole bundle one will do.
    if chain::is_known_root(ca.subject().as_raw()) {
        if !warnings.iter().any(|warning| matches!(warning, ClientCaWarning::Public { .. })) {
            warnings.push(ClientCaWarning::Public { file, subject });
        }
    } else if !ca.is_ca() && ca.version() == x509_parser::x509::X509Version::V3 {
        warnings.push(ClientCaWarning::NotCa { file, subject });
    } else if is_weak(ca) {
        warnings.push(ClientCaWarning::WeakKey { file, subject, key: chain::key_in_words(ca) });
    } else if not_after < now {
        warnings.push(ClientCaWarning::Expired { file, subject, not_after });
    }
}

/// Whether the library takes no signature by its key.
fn is_weak(ca: &X509Certificate<'_>) -> bool {
    matches!(ca.public_key().parsed(), Ok(PublicKey::RSA(key)) if key.key_size() < 2048)
}

/// The lists of revoked certificates in the file. Of each issuer's the library takes the first, so the newest stands there:
/// whoever is told to add a list puts it behind the old one.
fn newest_first(
    file: &Path,
    bytes: &[u8],
    now: SystemTime,
    warnings: &mut Vec<ClientCaWarning>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, ChainFinding> {
    let mut lists = CertificateRevocationListDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| ChainFinding::Garbled { file: file.to_owned(), error: error.to_string() })?;
    // What cannot be read is told below.
    lists.sort_by_cached_key(|der| Reverse(parsed(der).map_or(0, |list| list.last_update().timestamp())));
    let mut seen = HashSet::new();
    for der in &lists {
        let list = parsed(der).map_err(|error| bad_list(file, error))?;
        if list.version().is_none() {
            let why = "it is of version 1; openssl makes it of version 2 where its configuration has crlnumber = FILE";
            return Err(bad_list(file, why));
        }
        let due = list.next_update().map(chain::system_time).filter(|due| *due < now);
        let (file, issuer) = (file.to_owned(), list.issuer().to_string());
        if !seen.insert(list.issuer().as_raw().to_vec()) {
            warnings.push(ClientCaWarning::TwoLists { file, issuer });
        } else if let Some(due) = due {
            warnings.push(ClientCaWarning::OldList { file, issuer, due });
        }
    }
    Ok(lists)
}

fn parsed(list: &[u8]) -> Result<CertificateRevocationList<'_>, impl fmt::Display + use<>> {
    CertificateRevocationList::from_der(list).map(|(_, list)| list).map_err(|error| error.to_string())
}

fn bad_list(file: &Path, error: impl fmt::Display) -> ChainFinding {
    ChainFinding::BadList { file: file.to_owned(), error: error.to_string() }
}

/// The library's verifier, with a bound on what is kept of a client, and where there is none with nobody who is believed.
#[derive(Debug)]
struct Verifier {
    believed: Option<Arc<dyn ClientCertVerifier>>,
    is_required: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("its chain has more than {LARGEST_CHAIN} octets, or than {LONGEST_CHAIN} certificates")]
struct TooLarge;

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.believed.as_ref().map_or(&[], |believed| believed.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let octets = own.len() + above.iter().map(|certificate| certificate.len()).sum::<usize>();
        if octets > LARGEST_CHAIN || above.len() >= LONGEST_CHAIN {
            return Err(CertificateError::Other(OtherError(Arc::new(TooLarge))).into());
        }
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let Some(believed) = &self.believed else { return Err(unknown) };
        believed.verify_client_cert(own, above, now).map_err(|error| match error {
            // Another CA's, or the same one's with a new key, that has the name of one in the file.
            Error::InvalidCertificate(CertificateError::BadSignature) => unknown,
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The file, and what was last seen there. A caller looks every few seconds, on a thread that may block.
#[derive(Debug)]
pub struct WatchedClientCa {
    file: PathBuf,
    /// Digest of what was seen last, whether it was good or not.
    seen: [u8; 32],
    /// The same of what is new, and may still be in the writing: a CA without the list that is to follow would be believed about
    /// those that it has revoked.
    unsettled: Option<[u8; 32]>,
    is_refused: bool,
}

impl WatchedClientCa {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// Those of [`ClientCa::read`].
    pub fn open(file: PathBuf, now: SystemTime) -> Result<(Self, ClientCa, Vec<ClientCaWarning>), ChainFinding> {
        let bytes = files::read(&file).0?;
        let (ca, warnings) = ClientCa::understand(&file, &bytes, now)?;
        Ok((Self { file, seen: Sha256::digest(&bytes).into(), unsettled: None, is_refused: false }, ca, warnings))
    }

    /// Where it is.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Looks again: nothing where it is as it was, and where it is not as it was at the last look. `asked`: somebody says that it
    /// is to be taken now, and wants to hear again what is still wrong with it.
    ///
    /// # Errors
    /// What is wrong, once; what was believed before is to be believed on.
    pub fn poll(
        &mut self,
        now: SystemTime,
        asked: bool,
    ) -> Option<Result<(ClientCa, Vec<ClientCaWarning>), ChainFinding>> {
        let contents = files::read(&self.file).0;
        let seen = match &contents {
            Ok(bytes) => Sha256::digest(bytes).into(),
            Err(finding) => Sha256::digest(finding.to_string()).into(),
        };
        if seen == self.seen && !(asked && self.is_refused) {
            self.unsettled = None;
            return None;
        }
        if !asked && self.unsettled.replace(seen) != Some(seen) {
            return None;
        }
        (self.seen, self.unsettled) = (seen, None);
        let understood = contents.and_then(|bytes| ClientCa::understand(&self.file, &bytes, now));
        self.is_refused = understood.is_err();
        Some(understood)
    }
}

#[cfg(test)]
mod tests;
