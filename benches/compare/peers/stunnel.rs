//! stunnel: a thread a session; it speaks the first words of the mail protocols for STARTTLS.

use super::with_file;
use crate::backend::at;
use crate::protocols::Door;
use crate::site::{Site, gateway};
use anyhow::Result;
use std::fmt::Write;
use std::path::Path;

pub(super) fn arguments(site: &Site, room: &Path) -> Result<Vec<String>> {
    let pair = site.pair();
    let mut text = format!(
        "foreground = quiet\npid =\nsetuid = stunnel4\nsetgid = stunnel4\ndebug = notice\noutput = {}/stunnel.log\n\
         cert = {}\nkey = {}\nsslVersionMin = TLSv1.3\nciphersuites = TLS_AES_128_GCM_SHA256\ncurves = X25519\n",
        room.display(),
        pair.chain.display(),
        pair.key.display(),
    );
    for door in Door::ALL {
        let protocol = match door {
            Door::Imaps | Door::Pop3s | Door::Smtps => "",
            Door::ImapStarttls => "protocol = imap\n",
            Door::Pop3Stls => "protocol = pop3\n",
            Door::SubmissionStarttls => "protocol = smtp\n",
        };
        let (here, there, port) = (gateway(door.port()), at(door.behind()), door.port());
        write!(text, "[p{port}]\naccept = {here}\nconnect = {there}\n{protocol}")?;
    }
    std::fs::write(room.join("stunnel.log"), "")?;
    nix::unistd::chown(
        &room.join("stunnel.log"),
        nix::unistd::User::from_name("stunnel4")?.map(|user| user.uid),
        None,
    )?;
    with_file(room, "stunnel.conf", &text, &["FILE"])
}
