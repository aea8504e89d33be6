//! Values with more than one form.

use super::super::value::{OneOrMany, Server};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// A backend's servers for one protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Servers {
    /// The key is absent: `host` decides.
    #[default]
    ByHost,
    /// `null`: the protocol is not offered.
    Off,
    /// In the order they are tried.
    Given(Vec<Server>),
}

/// `all`, or a list of mechanisms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mechanisms {
    All,
    Only(Vec<String>),
}

/// A program, and what stands before the arguments of each call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Program {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrList;

        impl<'de> Visitor<'de> for WordOrList {
            type Value = Program;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a program, or a list of a program and its arguments")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Program, E> {
                Ok(Program(vec![word.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Program, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = seq.next_element()? {
                    words.push(word);
                }
                Ok(Program(words))
            }
        }

        deserializer.deserialize_any(WordOrList)
    }
}

impl Serialize for Program {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl JsonSchema for Program {
    fn schema_name() -> Cow<'static, str> {
        "Program".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
            "examples": ["/etc/gatepost-dns/hook", ["/usr/local/bin/dns", "--zone", "example.net"]]
        })
    }
}

impl<'de> Deserialize<'de> for Servers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<OneOrMany<Server>>::deserialize(deserializer)?.map_or(Self::Off, |servers| Self::Given(servers.0)))
    }
}

impl Serialize for Servers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::ByHost | Self::Off => serializer.serialize_none(),
            Self::Given(servers) => servers.serialize(serializer),
        }
    }
}

impl JsonSchema for Servers {
    fn schema_name() -> Cow<'static, str> {
        "Servers".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (one, many) = (generator.subschema_for::<Server>(), generator.subschema_for::<Vec<Server>>());
        json_schema!({"anyOf": [one, many, {"type": "null"}]})
    }
}

impl<'de> Deserialize<'de> for Mechanisms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AllOrList;

        impl<'de> Visitor<'de> for AllOrList {
            type Value = Mechanisms;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all` or a list such as [PLAIN, LOGIN]")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Mechanisms, E> {
                if word == "all" {
                    Ok(Mechanisms::All)
                } else {
                    Err(E::custom("is neither `all` nor a list such as [PLAIN, LOGIN]"))
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Mechanisms, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(Mechanisms::Only(names))
            }
        }

        deserializer.deserialize_any(AllOrList)
    }
}

impl Serialize for Mechanisms {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Only(names) => names.serialize(serializer),
        }
    }
}

impl JsonSchema for Mechanisms {
    fn schema_name() -> Cow<'static, str> {
        "Mechanisms".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"const": "all"}, {"type": "array", "items": {"type": "string"}}]})
    }
}
