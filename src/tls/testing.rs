//! Certificates for tests: an authority of the moment, and what it signs.

use super::files::CertificateFiles;
use super::identity::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;

pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A root and an intermediate below it, which signs.
pub(super) struct Authority {
    pub(super) root: CertifiedIssuer<'static, KeyPair>,
    pub(super) intermediate: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate for servers, with its key and the intermediate.
#[derive(Clone)]
pub(super) struct Leaf {
    pub(super) certificate: String,
    pub(super) intermediate: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let root = CertifiedIssuer::self_signed(ca_params("Test Root"), key()).expect("signs");
        let intermediate = CertifiedIssuer::signed_by(ca_params("Test Intermediate"), key(), &root).expect("signs");
        Self { root, intermediate }
    }

    /// Issues for today: valid from yesterday for 90 days.
    pub(super) fn leaf(&self, names: &[&str]) -> Leaf {
        self.sign(leaf_params(names), &key())
    }

    pub(super) fn rsa_leaf(&self, names: &[&str]) -> Leaf {
        static RSA: LazyLock<KeyPair> =
            LazyLock::new(|| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key"));
        self.sign(leaf_params(names), &RSA)
    }

    /// Issues what was over yesterday.
    pub(super) fn expired_leaf(&self, names: &[&str]) -> Leaf {
        let mut params = leaf_params(names);
        params.not_before = OffsetDateTime::from(SystemTime::now() - 90 * DAY);
        params.not_after = OffsetDateTime::from(SystemTime::now() - DAY);
        self.sign(params, &key())
    }

    pub(super) fn sign(&self, params: CertificateParams, key: &KeyPair) -> Leaf {
        let certificate = params.signed_by(key, &self.intermediate).expect("signs").pem();
        Leaf { certificate, intermediate: self.intermediate.pem(), key: key.serialize_pem() }
    }
}

impl Leaf {
    pub(super) fn chain(&self) -> String {
        format!("{}{}", self.certificate, self.intermediate)
    }
}

pub(super) fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

pub(super) fn leaf_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    let now = SystemTime::now();
    params.not_before = OffsetDateTime::from(now - DAY);
    params.not_after = OffsetDateTime::from(now + 89 * DAY);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

pub(super) fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = OffsetDateTime::from(SystemTime::now() - 100 * DAY);
    params.not_after = OffsetDateTime::from(SystemTime::now() + 1000 * DAY);
    params
}

pub(super) fn identity(leaf: &Leaf) -> Arc<Identity> {
    use rustls::pki_types::pem::PemObject;
    let chain = CertificateDer::pem_slice_iter(leaf.chain().as_bytes()).collect::<Result<Vec<_>, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("PEM");
    let mut findings = Vec::new();
    let identity =
        Identity::assemble(Path::new("chain"), Path::new("key"), chain, key, SystemTime::now(), &mut findings);
    Arc::new(identity.unwrap_or_else(|| panic!("{findings:?}")))
}

/// What a CA says of a certificate when it is asked (RFC 6960), but for the signature. `status` is a tag: 0x80 good, 0xa1
/// revoked, 0x82 unknown.
pub(super) fn ocsp_response(serial: &[u8], status: u8, this: SystemTime, next: Option<SystemTime>) -> Vec<u8> {
    let revoked_at = if status == 0xa1 { generalized_time(this) } else { Vec::new() };
    let hash = der(0x30, &[&[6, 5, 0x2b, 0x0e, 3, 2, 0x1a], &[5, 0]]);
    let certificate = der(0x30, &[&hash, &der(4, &[&[1; 20]]), &der(4, &[&[2; 20]]), &der(2, &[serial])]);
    let next = next.map(|next| der(0xa0, &[&generalized_time(next)])).unwrap_or_default();
    let single = der(0x30, &[&certificate, &der(status, &[&revoked_at]), &generalized_time(this), &next]);
    let responder = der(0xa2, &[&der(4, &[&[3; 20]])]);
    let data = der(0x30, &[&responder, &generalized_time(this), &der(0x30, &[&single])]);
    let algorithm = der(0x30, &[&[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]]);
    let basic = der(0x30, &[&data, &algorithm, &der(3, &[&[0, 1, 2, 3]])]);
    let bytes = der(0x30, &[&[6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1], &der(4, &[&basic])]);
    der(0x30, &[&[0x0a, 1, 0], &der(0xa0, &[&bytes])])
}

fn generalized_time(time: SystemTime) -> Vec<u8> {
    let format = time::macros::format_description!("[year][month][day][hour][minute][second]Z");
    der(0x18, &[OffsetDateTime::from(time).format(format).expect("a date").as_bytes()])
}

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = match u8::try_from(content.len()) {
        Ok(length @ 0..=127) => vec![length],
        Ok(length) => vec![0x81, length],
        Err(_) => [&[0x82][..], &u16::try_from(content.len()).expect("short").to_be_bytes()].concat(),
    };
    [&[tag][..], &length, &content].concat()
}

impl Leaf {
    /// Its serial number, as it is encoded.
    pub(super) fn serial(&self) -> Vec<u8> {
        use rustls::pki_types::pem::PemObject;
        use x509_parser::prelude::FromDer;
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("PEM");
        let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&der).expect("X.509");
        certificate.raw_serial().to_vec()
    }
}

/// A directory of the moment with one pair of files.
pub(super) struct Folder(tempfile::TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn files(&self) -> CertificateFiles {
        CertificateFiles { chain: self.path().join("chain.pem"), key: self.path().join("key.pem") }
    }

    /// Writes the pair, the key readable by its owner alone.
    pub(super) fn pair(&self, chain: &[u8], key: &[u8]) -> CertificateFiles {
        use std::os::unix::fs::PermissionsExt;
        let files = self.files();
        std::fs::write(&files.chain, chain).expect("writes");
        std::fs::write(&files.key, key).expect("writes");
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        files
    }
}
