//! Where something is: addresses, servers, networks.

use crate::policy::ServerName;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Address(pub(in crate::config) SocketAddr);

/// `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Server(pub(in crate::config) ServerName);

/// A host name or address without a port; IPv6 with or without brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Host(pub(in crate::config) String);

/// An address of this host, without a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct OurAddress(pub(in crate::config) IpAddr);

/// An entry of an access list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) enum ListEntry {
    Network(ipnet::IpNet),
    File(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self(SocketAddr::new(address.ip().to_canonical(), address.port())));
        }
        let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        Err(match (text.rsplit_once(':'), port) {
            (None | Some(("" | "*", _)), Some(port)) => {
                format!("is not an address to listen on: write \"[::]:{port}\"")
            }
            (Some((host, _)), Some(port)) if host.parse::<Ipv6Addr>().is_ok() => {
                format!("is not an address to listen on: write \"[{host}]:{port}\"")
            }
            _ if text.parse::<IpAddr>().is_ok() => {
                "has no port: write it like 192.0.2.1:993 or \"[::]:993\"".to_owned()
            }
            _ => "is not an address to listen on: write it like \"[::]:993\" or 192.0.2.1:993".to_owned(),
        })
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "is not HOST:PORT: write it like 10.0.0.5:143, mail.example.net:143 or \"[2001:db8::5]:143\"".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(wrong());
        }
        let Host(host) = host.parse().map_err(|_| wrong())?;
        Ok(Self(ServerName { host, port }))
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        match bare.unwrap_or(text).parse::<IpAddr>() {
            Ok(address) if bare.is_none() || address.is_ipv6() => return Ok(Self(address.to_canonical().to_string())),
            _ => {}
        }
        match text.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => Err(format!(
                "has a port: write the host alone ({host}), and other than standard ports under imap, pop3 and smtp"
            )),
            _ if is_host_name(text) => Ok(Self(text.to_ascii_lowercase())),
            _ => Err("is neither a host name nor an address".to_owned()),
        }
    }
}

impl FromStr for OurAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        match bare.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() => {
                Err("is every address of this host: write one of them, or leave the key out".to_owned())
            }
            Ok(address) => Ok(Self(address.to_canonical())),
            Err(_) => Err("is not an address: write one of this host's, such as 10.0.0.2, without a port".to_owned()),
        }
    }
}

/// Letters, digits, hyphens and underscores between dots (RFC 1123, and what old networks have in their hosts files).
pub(in crate::config) fn is_host_name(text: &str) -> bool {
    let labels: Vec<&str> = text.split('.').collect();
    let label_fits = |label: &&str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits alone is an address gone wrong, such as 10.0.0.256.
    let names_something = labels.last().is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && labels.iter().all(label_fits) && names_something
}

impl FromStr for ListEntry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("file:") {
            Some("") => Err("names no file: write file:PATH".to_owned()),
            Some(path) => Ok(Self::File(path.into())),
            None => match crate::policy::access::parse_network(text) {
                Some(network) => Ok(Self::Network(network)),
                None if text.starts_with('/') => {
                    Err(format!("is neither an address nor a network: for a file write file:{text}"))
                }
                None => Err(
                    "is neither an address nor a network: write 192.0.2.7, 10.0.0.0/8, \"2001:db8::/32\" or file:PATH"
                        .to_owned(),
                ),
            },
        }
    }
}

impl fmt::Display for ListEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for OurAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
