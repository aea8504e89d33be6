//! Who may log in how.

use super::super::finding::{Place, quoted};
use super::super::nearest::nearest;
use super::super::report::{Report, Spot};
use super::super::sections;
use super::super::value::io_words;
use super::files::Reader;
use super::listeners::Built;
use crate::policy::passwords::{PasswordFile, PasswordFileError};
use crate::policy::route::Routes;
use crate::policy::{Auth, Checker, ClientAddress, Listener};
use crate::proto::{Mechanism, Mechanisms, Protocol, Service};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn build(section: &sections::Auth, reader: &Reader<'_>, report: &mut Report) -> Auth {
    let spot = Spot::top("auth");
    let mechanisms = match &section.mechanisms {
        sections::Mechanisms::All => Mechanisms::All,
        sections::Mechanisms::Only(names) => Mechanisms::Only(listed(names, &spot.key("mechanisms"), report)),
    };
    if mechanisms == Mechanisms::Only(vec![]) {
        report.missing(
            &spot.key("mechanisms"),
            "is empty, and nobody could log in: write all, or a list such as [PLAIN, LOGIN, USER]",
        );
    }
    let clear = spot.key("without_tls");
    let without_tls = match section.without_tls.as_slice() {
        [] => Mechanisms::All,
        names => {
            let list = listed(names, &clear, report);
            for (index, mechanism) in list.iter().enumerate().filter(|(_, mechanism)| !mechanisms.contains(mechanism)) {
                let message = format!("`{mechanism}` is not among auth.mechanisms and so is never taken");
                report.warning(&clear.item(index), message);
            }
            Mechanisms::Only(list)
        }
    };
    Auth {
        mechanisms,
        without_tls,
        pop_before_smtp: pop_before_smtp(section.pop_before_smtp.as_ref(), &spot.key("pop_before_smtp"), report),
        submission: checker(&section.submission, reader, &spot.key("submission"), report),
        remember_good: section.remember_good.0,
        outage_guard: section.outage_guard,
    }
}

/// Whether who is to check the passwords of senders is there.
pub(super) fn look_at(auth: &Auth, routes: &Routes, listeners: &[Built], report: &mut Report) {
    let spot = Spot::top("auth").key("submission");
    let senders =
        || listeners.iter().filter_map(|built| built.listener.as_ref()).filter(|it| it.service == Service::Submission);
    let by_client = |listener: &&Arc<Listener>| {
        let how = listener.backend.client_address;
        // By XCLIENT it hears who has logged in, too; but who has fetched mail, and sends without a login, has no name.
        let names_him = how == ClientAddress::Xclient && auth.pop_before_smtp.is_none();
        how.reaches(Protocol::Smtp)
            && !names_him
            && !matches!(how, ClientAddress::Off | ClientAddress::Received | ClientAddress::ImapId)
    };
    let goes_without_auth = auth.submission != Checker::Backend || auth.pop_before_smtp.is_some();
    if let Some(listener) = senders().find(by_client).filter(|_| goes_without_auth) {
        let name = &listener.backend.name;
        let cure = match auth.pop_before_smtp {
            Some(_) => "received, or off",
            None => "received, off, or xclient, which tells it who has logged in",
        };
        let message = format!(
            "the SMTP server of `{name}` hears no AUTH and sees the customer's address (client_address): it takes his mail only if it trusts that; write client_address: {cure}"
        );
        report.warning(&spot, message);
    }
    match &auth.submission {
        Checker::Backend | Checker::File(_) => {}
        Checker::Server(protocol) => {
            for listener in senders() {
                let (name, word) = (&listener.backend.name, protocol.as_str());
                if !listener.backend.servers.contains_key(&(*protocol).into()) {
                    let message =
                        format!("the backend `{name}` has no {word} server to log in to: write backends.{name}.{word}");
                    report.error(&spot, message);
                    return;
                }
            }
        }
        Checker::AuthHttp => {
            if !routes.ask_a_service(Protocol::Smtp) {
                report.error(&spot, "no route asks such a service for smtp: write routes: [{ auth_http: \"http://127.0.0.1:8080/auth\" }]");
            }
        }
    }
}

fn pop_before_smtp(section: Option<&sections::PopBeforeSmtp>, spot: &Spot, report: &mut Report) -> Option<Duration> {
    let window = section?.window.map_or(Duration::ZERO, |window| window.0);
    if window.is_zero() {
        report.missing(&spot.key("window"), "is missing: write for how long an address may send, such as 30m");
    } else if window > Duration::from_secs(86_400) {
        let message = "addresses change hands: whoever has a customer's tomorrow may send; write 30m or so";
        report.warning(&spot.key("window"), message);
    }
    Some(window)
}

fn checker(written: &str, reader: &Reader<'_>, spot: &Spot, report: &mut Report) -> Checker {
    match written {
        "backend" => Checker::Backend,
        "imap" => Checker::Server(Protocol::Imap),
        "pop3" => {
            let message = "each check locks the mailbox as a POP3 login does: write imap if the servers have it";
            report.warning(spot, message);
            Checker::Server(Protocol::Pop3)
        }
        "auth_http" => Checker::AuthHttp,
        other => match other.strip_prefix("file:") {
            Some(file) => password_file(Path::new(file), reader, spot, report)
                .map_or(Checker::Backend, |file| Checker::File(Arc::new(file))),
            None => {
                let message =
                    format!("{} checks no passwords: write backend, imap, pop3, auth_http or file:PATH", quoted(other));
                report.error(spot, message);
                Checker::Backend
            }
        },
    }
}

fn password_file(written: &Path, reader: &Reader<'_>, spot: &Spot, report: &mut Report) -> Option<PasswordFile> {
    let path = reader.readable(spot, written, report)?;
    let file = path.display().to_string();
    match PasswordFile::open(path) {
        Ok(file) => return Some(file),
        Err(PasswordFileError::Unreadable(error)) => {
            report.error(spot, format_args!("`{}` cannot be read: {}", written.display(), io_words(&error)));
        }
        Err(PasswordFileError::Bad(lines)) => {
            for (line, message) in lines {
                report.elsewhere(Place { file: file.clone(), line, column: 1 }, message);
            }
        }
    }
    None
}

fn listed(names: &[String], spot: &Spot, report: &mut Report) -> Vec<Mechanism> {
    let mut list = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let Some(mechanism) = Mechanism::parse(name.as_bytes()) else {
            report.error(
                &spot.item(index),
                format_args!("{} is not a mechanism's name: write it like PLAIN or CRAM-MD5", quoted(name)),
            );
            continue;
        };
        if mechanism.is_forbidden() {
            report.warning(
                &spot.item(index),
                format_args!("`{mechanism}` cannot cross a gateway and is never offered: leave it out"),
            );
        } else if let Some(near) =
            nearest(mechanism.as_str(), Mechanism::well_known()).filter(|_| mechanism.label() == "other")
        {
            let message = format!("`{mechanism}` is not a mechanism that is known: `{near}` is meant?");
            report.warning(&spot.item(index), message);
        }
        list.push(mechanism);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_suggested_is_known() {
        for name in Mechanism::well_known() {
            let mechanism = Mechanism::parse(name.as_bytes()).expect(name);
            assert!(mechanism.label() == name && !mechanism.is_forbidden(), "{name}");
        }
    }
}
