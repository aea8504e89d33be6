//! The `stream` block: servers on mail ports, and others where TLS ends at nginx. What nginx only passes on stays there.
//!
//! There nginx passes bytes on, and whoever ended TLS was the server behind unless `listen` says `ssl`. Here TLS always
//! ends at the gateway, so a server behind that had it is spoken to by TLS.

use super::super::access::{self, Rule};
use super::super::model::{Backend, BackendId, BackendOptions, BackendTls, Listener, Server, Service, TlsRule};
use super::super::ports;
use super::super::reading;
use super::shared::{self, Listen, Scopes};
use super::syntax::{Directive, named};
use super::{Context, account};
use crate::policy::access::parse_network;

/// Reads one `stream` block.
pub(super) fn read(block: &[Directive], context: &mut Context<'_>) {
    account::look_at(block, &account::STREAM, context.notes);
    for server in named(block, "server") {
        account::look_at(&server.block, &account::STREAM, context.notes);
        let scopes = Scopes([&server.block, block, context.main]);
        for directive in named(&server.block, "listen") {
            let Some(listen) = shared::listen(directive, context) else { continue };
            read_listen(&listen, &scopes, context);
        }
    }
}

fn read_listen(listen: &Listen<'_>, scopes: &Scopes<'_>, context: &mut Context<'_>) {
    let Some(pass) = scopes.one("proxy_pass") else { return };
    let Some(target) = Target::of(pass, scopes) else {
        context.notes.left(
            &pass.place,
            &pass.text(),
            "leads to no server that is named in this file: write it under backends",
        );
        return;
    };
    let behind = target.upstream.servers.first().map(|server| server.port);
    let by_port = ports::service(listen.address.port());
    let of_mail = by_port.or_else(|| behind.and_then(ports::service));
    let Some((service, passes_tls)) = of_mail.or(listen.ssl.then_some((Service::Tcp, false))) else {
        let text = format!("listen {}", listen.directive.arguments.join(" "));
        context.notes.left(
            &listen.directive.place,
            &text,
            "is no port of mail: it stays with nginx; for mail on an unusual port write a listener with its protocol",
        );
        return;
    };
    let mut looks = Vec::new();
    let tls = if listen.ssl {
        TlsRule::Implicit
    } else if by_port.is_some() && passes_tls {
        let advice = "passed TLS through to the server behind: TLS ends here now, so its certificate and key belong under tls.certificates";
        context.notes.left(&listen.directive.place, &listen.directive.text(), advice);
        looks.push(
            "TLS ended behind this port, with that server's certificate: name it under tls.certificates".to_owned(),
        );
        TlsRule::Implicit
    } else {
        let (tls, look) = shared::without_tls(listen, context);
        looks.extend(look);
        tls
    };
    let options = options(listen, scopes, &target, context);
    let backend = context.imported.backend(Backend {
        name: target.name.clone(),
        ..Backend::of(service, target.upstream.servers.clone(), options.clone())
    });
    let names: Vec<String> = scopes.one("server_name").map(|names| names.arguments.clone()).unwrap_or_default();
    // A second server on the same port is another one's by the name that clients ask for (nginx 1.25.5 and later).
    if !names.is_empty() && context.imported.listeners.iter().any(|known| known.addresses.contains(&listen.address)) {
        for name in names {
            context.imported.route_by_name(&name, backend, &listen.directive.place, context.notes);
        }
        shared::tls(scopes, context);
        return;
    }
    if context.imported.hostname.is_none() {
        context.imported.hostname = names.iter().find_map(|name| ports::host_name(name));
    }
    let mut listener = Listener::new(&listen.directive.place, listen.address, service, tls, backend);
    if target.name.parse::<std::net::IpAddr>().is_err() {
        listener.name.clone_from(&target.name);
    }
    listener.looks = looks;
    if listen.ssl || tls != TlsRule::Off {
        listener.client_certificate = shared::tls(scopes, context);
    }
    shared::load_balancers(&mut listener, listen, scopes, context);
    if !take_lists(&mut listener, scopes, context) {
        return;
    }
    context.imported.listeners.push(listener);
    for (name, other) in &target.by_name {
        let backend =
            Backend { name: other.name.clone(), ..Backend::of(service, other.servers.clone(), options.clone()) };
        let backend: BackendId = context.imported.backend(backend);
        context.imported.route_by_name(name, backend, &pass.place, context.notes);
    }
    for (place, what, advice) in target.left {
        context.notes.left(place, &what, advice);
    }
    shared::idle(scopes, service, context);
    shared::timeout(scopes, "proxy_connect_timeout", "connect", context);
    shared::timeout(scopes, "ssl_handshake_timeout", "tls_handshake", context);
    sessions_per_address(scopes, context);
}

fn options(listen: &Listen<'_>, scopes: &Scopes<'_>, target: &Target<'_>, context: &mut Context<'_>) -> BackendOptions {
    let port_has_tls =
        target.upstream.servers.first().and_then(|server| ports::service(server.port)).is_some_and(|(_, tls)| tls);
    let mut options = BackendOptions {
        balance: target.upstream.balance,
        max_sessions: target.upstream.max_sessions,
        ..BackendOptions::default()
    };
    if scopes.is_on("proxy_ssl") || (port_has_tls && !listen.ssl) {
        options.tls = BackendTls::Implicit;
    }
    if options.tls == BackendTls::Implicit {
        options.tls_ca =
            scopes.one("proxy_ssl_trusted_certificate").map(|ca| reading::absolute(&context.folder, ca.first()));
        if !scopes.is_on("proxy_ssl_verify") {
            let place = scopes.one("proxy_ssl").map_or(&listen.directive.place, |directive| &directive.place);
            context.notes.left(
                place,
                "proxy_ssl",
                "the certificate of the server behind was not looked at, and is now: tls_ca names who signs it",
            );
        }
    }
    if scopes.is_on("proxy_protocol") {
        options.client_address = Some("proxy-v1");
    }
    if let Some(bind) = scopes.one("proxy_bind").filter(|bind| bind.first() != "off") {
        match bind.first() {
            _ if bind.arguments.iter().any(|word| word == "transparent") => {
                options.client_address = Some("transparent");
            }
            address if address.parse::<std::net::IpAddr>().is_ok() => options.source.push(address.to_owned()),
            _ => context.notes.left(&bind.place, &bind.text(), "write our addresses to dial from under source"),
        }
    }
    options
}

/// Takes up `allow` and `deny`; `false` where nobody may come in.
fn take_lists(listener: &mut Listener, scopes: &Scopes<'_>, context: &mut Context<'_>) -> bool {
    let holds_here =
        |block: &&[Directive]| block.iter().any(|directive| matches!(directive.name.as_str(), "allow" | "deny"));
    let block = scopes.0.into_iter().find(holds_here).unwrap_or_default();
    let mut rules = Vec::new();
    for directive in block.iter().filter(|directive| matches!(directive.name.as_str(), "allow" | "deny")) {
        let network = match directive.first() {
            "all" => None,
            "unix:" => continue,
            text => match parse_network(text) {
                Some(network) => Some(network),
                None => {
                    context.notes.left(
                        &directive.place,
                        &directive.text(),
                        "is no network: write it under allow or deny",
                    );
                    continue;
                }
            },
        };
        rules.push(Rule { allows: directive.name == "allow", network });
    }
    let Some(lists) = access::first_match(&rules, true) else {
        context.notes.left(
            &listener.place,
            "allow, deny",
            "are too many to be sorted: write them into a file in hosts.allow form, and allow: [file:PATH]",
        );
        return false;
    };
    if lists.nobody {
        context.notes.left(&listener.place, "deny all", "lets nobody in: the listener is left out");
        return false;
    }
    listener.lists = lists;
    true
}

/// `limit_conn` by the client's address.
fn sessions_per_address(scopes: &Scopes<'_>, context: &mut Context<'_>) {
    for limit in scopes.all("limit_conn") {
        let zone = format!("zone={}", limit.first());
        let is_ours = |directive: &&Directive| {
            directive.arguments.iter().any(|word| *word == zone || word.starts_with(&format!("{zone}:")))
        };
        let by_address = scopes
            .all("limit_conn_zone")
            .into_iter()
            .find(is_ours)
            .is_some_and(|zone| zone.first().ends_with("remote_addr"));
        match limit.arguments.get(1).and_then(|count| count.parse::<u32>().ok()) {
            Some(count) if by_address => {
                context.imported.limits.insert("sessions_per_ip", count.to_string());
            }
            _ => context.notes.left(
                &limit.place,
                &limit.text(),
                "is no number for an address: there are limits.sessions, sessions_per_ip and sessions_per_user",
            ),
        }
    }
}

/// Where a `proxy_pass` leads.
struct Target<'a> {
    name: String,
    upstream: Upstream,
    /// By the server name that the client asks for (`map $ssl_preread_server_name`).
    by_name: Vec<(String, Upstream)>,
    left: Vec<(&'a super::super::notes::Place, String, &'static str)>,
}

#[derive(Clone, Default)]
struct Upstream {
    name: String,
    servers: Vec<Server>,
    balance: Option<&'static str>,
    max_sessions: usize,
}

impl<'a> Target<'a> {
    fn of(pass: &'a Directive, scopes: &Scopes<'a>) -> Option<Self> {
        let mut left = Vec::new();
        let written = pass.first();
        if !written.starts_with('$') {
            let upstream = upstream(written, scopes, &mut left)?;
            return Some(Self { name: upstream.name.clone(), upstream, by_name: Vec::new(), left });
        }
        let is_its_map = |map: &&Directive| {
            map.first().contains("ssl_preread_server_name") && map.arguments.get(1).is_some_and(|name| name == written)
        };
        let map = scopes.all("map").into_iter().find(is_its_map)?;
        let (mut default, mut by_name) = (None, Vec::new());
        for entry in &map.block {
            let name = entry.name.as_str();
            if matches!(name, "hostnames" | "volatile") {
                continue;
            }
            let Some(found) = upstream(entry.first(), scopes, &mut left) else {
                left.push((
                    &entry.place,
                    entry.text(),
                    "leads to no server that is named in this file: write it under backends",
                ));
                continue;
            };
            match name {
                "default" => default = Some(found),
                _ if name.starts_with('~') => left.push((&entry.place, entry.text(), "is a regular expression: write routes with sni: and a name, or a pattern such as \"*.example.net\"")),
                _ if name.starts_with('.') => {
                    by_name.push((name[1..].to_owned(), found.clone()));
                    by_name.push((format!("*{name}"), found));
                }
                _ => by_name.push((name.to_owned(), found)),
            }
        }
        let upstream = default.or_else(|| by_name.first().map(|(_, upstream)| upstream.clone()))?;
        Some(Self { name: upstream.name.clone(), upstream, by_name, left })
    }
}

/// A group of servers by its name, or one server.
fn upstream<'a>(
    written: &str,
    scopes: &Scopes<'a>,
    left: &mut Vec<(&'a super::super::notes::Place, String, &'static str)>,
) -> Option<Upstream> {
    let Some(group) = scopes.0[1].iter().find(|directive| directive.name == "upstream" && directive.first() == written)
    else {
        let server = ports::server(written, None)?;
        return Some(Upstream { name: server.host.clone(), servers: vec![server], ..Upstream::default() });
    };
    let mut found = Upstream { name: written.to_owned(), ..Upstream::default() };
    let (mut backups, mut balance) = (Vec::new(), Some("round-robin"));
    for directive in &group.block {
        match directive.name.as_str() {
            "server" => {
                let says = |word: &str| directive.arguments.iter().any(|argument| argument == word);
                let Some(server) = ports::server(directive.first(), None) else {
                    left.push((&directive.place, directive.text(), "is no HOST:PORT: write it under backends"));
                    continue;
                };
                if says("down") {
                    left.push((&directive.place, directive.text(), "is left out, as it is down there"));
                    continue;
                }
                if directive.arguments.iter().any(|argument| argument.starts_with("weight=")) {
                    left.push((
                        &directive.place,
                        directive.text(),
                        "there are no weights: write balance: least-sessions, or several backends",
                    ));
                }
                let most =
                    directive.arguments.iter().find_map(|argument| argument.strip_prefix("max_conns=")?.parse().ok());
                found.max_sessions = found.max_sessions.max(most.unwrap_or(0));
                if says("backup") { backups.push(server) } else { found.servers.push(server) }
            }
            "least_conn" | "least_time" => balance = Some("least-sessions"),
            "hash" | "random" => left.push((
                &directive.place,
                directive.text(),
                "there is balance: user (a user keeps a server), round-robin and least-sessions: choose",
            )),
            "zone" | "resolver" | "resolver_timeout" => {}
            _ => left.push((&directive.place, directive.text(), "is not known here: look at `balance` under backends")),
        }
    }
    if found.servers.len() > 1 {
        found.balance = balance;
        if !backups.is_empty() {
            left.push((
                &group.place,
                group.text(),
                "its backups are servers like the others now: write balance: first to have them last",
            ));
        }
    }
    found.servers.extend(backups);
    (!found.servers.is_empty()).then_some(found)
}
