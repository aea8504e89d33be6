//! A backend's replies where a verdict is due, read against a plain loop over their lines.

use super::{Cuts, Input, PAUSE, wire};
use bytes::BytesMut;
use gatepost::proto::smtp::{ReplyReader, SmtpReply};
use gatepost::proto::{BackSettings, BackStep, Login, Mechanism, Protocol, back};

/// The door: the settings choose the protocol. Holds for every answer: any cut gives the same; it is read as a plain
/// loop reads it; what is kept of it is printable and bounded. A reply of SMTP, written out, reads as itself.
pub fn door(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let bytes: Vec<u8> = input.text.iter().copied().filter(|&byte| byte != PAUSE).collect();
    match input.settings[0] % 3 {
        0 => verdict(Protocol::Imap, &input, &bytes),
        1 => verdict(Protocol::Pop3, &input, &bytes),
        _ => smtp(&input, &bytes),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    None,
    Yes,
    No,
    Fault,
}

/// What is made of an answer to a login with a user and a password.
fn verdict(protocol: Protocol, input: &Input<'_>, bytes: &[u8]) {
    let whole = ask(protocol, bytes, Cuts::Whole);
    for cuts in input.cuts() {
        assert_eq!(ask(protocol, bytes, cuts), whole, "cut like {cuts:?}");
    }
    let expected = match protocol {
        Protocol::Imap => imap_plainly(bytes),
        _ => pop3_plainly(bytes),
    };
    assert_eq!(whole.0, expected, "{}", bytes.escape_ascii());
}

fn ask(protocol: Protocol, bytes: &[u8], cuts: Cuts) -> (Verdict, String) {
    let mut back =
        back(protocol, BackSettings { temporary_replies: ["busy".to_owned()].into(), ..BackSettings::default() });
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    let before: &[&str] = match protocol {
        Protocol::Imap => &["* OK [CAPABILITY IMAP4rev1] ready\r\n"],
        _ => &["+OK ready\r\n", "-ERR CAPA is unknown\r\n", "+OK joe\r\n"],
    };
    for (index, answer) in before.iter().enumerate() {
        input.extend_from_slice(answer.as_bytes());
        let step = back.next(&mut input, &mut out).expect("no fault");
        if matches!(step, BackStep::Ready(_)) {
            let login = Login::password(Mechanism::LOGIN, b"joe", b"secret").expect("fine words");
            back.login(&login, &mut out).expect("a way in");
        }
        assert!(index == 0 || protocol == Protocol::Pop3);
    }
    for piece in cuts.pieces(bytes) {
        input.extend_from_slice(piece);
        let reply = match back.next(&mut input, &mut out) {
            Ok(BackStep::More) => continue,
            Ok(BackStep::Accepted(reply)) => (Verdict::Yes, reply),
            Ok(BackStep::Rejected(reply) | BackStep::Unavailable(reply) | BackStep::InUse(reply)) => {
                (Verdict::No, reply)
            }
            Ok(step) => panic!("no such step: {step:?}"),
            Err(_) => return (Verdict::Fault, String::new()),
        };
        wire::assert_harmless(&reply.1.to_line(), 640);
        return (reply.0, format!("{:?}", reply.1));
    }
    (Verdict::None, String::new())
}

/// The first line decides.
fn pop3_plainly(bytes: &[u8]) -> Verdict {
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return if bytes.len() > 8192 + 1 { Verdict::Fault } else { Verdict::None };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let text = String::from_utf8_lossy(line).to_ascii_uppercase();
    let says = |status: &str| {
        text.strip_prefix(status).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    };
    match () {
        () if line.len() > 8192 => Verdict::Fault,
        () if says("+OK") => Verdict::Yes,
        () if says("-ERR") => Verdict::No,
        () => Verdict::Fault,
    }
}

/// Untagged lines pass, with their literals, until the tag comes.
fn imap_plainly(bytes: &[u8]) -> Verdict {
    let (mut rest, mut octets, mut within) = (bytes, 0_usize, false);
    loop {
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            return if rest.len() > 8192 + 1 { Verdict::Fault } else { Verdict::None };
        };
        let (line, behind) = (rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]), &rest[end + 1..]);
        if line.len() > 8192 {
            return Verdict::Fault;
        }
        octets += line.len() + 2;
        let words: Vec<String> = line
            .splitn(3, |&byte| byte == b' ')
            .map(|word| String::from_utf8_lossy(word).to_ascii_uppercase())
            .collect();
        let word = |index: usize| words.get(index).map_or("", String::as_str);
        let status = matches!(word(1), "OK" | "NO" | "BAD" | "BYE" | "PREAUTH");
        let literal = if within || word(0) == "*" && !status { announced(line) } else { None };
        octets = octets.saturating_add(literal.unwrap_or(0));
        if octets > 64 * 1024 {
            return Verdict::Fault;
        }
        let was_within = std::mem::replace(&mut within, literal.is_some());
        if let Some(size) = literal {
            let Some(tail) = behind.get(size..) else { return Verdict::None };
            rest = tail;
            continue;
        }
        rest = behind;
        match (word(0), word(1)) {
            _ if was_within => {}
            ("*", "BYE") => return Verdict::Fault,
            ("*", _) => {}
            _ => {
                let tagged = line.split(|&byte| byte == b' ').next() == Some(b"g1");
                return match word(1) {
                    "OK" if tagged => Verdict::Yes,
                    "NO" if tagged => Verdict::No,
                    _ => Verdict::Fault,
                };
            }
        }
    }
}

/// The size in `{n}` or `{n+}` at a line's end.
fn announced(line: &[u8]) -> Option<usize> {
    let inside = line.strip_suffix(b"}")?;
    let inside = inside.strip_suffix(b"+").unwrap_or(inside);
    let open = inside.iter().rposition(|&byte| byte == b'{')?;
    let digits = std::str::from_utf8(&inside[open + 1..]).ok()?;
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| digits.parse().unwrap_or(usize::MAX))
}

fn smtp(input: &Input<'_>, bytes: &[u8]) {
    let whole = read(bytes, Cuts::Whole);
    for cuts in input.cuts() {
        assert_eq!(read(bytes, cuts), whole, "cut like {cuts:?}");
    }
    for reply in &whole.0 {
        let mut wire = BytesMut::new();
        reply.write(&mut wire);
        wire::assert_words(&wire, "a reply for the client");
        assert_eq!(read(&wire, Cuts::Whole), (vec![reply.clone()], false), "written and read again");
        let summary = reply.summary();
        wire::assert_harmless(&summary.to_line(), 640);
        assert!(summary.code.is_some_and(|code| code.starts_with(&reply.code().to_string())));
        assert!((200..600).contains(&reply.code()));
    }
    assert_eq!(whole.0.len(), replies_plainly(bytes).min(whole.0.len()), "more replies than last lines");
    if !whole.1 {
        assert_eq!(whole.0.len(), replies_plainly(bytes), "fewer replies than last lines");
    }
}

/// The replies, and whether a fault came behind them.
fn read(bytes: &[u8], cuts: Cuts) -> (Vec<SmtpReply>, bool) {
    let (mut reader, mut input, mut replies) = (ReplyReader::default(), BytesMut::new(), Vec::new());
    for piece in cuts.pieces(bytes) {
        input.extend_from_slice(piece);
        loop {
            match reader.next(&mut input) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(_) => return (replies, true),
            }
        }
    }
    (replies, false)
}

/// How many lines end a reply: three digits and no hyphen.
fn replies_plainly(bytes: &[u8]) -> usize {
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(&[][..], |end| &bytes[..end]);
    if whole.is_empty() {
        return 0;
    }
    whole.split(|&byte| byte == b'\n').filter(|line| line.len() >= 3 && line.get(3) != Some(&b'-')).count()
}
