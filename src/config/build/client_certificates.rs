//! Certificates of clients: who asks for them, who signs them, and what must not stand together.

use super::super::report::{Report, Spot};
use super::super::sections::{self, File, Protocol, TlsRule};
use super::files::Reader;
use super::listeners::Built;
use crate::policy::ClientCertificate;
use crate::policy::route::Routes;
use crate::tls::ClientCa;
use std::path::PathBuf;
use std::time::SystemTime;

/// What a listener asks for.
pub(super) fn asked(section: &sections::Listener, spot: &Spot, report: &mut Report) -> ClientCertificate {
    let asked = match section.client_certificate {
        sections::ClientCertificate::Off => return ClientCertificate::Off,
        sections::ClientCertificate::Request => ClientCertificate::Request,
        sections::ClientCertificate::Require => ClientCertificate::Require,
    };
    let spot = spot.key("client_certificate");
    match (section.tls, asked) {
        (TlsRule::Off, _) => {
            report.error(&spot, "a certificate is shown in a TLS handshake, and here is none (`tls: off`): write off");
        }
        (TlsRule::Optional, ClientCertificate::Require) => {
            let message =
                "who leaves out STARTTLS logs in without one (`tls: optional`): write tls: starttls, or request";
            report.error(&spot, message);
        }
        (_, ClientCertificate::Require) if section.protocol == Some(Protocol::Smtp) => {
            let message =
                "servers that bring mail have none, and must not be made to (RFC 3207): write request, or off";
            report.error(&spot, message);
        }
        _ => {}
    }
    asked
}

/// The file of those who sign them.
pub(super) fn ca(section: &sections::Tls, reader: &Reader<'_>, report: &mut Report) -> Option<PathBuf> {
    let spot = Spot::top("tls").key("client_ca");
    let path = reader.readable(&spot, section.client_ca.as_ref()?, report)?;
    match ClientCa::read(&path, SystemTime::now()) {
        Ok((_, warnings)) => warnings.iter().for_each(|warning| report.warning(&spot, warning)),
        Err(finding) if finding.may_settle() => report.passing(&spot, finding),
        Err(finding) => report.error(&spot, finding),
    }
    Some(path)
}

/// Whether who asks for them, who signs them and who looks at them are all there.
pub(super) fn look_at(file: &File, listeners: &[Built], routes: &Routes, report: &mut Report) {
    let asking = || listeners.iter().filter(|built| built.asks_for_certificates());
    let ca = Spot::top("tls").key("client_ca");
    if file.tls.client_ca.is_none() && !report.is_damaged(&ca) {
        for listener in asking() {
            let message = "nobody is named who signs them: write tls.client_ca: FILE";
            report.error(&listener.spot.key("client_certificate"), message);
        }
    } else if file.tls.client_ca.is_some() && asking().next().is_none() {
        let message = "no listener asks for certificates: write client_certificate: request, or require, at one";
        report.warning(&ca, message);
    }
    // Counted in what is written, and so only where all of it could be made.
    if routes.0.len() != file.routes.len() {
        return;
    }
    for (index, route) in routes.0.iter().enumerate().filter(|(_, route)| route.certificate.is_some()) {
        // What could not be made is told already, and may be the one.
        let may_come =
            |built: &Built| built.page.is_none() && built.spoken().is_none_or(|spoken| route.is_about(spoken));
        if !asking().any(may_come) {
            let message = "nobody ever shows a certificate where this route could be taken: write client_certificate: request, or require, at a listener";
            report.error(&Spot::top("routes").item(index).key("client_certificate"), message);
        }
    }
}
