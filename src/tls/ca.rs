//! The gateway's own certificate authority, for whoever has no certificate from another.
//!
//! Clients are given the root once; everything it signs from then on they take. So the root lives ten years and is
//! never made twice: not over an existing one, however damaged, and not by two processes that start at the same time.
//!
//! ```text
//! STATE_DIR/ca.lock        held while anything below is made
//! STATE_DIR/ca/            0700; comes into being in one rename, whole
//! STATE_DIR/ca/root.pem    the root, for clients
//! STATE_DIR/ca/root.key    0600
//! STATE_DIR/ca/server.pem  0600: key and certificate of the gateway, replaced in one rename
//! ```

use super::disk::{self, DiskError};
use super::files;
use super::identity::Identity;
use super::name::Name;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

const DAY: Duration = Duration::from_secs(24 * 3600);
const ROOT_LIFE: Duration = Duration::from_secs(3653 * 24 * 3600);
/// As long as any client takes (Apple's 398 days are the least): each renewal is a new certificate to those who once
/// accepted the old one by hand.
const LEAF_LIFE: Duration = Duration::from_secs(397 * 24 * 3600);
/// For clients whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(3600);
/// The most names in one certificate.
const MOST_NAMES: usize = 100;
/// The bound of X.520 on a common name.
const LONGEST_COMMON_NAME: usize = 64;
/// The bound on an address (RFC 5280 appendix A.1).
const LONGEST_ADDRESS: usize = 255;

/// A certificate authority kept in a directory.
pub struct PrivateCa {
    state_dir: PathBuf,
    root: CertificateDer<'static>,
    root_pem: String,
    not_after: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

/// A private CA's certificate as clients get it, without the key.
#[derive(Debug, Clone)]
pub struct Root {
    /// As PEM.
    pub pem: String,
    /// As DER, the form phones and Windows ask for.
    pub der: CertificateDer<'static>,
    /// SHA-256 as clients show it (`AB:CD:…`), to be compared by eye.
    pub fingerprint: String,
}

/// A certificate fresh from the CA, with its key.
pub struct Issued {
    /// The certificate alone: who trusts the root needs no more.
    pub certificate_pem: String,
    /// The private key, PKCS#8. It is nowhere else.
    pub key_pem: Zeroizing<String>,
    /// When clients begin to refuse it.
    pub not_after: SystemTime,
}

/// Why the CA cannot be used, or made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file or directory could not be read or written.
    #[error("the private CA: {0}")]
    Disk(#[from] DiskError),
    /// The files of the root are not what they were when they were made.
    #[error(
        "the private CA in {dir} is damaged: {why}. It is not made again over this one, for clients trust this root: \
         put the files back from a backup, or, to begin anew and give every client the new root, move {dir} away"
    )]
    Damaged {
        /// The directory of the CA.
        dir: PathBuf,
        /// What is wrong in it.
        why: String,
    },
    /// The root's ten years are over.
    #[error("the root of the private CA in {dir} has expired: move {dir} away, and give every client the new root")]
    RootExpired {
        /// The directory of the CA.
        dir: PathBuf,
    },
    /// What was asked for cannot be in a certificate.
    #[error("the private CA cannot issue a certificate for {0}")]
    Names(String),
    /// The library could not make a key or sign; the system gave no random numbers, say.
    #[error("the private CA could not sign: {0}")]
    Signing(#[from] rcgen::Error),
}

impl PrivateCa {
    /// Opens the CA in `state_dir`, or makes it, the directory too. `name` (the gateway's host name) becomes part of
    /// the root's, by which people find it among their trusted roots; an existing root keeps its own.
    pub fn open_or_create(state_dir: &Path, name: &str, now: SystemTime) -> Result<Self, CaError> {
        disk::create_private_dir(state_dir)?;
        let _lock = disk::lock(&state_dir.join("ca.lock"))?;
        if let Some(ca) = Self::open(state_dir)? {
            return Ok(ca);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let root = root_params(name, now).self_signed(&key)?;
        let key_pem = Zeroizing::new(key.serialize_pem());
        disk::create_whole(
            &state_dir.join("ca.new"),
            &state_dir.join("ca"),
            &[("root.key", 0o600, key_pem.as_bytes()), ("root.pem", 0o644, root.pem().as_bytes())],
        )?;
        Self::open(state_dir)?.ok_or_else(|| damaged(state_dir, "it was made and is not there".to_owned()))
    }

    /// Opens the CA in `state_dir`, if there is one. Nothing is made or changed.
    pub fn open(state_dir: &Path) -> Result<Option<Self>, CaError> {
        let (certificate, key) = (state_dir.join("ca/root.pem"), state_dir.join("ca/root.key"));
        let (root_pem, key_pem) = match (disk::read(&certificate)?, disk::read(&key)?) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (certificate, key),
            (None, Some(_)) => return Err(damaged(state_dir, "root.pem is missing".to_owned())),
            (Some(_), None) => return Err(damaged(state_dir, "root.key is missing".to_owned())),
        };
        let key = KeyPair::from_pem(&key_pem)
            .map_err(|error| damaged(state_dir, format!("root.key holds no private key ({error})")))?;
        let root = CertificateDer::from_pem_slice(root_pem.as_bytes())
            .map_err(|error| damaged(state_dir, format!("root.pem holds no certificate ({error})")))?;
        let (_, parsed) = X509Certificate::from_der(&root)
            .map_err(|error| damaged(state_dir, format!("root.pem holds no certificate ({error})")))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(damaged(state_dir, "root.key is not the key of root.pem".to_owned()));
        }
        let not_after = seconds(parsed.validity().not_after.timestamp());
        let issuer = Issuer::from_ca_cert_der(&root, key)
            .map_err(|error| damaged(state_dir, format!("root.pem is no CA of ours ({error})")))?;
        Ok(Some(Self { state_dir: state_dir.to_owned(), root, root_pem: root_pem.to_string(), not_after, issuer }))
    }

    /// Issues a certificate for these names, with a fresh key that is kept nowhere: it lives 397 days and begins an
    /// hour ago.
    pub fn issue(&self, names: &[Name], now: SystemTime) -> Result<Issued, CaError> {
        self.sign(server_params(names)?, now)
    }

    /// Issues one of the same life to a customer, who proves by it who he is; no server is believed for it. `name`: an
    /// address, in ASCII, or a name of at most 64 octets.
    pub fn issue_to_client(&self, name: &str, now: SystemTime) -> Result<Issued, CaError> {
        self.sign(client_params(name)?, now)
    }

    fn sign(&self, mut params: CertificateParams, now: SystemTime) -> Result<Issued, CaError> {
        let not_after = (now + LEAF_LIFE - BACKDATED).min(self.not_after);
        if not_after < now + DAY {
            return Err(CaError::RootExpired { dir: self.dir() });
        }
        params.not_before = OffsetDateTime::from(now - BACKDATED);
        params.not_after = OffsetDateTime::from(not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: Zeroizing::new(key.serialize_pem()),
            not_after: whole_seconds(not_after),
        })
    }

    /// Gives the gateway's own certificate for these names: the one of last time, or a new one if two thirds of its
    /// life are over, the names are others, or it is damaged. This blocks on the disk.
    pub fn identity(&self, names: &[Name], now: SystemTime) -> Result<Arc<Identity>, CaError> {
        let _lock = disk::lock(&self.state_dir.join("ca.lock"))?;
        let path = self.dir().join("server.pem");
        if let Some(identity) = self.stored(&path, names, now)? {
            return Ok(identity);
        }
        let issued = self.issue(names, now)?;
        let both = Zeroizing::new(format!("{}{}", issued.key_pem.as_str(), issued.certificate_pem));
        disk::replace(&path, 0o600, both.as_bytes())?;
        self.stored(&path, names, now)?
            .ok_or_else(|| damaged(&self.state_dir, "server.pem was written and does not read back".to_owned()))
    }

    /// Gives the root in every form.
    pub fn root(&self) -> Root {
        Root { pem: self.root_pem.clone(), der: self.root.clone(), fingerprint: self.fingerprint() }
    }

    /// Gives the place of the root's certificate, PEM.
    pub fn root_file(&self) -> PathBuf {
        self.dir().join("root.pem")
    }

    /// Gives the root as PEM, for clients to trust.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Gives the root as DER, the form phones and Windows ask for.
    pub fn root_der(&self) -> &[u8] {
        &self.root
    }

    /// Gives the moment the root expires.
    pub fn root_not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Gives the SHA-256 fingerprint of the root, as clients show it (`AB:CD:…`), to be compared by eye.
    pub fn fingerprint(&self) -> String {
        Sha256::digest(&self.root).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }

    fn dir(&self) -> PathBuf {
        self.state_dir.join("ca")
    }

    /// Reads the certificate of last time, if it is one that would be issued again.
    fn stored(&self, path: &Path, names: &[Name], now: SystemTime) -> Result<Option<Arc<Identity>>, CaError> {
        let Some(pem) = disk::read(path)? else { return Ok(None) };
        let (Ok(mut chain), Ok(key)) = (files::certificates(path, pem.as_bytes()), files::key(path, pem.as_bytes()))
        else {
            return Ok(None);
        };
        // The root stands behind it for the examination, which shows that it signed this; it is not sent.
        chain.push(self.root.clone());
        let mut findings = Vec::new();
        let identity = Identity::assemble(path, path, chain, key, now, &mut findings);
        let ours = |identity: &Identity| {
            let (mut have, mut want) = (identity.names().to_vec(), names.to_vec());
            have.sort();
            want.sort();
            findings.is_empty() && have == want && identity.chain().len() == 1 && !identity.needs_renewal(now)
        };
        Ok(identity.filter(ours).map(Arc::new))
    }
}

impl fmt::Debug for PrivateCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateCa").field("dir", &self.dir()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

fn root_params(name: &str, now: SystemTime) -> CertificateParams {
    let mut common_name = format!("gatepost private CA ({name})");
    if common_name.len() > LONGEST_COMMON_NAME {
        common_name = "gatepost private CA".to_owned();
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = OffsetDateTime::from(now - BACKDATED);
    params.not_after = OffsetDateTime::from(now + ROOT_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server_params(names: &[Name]) -> Result<CertificateParams, CaError> {
    let Some(first) = names.first() else { return Err(CaError::Names("no name".to_owned())) };
    if names.len() > MOST_NAMES {
        return Err(CaError::Names(format!("more than {MOST_NAMES} names")));
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let first = first.to_string();
    let is_short = first.len() <= LONGEST_COMMON_NAME;
    params.distinguished_name.push(DnType::CommonName, if is_short { first } else { "gatepost".to_owned() });
    for name in names {
        params.subject_alt_names.push(match name {
            Name::Ip(ip) => SanType::IpAddress(*ip),
            Name::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn client_params(name: &str) -> Result<CertificateParams, CaError> {
    let refused = |why: &str| Err(CaError::Names(format!("{name:?}: {why}")));
    let is_address = name.contains('@');
    if name.is_empty() || name.chars().any(char::is_control) {
        return refused("write an address or a name, without control characters");
    } else if is_address && (!name.is_ascii() || name.len() > LONGEST_ADDRESS) {
        return refused("an address has ASCII letters (a domain its xn-- form) and at most 255 octets");
    } else if !is_address && name.len() > LONGEST_COMMON_NAME {
        return refused("a name that is no address has at most 64 octets");
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if is_address {
        params.subject_alt_names.push(SanType::Rfc822Name(name.try_into()?));
    }
    // People choose among their certificates by the subject, and one that has none at all is refused here and there.
    let shown = if name.len() <= LONGEST_COMMON_NAME { name } else { "mail" };
    params.distinguished_name.push(DnType::CommonName, shown);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn damaged(state_dir: &Path, why: String) -> CaError {
    CaError::Damaged { dir: state_dir.join("ca"), why }
}

fn seconds(timestamp: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap_or(0))
}

/// Cuts off what a certificate's dates cannot hold.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[cfg(test)]
mod tests;
