//! nginx twice: its mail proxy, which logs in as gatepost does, and its stream proxy, which sees bytes.

use super::{Purpose, with_file};
use crate::backend::at;
use crate::protocols::Door;
use crate::site::{AUTH_HTTP, NAME, Site, gateway};
use anyhow::Result;
use std::fmt::Write;
use std::path::Path;

pub(super) fn mail(site: &Site, room: &Path) -> Result<Vec<String>> {
    let mut text = head(room, "mail");
    write!(
        text,
        "mail {{\n  server_name {NAME};\n  auth_http {}/auth;\n  proxy_buffer 16k;\n  proxy_pass_error_message on;\n\
         \x20 proxy_smtp_auth on;\n  xclient off;\n  smtp_auth plain login;\n  imap_auth plain login;\n  pop3_auth plain;\n\
         \x20 imap_capabilities IMAP4rev1 IDLE;\n  timeout 60s;\n{}",
        at(AUTH_HTTP),
        tls(site),
    )?;
    for door in Door::ALL {
        let protocol = match door {
            Door::Imaps | Door::ImapStarttls => "imap",
            Door::Pop3s | Door::Pop3Stls => "pop3",
            Door::Smtps | Door::SubmissionStarttls => "smtp",
        };
        let (here, ssl, starttls) = match door.begins_in_the_clear() {
            true => (gateway(door.port()), "", " starttls only;"),
            false => (gateway(door.port()), " ssl", ""),
        };
        writeln!(text, "  server {{ listen {here}{ssl} backlog=4096; protocol {protocol};{starttls} }}")?;
    }
    text.push_str("}\n");
    start(room, &text)
}

pub(super) fn stream(site: &Site, room: &Path, purpose: Purpose) -> Result<Vec<String>> {
    let buffer = if purpose == Purpose::Bulk { "64k" } else { "16k" };
    let mut text = head(room, "stream");
    write!(
        text,
        "stream {{\n  log_format session '$remote_addr [$time_local] $protocol $status $bytes_sent $bytes_received $session_time';\n\
         \x20 access_log {}/access.log session;\n  proxy_buffer_size {buffer};\n  proxy_timeout 35m;\n  proxy_connect_timeout 5s;\n{}",
        room.display(),
        tls(site),
    )?;
    for door in Door::ALL.into_iter().filter(|door| !door.begins_in_the_clear()) {
        let (here, there) = (gateway(door.port()), at(door.behind()));
        writeln!(text, "  server {{ listen {here} ssl backlog=4096; proxy_pass {there}; }}")?;
    }
    text.push_str("}\n");
    start(room, &text)
}

fn head(room: &Path, module: &str) -> String {
    let at = room.display();
    format!(
        "load_module /usr/lib/nginx/modules/ngx_{module}_module.so;\n\
         user www-data;\ndaemon off;\nworker_processes 1;\nworker_rlimit_nofile 20000;\n\
         pid {at}/pid;\nerror_log {at}/error.log info;\n\
         events {{ worker_connections 19900; }}\n"
    )
}

fn tls(site: &Site) -> String {
    let pair = site.pair();
    format!(
        "  ssl_certificate {};\n  ssl_certificate_key {};\n  ssl_protocols TLSv1.3;\n\
         \x20 ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\n  ssl_ecdh_curve X25519;\n  ssl_session_tickets on;\n",
        pair.chain.display(),
        pair.key.display(),
    )
}

fn start(room: &Path, text: &str) -> Result<Vec<String>> {
    let early = room.join("early.log").display().to_string();
    with_file(room, "nginx.conf", text, &["-e", &early, "-c", "FILE"])
}
