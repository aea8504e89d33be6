//! Certificates from a public CA by its protocol, ACME (RFC 8555): what is asked for, how it is proved that the names are
//! ours, what is kept on the disk, and when the next one is due. Who speaks with the CA is not here: it needs sockets.
//!
//! ```text
//! state_dir/acme/acme-v02.api.letsencrypt.org-1a2b3c4d/     one folder a directory: staging and production do not mix
//!     account.json     the account's key                    ecdsa.pem, rsa.pem     key and chain, replaced in one rename
//!     ecdsa-tries.json, rsa-tries.json     when it went wrong of late, so that a restart is no way round the CA's limits
//!     records.json     TXT records that are set (dns-01)
//! ```

mod due;
mod proof;
mod record;
mod window;

pub use due::{Tries, renewal};
pub use proof::Proofs;
pub use record::{InvalidRecord, LeftRecord, TxtRecord};
pub use window::{Window, certificate_id};

use super::disk::{self, DiskError};
use super::files::{self, CertificateFiles};
use super::finding::{ChainFinding, Severity};
use super::identity::{Identity, KeyKind};
use super::name::Name;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use zeroize::Zeroizing;

/// What a certificate takes on the disk at most, with its chain and key, in octets: public CAs' take a third of it.
const ROOM: usize = 16 * 1024;

/// Why a certificate cannot be asked for, or the one that came cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The folder cannot be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What the CA sent is not a certificate that could be served.
    #[error("what the CA issued cannot be served: {0}")]
    Unusable(String),
    /// It was written, and reading the file gives something else.
    #[error("what the CA issued was written to {0} and cannot be read back from there")]
    Lost(String),
    /// The library could not make a key or sign: no random numbers, say, or a name that it does not take.
    #[error("no key or request could be made: {0}")]
    Making(#[from] rcgen::Error),
}

/// What is kept of one CA. Everything here blocks on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder in `state_dir` for the CA whose directory has this URL. Nothing is made yet.
    pub fn of(state_dir: &Path, directory: &str) -> Self {
        let digest = Sha256::digest(directory.as_bytes());
        let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let host = directory.split("//").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
        let host: String =
            host.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).take(100).collect();
        // A host of dots would be another folder; the digest behind it keeps that away too.
        Self(state_dir.join("acme").join(format!("{host}-{short}")))
    }

    /// The file with the certificate and its key. Both are one file: no reader catches one without the other.
    pub fn files(&self, kind: KeyKind) -> CertificateFiles {
        let file = self.0.join(format!("{}.pem", short_name(kind)));
        CertificateFiles { chain: file.clone(), key: file }
    }

    fn tries_file(&self, kind: KeyKind) -> PathBuf {
        self.0.join(format!("{}-tries.json", short_name(kind)))
    }

    /// The certificate that is there, if it is for exactly these names (in lower case); an expired one too.
    pub fn certificate(&self, kind: KeyKind, names: &[String], now: SystemTime) -> Option<Arc<Identity>> {
        let files = self.files(kind);
        if !files.chain.exists() {
            return None;
        }
        let checked = Identity::load(&files, now);
        checked.is_sound_but_for_time().then_some(checked.identity).flatten().filter(|identity| is_for(identity, names))
    }

    /// Sees that a certificate could be kept. A CA counts what it issues, so one that would be lost is not asked for.
    ///
    /// # Errors
    /// The folder cannot be made, or [`ROOM`] octets cannot be written in it.
    pub fn prove_writable(&self, kind: KeyKind) -> Result<(), AcmeError> {
        disk::create_private_dir(&self.0)?;
        Ok(disk::try_replacing(&self.files(kind).chain, ROOM)?)
    }

    /// Takes what the CA issued on a request into the folder, in the place of what was there.
    ///
    /// # Errors
    /// [`AcmeError::Unusable`] if it is not for these names and this key, or is otherwise wrong: the old one stays.
    /// [`AcmeError::Lost`] if it cannot be read back.
    pub fn keep(
        &self,
        request: &Request,
        chain: &str,
        names: &[String],
        now: SystemTime,
    ) -> Result<Arc<Identity>, AcmeError> {
        let file = self.files(request.kind).chain;
        let text = Zeroizing::new(format!("{}{chain}", request.key.as_str()));
        if text.len() as u64 > files::LARGEST {
            return Err(AcmeError::Unusable(format!(
                "with its key it has {} octets, {} at most are read",
                text.len(),
                files::LARGEST
            )));
        }
        let mut findings = Vec::new();
        // The key as it will be read from the file, by what else the CA may have put there.
        let (certificates, key) = files::certificates(&file, chain.as_bytes())
            .and_then(|chain| Ok((chain, files::key(&file, text.as_bytes())?)))
            .map_err(|finding| AcmeError::Unusable(finding.to_string()))?;
        let identity = Identity::assemble(&file, &file, certificates, key, now, &mut findings);
        let errors: Vec<_> = findings
            .iter()
            .filter(|finding| finding.severity() == Severity::Error)
            .map(ChainFinding::to_string)
            .collect();
        let identity = identity.filter(|_| errors.is_empty()).ok_or_else(|| AcmeError::Unusable(errors.join("; ")))?;
        if !is_for(&identity, names) {
            return Err(AcmeError::Unusable(format!("it is not for {}, as was asked", names.join(", "))));
        }
        self.write(&file, &text)?;
        // What cannot be found again would be asked for again, at once and without end.
        self.certificate(request.kind, names, now)
            .filter(|found| found.chain() == identity.chain())
            .ok_or_else(|| AcmeError::Lost(file.display().to_string()))
    }

    /// The account as it was kept, if there is one: text with a private key in it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn account(&self) -> Result<Option<Zeroizing<String>>, AcmeError> {
        Ok(disk::read(&self.0.join("account.json"))?)
    }

    /// Keeps an account.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_account(&self, account: &Zeroizing<String>) -> Result<(), AcmeError> {
        self.write(&self.0.join("account.json"), account)
    }

    /// What is known of tries that failed for this kind of certificate; nothing, where that cannot be read.
    pub fn tries(&self, kind: KeyKind) -> Tries {
        disk::read(&self.tries_file(kind)).ok().flatten().map(|text| Tries::read(&text)).unwrap_or_default()
    }

    /// Keeps what is known of tries that failed for this kind of certificate.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_tries(&self, kind: KeyKind, tries: &Tries) -> Result<(), AcmeError> {
        self.write(&self.tries_file(kind), &Zeroizing::new(tries.written()))
    }

    /// The TXT records that were set and not removed yet; none, where that cannot be read.
    pub fn records(&self) -> Vec<LeftRecord> {
        let text = disk::read(&self.0.join("records.json")).ok().flatten();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Keeps which TXT records are set, so that a process that dies leaves none behind for ever.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_records(&self, records: &[LeftRecord]) -> Result<(), AcmeError> {
        let text = serde_json::to_string(records).unwrap_or_default();
        self.write(&self.0.join("records.json"), &Zeroizing::new(text))
    }

    fn write(&self, path: &Path, text: &Zeroizing<String>) -> Result<(), AcmeError> {
        disk::create_private_dir(&self.0)?;
        Ok(disk::replace(path, 0o600, text.as_bytes())?)
    }
}

/// A request for a certificate (PKCS #10), with the fresh key that it is for.
pub struct Request {
    kind: KeyKind,
    key: Zeroizing<String>,
    csr: Vec<u8>,
}

impl Request {
    /// Makes a key and asks for these names. An RSA key takes a good part of a second of a processor.
    ///
    /// # Errors
    /// [`AcmeError::Making`].
    pub fn new(kind: KeyKind, names: &[String]) -> Result<Self, AcmeError> {
        let key = match kind {
            KeyKind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
            KeyKind::Ecdsa | KeyKind::Ed25519 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        };
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key)?.der().to_vec();
        Ok(Self { kind, key: Zeroizing::new(key.serialize_pem()), csr })
    }

    /// The request in DER, as the CA takes it.
    pub fn csr(&self) -> &[u8] {
        &self.csr
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("kind", &self.kind).finish_non_exhaustive()
    }
}

fn short_name(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Rsa => "rsa",
        KeyKind::Ecdsa | KeyKind::Ed25519 => "ecdsa",
    }
}

fn is_for(identity: &Identity, names: &[String]) -> bool {
    let mut have: Vec<String> = identity.names().iter().map(Name::to_string).collect();
    let mut want = names.to_vec();
    have.sort();
    want.sort();
    have == want
}

#[cfg(test)]
mod tests;
