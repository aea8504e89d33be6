//! The certificates in service: read at start, looked at from time to time, each change an event.

use crate::config::Finding;
use crate::observe::{Event, Kind, Observe};
use crate::policy::{AcmeKey, Policy};
use crate::tls::{
    CertificateFiles, ChainFinding, Change, Folder, Identity, KeyKind, MinVersion, Name, PrivateCa, SETTLING,
    ServerTls, Settings, Severity, Source, Watched, WatchedClientCa,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Keeps what TLS shows. Everything here blocks on the disk.
pub struct Keeper {
    watched: Watched,
    /// Who signs clients' certificates, where they are asked for.
    client_ca: Option<WatchedClientCa>,
    tls: ServerTls,
    observe: Arc<Observe>,
    /// The names whose end the metrics show.
    shown: BTreeSet<String>,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The private CA cannot be made or read.
    #[error(transparent)]
    PrivateCa(#[from] crate::tls::CaError),
    /// The host name is none that a certificate can be for.
    #[error("hostname: {0}")]
    Name(#[from] crate::tls::InvalidName),
    /// What is wrong with the files.
    #[error("{}", lines(.0))]
    Findings(Vec<ChainFinding>),
    /// What is wrong with the file of those who sign clients' certificates.
    #[error("tls.client_ca: {0}")]
    ClientCa(ChainFinding),
    /// The system gives no random numbers, or the like.
    #[error("TLS cannot begin: {0}")]
    Tls(#[from] rustls::Error),
}

fn lines(findings: &[ChainFinding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Keeper {
    /// Reads the policy's certificates, or has the private CA issue one for the host name and the names of webmails. An expired one is
    /// served (clients will say so, and mail goes on), and told.
    ///
    /// # Errors
    /// [`CertificateError`] when there is nothing to serve.
    pub fn open(policy: &Policy, observe: Arc<Observe>) -> Result<Self, CertificateError> {
        Self::open_after(policy, observe, &[])
    }

    /// The same, where these warnings about the configuration have been told: they are not repeated.
    ///
    /// # Errors
    /// As for [`Keeper::open`].
    pub fn open_after(policy: &Policy, observe: Arc<Observe>, told: &[Finding]) -> Result<Self, CertificateError> {
        let watched = open(policy, told)?;
        let certificates = watched.certificates().ok_or_else(|| CertificateError::Findings(Vec::new()))?;
        let tls = ServerTls::new(settings(policy), certificates)?;
        let client_ca = open_client_ca(policy, &tls, told)?;
        let mut keeper = Self { watched, client_ca, tls, observe, shown: BTreeSet::new() };
        keeper.tell_all();
        Ok(keeper)
    }

    /// TLS as it is served now.
    pub fn tls(&self) -> &ServerTls {
        &self.tls
    }

    /// Looks at the sources; what changed and is sound is served from now on.
    pub fn poll(&mut self) {
        let changes = self.watched.poll(&self.tls, SystemTime::now());
        self.tell(changes, &[]);
        self.poll_client_ca(false, &[]);
    }

    /// Takes a new policy's sources. What does not stand up leaves everything as it was. `told` are the warnings about it
    /// that have been told.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn reload(&mut self, old: &Policy, new: &Policy, told: &[Finding]) -> Result<ServerTls, CertificateError> {
        if old.tls == new.tls
            && old.hostname == new.hostname
            && old.state_dir == new.state_dir
            && old.portal.webmail_names().eq(new.portal.webmail_names())
        {
            let changes = self.watched.reload(&self.tls, SystemTime::now());
            self.tell(changes, told);
            self.poll_client_ca(true, told);
            return Ok(self.tls.clone());
        }
        let watched = open(new, told)?;
        let certificates = watched.certificates().ok_or_else(|| CertificateError::Findings(Vec::new()))?;
        let tls = self.tls.with_settings(settings(new))?;
        self.client_ca = open_client_ca(new, &tls, told)?;
        self.tls = tls;
        self.tls.replace(certificates);
        self.watched = watched;
        self.tell_all();
        Ok(self.tls.clone())
    }

    /// Looks at who signs clients' certificates. Whoever was believed is believed on where the file has gone wrong.
    fn poll_client_ca(&mut self, asked: bool, told: &[Finding]) {
        let Some(watched) = &mut self.client_ca else { return };
        let Some(change) = watched.poll(SystemTime::now(), asked) else { return };
        let file = watched.file().display();
        let event = match change.map(|(ca, warnings)| (self.tls.believe(&ca), warnings)) {
            Ok((Ok(()), warnings)) => {
                warn(&warnings, told);
                let mut event = Event::new(Kind::CertificateLoaded);
                event.detail = Some(format!("tls.client_ca: {file} is read again"));
                event
            }
            Ok((Err(error), _)) => refused("internal", format!("tls.client_ca: {file}: {error}")),
            Err(finding) => {
                refused(finding.code(), format!("tls.client_ca: who was believed is believed on: {finding}"))
            }
        };
        self.observe.record(&event);
    }

    /// Takes names out of the metrics that no certificate in service has any more.
    fn forget_what_is_gone(&mut self) {
        let certificates = self.tls.certificates();
        let names = certificates.identities().iter().flat_map(|identity| identity.names());
        let served = names.map(ToString::to_string).collect();
        for gone in self.shown.difference(&served) {
            self.observe.metrics().certificate_gone(gone);
        }
        self.shown = served;
    }

    /// Tells of every certificate in service: all of them are new, or may be.
    fn tell_all(&mut self) {
        for identity in self.tls.certificates().identities() {
            self.loaded(identity);
        }
        self.forget_what_is_gone();
    }

    fn tell(&mut self, changes: Vec<Change>, told: &[Finding]) {
        for change in changes {
            match change {
                Change::Loaded { identity, warnings } => {
                    self.loaded(&identity);
                    warn(&warnings, told);
                }
                Change::Waiting { files, findings } => tracing::warn!(
                    "{}: looked at again until it fits together: {}",
                    place(files.as_ref()),
                    lines(&findings)
                ),
                Change::Refused { files, findings } => {
                    let reason = findings.first().map_or("internal", ChainFinding::code);
                    let detail = format!("{}: {}", place(files.as_ref()), lines(&findings));
                    self.observe.record(&refused(reason, detail));
                }
            }
        }
        self.forget_what_is_gone();
    }

    fn loaded(&self, identity: &Identity) {
        for name in identity.names() {
            self.observe.metrics().certificate_expiry(&name.to_string(), identity.not_after());
        }
        let names = identity.names().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let until = humantime::format_rfc3339_seconds(identity.not_after());
        let mut event = Event::new(Kind::CertificateLoaded);
        let staple = identity.stapled_until().map(humantime::format_rfc3339_seconds);
        let staple = staple.map(|until| format!("; with an OCSP response until {until}")).unwrap_or_default();
        event.detail = Some(format!("{names}; by {}, until {until}{staple}", identity.issuer()));
        self.observe.record(&event);
        if identity.expires_soon(SystemTime::now()) {
            let mut event = Event::new(Kind::CertificateExpiring);
            event.detail = Some(format!("{names}: until {until}; renew it now"));
            self.observe.record(&event);
        }
    }
}

fn refused(reason: &str, detail: String) -> Event {
    let mut event = Event::new(Kind::CertificateRefused);
    event.reason = Some(reason.to_owned());
    event.detail = Some(detail);
    event
}

/// Reads who signs clients' certificates, where that is said, and has them believed.
fn open_client_ca(
    policy: &Policy,
    tls: &ServerTls,
    told: &[Finding],
) -> Result<Option<WatchedClientCa>, CertificateError> {
    let Some(file) = &policy.tls.client_ca else { return Ok(None) };
    let opened = WatchedClientCa::open(file.clone(), SystemTime::now());
    let (watched, ca, warnings) = opened.map_err(CertificateError::ClientCa)?;
    tls.believe(&ca)?;
    warn(&warnings, told);
    Ok(Some(watched))
}

/// Tells what has not been told with the place of its entry in the configuration, where that was looked at before.
fn warn(findings: &[impl ToString], told: &[Finding]) {
    for finding in findings.iter().map(ToString::to_string) {
        if !told.iter().any(|told| told.message.ends_with(&finding)) {
            tracing::warn!("{finding}");
        }
    }
}

fn place(files: Option<&CertificateFiles>) -> String {
    files.map_or_else(|| "the private CA".to_owned(), |files| files.chain.display().to_string())
}

fn settings(policy: &Policy) -> Settings {
    let min_version = if policy.tls.only_1_3 { MinVersion::Tls13 } else { MinVersion::Tls12 };
    Settings { min_version, session_tickets: policy.tls.session_tickets }
}

/// Reads all sources; a pair that is being written just now gets the time to settle.
fn open(policy: &Policy, told: &[Finding]) -> Result<Watched, CertificateError> {
    let began = Instant::now();
    let mut is_told = false;
    loop {
        match Watched::open(sources(policy)?, SystemTime::now()) {
            Ok((watched, findings)) => {
                let (errors, rest): (Vec<_>, Vec<_>) = findings
                    .into_iter()
                    .partition(|finding| finding.severity() == Severity::Error && !finding.is_about_time());
                if !errors.is_empty() {
                    return Err(CertificateError::Findings(errors));
                }
                warn(&rest, told);
                return Ok(watched);
            }
            Err(findings) => {
                if !findings.iter().any(ChainFinding::may_settle) || began.elapsed() > SETTLING {
                    return Err(CertificateError::Findings(findings));
                }
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!("tried again for {} s: {}", SETTLING.as_secs(), lines(&findings));
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

fn sources(policy: &Policy) -> Result<Vec<Source>, CertificateError> {
    let mut sources: Vec<_> = policy.tls.certificates.iter().map(CertificateFiles::from).map(Source::Files).collect();
    if !sources.is_empty() && policy.tls.acme.is_none() {
        return Ok(sources);
    }
    let ca = Arc::new(PrivateCa::open_or_create(&policy.state_dir, &policy.hostname, SystemTime::now())?);
    let Some(acme) = &policy.tls.acme else {
        let names = [policy.hostname.as_str()].into_iter().chain(policy.portal.webmail_names());
        return Ok(vec![Source::Private(ca, names.map(str::parse).collect::<Result<_, _>>()?)]);
    };
    let names = acme.names.iter().map(|name| name.parse()).collect::<Result<Vec<Name>, _>>()?;
    let folder = Folder::of(&policy.state_dir, &acme.directory);
    sources.extend(kinds(acme.key).iter().map(|kind| Source::Public {
        files: folder.files(*kind),
        meanwhile: Arc::clone(&ca),
        names: names.clone(),
    }));
    Ok(sources)
}

/// The kinds of key that are wanted of a public CA, the preferred one first.
pub(super) fn kinds(wanted: AcmeKey) -> &'static [KeyKind] {
    match wanted {
        AcmeKey::Ecdsa => &[KeyKind::Ecdsa],
        AcmeKey::Rsa => &[KeyKind::Rsa],
        AcmeKey::Both => &[KeyKind::Ecdsa, KeyKind::Rsa],
    }
}
