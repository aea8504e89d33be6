//! IMAP. `FETCH n BODY[]` gives a message of `n` bytes, `APPEND` takes one of any size.

use super::{Dialogue, Then};

#[derive(Default)]
pub(super) struct Imap {
    /// A command whose literal, or the rest behind it, is still to come.
    begun: Option<Begun>,
}

enum Begun {
    /// A short literal (nginx logs in with them): what follows belongs to the command.
    Command(Vec<u8>),
    Append(Vec<u8>),
    Authenticate(Vec<u8>),
    Idle(Vec<u8>),
}

const CAPABILITIES: &[u8] = b"* CAPABILITY IMAP4rev1 IDLE\r\n";

impl Dialogue for Imap {
    fn greeting(&self) -> &'static [u8] {
        b"* OK [CAPABILITY IMAP4rev1 IDLE] ready\r\n"
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Then {
        match self.begun.take() {
            None => self.command(line, out),
            Some(Begun::Command(mut before)) => {
                before.extend_from_slice(line);
                self.command(&before, out)
            }
            Some(Begun::Append(tag) | Begun::Authenticate(tag) | Begun::Idle(tag)) => done(&tag, out),
        }
    }
}

impl Imap {
    fn command(&mut self, line: &[u8], out: &mut Vec<u8>) -> Then {
        let mut words = line.split(|byte| *byte == b' ');
        let tag = words.next().unwrap_or_default().to_vec();
        let command = words.next().unwrap_or_default().to_ascii_uppercase();
        let argument = words.next().unwrap_or_default();
        let literal = literal(line);
        match (command.as_slice(), literal) {
            (b"APPEND", Some(length)) => {
                self.begun = Some(Begun::Append(tag));
                out.extend_from_slice(b"+ go on\r\n");
                return Then::Swallow(length);
            }
            (_, Some(_)) => {
                let begun =
                    line[..line.len() - line.iter().rev().take_while(|byte| **byte != b'{').count() - 1].to_vec();
                self.begun = Some(Begun::Command(begun));
                out.extend_from_slice(b"+ go on\r\n");
                return Then::Go;
            }
            (b"CAPABILITY", None) => out.extend_from_slice(CAPABILITIES),
            (b"LOGIN", None) if argument.strip_prefix(b"\"").unwrap_or(argument).starts_with(b"wrong") => {
                out.extend_from_slice(&tag);
                out.extend_from_slice(b" NO [AUTHENTICATIONFAILED] no\r\n");
                return Then::Go;
            }
            (b"AUTHENTICATE", None) if words.next().is_none() => {
                self.begun = Some(Begun::Authenticate(tag));
                out.extend_from_slice(b"+ \r\n");
                return Then::Go;
            }
            (b"SELECT", None) => out.extend_from_slice(b"* 1 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n"),
            (b"FETCH", None) => {
                let length = std::str::from_utf8(argument).ok().and_then(|number| number.parse().ok()).unwrap_or(1);
                out.extend_from_slice(format!("* 1 FETCH (BODY[] {{{length}}}\r\n").as_bytes());
                let mut after = b")\r\n".to_vec();
                done(&tag, &mut after);
                return Then::Pour(length, after);
            }
            (b"IDLE", None) => {
                self.begun = Some(Begun::Idle(tag));
                out.extend_from_slice(b"+ idling\r\n");
                return Then::Go;
            }
            (b"LOGOUT", None) => {
                out.extend_from_slice(b"* BYE\r\n");
                done(&tag, out);
                return Then::Close;
            }
            _ => {}
        }
        done(&tag, out)
    }
}

fn done(tag: &[u8], out: &mut Vec<u8>) -> Then {
    out.extend_from_slice(tag);
    out.extend_from_slice(b" OK done\r\n");
    Then::Go
}

/// The number in the braces that end a line.
fn literal(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"}")?;
    let line = line.strip_suffix(b"+").unwrap_or(line);
    let at = line.iter().rposition(|byte| *byte == b'{')?;
    std::str::from_utf8(&line[at + 1..]).ok()?.parse().ok()
}
