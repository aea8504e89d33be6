//! The files a certificate comes from, and the PEM in them.

use super::finding::ChainFinding;
use super::staple::{self, StapleFault};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// No chain comes near this, and a file named by mistake shall not fill the memory.
pub(super) const LARGEST: u64 = 1024 * 1024;

/// Where a certificate is: its chain (the server's own certificate first, then the intermediates) and its private
/// key, both PEM. Both may be the same file. An OCSP response in DER may stand beside them, under the chain's name with
/// `.ocsp` behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// The file with the certificates.
    pub chain: PathBuf,
    /// The file with the private key.
    pub key: PathBuf,
}

/// What the files held at one moment.
pub(super) struct Contents {
    pub(super) chain: Result<Zeroizing<Vec<u8>>, ChainFinding>,
    pub(super) key: Result<Zeroizing<Vec<u8>>, ChainFinding>,
    pub(super) key_mode: u32,
    /// The OCSP response, where there is one.
    pub(super) staple: Option<Result<Vec<u8>, StapleFault>>,
}

impl CertificateFiles {
    /// Reads the files, following symbolic links. This blocks.
    pub(super) fn read(&self) -> Contents {
        let (chain, _) = read(&self.chain);
        let (key, key_mode) = read(&self.key);
        Contents { chain, key, key_mode, staple: read_staple(&staple::beside(&self.chain)) }
    }
}

impl Contents {
    /// A digest that differs when any file does, or when it can no longer be read: compared instead of times,
    /// which a renewal within one tick of the file system's clock, or a restored backup, leaves alike.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [&self.chain, &self.key] {
            match part {
                Ok(bytes) => digest.update(Sha256::digest(bytes.as_slice())),
                Err(finding) => digest.update(Sha256::digest(finding.to_string())),
            }
        }
        match &self.staple {
            Some(Ok(bytes)) => digest.update(Sha256::digest(bytes)),
            Some(Err(fault)) => digest.update(Sha256::digest(fault.to_string())),
            None => {}
        }
        digest.finalize().into()
    }
}

#[cfg(test)]
impl Contents {
    pub(super) fn of(chain: &[u8], key: &[u8]) -> Self {
        let bytes = |bytes: &[u8]| Ok(Zeroizing::new(bytes.to_vec()));
        Self { chain: bytes(chain), key: bytes(key), key_mode: 0o600, staple: None }
    }
}

/// Takes the certificates out of a chain file, in the order they stand there.
pub(super) fn certificates(file: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, ChainFinding> {
    let certificates = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| ChainFinding::Garbled { file: file.to_owned(), error: error.to_string() })?;
    if certificates.is_empty() {
        return Err(match not_pem(file, bytes) {
            Some(finding) => finding,
            None => ChainFinding::NoCertificate { file: file.to_owned(), holds: contents(bytes) },
        });
    }
    Ok(certificates)
}

/// Takes the first private key out of a key file, be it PKCS#8, PKCS#1 or SEC1.
pub(super) fn key(file: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, ChainFinding> {
    if holds(bytes, "-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds(bytes, "Proc-Type: 4,ENCRYPTED") {
        return Err(ChainFinding::EncryptedKey { file: file.to_owned() });
    }
    match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => Err(match not_pem(file, bytes) {
            Some(finding) => finding,
            None => ChainFinding::NoKey { file: file.to_owned(), holds: contents(bytes) },
        }),
        Err(error) => Err(ChainFinding::Garbled { file: file.to_owned(), error: error.to_string() }),
    }
}

fn not_pem(file: &Path, bytes: &[u8]) -> Option<ChainFinding> {
    let holds = match bytes {
        // A SEQUENCE whose first element is the INTEGER 3: PKCS#12's version. A certificate begins with two SEQUENCEs.
        [0x30, 0x82, _, _, 2, 1, 3, ..] => "a PKCS#12 bundle",
        [0x30, 0x80..=0x84, ..] => "DER",
        _ => return None,
    };
    Some(ChainFinding::NotPem { file: file.to_owned(), holds })
}

/// Says what a file holds instead of what was looked for.
fn contents(bytes: &[u8]) -> &'static str {
    if bytes.is_empty() {
        "nothing"
    } else if holds(bytes, "-----BEGIN CERTIFICATE REQUEST-----") {
        "a certificate request, to which a CA has not answered yet"
    } else if holds(bytes, "-----BEGIN CERTIFICATE-----") {
        "certificates"
    } else if holds(bytes, "PRIVATE KEY-----") {
        "a private key"
    } else if holds(bytes, "-----BEGIN PUBLIC KEY-----") {
        "a public key"
    } else {
        "no PEM"
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

/// Reads a file, and tells its mode. This blocks.
pub(super) fn read(path: &Path) -> (Result<Zeroizing<Vec<u8>>, ChainFinding>, u32) {
    match try_read(path) {
        Ok((bytes, _)) if bytes.len() as u64 > LARGEST => {
            (Err(ChainFinding::TooLarge { file: path.to_owned(), limit: LARGEST }), 0)
        }
        Ok((bytes, mode)) => (Ok(bytes), mode),
        Err(error) => {
            let denied = error.kind() == io::ErrorKind::PermissionDenied;
            (Err(ChainFinding::Unreadable { file: path.to_owned(), error: error.to_string(), denied }), 0)
        }
    }
}

/// Nothing where there is none: few have one.
fn read_staple(path: &Path) -> Option<Result<Vec<u8>, StapleFault>> {
    match try_read(path) {
        Ok((bytes, _)) => Some(Ok(bytes.to_vec())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Err(StapleFault::Unreadable(error.to_string()))),
    }
}

fn try_read(path: &Path) -> io::Result<(Zeroizing<Vec<u8>>, u32)> {
    // Asked before it is opened: opening a FIFO waits for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    // Reserved at once, so that the key is not left behind in a buffer that was too small.
    let capacity = usize::try_from(metadata.len().min(LARGEST)).unwrap_or(0).saturating_add(64);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok((bytes, metadata.permissions().mode()))
}
