//! A certificate with its chain and key, examined: what the gateway can prove itself with.

use super::chain::{self, Leaf};
use super::files::{self, CertificateFiles, Contents};
use super::finding::{ChainFinding, Severity};
use super::name::Name;
use super::provider;
use super::staple::{self, Staple};
use rustls::SignatureScheme;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// A chain and the key to it. That the key belongs to the certificate and that rustls can sign with it is certain;
/// whether its time has come, or is over, is not.
#[derive(Debug)]
pub struct Identity {
    files: Option<CertificateFiles>,
    leaf: Leaf,
    certified: Arc<CertifiedKey>,
    /// Until when the OCSP response that is sent along is valid, if one is.
    stapled_until: Option<SystemTime>,
}

/// What came of reading a pair of files: the identity, where one can be served, and all that is wrong with it.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Present whenever a handshake could be made with it, even if clients would turn away from it (expired, say).
    pub identity: Option<Arc<Identity>>,
    /// Everything found at once, errors first.
    pub findings: Vec<ChainFinding>,
}

/// The kind of a key, in the order of preference: a client that takes several gets the cheaper signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// ECDSA on P-256, P-384 or P-521.
    Ecdsa,
    /// RSA, for clients from before 2012 or so.
    Rsa,
    /// Ed25519.
    Ed25519,
}

impl Identity {
    /// Reads and examines a pair of files. `now` is what its dates are held against. This blocks on the disk.
    pub fn load(files: &CertificateFiles, now: SystemTime) -> Checked {
        Self::examine(files, &files.read(), now)
    }

    /// Examines what was read.
    pub(super) fn examine(files: &CertificateFiles, contents: &Contents, now: SystemTime) -> Checked {
        let mut findings = Vec::new();
        let chain = contents.chain.clone().and_then(|bytes| files::certificates(&files.chain, &bytes));
        let key = contents.key.clone().and_then(|bytes| files::key(&files.key, &bytes));
        let chain = note(chain, &mut findings);
        let key = note(key, &mut findings);
        if key.is_some() && contents.key_mode & 0o004 != 0 {
            findings.push(ChainFinding::KeyReadable { file: files.key.clone(), mode: contents.key_mode & 0o7777 });
        }
        let identity = match (chain, key) {
            (Some(chain), Some(key)) => Self::assemble(&files.chain, &files.key, chain, key, now, &mut findings)
                .map(|identity| Self { files: Some(files.clone()), ..identity })
                .map(|identity| Arc::new(identity.stapled(files, contents, now, &mut findings))),
            (Some(chain), None) => {
                chain::examine(&files.chain, chain, None, now, &mut findings);
                None
            }
            (None, _) => None,
        };
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
        Checked { identity, findings }
    }

    /// Puts a chain and a key together; what is wrong with them goes to `findings`, under the names of the files.
    pub(super) fn assemble(
        chain_file: &Path,
        key_file: &Path,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        now: SystemTime,
        findings: &mut Vec<ChainFinding>,
    ) -> Option<Self> {
        let signing = provider().key_provider.load_private_key(key);
        let public = signing.as_ref().ok().and_then(|key| public_key(key.as_ref()));
        let examined = chain::examine(chain_file, chain, public.as_deref(), now, findings);
        let signing = match signing {
            Ok(signing) => signing,
            Err(error) => {
                // A key too short for the library fails here too; the certificate has said so already, and better.
                if !findings.iter().any(|finding| matches!(finding, ChainFinding::WeakKey { .. })) {
                    findings.push(ChainFinding::BadKey { file: key_file.to_owned(), error: error.to_string() });
                }
                return None;
            }
        };
        let examined = examined?;
        if public.as_deref() != Some(examined.leaf.public_key.as_slice()) {
            findings.push(ChainFinding::KeyMismatch {
                chain: chain_file.to_owned(),
                key: key_file.to_owned(),
                subject: examined.leaf.subject.clone(),
            });
            return None;
        }
        let certified = Arc::new(CertifiedKey::new(examined.sent, signing));
        Some(Self { files: None, leaf: examined.leaf, certified, stapled_until: None })
    }

    /// Adds the OCSP response, if there is one and it is fit to be sent.
    fn stapled(
        self,
        files: &CertificateFiles,
        contents: &Contents,
        now: SystemTime,
        findings: &mut Vec<ChainFinding>,
    ) -> Self {
        let Some(response) = &contents.staple else { return self };
        let response = response.as_ref().map_err(Clone::clone);
        match response.and_then(|response| staple::examine(response, &self.leaf.serial, now)) {
            Ok(Staple { response, until }) => {
                let certified = Arc::new(CertifiedKey { ocsp: Some(response), ..CertifiedKey::clone(&self.certified) });
                Self { certified, stapled_until: Some(until), ..self }
            }
            Err(fault) => {
                findings.push(ChainFinding::NotStapled { file: staple::beside(&files.chain), fault });
                self
            }
        }
    }

    /// Names the files it came from; none for the private CA's own.
    pub fn files(&self) -> Option<&CertificateFiles> {
        self.files.as_ref()
    }

    /// Lists the names it is for.
    pub fn names(&self) -> &[Name] {
        &self.leaf.names
    }

    /// Tells whether a client that was told to connect to `host` takes it.
    pub fn covers(&self, host: &str) -> bool {
        self.leaf.names.iter().any(|name| name.covers(host))
    }

    /// Gives the finding for a certificate that is not for the name clients are told.
    pub fn finding_for(&self, host: &str) -> Option<ChainFinding> {
        (!self.covers(host)).then(|| ChainFinding::WrongName {
            file: self.files.as_ref().map(|files| files.chain.clone()).unwrap_or_default(),
            wanted: host.to_owned(),
            names: self.leaf.names.clone(),
        })
    }

    /// Gives the moment before which clients refuse it.
    pub fn not_before(&self) -> SystemTime {
        self.leaf.not_before
    }

    /// Gives the moment after which clients refuse it.
    pub fn not_after(&self) -> SystemTime {
        self.leaf.not_after
    }

    /// Tells whether it should have been renewed by now and has not: see [`ChainFinding::ExpiresSoon`]. A caller
    /// asks now and then and says `certificate.expiring`.
    pub fn expires_soon(&self, now: SystemTime) -> bool {
        chain::expires_soon(self.leaf.not_before, self.leaf.not_after, now)
    }

    /// Tells whether two thirds of its life are over (or its life has not begun: then a clock was wrong).
    pub fn needs_renewal(&self, now: SystemTime) -> bool {
        let life = self.leaf.not_after.duration_since(self.leaf.not_before).unwrap_or_default();
        match now.duration_since(self.leaf.not_before) {
            Ok(age) => age >= life / 3 * 2,
            Err(_) => true,
        }
    }

    /// Tells until when the OCSP response that is sent along with it is valid; `None` if there is none.
    pub fn stapled_until(&self) -> Option<SystemTime> {
        self.stapled_until
    }

    /// Gives the OCSP response that is sent along with it.
    pub fn staple(&self) -> Option<&[u8]> {
        self.certified.ocsp.as_deref()
    }

    /// Names the subject as a person would: the first name, else the subject's distinguished name.
    pub fn subject(&self) -> &str {
        &self.leaf.subject
    }

    /// Names who issued it.
    pub fn issuer(&self) -> &str {
        &self.leaf.issuer
    }

    /// Gives the kind of its key.
    pub fn key_kind(&self) -> KeyKind {
        match self.certified.key.algorithm() {
            rustls::SignatureAlgorithm::RSA => KeyKind::Rsa,
            rustls::SignatureAlgorithm::ED25519 => KeyKind::Ed25519,
            _ => KeyKind::Ecdsa,
        }
    }

    /// Gives the certificates as they are sent, the server's own first, without the root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Gives what rustls signs with.
    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// Tells whether it can sign in a way that the client understands.
    pub(super) fn suits(&self, schemes: &[SignatureScheme]) -> bool {
        self.certified.key.choose_scheme(schemes).is_some()
    }
}

impl Checked {
    /// Tells whether nothing is wrong enough to keep it from replacing a certificate that works.
    pub fn is_sound(&self) -> bool {
        self.identity.is_some() && self.errors().next().is_none()
    }

    /// Tells whether it can be served and nothing but its dates speaks against that.
    pub fn is_sound_but_for_time(&self) -> bool {
        self.identity.is_some() && self.errors().all(ChainFinding::is_about_time)
    }

    /// Lists the findings that are errors.
    pub fn errors(&self) -> impl Iterator<Item = &ChainFinding> {
        self.findings.iter().filter(|finding| finding.severity() == Severity::Error)
    }
}

/// Gives the bits of the public key alone: the algorithm beside them is written in more than one way.
fn public_key(key: &dyn SigningKey) -> Option<Vec<u8>> {
    let der = key.public_key()?;
    let (_, info) = SubjectPublicKeyInfo::from_der(&der).ok()?;
    Some(info.subject_public_key.data.to_vec())
}

fn note<T>(result: Result<T, ChainFinding>, findings: &mut Vec<ChainFinding>) -> Option<T> {
    result.map_err(|finding| findings.push(finding)).ok()
}
