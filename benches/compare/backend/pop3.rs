//! POP3.

use super::{Dialogue, Then};

#[derive(Default)]
pub(super) struct Pop3 {
    /// A SASL response is the next line.
    authenticating: bool,
}

impl Dialogue for Pop3 {
    fn greeting(&self) -> &'static [u8] {
        b"+OK ready\r\n"
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Then {
        let mut words = line.split(|byte| *byte == b' ');
        let command = words.next().unwrap_or_default().to_ascii_uppercase();
        let answer: &[u8] = match command.as_slice() {
            _ if std::mem::take(&mut self.authenticating) => b"+OK\r\n",
            b"CAPA" => b"+OK\r\nUSER\r\nUIDL\r\nTOP\r\n.\r\n",
            b"AUTH" if words.count() < 2 => {
                self.authenticating = true;
                b"+ \r\n"
            }
            b"STAT" => b"+OK 1 1024\r\n",
            b"QUIT" => {
                out.extend_from_slice(b"+OK bye\r\n");
                return Then::Close;
            }
            _ => b"+OK\r\n",
        };
        out.extend_from_slice(answer);
        Then::Go
    }
}
