//! A webmail's cookies as browsers must have them (RFC 6265): sent over TLS alone, and for our names and paths.

use crate::policy::webmail::Webmail;

/// `Set-Cookie` for the browser that calls us `host` (a name alone). Old webmails know nothing of TLS, so `Secure` is added, and
/// `SameSite=Lax`, which browsers take for granted by now, where nothing is said of it. `HttpOnly` is not: there are those whose scripts
/// read the cookie.
pub(super) fn outward(cookie: &str, webmail: &Webmail, host: &str) -> String {
    let mut parts = cookie.split(';').map(str::trim);
    let pair = parts.next().unwrap_or_default();
    // A browser refuses one of this name for another path.
    let is_for_host = pair.get(..7).is_some_and(|prefix| prefix.eq_ignore_ascii_case("__Host-"));
    let mut out = pair.to_owned();
    let (mut is_secure, mut has_site) = (false, false);
    for part in parts.filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').map_or((part, ""), |(name, value)| (name.trim(), value.trim()));
        let mut kept = part.to_owned();
        match name.to_ascii_lowercase().as_str() {
            "secure" => is_secure = true,
            "samesite" => has_site = true,
            // For a name of the old server's own a browser would throw it away; without, it is for ours.
            "domain" if !is_within(host, value) => continue,
            "path" if !is_for_host => kept = format!("{name}={}", webmail.outward(value)),
            _ => {}
        }
        out.push_str("; ");
        out.push_str(&kept);
    }
    if !is_secure {
        out.push_str("; Secure");
    }
    if !has_site {
        out.push_str("; SameSite=Lax");
    }
    out
}

/// Whether a host is this domain or in it.
fn is_within(host: &str, domain: &str) -> bool {
    let domain = domain.trim_start_matches('.').to_ascii_lowercase();
    host == domain || host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.') && !domain.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ServerName;
    use crate::policy::webmail::Entrance;

    #[test]
    fn a_cookie_is_for_us_and_for_tls() {
        let webmail = Webmail {
            entrance: Entrance::Path("/webmail/".to_owned()),
            server: ServerName { host: "old".to_owned(), port: 80 },
            tls: None,
            base: "/squirrelmail/".to_owned(),
        };
        for (cookie, seen) in [
            ("SQMSESSID=abc; path=/squirrelmail/", "SQMSESSID=abc; path=/webmail/; Secure; SameSite=Lax"),
            ("a=b; Path=/squirrelmail", "a=b; Path=/webmail; Secure; SameSite=Lax"),
            ("a=b;path=/squirrelmail/src;HttpOnly", "a=b; path=/webmail/src; HttpOnly; Secure; SameSite=Lax"),
            ("a=b; path=/", "a=b; path=/; Secure; SameSite=Lax"),
            ("a=b; secure; SameSite=None", "a=b; secure; SameSite=None"),
            ("a=b; domain=old.internal; path=/x", "a=b; path=/x; Secure; SameSite=Lax"),
            ("a=b; Domain=.Example.net", "a=b; Domain=.Example.net; Secure; SameSite=Lax"),
            ("a=b; domain=ample.net", "a=b; Secure; SameSite=Lax"),
            ("a=b; domain=", "a=b; Secure; SameSite=Lax"),
            ("__Host-a=b; path=/; secure", "__Host-a=b; path=/; secure; SameSite=Lax"),
            (
                "a=b; expires=Wed, 21 Oct 2015 07:28:00 GMT",
                "a=b; expires=Wed, 21 Oct 2015 07:28:00 GMT; Secure; SameSite=Lax",
            ),
            ("a=\"x=y\"", "a=\"x=y\"; Secure; SameSite=Lax"),
        ] {
            assert_eq!(outward(cookie, &webmail, "mail.example.net"), seen);
        }
    }
}
