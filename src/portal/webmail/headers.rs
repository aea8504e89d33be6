//! What of a request's and an answer's headers goes on: end-to-end fields alone (RFC 9110 section 7.6.1), and what a gateway says of
//! the browser in our words only.

use super::{cookies, place};
use crate::policy::webmail::{Entrance, Webmail, host_name};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;
use std::time::Duration;

/// For one connection alone, named in `Connection` or not. `Expect` is answered by us.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What gateways say of a client. Old scripts believe each, so a client's own never pass. `Proxy` would become HTTP_PROXY in a CGI
/// script (httpoxy).
const OF_GATEWAYS: [&str; 19] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-visitor",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "front-end-https",
    "proxy",
    "true-client-ip",
    "via",
    "x-cluster-client-ip",
    "x-host",
    "x-http-host-override",
    "x-originating-ip",
    "x-proto",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-scheme",
    "x-url-scheme",
];

/// How names begin that say who the client is, how he came, or which path or host he meant: IIS and frameworks take the path from
/// `X-Original-URL` and `X-Rewrite-URL`, and what stands behind a login elsewhere takes the user from `Remote-User` and its kin.
const OF_GATEWAYS_BEGIN: [&str; 13] = [
    "remote-",
    "ssl-",
    "x-arr-",
    "x-auth-request-",
    "x-authenticated-",
    "x-client-",
    "x-forwarded",
    "x-original-",
    "x-proxy-",
    "x-remote-",
    "x-rewrite-",
    "x-ssl-",
    "x-webauth-",
];

/// What an answer says of a whole name, or has hold for it. It is a webmail's where the name is.
const OF_A_NAME: [&str; 8] = [
    "clear-site-data",
    "nel",
    "origin-agent-cluster",
    "public-key-pins",
    "public-key-pins-report-only",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
];

/// The headers for the old server. `authority` is what the browser calls us.
pub(super) fn inward(mut headers: HeaderMap, client: IpAddr, authority: &HeaderValue, socket: bool) -> HeaderMap {
    drop_hop_by_hop(&mut headers);
    let said: Vec<HeaderName> = headers.keys().filter(|name| is_of_gateways(name.as_str())).cloned().collect();
    for name in said {
        headers.remove(name);
    }
    headers.insert(header::HOST, authority.clone());
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    headers.insert("x-forwarded-host", authority.clone());
    let address = client.to_string();
    let node = if client.is_ipv6() { format!("\"[{client}]\"") } else { address.clone() };
    // RFC 7239 section 4.
    let forwarded = format!("for={node};proto=https");
    for (name, value) in [("x-forwarded-for", &address), ("x-real-ip", &address), ("forwarded", &forwarded)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    let connection = if socket { "upgrade" } else { "close" };
    headers.insert(header::CONNECTION, HeaderValue::from_static(connection));
    if socket {
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    headers
}

/// The headers for the browser.
pub(super) fn outward(headers: &mut HeaderMap, webmail: &Webmail, authority: &str, hsts: Duration) {
    // Of two lengths this is the one that does not count (RFC 9112 section 6.3).
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    drop_hop_by_hop(headers);
    // Both are about the whole name, which is not the webmail's to decide on.
    headers.remove(header::ALT_SVC);
    headers.remove(header::STRICT_TRANSPORT_SECURITY);
    if let Entrance::Path(_) = webmail.entrance {
        for name in OF_A_NAME {
            headers.remove(name);
        }
    }
    if !hsts.is_zero()
        && let Ok(value) = HeaderValue::from_str(&format!("max-age={}", hsts.as_secs()))
    {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
    let refresh = HeaderName::from_static("refresh");
    for name in [&header::LOCATION, &header::CONTENT_LOCATION, &refresh] {
        let Some(value) = headers.get(name).map(text) else { continue };
        let mapped = if *name == refresh {
            place::refreshed(&value, webmail, authority)
        } else {
            place::outward(&value, webmail, authority)
        };
        if let Some(value) = mapped.as_deref().and_then(value_of) {
            headers.insert(name, value);
        }
    }
    let host = host_name(authority);
    let cookies: Vec<String> = headers.get_all(header::SET_COOKIE).iter().map(text).collect();
    headers.remove(header::SET_COOKIE);
    for cookie in cookies {
        if let Some(value) = value_of(&cookies::outward(&cookie, webmail, &host)) {
            headers.append(header::SET_COOKIE, value);
        }
    }
}

/// A value octet by octet, as ISO 8859-1 has them: old scripts write names of people so, and nothing of it must change.
fn text(value: &HeaderValue) -> String {
    value.as_bytes().iter().copied().map(char::from).collect()
}

fn value_of(text: &str) -> Option<HeaderValue> {
    let octets: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
    HeaderValue::from_bytes(&octets?).ok()
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // How long the message is must not be taken out by its sender's word.
        .filter(|name| *name != header::CONTENT_LENGTH)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// A name with an underscore is the same to a CGI script as one with a hyphen, and no browser sends one.
fn is_of_gateways(name: &str) -> bool {
    name.contains('_')
        || OF_GATEWAYS.contains(&name)
        || OF_GATEWAYS_BEGIN.iter().any(|beginning| name.starts_with(beginning))
}

/// Whether a browser asks for a WebSocket (RFC 6455 section 4.1). No other protocol is changed to.
pub(super) fn asks_for_socket(headers: &HeaderMap) -> bool {
    let has = |name: HeaderName, word: &str| {
        let words = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        words.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(word))
    };
    has(header::UPGRADE, "websocket") && has(header::CONNECTION, "upgrade")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ServerName;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn octets_beyond_ascii_stay_what_they_are() {
        let webmail = Webmail {
            entrance: Entrance::Name("webmail.example.net".to_owned()),
            server: ServerName { host: "old".to_owned(), port: 80 },
            tls: None,
            base: "/".to_owned(),
        };
        let mut answer = HeaderMap::new();
        let value = |octets: &[u8]| HeaderValue::from_bytes(octets).expect("a value");
        answer.insert("set-cookie", value(b"user=M\xfcller"));
        answer.insert("location", value(b"http://old/M\xc3\xbcller"));
        outward(&mut answer, &webmail, "webmail.example.net", Duration::ZERO);
        assert_eq!(answer["set-cookie"].as_bytes(), b"user=M\xfcller; Secure; SameSite=Lax");
        assert_eq!(answer["location"].as_bytes(), b"https://webmail.example.net/M\xc3\xbcller");
    }

    fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
        headers.get_all(name).iter().map(|value| value.to_str().expect("text")).collect()
    }

    #[test]
    fn what_a_client_says_of_itself_is_ours_to_say() {
        let sent = headers(&[
            ("host", "mail.example.net"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x_forwarded_for", "10.0.0.3"),
            ("x-forwarded-user", "root"),
            ("forwarded", "for=10.0.0.4"),
            ("x-real-ip", "10.0.0.5"),
            ("proxy", "http://evil.example/"),
            ("cookie", "a=b"),
            ("connection", "keep-alive, X-Secret, Content-Length, X-Forwarded-Proto"),
            ("x-secret", "1"),
            ("content-length", "5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQ"),
            ("keep-alive", "timeout=5"),
        ]);
        let authority = HeaderValue::from_static("mail.example.net");
        let passed = inward(sent.clone(), "2001:db8::1".parse().expect("an address"), &authority, false);
        for (name, values) in [
            ("host", vec!["mail.example.net"]),
            ("x-forwarded-for", vec!["2001:db8::1"]),
            ("x-real-ip", vec!["2001:db8::1"]),
            ("forwarded", vec!["for=\"[2001:db8::1]\";proto=https"]),
            ("x-forwarded-proto", vec!["https"]),
            ("x-forwarded-host", vec!["mail.example.net"]),
            ("connection", vec!["close"]),
            ("cookie", vec!["a=b"]),
            ("content-length", vec!["5"]),
        ] {
            assert_eq!(all(&passed, name), values, "{name}");
        }
        for name in [
            "x_forwarded_for",
            "x-forwarded-user",
            "proxy",
            "x-secret",
            "te",
            "upgrade",
            "http2-settings",
            "keep-alive",
        ] {
            assert!(!passed.contains_key(name), "{name}");
        }
        for name in [
            "x-rewrite-url",
            "x-original-url",
            "x-original-host",
            "x-original-forwarded-for",
            "x-host",
            "x-http-host-override",
            "remote-user",
            "remote-addr",
            "x-remote-user",
            "x-remote-addr",
            "x-remote-ip",
            "x-webauth-user",
            "x-authenticated-user",
            "x-auth-request-email",
            "x-proxy-user",
            "x-originating-ip",
            "x-proxyuser-ip",
            "x-client-ip",
            "x-client-cert",
            "x-ssl-client-s-dn",
            "ssl-client-cert",
            "x-arr-clientcert",
            "cf-connecting-ip",
            "cf-connecting-ipv6",
            "x-scheme",
            "x-url-scheme",
            "x-forwarded-scheme",
            "front-end-https",
        ] {
            let passed = inward(headers(&[(name, "forged")]), "192.0.2.1".parse().expect("one"), &authority, false);
            assert!(!passed.contains_key(name), "{name}");
        }
        // What scripts of the webmail's own send is theirs.
        for name in ["x-requested-with", "x-csrf-token", "x-roundcube-request", "origin", "referer", "authorization"] {
            let passed = inward(headers(&[(name, "its own")]), "192.0.2.1".parse().expect("one"), &authority, false);
            assert_eq!(all(&passed, name), ["its own"]);
        }
        assert!(!asks_for_socket(&sent));
        let socket = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]);
        assert!(asks_for_socket(&socket));
        let passed = inward(socket, "192.0.2.1".parse().expect("an address"), &authority, true);
        assert_eq!((all(&passed, "connection"), all(&passed, "upgrade")), (vec!["upgrade"], vec!["websocket"]));
    }

    #[test]
    fn an_answer_is_made_one_of_ours() {
        let mut webmail = Webmail {
            entrance: Entrance::Path("/webmail/".to_owned()),
            server: ServerName { host: "old".to_owned(), port: 80 },
            tls: None,
            base: "/".to_owned(),
        };
        let mut answer = headers(&[
            ("location", "http://mail.example.net/src/"),
            ("refresh", "3; url=/src/login.php"),
            ("set-cookie", "a=b; path=/"),
            ("set-cookie", "c=d"),
            ("strict-transport-security", "max-age=9; includeSubDomains"),
            ("alt-svc", "h3=\":443\""),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("content-type", "text/html"),
        ]);
        outward(&mut answer, &webmail, "mail.example.net", Duration::ZERO);
        assert_eq!(all(&answer, "location"), ["https://mail.example.net/webmail/src/"]);
        assert_eq!(all(&answer, "refresh"), ["3; url=/webmail/src/login.php"]);
        assert_eq!(
            all(&answer, "set-cookie"),
            ["a=b; path=/webmail/; Secure; SameSite=Lax", "c=d; Secure; SameSite=Lax"]
        );
        assert_eq!(all(&answer, "content-type"), ["text/html"]);
        for name in ["strict-transport-security", "alt-svc", "connection", "content-length", "transfer-encoding"] {
            assert!(!answer.contains_key(name), "{name}");
        }
        outward(&mut answer, &webmail, "mail.example.net", Duration::from_secs(60));
        assert_eq!(all(&answer, "strict-transport-security"), ["max-age=60"]);
        // A name of its own is the webmail's to decide on, our path is not.
        let of_name = headers(&[
            ("service-worker-allowed", "/"),
            ("clear-site-data", "\"*\""),
            ("public-key-pins", "max-age=9"),
            ("nel", "{}"),
            ("report-to", "{}"),
            ("reporting-endpoints", "a=\"https://evil.example/\""),
        ]);
        let mut below = of_name.clone();
        outward(&mut below, &webmail, "mail.example.net", Duration::ZERO);
        assert!(below.is_empty(), "{below:?}");
        webmail.entrance = Entrance::Name("webmail.example.net".to_owned());
        let mut named = of_name.clone();
        outward(&mut named, &webmail, "webmail.example.net", Duration::ZERO);
        assert_eq!(named, of_name);
    }
}
