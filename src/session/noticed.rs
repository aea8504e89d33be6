//! What the relay notices in passing: words that say that the end is meant, or that what follows is no text.

/// A goodbye is among the last octets a side sends; what stands before them is not searched.
const LAST: u16 = 1024;
/// The same of a chunk.
const LAST_OF_CHUNK: usize = LAST as usize;

/// Looks for a word at the beginning of one of the last lines, in either case and however the lines are cut.
pub(super) struct Farewell {
    word: &'static [u8],
    /// How much of the word stands at the beginning of the line so far.
    matched: u8,
    /// Octets since the word was last seen, while they are few.
    behind: Option<u16>,
}

impl Farewell {
    pub(super) fn new(word: &'static [u8]) -> Self {
        Self { word, matched: 0, behind: None }
    }

    /// Takes what was said next.
    pub(super) fn note(&mut self, chunk: &[u8], mut line_begins: bool) {
        let mut chunk = chunk;
        if chunk.len() > LAST_OF_CHUNK {
            let (before, last) = chunk.split_at(chunk.len() - LAST_OF_CHUNK);
            (self.matched, self.behind) = (0, None);
            line_begins = before.last() == Some(&b'\n');
            chunk = last;
        }
        for &byte in chunk {
            self.behind = self.behind.map(|octets| octets + 1).filter(|octets| *octets <= LAST);
            let goes_on = line_begins || self.matched > 0;
            self.matched = if goes_on && is_next(self.word, self.matched, byte) { self.matched + 1 } else { 0 };
            if usize::from(self.matched) == self.word.len() {
                (self.matched, self.behind) = (0, Some(0));
            }
            line_begins = byte == b'\n';
        }
    }

    /// Whether the word stands among the last octets.
    pub(super) fn was_said(&self) -> bool {
        self.behind.is_some()
    }
}

/// Looks for a word anywhere in what a client says, in either case. Its first letter must not come again in it.
/// A command is a small chunk, as a rule of its own; large ones, a mail being stored, are not searched.
pub(super) struct Word {
    word: &'static [u8],
    matched: u8,
    was_said: bool,
}

impl Word {
    pub(super) fn new(word: &'static [u8]) -> Self {
        Self { word, matched: 0, was_said: false }
    }

    /// Takes what was said next.
    pub(super) fn note(&mut self, chunk: &[u8]) {
        if self.was_said || chunk.len() > LAST_OF_CHUNK {
            self.matched = 0;
            return;
        }
        for &byte in chunk {
            let matched = if is_next(self.word, self.matched, byte) { self.matched } else { 0 };
            self.matched = matched + u8::from(is_next(self.word, matched, byte));
            if usize::from(self.matched) == self.word.len() {
                self.was_said = true;
                return;
            }
        }
    }

    /// Whether it was said, at any time.
    pub(super) fn was_said(&self) -> bool {
        self.was_said
    }
}

fn is_next(word: &[u8], matched: u8, byte: u8) -> bool {
    word.get(usize::from(matched)).is_some_and(|expected| expected.eq_ignore_ascii_case(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goodbye_is_known_however_it_is_cut_and_forgotten_when_more_comes() {
        let much = "x".repeat(LAST_OF_CHUNK + 1);
        let (bye_before_much, bye_behind_much) = (format!("* BYE\r\n{much}"), format!("{much}\r\n* BYE\r\na OK\r\n"));
        for (said, known) in [
            (&["* BYE now\r\na OK\r\n"][..], true),
            (&["* B", "YE now\r\n", "a OK\r\n"], true),
            (&["* 1 EXISTS\r", "\n* BYE\r\n"], true),
            (&["* OK not a * BYE\r\n"], false),
            (&["* B", "\r\nYE\r\n"], false),
            (&[&bye_before_much], false),
            (&["* BYE\r\n", &much], false),
            (&[&bye_behind_much], true),
            (&[&much, "* BYE\r\n"], false),
        ] {
            let (mut farewell, mut line_begins) = (Farewell::new(b"* BYE"), true);
            for piece in said {
                farewell.note(piece.as_bytes(), line_begins);
                line_begins = piece.ends_with('\n');
            }
            assert_eq!(farewell.was_said(), known, "{said:?}");
        }
    }

    #[test]
    fn a_word_is_known_in_small_chunks_and_never_forgotten() {
        let mail = "compress".repeat(LAST_OF_CHUNK);
        for (said, known) in [
            (&["a COMPRESS DEFLATE\r\n", "zzz"][..], true),
            (&["a Comp", "ress deflate\r\n"], true),
            (&["a COMCOMPRESS DEFLATE\r\n"], true),
            (&["a COMP RESS\r\n"], false),
            (&[&mail], false),
        ] {
            let mut word = Word::new(b"COMPRESS");
            for piece in said {
                word.note(piece.as_bytes());
            }
            assert_eq!(word.was_said(), known, "{known}");
        }
    }
}
