//! Where a webmail sends browsers: what it takes for its own address is one of ours.

use crate::policy::webmail::{Webmail, host_name};

/// `Location` and `Content-Location` (RFC 9110 sections 10.2.2 and 8.7) for the browser that calls us `authority`, as it stands in
/// its `Host`. None: it stays as it is, since it leads elsewhere, or is relative.
pub(super) fn outward(place: &str, webmail: &Webmail, authority: &str) -> Option<String> {
    if place.starts_with('/') && !place.starts_with("//") {
        return Some(webmail.outward(place)).filter(|mapped| mapped != place);
    }
    let rest = ["http://", "https://", "//"]
        .iter()
        .find_map(|scheme| place.get(..scheme.len()).filter(|begin| begin.eq_ignore_ascii_case(scheme)).map(str::len))
        .and_then(|length| place.get(length..))?;
    let (server, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    if !is_ours(server, webmail, authority) {
        return None;
    }
    let path = if path.starts_with('/') { webmail.outward(path) } else { format!("/{path}") };
    Some(format!("https://{authority}{path}"))
}

/// `Refresh`, which old scripts redirect by: `5; url=http://…`.
pub(super) fn refreshed(value: &str, webmail: &Webmail, authority: &str) -> Option<String> {
    let at = value.to_ascii_lowercase().find("url=")? + "url=".len();
    let (begin, place) = value.split_at_checked(at)?;
    let bare = place.trim().trim_matches(['"', '\'']);
    Some(format!("{begin}{}", outward(bare, webmail, authority)?))
}

/// Whether a server's name in a URL is what browsers call us, or what we call the webmail, on a port that is one of either's.
fn is_ours(server: &str, webmail: &Webmail, authority: &str) -> bool {
    let host = host_name(server);
    let port = |authority: &str| authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let is_known = host == host_name(authority) || literal == webmail.server.host;
    is_known
        && port(server).is_none_or(|named| {
            matches!(named, 80 | 443) || named == webmail.server.port || Some(named) == port(authority)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ServerName;
    use crate::policy::webmail::Entrance;

    fn webmail() -> Webmail {
        Webmail {
            entrance: Entrance::Path("/webmail/".to_owned()),
            server: ServerName { host: "10.0.0.5".to_owned(), port: 8080 },
            tls: None,
            base: "/squirrelmail/".to_owned(),
        }
    }

    #[test]
    fn a_redirect_stays_with_us_and_leaves_others_alone() {
        for (place, seen) in [
            (
                "http://mail.example.net/squirrelmail/src/login.php?a=b#c",
                "https://mail.example.net/webmail/src/login.php?a=b#c",
            ),
            ("http://10.0.0.5:8080/squirrelmail/", "https://mail.example.net/webmail/"),
            ("http://10.0.0.5/", "https://mail.example.net/"),
            ("HTTP://Mail.Example.Net:80/squirrelmail", "https://mail.example.net/webmail"),
            ("https://mail.example.net/other/", "https://mail.example.net/other/"),
            ("//mail.example.net/squirrelmail/", "https://mail.example.net/webmail/"),
            ("http://mail.example.net", "https://mail.example.net/"),
            ("/squirrelmail/src/webmail.php", "/webmail/src/webmail.php"),
        ] {
            assert_eq!(outward(place, &webmail(), "mail.example.net").as_deref(), Some(seen), "{place}");
        }
        for place in [
            "src/login.php",
            "?logout",
            "/other/",
            "http://elsewhere.example/squirrelmail/",
            "http://mail.example.net@elsewhere.example/",
            "http://mail.example.net:9000/",
            "http://mail.example.net.evil.example/",
            "ftp://10.0.0.5/",
            "",
        ] {
            assert_eq!(outward(place, &webmail(), "mail.example.net"), None, "{place}");
        }
        let at_a_port = outward("http://mail.example.net/squirrelmail/", &webmail(), "mail.example.net:8443");
        assert_eq!(at_a_port.as_deref(), Some("https://mail.example.net:8443/webmail/"));
    }

    #[test]
    fn a_refresh_is_a_redirect() {
        let seen = |value| refreshed(value, &webmail(), "mail.example.net");
        let to = "0; URL=https://mail.example.net/webmail/a";
        assert_eq!(seen("0; URL=http://mail.example.net/squirrelmail/a").as_deref(), Some(to));
        assert_eq!(seen("0; URL='http://10.0.0.5:8080/squirrelmail/a'").as_deref(), Some(to));
        assert_eq!(seen("60"), None);
        assert_eq!(seen("60; url=other.php"), None);
    }
}
