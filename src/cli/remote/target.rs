//! `imaps://mail.example.net:993`: which server, which protocol, and where TLS begins.

use crate::proto::Service;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Schemes, the services they are for, whether TLS stands at the first byte, and the ports.
const SCHEMES: [(&str, Service, bool, u16); 8] = [
    ("imaps", Service::Imap, true, 993),
    ("imap", Service::Imap, false, 143),
    ("pop3s", Service::Pop3, true, 995),
    ("pop3", Service::Pop3, false, 110),
    ("smtps", Service::Submission, true, 465),
    ("submissions", Service::Submission, true, 465),
    ("submission", Service::Submission, false, 587),
    ("smtp", Service::Smtp, false, 25),
];

/// A mail server, and how TLS is come to there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Target {
    scheme: &'static str,
    /// What is spoken, and by whose rules.
    pub(in crate::cli) service: Service,
    /// TLS from the first byte; else by STARTTLS or STLS.
    pub(in crate::cli) implicit: bool,
    /// A name or an address, without brackets.
    pub(in crate::cli) host: String,
    pub(in crate::cli) port: u16,
}

impl Target {
    /// Host and port as one writes them: `mail.example.net:993`, `[2001:db8::1]:993`.
    pub(in crate::cli) fn place(&self) -> String {
        place(&self.host, self.port)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.place())
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = SCHEMES.map(|(name, ..)| format!("{name}://")).join(" ");
        let wrong = || format!("write a server as imaps://mail.example.net[:PORT]; it begins with one of {known}");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let scheme = scheme.to_ascii_lowercase();
        let &(scheme, service, implicit, usual) =
            SCHEMES.iter().find(|(name, ..)| *name == scheme).ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err("nobody logs in here: leave out what stands before the @".to_owned());
        }
        let (host, port) = split_port(rest)?;
        let port = port.unwrap_or(usual);
        crate::tls::server_name(&host).map_err(|_| {
            format!("{host:?} is no host: write a name (an international one in its xn-- form) or an address")
        })?;
        Ok(Self { scheme, service, implicit, host, port })
    }
}

/// A place that is dialled instead of a target's own: `HOST` or `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Elsewhere {
    pub(super) host: String,
    /// None: the target's.
    pub(super) port: Option<u16>,
}

impl FromStr for Elsewhere {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = split_port(text)?;
        crate::tls::server_name(&host).map_err(|_| format!("{host:?} is no host: write a name or an address"))?;
        Ok(Self { host, port })
    }
}

/// Takes `host`, `host:port`, `[address]` or `[address]:port` apart.
///
/// # Errors
/// A sentence: the port is none, or an IPv6 address lacks its brackets.
fn split_port(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, ""))) => (address, None),
        Some(Some((address, rest))) => (address, Some(rest.strip_prefix(':').ok_or_else(|| brackets(text))?)),
        Some(None) => return Err(brackets(text)),
        None if text.parse::<Ipv6Addr>().is_ok() => return Err(brackets(text)),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return Err(format!("the port in {text:?} is none: 1 to 65535")),
    };
    Ok((host.to_owned(), port))
}

/// Puts together what [`split_port`] takes apart.
pub(super) fn place(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn brackets(text: &str) -> String {
    format!("{text:?}: an IPv6 address stands in brackets, [2001:db8::1] or [2001:db8::1]:993")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_protocol_tls_host_and_port() {
        for (text, service, implicit, shown) in [
            ("imaps://mail.example.net", Service::Imap, true, "imaps://mail.example.net:993"),
            ("IMAP://mail.example.net/", Service::Imap, false, "imap://mail.example.net:143"),
            ("pop3s://192.0.2.1:1995", Service::Pop3, true, "pop3s://192.0.2.1:1995"),
            ("pop3://[2001:db8::1]", Service::Pop3, false, "pop3://[2001:db8::1]:110"),
            ("smtps://h", Service::Submission, true, "smtps://h:465"),
            ("submissions://h", Service::Submission, true, "submissions://h:465"),
            ("submission://h", Service::Submission, false, "submission://h:587"),
            ("smtp://[::1]:2525", Service::Smtp, false, "smtp://[::1]:2525"),
        ] {
            let target: Target = text.parse().expect(text);
            assert_eq!((target.service, target.implicit, target.to_string().as_str()), (service, implicit, shown));
        }
    }

    #[test]
    fn what_is_no_server_is_refused_with_what_to_write() {
        for (text, words) in [
            ("mail.example.net", "imaps://mail.example.net"),
            ("https://mail.example.net", "imaps://"),
            ("imaps://", "no host"),
            ("imaps://joe:secret@mail.example.net", "nobody logs in"),
            ("imaps://2001:db8::1", "brackets"),
            ("imaps://[2001:db8::1", "brackets"),
            ("imaps://[2001:db8::1]993", "brackets"),
            ("imaps://h:0", "1 to 65535"),
            ("imaps://h:70000", "1 to 65535"),
            ("imaps://h/INBOX", "no host"),
            ("imaps://bücher.example", "xn--"),
        ] {
            let error = text.parse::<Target>().expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
