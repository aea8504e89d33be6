//! Certificates: examined by `tls`, told with the place of their entry.

use super::super::report::{Report, Spot};
use super::super::sections;
use super::files::Reader;
use crate::policy::CertificateFiles;
use crate::tls::{self, ChainFinding, Identity};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// What stands in the section.
pub(super) struct Examined {
    /// Every pair of files that can be read, in the order of the file.
    pub(super) files: Vec<CertificateFiles>,
    /// What can be served of them, each with the place of its entry.
    pub(super) identities: Vec<(Spot, Arc<Identity>)>,
}

/// Reads and examines every pair.
pub(super) fn build(
    section: &[sections::Certificate],
    hostname: Option<&str>,
    reader: &Reader<'_>,
    report: &mut Report,
) -> Examined {
    let (mut certificates, mut identities) = (Vec::new(), Vec::new());
    for (index, written) in section.iter().enumerate() {
        let spot = Spot::top("tls").key("certificates").item(index);
        let Some((files, identity)) = pair(written, &spot, reader, report) else { continue };
        identities.extend(identity.map(|identity| (spot, identity)));
        certificates.push(files);
    }
    // One of several may be for another name; a client that asks for the host name must find its own.
    let wrong_name = |host| {
        let mut wrong = identities.iter().map(|(spot, identity)| Some((spot, identity.finding_for(host)?)));
        let first = wrong.next()??;
        wrong.all(|other| other.is_some()).then_some(first)
    };
    if let Some((spot, finding)) = hostname.and_then(wrong_name) {
        tell(&finding, spot, report);
    }
    Examined { files: certificates, identities }
}

/// A pair of files that can be read, and what they come to where that is of use.
pub(super) fn pair(
    written: &sections::Certificate,
    spot: &Spot,
    reader: &Reader<'_>,
    report: &mut Report,
) -> Option<(CertificateFiles, Option<Arc<Identity>>)> {
    let chain = file(&spot.key("chain"), written.chain.as_ref(), reader, report);
    let key = file(&spot.key("key"), written.key.as_ref(), reader, report);
    let files = CertificateFiles { chain: chain?, key: key? };
    let checked = Identity::load(&(&files).into(), SystemTime::now());
    for finding in &checked.findings {
        tell(finding, spot, report);
    }
    Some((files, checked.identity))
}

fn file(spot: &Spot, written: Option<&PathBuf>, reader: &Reader<'_>, report: &mut Report) -> Option<PathBuf> {
    match written {
        Some(path) => reader.readable(spot, path, report),
        None => {
            report.missing(spot, "is missing: a certificate is { chain: FILE, key: FILE }");
            None
        }
    }
}

/// Puts a finding at the file it is about. What only the date speaks against keeps nobody from starting: an old
/// certificate serves some clients, a gateway that stays down serves none.
fn tell(finding: &ChainFinding, spot: &Spot, report: &mut Report) {
    let about_key = matches!(
        finding,
        ChainFinding::KeyMismatch { .. }
            | ChainFinding::NoKey { .. }
            | ChainFinding::EncryptedKey { .. }
            | ChainFinding::BadKey { .. }
            | ChainFinding::KeyReadable { .. }
    );
    let spot = spot.key(if about_key { "key" } else { "chain" });
    if finding.severity() == tls::Severity::Warning || finding.is_about_time() {
        report.warning(&spot, finding);
    } else if finding.may_settle() {
        report.passing(&spot, finding);
    } else {
        report.error(&spot, finding);
    }
}

impl From<&CertificateFiles> for tls::CertificateFiles {
    fn from(files: &CertificateFiles) -> Self {
        Self { chain: files.chain.clone(), key: files.key.clone() }
    }
}
