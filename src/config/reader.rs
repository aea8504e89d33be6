//! From the tree to the sections, by serde: every fault at once, each with its path.
//!
//! serde stops at the first fault. [`read`] notes it, takes the node at fault out of the tree and begins
//! again, until what is left has none.

use super::finding::quoted;
use super::nearest::nearest;
use super::tree::{At, Item, Node, Scalar};
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, Unexpected, Visitor};
use std::fmt;

/// What one node has wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Positions from the root to the node.
    pub(super) path: Vec<usize>,
    pub(super) at: At,
    pub(super) message: String,
    /// The known key that a mistyped one most likely means.
    pub(super) meant: Option<&'static str>,
}

/// The most faults looked for; whoever has so many has the wrong file.
pub(super) const MOST_FAULTS: usize = 100;

/// Reads what can be read. Each fault's node is taken out of the tree.
pub(super) fn read<T: DeserializeOwned + Default>(tree: &mut Node) -> (T, Vec<Fault>) {
    let mut faults = Vec::new();
    loop {
        match T::deserialize(Reader(tree)) {
            Ok(value) => return (value, faults),
            Err(mut fault) => {
                fault.path.reverse();
                let hopeless = fault.path.is_empty() || faults.len() + 1 == MOST_FAULTS;
                tree.prune(&fault.path);
                faults.push(fault);
                if hopeless {
                    return (T::default(), faults);
                }
            }
        }
    }
}

/// Reads one node.
struct Reader<'a>(&'a Node);

impl Reader<'_> {
    /// The scalar, or why there is none.
    fn scalar(&self, expected: &dyn Expected) -> Result<&Scalar, Fault> {
        match self.0 {
            Node::Scalar(scalar) => Ok(scalar),
            other => Err(unfit(other, expected)),
        }
    }

    fn number<T: std::str::FromStr>(&self, expected: &dyn Expected) -> Result<T, Fault> {
        let scalar = self.scalar(expected)?;
        scalar.text.parse().map_err(|_| {
            let range = match scalar.text.parse::<i128>() {
                Ok(_) => " in range",
                Err(_) => "",
            };
            Fault::new(format!("{} is not a whole number{range}", quoted(&scalar.written)))
        })
    }
}

fn unfit(node: &Node, expected: &dyn Expected) -> Fault {
    let expected = in_our_words(expected);
    Fault::new(match node {
        Node::Null => format!("nothing stands here: write {expected}, or leave the key out"),
        Node::Scalar(scalar) => format!("{} is not {expected}", quoted(&scalar.written)),
        Node::List(_) => format!("a list stands here: write {expected}"),
        Node::Map(_) => format!("a mapping stands here: write {expected}"),
    })
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty;)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let number = self.number::<$type>(&visitor)?;
            visitor.$visit(number)
        }
    )* };
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Node::Null => visitor.visit_unit(),
            Node::Scalar(_) => self.deserialize_str(visitor),
            Node::List(_) => self.deserialize_seq(visitor),
            Node::Map(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.scalar(&visitor)?.text.as_str() {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(unfit(self.0, &"true or false")),
        }
    }

    numbers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_f32 visit_f32 f32;
        deserialize_f64 visit_f64 f64;
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let scalar = self.scalar(&visitor)?;
        // A value's own words say what is wrong; the text is put before them here, as it was written.
        visitor.visit_str(scalar.word()).map_err(|fault: Fault| fault.about(scalar))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Node::List(items) => visitor.visit_seq(Items { items: items.iter(), value: None }),
            other => Err(unfit(other, &"a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Node::Map(items) => visitor.visit_map(Items { items: items.iter(), value: None }),
            other => Err(unfit(other, &"a mapping with `key: value`")),
        }
    }

    /// A section whose keys are all commented out is one without keys.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0 {
            Node::Null => visitor.visit_map(Items { items: [].iter(), value: None }),
            _ => self.deserialize_map(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let scalar = self.scalar(&format_args!("{}", OneOf(words)).to_string().as_str())?;
        let word: StrDeserializer<'_, Fault> = scalar.word().into_deserializer();
        visitor.visit_enum(word).map_err(|fault: Fault| fault.about(scalar))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { char string bytes byte_buf unit_struct tuple tuple_struct identifier }
}

/// The children of a list or a mapping.
struct Items<'a> {
    items: std::slice::Iter<'a, Item>,
    value: Option<&'a Item>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(item) = self.items.next() else { return Ok(None) };
        seed.deserialize(Reader(&item.value)).map(Some).map_err(|fault| fault.inside(item))
    }
}

impl<'de> de::MapAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.value = self.items.next();
        let Some(item) = self.value else { return Ok(None) };
        let key: StrDeserializer<'_, Fault> = item.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|fault| Fault { at: At::Key, ..fault.inside(item) })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let item = self.value.take().expect("serde asks for a value only behind a key");
        seed.deserialize(Reader(&item.value)).map_err(|fault| fault.inside(item))
    }
}

impl Fault {
    pub(super) fn new(message: String) -> Self {
        Self { path: Vec::new(), at: At::Value, message, meant: None }
    }

    /// Adds a step at the path's root end; the path is turned round once it is whole.
    fn inside(mut self, item: &Item) -> Self {
        self.path.push(item.position);
        self
    }

    /// Puts the text a value's parser did not like before its words.
    fn about(mut self, scalar: &Scalar) -> Self {
        self.message = format!("{} {}", quoted(&scalar.written), self.message);
        self
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    /// Only for a scalar, where [`Fault::about`] puts its text first, or a list or mapping.
    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = in_our_words(expected);
        Self::new(match unexpected {
            Unexpected::Seq => format!("a list stands here: write {expected}"),
            Unexpected::Map => format!("a mapping stands here: write {expected}"),
            Unexpected::Unit => format!("nothing stands here: write {expected}, or leave the key out"),
            _ => format!("is not {expected}"),
        })
    }

    fn unknown_variant(word: &str, words: &'static [&'static str]) -> Self {
        let choice = OneOf(words);
        Self::new(match nearest(word, words.iter().copied()) {
            Some(near) => format!("is not known here: `{near}` is meant? It is one of {choice}"),
            None => format!("is not known here: write {choice}"),
        })
    }

    fn unknown_field(key: &str, keys: &'static [&'static str]) -> Self {
        let meant = nearest(key, keys.iter().copied());
        let message = match meant {
            _ if key == "<<" => "merge keys (`<<`) are not taken: write the keys out".to_owned(),
            Some(near) => format!("{} is not a key here: `{near}` is meant?", quoted(key)),
            None => format!("{} is not a key here: there are {}", quoted(key), keys.join(", ")),
        };
        Self { meant, ..Self::new(message) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// What serde's own types say they expect, as somebody who writes a configuration would say it.
fn in_our_words(expected: &dyn Expected) -> String {
    match expected.to_string().as_str() {
        "a string" => "one value".to_owned(),
        "path string" => "a path".to_owned(),
        "a sequence" => "a list".to_owned(),
        other => other.to_owned(),
    }
}

/// `a, b or c`.
struct OneOf(&'static [&'static str]);

impl fmt::Display for OneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            [only] => f.write_str(only),
            [first @ .., last] => write!(f, "{} or {last}", first.join(", ")),
        }
    }
}
