//! Single values as the file writes them: durations, sizes, rates, addresses.
//!
//! A parser's message begins behind the text it is about: "is not a duration: …".

mod address;
mod amount;
mod collection;

pub(super) use address::{Address, Host, ListEntry, OurAddress, Server, is_host_name};
pub(super) use amount::{Quota, Size, Span};
pub(super) use collection::{Named, OneOrMany};

use crate::policy::Spoken;
use crate::proto::{Protocol, Secret};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

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

/// Something that is not looked at and must not be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hidden;

impl FromStr for Hidden {
    type Err = String;

    fn from_str(_: &str) -> Result<Self, String> {
        Ok(Self)
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
