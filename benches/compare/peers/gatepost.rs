//! gatepost: everything it checks, it checks (nobody is exempt); the limits are so high that nobody meets them.

use super::with_file;
use crate::backend::at;
use crate::protocols::Door;
use crate::site::{GATEWAY, IMAP, NAME, POP3, Pair, SMTP, Site};
use anyhow::Result;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What it is given besides, to see whether it grows dearer.
#[derive(Default)]
pub struct Extras {
    /// A file of addresses that alone may come in.
    pub allow: Option<PathBuf>,
    /// Certificates besides the one.
    pub certificates: Vec<Pair>,
    /// Whether the second wrong password is a ban.
    pub strict: bool,
}

pub(super) fn arguments(site: &Site, room: &Path, extras: &Extras) -> Result<Vec<String>> {
    with_file(room, "gatepost.yaml", &configuration(site, room, extras)?, &["run", "-c", "FILE"])
}

fn configuration(site: &Site, room: &Path, extras: &Extras) -> Result<String> {
    let at_room = room.display();
    let failures = if extras.strict { "1/h, failure_delay: 0s" } else { "1000/h" };
    let mut text = format!(
        "hostname: {NAME}\n\
         state_dir: {at_room}/state\n\
         log: {{ format: json }}\n\
         admin: {{ address: null, socket: {at_room}/admin.sock }}\n\
         runtime: {{ workers: 1 }}\n\
         backends: {{ main: {{ imap: \"{}\", pop3: \"{}\", smtp: \"{}\" }} }}\n\
         limits:\n  exempt: []\n  sessions_per_ip: 100000\n  connections_per_ip: 10000000/min\n  auth_per_ip: 10000000/min\n",
        at(IMAP),
        at(POP3),
        at(SMTP),
    );
    text.push_str(&format!("  auth_failures_per_ip: {failures}\n").replace(", ", "\n  "));
    text.push_str("tls:\n  certificates:\n");
    for Pair { chain, key } in std::iter::once(&site.pair()).chain(&extras.certificates) {
        writeln!(text, "    - {{ chain: {}, key: {} }}", chain.display(), key.display())?;
    }
    let allow = extras.allow.as_ref().map_or(String::new(), |file| format!(", allow: [\"file:{}\"]", file.display()));
    text.push_str("listeners:\n");
    for door in Door::ALL {
        let (name, protocol) = match door {
            Door::Imaps => ("imaps", "imap"),
            Door::ImapStarttls => ("imap", "imap"),
            Door::Pop3s => ("pop3s", "pop3"),
            Door::Pop3Stls => ("pop3", "pop3"),
            Door::Smtps => ("submissions", "submission"),
            Door::SubmissionStarttls => ("submission", "submission"),
        };
        let tls = if door.begins_in_the_clear() { "starttls" } else { "implicit" };
        let port = door.port();
        writeln!(text, "  {name}: {{ address: \"{GATEWAY}:{port}\", protocol: {protocol}, tls: {tls}{allow} }}")?;
    }
    Ok(text)
}
