//! hitch: TLS in front of one backend, one worker.

use super::with_file;
use crate::backend::at;
use crate::protocols::Door;
use crate::site::{GATEWAY, Site};
use anyhow::Result;
use std::path::Path;

pub(super) fn arguments(site: &Site, room: &Path, door: Door) -> Result<Vec<String>> {
    let behind = at(door.behind());
    let text = format!(
        "frontend = {{ host = \"{GATEWAY}\"\n  port = \"{}\" }}\n\
         backend = \"[{}]:{}\"\npem-file = \"{}\"\n\
         tls-protos = TLSv1.3\nciphersuites = \"TLS_AES_128_GCM_SHA256\"\necdh-curve = \"X25519\"\n\
         workers = 1\nbacklog = 4096\nuser = \"_hitch\"\ndaemon = off\nsyslog = off\nlog-filename = \"{}/hitch.log\"\n",
        door.port(),
        behind.ip(),
        behind.port(),
        site.both().display(),
        room.display(),
    );
    with_file(room, "hitch.conf", &text, &[])?;
    Ok(vec![format!("--config={}", room.join("hitch.conf").display())])
}
