//! A backend's replies, cut out of a buffer within a bound (RFC 5321 section 4.2).

use crate::proto::line::{MAX_COMMAND, printable};
use crate::proto::{BackFault, Reply};
use bytes::{Buf, BufMut, BytesMut};
use std::borrow::Cow;

/// The most octets of one reply with all its lines.
const MAX_REPLY: usize = 64 * 1024;

/// A whole reply, in the backend's words: 8-bit text as it came, control bytes made harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpReply {
    /// 200 to 599.
    code: u16,
    /// The lines' texts behind their codes, LF between them.
    text: Vec<u8>,
}

impl SmtpReply {
    /// The three digits.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// 2yz.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3yz.
    pub fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// 5yz.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// The text of each line, at least one.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.text.split(|&b| b == b'\n')
    }

    /// Appends the reply as it goes over the wire. All lines get the code of the last one.
    pub fn write(&self, out: &mut BytesMut) {
        let mut lines = self.lines().peekable();
        let code = digits(self.code);
        out.reserve("250 \r\n".len() + self.text.len());
        while let Some(text) = lines.next() {
            out.put_slice(&code);
            match (lines.peek().is_some(), text.is_empty()) {
                (true, _) => out.put_u8(b'-'),
                (false, true) => {}
                (false, false) => out.put_u8(b' '),
            }
            out.put_slice(text);
            out.put_slice(b"\r\n");
        }
    }

    /// The reply as one harmless line, code and enhanced code apart (RFC 2034 section 4).
    pub fn summary(&self) -> Reply {
        let mut code = String::with_capacity("550 5.7.8".len());
        code.extend(digits(self.code).map(char::from));
        let mut lines = self.lines().map(|line| self.enhanced(line));
        let (enhanced, first) = lines.next().unwrap_or_default();
        if let Some(enhanced) = enhanced {
            code.push(' ');
            code.push_str(enhanced);
        }
        let mut text = Cow::Borrowed(first);
        for (_, rest) in lines.filter(|(_, rest)| !rest.is_empty()) {
            if !text.is_empty() {
                text.to_mut().push(b' ');
            }
            text.to_mut().extend_from_slice(rest);
        }
        Reply { code: Some(code), text: printable(&text, 512), capabilities: None }
    }

    /// Splits a leading `class.subject.detail` off, if its class fits the code (RFC 3463 section 2).
    fn enhanced<'a>(&self, line: &'a [u8]) -> (Option<&'a str>, &'a [u8]) {
        let end = line.iter().position(|&b| b == b' ').unwrap_or(line.len());
        let (word, rest) = (&line[..end], line.get(end + 1..).unwrap_or_default());
        let word = std::str::from_utf8(word).ok().filter(|word| {
            let mut parts = word.split('.');
            let short = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            parts.next().is_some_and(|class| class.as_bytes() == &digits(self.code)[..1])
                && parts.next().is_some_and(short)
                && parts.next().is_some_and(short)
                && parts.next().is_none()
        });
        (word, if word.is_some() { rest } else { line })
    }
}

/// The three digits of a code.
fn digits(code: u16) -> [u8; 3] {
    [100, 10, 1].map(|unit| b"0123456789"[usize::from(code / unit % 10)])
}

/// Collects replies; holds no more than [`MAX_REPLY`] and a line.
#[derive(Debug, Default)]
pub struct ReplyReader {
    /// Octets at the front of the input known to hold no line end.
    scanned: usize,
    text: Vec<u8>,
    under_way: bool,
    size: usize,
}

impl ReplyReader {
    /// Takes the next whole reply from `input`, or `None` until more has come. A line end without CR is tolerated:
    /// the reply is written anew for the client.
    ///
    /// # Errors
    /// [`BackFault::Garbage`] for what is no reply, [`BackFault::TooLarge`] past a bound.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<SmtpReply>, BackFault> {
        loop {
            let scanned = self.scanned.min(input.len());
            let Some(end) = memchr::memchr(b'\n', &input[scanned..]).map(|at| scanned + at) else {
                self.scanned = input.len();
                return match input.first() {
                    _ if input.len() > MAX_COMMAND + 1 => Err(BackFault::TooLarge),
                    Some(b'2'..=b'5') | None => Ok(None),
                    // Binary (a TLS alert, say) may never bring a line end.
                    Some(_) => Err(BackFault::Garbage("SMTP", printable(input, 80))),
                };
            };
            self.scanned = 0;
            let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
            if line.len() > MAX_COMMAND {
                return Err(BackFault::TooLarge);
            }
            let garbage = || BackFault::Garbage("SMTP", printable(line, 80));
            let (code, last, text) = split(line).ok_or_else(garbage)?;
            self.size += line.len() + 2;
            if self.size > MAX_REPLY {
                return Err(BackFault::TooLarge);
            }
            if std::mem::replace(&mut self.under_way, true) {
                self.text.push(b'\n');
            }
            if self.text.is_empty() {
                // What has come is the rest of this reply, as a rule.
                self.text.reserve(input.len().min(MAX_COMMAND));
            }
            self.text.extend(text.iter().map(|&b| if b.is_ascii_control() && b != b'\t' { b'?' } else { b }));
            input.advance(end + 1);
            if last {
                let text = std::mem::take(&mut self.text);
                (self.under_way, self.size) = (false, 0);
                return Ok(Some(SmtpReply { code, text }));
            }
        }
    }
}

/// Whether the last line of what came is the whole answer to QUIT (RFC 5321 section 4.1.1.10): nothing comes behind it.
pub fn is_farewell(words: &[u8]) -> bool {
    let Some(words) = words.strip_suffix(b"\n") else { return false };
    let last = words.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    matches!(split(last.trim_ascii_end()), Some((221, true, _)))
}

/// `250-text`, `250 text` or `250`: the code, whether it is the last line, the text.
fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    let code = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    if !(200..=599).contains(&code) {
        return None;
    }
    match rest.split_first() {
        None => Some((code, true, rest)),
        Some((b' ', text)) => Some((code, true, text)),
        Some((b'-', text)) => Some((code, false, text)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Option<SmtpReply>, BackFault> {
        ReplyReader::default().next(&mut BytesMut::from(bytes))
    }

    fn wire(bytes: &[u8]) -> String {
        let mut out = BytesMut::new();
        read(bytes).expect("a reply").expect("a whole one").write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_reply_is_passed_on_as_it_is() {
        for same in ["250 OK\r\n", "250\r\n", "250-a\r\n250-\r\n250 b\r\n", "550 5.1.1 gr\u{fc}n\ttab\r\n"] {
            assert_eq!(wire(same.as_bytes()), same);
        }
        assert_eq!(wire(b"250-a\n250 b\n"), "250-a\r\n250 b\r\n");
        assert_eq!(wire(b"250 a\x1b[31m\rb\x7f\r\n"), "250 a?[31m?b?\r\n");
        assert_eq!(wire(b"220-hello\r\n554 no\r\n"), "554-hello\r\n554 no\r\n");
    }

    #[test]
    fn the_event_has_code_and_text_in_one_line() {
        let cases: &[(&[u8], &str, &str)] = &[
            (b"535 5.7.8 bad\r\n", "535 5.7.8", "bad"),
            (b"535 bad\r\n", "535", "bad"),
            (b"535\r\n", "535", ""),
            (b"550-5.1.1 no such\r\n550 5.1.1 user\r\n", "550 5.1.1", "no such user"),
            (b"550 4.1.1 class does not fit\r\n", "550", "4.1.1 class does not fit"),
            (b"550 1.2.3.4 is an address\r\n", "550", "1.2.3.4 is an address"),
        ];
        for (bytes, code, text) in cases {
            let reply = read(bytes).expect("a reply").expect("a whole one").summary();
            assert_eq!((reply.code.as_deref(), reply.text.as_str()), (Some(*code), *text));
        }
    }

    #[test]
    fn what_is_no_reply_is_garbage() {
        for bytes in
            ["HTTP/1.1 400 Bad Request\r\n", "SSH-2.0-x\r\n", "\r\n", "25 x\r\n", "250x\r\n", "199 x\r\n", "600 x\r\n"]
        {
            assert!(matches!(read(bytes.as_bytes()), Err(BackFault::Garbage("SMTP", _))), "{bytes}");
        }
    }

    #[test]
    fn an_endless_reply_ends_at_the_bound() {
        assert_eq!(read(&[b'2'; MAX_COMMAND + 2]), Err(BackFault::TooLarge));
        let (mut reader, mut result) = (ReplyReader::default(), Ok(None));
        for _ in 0..MAX_REPLY / 7 + 1 {
            result = reader.next(&mut BytesMut::from("250-x\r\n"));
            if result.is_err() {
                break;
            }
        }
        assert_eq!(result, Err(BackFault::TooLarge));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_replies(text in "(250[ -]?[ab]{0,3}\r?\n|x\r\n){0,8}", cut in 0usize..60) {
            let replies = |pieces: &[&str]| {
                let (mut reader, mut input, mut seen) = (ReplyReader::default(), BytesMut::new(), Vec::new());
                for piece in pieces {
                    input.extend_from_slice(piece.as_bytes());
                    loop {
                        match reader.next(&mut input) {
                            Ok(None) => break,
                            Ok(Some(reply)) => seen.push(Ok(reply)),
                            Err(fault) => { seen.push(Err(fault)); return seen; }
                        }
                    }
                }
                seen
            };
            let (head, tail) = text.split_at(cut.min(text.len()));
            let (split, whole) = (replies(&[head, tail]), replies(&[&text]));
            // Garbage is reported as far as it has come.
            prop_assert_eq!(split.iter().flatten().collect::<Vec<_>>(), whole.iter().flatten().collect::<Vec<_>>());
            prop_assert_eq!(split.iter().any(Result::is_err), whole.iter().any(Result::is_err));
        }
    }
}
