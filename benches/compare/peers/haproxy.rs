//! HAProxy: TCP mode, TLS in front. It logs a line a session to a socket, as Debian's package has it.

use super::{Purpose, SESSIONS, with_file};
use crate::backend::at;
use crate::protocols::Door;
use crate::site::{Site, gateway};
use anyhow::Result;
use std::fmt::Write;
use std::path::Path;

pub(super) fn arguments(site: &Site, room: &Path, purpose: Purpose) -> Result<Vec<String>> {
    let buffer = if purpose == Purpose::Bulk { 65_536 } else { 16_384 };
    let mut text = format!(
        "global\n\
         \x20 log {} local0\n\
         \x20 user haproxy\n  group haproxy\n\
         \x20 nbthread 1\n  maxconn {SESSIONS}\n\
         \x20 tune.bufsize {buffer}\n\
         \x20 ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256\n\
         \x20 ssl-default-bind-options ssl-min-ver TLSv1.3\n\
         defaults\n\
         \x20 mode tcp\n  log global\n  option tcplog\n  option dontlognull\n\
         \x20 timeout connect 5s\n  timeout client 35m\n  timeout server 35m\n",
        site.log_socket().display(),
    );
    for door in Door::ALL.into_iter().filter(|door| !door.begins_in_the_clear()) {
        let (here, there, both) = (gateway(door.port()), at(door.behind()), site.both());
        let port = door.port();
        writeln!(
            text,
            "listen p{port}\n  bind {here} ssl crt {} curves X25519 backlog 4096\n  server backend {there}",
            both.display()
        )?;
    }
    with_file(room, "haproxy.cfg", &text, &["-db", "-f", "FILE"])
}
