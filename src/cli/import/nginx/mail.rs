//! The `mail` block.
//!
//! nginx asks an HTTP service at each login which server it is (`auth_http`), so no server is named in the file: the service
//! becomes a route, and a backend is written for it to be changed.

use super::super::model::{Backend, BackendOptions, Listener, On, Route, Service, TlsRule};
use super::super::ports;
use super::shared::{self, Listen, Scopes};
use super::syntax::{Directive, named};
use super::{Context, account};

/// Reads one `mail` block.
pub(super) fn read(block: &[Directive], context: &mut Context<'_>) {
    account::look_at(block, &account::MAIL, context.notes);
    for server in named(block, "server") {
        account::look_at(&server.block, &account::MAIL, context.notes);
        let scopes = Scopes([&server.block, block, context.main]);
        read_server(server, &scopes, context);
    }
}

fn read_server(server: &Directive, scopes: &Scopes<'_>, context: &mut Context<'_>) {
    let listens: Vec<Listen<'_>> =
        named(&server.block, "listen").filter_map(|directive| shared::listen(directive, context)).collect();
    if context.imported.hostname.is_none() {
        context.imported.hostname = scopes.one("server_name").and_then(|name| ports::host_name(name.first()));
    }
    for listen in &listens {
        let Some(service) = service(listen, scopes, context) else { continue };
        read_listen(listen, service, scopes, context);
    }
}

fn read_listen(listen: &Listen<'_>, service: Service, scopes: &Scopes<'_>, context: &mut Context<'_>) {
    let (tls, looks) = match scopes.one("starttls").map_or("off", Directive::first) {
        _ if listen.ssl || scopes.is_on("ssl") => (TlsRule::Implicit, Vec::new()),
        "only" => (TlsRule::StartTls, Vec::new()),
        "on" => (TlsRule::Optional, vec!["logins without TLS still work here".to_owned()]),
        _ => shared::without_tls(listen, context),
    };
    let backend = Backend { options: options(service, scopes), ..Backend::nowhere(service) };
    let backend = context.imported.backend(backend);
    let mut listener = Listener::new(&listen.directive.place, listen.address, service, tls, backend);
    listener.looks = looks;
    if tls != TlsRule::Off {
        listener.client_certificate = shared::tls(scopes, context);
    }
    shared::load_balancers(&mut listener, listen, scopes, context);
    context.imported.listeners.push(listener);
    mechanisms(service, scopes, context);
    shared::timeout(scopes, "timeout", "login", context);
    shared::idle(scopes, service, context);
    auth_http(listen, scopes, context);
}

/// What the listener offers: `protocol`, or what the port says.
fn service(listen: &Listen<'_>, scopes: &Scopes<'_>, context: &mut Context<'_>) -> Option<Service> {
    let by_port = ports::service(listen.address.port()).map(|(service, _)| service);
    // nginx passes a stranger's mail on where `none` is among the mechanisms.
    let takes_strangers = scopes.one("smtp_auth").is_some_and(|auth| auth.arguments.iter().any(|word| word == "none"));
    let smtp = if takes_strangers { Service::Smtp } else { Service::Submission };
    let written = scopes.one("protocol");
    match (written.map(Directive::first), by_port) {
        (Some("imap"), _) | (None, Some(Service::Imap)) => Some(Service::Imap),
        (Some("pop3"), _) | (None, Some(Service::Pop3)) => Some(Service::Pop3),
        (Some("smtp"), _) | (None, Some(Service::Smtp | Service::Submission)) => Some(smtp),
        _ => {
            let directive = written.unwrap_or(listen.directive);
            context.notes.left(
                &directive.place,
                &directive.text(),
                "says no protocol that is known: write imap, pop3, submission or smtp",
            );
            None
        }
    }
}

/// How the servers behind hear of the client. XCLIENT is nginx's default, towards SMTP.
fn options(service: Service, scopes: &Scopes<'_>) -> BackendOptions {
    let is_smtp = matches!(service, Service::Smtp | Service::Submission);
    let xclient = scopes.one("xclient").is_none_or(Directive::is_on);
    let client_address = match (scopes.is_on("proxy_protocol"), is_smtp && xclient) {
        (true, _) => Some("proxy-v1"),
        (false, true) => Some("xclient"),
        (false, false) => None,
    };
    BackendOptions { client_address, ..BackendOptions::default() }
}

/// Which mechanisms log in. One list holds for all listeners here, so a listener that says nothing adds nginx's defaults.
fn mechanisms(service: Service, scopes: &Scopes<'_>, context: &mut Context<'_>) {
    let is_said = ["imap_auth", "pop3_auth", "smtp_auth"].iter().any(|name| is_anywhere(name, context));
    if !is_said {
        return;
    }
    let (name, default): (&str, &[&str]) = match service {
        Service::Imap => ("imap_auth", &["plain"]),
        Service::Pop3 => ("pop3_auth", &["plain"]),
        // Not in a block for mail.
        Service::Tcp => return,
        Service::Submission | Service::Smtp => ("smtp_auth", &["plain", "login"]),
    };
    let said = scopes.one(name);
    let words: Vec<&str> = match said {
        Some(directive) => directive.arguments.iter().map(String::as_str).collect(),
        None => default.to_vec(),
    };
    for word in words {
        let ours: &[&str] = match (word, service) {
            // nginx always takes the command LOGIN on IMAP, and USER and PASS on POP3.
            ("plain", Service::Imap) => &["PLAIN", "LOGIN"],
            ("plain", Service::Pop3) => &["USER", "PLAIN", "LOGIN"],
            ("plain", _) => &["PLAIN"],
            ("login", _) => &["LOGIN"],
            ("cram-md5", _) => &["CRAM-MD5"],
            ("apop", _) => &["APOP"],
            ("none", _) => &[],
            _ => {
                if let Some(directive) = said {
                    context.notes.left(
                        &directive.place,
                        &directive.text(),
                        format_args!("`{word}` cannot cross a gateway: it is left out of auth.mechanisms"),
                    );
                }
                &[]
            }
        };
        context.imported.mechanisms.extend(ours.iter().map(|name| (*name).to_owned()));
    }
}

fn is_anywhere(name: &str, context: &Context<'_>) -> bool {
    named(context.main, "mail").any(|mail| {
        named(&mail.block, name).next().is_some()
            || named(&mail.block, "server").any(|server| named(&server.block, name).next().is_some())
    })
}

/// The service that says which server it is becomes a route.
fn auth_http(listen: &Listen<'_>, scopes: &Scopes<'_>, context: &mut Context<'_>) {
    let Some(directive) = scopes.one("auth_http") else {
        context.notes.left(
            &listen.directive.place,
            &listen.directive.text(),
            "has no auth_http to say which server is behind: write it under backends",
        );
        return;
    };
    let written = directive.first();
    if written.contains("unix:") {
        context.notes.left(&directive.place, &directive.text(), "is asked over TCP alone: have it listen on 127.0.0.1, and write routes: [{ auth_http: \"http://127.0.0.1:PORT/…\" }]");
        return;
    }
    let url = if written.contains("://") { written.to_owned() } else { format!("http://{written}") };
    let route = Route { on: On::AuthHttp(url), backend: None, login: None };
    if context.imported.routes.iter().any(|known| *known != route) {
        context.notes.left(&directive.place, &directive.text(), "is the second such service, and the first answers for all listeners: have that one tell them apart by Auth-Protocol");
        return;
    }
    if context.imported.routes.is_empty() {
        context.imported.look("backends", "routes: auth_http names the server at each login; this one is for health checks, and for what the service does not answer");
    }
    context.imported.route(route);
}
