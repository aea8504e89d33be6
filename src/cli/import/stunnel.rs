//! stunnel: global options, then a `[service]` for each port.
//!
//! A service with `client = yes` is the other way round (a plain local port towards TLS elsewhere) and is `gatepost connect`'s.

use super::model::{Backend, BackendOptions, Imported, Listener, Server, Service, TlsRule};
use super::notes::{self, Notes, Place};
use super::reading::{self, DEEPEST, Reading};
use super::{ImportError, ports};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options without a counterpart that need none.
const IDLE: &[&str] = &[
    "chroot",
    "pid",
    "debug",
    "output",
    "foreground",
    "syslog",
    "log",
    "engine",
    "enginectrl",
    "enginedefault",
    "fips",
    "rndbytes",
    "rndfile",
    "rndoverwrite",
    "socket",
    "ciphers",
    "ciphersuites",
    "curve",
    "curves",
    "session",
    "sessioncachesize",
    "sessioncachetimeout",
    "sessionresume",
    "reset",
    "renegotiation",
    "timeoutbusy",
    "timeoutclose",
    "ticketkeysecret",
    "ticketmacsecret",
    "delay",
    "iconactive",
    "iconerror",
    "iconidle",
    "taskbar",
    "retry",
    "sslversionmax",
    "securitylevel",
    "dh",
    "logid",
    "service",
    "stack",
    "compression",
    "options",
    "configdir",
];

/// Reads a stunnel.conf with what it includes.
pub(super) fn read(file: &Path, reading: &mut Reading, notes: &mut Notes) -> Result<Imported, ImportError> {
    let text = reading.text(file)?;
    let mut sections = vec![Section { name: String::new(), options: Vec::new() }];
    let folder = reading::folder(file);
    parse(&text, file, &folder, &mut sections, reading, notes, 0)?;
    let mut imported = Imported::default();
    let globals = sections.remove(0);
    look_at(&globals, notes);
    // Without sections the global options are one service, as for inetd.
    if sections.is_empty() && globals.one("connect").is_some() {
        sections.push(Section { name: "stunnel".to_owned(), options: Vec::new() });
    }
    for section in &sections {
        look_at(section, notes);
        Reader { globals: &globals, section, folder: &folder, imported: &mut imported, notes }.read();
    }
    if imported.listeners.is_empty() {
        return Err(ImportError::Nothing(format!("{}: no service in it accepts TLS", file.display())));
    }
    Ok(imported)
}

struct Section {
    name: String,
    options: Vec<Setting>,
}

/// One line `name = value`; the name in lower case.
struct Setting {
    name: String,
    value: String,
    place: Place,
}

impl Section {
    fn one(&self, name: &str) -> Option<&Setting> {
        self.options.iter().rfind(|option| option.name == name)
    }
}

fn parse(
    text: &str,
    file: &Path,
    folder: &Path,
    sections: &mut Vec<Section>,
    reading: &mut Reading,
    notes: &mut Notes,
    depth: usize,
) -> Result<(), ImportError> {
    let shown = notes::shown(file);
    for (index, line) in text.lines().enumerate() {
        let (line, place) = (line.trim(), Place::new(&shown, index + 1));
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push(Section { name: name.trim().to_owned(), options: Vec::new() });
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            let what = format!("{} is neither NAME = VALUE nor [SERVICE]", notes::quoted(line));
            return Err(ImportError::Syntax { place, what });
        };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        if name == "include" {
            for path in files_of(&folder.join(&value)) {
                if depth == DEEPEST {
                    notes.left(&place, line, "files include each other too deep: this one was not read");
                    break;
                }
                match reading.text(&path) {
                    Ok(text) => parse(&text, &path, folder, sections, reading, notes, depth + 1)?,
                    Err(error) => notes.left(&place, line, format_args!("was not read: {error}")),
                }
            }
            continue;
        }
        if let Some(section) = sections.last_mut() {
            section.options.push(Setting { name, value, place });
        }
    }
    Ok(())
}

/// `include` names a folder, of which stunnel reads all files in the order of their names.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    if folder.is_file() {
        return vec![folder.to_owned()];
    }
    let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let mut files = reading::included(folder, "*");
    files.retain(|path| path.is_file() && !hidden(path));
    files
}

struct Reader<'a> {
    globals: &'a Section,
    section: &'a Section,
    folder: &'a Path,
    imported: &'a mut Imported,
    notes: &'a mut Notes,
}

impl Reader<'_> {
    /// An option of the service, or else the global one.
    fn one(&self, name: &str) -> Option<&Setting> {
        self.section.one(name).or_else(|| self.globals.one(name))
    }

    fn value(&self, name: &str) -> &str {
        self.one(name).map_or("", |option| option.value.as_str())
    }

    fn says_yes(&self, name: &str) -> bool {
        self.value(name).eq_ignore_ascii_case("yes")
    }

    fn left(&mut self, name: &str, advice: impl std::fmt::Display) {
        let (section, option) = match (self.section.one(name), self.globals.one(name)) {
            (Some(option), _) => (format!("[{}] ", self.section.name), option),
            (None, Some(option)) => (String::new(), option),
            (None, None) => return,
        };
        self.notes.left(&option.place, &format!("{section}{name} = {}", option.value), advice);
    }

    fn read(&mut self) {
        let Some(connect) = self.connect() else { return };
        // A service behind another one's port, chosen by the name that the client asks for.
        if let Some((of, pattern)) = self.value("sni").split_once(':') {
            let (of, pattern) = (of.to_owned(), pattern.to_owned());
            self.by_name(&of, &pattern, connect);
            return;
        }
        let Some(accept) = self.one("accept") else {
            self.left("connect", "accepts on no port: write a listener for it, it was started by inetd perhaps");
            return;
        };
        let (text, place) = (accept.value.clone(), accept.place.clone());
        if self.says_yes("client") {
            self.other_way_round(&text, &connect);
            return;
        }
        let Some(address) = ports::listen(&text) else {
            self.left("accept", "is no address and port: write where to listen, such as \"[::]:993\"");
            return;
        };
        if !matches!(self.value("protocol").to_ascii_lowercase().as_str(), "" | "imap" | "pop3" | "smtp" | "proxy") {
            self.left("protocol", "is spoken ahead of TLS, which is done for mail alone: it stays with stunnel");
            return;
        }
        let service = self.service(address.port(), &connect).unwrap_or(Service::Tcp);
        if service == Service::Tcp && connect.iter().any(|server| ports::service(server.port).is_some()) {
            self.left("connect", "leads to a port of mail and to another: write a listener with its protocol");
            return;
        }
        let tls = if self.negotiates() { TlsRule::StartTls } else { TlsRule::Implicit };
        let options = self.options(&connect);
        let backend = Backend { name: self.section.name.clone(), ..Backend::of(service, connect, options) };
        let backend = self.imported.backend(backend);
        let mut listener = Listener::new(&place, address, service, tls, backend);
        listener.name.clone_from(&self.section.name);
        self.tls();
        listener.client_certificate = self.client_certificates();
        self.timeouts(service);
        self.imported.listeners.push(listener);
    }

    /// Where it leads.
    fn connect(&mut self) -> Option<Vec<Server>> {
        let all: Vec<&Setting> = self.section.options.iter().filter(|option| option.name == "connect").collect();
        let all = if all.is_empty() { self.globals.one("connect").into_iter().collect() } else { all };
        // A port alone is one of this machine.
        let server = |option: &&Setting| match ports::port(&option.value) {
            Ok(port) => Some(Server { host: "127.0.0.1".to_owned(), port }),
            Err(()) => ports::server(&option.value, None),
        };
        let servers: Option<Vec<Server>> = all.iter().map(server).collect();
        match servers {
            Some(servers) if !servers.is_empty() => Some(servers),
            Some(_) => {
                self.left("exec", "starts a program, which is not done here: have it listen on a port of its own, and write that under backends");
                None
            }
            None => {
                self.left("connect", "is no HOST:PORT: write the server under backends");
                None
            }
        }
    }

    fn service(&self, port: u16, connect: &[Server]) -> Option<Service> {
        let by_protocol = match self.value("protocol").to_ascii_lowercase().as_str() {
            "imap" => Some(Service::Imap),
            "pop3" => Some(Service::Pop3),
            "smtp" => Some(Service::Submission),
            _ => None,
        };
        let of = |port: u16| ports::service(port).map(|(service, _)| service);
        // stunnel takes no mail from strangers: behind TLS from the first byte, or STARTTLS, there are customers.
        let service =
            by_protocol.or_else(|| of(port)).or_else(|| connect.first().and_then(|server| of(server.port)))?;
        Some(if service == Service::Smtp { Service::Submission } else { service })
    }

    /// Whether stunnel speaks STARTTLS with its clients.
    fn negotiates(&self) -> bool {
        matches!(self.value("protocol").to_ascii_lowercase().as_str(), "imap" | "pop3" | "smtp")
    }

    fn options(&mut self, connect: &[Server]) -> BackendOptions {
        let mut options = BackendOptions::default();
        if connect.len() > 1 && self.value("failover") != "prio" {
            options.balance = Some("round-robin");
        }
        if self.value("protocol").eq_ignore_ascii_case("proxy") {
            options.client_address = Some("proxy-v1");
        } else if matches!(self.value("transparent"), "yes" | "source" | "both") {
            options.client_address = Some("transparent");
        }
        if self.value("local").parse::<std::net::IpAddr>().is_ok() {
            options.source.push(self.value("local").to_owned());
        } else if self.one("local").is_some() {
            self.left("local", "is no address: write our addresses to dial from under source");
        }
        options
    }

    /// `sni = SERVICE:PATTERN`: a certificate and servers of its own for a name.
    fn by_name(&mut self, of: &str, pattern: &str, connect: Vec<Server>) {
        // What is no mail goes by the listener that the name is for.
        let is_master = |listener: &&Listener| listener.name == of;
        let master = self.imported.listeners.iter().find(is_master).map(|listener| listener.service);
        let Some(service) = self.service(0, &connect).or(master.filter(|service| *service == Service::Tcp)) else {
            self.left(
                "sni",
                format_args!(
                    "write a route `sni:` with a backend of its own, and the certificate; it is for the port of [{of}]"
                ),
            );
            return;
        };
        let options = self.options(&connect);
        let backend = Backend { name: self.section.name.clone(), ..Backend::of(service, connect, options) };
        let backend = self.imported.backend(backend);
        let Some(place) = self.one("sni").map(|option| option.place.clone()) else { return };
        self.imported.route_by_name(pattern, backend, &place, self.notes);
        self.tls();
    }

    fn other_way_round(&mut self, accept: &str, connect: &[Server]) {
        let Some(server) = connect.first() else { return };
        let Some(place) = self.one("accept").map(|option| option.place.clone()) else { return };
        let what = format!("[{}] client = yes", self.section.name);
        let listen = match ports::listen(accept) {
            // stunnel listens everywhere where no host is written; nobody else should use somebody's tunnel.
            Some(address) if address.ip().is_unspecified() => format!("127.0.0.1:{}", address.port()),
            Some(address) => address.to_string(),
            None => "127.0.0.1:PORT".to_owned(),
        };
        let scheme = match (self.service(server.port, connect), self.negotiates()) {
            (Some(Service::Imap), true) => "imap",
            (Some(Service::Imap), false) => "imaps",
            (Some(Service::Pop3), true) => "pop3",
            (Some(Service::Pop3), false) => "pop3s",
            (Some(Service::Submission | Service::Smtp), true) => "submission",
            (Some(Service::Submission | Service::Smtp), false) => "smtps",
            (Some(Service::Tcp) | None, _) => {
                self.notes.left(&place, &what, "is no port of mail: it stays with stunnel");
                return;
            }
        };
        self.notes.left(
            &place,
            &what,
            format_args!(
                "is a client's side, which no listener is: gatepost connect --listen {listen} {scheme}://{server}"
            ),
        );
    }

    fn tls(&mut self) {
        let Some(cert) = self.one("cert") else {
            self.notes.missing(format_args!(
                "[{}] names no cert: name one under tls.certificates, or a private CA issues it",
                self.section.name
            ));
            return;
        };
        let key = self.one("key").unwrap_or(cert);
        if cert.value.starts_with("pkcs11:") || key.value.starts_with("pkcs11:") {
            self.left("cert", "keys are read from files alone: write both under tls.certificates");
            return;
        }
        let (chain, key) = (reading::absolute(self.folder, &cert.value), reading::absolute(self.folder, &key.value));
        self.imported.certificate(chain, key);
        let minimum = ["sslversionmin", "sslversion"].into_iter().find(|name| self.one(name).is_some());
        match minimum.map(|name| (name, self.value(name).to_owned())) {
            Some((_, version)) if version.eq_ignore_ascii_case("TLSv1.3") => self.imported.only_1_3 = true,
            Some((_, version)) if version.eq_ignore_ascii_case("TLSv1.2") || version.eq_ignore_ascii_case("all") => {}
            Some((name, _)) => self.left(name, "TLS 1.2 and 1.3 are all that is spoken: gatepost_tls_too_old_total counts the clients that know neither"),
            None => {}
        }
    }

    fn client_certificates(&mut self) -> Option<&'static str> {
        // `verify`: 1 looks at one if there is one, 2 wants one, 3 and 4 know each by heart.
        let verify = self.value("verify").parse::<u8>().unwrap_or(0);
        let requires =
            verify >= 2 || self.says_yes("verifychain") || self.says_yes("verifypeer") || self.says_yes("requirecert");
        if verify == 0 && !requires {
            return None;
        }
        if verify >= 3 || self.says_yes("verifypeer") {
            let name = if verify >= 3 { "verify" } else { "verifypeer" };
            self.left(name, "knew each client's own certificate; here whoever tls.client_ca signs is let in: sign them with a CA that signs no others");
        }
        match self.one("cafile") {
            Some(ca) => {
                let (path, place) = (reading::absolute(self.folder, &ca.value), ca.place.clone());
                self.imported.client_ca(path, &place, self.notes);
            }
            None => {
                let name = if self.one("capath").is_some() {
                    "capath"
                } else if verify > 0 {
                    "verify"
                } else {
                    "verifychain"
                };
                self.left(name, "name under tls.client_ca a file with those who sign client certificates");
            }
        }
        Some(if requires { "require" } else { "request" })
    }

    fn timeouts(&mut self, service: Service) {
        for (name, key) in [("timeoutidle", service.idle_key()), ("timeoutconnect", "connect")] {
            let Some(option) = self.section.one(name).or_else(|| self.globals.one(name)) else { continue };
            match option.value.parse::<u32>() {
                Ok(seconds) => {
                    self.imported.timeout(key, Duration::from_secs(seconds.into()), &option.place, self.notes);
                }
                Err(_) => self.notes.left(
                    &option.place,
                    &option.value,
                    format_args!("is no number of seconds: write timeouts.{key}"),
                ),
            }
        }
    }
}

/// Makes a note of every option that is not read.
fn look_at(section: &Section, notes: &mut Notes) {
    const CARRIED: &[&str] = &[
        "accept",
        "connect",
        "cert",
        "key",
        "cafile",
        "verify",
        "verifychain",
        "verifypeer",
        "requirecert",
        "client",
        "protocol",
        "sni",
        "timeoutidle",
        "timeoutconnect",
        "sslversion",
        "sslversionmin",
        "failover",
        "transparent",
        "local",
        "exec",
        "capath",
    ];
    for option in &section.options {
        let text = format!("{} = {}", option.name, option.value);
        let mut left = |advice: &str| notes.left(&option.place, &text, advice);
        match option.name.as_str() {
            name if CARRIED.contains(&name) => {}
            "options" if option.value.to_ascii_uppercase().contains("NO_TLSV1.2") => {
                left("for TLS 1.3 alone write tls.min_version: \"1.3\"");
            }
            "setuid" => {
                left("write `runtime: { user: gatepost }`, a user who may read the certificates and their keys");
            }
            "setgid" => left("write it under runtime.group, or leave it out for the user's own"),
            "libwrap" => left("gatepost import hosts.allow /etc/hosts.allow carries the TCP wrappers' rules over"),
            "crlfile" | "crlpath" => left("lists of revoked client certificates are not looked at"),
            "checkhost" | "checkip" | "checkemail" => left("gatepost connect looks at the server's name by itself"),
            "ocsp" | "ocspaia" | "ocspflag" | "ocsprequire" => left("client certificates are not asked about by OCSP"),
            "redirect" => left("who has no certificate is turned away at the handshake"),
            "pskidentity" | "psksecrets" => {
                notes.left(&option.place, &option.name, "there are no pre-shared keys: write a certificate");
            }
            "ident" => left("ident is asked of nobody: write networks under allow"),
            "execargs" | "pty" => left("no program is started"),
            "protocolhost" | "protocolauthentication" | "protocoldomain" => left("only mail is negotiated"),
            "protocolusername" | "protocolpassword" | "protocolheader" => {
                notes.left(&option.place, &option.name, "only mail is negotiated (the value is not shown here)");
            }
            name if IDLE.contains(&name) => notes.idle(&option.place, name),
            name => notes.unknown(&option.place, name),
        }
    }
}
