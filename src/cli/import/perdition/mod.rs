//! Perdition: one perdition.conf a protocol, and a map of users.
//!
//! A line is `key value`, the key an option's long or short name; `'…'`, `"…"` and `\` quote, `#` begins a comment
//! (perdition(8)).

mod map;
mod options;
mod pattern;

use super::model::{
    Backend, BackendId, BackendOptions, BackendTls, Imported, Listener, NO_SERVER, On, Route, Server, Service, TlsRule,
};
use super::notes::{self, Notes, Place};
use super::reading::{self, Reading};
use super::{ImportError, ports};
use options::{Read, Setting};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Reads a perdition.conf.
pub(super) fn read(file: &Path, reading: &mut Reading, notes: &mut Notes) -> Result<Imported, ImportError> {
    let text = reading.text(file)?;
    let options = options::parse(&text, file);
    let mut reader = Reader { file, options, imported: Imported::default(), notes, reading };
    reader.read()?;
    Ok(reader.imported)
}

struct Reader<'a> {
    file: &'a Path,
    options: Vec<Read>,
    imported: Imported,
    notes: &'a mut Notes,
    reading: &'a mut Reading,
}

impl Reader<'_> {
    fn one(&self, name: &str) -> Option<&Setting> {
        self.options.iter().rev().filter_map(|option| option.as_ref().ok()).find(|setting| setting.name == name)
    }

    fn value(&self, name: &str) -> &str {
        self.one(name).map_or("", |setting| setting.value.as_str())
    }

    fn left(&mut self, name: &str, advice: impl std::fmt::Display) {
        let Some((text, place)) =
            self.one(name).map(|setting| (format!("{name} {}", setting.value), setting.place.clone()))
        else {
            return;
        };
        self.notes.left(&place, text.trim(), advice);
    }

    fn read(&mut self) -> Result<(), ImportError> {
        options::look_at(&self.options, self.notes);
        let (service, secure) = self.protocol()?;
        let modes = self.modes(secure);
        let backend = self.default_backend(service, &modes);
        self.listen(service, &modes, backend);
        self.certificate(&modes);
        self.map(service, &modes);
        self.limits(service);
        self.names();
        Ok(())
    }

    /// The service, and whether it is the one with TLS from the first byte.
    fn protocol(&mut self) -> Result<(Service, bool), ImportError> {
        let name = self.file.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let written = self.value("protocol").to_ascii_uppercase();
        Ok(match written.as_str() {
            "POP3" => (Service::Pop3, false),
            "POP3S" => (Service::Pop3, true),
            "IMAP4" => (Service::Imap, false),
            "IMAP4S" => (Service::Imap, true),
            // perdition.imap4s reads perdition.imap4s.conf.
            "" if name.contains("imap4s") || name.contains("imaps") => (Service::Imap, true),
            "" if name.contains("imap") => (Service::Imap, false),
            "" if name.contains("pop3s") => (Service::Pop3, true),
            "" if name.contains("sieve") => return Err(self.no_mail()),
            "" => {
                self.notes.missing(format_args!(
                    "{} says no protocol, and so is for POP3: for IMAP, whose flags were --protocol IMAP4 (in /etc/default/perdition, say), write the same listener with protocol: imap, ports 143 and 993",
                    self.file.display()
                ));
                (Service::Pop3, false)
            }
            _ => return Err(self.no_mail()),
        })
    }

    fn no_mail(&self) -> ImportError {
        ImportError::Nothing(format!(
            "{}: the protocol is neither POP3 nor IMAP4: nothing here is for it",
            self.file.display()
        ))
    }

    fn modes(&self, secure: bool) -> Modes {
        let written = self.value("ssl_mode").to_ascii_lowercase();
        // POP3S and IMAP4S mean TLS on both sides, unless ssl_mode says something else.
        let written = if written.is_empty() && secure { "ssl_all".to_owned() } else { written };
        let mut modes = Modes { listen: TlsRule::Optional, outgoing: BackendTls::Off, none_at_all: true, secure };
        for word in written.split(',').map(str::trim) {
            let (side, forced) = match word.strip_suffix("_force") {
                Some(side) => (side, true),
                None => (word, false),
            };
            if matches!(side, "ssl_listen" | "ssl_all") {
                (modes.listen, modes.none_at_all) = (TlsRule::Implicit, false);
            }
            if matches!(side, "tls_listen" | "tls_all") {
                modes.listen = if forced { TlsRule::StartTls } else { TlsRule::Optional };
                modes.none_at_all = false;
            }
            if matches!(side, "ssl_outgoing" | "ssl_all") {
                modes.outgoing = BackendTls::Implicit;
            }
            if matches!(side, "tls_outgoing" | "tls_all") {
                modes.outgoing = BackendTls::StartTls;
            }
        }
        modes
    }

    fn outgoing_port(&self, service: Service, modes: &Modes) -> u16 {
        let standard = ports::standard(service.protocol(), modes.secure || modes.outgoing == BackendTls::Implicit);
        ports::port(self.value("outgoing_port")).unwrap_or(standard)
    }

    fn options(&self, modes: &Modes) -> BackendOptions {
        let tls_ca = (modes.outgoing != BackendTls::Off).then(|| self.one("ssl_ca_file")).flatten();
        BackendOptions {
            tls: modes.outgoing,
            tls_ca: tls_ca.map(|ca| reading::absolute(&reading::folder(self.file), &ca.value)),
            ..BackendOptions::default()
        }
    }

    /// Where everybody goes whom no map sends elsewhere.
    fn default_backend(&mut self, service: Service, modes: &Modes) -> BackendId {
        let port = self.outgoing_port(service, modes);
        let written: Vec<String> = self
            .value("outgoing_server")
            .split(',')
            .map(|word| word.trim().to_owned())
            .filter(|word| !word.is_empty())
            .collect();
        let servers: Vec<Server> = written.iter().filter_map(|word| ports::server(word, Some(port))).collect();
        if servers.len() < written.len() {
            self.left("outgoing_server", "is not all HOST or HOST:PORT: write the servers under backends");
        }
        let mut options = self.options(modes);
        if servers.is_empty() {
            if written.is_empty() {
                self.notes.missing(format_args!(
                    "{} names no outgoing_server: write under backends where those go who are in no map",
                    self.file.display()
                ));
            }
            let mut backend = Backend::nowhere(service);
            backend.servers.insert(service.protocol(), vec![Server { host: NO_SERVER.to_owned(), port }]);
            return self.imported.backend(Backend { options, ..backend });
        }
        if servers.len() > 1 {
            options.balance = Some("round-robin");
        }
        self.imported.backend(Backend::of(service, servers, options))
    }

    fn listen(&mut self, service: Service, modes: &Modes, backend: BackendId) {
        let port = ports::port(self.value("listen_port")).unwrap_or_else(|()| {
            ports::standard(
                service.protocol(),
                modes.secure || (modes.listen == TlsRule::Implicit && self.one("listen_port").is_some()),
            )
        });
        let hosts = self.value("bind_address").to_owned();
        let hosts: Vec<&str> = if hosts.is_empty() { vec!["*"] } else { hosts.split(',').map(str::trim).collect() };
        let place = self.one("listen_port").or_else(|| self.one("protocol")).map(|setting| setting.place.clone());
        let place = place.unwrap_or_else(|| Place::new(&notes::shown(self.file), 1));
        for host in hosts {
            let address = match ports::listen(host) {
                // A number alone would be a port there, and is no address.
                Some(address) if host.contains(':') && ports::address(host).is_none() => address,
                _ => match ports::address(host) {
                    Some(ip) => std::net::SocketAddr::new(ip, port),
                    None => {
                        self.left("bind_address", "is a name: write its address under address");
                        std::net::SocketAddr::from(([0, 0, 0, 0], port))
                    }
                },
            };
            let mut listener = Listener::new(&place, address, service, modes.listen, backend);
            if modes.listen == TlsRule::Optional {
                listener.looks.push("logins without TLS still work here".to_owned());
            }
            if modes.none_at_all && address.ip().is_loopback() {
                (listener.tls, listener.looks) = (TlsRule::Off, Vec::new());
            }
            self.imported.listeners.push(listener);
        }
        if modes.none_at_all && self.imported.listeners.iter().any(|listener| listener.tls != TlsRule::Off) {
            let advice = "there was no TLS towards clients: STARTTLS is offered now, and logins without it still work; write tls: starttls once they need not, and listeners on 993 and 995 with tls: implicit";
            match self.one("ssl_mode").is_some() {
                true => self.left("ssl_mode", advice),
                false => self.notes.left(&place, "no ssl_mode", advice),
            }
        }
    }

    fn certificate(&mut self, modes: &Modes) {
        if modes.none_at_all {
            return;
        }
        let folder = reading::folder(self.file);
        let path = |written: &str, default: &str| {
            if written.is_empty() { default.to_owned() } else { reading::absolute(&folder, written) }
        };
        let chain = path(self.value("ssl_cert_file"), "/etc/perdition/perdition.crt.pem");
        let key = path(self.value("ssl_key_file"), "/etc/perdition/perdition.key.pem");
        self.imported.certificate(chain, key);
        self.left(
            "ssl_ca_chain_file",
            "what signed the certificate follows it in one file: cat CERT CHAIN > FULLCHAIN, and name that under chain",
        );
        if self.one("ssl_listen_min_proto_version").is_some() {
            match self.value("ssl_listen_min_proto_version").to_ascii_lowercase().as_str() {
                "tlsv1.2" => {}
                "tlsv1.3" => self.imported.only_1_3 = true,
                _ => self.left("ssl_listen_min_proto_version", "TLS 1.2 and 1.3 are all that is spoken: gatepost_tls_too_old_total counts the clients that know neither"),
            }
        }
    }

    fn limits(&mut self, service: Service) {
        match self.one("connection_limit").map(|setting| setting.value.parse::<u32>()) {
            Some(Ok(0)) | None => {}
            Some(Ok(count)) => {
                self.imported.limits.insert("sessions", count.to_string());
            }
            Some(Err(_)) => self.left("connection_limit", "is no number: write limits.sessions"),
        }
        for (name, key) in [("timeout", service.idle_key()), ("authenticate_timeout", "login")] {
            let Some(setting) = self
                .options
                .iter()
                .rev()
                .filter_map(|option| option.as_ref().ok())
                .find(|setting| setting.name == name)
            else {
                continue;
            };
            match setting.value.parse::<u32>() {
                Ok(seconds) => {
                    self.imported.timeout(key, Duration::from_secs(seconds.into()), &setting.place, self.notes);
                }
                Err(_) => {
                    self.notes.left(
                        &setting.place,
                        name,
                        format_args!("is no number of seconds: write timeouts.{key}"),
                    );
                }
            }
        }
    }

    /// What is done to login names.
    fn names(&mut self) {
        let at_login = |value: &str| value.split(',').any(|state| matches!(state.trim(), "all" | "remote_login"));
        let delimiter =
            if self.value("domain_delimiter").is_empty() { "@" } else { self.value("domain_delimiter") }.to_owned();
        if at_login(self.value("strip_domain")) {
            // Routes are made of users' patterns, and the part before the @ is {local}.
            for route in &mut self.imported.routes {
                route.login.get_or_insert_with(|| "{local}".to_owned());
            }
            if delimiter == "@" {
                let backend = self.imported.listeners.first().map(|listener| listener.backend);
                self.imported.route(Route {
                    on: On::User("*@*".to_owned()),
                    backend,
                    login: Some("{local}".to_owned()),
                });
            }
        } else if self.one("strip_domain").is_some() {
            self.left(
                "strip_domain",
                "a route looks at the whole name: where it has to be cut at the login, write login: \"{local}\"",
            );
        }
        if delimiter != "@" {
            self.left(
                "domain_delimiter",
                "{local} and {domain} are parted at the @: names with another delimiter go on as they are",
            );
        }
        self.left(
            "lower_case",
            "names are compared in lower case, and go to the server as they were typed: have it take them in any case",
        );
        self.left(
            "add_domain",
            "no domain is added to names: have the server behind take them without, or write routes with login:",
        );
        self.left("explicit_domain", "no domain is added to names: write a route with login:");
    }

    fn map(&mut self, service: Service, modes: &Modes) {
        let library = self.value("map_library").to_owned();
        let file = PathBuf::from(self.value("map_library_opt"));
        let port = self.outgoing_port(service, modes);
        let options = self.options(modes);
        let named = |default: &str| if file.as_os_str().is_empty() { PathBuf::from(default) } else { file.clone() };
        let kind = match library.as_str() {
            "" => return,
            _ if library.contains("regex") => map::Kind::Patterns(named("/etc/perdition/popmap.re")),
            // These are made of a text, which lies beside them by custom, under the same name without its ending.
            _ if ["gdbm", "bdb", "cdb"].iter().any(|name| library.contains(name)) => {
                map::Kind::Users(text_beside(&named("/etc/perdition/popmap.gdbm.db")))
            }
            _ => {
                // What a library is told holds the database's password.
                let Some(place) = self.one("map_library").map(|setting| setting.place.clone()) else { return };
                let text = format!("map_library {library}");
                self.notes.left(&place, &text, "is a database, which is not asked here: write its users into a file (user, backend, login name, a line each) and routes: [{ file: FILE }], or have a service answer auth_http");
                return;
            }
        };
        let Some(place) = self.one("map_library").map(|setting| setting.place.clone()) else { return };
        let from_database = self.one("username_from_database").is_some();
        let target = map::Target { service, port, options, from_database };
        map::read(&kind, &target, &place, self.reading, &mut self.imported, self.notes);
    }
}

/// TLS on both sides.
struct Modes {
    listen: TlsRule,
    outgoing: BackendTls,
    /// Towards clients there was none.
    none_at_all: bool,
    /// POP3S or IMAP4S.
    secure: bool,
}

/// `popmap.gdbm.db` is made of `popmap`.
fn text_beside(file: &Path) -> PathBuf {
    let mut text = file.to_owned();
    while let Some(ending) = text.extension().map(|ending| ending.to_string_lossy().into_owned()) {
        if !matches!(ending.as_str(), "db" | "gdbm" | "bdb" | "cdb") {
            break;
        }
        text.set_extension("");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_lies_beside_its_database() {
        for (file, text) in [
            ("/etc/perdition/popmap.gdbm.db", "/etc/perdition/popmap"),
            ("/etc/popmap.db", "/etc/popmap"),
            ("/etc/popmap", "/etc/popmap"),
        ] {
            assert_eq!(text_beside(Path::new(file)), Path::new(text));
        }
    }
}
