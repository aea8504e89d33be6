//! Dovecot as a proxy: its login processes, one of each kind for all sessions ("high-performance mode").

use super::{SESSIONS, with_file};
use crate::protocols::Door;
use crate::site::{BACKEND, GATEWAY, Site};
use anyhow::Result;
use std::fmt::Write;
use std::path::Path;

pub(super) fn arguments(site: &Site, room: &Path) -> Result<Vec<String>> {
    let (at, pair) = (room.display(), site.pair());
    let mut text = format!(
        "base_dir = {at}/run\nstate_dir = {at}/state\nlog_path = {at}/log\nprotocols = imap pop3 submission\nlisten = {GATEWAY}\n\
         ssl = required\nssl_cert = <{}\nssl_key = <{}\nssl_min_protocol = TLSv1.3\n\
         ssl_cipher_suites = TLS_AES_128_GCM_SHA256\nssl_curve_list = X25519\n\
         auth_mechanisms = plain login\ndisable_plaintext_auth = yes\nhostname = {}\nsubmission_relay_host = {BACKEND}\n\
         mail_max_userip_connections = 0\n\
         default_client_limit = 20000\ndefault_vsz_limit = 2 G\n",
        pair.chain.display(),
        pair.key.display(),
        crate::site::NAME,
    );
    // The server's ports are the standard ones, which it finds by itself.
    writeln!(text, "passdb {{\n  driver = static\n  args = proxy=y host={BACKEND} nopassword=y\n}}")?;
    text.push_str("userdb {\n  driver = static\n  args = uid=nobody gid=nogroup home=/nonexistent\n}\n");
    let listeners = [
        ("imap", [("imap", Door::ImapStarttls), ("imaps", Door::Imaps)]),
        ("pop3", [("pop3", Door::Pop3Stls), ("pop3s", Door::Pop3s)]),
        ("submission", [("submission", Door::SubmissionStarttls), ("submissions", Door::Smtps)]),
    ];
    for (service, doors) in listeners {
        writeln!(
            text,
            "service {service}-login {{\n  service_count = 0\n  process_min_avail = 1\n  process_limit = 1\n  client_limit = {SESSIONS}"
        )?;
        for (name, door) in doors {
            let ssl = if door.begins_in_the_clear() { "no" } else { "yes" };
            writeln!(text, "  inet_listener {name} {{\n    port = {}\n    ssl = {ssl}\n  }}", door.port())?;
        }
        text.push_str("}\n");
    }
    text.push_str("service anvil {\n  client_limit = 20000\n}\n");
    with_file(room, "dovecot.conf", &text, &["-F", "-c", "FILE"])
}
