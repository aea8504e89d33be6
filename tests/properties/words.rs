//! What inputs are made of: the words of the fuzzers' dictionaries, often, and raw bytes.

use crate::doors::{HEADER, PAUSE};
use proptest::prelude::*;

/// What lines are made of.
const MARKS: &[&[u8]] = &[b"\r\n", b" ", b"\n", b"\r", b"\0", b"\"", &[PAUSE]];

/// How a text may begin, where a dictionary's words are too short to get anywhere.
const BEGINNINGS: &[(&str, &[u8])] = &[
    ("imap_back", b"joe\0secret\xfe* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n\xfe"),
    ("imap_back", b"jo\"e\0p\\w\xfe* OK [CAPABILITY IMAP4rev1 AUTH=LOGIN SASL-IR AUTH=CRAM-MD5] ready\r\n\xfe"),
    ("imap_back", b"\xfe* OK ready\r\n\xfe* CAPABILITY IMAP4rev1 LITERAL+ AUTH=SCRAM-SHA-256\r\ng1 OK done\r\n\xfe"),
    ("pop3_back", b"joe\0secret\xfe+OK ready <1.2@x>\r\n\xfe-ERR what\r\n\xfe"),
    ("pop3_back", b"joe\0p w\xfe+OK ready\r\n\xfe+OK list\r\nSASL PLAIN CRAM-MD5 SCRAM-SHA-256\r\n.\r\n\xfe"),
    ("pop3_back", b"joe\0secret\xfe+OK ready\r\n\xfe+OK list\r\nSASL LOGIN XOAUTH2\r\n.\r\n\xfe"),
    ("smtp_back", b"joe\0secret\xfe220 x\r\n\xfe250-x\r\n250 AUTH PLAIN LOGIN CRAM-MD5\r\n\xfe"),
    ("smtp_back", b"joe\0secret\xfe220 x\r\n\xfe250-x\r\n250 AUTH LOGIN XOAUTH2 SCRAM-SHA-256\r\n\xfe"),
    ("smtp_back", b"joe\0secret\xfe220 x\r\n\xfe250-x\r\n250 AUTH LOGIN\r\n\xfe334 VXNlcm5hbWU6\r\n\xfe"),
    ("pop3_back", b"joe\0secret\xfe+OK x\r\n\xfe+OK list\r\nSASL LOGIN\r\n.\r\n\xfe+ VXNlcm5hbWU6\r\n\xfe"),
    ("sasl", b"Ym9zcwBqb2UAc2VjcmV0\xfe"),
    ("sasl", b"AGpvZQBzZWNyZXQ=\xfe"),
    ("sasl", b"am9l\xfec2VjcmV0\xfe"),
    ("config", b"hostname: mail.example.net\nbackends:\n  old: {imap: \"10.0.0.5:143\"}\nlisteners:\n"),
    (
        "introduction",
        b"joe\xfe220 x\r\n\xfe250-x\r\n250 STARTTLS\r\n\xfe220 go\r\n\xfe250-x\r\n250 XCLIENT NAME ADDR LOGIN\r\n\xfe",
    ),
    ("introduction", b"jo+e=\xfe220 x\r\n\xfe250-x\r\n250 XCLIENT ADDR PORT LOGIN\r\n\xfe220 x\r\n\xfe250 x\r\n"),
    (
        "introduction",
        b"\xfe* OK [CAPABILITY ID STARTTLS] x\r\n\xfeg1 OK go\r\n\xfe* CAPABILITY ID IDLE\r\ng2 OK x\r\n\xfe",
    ),
    ("introduction", b"\xfe* OK [CAPABILITY IMAP4rev1 ID] x\r\n\xfe* ID NIL\r\ng1 OK x\r\n\xfe"),
    ("introduction", b"\xfe+OK <1.2@x> [XCLIENT]\r\n\xfe+OK go\r\n\xfe+OK\r\nSASL PLAIN\r\nXCLIENT\r\n.\r\n\xfe"),
    ("introduction", b"\xfe+OK [XCLIENT]\r\n\xfe-ERR what\r\n\xfe+OK x\r\n"),
    ("outlook", b"<?xml version=\"1.0\"?><Autodiscover><Request><EMailAddress>joe@example.net</EMailAddress>"),
    ("outlook", b"<a xmlns:b=\"c\"><b:EMailAddress>"),
    ("transaction", b"MAIL FROM:<a@example.org>\r\nRCPT TO:<c@example.net>\r\nDATA\r\n"),
];

/// Settings, and a text of up to forty words and bytes for the target's door.
pub(crate) fn input(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let words = dictionary(target);
    let mut beginnings = vec![Vec::new()];
    beginnings.extend(BEGINNINGS.iter().filter(|(name, _)| *name == target).map(|(_, text)| text.to_vec()));
    let part = prop_oneof![
        8 => proptest::sample::select(words),
        2 => proptest::sample::select(MARKS).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 1..6),
        1 => (any::<u8>(), prop_oneof![Just(70usize), Just(520), 8185..8200usize, 12_280..12_300usize])
            .prop_map(|(byte, length)| vec![byte; length]),
    ];
    let text = proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat());
    (any::<[u8; HEADER]>(), proptest::sample::select(beginnings), text)
        .prop_map(|(header, beginning, text)| [&header[..], &beginning, &text].concat())
}

/// The words in `tests/fuzz/dictionaries/TARGET.dict`, each a line of libFuzzer's: `"text\x0d\x0a"`.
fn dictionary(target: &str) -> Vec<Vec<u8>> {
    let path = format!("{}/tests/fuzz/dictionaries/{target}.dict", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let words: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(word).collect();
    assert!(words.len() >= 10, "{} words for {target}", words.len());
    words
}

fn word(line: &str) -> Vec<u8> {
    let quoted = line.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let mut rest = quoted.unwrap_or_else(|| panic!("no word: {line}")).bytes();
    let mut word = Vec::new();
    while let Some(byte) = rest.next() {
        let escaped = (byte == b'\\').then(|| rest.next()).flatten();
        word.push(match escaped {
            Some(b'x') => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = std::str::from_utf8(&digits).expect("digits");
                u8::from_str_radix(digits, 16).unwrap_or_else(|error| panic!("{line}: {error}"))
            }
            Some(other) => other,
            None => byte,
        });
    }
    word
}

#[test]
fn a_word_is_read_as_libfuzzer_reads_it() {
    assert_eq!(word(r#""a \"b\\ \x0d\xfe""#), b"a \"b\\ \r\xfe");
}
