//! What stands in a command, read from left to right (the grammar of RFC 3501 section 9).

use bytes::{Buf, Bytes};

/// A command that is not in the grammar; the text says what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadSyntax(pub(super) &'static str);

/// Parts of a command. A literal stands in it as it came: `{3}`, CRLF, three octets.
#[derive(Debug, Clone)]
pub(super) struct Cursor(Bytes);

impl Cursor {
    pub(super) fn new(command: Bytes) -> Self {
        Self(command)
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Whether nothing is left.
    pub(super) fn at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn end(&self) -> Result<(), BadSyntax> {
        if self.at_end() { Ok(()) } else { Err(BadSyntax("something is too much at the end")) }
    }

    /// Takes `octet` if it comes next.
    pub(super) fn take(&mut self, octet: u8) -> bool {
        let next = self.peek() == Some(octet);
        if next {
            self.0.advance(1);
        }
        next
    }

    pub(super) fn expect(&mut self, octet: u8, name: &'static str) -> Result<(), BadSyntax> {
        if self.take(octet) { Ok(()) } else { Err(BadSyntax(name)) }
    }

    /// The space between two arguments; some clients send several.
    pub(super) fn space(&mut self) -> Result<(), BadSyntax> {
        self.expect(b' ', "a space is missing")?;
        while self.take(b' ') {}
        Ok(())
    }

    /// As many octets as `wanted` accepts.
    pub(super) fn run(&mut self, wanted: impl Fn(u8) -> bool) -> Bytes {
        let length = self.0.iter().position(|&b| !wanted(b)).unwrap_or(self.0.len());
        self.0.split_to(length)
    }

    /// A word of the protocol, in capitals.
    pub(super) fn word(&mut self) -> Result<String, BadSyntax> {
        let word = self.run(|b| is_atom(b) && b != b'[');
        if word.is_empty() { Err(BadSyntax("a word is missing")) } else { Ok(upper(&word)) }
    }

    pub(super) fn number(&mut self) -> Result<u32, BadSyntax> {
        let digits = self.run(|b| b.is_ascii_digit());
        let text = std::str::from_utf8(&digits).unwrap_or_default();
        text.parse().map_err(|_| BadSyntax("a number is missing or too large"))
    }

    /// An atom, a quoted string or a literal. `]` may stand in an atom here.
    pub(super) fn astring(&mut self) -> Result<Bytes, BadSyntax> {
        self.string_or(is_atom)
    }

    /// The same, with the wildcards of LIST.
    pub(super) fn list_mailbox(&mut self) -> Result<Bytes, BadSyntax> {
        self.string_or(|b| is_atom(b) || b == b'%' || b == b'*')
    }

    /// A folder's name.
    pub(super) fn mailbox(&mut self) -> Result<String, BadSyntax> {
        Ok(String::from_utf8_lossy(&self.astring()?).into_owned())
    }

    /// `(a b c)`, each read by `item`; may be empty.
    pub(super) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, BadSyntax>,
    ) -> Result<Vec<T>, BadSyntax> {
        self.expect(b'(', "a ( is missing")?;
        let mut items = Vec::new();
        while !self.take(b')') {
            if !items.is_empty() {
                self.space()?;
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// A flag, or a keyword of at most 64 octets.
    pub(super) fn flag(&mut self) -> Result<String, BadSyntax> {
        let system = self.take(b'\\');
        let name = self.run(is_atom);
        if name.is_empty() || name.len() > 64 {
            return Err(BadSyntax("that is no flag"));
        }
        let name = String::from_utf8_lossy(&name).into_owned();
        Ok(if system { format!("\\{name}") } else { name })
    }

    /// `1:4,7,9:*`
    pub(super) fn sequence_set(&mut self) -> Result<SequenceSet, BadSyntax> {
        let mut ranges = Vec::new();
        loop {
            let first = self.sequence_number()?;
            let last = if self.take(b':') { self.sequence_number()? } else { first };
            ranges.push((first, last));
            if !self.take(b',') {
                return Ok(SequenceSet(ranges));
            }
        }
    }

    fn sequence_number(&mut self) -> Result<Position, BadSyntax> {
        if self.take(b'*') {
            return Ok(Position::Last);
        }
        match self.number()? {
            0 => Err(BadSyntax("messages count from 1")),
            number => Ok(Position::Number(number)),
        }
    }

    fn string_or(&mut self, wanted: impl Fn(u8) -> bool) -> Result<Bytes, BadSyntax> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal(),
            _ => match self.run(wanted) {
                atom if atom.is_empty() => Err(BadSyntax("an argument is missing")),
                atom => Ok(atom),
            },
        }
    }

    fn quoted(&mut self) -> Result<Bytes, BadSyntax> {
        const UNENDED: BadSyntax = BadSyntax("a closing quote is missing");
        self.expect(b'"', "a quote is missing")?;
        let mut text = Vec::new();
        loop {
            text.extend_from_slice(&self.run(|b| !matches!(b, b'"' | b'\\' | b'\r' | b'\n' | 0)));
            match self.peek().ok_or(UNENDED)? {
                b'"' => {
                    self.0.advance(1);
                    return Ok(text.into());
                }
                b'\\' if self.0.len() > 1 => {
                    text.push(self.0[1]);
                    self.0.advance(2);
                }
                _ => return Err(UNENDED),
            }
        }
    }

    /// A literal; the command's reader has seen to it that it is whole.
    pub(super) fn literal(&mut self) -> Result<Bytes, BadSyntax> {
        const BROKEN: BadSyntax = BadSyntax("a literal is missing");
        self.expect(b'{', "a literal is missing")?;
        let size = usize::try_from(self.number()?).map_err(|_| BROKEN)?;
        self.take(b'+');
        self.expect(b'}', "a } is missing")?;
        self.expect(b'\r', "a line end is missing")?;
        self.expect(b'\n', "a line end is missing")?;
        if self.0.len() < size {
            return Err(BROKEN);
        }
        Ok(self.0.split_to(size))
    }
}

/// Messages by number, as the client wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SequenceSet(Vec<(Position, Position)>);

/// A number, or `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Number(u32),
    Last,
}

impl SequenceSet {
    /// The ranges with `*` resolved, in ascending order and without overlap.
    pub(super) fn ranges(&self, last: u32) -> Vec<(u32, u32)> {
        let place = |position| match position {
            Position::Number(number) => number,
            Position::Last => last,
        };
        let mut ranges: Vec<_> =
            self.0.iter().map(|&(a, b)| (place(a).min(place(b)), place(a).max(place(b)))).collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let overlap = next.0 <= kept.1.saturating_add(1);
            if overlap {
                kept.1 = kept.1.max(next.1);
            }
            overlap
        });
        ranges
    }
}

/// Whether a number is in ranges as [`SequenceSet::ranges`] gives them.
pub(super) fn contains(ranges: &[(u32, u32)], number: u32) -> bool {
    let behind = ranges.partition_point(|range| range.0 <= number);
    behind.checked_sub(1).is_some_and(|at| number <= ranges[at].1)
}

/// Text as a quoted string, or as a literal where it cannot be one.
pub(super) fn string(text: &[u8]) -> Vec<u8> {
    if text.len() > 1024 || text.iter().any(|&b| !(b' '..=b'~').contains(&b)) {
        return [format!("{{{}}}\r\n", text.len()).as_bytes(), text].concat();
    }
    let mut quoted = vec![b'"'];
    for &octet in text {
        if matches!(octet, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(octet);
    }
    quoted.push(b'"');
    quoted
}

pub(super) fn upper(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).to_ascii_uppercase()
}

fn is_atom(octet: u8) -> bool {
    octet > b' ' && octet < 0x7f && !matches!(octet, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn over(text: &str) -> Cursor {
        Cursor::new(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn an_argument_may_be_written_in_three_ways() {
        for (text, value) in
            [("joe@x", "joe@x"), (r#""a \"b\" \\""#, r#"a "b" \"#), ("{3}\r\na\r\n", "a\r\n"), ("{0+}\r\n", "")]
        {
            let mut cursor = over(text);
            assert_eq!(cursor.astring().unwrap(), value.as_bytes(), "{text}");
            assert_eq!(cursor.end(), Ok(()), "{text}");
        }
        for bad in ["", "(", "\"open", "\"open\\", "{4}\r\nabc", "{99999999999}\r\n", "{-1}\r\n"] {
            assert!(over(bad).astring().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_set_is_ordered_merged_and_knows_the_last() {
        let cases = [
            ("1", 9, vec![(1, 1)]),
            ("4:2,1", 9, vec![(1, 4)]),
            ("*", 9, vec![(9, 9)]),
            ("12:*", 9, vec![(9, 12)]),
            ("7,1:3,2:5", 9, vec![(1, 5), (7, 7)]),
        ];
        for (text, last, ranges) in cases {
            assert_eq!(over(text).sequence_set().unwrap().ranges(last), ranges, "{text}");
        }
        for bad in ["", "0", "1:", ",1", "4294967296", "a"] {
            assert!(over(bad).sequence_set().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_as_a_string_is_read_as_the_same(text: Vec<u8>) {
            let mut cursor = Cursor::new(string(&text).into());
            prop_assert_eq!(cursor.astring().unwrap(), text);
            prop_assert!(cursor.at_end());
        }

        #[test]
        fn membership_is_what_the_ranges_say(pairs in prop::collection::vec((1u32..40, 1u32..40), 1..6), n in 1u32..50) {
            let text: Vec<_> = pairs.iter().map(|(a, b)| format!("{a}:{b}")).collect();
            let ranges = over(&text.join(",")).sequence_set().unwrap().ranges(9);
            let plain = pairs.iter().any(|&(a, b)| (a.min(b)..=a.max(b)).contains(&n));
            prop_assert_eq!(contains(&ranges, n), plain);
        }
    }
}
