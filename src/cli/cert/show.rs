//! `gatepost cert show`.

use super::super::{FAILED, FINE, print_data, say};
use crate::tls::{self, ChainFinding, Severity, Shown};
use serde_json::json;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Flags of `cert show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArguments {
    /// A PEM file: a certificate, a chain, with or without its key
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Shows every certificate of a file, and on stderr what is wrong with them. The exit code is 1 where clients would refuse it.
pub(super) fn show(arguments: &ShowArguments) -> u8 {
    let (certificates, findings) = match tls::show(&arguments.file, SystemTime::now()) {
        Ok(shown) => shown,
        Err(finding) => {
            say(finding);
            return FAILED;
        }
    };
    let refused = findings.iter().any(|finding| finding.severity() == Severity::Error);
    let printed = if arguments.json {
        print_data(format!("{:#}\n", as_json(&arguments.file, &certificates, &findings)))
    } else {
        for finding in &findings {
            say(format_args!("{}: {finding}", word(finding)));
        }
        print_data(for_people(&certificates))
    };
    printed.max(if refused { FAILED } else { FINE })
}

fn word(finding: &ChainFinding) -> &'static str {
    if finding.severity() == Severity::Error { "error" } else { "warning" }
}

fn for_people(certificates: &[Shown]) -> String {
    let mut text = String::new();
    for (index, certificate) in certificates.iter().enumerate() {
        let names = certificate.names.iter().map(ToString::to_string);
        let names: Vec<String> = names.chain(certificate.holder.clone().filter(|_| certificate.is_clients)).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let _ = write!(
            text,
            "certificate {}{}\n  names    {names}\n  subject  {}\n  issuer   {}\n  valid    {} to {}\n  key      {}\n  SHA-256  {}\n",
            index + 1,
            if certificate.is_ca {
                ", a CA's"
            } else if certificate.is_clients {
                ", a client's"
            } else {
                ""
            },
            certificate.subject,
            certificate.issuer,
            moment(certificate.not_before),
            moment(certificate.not_after),
            certificate.key,
            certificate.fingerprint,
        );
    }
    text
}

fn as_json(file: &Path, certificates: &[Shown], findings: &[ChainFinding]) -> serde_json::Value {
    let certificates: Vec<_> = certificates
        .iter()
        .map(|certificate| {
            json!({
                "names": certificate.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "subject": certificate.subject,
                "issuer": certificate.issuer,
                "not_before": moment(certificate.not_before),
                "not_after": moment(certificate.not_after),
                "key": certificate.key,
                "sha256": certificate.fingerprint,
                "ca": certificate.is_ca,
                "client": certificate.holder.as_deref().filter(|_| certificate.is_clients),
            })
        })
        .collect();
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| json!({ "severity": word(finding), "code": finding.code(), "message": finding.to_string() }))
        .collect();
    json!({ "file": file.display().to_string(), "certificates": certificates, "findings": findings })
}

fn moment(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_else(|_| "a date out of range".to_owned())
}
