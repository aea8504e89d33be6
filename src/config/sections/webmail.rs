//! What is passed on to a webmail.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// A web server and where browsers find it: below a path, or at a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Webmail {
    /// Below which path of the page's own names, such as /webmail/.
    pub(crate) path: Option<String>,
    /// At which name, all of it; it must be on a certificate.
    pub(crate) name: Option<String>,
    /// The server: http://HOST[:PORT][/PATH/], or https:// where it knows TLS.
    pub(crate) to: Option<String>,
    /// With https://: PEM of the CA to trust there; by default the system's.
    pub(crate) ca: Option<PathBuf>,
}

/// One URL, or a list of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Webmails {
    /// It is at /webmail/.
    One(String),
    Each(Vec<Webmail>),
}

impl Default for Webmails {
    fn default() -> Self {
        Self::Each(Vec::new())
    }
}

impl<'de> Deserialize<'de> for Webmails {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrEach;

        impl<'de> Visitor<'de> for OneOrEach {
            type Value = Webmails;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("http://10.0.0.5:80/ or a list such as [{ path: /webmail/, to: \"http://10.0.0.5:80/\" }]")
            }

            fn visit_str<E: de::Error>(self, url: &str) -> Result<Webmails, E> {
                Ok(Webmails::One(url.to_owned()))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Webmails, E> {
                Ok(Webmails::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Webmails, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = seq.next_element()? {
                    all.push(one);
                }
                Ok(Webmails::Each(all))
            }
        }

        deserializer.deserialize_any(OneOrEach)
    }
}

impl Serialize for Webmails {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(url) => serializer.serialize_str(url),
            Self::Each(all) => all.serialize(serializer),
        }
    }
}

impl JsonSchema for Webmails {
    fn schema_name() -> Cow<'static, str> {
        "Webmails".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let each = generator.subschema_for::<Vec<Webmail>>();
        json_schema!({"anyOf": [{"type": "string", "examples": ["http://10.0.0.5/squirrelmail/"]}, each]})
    }
}
