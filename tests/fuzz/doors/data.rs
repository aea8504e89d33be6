//! The end of a message, and what of it goes out: the scanner against a slow loop over the whole message.

use super::{Cuts, Input, PAUSE};
use bytes::BytesMut;
use gatepost::proto::smtp::{BareNewline, DataScanner, Scan};

/// The door. Holds for every message: the end is behind the first CRLF.CRLF and nowhere else; a message that is let out
/// is what the loop makes of it, byte for byte, and its size; a refused one is refused for what stands first in it and
/// never ended; any cut gives the same; two bytes at most wait in the input.
pub fn door(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let wire: Vec<u8> = input.text.iter().copied().filter(|&byte| byte != PAUSE).collect();
    let bound = u64::from(input.settings[1]) * if input.settings[0] & 2 == 2 { 16 } else { 0 };
    let rule = if input.settings[0] & 1 == 1 { BareNewline::Normalize } else { BareNewline::Reject };
    let whole = scan(rule, bound, &wire, Cuts::Whole);
    for cuts in input.cuts() {
        let cut = scan(rule, bound, &wire, cuts);
        assert_eq!((&cut.said, &cut.left), (&whole.said, &whole.left), "cut like {cuts:?}");
        // What went out before a refusal depends on how much had come: it is never ended.
        if !whole.is_refused() {
            assert_eq!(
                (&cut.out.escape_ascii().to_string(), cut.size),
                (&whole.out.escape_ascii().to_string(), whole.size)
            );
        }
        assert!(ends_of(&cut.out) == usize::from(cut.said == [Scan::End]), "{}", cut.out.escape_ascii());
    }
    against_the_loop(rule, bound, &wire, &whole);
}

struct Scanned {
    out: Vec<u8>,
    left: Vec<u8>,
    /// Besides [`Scan::More`].
    said: Vec<Scan>,
    size: u64,
}

impl Scanned {
    fn is_refused(&self) -> bool {
        self.said.iter().any(|scan| *scan != Scan::End)
    }
}

fn scan(rule: BareNewline, max: u64, wire: &[u8], cuts: Cuts) -> Scanned {
    let mut scanner = DataScanner::new(rule, max);
    let (mut input, mut out, mut said) = (BytesMut::new(), BytesMut::new(), Vec::new());
    for piece in cuts.pieces(wire) {
        input.extend_from_slice(piece);
        while said.last() != Some(&Scan::End) {
            match scanner.scan(&mut input, &mut out) {
                Scan::More => break,
                scan => said.push(scan),
            }
        }
        assert!(said.last() == Some(&Scan::End) || input.len() <= 2, "{} wait", input.len());
    }
    Scanned { out: out.to_vec(), left: input.to_vec(), said, size: scanner.size() }
}

fn against_the_loop(rule: BareNewline, max: u64, wire: &[u8], whole: &Scanned) {
    let end = end_of(wire);
    assert_eq!(whole.said.last() == Some(&Scan::End), end.is_some(), "the end is elsewhere");
    let Some(end) = end else { return };
    assert_eq!(whole.left, wire[end..], "what stands behind the end");
    let (refusal, made) = plainly(rule, &wire[..end]);
    let size = made.size;
    let refused_for: Vec<Scan> = whole.said.iter().copied().filter(|scan| *scan != Scan::End).collect();
    match (refused_for.as_slice(), refusal) {
        ([], None) => {
            assert!(max == 0 || size <= max, "{size} octets are too many");
            assert_eq!(whole.out.escape_ascii().to_string(), made.wire.escape_ascii().to_string());
            assert_eq!(whole.size, size);
            if first_forbidden(rule, &wire[..end]).is_none() && !holds_bare(&wire[..end]) {
                assert_eq!(whole.out, wire[..end], "a legal message passes byte for byte");
            }
        }
        ([Scan::TooLarge], refusal) => assert!(max > 0 && (refusal.is_some() || size > max), "{size} octets fit"),
        ([said], Some(refusal)) => assert_eq!(*said, refusal),
        (said, expected) => panic!("said {said:?}, and the loop {expected:?}"),
    }
}

/// What the loop makes of a message.
struct Made {
    wire: Vec<u8>,
    size: u64,
}

/// A message taken apart into lines, each with how it ended, and put together again.
fn plainly(rule: BareNewline, message: &[u8]) -> (Option<Scan>, Made) {
    let refusal = first_forbidden(rule, message);
    let body = &message[..message.len() - 3];
    let (mut made, mut line, mut behind_bare, mut at) = (Made { wire: Vec::new(), size: 0 }, Vec::new(), false, 0);
    while at < body.len() {
        let bare = match body[at..] {
            [b'\r', b'\n', ..] => false,
            [b'\r' | b'\n', ..] => true,
            [byte, ..] => {
                line.push(byte);
                at += 1;
                continue;
            }
            [] => unreachable!("at is inside"),
        };
        at += if bare { 1 } else { 2 };
        // Only a sender that ended the line before with CRLF knows of dots, unless this line would be the end.
        let add = line.starts_with(b".") && (behind_bare || line == b"." && bare);
        made.size += line.len() as u64 + 2 - u64::from(line.starts_with(b".") && !add);
        made.wire.extend(add.then_some(b'.'));
        made.wire.extend_from_slice(&line);
        made.wire.extend_from_slice(b"\r\n");
        line.clear();
        behind_bare = bare;
    }
    made.wire.extend_from_slice(b".\r\n");
    (refusal, made)
}

/// Why a message is refused: for what stands first in it.
fn first_forbidden(rule: BareNewline, message: &[u8]) -> Option<Scan> {
    (0..message.len()).find_map(|at| match message[at] {
        0 => Some(Scan::Nul),
        _ if rule == BareNewline::Reject && is_bare(message, at) => Some(Scan::Bare),
        _ => None,
    })
}

fn holds_bare(message: &[u8]) -> bool {
    (0..message.len()).any(|at| is_bare(message, at))
}

fn is_bare(message: &[u8], at: usize) -> bool {
    match message[at] {
        b'\r' => message.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || message[at - 1] != b'\r',
        _ => false,
    }
}

/// Behind the first CRLF.CRLF, the first CRLF being that of DATA.
fn end_of(wire: &[u8]) -> Option<usize> {
    let whole = [b"\r\n", wire].concat();
    whole.windows(5).position(|window| window == b"\r\n.\r\n").map(|at| at + 3)
}

/// How many messages any backend, strict or sloppy about line ends, finds at an end in these bytes.
fn ends_of(out: &[u8]) -> usize {
    let (mut ends, mut line) = (0, Vec::new());
    for (at, &byte) in out.iter().enumerate() {
        match byte {
            b'\r' | b'\n' => {
                let pair = byte == b'\n' && at > 0 && out[at - 1] == b'\r';
                ends += usize::from(!pair && line == b".");
                line.clear();
            }
            // A backend that drops NUL, or stops there, must not see an end either.
            0 => panic!("NUL goes out"),
            _ => line.push(byte),
        }
    }
    ends
}
