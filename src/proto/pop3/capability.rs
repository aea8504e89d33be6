//! CAPA (RFC 2449): what we show a client, and what we take from a backend's list.

use crate::proto::{BackFault, Capabilities, FrontSettings, Mechanism, Protocol};
use bytes::{BufMut, BytesMut};

/// The most lines kept of a backend's list, and the longest of them; what is past either is left out.
const MAX_LINES: usize = 128;
const MAX_LINE: usize = 500;
/// The most octets of a list before it is no list.
const MAX_LIST: usize = 64 * 1024;

/// The backend's capabilities that a client does not hear of from the backend.
const HIDDEN: [&str; 14] = [
    // Ours to offer, by the listener's rule.
    "STLS",
    "SASL",
    "USER",
    "APOP",
    "AUTH",
    // Our answers carry these codes whatever the backend's do.
    "RESP-CODES",
    "AUTH-RESP-CODE",
    // Commands before login that do not reach the backend (RFC 6856 sections 2 and 3).
    "UTF8",
    "LANG",
    // The version of an old server is for those who look for its holes.
    "IMPLEMENTATION",
    // A client's word on who it is, which the backend would believe of us.
    "XCLIENT",
    "XFORWARD",
    "XOIP",
    "PROXY",
];

/// Writes the list a client sees now.
pub(super) fn show(capabilities: &Capabilities, settings: &FrontSettings, tls_active: bool, out: &mut BytesMut) {
    let shown = |name: &Mechanism| settings.allows(name, tls_active) && capabilities.can_take(name);
    put_lines(out, ["+OK Capability list follows"]);
    put_lines(out, (settings.tls.offers_upgrade() && !tls_active).then_some("STLS"));
    put_lines(out, sasl_line(&capabilities.shown(settings, tls_active)).as_deref());
    put_lines(out, shown(&Mechanism::USER).then_some("USER"));
    put_lines(out, capabilities.lines.iter().map(String::as_str).filter(|line| passes(line)));
    put_lines(out, ["RESP-CODES", "AUTH-RESP-CODE", "."]);
}

/// Writes the answer to AUTH without an argument, which clients older than CAPA ask.
pub(super) fn show_mechanisms(mechanisms: &[Mechanism], out: &mut BytesMut) {
    put_lines(out, ["+OK Mechanisms follow"]);
    put_lines(out, mechanisms.iter().map(Mechanism::as_str));
    put_lines(out, ["."]);
}

/// A backend's list as it comes.
#[derive(Debug, Default)]
pub(super) struct Listing {
    lines: Vec<String>,
    octets: usize,
}

impl Listing {
    /// Takes a line; `true` says that it was the last.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<bool, BackFault> {
        if line == b"." {
            return Ok(true);
        }
        self.octets += line.len() + 2;
        if self.octets > MAX_LIST {
            return Err(BackFault::TooLarge);
        }
        if let Some(line) = capability(line)
            && self.lines.len() < MAX_LINES
        {
            self.lines.push(line.to_owned());
        }
        Ok(false)
    }

    /// What the list comes to. Servers that list no way to log in take USER: CAPA is younger than they are.
    pub(super) fn into_capabilities(self, apop: Option<String>) -> Capabilities {
        let mut capabilities = Capabilities { lines: self.lines, apop, ..Capabilities::default() };
        let sasl = capabilities.argument("SASL").unwrap_or_default();
        capabilities.mechanisms = sasl.split(' ').filter_map(|name| Mechanism::parse(name.as_bytes())).collect();
        capabilities.login_command = capabilities.has("USER")
            || !(capabilities.offers(&Mechanism::PLAIN) || capabilities.offers(&Mechanism::LOGIN));
        capabilities
    }
}

/// What a server that does not know CAPA is taken for: the commands every client has tried on such servers all along.
/// A list without UIDL would tell clients not to try it, where the server's own `-ERR` to CAPA let them.
pub(super) fn of_a_server_without_capa(apop: Option<String>) -> Capabilities {
    Capabilities { apop, ..Capabilities::minimum(Protocol::Pop3) }
}

/// The timestamp in a greeting (RFC 1939 section 7): the last `<…@…>` of printable ASCII, with its brackets, bounded
/// so that our greeting with it stays a POP3 line.
pub(super) fn timestamp(greeting: &[u8]) -> Option<String> {
    let end = memchr::memrchr(b'>', greeting)?;
    let begin = memchr::memrchr(b'<', &greeting[..end])?;
    let stamp = &greeting[begin..=end];
    let fits = stamp.len() <= 250 && stamp.iter().all(u8::is_ascii_graphic) && stamp.contains(&b'@');
    std::str::from_utf8(stamp).ok().filter(|_| fits).map(str::to_owned)
}

fn passes(line: &str) -> bool {
    let word = line.split(' ').next().unwrap_or_default();
    capability(line.as_bytes()).is_some() && !HIDDEN.iter().any(|hidden| word.eq_ignore_ascii_case(hidden))
}

/// A line that can be a capability: printable ASCII, no dot at its front (RFC 2449 section 3).
fn capability(line: &[u8]) -> Option<&str> {
    let printable = line.iter().all(|&b| b == b' ' || b.is_ascii_graphic());
    let begins = line.first().is_some_and(|&b| b != b'.' && b != b' ');
    std::str::from_utf8(line).ok().filter(|_| printable && begins && line.len() <= MAX_LINE)
}

/// `SASL` and the names, as many as the line holds.
fn sasl_line(mechanisms: &[Mechanism]) -> Option<String> {
    let mut line = "SASL".to_owned();
    for name in mechanisms.iter().map(Mechanism::as_str) {
        if line.len() + 1 + name.len() <= MAX_LINE {
            line.push(' ');
            line.push_str(name);
        }
    }
    (!mechanisms.is_empty()).then_some(line)
}

fn put_lines<'a>(out: &mut BytesMut, lines: impl IntoIterator<Item = &'a str>) {
    for line in lines {
        out.put_slice(line.as_bytes());
        out.put_slice(b"\r\n");
    }
}
