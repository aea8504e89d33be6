//! New certificates in the place of old ones, while clients are served.

use super::ca::PrivateCa;
use super::certificates::Certificates;
use super::files::CertificateFiles;
use super::finding::ChainFinding;
use super::identity::{Checked, Identity};
use super::name::Name;
use super::server::ServerTls;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long a pair that does not fit together is taken for one that is being written.
pub const SETTLING: Duration = Duration::from_secs(30);

/// Where one certificate comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// From files that somebody else renews.
    Files(CertificateFiles),
    /// From the gateway's private CA, for these names; it is renewed here.
    Private(Arc<PrivateCa>, Vec<Name>),
    /// From a file that a public CA's certificate is put into, and until one is there from the private CA.
    Public {
        /// The file, which need not exist: chain and key in one.
        files: CertificateFiles,
        /// Who issues meanwhile.
        meanwhile: Arc<PrivateCa>,
        /// For these names.
        names: Vec<Name>,
    },
}

/// What a look at the sources found new.
#[derive(Clone, Debug)]
pub enum Change {
    /// A certificate took the place of another, its OCSP response did, or the files of one that was refused are in order
    /// again.
    Loaded {
        /// The certificate: its files, names and dates.
        identity: Arc<Identity>,
        /// What is less than good about it.
        warnings: Vec<ChainFinding>,
    },
    /// The files do not fit together; perhaps they are being written. They are looked at again for [`SETTLING`].
    Waiting {
        /// The files in question; none for the private CA.
        files: Option<CertificateFiles>,
        /// What is wrong with them so far.
        findings: Vec<ChainFinding>,
    },
    /// The files changed and cannot be used: what was served before is served on.
    Refused {
        /// The files in question; none for the private CA.
        files: Option<CertificateFiles>,
        /// Everything that is wrong with them.
        findings: Vec<ChainFinding>,
    },
}

/// The sources of the certificates in service, and what was last seen there.
///
/// A caller asks [`Watched::poll`] every few seconds, on a thread that may block. What a source holds is compared byte
/// by byte (by digest): dates and sizes of files stay alike in ways that contents do not.
#[derive(Debug)]
pub struct Watched {
    watches: Vec<Watch>,
}

#[derive(Debug)]
struct Watch {
    source: Source,
    /// Digest of what was seen last, whether it was good or not.
    seen: Option<[u8; 32]>,
    serving: Arc<Identity>,
    state: State,
    /// Whether somebody wants to hear how it stands, though nothing changed.
    asked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Good,
    /// Since when the files have not fitted together.
    Waiting(SystemTime),
    Refused,
}

impl Watched {
    /// Reads all sources for the first time. Whatever can be served is (an expired certificate too), and everything
    /// that was found comes along for the caller to judge: `check` shows it all; at start an error that is not [about
    /// time](ChainFinding::is_about_time) is a reason to stop. `Err` if a source gave nothing that could be served; if
    /// something among that [may settle](ChainFinding::may_settle), it is worth another try for [`SETTLING`].
    pub fn open(sources: Vec<Source>, now: SystemTime) -> Result<(Self, Vec<ChainFinding>), Vec<ChainFinding>> {
        let mut watches = Vec::with_capacity(sources.len());
        let mut findings = Vec::new();
        let mut complete = true;
        for source in sources {
            let (checked, seen) = source.read(now);
            findings.extend(checked.findings);
            match checked.identity {
                Some(serving) => watches.push(Watch { source, seen, serving, state: State::Good, asked: false }),
                None => complete = false,
            }
        }
        if complete && !watches.is_empty() { Ok((Self { watches }, findings)) } else { Err(findings) }
    }

    /// Gives the certificates of all sources, to begin serving with.
    ///
    /// What the private CA issued in a public one's stead is left out once there is one from there, of whatever kind of key.
    pub fn certificates(&self) -> Option<Certificates> {
        let root = self.watches.iter().find_map(|watch| match &watch.source {
            Source::Private(ca, _) => Some(Arc::new(ca.root())),
            Source::Files(_) | Source::Public { .. } => None,
        });
        let is_public = |watch: &Watch| matches!(watch.source, Source::Public { .. });
        let mut has_public = self.watches.iter().any(|watch| is_public(watch) && watch.serving.files().is_some());
        let serving = self.watches.iter().filter(|watch| {
            let stands_in = is_public(watch) && watch.serving.files().is_none();
            // One stands in for all.
            !stands_in || !std::mem::replace(&mut has_public, true)
        });
        let identities = serving.map(|watch| Arc::clone(&watch.serving)).collect();
        Some(Certificates::new(identities)?.signed_by(root))
    }

    /// Looks at the sources, puts what is new and sound in service, and tells what happened: nothing, nearly always. A
    /// new certificate that is broken or expired leaves the old one in service. This blocks on the disk.
    pub fn poll(&mut self, tls: &ServerTls, now: SystemTime) -> Vec<Change> {
        let changes: Vec<Change> = self.watches.iter_mut().filter_map(|watch| watch.poll(now)).collect();
        if changes.iter().any(|change| matches!(change, Change::Loaded { .. }))
            && let Some(certificates) = self.certificates()
        {
            tls.replace(certificates);
        }
        changes
    }

    /// Does as [`Watched::poll`] when somebody asked for it (SIGHUP, `gatepost reload`): tells again what is still
    /// refused.
    pub fn reload(&mut self, tls: &ServerTls, now: SystemTime) -> Vec<Change> {
        for watch in &mut self.watches {
            watch.asked = watch.state == State::Refused;
        }
        self.poll(tls, now)
    }
}

impl Source {
    /// The files there are to read: none for the private CA, and none before a public one has issued.
    fn files(&self) -> Option<&CertificateFiles> {
        match self {
            Self::Files(files) => Some(files),
            Self::Public { files, .. } => Some(files).filter(|files| files.chain.exists()),
            Self::Private(..) => None,
        }
    }

    /// Asks the private CA.
    fn issue(&self, now: SystemTime) -> Checked {
        match self {
            Self::Private(ca, names) | Self::Public { meanwhile: ca, names, .. } => from_private_ca(ca, names, now),
            Self::Files(_) => Checked { identity: None, findings: Vec::new() },
        }
    }

    /// Reads the source; of files, also the digest.
    fn read(&self, now: SystemTime) -> (Checked, Option<[u8; 32]>) {
        let Some(files) = self.files() else { return (self.issue(now), None) };
        let contents = files.read();
        let checked = Identity::examine(files, &contents, now);
        if matches!(self, Self::Public { .. }) && !checked.is_sound_but_for_time() {
            // Nobody but the gateway writes that file, and it is about to be replaced: no reason to stay down.
            return (self.issue(now), Some(contents.digest()));
        }
        (checked, Some(contents.digest()))
    }
}

impl Watch {
    fn poll(&mut self, now: SystemTime) -> Option<Change> {
        let asked = std::mem::take(&mut self.asked);
        let checked = match self.source.files() {
            Some(files) => {
                let contents = files.read();
                let digest = Some(contents.digest());
                // Looked at once: what is wrong with the pair too is told then, and not at every poll.
                let is_over = |until| until <= now && self.state == State::Good;
                let staple_is_over = self.serving.stapled_until().is_some_and(is_over);
                if self.seen == digest && !asked && !staple_is_over && !matches!(self.state, State::Waiting(_)) {
                    return None;
                }
                self.seen = digest;
                Identity::examine(files, &contents, now)
            }
            None => {
                if !self.serving.needs_renewal(now) {
                    return None;
                }
                self.source.issue(now)
            }
        };
        match checked.identity {
            Some(ref identity) if checked.is_sound() => self.load(Arc::clone(identity), checked.findings),
            _ => self.refuse(checked.findings, asked, now),
        }
    }

    fn load(&mut self, identity: Arc<Identity>, warnings: Vec<ChainFinding>) -> Option<Change> {
        let before = std::mem::replace(&mut self.state, State::Good);
        // A comment in the file changed, or nothing but its bytes' order: no news.
        let same = identity.chain() == self.serving.chain() && identity.staple() == self.serving.staple();
        if before == State::Good && same {
            return None;
        }
        self.serving = Arc::clone(&identity);
        Some(Change::Loaded { identity, warnings })
    }

    /// Decides between waiting and refusing. `asked` means that somebody wants to hear it now.
    fn refuse(&mut self, findings: Vec<ChainFinding>, asked: bool, now: SystemTime) -> Option<Change> {
        let files = self.source.files().cloned();
        let may_settle = findings.iter().any(ChainFinding::may_settle);
        match self.state {
            State::Waiting(since) if may_settle => match now.duration_since(since) {
                Ok(waited) if waited < SETTLING => None,
                Ok(_) => {
                    self.state = State::Refused;
                    Some(Change::Refused { files, findings })
                }
                // The clock was set back: the wait begins anew rather than last until it has caught up.
                Err(_) => {
                    self.state = State::Waiting(now);
                    None
                }
            },
            State::Good | State::Refused if may_settle && !asked => {
                self.state = State::Waiting(now);
                Some(Change::Waiting { files, findings })
            }
            // The private CA is tried at every poll until it can again; it is told once.
            State::Refused if files.is_none() && !asked => None,
            _ => {
                self.state = State::Refused;
                Some(Change::Refused { files, findings })
            }
        }
    }
}

fn from_private_ca(ca: &PrivateCa, names: &[Name], now: SystemTime) -> Checked {
    match ca.identity(names, now) {
        Ok(identity) => Checked { identity: Some(identity), findings: Vec::new() },
        Err(error) => Checked { identity: None, findings: vec![ChainFinding::PrivateCa { error: error.to_string() }] },
    }
}

#[cfg(test)]
mod tests;
