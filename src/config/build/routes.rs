//! Which backend a session goes to.

use super::super::finding::{Place, quoted};
use super::super::report::{Report, Spot};
use super::super::sections::{self, File};
use super::super::value::io_words;
use super::backends::{Backends, known_backend};
use super::files::Reader;
use super::listeners::{Built, daemons};
use crate::policy::access::Purpose;
use crate::policy::route::{AuthHttp, Leads, LoginTemplate, MapError, Pattern, Route, Routes, Target, UserMap};
use crate::policy::{Auth, Backend, Checker, ServerName, Spoken};
use crate::proto::{Protocol, Service};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

pub(super) fn build(file: &File, backends: &Backends, reader: &Reader<'_>, report: &mut Report) -> Routes {
    let top = Spot::top("routes");
    let maker = Maker { backends, reader };
    let routes = file.routes.iter().enumerate();
    let built: Vec<_> = routes.map(|(index, section)| maker.route(section, &top.item(index), report)).collect();
    // Counted in what is written, and so only where all of it could be made.
    let routes = Routes(built.into_iter().flatten().collect());
    if routes.0.len() == file.routes.len()
        && let Some((later, earlier)) = routes.first_in_vain()
    {
        let message = format!("nobody comes here: routes[{earlier}] takes all of them; put this one before it");
        report.warning(&top.item(later), message);
    }
    routes
}

/// Whether whom a route leads somewhere finds there what he came for.
pub(super) fn look_at(routes: &Routes, auth: &Auth, listeners: &[Built], report: &mut Report) {
    let top = Spot::top("routes");
    let mut spoken: Vec<Spoken<Protocol>> = Vec::new();
    for listener in listeners.iter().filter_map(|built| built.listener.as_ref()) {
        spoken.push(listener.service.protocol().into());
        if let (Service::Submission, Checker::Server(protocol)) = (listener.service, &auth.submission) {
            spoken.push((*protocol).into());
        }
    }
    if listeners.iter().any(|built| built.tunnel.is_some()) {
        spoken.push(Spoken::Tcp);
    }
    for (index, route) in routes.0.iter().enumerate() {
        let (Leads::All(Target { backend: Some(backend), .. }) | Leads::User(_, Target { backend: Some(backend), .. })) =
            &route.leads
        else {
            continue;
        };
        // What is no mail names no user, and passes such a route by.
        let by_user = matches!(route.leads, Leads::User(..));
        let meant = |protocol: &&Spoken<Protocol>| {
            (route.protocols.is_empty() || route.protocols.contains(protocol))
                && !(by_user && **protocol == Spoken::Tcp)
        };
        let missing = spoken.iter().filter(meant).find(|protocol| !backend.servers.contains_key(protocol));
        if let Some(protocol) = missing.filter(|_| route.protocols.is_empty()) {
            let (name, word) = (&backend.name, protocol.as_str());
            let message = format!(
                "over {word} its users find nothing, as the backend `{name}` has no {word} server: write protocol: with those it has"
            );
            report.warning(&top.item(index), message);
        }
    }
}

struct Maker<'a> {
    backends: &'a Backends,
    reader: &'a Reader<'a>,
}

impl Maker<'_> {
    fn route(&self, section: &sections::Route, spot: &Spot, report: &mut Report) -> Option<Route> {
        let backend = match &section.backend {
            None => None,
            Some(name) => Some(known_backend(self.backends, name, &spot.key("backend"), report)?),
        };
        let protocols: Vec<Spoken<Protocol>> = section.protocol.0.iter().map(|protocol| protocol.0).collect();
        if let Some(index) = protocols.iter().position(|protocol| *protocol == Spoken::Tcp) {
            report_users_of_tcp(section, &spot.key("protocol").item(index), report);
        }
        if let Some(backend) = &backend
            && let Some(missing) = protocols.iter().find(|protocol| !backend.servers.contains_key(protocol))
        {
            let (name, protocol) = (&backend.name, missing.as_str());
            let message = format!("the backend `{name}` has no {protocol} server: write backends.{name}.{protocol}");
            report.error(&spot.key("backend"), message);
        }
        let leads = self.leads(section, backend, spot, report)?;
        let daemons = daemons("gatepost", None);
        let allow = self.reader.list(&spot.key("allow"), &section.allow, &daemons, Purpose::Allow, report);
        let pattern = |written: &Option<String>| written.as_deref().map(Pattern::new);
        let (sni, certificate) = (pattern(&section.sni), pattern(&section.client_certificate));
        Some(Route { protocols, sni, certificate, leads, allow })
    }

    fn leads(
        &self,
        section: &sections::Route,
        backend: Option<Arc<Backend>>,
        spot: &Spot,
        report: &mut Report,
    ) -> Option<Leads> {
        let choosers = [
            ("user", section.user.is_some()),
            ("file", section.file.is_some()),
            ("auth_http", section.auth_http.is_some()),
        ];
        let mut chosen = choosers.iter().filter(|(_, is_there)| *is_there);
        if let (Some((first, _)), Some((second, _))) = (chosen.next(), chosen.next()) {
            report.error(spot, format_args!("has both {first} and {second}: write a route for each"));
            return None;
        }
        if section.auth_http.is_none() && !section.headers.0.is_empty() {
            report.error(&spot.key("headers"), "are for auth_http: leave them out");
        }
        if let Some(written) = &section.file {
            self.only_without(section, "file", spot, report);
            return self.map(&spot.key("file"), written, report).map(Leads::Map);
        }
        if let Some(url) = &section.auth_http {
            if section.login.is_some() {
                report.error(&spot.key("login"), "the service says the login name (Auth-User): leave it out");
            }
            return auth_http(section, url, backend, spot, report).map(|service| Leads::AuthHttp(Arc::new(service)));
        }
        let login = match section.login.as_deref().map(LoginTemplate::parse) {
            None => None,
            Some(Ok(login)) => Some(login),
            Some(Err(bad)) => {
                report.error(
                    &spot.key("login"),
                    format_args!("{} is not a login name: {bad}", quoted(section.login.as_deref().unwrap_or_default())),
                );
                return None;
            }
        };
        let conditions = [&section.user, &section.sni, &section.client_certificate];
        if conditions.iter().all(|condition| condition.is_none()) && section.protocol.0.is_empty() {
            let message =
                "says for whom it is nowhere: write sni, user, client_certificate, file, auth_http or protocol";
            report.error(spot, message);
            return None;
        }
        if backend.is_none() && login.is_none() && section.allow.is_empty() {
            report.error(spot, "leads nowhere: write backend, login, or both");
            return None;
        }
        let target = Target { backend, login };
        match section.user.as_deref().map(Pattern::new) {
            Some(pattern) if !pattern.is_anything() => Some(Leads::User(pattern, target)),
            _ => Some(Leads::All(target)),
        }
    }

    /// A map says backend and login name itself.
    fn only_without(&self, section: &sections::Route, what: &str, spot: &Spot, report: &mut Report) {
        for (key, is_there) in [("backend", section.backend.is_some()), ("login", section.login.is_some())] {
            if is_there {
                report.error(&spot.key(key), format_args!("stands in each line of the {what}: leave it out here"));
            }
        }
    }

    fn map(&self, spot: &Spot, written: &Path, report: &mut Report) -> Option<UserMap> {
        let path = self.reader.readable(spot, written, report)?;
        let file = path.display().to_string();
        let backends =
            self.backends.iter().filter_map(|(name, backend)| Some((name.clone(), Arc::clone(backend.as_ref()?))));
        match UserMap::open(path, backends.collect()) {
            Ok(map) => return Some(map),
            Err(MapError::Unreadable(error)) => {
                report.error(spot, format_args!("`{}` cannot be read: {}", written.display(), io_words(&error)));
            }
            Err(MapError::Bad(lines)) => {
                for (line, message) in lines {
                    report.elsewhere(Place { file: file.clone(), line, column: 1 }, message);
                }
            }
        }
        None
    }
}

/// On a tcp connection nobody says who he is.
fn report_users_of_tcp(section: &sections::Route, spot: &Spot, report: &mut Report) {
    let keys = [
        ("user", section.user.is_some()),
        ("file", section.file.is_some()),
        ("auth_http", section.auth_http.is_some()),
        ("login", section.login.is_some()),
    ];
    if let Some((key, _)) = keys.iter().find(|(_, is_there)| *is_there) {
        let message = format!("a tcp connection names no user, and {key} wants one: leave tcp out, or write sni");
        report.error(spot, message);
    }
}

fn auth_http(
    section: &sections::Route,
    url: &str,
    backend: Option<Arc<Backend>>,
    spot: &Spot,
    report: &mut Report,
) -> Option<AuthHttp> {
    let key = spot.key("auth_http");
    let Some((host, server, path)) = parse_url(url) else {
        report.error(
            &key,
            format_args!("{} is not an address of a service: write http://127.0.0.1:8080/auth", quoted(url)),
        );
        return None;
    };
    let is_local = server.host == "localhost" || server.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !is_local {
        report.warning(&key, "passwords cross the network in the clear on their way there: have it listen on 127.0.0.1, or reach it through a tunnel");
    }
    if section.timeout.0.is_zero() {
        report.error(&spot.key("timeout"), "`0` leaves no time at all: write a duration such as 10s");
    }
    let mut headers = Vec::new();
    for (name, value) in &section.headers.0 {
        let spot = spot.key("headers").key(name);
        let is_token =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        if !is_token {
            report.error(&spot, "is not a header's name: write it like X-Auth-Key");
        } else if value.0.declassify().bytes().any(|b| b.is_ascii_control()) {
            report.error(&spot, "its value has a control character in it");
        } else {
            headers.push((name.clone(), value.0.clone()));
        }
    }
    Some(AuthHttp { server, host, path, headers, timeout: section.timeout.0, backend })
}

/// `http://HOST[:PORT][/PATH]`: what stands in `Host` (as with nginx without the port), the server, path and query.
pub(super) fn parse_url(url: &str) -> Option<(String, ServerName, String)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let is_clean = |text: &str| !text.bytes().any(|b| b.is_ascii_control() || b == b' ' || !b.is_ascii());
    if !is_clean(url) || authority.contains('@') || url.contains('#') {
        return None;
    }
    let (written, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port != 0)?),
        _ => (authority, 80),
    };
    let bare = written.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(literal) => literal.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None => Some(written)
            .filter(|host| super::super::value::is_host_name(host) || host.parse::<IpAddr>().is_ok())?
            .to_owned(),
    };
    Some((written.to_owned(), ServerName { host, port }, path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_service_is_taken_apart() {
        let parsed = |url| parse_url(url).map(|(host, server, path)| format!("{host} {server} {path}"));
        let good = [
            ("http://127.0.0.1:8080/auth", "127.0.0.1 127.0.0.1:8080 /auth"),
            ("http://auth.example.net", "auth.example.net auth.example.net:80 /"),
            ("http://[::1]:9000/a?b=c", "[::1] [::1]:9000 /a?b=c"),
            ("http://[::1]/", "[::1] [::1]:80 /"),
        ];
        for (url, expected) in good {
            assert_eq!(parsed(url).as_deref(), Some(expected), "{url}");
        }
        for url in [
            "127.0.0.1:8080",
            "ftp://x/",
            "http://",
            "http://a b/",
            "http://x:0/",
            "http://x:y/",
            "http://u:p@x/",
            "http://x/\r\n",
        ] {
            assert_eq!(parsed(url), None, "{url}");
        }
    }
}
