//! Messages that prove themselves: what a message holds follows from the three numbers in its first line, so that whoever
//! reads one can make it again and compare, and nothing need be kept of those under way.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// The first line of each.
const MARK: &str = "X-Soak: ";

/// The message `id` of the run `seed`, of about `size` bytes: 8-bit, with dots, lines of blanks and all that tempts somebody to
/// change it on the way, within the line length that every server keeps (RFC 5321 4.5.3.1.6).
pub fn message(seed: u64, id: u64, size: usize) -> Vec<u8> {
    let mut chance = StdRng::seed_from_u64(seed ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut text = format!(
        "{MARK}{seed} {id} {size}\r\nFrom: soak@example.net\r\nTo: undisclosed-recipients:;\r\nSubject:  message  {id}\r\n\
         Message-ID: <{seed}.{id}@soak.example.net>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nX-Folded: a\r\n\tb\r\n  c\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    .into_bytes();
    let odd: [&[u8]; 10] = [
        b".",
        b"..",
        b".a",
        b"",
        b"trailing \t ",
        b"From here",
        "\u{e4}\u{f6}\u{fc} \u{20ac}".as_bytes(),
        b"\xff\xfe\x80",
        b"QUIT",
        b"a OK [AUTHENTICATIONFAILED] {12}",
    ];
    let mut line = [0_u8; 900];
    while text.len() < size {
        if chance.random_ratio(1, 4) {
            text.extend_from_slice(odd.choose(&mut chance).expect("some"));
        } else {
            let line = &mut line[..chance.random_range(1..900)];
            chance.fill(line);
            // 64 characters that are themselves, and every byte from 0x80 up.
            line.iter_mut().for_each(|byte| *byte = if *byte < 0x80 { b' ' + (*byte & 0x3f) } else { *byte });
            text.extend_from_slice(line);
        }
        text.extend_from_slice(b"\r\n");
    }
    text
}

/// Which message of this run this is, if it is one to the last byte. A server's trace fields may stand above it.
pub fn proven(seed: u64, got: &[u8]) -> Result<u64, String> {
    let begin = start(got).ok_or_else(|| format!("a message that is not ours: {}", beginning(got)))?;
    let (trace, text) = got.split_at(begin);
    for line in trace.split_inclusive(|byte| *byte == b'\n') {
        let is_trace = [&b"Return-Path:"[..], b"Delivered-To:", b"Received:", b" ", b"\t"]
            .iter()
            .any(|name| line.starts_with(name));
        if !is_trace {
            return Err(format!("above the message stands {}", beginning(line)));
        }
    }
    let first = text.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let numbers = String::from_utf8_lossy(&first[MARK.len()..]).into_owned();
    let numbers: Vec<u64> = numbers.split(' ').filter_map(|number| number.parse().ok()).collect();
    let [its_seed, id, size] = numbers[..] else { return Err(format!("a broken first line: {}", beginning(text))) };
    if its_seed != seed {
        return Err(format!("a message of the run {its_seed}"));
    }
    let sent = message(seed, id, usize::try_from(size).unwrap_or(usize::MAX).min(64 << 20));
    if sent == text {
        return Ok(id);
    }
    let differs = sent.iter().zip(text).position(|(ours, theirs)| ours != theirs).unwrap_or(sent.len().min(text.len()));
    let around = |bytes: &[u8]| beginning(&bytes[differs.saturating_sub(20).min(bytes.len())..]);
    Err(format!(
        "message {id} of {} bytes arrived with {}, and differs at {differs}: sent {} and got {}",
        sent.len(),
        text.len(),
        around(&sent),
        around(text)
    ))
}

fn start(got: &[u8]) -> Option<usize> {
    let mut at = 0;
    for line in got.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(MARK.as_bytes()) {
            return Some(at);
        }
        if line == b"\r\n" {
            return None;
        }
        at += line.len();
    }
    None
}

fn beginning(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes[..bytes.len().min(60)].escape_ascii())
}
