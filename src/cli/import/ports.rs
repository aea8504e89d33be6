//! What ports mean, and what people write for durations and addresses.

use super::model::{Protocol, Service};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The service on a standard port, and whether TLS begins there with the first byte.
pub(super) fn service(port: u16) -> Option<(Service, bool)> {
    Some(match port {
        143 => (Service::Imap, false),
        993 => (Service::Imap, true),
        110 => (Service::Pop3, false),
        995 => (Service::Pop3, true),
        25 => (Service::Smtp, false),
        465 => (Service::Submission, true),
        587 => (Service::Submission, false),
        _ => return None,
    })
}

/// The port of a mail protocol without TLS, or with TLS from the first byte.
pub(super) fn standard(protocol: Protocol, implicit: bool) -> u16 {
    match (protocol, implicit) {
        (Protocol::Imap, false) => 143,
        (Protocol::Imap, true) => 993,
        (Protocol::Pop3, false) => 110,
        (Protocol::Pop3, true) => 995,
        (Protocol::Smtp, false) => 25,
        (Protocol::Smtp, true) => 465,
        (Protocol::Tcp, _) => 0,
    }
}

/// Reads where to listen: `993`, `*:993`, `192.0.2.1:993`, `[::]:993`, and with `:::993` stunnel's way to write that.
/// A name (`localhost` excepted) is none: it would have to be looked up.
pub(super) fn listen(text: &str) -> Option<SocketAddr> {
    if let Ok(port) = port(text) {
        return Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    }
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (host, written) = text.rsplit_once(':')?;
    let port = port(written).ok()?;
    Some(SocketAddr::new(address(host)?, port))
}

/// Reads an address to listen on: `*` and nothing are all of them.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    match host {
        "" | "*" => Some(Ipv4Addr::UNSPECIFIED.into()),
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        _ => host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).parse().ok(),
    }
}

/// Reads a port, by number or by the name that /etc/services has for those of mail.
pub(super) fn port(text: &str) -> Result<u16, ()> {
    Ok(match text {
        "imap" | "imap2" | "imap4" => 143,
        "imaps" | "imap4s" => 993,
        "pop3" | "pop-3" => 110,
        "pop3s" => 995,
        "smtp" | "mail" => 25,
        "submission" => 587,
        "smtps" | "ssmtp" | "submissions" | "urd" => 465,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port > 0).ok_or(())?
        }
        _ => return Err(()),
    })
}

/// Reads a server: HOST:PORT, [IPV6]:PORT, or HOST alone on this port.
pub(super) fn server(text: &str, default: Option<u16>) -> Option<super::model::Server> {
    let (host, port_written) = match text.rsplit_once(':') {
        Some((host, written)) if !host.contains(':') || host.starts_with('[') || text.parse::<IpAddr>().is_err() => {
            (host, Some(port(written).ok()?))
        }
        _ => (text, None),
    };
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if host.is_empty() || host.starts_with('-') || !(is_name || host.parse::<IpAddr>().is_ok()) {
        return None;
    }
    Some(super::model::Server { host: host.to_ascii_lowercase(), port: port_written.or(default)? })
}

/// A name that can be a gateway's: dots and labels (RFC 1123), no address, nothing that stands for several.
pub(super) fn host_name(text: &str) -> Option<String> {
    let name = text.trim_end_matches('.');
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    let good = name.contains('.') && name.len() <= 253 && name.split('.').all(fits) && !is_address;
    good.then(|| name.to_ascii_lowercase())
}

/// A duration as our configuration writes it.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis().max(1)),
        _ if seconds.is_multiple_of(86_400) => format!("{}d", seconds / 86_400),
        _ if seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        _ if seconds.is_multiple_of(60) && seconds > 60 => format!("{}min", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_listen_are_read_as_people_write_them() {
        for (text, expected) in [
            ("993", Some("0.0.0.0:993")),
            ("*:993", Some("0.0.0.0:993")),
            ("imaps", Some("0.0.0.0:993")),
            ("192.0.2.1:pop3s", Some("192.0.2.1:995")),
            ("[::]:993", Some("[::]:993")),
            (":::993", Some("[::]:993")),
            ("localhost:1143", Some("127.0.0.1:1143")),
            ("0", None),
            ("70000", None),
            ("mail.example.net:993", None),
            ("unix:/run/x", None),
        ] {
            assert_eq!(listen(text).map(|address| address.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn servers_are_names_or_addresses_with_a_port() {
        for (text, expected) in [
            ("10.0.0.5:143", Some("10.0.0.5:143")),
            ("Pop.Example.NET", Some("pop.example.net:110")),
            ("[2001:db8::5]:143", Some("[2001:db8::5]:143")),
            ("2001:db8::5", Some("[2001:db8::5]:110")),
            ("10.0.0.5:0", None),
            ("a b:1", None),
            ("", None),
            ("$backend", None),
        ] {
            assert_eq!(server(text, Some(110)).map(|server| server.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_gateway_has_a_whole_name() {
        assert_eq!(host_name("Mail.example.net.").as_deref(), Some("mail.example.net"));
        for bad in ["", "_", "localhost", "*.example.net", "10.0.0.1", "a..b", "-a.b", ".example.net"] {
            assert_eq!(host_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_written_in_the_largest_unit_that_fits() {
        for (seconds, text) in [(1, "1s"), (60, "60s"), (90, "90s"), (600, "10min"), (7200, "2h"), (86_400, "1d")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
