//! Single values as the file writes them: durations, sizes, rates, addresses.
//!
//! A parser's message begins behind the text it is about: "is not a duration: …".

use crate::policy::rate::Rate;
use crate::policy::{ServerName, Spoken};
use crate::proto::{Protocol, Secret};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// How long something takes; `0` and `off` are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

/// Octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

/// A rate; `0` and `off` are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota(pub(super) Option<Rate>);

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address(pub(super) SocketAddr);

/// `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server(pub(super) ServerName);

/// A host name or address without a port; IPv6 with or without brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host(pub(super) String);

/// An address of this host, without a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OurAddress(pub(super) IpAddr);

/// An entry of an access list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ListEntry {
    Network(ipnet::IpNet),
    File(PathBuf),
}

/// Something that is not looked at and must not be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hidden;

/// What is spoken, as routes tell it apart; submission is smtp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RouteProtocol(pub(super) Spoken<Protocol>);

impl FromStr for RouteProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "imap" => Ok(Self(Protocol::Imap.into())),
            "pop3" => Ok(Self(Protocol::Pop3.into())),
            "smtp" | "submission" => Ok(Self(Protocol::Smtp.into())),
            "tcp" => Ok(Self(Spoken::Tcp)),
            _ => Err("is not a protocol: write imap, pop3, smtp or tcp".to_owned()),
        }
    }
}

impl fmt::Display for RouteProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// A value that must not be shown.
#[derive(Debug, Clone)]
pub(super) struct SecretText(pub(super) Secret<String>);

impl FromStr for SecretText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(Secret::new(text.to_owned())))
    }
}

impl fmt::Display for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Deadlines are added to the clock, which does not reach for ever.
        const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);
        if matches!(text, "0" | "off") {
            return Ok(Self(Duration::ZERO));
        }
        if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            return Err(format!("has no unit: write {text}s, {text}min or {text}h"));
        }
        match humantime::parse_duration(text) {
            Ok(span) if span <= LONGEST => Ok(Self(span)),
            Ok(_) => Err("is longer than ten years".to_owned()),
            Err(_) => Err("is not a duration: write it like 2s, 35min, 1h or 30d".to_owned()),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (count, unit) = text.split_at(digits);
        let factor: Option<u64> = match unit.trim() {
            "" | "B" => Some(1),
            "kB" | "KB" => Some(1_000),
            "MB" => Some(1_000_000),
            "GB" => Some(1_000_000_000),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let size = count.parse::<u64>().ok().zip(factor).and_then(|(count, factor)| count.checked_mul(factor));
        size.map(Self).ok_or_else(|| "is not a size: write it like 50MiB, 10MB or 52428800".to_owned())
    }
}

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "0" | "off") {
            return Ok(Self(None));
        }
        let rate = text.parse::<Rate>().map_err(|_| match text.parse::<u32>() {
            Ok(count) => format!("has no period: write {count}/min or {count}/h, or 0 for no limit"),
            Err(_) => {
                "is not a rate: write COUNT/PERIOD like 30/min, 20/10min or 1000/day, or 0 for no limit".to_owned()
            }
        })?;
        Span::from_str(&humantime::format_duration(rate.period).to_string())?;
        Ok(Self(Some(rate)))
    }
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
pub(super) fn is_host_name(text: &str) -> bool {
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

impl FromStr for Hidden {
    type Err = String;

    fn from_str(_: &str) -> Result<Self, String> {
        Ok(Self)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let whole = self.0.subsec_nanos() == 0;
        match seconds {
            0 if whole => f.write_str("0"),
            _ if whole && seconds.is_multiple_of(86_400) => write!(f, "{}d", seconds / 86_400),
            _ if whole && seconds.is_multiple_of(3_600) => write!(f, "{}h", seconds / 3_600),
            _ if whole && seconds > 60 && seconds.is_multiple_of(60) => write!(f, "{}min", seconds / 60),
            _ if whole => write!(f, "{seconds}s"),
            _ => write!(f, "{}", humantime::format_duration(self.0)),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 && self.0.is_multiple_of(1 << 20) {
            write!(f, "{}MiB", self.0 >> 20)
        } else {
            write!(f, "{}", self.0)
        }
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Rate { count, period }) = self.0 else { return f.write_str("0") };
        match period.as_secs() {
            60 => write!(f, "{count}/min"),
            3_600 => write!(f, "{count}/h"),
            86_400 => write!(f, "{count}/day"),
            _ => write!(f, "{count}/{}", Span(period)),
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

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Reads a scalar of any YAML type as text.
struct Text<T>(&'static str, PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! text_values {
    ($($type:ident $what:literal $schema:tt)*) => { $(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text($what, PhantomData))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )* };
}

text_values! {
    Span "a duration such as 35min" {"type": ["string", "integer"], "description": "A duration: 2s, 35min, 1h, 30d; 0 for none.", "examples": ["2s", "35min", "1h", "30d"]}
    Size "a size such as 50MiB" {"type": ["string", "integer"], "description": "A size in octets: 50MiB, 10MB or a plain number.", "examples": ["50MiB"]}
    Quota "a rate such as 30/min" {"type": ["string", "integer"], "description": "COUNT/PERIOD; 0 for no limit.", "examples": ["30/min", "20/10min", "1000/day", 0]}
    Address "an address to listen on such as \"[::]:993\"" {"type": "string", "description": "An address and port to listen on. [::] takes IPv4 too.", "examples": ["[::]:993", "192.0.2.1:993"]}
    Server "HOST:PORT" {"type": "string", "description": "HOST:PORT of a server.", "examples": ["10.0.0.5:143"]}
    Host "a host name or address" {"type": "string", "description": "A host name or address without a port.", "examples": ["10.0.0.5"]}
    OurAddress "an address of this host" {"type": "string", "description": "An address of this host, without a port.", "examples": ["10.0.0.2"]}
    ListEntry "a network or file:PATH" {"type": "string", "description": "An address, a network, or file:PATH.", "examples": ["192.0.2.7", "10.0.0.0/8", "2001:db8::/32", "file:/etc/gatepost/allow"]}
    RouteProtocol "imap, pop3, smtp or tcp" {"enum": ["imap", "pop3", "smtp", "submission", "tcp"]}
    SecretText "a word" {"type": "string"}
    Hidden "a word" {"type": "string"}
}

/// One value, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

impl<'de, T: FromStr<Err = String> + Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: FromStr<Err = String> + Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(OneOrMany(vec![text.parse().map_err(E::custom)?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = seq.next_element()? {
                    all.push(one);
                }
                Ok(OneOrMany(all))
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrList", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (one, many) = (generator.subschema_for::<T>(), generator.subschema_for::<Vec<T>>());
        json_schema!({"anyOf": [one, many]})
    }
}

/// Sections by name, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping with a name for each")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Named(entries))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, section)| (name, section)))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}ByName", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let section = generator.subschema_for::<T>();
        json_schema!({"type": "object", "additionalProperties": section})
    }
}

/// An error of the operating system in its own words, without the number.
pub(super) fn io_words(error: &std::io::Error) -> String {
    let words = error.to_string();
    words.find(" (os error").map_or(words.clone(), |at| words[..at].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_people_write_them_and_print_as_they_are_read() {
        let spans = [
            ("0", "0"),
            ("off", "0"),
            ("90s", "90s"),
            ("1min", "60s"),
            ("35min", "35min"),
            ("24h", "1d"),
            ("1h", "1h"),
            ("500ms", "500ms"),
        ];
        for (text, shown) in spans {
            let span: Span = text.parse().expect(text);
            assert_eq!(span.to_string(), shown);
            assert_eq!(shown.parse(), Ok(span));
        }
        for (text, octets) in [("50MiB", 50 << 20), ("10MB", 10_000_000), ("10 KiB", 10_240), ("7", 7)] {
            assert_eq!(text.parse(), Ok(Size(octets)));
        }
        for (text, shown) in [("20/10min", "20/10min"), ("0", "0"), ("50/h", "50/h"), ("1000/day", "1000/day")] {
            assert_eq!(text.parse::<Quota>().expect(text).to_string(), shown);
        }
        for (text, shown) in [
            ("10.0.0.5:143", "10.0.0.5:143"),
            ("Mail.example:25", "mail.example:25"),
            ("[2001:DB8::5]:143", "[2001:db8::5]:143"),
        ] {
            assert_eq!(text.parse::<Server>().expect(text).to_string(), shown);
        }
        for (text, shown) in [
            ("[::1]", "::1"),
            ("::1", "::1"),
            ("10.0.0.5", "10.0.0.5"),
            ("old_host", "old_host"),
            ("::ffff:10.0.0.5", "10.0.0.5"),
        ] {
            assert_eq!(text.parse::<Host>().expect(text).to_string(), shown);
        }
    }

    #[test]
    fn a_wrong_value_says_what_to_write() {
        let cases: [(Result<(), String>, &str); 16] = [
            ("60".parse::<Span>().map(drop), "write 60s, 60min or 60h"),
            ("11years".parse::<Span>().map(drop), "longer than ten years"),
            ("soon".parse::<Span>().map(drop), "35min"),
            ("".parse::<Span>().map(drop), "35min"),
            ("50 mebibytes".parse::<Size>().map(drop), "50MiB"),
            ("99999999999GiB".parse::<Size>().map(drop), "50MiB"),
            ("600".parse::<Quota>().map(drop), "600/min"),
            ("1/900years".parse::<Quota>().map(drop), "ten years"),
            ("993".parse::<Address>().map(drop), "\"[::]:993\""),
            ("*:993".parse::<Address>().map(drop), "\"[::]:993\""),
            ("2001:db8::1:993".parse::<Address>().map(drop), "\"[2001:db8::1]:993\""),
            ("10.0.0.1".parse::<Address>().map(drop), "no port"),
            ("10.0.0.5".parse::<Server>().map(drop), "HOST:PORT"),
            ("10.0.0.5:0".parse::<Server>().map(drop), "HOST:PORT"),
            ("10.0.0.5:143".parse::<Host>().map(drop), "the host alone (10.0.0.5)"),
            ("10.0.0.256".parse::<Host>().map(drop), "neither a host name nor an address"),
        ];
        for (result, words) in cases {
            let message = result.expect_err(words);
            assert!(message.contains(words), "{message}");
        }
    }
}
