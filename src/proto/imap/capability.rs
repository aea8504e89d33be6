//! Capability lists: a backend's read, ours written.

use crate::proto::{Capabilities, FrontSettings, Mechanism};
use bytes::{BufMut, BytesMut};

/// The most capabilities that are kept.
const MAX_ATOMS: usize = 128;
/// The longest one that is kept, in octets.
const MAX_ATOM: usize = 512;

/// The atoms of a list, bounded; what could not stand in a response code is left out.
pub(super) fn parse(list: &[u8]) -> Vec<String> {
    let fits = |atom: &&[u8]| {
        (1..=MAX_ATOM).contains(&atom.len())
            && atom.iter().all(|&b| b.is_ascii_graphic() && !b"(){%*\"\\]".contains(&b))
    };
    list.split(|&b| b == b' ')
        .filter(fits)
        .take(MAX_ATOMS)
        .filter_map(|atom| std::str::from_utf8(atom).ok().map(str::to_owned))
        .collect()
}

/// What the atoms say about ways to log in.
pub(super) fn understand(atoms: Vec<String>) -> Capabilities {
    let mechanisms = atoms.iter().filter_map(|atom| Mechanism::parse(mechanism(atom)?.as_bytes())).collect();
    let mut capabilities = Capabilities { lines: atoms, mechanisms, ..Capabilities::default() };
    capabilities.login_command = !capabilities.has("LOGINDISABLED");
    capabilities
}

/// Writes the list for a client that is not logged in.
pub(super) fn before_login(
    capabilities: &Capabilities,
    settings: &FrontSettings,
    tls_active: bool,
    out: &mut BytesMut,
) {
    let literals = |atom: &str| atom.eq_ignore_ascii_case("LITERAL+") || atom.eq_ignore_ascii_case("LITERAL-");
    let own = |atom: &str| literals(atom) || atom.eq_ignore_ascii_case("SASL-IR");
    let mut atoms: Vec<&str> =
        capabilities.lines.iter().map(String::as_str).filter(|atom| may_cross(atom) && !own(atom)).collect();
    if atoms.is_empty() {
        atoms.push("IMAP4rev1");
    }
    // Literals are bounded before login, and LITERAL- is the promise of that bound (RFC 7888 section 5).
    if capabilities.lines.iter().any(|atom| literals(atom)) {
        atoms.push("LITERAL-");
    }
    let mechanisms = capabilities.shown(settings, tls_active);
    if !mechanisms.is_empty() {
        atoms.push("SASL-IR");
    }
    if settings.tls.offers_upgrade() && !tls_active {
        atoms.push("STARTTLS");
    }
    if !(settings.allows(&Mechanism::LOGIN, tls_active) && capabilities.takes_passwords()) {
        atoms.push("LOGINDISABLED");
    }
    write(atoms, out);
    for mechanism in mechanisms {
        out.put_slice(b" AUTH=");
        out.put_slice(mechanism.as_str().as_bytes());
    }
}

/// Writes the list for a client that has just logged in: the backend's, as it is now the one that is spoken to.
pub(super) fn after_login(atoms: &[String], out: &mut BytesMut) {
    write(atoms.iter().map(String::as_str).filter(|atom| may_cross(atom)), out);
}

/// What a backend may say of itself through us. The upgrade and the ways to log in are ours to name; a referral would
/// lead a client past us, UNAUTHENTICATE (RFC 8437) back before a login that only we can take, and who the client is
/// (XCLIENT, XFORWARD) is not for the client to say.
fn may_cross(atom: &str) -> bool {
    let never = [
        "CAPABILITY",
        "STARTTLS",
        "LOGINDISABLED",
        "LOGIN-REFERRALS",
        "UNAUTHENTICATE",
        "PREAUTH",
        "XCLIENT",
        "XFORWARD",
    ];
    let bound_to_their_channel = atom.len() >= 5 && atom.as_bytes()[atom.len() - 5..].eq_ignore_ascii_case(b"-PLUS");
    !never.iter().any(|name| atom.eq_ignore_ascii_case(name)) && mechanism(atom).is_none() && !bound_to_their_channel
}

/// The name in `AUTH=name`.
fn mechanism(atom: &str) -> Option<&str> {
    let (key, name) = atom.split_at_checked(5)?;
    key.eq_ignore_ascii_case("AUTH=").then_some(name)
}

fn write<'a>(atoms: impl IntoIterator<Item = &'a str>, out: &mut BytesMut) {
    out.put_slice(b"CAPABILITY");
    for atom in atoms {
        out.put_u8(b' ');
        out.put_slice(atom.as_bytes());
    }
}
