//! Our configuration as text: what was found, nothing that is a default, and comments where something needs a look.

use super::model::{Backend, BackendTls, Imported, Listener, On, Protocol, Route, Server, Service};
use super::ports;
use std::borrow::Cow;
use std::fmt::Write;

/// A list longer than this is written an entry a line.
const LONGEST_FLOW: usize = 6;

/// Writes the configuration. `notes` are what did not carry over, a line each.
pub(super) fn write(imported: &Imported, file: &str, notes: &[String]) -> String {
    let mut out = Out::default();
    let file = if file == "-" { "standard input" } else { file };
    out.line(0, format_args!("# From {}. Look it over, then: gatepost check -c FILE", comment(file)));
    if notes.is_empty() {
        out.line(0, "# Everything carried over.");
    } else {
        out.line(0, "#");
        out.line(0, "# What did not carry over, and what to do:");
        for note in notes {
            out.line(0, format_args!("# - {}", comment(note)));
        }
    }
    out.line(0, "");
    section(imported, "hostname", &mut out);
    out.key(0, "hostname", scalar(imported.hostname.as_deref().unwrap_or_default()));
    listeners(imported, &mut out);
    backends(imported, &mut out);
    routes(imported, &mut out);
    tls(imported, &mut out);
    if !imported.mechanisms.is_empty() {
        section(imported, "auth", &mut out);
        out.line(0, "auth:");
        out.list(1, "mechanisms", &imported.mechanisms.iter().cloned().collect::<Vec<_>>());
    }
    if imported.listeners.iter().any(|listener| listener.service == Service::Smtp) {
        section(imported, "submission", &mut out);
        out.line(0, "submission:");
        out.key(1, "accept_domains", "[]");
    }
    if !imported.limits.is_empty() {
        section(imported, "limits", &mut out);
        out.line(0, "limits:");
        for (key, value) in &imported.limits {
            out.key(1, key, scalar(value));
        }
    }
    if !imported.timeouts.is_empty() {
        section(imported, "timeouts", &mut out);
        out.line(0, "timeouts:");
        for (key, span) in &imported.timeouts {
            out.key(1, key, ports::span(*span));
        }
    }
    out.0
}

fn section(imported: &Imported, name: &str, out: &mut Out) {
    out.looks(0, imported.looks.get(name).map_or(&[][..], Vec::as_slice));
}

fn listeners(imported: &Imported, out: &mut Out) {
    section(imported, "listeners", out);
    out.line(0, "listeners:");
    for listener in &imported.listeners {
        out.line(1, format_args!("{}:", scalar(&listener.name)));
        out.looks(2, &listener.looks);
        one_listener(imported, listener, out);
    }
}

fn one_listener(imported: &Imported, listener: &Listener, out: &mut Out) {
    let addresses: Vec<String> = listener.addresses.iter().map(ToString::to_string).collect();
    match addresses.as_slice() {
        [address] => out.key(2, "address", scalar(address)),
        addresses => out.list(2, "address", addresses),
    }
    out.key(2, "protocol", listener.service.word());
    out.key(2, "tls", listener.tls.word());
    if imported.backends.len() > 1 {
        out.key(2, "backend", scalar(backend_name(imported, listener.backend.0)));
    }
    out.list_if_any(2, "allow", &listener.lists.allow);
    out.list_if_any(2, "deny", &listener.lists.deny);
    out.list_if_any(2, "proxy_protocol", &listener.proxy_protocol);
    out.list_if_any(2, "trusted_clients", &listener.trusted_clients);
    if let Some(word) = listener.client_certificate {
        out.key(2, "client_certificate", word);
    }
}

fn backends(imported: &Imported, out: &mut Out) {
    section(imported, "backends", out);
    out.line(0, "backends:");
    for backend in &imported.backends {
        out.line(1, format_args!("{}:", scalar(&backend.name)));
        out.looks(2, &backend.looks);
        one_backend(backend, out);
    }
}

fn one_backend(backend: &Backend, out: &mut Out) {
    match host_alone(backend) {
        Some(host) => out.key(2, "host", scalar(host)),
        None => {
            for (protocol, servers) in &backend.servers {
                let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
                match servers.as_slice() {
                    [server] => out.key(2, protocol.word(), scalar(server)),
                    servers => out.list(2, protocol.word(), servers),
                }
            }
        }
    }
    let options = &backend.options;
    if let Some(word) = options.balance {
        out.key(2, "balance", word);
    }
    match options.tls {
        BackendTls::Off => {}
        BackendTls::StartTls => out.key(2, "tls", "starttls"),
        BackendTls::Implicit => out.key(2, "tls", "implicit"),
    }
    if let Some(path) = &options.tls_ca {
        out.key(2, "tls_ca", scalar(path));
    }
    if let Some(word) = options.client_address {
        out.key(2, "client_address", word);
    }
    out.list_if_any(2, "source", &options.source);
    if options.max_sessions > 0 {
        out.key(2, "max_sessions", options.max_sessions);
    }
}

/// The one host that has all three protocols on their standard ports.
fn host_alone(backend: &Backend) -> Option<&str> {
    let all = [Protocol::Imap, Protocol::Pop3, Protocol::Smtp].map(|protocol| match backend.servers.get(&protocol) {
        Some(servers) => match servers.as_slice() {
            [Server { host, port }] if *port == ports::standard(protocol, false) => Some(host.as_str()),
            _ => None,
        },
        None => None,
    });
    let [Some(host), ..] = all else { return None };
    all.iter().all(|other| *other == Some(host)).then_some(host)
}

fn routes(imported: &Imported, out: &mut Out) {
    if imported.routes.is_empty() {
        return;
    }
    section(imported, "routes", out);
    out.line(0, "routes:");
    for Route { on, backend, login } in &imported.routes {
        let mut fields = String::new();
        // A route holds on every listener, and those for mail find nothing there.
        if backend.and_then(|backend| imported.backends.get(backend.0)).is_some_and(Backend::is_for_tcp) {
            fields += "protocol: tcp, ";
        }
        fields += &match on {
            On::Sni(name) => format!("sni: {}", scalar(name)),
            On::User(pattern) => format!("user: {}", scalar(pattern)),
            On::File(path) => format!("file: {}", scalar(path)),
            On::AuthHttp(url) => format!("auth_http: {}", scalar(url)),
        };
        if let Some(backend) = backend {
            let _ = write!(fields, ", backend: {}", scalar(backend_name(imported, backend.0)));
        }
        if let Some(login) = login {
            let _ = write!(fields, ", login: {}", scalar(login));
        }
        out.line(1, format_args!("- {{ {fields} }}"));
    }
}

fn tls(imported: &Imported, out: &mut Out) {
    let bare = imported.certificates.is_empty()
        && imported.client_ca.is_none()
        && !imported.only_1_3
        && !imported.no_session_tickets;
    if bare {
        return;
    }
    section(imported, "tls", out);
    out.line(0, "tls:");
    if !imported.certificates.is_empty() {
        out.line(1, "certificates:");
        for certificate in &imported.certificates {
            let (chain, key) = (scalar(&certificate.chain), scalar(&certificate.key));
            out.line(2, format_args!("- {{ chain: {chain}, key: {key} }}"));
        }
    }
    if imported.only_1_3 {
        out.key(1, "min_version", "\"1.3\"");
    }
    if let Some(path) = &imported.client_ca {
        out.key(1, "client_ca", scalar(path));
    }
    if imported.no_session_tickets {
        out.key(1, "session_tickets", "false");
    }
}

fn backend_name(imported: &Imported, index: usize) -> &str {
    imported.backends.get(index).map_or("main", |backend| backend.name.as_str())
}

#[derive(Default)]
struct Out(String);

impl Out {
    fn line(&mut self, depth: usize, text: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{:1$}{text}", "", depth * 2);
    }

    fn key(&mut self, depth: usize, key: &str, value: impl std::fmt::Display) {
        self.line(depth, format_args!("{key}: {value}"));
    }

    fn looks(&mut self, depth: usize, looks: &[String]) {
        for look in looks {
            self.line(depth, format_args!("# look: {}", comment(look)));
        }
    }

    fn list(&mut self, depth: usize, key: &str, entries: &[String]) {
        let written: Vec<Cow<'_, str>> = entries.iter().map(|entry| scalar(entry)).collect();
        if written.len() <= LONGEST_FLOW {
            self.key(depth, key, format_args!("[{}]", written.join(", ")));
            return;
        }
        self.line(depth, format_args!("{key}:"));
        for entry in written {
            self.line(depth + 1, format_args!("- {entry}"));
        }
    }

    fn list_if_any(&mut self, depth: usize, key: &str, entries: &[String]) {
        if !entries.is_empty() {
            self.list(depth, key, entries);
        }
    }
}

/// A text as a YAML scalar that reads back as it is: plain where nothing speaks against it, else in double quotes. A dollar
/// is doubled, for our configuration expands variables.
fn scalar(text: &str) -> Cow<'_, str> {
    let plain_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b'@' | b'+' | b':');
    let begins_plainly = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'/');
    let is_word = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    // `192.0.2.7` is no number, `1.2` and `1e3` are; `a: b` would be a mapping, `::` is only hard to read.
    let is_number = text.parse::<f64>().is_ok() || text.starts_with("0x") || text.starts_with("0o");
    let is_count = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    let has_hard_colon = text.ends_with(':') || text.contains("::");
    if is_count || text == "0" {
        return Cow::Borrowed(text);
    }
    if begins_plainly && text.bytes().all(plain_byte) && !is_word && !is_number && !has_hard_colon {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '$' => quoted.push_str("$$"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Cow::Owned(quoted)
}

/// A text that stays in its comment.
fn comment(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{85}') {
            line.extend(c.escape_debug());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_person_would_write_plainly_is_written_plainly() {
        for text in
            ["/etc/ssl/mail.pem", "10.0.0.5:143", "mail.example.net", "10.0.0.0/8", "64", "200/h", "file:/etc/x"]
        {
            assert_eq!(scalar(text), text);
        }
        for (text, written) in [
            ("[::]:993", "\"[::]:993\""),
            ("2001:db8::/32", "\"2001:db8::/32\""),
            ("*@example.net", "\"*@example.net\""),
            ("no", "\"no\""),
            ("1.2", "\"1.2\""),
            ("0123", "\"0123\""),
            ("", "\"\""),
            ("a\"b\\c\n", "\"a\\\"b\\\\c\\n\""),
            ("$x", "\"$$x\""),
        ] {
            assert_eq!(scalar(text), written, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_text_reads_back_with_its_dollars_doubled(text in r"\PC{0,12}|[0-9.eExo_:-]{0,8}|[\x00-\x7f]{0,6}") {
            let yaml = format!("key: {}\n", scalar(&text));
            let read: serde_yaml::Value = serde_yaml::from_str(&yaml).expect(&yaml);
            let value = match &read["key"] {
                serde_yaml::Value::String(text) => text.clone(),
                serde_yaml::Value::Number(number) => number.to_string(),
                other => panic!("{yaml} is {other:?}"),
            };
            prop_assert_eq!(value, text.replace('$', "$$"));
        }

        #[test]
        fn no_text_leaves_its_comment(text in r"\PC{0,12}|[\x00-\x9f]{0,8}") {
            let yaml = format!("# {}\nkey: value\n", comment(&text));
            let read: serde_yaml::Value = serde_yaml::from_str(&yaml).expect(&yaml);
            prop_assert_eq!(&read["key"], "value");
        }
    }
}
