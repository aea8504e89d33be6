//! A webmail behind the page: what of our https is passed on to an old web server, and how its paths become ours.

use super::portal::{DOCUMENTS, Portal};
use super::{BackendTls, Policy, ServerName};
use std::net::Ipv6Addr;

/// How often a path is decoded to see what hides in it; servers decode once, careless ones twice.
const MOST_ROUNDS: usize = 4;

/// A webmail.
#[derive(Debug, Clone)]
pub struct Webmail {
    /// Where browsers find it.
    pub entrance: Entrance,
    /// The web server.
    pub server: ServerName,
    /// TLS towards it, from the first byte; none: in the clear.
    pub tls: Option<BackendTls>,
    /// The path there that the entrance leads to; begins and ends with a slash.
    pub base: String,
}

/// Where browsers find a webmail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entrance {
    /// Below a path of ours, which begins and ends with a slash.
    Path(String),
    /// All of a name, lower-cased.
    Name(String),
}

impl Webmail {
    /// The path that browsers see in the place of `base`; begins and ends with a slash.
    pub fn outside(&self) -> &str {
        match &self.entrance {
            Entrance::Path(path) => path,
            Entrance::Name(_) => "/",
        }
    }

    /// The server's own path for one that [`normal`] has seen and that is below the entrance.
    pub fn inward(&self, path: &str) -> String {
        // Two slashes at the begin would be a host's name to some.
        let below = path.strip_prefix(self.outside()).unwrap_or_default().trim_start_matches('/');
        format!("{}{below}", self.base)
    }

    /// A path as the server names it, for browsers. What lies outside `base` is left as it is.
    pub fn outward(&self, path: &str) -> String {
        if let Some(below) = path.strip_prefix(self.base.as_str()) {
            return format!("{}{below}", self.outside());
        }
        match path.strip_prefix(self.base.trim_end_matches('/')) {
            Some(rest) if self.base.len() > 1 && (rest.is_empty() || rest.starts_with(['?', '#'])) => {
                format!("{}{rest}", self.outside().trim_end_matches('/'))
            }
            _ => path.to_owned(),
        }
    }

    /// Where it begins, as the page links it: `base` is how browsers come to the page, such as `https://mail.example.net`.
    pub fn address(&self, base: &str, port: &str) -> String {
        match &self.entrance {
            Entrance::Path(path) => format!("{base}{path}"),
            Entrance::Name(name) => format!("https://{name}{port}/"),
        }
    }
}

impl Portal {
    /// The webmail that a request to this host name (lower-cased, without a port) is for; of several paths the longest.
    pub fn webmail(&self, host: &str, path: &str) -> Option<&Webmail> {
        let by_name = |webmail: &&Webmail| matches!(&webmail.entrance, Entrance::Name(name) if name == host);
        let by_path = |webmail: &&Webmail| match &webmail.entrance {
            Entrance::Path(entrance) => path.starts_with(entrance.as_str()) || path == entrance.trim_end_matches('/'),
            Entrance::Name(_) => false,
        };
        let is_own = || DOCUMENTS.iter().any(|own| own.eq_ignore_ascii_case(path));
        self.webmails.iter().find(by_name).or_else(|| {
            let below = self.webmails.iter().filter(by_path).max_by_key(|webmail| webmail.outside().len());
            below.filter(|_| !is_own())
        })
    }

    /// The names that are a webmail's.
    pub fn webmail_names(&self) -> impl Iterator<Item = &str> {
        self.webmails.iter().filter_map(|webmail| match &webmail.entrance {
            Entrance::Name(name) => Some(name.as_str()),
            Entrance::Path(_) => None,
        })
    }
}

impl Policy {
    /// Where a browser that came in the clear is led: to the same place under TLS (RFC 9110 section 15.4.9). It is one of our names
    /// and a path that is served, whatever was asked for. `host`: what the browser calls us; `target`: path and query.
    pub fn lead(&self, host: Option<&str>, target: &str) -> String {
        let port = self.page_port_in_url();
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        let host = host.map(host_name).unwrap_or_default();
        if let Some(path) = normal(path)
            && let Some(webmail) = self.portal.webmail(&host, &path)
        {
            let name = match &webmail.entrance {
                Entrance::Name(name) => name,
                Entrance::Path(_) => &self.hostname,
            };
            return format!("https://{name}{port}{path}{query}");
        }
        let path = DOCUMENTS.iter().find(|own| path.eq_ignore_ascii_case(own)).unwrap_or(&"/");
        format!("https://{}{port}{path}", self.hostname)
    }

    /// The page's port as it stands in a URL: nothing for 443.
    pub fn page_port_in_url(&self) -> String {
        self.page_port().filter(|port| *port != 443).map(|port| format!(":{port}")).unwrap_or_default()
    }
}

/// The host name of what stands in `Host` or in a URL: without a port and a dot at the end, lower-cased.
pub fn host_name(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Whether this is what may stand in `Host` (RFC 9110 section 7.2): a host name or an address, and perhaps a port in digits. Old
/// scripts make links of whatever stands there.
pub fn is_authority(text: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if let Some(literal) = text.strip_prefix('[') {
        return literal.split_once(']').is_some_and(|(address, rest)| {
            address.parse::<Ipv6Addr>().is_ok() && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
        });
    }
    let (name, port) = text.split_once(':').unwrap_or((text, "0"));
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !name.is_empty() && name.bytes().all(is_of_name) && is_port(port)
}

/// A path without its dot segments (RFC 3986 section 5.2.4). None where another reader may see a path in it that we do not:
/// encoded or parameterised dot segments, dots before blanks, backslashes, control characters, and what old servers take for
/// letters besides `%XX`.
pub fn normal(path: &str) -> Option<String> {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/')?.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    let path = format!("/{}", kept.join("/"));
    let mut seen = path.clone().into_bytes();
    for _ in 0..MOST_ROUNDS {
        if hides(&seen) {
            return None;
        }
        let decoded = decoded(&seen);
        if decoded == seen {
            return Some(path);
        }
        seen = decoded;
    }
    None
}

/// Whether a segment is a dot segment to some reader, or a character ends or splits paths for some.
fn hides(path: &[u8]) -> bool {
    let is_dots = |segment: &[u8]| {
        // Encoded, `?` and `#` are part of the path to us, and its end to who decodes too early.
        let bare = segment.split(|byte| matches!(byte, b';' | b'?' | b'#')).next().unwrap_or_default();
        // Windows leaves out blanks and dots at the end of a name.
        let is_padded = bare.contains(&b' ') && bare.contains(&b'.') && bare.iter().all(|byte| b" .".contains(byte));
        matches!(bare, b"." | b"..") || is_padded
    };
    path.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\')
        || path.split(|byte| *byte == b'/').any(is_dots)
        || is_overlong(path)
        || has_wide_escape(path)
}

/// Whether there is a character in more octets than it needs (RFC 3629 section 3): to old servers `C0 AE` is a dot.
fn is_overlong(path: &[u8]) -> bool {
    path.iter().enumerate().any(|(at, byte)| {
        let next = path.get(at + 1).copied().unwrap_or_default();
        match byte {
            // Whatever follows: some look at six bits of it alone.
            0xc0 | 0xc1 => true,
            0xe0 => matches!(next, 0x80..=0x9f),
            0xf0 => matches!(next, 0x80..=0x8f),
            0xf8 => matches!(next, 0x80..=0x87),
            0xfc => matches!(next, 0x80..=0x83),
            _ => false,
        }
    })
}

/// Whether there is a `%u` with four digits, which IIS takes for a character.
fn has_wide_escape(path: &[u8]) -> bool {
    path.windows(6)
        .any(|piece| matches!(piece, [b'%', b'u' | b'U', digits @ ..] if digits.iter().all(u8::is_ascii_hexdigit)))
}

/// The path with `%XX` taken for what it stands for; what is no such thing stays.
fn decoded(path: &[u8]) -> Vec<u8> {
    let digit = |at: usize| path.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.extend(u8::try_from(high * 16 + low));
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn webmail(entrance: Entrance, base: &str) -> Webmail {
        Webmail { entrance, server: ServerName { host: "old".to_owned(), port: 80 }, tls: None, base: base.to_owned() }
    }

    #[test]
    fn a_path_is_the_same_to_every_reader_or_is_refused() {
        for (path, seen) in [
            ("/", Some("/")),
            ("/webmail/", Some("/webmail/")),
            ("/webmail/src/read.php", Some("/webmail/src/read.php")),
            ("/webmail/./a/../b", Some("/webmail/b")),
            ("/webmail/..", Some("/")),
            ("/webmail/a/.", Some("/webmail/a/")),
            ("/../../etc/passwd", Some("/etc/passwd")),
            ("//evil.example/", Some("//evil.example/")),
            ("/webmail/a%20b%2Ec", Some("/webmail/a%20b%2Ec")),
            ("/webmail/100%", Some("/webmail/100%")),
            ("/webmail/a..b/...", Some("/webmail/a..b/...")),
            ("/webmail/%C3%A4", Some("/webmail/%C3%A4")),
            ("/webmail/%2e%2e/", None),
            ("/webmail/.%2E/", None),
            ("/webmail/..%2f", None),
            ("/webmail/%2e", None),
            ("/webmail/..;/admin", None),
            ("/webmail/..;a=b/admin", None),
            ("/webmail/..%3b/admin", None),
            ("/webmail/..\\admin", None),
            ("/webmail/..%5cadmin", None),
            ("/webmail/%252e%252e/", None),
            ("/webmail/%%32%65%%32%65/", None),
            ("/webmail/%25252525252e", None),
            ("/webmail/a%00.php", None),
            ("/webmail/a%0d%0aX:", None),
            ("/webmail/%c0%ae%c0%ae/", None),
            ("/webmail/..%c0%af../", None),
            ("/webmail/..%c1%9c", None),
            ("/webmail/%e0%80%ae%e0%80%ae/", None),
            ("/webmail/%f0%80%80%ae./", None),
            ("/webmail/%fc%80%80%80%80%ae./", None),
            ("/webmail/%25c0%25ae./", None),
            ("/webmail/%u002e%u002e/", None),
            ("/webmail/..%u002f", None),
            ("/webmail/..%U005c", None),
            ("/webmail/%25u002e./", None),
            ("/webmail/..%20/private", None),
            ("/webmail/.%2e%20%20", None),
            ("/webmail/..%20./private", None),
            ("/webmail/%20../private", None),
            ("/webmail/..%20;a/private", None),
            ("/webmail/..%3f/private", None),
            ("/webmail/..%23/private", None),
            ("/webmail/%20/a.%20b/100%uns", Some("/webmail/%20/a.%20b/100%uns")),
            (
                "/webmail/%E2%82%AC/%E0%A4%85/%F0%9F%93%A7/b%FCro",
                Some("/webmail/%E2%82%AC/%E0%A4%85/%F0%9F%93%A7/b%FCro"),
            ),
            ("webmail", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(normal(path).as_deref(), seen, "{path}");
        }
    }

    #[test]
    fn a_path_goes_in_and_comes_out_again() {
        let below = webmail(Entrance::Path("/webmail/".to_owned()), "/squirrelmail/");
        let at_root = webmail(Entrance::Path("/webmail/".to_owned()), "/");
        let same = webmail(Entrance::Path("/mail/".to_owned()), "/mail/");
        let named = webmail(Entrance::Name("webmail.example.net".to_owned()), "/");
        for (webmail, outside, inside) in [
            (&below, "/webmail/", "/squirrelmail/"),
            (&below, "/webmail/src/a.php", "/squirrelmail/src/a.php"),
            (&at_root, "/webmail/", "/"),
            (&at_root, "/webmail/a", "/a"),
            (&same, "/mail/a", "/mail/a"),
            (&named, "/", "/"),
            (&named, "/a/b", "/a/b"),
        ] {
            assert_eq!(webmail.inward(outside), inside);
            assert_eq!(webmail.outward(inside), outside);
        }
        assert_eq!(at_root.inward("/webmail///evil.example/"), "/evil.example/");
        assert_eq!(named.inward("//evil.example/"), "/evil.example/");
        assert_eq!(below.outward("/squirrelmail?a"), "/webmail?a");
        assert_eq!(below.outward("/squirrelmails/"), "/squirrelmails/");
        assert_eq!(below.outward("/icons/a.gif"), "/icons/a.gif");
    }

    const SPELLINGS: &str = r"/|\\.|%2e|%2E|%252e|%%32%65|%2f|%5c|\\\\|;|a|%00|%|%25|webmail|%20| |%c0%ae|%C0%AF|%c1%9c|%e0%80%ae|%f0%80%80%af|%u002e|%U002F|%%75002e";

    /// What old servers make of a path beyond decoding it.
    fn careless(path: &[u8]) -> Vec<u8> {
        let mut out = path.to_vec();
        for (spelling, meant) in [
            (&b"\xc0\xae"[..], b'.'),
            (b"\xc0\xaf", b'/'),
            (b"\xc1\x9c", b'\\'),
            (b"\xe0\x80\xae", b'.'),
            (b"\xf0\x80\x80\xaf", b'/'),
            (b"%u002e", b'.'),
            (b"%U002F", b'/'),
        ] {
            while let Some(at) = out.windows(spelling.len()).position(|piece| piece == spelling) {
                out.splice(at..at + spelling.len(), [meant]);
            }
        }
        out
    }

    proptest! {
        /// However often a careless server decodes what it is sent, it never gets out of the webmail's folder.
        #[test]
        fn no_path_leads_out(parts in proptest::collection::vec(SPELLINGS, 0..12)) {
            let webmail = webmail(Entrance::Path("/webmail/".to_owned()), "/old/");
            let Some(path) = normal(&format!("/webmail/{}", parts.concat())) else { return Ok(()) };
            if !path.starts_with("/webmail/") {
                return Ok(());
            }
            let mut seen = webmail.inward(&path).into_bytes();
            for _ in 0..8 {
                prop_assert!(seen.starts_with(b"/old/"), "{path}");
                let text = String::from_utf8_lossy(&seen).replace('\\', "/");
                let leads_out = text.split('/').any(|segment| segment.split(';').next().map(str::trim) == Some(".."));
                prop_assert!(!leads_out && !seen.contains(&0), "{path}: {text}");
                seen = careless(&decoded(&seen));
            }
        }
    }

    #[test]
    fn a_host_is_its_name() {
        for (authority, name) in [
            ("Mail.Example.NET", "mail.example.net"),
            ("mail.example.net:8443", "mail.example.net"),
            ("mail.example.net.", "mail.example.net"),
            ("mail.example.net.:443", "mail.example.net"),
            ("[2001:db8::1]:443", "[2001:db8::1]"),
            ("", ""),
        ] {
            assert_eq!(host_name(authority), name);
        }
    }

    #[test]
    fn what_stands_in_a_host_is_a_name_or_an_address_and_a_port() {
        for authority in [
            "mail.example.net",
            "Mail_1.example.net.:8443",
            "192.0.2.1",
            "192.0.2.1:443",
            "[2001:db8::1]",
            "[2001:db8::1]:443",
        ] {
            assert!(is_authority(authority), "{authority}");
        }
        for authority in [
            "",
            ":443",
            "[2001:db8::bad]/x.example.net",
            "[2001:db8::bad]:443/x.example.net",
            "[mail.example.net]",
            "2001:db8::1",
            "a@b.example.net",
            "3232235777/x.example.net",
            "mail.example.net:+80",
            "mail.example.net:",
            "mail.example.net:70000",
            "mail.example.net:80/",
            "mail.example.net?",
            "mail.example.net#",
            "mail.example.net\\",
            "mail%2eexample.net",
            "a,b.example.net",
            "m\u{e4}il.example.net",
        ] {
            assert!(!is_authority(authority), "{authority}");
        }
    }
}
