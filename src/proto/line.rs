//! Command and reply lines cut out of a buffer, within a bound.
//!
//! Every dialogue before login is made of lines. A line ends at LF; what stands before it is the
//! line, with its CR if there was one. Whether a bare LF, a bare CR or a NUL is tolerated is for the
//! protocol to say ([`check`] is the strict answer, RFC 5321 2.3.8).

use bytes::{Buf, BytesMut};

/// The longest command line before login, without its line end: 8 KiB (octets).
pub const MAX_COMMAND: usize = 8 * 1024;
/// The longest SASL response line: 12,288 octets (RFC 4954 section 4).
pub const MAX_SASL: usize = 12_288;

/// What [`LineReader::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A whole line, its CRLF or LF cut off; `bare_lf` says that the CR was missing.
    Whole {
        /// The line's bytes.
        bytes: BytesMut,
        /// The line ended in LF without CR.
        bare_lf: bool,
    },
    /// A line past the bound has just ended; its bytes were thrown away as they came.
    TooLong,
}

/// Cuts lines from a buffer and throws away, as they come, the bytes of a line past the bound, so
/// that a line without end never occupies more than the bound plus one read.
#[derive(Debug, Default)]
pub struct LineReader {
    /// Bytes at the front of the input known to hold no LF: a line fed byte by byte is scanned once.
    scanned: usize,
    /// Inside a line that is already too long.
    overlong: bool,
}

impl LineReader {
    /// Takes the next line of at most `bound` octets from `input`, or `None` until more has come.
    pub fn next(&mut self, input: &mut BytesMut, bound: usize) -> Option<Line> {
        match memchr::memchr(b'\n', &input[self.scanned.min(input.len())..]) {
            Some(at) => {
                let end = self.scanned.min(input.len()) + at;
                self.scanned = 0;
                // As a rule nothing stands behind it, and a buffer that is not parted has one owner and is counted by none.
                let mut bytes = if end + 1 == input.len() { std::mem::take(input) } else { input.split_to(end) };
                if bytes.len() > end {
                    bytes.truncate(end);
                } else {
                    input.advance(1);
                }
                let bare_lf = bytes.last() != Some(&b'\r');
                if !bare_lf {
                    bytes.truncate(bytes.len() - 1);
                }
                if std::mem::take(&mut self.overlong) || bytes.len() > bound {
                    return Some(Line::TooLong);
                }
                Some(Line::Whole { bytes, bare_lf })
            }
            None if self.overlong || input.len() > bound + 1 => {
                self.overlong = true;
                self.scanned = 0;
                input.clear();
                None
            }
            None => {
                self.scanned = input.len();
                None
            }
        }
    }

    /// Forgets the line under way, for a stream that begins anew (STARTTLS) or a literal.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Why a line is not fit to be a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// LF without CR before it.
    BareLf,
    /// CR that is not followed by LF.
    BareCr,
    /// A NUL byte.
    Nul,
}

/// Finds what no command line may hold: an old backend may see two commands in one such line.
pub fn check(bytes: &[u8], bare_lf: bool) -> Result<(), Flaw> {
    if bare_lf {
        return Err(Flaw::BareLf);
    }
    match memchr::memchr2(b'\r', 0, bytes) {
        Some(at) if bytes[at] == 0 => Err(Flaw::Nul),
        Some(_) => Err(Flaw::BareCr),
        None => Ok(()),
    }
}

/// A peer's text made fit for a log line or a reply: control and 8-bit bytes escaped, cut at `max` octets.
pub fn printable(bytes: &[u8], max: usize) -> String {
    // Nearly all there is has nothing to be escaped, and is looked at once.
    if let (Ok(text), true) = (std::str::from_utf8(bytes), bytes.iter().all(|byte| (b' '..=b'~').contains(byte))) {
        return text[..text.len().min(max)].to_owned();
    }
    let mut text = String::with_capacity(bytes.len().min(max));
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || is_bidi_or_separator(c) {
                text.extend(c.escape_unicode());
            } else {
                text.push(c);
            }
            if text.len() >= max {
                text.truncate(text.floor_char_boundary_at(max));
                return text;
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
            if text.len() >= max {
                text.truncate(text.floor_char_boundary_at(max));
                return text;
            }
        }
    }
    text
}

/// Line separators and direction marks would let a name rewrite the log line around it.
fn is_bidi_or_separator(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

trait FloorBoundary {
    fn floor_char_boundary_at(&self, index: usize) -> usize;
}

impl FloorBoundary for String {
    fn floor_char_boundary_at(&self, index: usize) -> usize {
        (0..=index.min(self.len())).rev().find(|&at| self.is_char_boundary(at)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(pieces: &[&[u8]], bound: usize) -> (Vec<String>, usize) {
        let (mut reader, mut input) = (LineReader::default(), BytesMut::new());
        let (mut seen, mut largest) = (Vec::new(), 0);
        for piece in pieces {
            input.extend_from_slice(piece);
            while let Some(line) = reader.next(&mut input, bound) {
                seen.push(format!("{line:?}"));
            }
            largest = largest.max(input.len());
        }
        (seen, largest)
    }

    #[test]
    fn a_line_without_end_costs_no_more_than_the_bound() {
        let piece = [b'x'; 1000];
        let pieces: Vec<&[u8]> = vec![&piece; 1000];
        let (seen, largest) = lines(&pieces, MAX_COMMAND);
        assert!(seen.is_empty());
        assert!(largest <= MAX_COMMAND + 1, "{largest}");
    }

    #[test]
    fn a_line_past_the_bound_is_reported_once_and_the_next_one_is_read() {
        let long = [b'y'; 50];
        let (seen, _) = lines(&[&long, &long, b"\r\nNOOP\r\n"], 40);
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0], "TooLong");
        assert!(seen[1].contains("NOOP"));
    }

    #[test]
    fn what_no_command_may_hold_is_found() {
        assert_eq!(check(b"NOOP", false), Ok(()));
        assert_eq!(check(b"NOOP", true), Err(Flaw::BareLf));
        assert_eq!(check(b"a\rb", false), Err(Flaw::BareCr));
        assert_eq!(check(b"a\0b\r", false), Err(Flaw::Nul));
    }

    #[test]
    fn a_peers_text_is_one_printable_line() {
        assert_eq!(printable(b"gr\xc3\xbc\xc3\x9fe\r\n\x1b[31m\xff", 100), "grüße\\u{d}\\u{a}\\u{1b}[31m\\xff");
        assert_eq!(printable("aé".as_bytes(), 2), "a");
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(text in "[ab\r\n]{0,60}", cuts in proptest::collection::vec(1usize..9, 0..60)) {
            let whole = lines(&[text.as_bytes()], 10).0;
            let (mut pieces, mut rest, mut cuts) = (Vec::new(), text.as_bytes(), cuts.into_iter());
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            prop_assert_eq!(lines(&pieces, 10).0, whole);
        }
    }
}
