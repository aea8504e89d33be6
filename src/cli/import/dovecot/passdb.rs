//! Where Dovecot's passdb sends its users: `driver = static` (all to one server), a passwd-file (each to their own), or a
//! database, which is not asked.

use super::super::model::{Backend, BackendId, BackendOptions, BackendTls, Imported, On, Route, Server, Service};
use super::super::notes::{self, Notes, Place};
use super::super::ports;
use super::super::reading::{self, Reading};
use super::super::users::{self, User};
use super::syntax::{Node, blocks, setting};
use std::collections::BTreeMap;
use std::path::Path;

/// What a passdb answers about a user: fields such as `proxy`, `host`, `port`.
type Fields = BTreeMap<String, String>;

/// Reads every passdb. What comes back is where those go for whom none of them names a server.
pub(super) fn read(
    nodes: &[Node],
    services: &[Service],
    folder: &Path,
    reading: &mut Reading,
    imported: &mut Imported,
    notes: &mut Notes,
) -> BTreeMap<Service, BackendId> {
    let mut everybody = None;
    for (argument, inside, place) in blocks(nodes, "passdb") {
        let driver = setting(inside, "driver").map_or(argument, |(value, _)| value);
        match driver {
            "static" => {
                let fields = fields_of_block(inside);
                if everybody.is_none() && is_proxy(&fields) {
                    everybody = Some((fields, place.clone()));
                }
            }
            "passwd-file" => passwd_file(nodes, inside, services, folder, place, reading, imported, notes),
            "pam" | "shadow" | "passwd" | "bsdauth" => notes.left(place, &format!("passdb {driver}"), "nobody is checked here: the server behind checks the password"),
            driver => notes.left(place, &format!("passdb {driver}"), "is a database, which is not asked here: write its users into a file (user, backend, login name, a line each) and routes: [{ file: FILE }], or have a service answer auth_http"),
        }
    }
    let Some((fields, place)) = everybody else {
        if imported.routes.is_empty() {
            notes.missing("no passdb says proxy and host, so this Dovecot keeps the mail itself: write its new address under backends (it has to leave the ports 143, 110, 993, 995 to gatepost, or move to another address)");
        }
        return services.iter().map(|service| (*service, imported.backend(Backend::nowhere(*service)))).collect();
    };
    let options = options(nodes, &fields, &place, notes);
    let mut found = BTreeMap::new();
    for service in services {
        let backend = match server(&fields, *service, &options) {
            Some(server) => Backend::of(*service, vec![server], options.clone()),
            None => {
                notes.left(&place, "host", "is no name or address: write the server under backends");
                Backend::nowhere(*service)
            }
        };
        found.insert(*service, imported.backend(backend));
    }
    if let Some(port) = fields.get("port").filter(|_| services.len() > 1) {
        notes.left(
            &place,
            &format!("port={port}"),
            "held for every protocol: it is taken where it fits, and the standard ports elsewhere",
        );
    }
    login_name(&fields, found.values().next().copied(), &place, imported, notes);
    found
}

fn is_proxy(fields: &Fields) -> bool {
    let says = |name: &str| fields.get(name).is_some_and(|value| !value.starts_with(['n', 'N']));
    says("proxy") || says("proxy_maybe") || (fields.contains_key("proxy") && fields.contains_key("host"))
}

/// The fields of a static passdb: `args = proxy=y host=…`, or as Dovecot 2.4 has it, `fields { … }`.
fn fields_of_block(inside: &[Node]) -> Fields {
    let mut fields = setting(inside, "args").map(|(args, _)| fields_of(args.split_whitespace())).unwrap_or_default();
    for name in ["default_fields", "override_fields"] {
        if let Some((args, _)) = setting(inside, name) {
            fields.extend(fields_of(args.split_whitespace()));
        }
    }
    for (_, nodes, _) in blocks(inside, "fields") {
        for node in nodes {
            if let Node::Setting { key, value, .. } = node {
                fields.insert(key.clone(), value.clone());
            }
        }
    }
    fields
}

fn fields_of<'a>(words: impl Iterator<Item = &'a str>) -> Fields {
    let field = |word: &str| match word.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (word.to_owned(), "y".to_owned()),
    };
    words.map(field).collect()
}

/// The server for a service: `hostip`, `host`, and `port` where it is one of that service.
fn server(fields: &Fields, service: Service, options: &BackendOptions) -> Option<Server> {
    let host = fields.get("hostip").or_else(|| fields.get("host"))?;
    let implicit = options.tls == BackendTls::Implicit;
    // A submission proxy of Dovecot's goes to 587, not 25.
    let standard = match (service, implicit) {
        (Service::Submission, false) => 587,
        _ => ports::standard(service.protocol(), implicit),
    };
    let written: Option<u16> = fields.get("port").and_then(|port| port.parse().ok());
    let fits = |port: &u16| ports::service(*port).is_none_or(|(known, _)| known.protocol() == service.protocol());
    ports::server(host, None).or_else(|| ports::server(host, Some(written.filter(fits).unwrap_or(standard))))
}

fn options(nodes: &[Node], fields: &Fields, place: &Place, notes: &mut Notes) -> BackendOptions {
    let mut options = BackendOptions::default();
    let says = |name: &str| fields.get(name).map(String::as_str).filter(|value| !value.starts_with(['n', 'N']));
    if let Some(how) = says("ssl") {
        options.tls = BackendTls::Implicit;
        any_certificate("ssl", how, place, notes);
    } else if let Some(how) = says("starttls") {
        options.tls = BackendTls::StartTls;
        any_certificate("starttls", how, place, notes);
    }
    if options.tls != BackendTls::Off {
        let ca = setting(nodes, "ssl_client_ca_file").filter(|(path, _)| !path.is_empty());
        options.tls_ca = ca.map(|(path, place)| reading::absolute(&place.folder(), path.trim_start_matches('<')));
    }
    let source = fields
        .get("source_ip")
        .cloned()
        .or_else(|| setting(nodes, "login_source_ips").map(|(value, _)| value.to_owned()));
    for address in
        source.iter().flat_map(|text| text.trim_start_matches('?').split([' ', ','])).filter(|word| !word.is_empty())
    {
        if address.parse::<std::net::IpAddr>().is_ok() {
            options.source.push(address.to_owned());
        } else {
            notes.left(
                place,
                &format!("source_ip {address}"),
                "is no address: write our addresses to dial from under source",
            );
        }
    }
    for (name, value) in fields {
        let said = format!("{name}={value}");
        match name.as_str() {
            "proxy" | "host" | "hostip" | "port" | "ssl" | "starttls" | "source_ip" | "destuser" | "user" => {}
            "nopassword" | "nodelay" | "nologin" | "password" | "proxy_not_trusted" | "proxy_mech" => {
                notes.idle(place, &format!("passdb {name}"));
            }
            "proxy_maybe" => notes.left(
                place,
                &said,
                "who has no other server is still sent to the backend: gatepost keeps no mail itself",
            ),
            "pass" => notes.left(
                place,
                name,
                "the user's own password goes to the server behind (the value is not shown here)",
            ),
            "master" => notes.left(
                place,
                name,
                "nobody logs in for others: the user's own name and password go to the server behind",
            ),
            "proxy_timeout" => notes.left(
                place,
                &said,
                "there is a deadline for each step: timeouts.connect, backend_greeting, backend_login",
            ),
            "allow_nets" => notes.left(place, &said, "write the networks under allow of the listeners, or of a route"),
            _ => notes.left(place, name, "is not known here"),
        }
    }
    options
}

fn any_certificate(name: &str, how: &str, place: &Place, notes: &mut Notes) {
    if how == "any-cert" {
        notes.left(
            place,
            &format!("{name}=any-cert"),
            "the certificate of the server behind was not looked at, and is now: tls_ca names who signs it",
        );
    }
}

/// `destuser` (or `user`) is the name there.
fn login_name(fields: &Fields, backend: Option<BackendId>, place: &Place, imported: &mut Imported, notes: &mut Notes) {
    let Some((name, value)) = ["destuser", "user"].into_iter().find_map(|name| Some((name, fields.get(name)?))) else {
        return;
    };
    match login(value) {
        Some(None) => {}
        Some(Some(login)) => {
            imported.route(Route { on: On::User("*@*".to_owned()), backend, login: Some(login) });
        }
        None => notes.left(
            place,
            &format!("{name}={value}"),
            "write a route with login:, of which {local} is the part before the @",
        ),
    }
}

/// Dovecot's variables in a name; `Some(None)`: it is the user's own. `None` where they say more than ours.
fn login(value: &str) -> Option<Option<String>> {
    match value {
        "%u" | "%{user}" | "%Lu" => Some(None),
        _ => {
            let login = value
                .replace("%{user | username}", "{local}")
                .replace("%Ln", "{local}")
                .replace("%n", "{local}")
                .replace("%{username}", "{local}");
            let login = login.replace("%Ld", "{domain}").replace("%d", "{domain}").replace("%{domain}", "{domain}");
            (!login.contains('%')).then_some(Some(login))
        }
    }
}

/// A passwd-file: `user:password:uid:gid:gecos:home:shell:proxy=y host=…`. The password is left where it is.
#[expect(clippy::too_many_arguments, reason = "a step of `read`")]
fn passwd_file(
    nodes: &[Node],
    inside: &[Node],
    services: &[Service],
    folder: &Path,
    place: &Place,
    reading: &mut Reading,
    imported: &mut Imported,
    notes: &mut Notes,
) {
    let written = setting(inside, "passwd_file_path").map(|(path, _)| path);
    let written = written.or_else(|| {
        setting(inside, "args").and_then(|(args, _)| args.split_whitespace().find(|word| !word.contains('=')))
    });
    let Some(path) = written.filter(|path| !path.contains('%')) else {
        notes.left(place, "passdb passwd-file", "names its file by the user: write users into one file (user, backend, login name, a line each) and routes: [{ file: FILE }]");
        return;
    };
    let file = folder.join(path);
    let text = match reading.text(&file) {
        Ok(text) => text,
        Err(error) => {
            notes.left(
                place,
                "passdb passwd-file",
                format_args!("was not read: {error}: run the import where the file is"),
            );
            return;
        }
    };
    let defaults = ["default_fields", "override_fields"].iter().filter_map(|name| setting(inside, name));
    let defaults: Fields = defaults.flat_map(|(args, _)| fields_of(args.split_whitespace())).collect();
    let shown = notes::shown(&file);
    let mut users = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (Some(name), Some(extra)) = (line.split(':').next(), line.splitn(8, ':').nth(7)) else { continue };
        if name.is_empty() || name.starts_with('#') {
            continue;
        }
        let mut fields = defaults.clone();
        fields.extend(fields_of(extra.split_whitespace()));
        if !is_proxy(&fields) {
            continue;
        }
        let place = Place::new(&shown, index + 1);
        let options = options(nodes, &fields, &place, notes);
        let servers =
            services.iter().filter_map(|service| Some((*service, server(&fields, *service, &options)?))).collect();
        let login = fields.get("destuser").and_then(|value| login(value)).flatten();
        users.push(User { name: name.to_owned(), servers, login, options });
    }
    if users.is_empty() {
        notes.left(
            place,
            "passdb passwd-file",
            "no user in it has proxy and host: the server behind checks the password",
        );
        return;
    }
    let command = format!("sed -nE 's/^([^#:]+):.*[ :]host=([^ ]+).*/\\1 \\2/p' {}", file.display());
    users::take_up(&users, &command, place, imported, notes);
}
