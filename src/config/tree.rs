//! YAML as a tree of bounded size, each node knowing its position among its siblings.
//!
//! The tree has no lines and columns: serde hands those out only with an error. [`place`] gets them by
//! reading the same text once more and failing on purpose at the node that is asked for.

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;

/// The most nodes. Aliases are written out in the tree, so a small text could otherwise become an endless one.
const MOST_NODES: usize = 100_000;

/// A value of the configuration file.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// Nothing, `null` or `~`.
    Null,
    /// Anything that is not one of the others.
    Scalar(Scalar),
    /// `[…]` or lines with `-`.
    List(Vec<Item>),
    /// `{…}` or lines with `key:`.
    Map(Vec<Item>),
}

/// A child of a list or mapping.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Its position among its siblings as written; it keeps it when others are taken out.
    pub(super) position: usize,
    /// Its key; empty in a list.
    pub(super) key: String,
    pub(super) value: Node,
}

/// A single value. Its type is the reader's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    /// What it says, `${…}` expanded.
    pub(super) text: String,
    /// As written, which is what a finding may show: what is expanded may be secret.
    pub(super) written: String,
    /// An unquoted `false`, which stands for `off` where a word is wanted.
    pub(super) is_false: bool,
}

/// Whether a path means an item's key or its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Key,
    Value,
}

/// What is wrong with a text that is no tree.
#[derive(Debug)]
pub(super) struct NoTree {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) message: String,
}

/// Reads a text. An empty one is `Null`.
pub(super) fn parse(text: &str) -> Result<Node, NoTree> {
    let budget = Cell::new(MOST_NODES);
    Grow(&budget).deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line().max(1), at.column().max(1)));
        NoTree { line, column, message: in_our_words(&error.to_string()) }
    })
}

/// Line and column of the node at the end of a path of positions, or of its key.
pub(super) fn place(text: &str, path: &[usize], at: At) -> (usize, usize) {
    let found = Walk { path, at }.deserialize(serde_yaml::Deserializer::from_str(text));
    found.err().and_then(|error| error.location()).map_or((1, 1), |at| (at.line(), at.column()))
}

impl Node {
    /// Takes out the item at the end of the path. The root cannot be taken out.
    pub(super) fn prune(&mut self, path: &[usize]) {
        let (Some((position, rest)), Node::List(items) | Node::Map(items)) = (path.split_first(), self) else { return };
        if rest.is_empty() {
            items.retain(|item| item.position != *position);
        } else if let Some(item) = items.iter_mut().find(|item| item.position == *position) {
            item.value.prune(rest);
        }
    }
}

/// The message without the position, which goes into the finding's place.
fn in_our_words(message: &str) -> String {
    for (theirs, ours) in [
        (TOO_MANY, TOO_MANY),
        ("repetition limit exceeded", TOO_MANY),
        ("recursion limit exceeded", "lists and mappings are nested too deep here"),
        (TAG, TAG),
        (KEY, "a key is a plain word, not a list or a mapping"),
        ("more than one document", SECOND_DOCUMENT),
    ] {
        if message.contains(theirs) {
            return ours.to_owned();
        }
    }
    let end = message.find(" at line ").unwrap_or(message.len());
    format!("this is not YAML: {}", &message[..end])
}

const TOO_MANY: &str = "there is too much in here, aliases (`*name`) counted as what they stand for: long lists belong into files (file:PATH)";
/// What is said about a file with `---` in its middle.
pub(super) const SECOND_DOCUMENT: &str = "there is a second document (`---`): a configuration is one";
const TAG: &str = "a YAML tag (`!…`) has no meaning here: quote the value if it begins with `!`";
const KEY: &str = "a plain word as the key";

struct Grow<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Grow<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let left = self.0.get();
        if left == 0 {
            return Err(D::Error::custom(TOO_MANY));
        }
        self.0.set(left - 1);
        deserializer.deserialize_any(self)
    }
}

impl Grow<'_> {
    fn scalar<E>(text: impl fmt::Display, is_false: bool) -> Result<Node, E> {
        let text = text.to_string();
        Ok(Node::Scalar(Scalar { written: text.clone(), text, is_false }))
    }
}

impl<'de> Visitor<'de> for Grow<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Self::scalar(value, !value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Self::scalar(value, false)
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Node, E> {
        Self::scalar(value, false)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Self::scalar(value, false)
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Node, E> {
        Self::scalar(value, false)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Self::scalar(value, false)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Self::scalar(value, false)
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(value) = seq.next_element_seed(Grow(self.0))? {
            items.push(Item { position: items.len(), key: String::new(), value });
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(key) = map.next_key_seed(Key)? {
            items.push(Item { position: items.len(), key, value: map.next_value_seed(Grow(self.0))? });
        }
        Ok(Node::Map(items))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(A::Error::custom(TAG))
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KEY)
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        Ok(key.to_owned())
    }
}

/// Goes to a node and fails there.
struct Walk<'a> {
    path: &'a [usize],
    at: At,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.path.is_empty() { deserializer.deserialize_any(Stop) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or a mapping")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for _ in 0..self.path[0] {
            seq.next_element::<IgnoredAny>()?;
        }
        seq.next_element_seed(Walk { path: &self.path[1..], at: self.at })?;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        for _ in 0..self.path[0] {
            map.next_entry::<IgnoredAny, IgnoredAny>()?;
        }
        if self.path.len() == 1 && self.at == At::Key {
            map.next_key_seed(Stop)?;
        }
        map.next_key::<IgnoredAny>()?;
        map.next_value_seed(Walk { path: &self.path[1..], at: self.at })
    }
}

/// Fails at whatever it is given; serde adds where that was.
struct Stop;

impl<'de> DeserializeSeed<'de> for Stop {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Stop {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_is_exact_in_block_and_flow_style() {
        let text =
            "# first\na: 1\nb:\n  - x\n  - { c: [y, z], d: {e: 5} }\n'ü': {f: !g h, i: j}\nk:\n    l: |\n      m\n";
        let cases: [(&[usize], At, (usize, usize)); 9] = [
            (&[], At::Value, (2, 1)),
            (&[0], At::Key, (2, 1)),
            (&[0], At::Value, (2, 4)),
            (&[1, 0], At::Value, (4, 5)),
            (&[1, 1, 0, 1], At::Value, (5, 14)),
            (&[1, 1, 1, 0], At::Key, (5, 22)),
            (&[1, 1, 1, 0], At::Value, (5, 25)),
            (&[2, 1], At::Value, (6, 19)),
            (&[3, 0], At::Value, (8, 8)),
        ];
        for (path, at, expected) in cases {
            assert_eq!(place(text, path, at), expected, "{path:?} {at:?}");
        }
    }

    #[test]
    fn a_small_text_cannot_become_an_endless_tree() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(9);
            bomb += &format!("a{level}: &a{level} [{before}]\n");
        }
        let wide = format!("a: &a [{}]\nb: [{}]\n", "x, ".repeat(100_000), "*a, ".repeat(100_000));
        for text in [bomb, wide, "[".repeat(100_000), "a: &a [*a, *a]".to_owned()] {
            assert!(parse(&text).is_err(), "{}", &text[..text.len().min(40)]);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r"([a-z&*!|>'%@ -]|\[|\]|\{|\}|: |- |\n|\n  |\$|#|\t|~|<<|---|\.\.\.|é){0,60}") {
            if let Ok(node) = parse(&text) {
                walk_everywhere(&text, &node, &mut Vec::new());
            }
        }
    }

    fn walk_everywhere(text: &str, node: &Node, path: &mut Vec<usize>) {
        let (line, column) = place(text, path, At::Value);
        assert!(line >= 1 && column >= 1);
        if let Node::List(items) | Node::Map(items) = node {
            for item in items {
                path.push(item.position);
                walk_everywhere(text, &item.value, path);
                place(text, path, At::Key);
                path.pop();
            }
        }
    }
}
