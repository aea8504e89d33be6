//! The message behind DATA, as it streams through: where it ends, and what in it is not let through.
//!
//! A message ends at CRLF.CRLF and nowhere else (RFC 5321 section 4.1.1.4). Servers exist that also end one at LF.LF,
//! LF.CRLF, CR.CR and the like; a message that holds one of these is one message to its sender and two to such a
//! server, the second with an envelope nobody checked (SMTP smuggling: CVE-2023-51764, -51765, -51766). So no CR or LF
//! goes to a backend alone, and no NUL at all, which a message must not hold (RFC 5322 section 2.2 has 1 to 127, RFC
//! 6532 adds UTF-8): a server that drops it, or ends a string at it, reads a lone dot in `.` NUL CRLF.
//!
//! ```text
//!            ┌──────────── CRLF ────────────┐
//!            ↓                              │
//!   begin → Start ── any other byte ──────→ Text ── a bare CR or LF: refused,
//!            │                              ↑       or → Made, written as CRLF
//!            ├─ ".CRLF": the end            │             │
//!            └─ ".", doubled where a bare   │             │ any byte, a dot doubled
//!               CR or LF follows ───────────┴─────────────┘
//!   everywhere: NUL: refused
//! ```
//!
//! What cannot be decided yet (a CR, a dot at the beginning of a line, the two together) stays in the input.

use bytes::{Buf, BytesMut};
use memchr::memchr3;

/// What is done with a CR or LF that stands alone in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BareNewline {
    /// The message is refused.
    Reject,
    /// It is made CRLF, and a dot that comes to stand at the beginning of a line by that is doubled.
    Normalize,
}

/// What became of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The message goes on; at most two bytes are left in the input.
    More,
    /// The message ended; what is left in the input stands behind it.
    End,
    /// A bare CR or LF under [`BareNewline::Reject`]. From here on the message is dropped; ask again.
    Bare,
    /// A NUL, whatever the rule for newlines. From here on the message is dropped; ask again.
    Nul,
    /// More octets than the bound. From here on the message is dropped; ask again.
    TooLarge,
}

/// The end of a message, behind a line's.
const END: &[u8] = b".\r\n";

/// Follows one message from the 354 to its end.
#[derive(Debug)]
pub struct DataScanner {
    /// Where the input's first byte stands.
    place: Place,
    rule: Rule,
    size: u64,
    max: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Made,
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Keep(BareNewline),
    /// The message was refused: it is read up to its end and goes nowhere.
    Drop,
}

impl DataScanner {
    /// A message of at most `max` octets; 0 for no bound.
    pub fn new(bare_newline: BareNewline, max: u64) -> Self {
        let max = if max == 0 { u64::MAX } else { max };
        Self { place: Place::Start, rule: Rule::Keep(bare_newline), size: 0, max }
    }

    /// Octets of the message that went out, its line ends counted and the dots of the transport not (RFC 1870
    /// section 3).
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Lets nothing more of the message out.
    pub fn drop_rest(&mut self) {
        self.rule = Rule::Drop;
    }

    /// Moves what is decided from `input` to `out`, up to and with the final dot. The final dot goes out only behind
    /// a message that was let out whole.
    pub fn scan(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Scan {
        // Bytes before `at` are decided and pass as they are; `place` is the place of the byte at `at`.
        let (mut at, mut place, mut dots) = (0, self.place, 0);
        let end = loop {
            if place == Place::Text {
                match memchr3(b'\r', b'\n', 0, &input[at..]) {
                    Some(next) => at += next,
                    None => at = input.len(),
                }
            }
            match (place, &input[at..]) {
                (Place::Start, [b'.', b'\r', b'\n', ..]) => break true,
                (Place::Start, [b'.'] | [b'.', b'\r']) | (_, [] | [b'\r']) => break false,
                (_, [b'\r', b'\n', ..]) => {
                    at += 2;
                    place = Place::Start;
                }
                (_, [byte @ (b'\r' | b'\n' | 0), ..]) => match (self.rule, *byte) {
                    (Rule::Drop, _) => {
                        at += 1;
                        place = Place::Text;
                    }
                    (Rule::Keep(BareNewline::Reject), _) | (_, 0) => {
                        let scan = if *byte == 0 { Scan::Nul } else { Scan::Bare };
                        if !self.pass(input, at, dots, out) {
                            return Scan::TooLarge;
                        }
                        (self.place, self.rule) = (place, Rule::Drop);
                        return scan;
                    }
                    (Rule::Keep(BareNewline::Normalize), _) => {
                        if !self.pass(input, at, dots, out) {
                            return Scan::TooLarge;
                        }
                        input.advance(1);
                        out.extend_from_slice(b"\r\n");
                        self.size += 2;
                        self.place = Place::Made;
                        (at, place, dots) = (0, Place::Made, 0);
                    }
                },
                // Behind CRLF a lone dot with a bare newline is a line of its own; behind a newline that was bare the
                // sender had no reason to double the dot. Either way the backend must not take it for the end.
                (Place::Start, [b'.', b'\r' | b'\n', ..]) | (Place::Made, [b'.', ..])
                    if self.rule == Rule::Keep(BareNewline::Normalize) =>
                {
                    if !self.pass(input, at, dots, out) {
                        return Scan::TooLarge;
                    }
                    out.extend_from_slice(b".");
                    self.place = Place::Text;
                    (at, place, dots) = (1, Place::Text, 0);
                }
                (Place::Start, [b'.', ..]) => {
                    at += 1;
                    dots += 1;
                    place = Place::Text;
                }
                _ => {
                    at += 1;
                    place = Place::Text;
                }
            }
        };
        if end && at + END.len() == input.len() && out.is_empty() && self.fits(at, dots) {
            // The end as it stands there goes with the rest.
            std::mem::swap(input, out);
            self.place = place;
            return Scan::End;
        }
        if !self.pass(input, at, dots, out) {
            return Scan::TooLarge;
        }
        self.place = place;
        if !end {
            return Scan::More;
        }
        input.advance(END.len());
        if self.rule != Rule::Drop {
            out.extend_from_slice(END);
        }
        Scan::End
    }

    /// Lets `count` bytes out, of which `dots` are the transport's; `false`, and nothing done, if the message is too
    /// large with them. A whole input changes places with an empty `out`: most of a large message is never copied.
    fn pass(&mut self, input: &mut BytesMut, count: usize, dots: u64, out: &mut BytesMut) -> bool {
        if self.rule == Rule::Drop {
            input.advance(count);
            return true;
        }
        if !self.fits(count, dots) {
            self.rule = Rule::Drop;
            return false;
        }
        if count == input.len() && out.is_empty() {
            std::mem::swap(input, out);
        } else {
            out.extend_from_slice(&input[..count]);
            input.advance(count);
        }
        true
    }

    /// Counts what is let out, if the message is not too large with it and is let out at all.
    fn fits(&mut self, count: usize, dots: u64) -> bool {
        let size = self.size + count as u64 - dots;
        let fits = self.rule != Rule::Drop && size <= self.max;
        if fits {
            self.size = size;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What went out, what is left, and what was said besides `More`.
    fn scan(rule: BareNewline, max: u64, pieces: &[&[u8]]) -> (String, String, Vec<Scan>) {
        let mut scanner = DataScanner::new(rule, max);
        let (mut input, mut out, mut said) = (BytesMut::new(), BytesMut::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            while said.last() != Some(&Scan::End) {
                match scanner.scan(&mut input, &mut out) {
                    Scan::More => break,
                    scan => said.push(scan),
                }
            }
            assert!(said.last() == Some(&Scan::End) || input.len() <= 2, "{input:?}");
        }
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        (text(&out), text(&input), said)
    }

    #[test]
    fn a_legal_message_passes_byte_for_byte_and_ends_at_its_dot() {
        let long = "x".repeat(5000);
        for message in ["", "\r\n", "a\r\n", "..\r\n", "..a\r\n\r\n..\r\n", "a\u{e9}\r\n", "\r\n\r\n.a.\r\n", &long] {
            let end = if message.is_empty() || message.ends_with("\r\n") { ".\r\n" } else { "\r\n.\r\n" };
            let wire = format!("{message}{end}");
            for rule in [BareNewline::Reject, BareNewline::Normalize] {
                let (out, left, said) = scan(rule, 0, &[wire.as_bytes(), b"NOOP\r\n"]);
                assert_eq!((out, said), (wire.as_bytes().escape_ascii().to_string(), vec![Scan::End]));
                assert_eq!(left, "NOOP\\r\\n");
            }
        }
    }

    #[test]
    fn a_bare_newline_stops_the_message_and_its_end_is_still_found() {
        for bare in
            ["\n", "\r", "\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r", "\r\r\n.\r\r\n", "\n\n", "\r\n\n.\r\n"]
        {
            let wire = format!("a{bare}MAIL FROM:<>\r\n.\r\nNOOP\r\n");
            let (out, left, said) = scan(BareNewline::Reject, 0, &[wire.as_bytes()]);
            assert_eq!((left.as_str(), said), ("NOOP\\r\\n", vec![Scan::Bare, Scan::End]), "{bare:?}");
            assert!(!out.contains("MAIL") && !out.contains(".\\r\\n"), "{out}");
        }
    }

    #[test]
    fn a_nul_stops_the_message_under_either_rule_and_its_end_is_still_found() {
        for nul in ["\0", "\r\n.\0\r\n", "\r\n\0.\r\n", "\r\n..\0\r\n", "\0\0"] {
            let wire = format!("a{nul}MAIL FROM:<>\r\n.\r\nNOOP\r\n");
            for rule in [BareNewline::Reject, BareNewline::Normalize] {
                let (out, left, said) = scan(rule, 0, &[wire.as_bytes()]);
                assert_eq!((left.as_str(), said), ("NOOP\\r\\n", vec![Scan::Nul, Scan::End]), "{nul:?}");
                assert!(!out.contains("MAIL") && !out.contains("\\x00") && !out.contains(".\\r\\n"), "{out}");
            }
        }
    }

    #[test]
    fn a_bare_newline_is_made_whole_without_making_an_end() {
        for (wire, expected) in [
            ("a\nb\r\n.\r\n", "a\r\nb\r\n.\r\n"),
            ("a\rb\r\n.\r\n", "a\r\nb\r\n.\r\n"),
            ("a\n.\nb\r\n.\r\n", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\n.\r\nb\r\n.\r\n", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r.\rb\r\n.\r\n", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r\n.\nb\r\n.\r\n", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r\n.\rb\r\n.\r\n", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r\n.\r\r\nb\r\n.\r\n", "a\r\n..\r\n\r\nb\r\n.\r\n"),
            ("a\n.b\r\n.\r\n", "a\r\n..b\r\n.\r\n"),
            ("a\r\r\n.\r\n", "a\r\n\r\n.\r\n"),
            ("\n.\r\n.\r\n", "\r\n..\r\n.\r\n"),
            (".\n.\r\n.\r\n", "..\r\n..\r\n.\r\n"),
        ] {
            let (out, _, said) = scan(BareNewline::Normalize, 0, &[wire.as_bytes()]);
            assert_eq!((out, said), (expected.as_bytes().escape_ascii().to_string(), vec![Scan::End]), "{wire:?}");
        }
    }

    #[test]
    fn a_message_past_the_bound_is_never_ended() {
        let fits = scan(BareNewline::Reject, 6, &[b"..ab\r\n", b"\r\n.\r\n"]);
        assert_eq!(fits.2, [Scan::TooLarge, Scan::End]);
        assert_eq!(fits.0, "..ab\\r\\n");
        for size in [5, 7] {
            let said = scan(BareNewline::Reject, size, &[b"..ab\r\n\r\n.\r\n"]).2;
            assert_eq!(
                said.len(),
                if size < 7 { 2 } else { 1 },
                "three letters and two line ends: a doubled dot is not counted"
            );
        }
    }

    #[test]
    fn a_whole_input_changes_places_with_an_empty_output() {
        let mut input = BytesMut::from(&[b'x'; 4096][..]);
        let (address, mut out) = (input.as_ptr(), BytesMut::new());
        DataScanner::new(BareNewline::Reject, 0).scan(&mut input, &mut out);
        assert_eq!(out.as_ptr(), address);
    }

    /// The end of a message by the plain definition: behind the first CRLF.CRLF, the first CRLF being DATA's own.
    fn end_of(message: &[u8]) -> Option<usize> {
        let whole = [b"\r\n", message].concat();
        memchr::memmem::find(&whole, b"\r\n.\r\n").map(|at| at + 3)
    }

    /// The first bare CR or LF by the plain definition.
    fn first_bare(message: &[u8]) -> Option<usize> {
        (0..message.len()).find(|&at| match message[at] {
            b'\r' => message.get(at + 1) != Some(&b'\n'),
            b'\n' => at == 0 || message[at - 1] != b'\r',
            _ => false,
        })
    }

    /// Why a message is refused, by the plain definition: for what comes first.
    fn refused_for(rule: BareNewline, message: &[u8]) -> Option<Scan> {
        let bare = first_bare(message).filter(|_| rule == BareNewline::Reject);
        let nul = message.iter().position(|&byte| byte == 0);
        match (bare, nul) {
            (None, None) => None,
            (Some(bare), nul) if nul.is_none_or(|nul| bare < nul) => Some(Scan::Bare),
            _ => Some(Scan::Nul),
        }
    }

    /// What a backend reads: the first message's lines with their dots undone, and whether bytes are left. `sloppy`
    /// takes any of CRLF, LF, CR for a line end.
    fn read_by_backend(wire: &[u8], sloppy: bool) -> Option<(Vec<Vec<u8>>, bool)> {
        let (mut lines, mut line, mut at) = (Vec::new(), Vec::new(), 0);
        while at < wire.len() {
            let width = match &wire[at..] {
                [b'\r', b'\n', ..] => 2,
                [b'\r' | b'\n', ..] if sloppy => 1,
                _ => 0,
            };
            if width == 0 {
                line.push(wire[at]);
                at += 1;
                continue;
            }
            at += width;
            if line == b"." {
                return Some((lines, at < wire.len()));
            }
            lines.push(line.strip_prefix(b".").unwrap_or(&line).to_vec());
            line.clear();
        }
        None
    }

    fn message() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(&b"\r"[..]),
            Just(&b"\n"[..]),
            Just(&b"."[..]),
            Just(&b"a"[..]),
            Just(&b"\0"[..]),
            Just(&b"\r\n"[..]),
            Just(&b"\r\n.\r\n"[..]),
            Just(&b"\n.\r\n"[..]),
            Just(&b"\r\n.\0\r\n"[..]),
        ];
        proptest::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
    }

    fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let (mut pieces, mut rest, mut cuts) = (Vec::new(), bytes, cuts.iter());
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(cuts.next().copied().unwrap_or(1).min(rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        pieces
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_end_is_where_the_definition_has_it(wire in message()) {
            for rule in [BareNewline::Reject, BareNewline::Normalize] {
                let (out, left, said) = scan(rule, 0, &[&wire]);
                let end = end_of(&wire);
                prop_assert_eq!(said.last() == Some(&Scan::End), end.is_some());
                if let Some(end) = end {
                    prop_assert_eq!(left, wire[end..].escape_ascii().to_string());
                    let refused = refused_for(rule, &wire[..end]);
                    prop_assert_eq!(said, refused.into_iter().chain([Scan::End]).collect::<Vec<_>>());
                    if refused.is_none() && first_bare(&wire[..end]).is_none() {
                        prop_assert_eq!(out, wire[..end].escape_ascii().to_string());
                    }
                }
            }
        }

        #[test]
        fn no_message_becomes_two_at_any_backend(wire in message()) {
            for (rule, sloppy) in [
                (BareNewline::Reject, true), (BareNewline::Reject, false), (BareNewline::Normalize, true), (BareNewline::Normalize, false),
            ] {
                let mut scanner = DataScanner::new(rule, 0);
                let (mut input, mut out) = (BytesMut::from(&wire[..]), BytesMut::new());
                let mut said = vec![scanner.scan(&mut input, &mut out)];
                while !matches!(said.last(), Some(Scan::More | Scan::End)) {
                    said.push(scanner.scan(&mut input, &mut out));
                }
                let read = read_by_backend(&out, sloppy);
                let ended = said == [Scan::End];
                prop_assert_eq!(read.is_some(), ended, "{:?} {:?}", said, out);
                prop_assert!(!read.is_some_and(|(_, more)| more), "a second message in {:?}", out);
                prop_assert!(first_bare(&out).is_none());
                prop_assert!(!out.contains(&0), "dropped or taken for an end, a NUL makes another message of it");
            }
        }

        #[test]
        fn any_split_gives_the_same_bytes(wire in message(), cuts in proptest::collection::vec(1usize..6, 0..20), max in 0u64..30) {
            for rule in [BareNewline::Reject, BareNewline::Normalize] {
                let (whole, split) = (scan(rule, max, &[&wire]), scan(rule, max, &cut(&wire, &cuts)));
                prop_assert_eq!(&whole.2, &split.2);
                prop_assert_eq!(&whole.1, &split.1);
                // What was let out before a refusal depends on how much had come: it never ends a message.
                if !whole.2.iter().any(|scan| matches!(scan, Scan::Bare | Scan::Nul | Scan::TooLarge)) {
                    prop_assert_eq!(&whole.0, &split.0);
                }
            }
        }
    }
}
