//! Webmail behind the page: which web servers, and where browsers find them.

use super::super::finding::quoted;
use super::super::report::{Report, Spot};
use super::super::sections::{self, File, Webmails};
use super::super::value::is_host_name;
use super::acme;
use super::certificates::Examined;
use super::files::Reader;
use super::listeners::Built;
use super::routes::parse_url;
use crate::policy::portal::{DOCUMENTS, PageKind};
use crate::policy::webmail::{Entrance, Webmail};
use crate::policy::{BackendTls, ServerName};
use crate::tls::{self, Trust};
use std::path::Path;

/// Where a webmail is that is named by its URL alone.
const USUAL: &str = "/webmail/";
/// Below these are documents that programs look for; the page gives or refuses each.
const OF_PROGRAMS: [&str; 2] = ["/.well-known/", "/autodiscover/"];

/// Each webmail that could be made, with the place of its URL and that of its name or path.
pub(super) struct Placed {
    pub(super) to: Spot,
    pub(super) entrance: Spot,
    pub(super) webmail: Webmail,
}

pub(super) fn build(
    file: &File,
    hostname: Option<&str>,
    listeners: &[Built],
    reader: &Reader<'_>,
    report: &mut Report,
) -> Vec<Placed> {
    let spot = Spot::top("portal").key("webmail");
    let mut all: Vec<Placed> = Vec::new();
    match &file.portal.webmail {
        Webmails::One(url) => {
            let entry = sections::Webmail { path: Some(USUAL.to_owned()), to: Some(url.clone()), ..Default::default() };
            let spots = Spots { entry: spot.clone(), to: spot.clone(), ca: spot.clone() };
            all.extend(one(&entry, hostname, &spots, reader, report));
        }
        Webmails::Each(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                let spot = spot.item(index);
                let spots = Spots { to: spot.key("to"), ca: spot.key("ca"), entry: spot };
                let Some(placed) = one(entry, hostname, &spots, reader, report) else { continue };
                if all.iter().any(|other| other.webmail.entrance == placed.webmail.entrance) {
                    report.error(&placed.entrance, "is there twice: leave one of the two out");
                } else {
                    all.push(placed);
                }
            }
        }
    }
    let has_page = listeners.iter().any(|built| built.page.as_ref().is_some_and(|page| page.kind == PageKind::Serve));
    if !all.is_empty() && !has_page {
        report.error(&spot, "there is no way to it: add a listener with protocol: https and tls: implicit");
    }
    if file.portal.webmail_timeout.0.is_zero() {
        let message = "`0` leaves no time at all: write a duration such as 60s";
        report.error(&Spot::top("portal").key("webmail_timeout"), message);
    }
    all
}

/// Whether browsers that come by these names are shown a certificate for them. The private CA issues one for each.
pub(super) fn look_at_names(
    webmails: &[Placed],
    section: &sections::Tls,
    certificates: &Examined,
    report: &mut Report,
) {
    if certificates.files.is_empty() && section.acme.is_none() {
        return;
    }
    for placed in webmails {
        let Entrance::Name(name) = &placed.webmail.entrance else { continue };
        let by_acme = section.acme.iter().flat_map(|acme| &acme.names).any(|wanted| acme::covers(wanted, name));
        // A file at fault is told; whether it were for this name is not known.
        let unknown = certificates.identities.len() < section.certificates.len();
        if !by_acme && !unknown && !certificates.identities.iter().any(|(_, identity)| identity.covers(name)) {
            let message = format!(
                "no certificate is for `{name}`, so browsers warn: add it to tls.acme.names, or give a certificate with it"
            );
            report.warning(&placed.entrance, message);
        }
    }
}

/// Where an entry is written, and its server.
struct Spots {
    entry: Spot,
    to: Spot,
    ca: Spot,
}

fn one(
    entry: &sections::Webmail,
    hostname: Option<&str>,
    spots: &Spots,
    reader: &Reader<'_>,
    report: &mut Report,
) -> Option<Placed> {
    let Spots { entry: spot, to, ca } = spots;
    let server = match &entry.to {
        Some(url) => web_server(url, to, report),
        None => {
            report.missing(to, "is missing: write the web server, such as http://10.0.0.5:80/squirrelmail/");
            None
        }
    };
    if entry.ca.is_some() && matches!(server, Some((_, false, _))) {
        report.error(ca, "is for https://: leave it out, or write https:// under `to`");
    }
    let (place, entrance) = match (&entry.path, &entry.name) {
        (Some(path), None) => (spot.key("path"), of_path(path, &spot.key("path"), report)),
        (None, Some(name)) => (spot.key("name"), of_name(name, hostname, &spot.key("name"), report)),
        (Some(_), Some(_)) => {
            report.error(spot, "has both path and name: write an entry for each");
            return None;
        }
        (None, None) => {
            if !report.is_damaged(&spot.key("path")) && !report.is_damaged(&spot.key("name")) {
                let message = "does not say where browsers find it: write path: /webmail/ or name: webmail.example.net";
                report.error(spot, message);
            }
            return None;
        }
    };
    let (server, is_tls, base) = server?;
    let tls = if is_tls { Some(outward(&server, entry.ca.as_deref(), (to, ca), reader, report)?) } else { None };
    let webmail = Webmail { entrance: entrance?, server, tls, base };
    Some(Placed { to: to.clone(), entrance: place, webmail })
}

fn of_path(written: &str, spot: &Spot, report: &mut Report) -> Option<Entrance> {
    let Some(path) = folder(written) else {
        report.error(spot, format_args!("{} is not a path: write it like /webmail/", quoted(written)));
        return None;
    };
    if path == "/" {
        let message = "is the help page: write a path below it, such as /webmail/, or give the webmail a name of its own (name: webmail.example.net)";
        report.error(spot, message);
        return None;
    }
    let lower = path.to_ascii_lowercase();
    let is_ours = OF_PROGRAMS.iter().any(|ours| lower.starts_with(ours))
        || DOCUMENTS.iter().any(|own| *own == lower.trim_end_matches('/'));
    if is_ours {
        report.error(spot, "the page has documents of its own there: write another, such as /webmail/");
        return None;
    }
    Some(Entrance::Path(path))
}

fn of_name(written: &str, hostname: Option<&str>, spot: &Spot, report: &mut Report) -> Option<Entrance> {
    let name = written.strip_suffix('.').unwrap_or(written).to_ascii_lowercase();
    if !is_host_name(&name) {
        let message = format!("{} is not a host name: write it like webmail.example.net", quoted(written));
        report.error(spot, message);
        return None;
    }
    if hostname == Some(name.as_str()) {
        report.error(spot, "is our hostname, where the help page is: write another name, or path: /webmail/");
        return None;
    }
    Some(Entrance::Name(name))
}

/// What a URL names: the server, whether TLS is spoken to it, and the path there.
fn web_server(url: &str, spot: &Spot, report: &mut Report) -> Option<(ServerName, bool, String)> {
    // What stands before an `@` may be a password.
    if url.contains('@') {
        let message =
            "nobody logs in there for browsers: write it without a user, like http://10.0.0.5:80/squirrelmail/";
        report.error(spot, message);
        return None;
    }
    let bare = url.strip_prefix("https://");
    let plain = bare.map_or_else(|| url.to_owned(), |bare| format!("http://{bare}"));
    let parsed = parse_url(&plain).and_then(|(host, server, path)| Some((host, server, folder(&path)?)));
    if parsed.is_none() {
        let message = format!("{} is not a web server: write it like http://10.0.0.5:80/squirrelmail/", quoted(url));
        report.error(spot, message);
    }
    let (host, mut server, base) = parsed?;
    server.host.make_ascii_lowercase();
    // The port was left out, and it is not HTTP's.
    if bare.is_some_and(|bare| bare.split('/').next() == Some(host.as_str())) {
        server.port = 443;
    }
    Some((server, bare.is_some(), base))
}

/// TLS towards a server that proves to be this one, as towards a backend.
fn outward(
    server: &ServerName,
    ca: Option<&Path>,
    (to, ca_spot): (&Spot, &Spot),
    reader: &Reader<'_>,
    report: &mut Report,
) -> Option<BackendTls> {
    if tls::server_name(&server.host).is_err() {
        report.error(to, format_args!("no certificate is for {}: write a name that one is for", quoted(&server.host)));
        return None;
    }
    let (trust, files) = match ca {
        None => (Trust::System, Vec::new()),
        Some(written) => {
            let path = reader.readable(ca_spot, written, report)?;
            (Trust::File(path.clone()), vec![path])
        }
    };
    let spot = if ca.is_some() { ca_spot } else { to };
    let roots = trust.roots().map_err(|error| report.error(spot, error)).ok()?;
    let config = tls::client_config(roots, None).map_err(|error| report.error(spot, error)).ok()?;
    Some(BackendTls { starttls: false, name: None, config, files })
}

/// A plain path with a slash at its end, which may have been left out.
fn folder(written: &str) -> Option<String> {
    let path = written.strip_prefix('/')?;
    let bare = path.strip_suffix('/').unwrap_or(path);
    let is_plain = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'))
    };
    if bare.is_empty() {
        return (path.is_empty()).then(|| "/".to_owned());
    }
    (written.len() <= 200 && bare.split('/').all(is_plain)).then(|| format!("/{bare}/"))
}

#[cfg(test)]
mod tests {
    use super::folder;

    #[test]
    fn a_folder_is_plain_and_ends_with_a_slash() {
        for (written, expected) in [
            ("/", Some("/")),
            ("/webmail", Some("/webmail/")),
            ("/webmail/", Some("/webmail/")),
            ("/a/b.c/", Some("/a/b.c/")),
            ("webmail/", None),
            ("", None),
            ("//", None),
            ("/a//b/", None),
            ("/../", None),
            ("/a?b", None),
            ("/a%20b/", None),
        ] {
            assert_eq!(folder(written).as_deref(), expected, "{written}");
        }
    }
}
