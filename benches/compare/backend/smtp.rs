//! SMTP. It takes every message.

use super::{Dialogue, Then};

#[derive(Default)]
pub(super) struct Smtp {
    /// What the next line is, if not a command.
    awaits: Awaits,
}

#[derive(Default, PartialEq, Eq)]
enum Awaits {
    #[default]
    Command,
    /// So many SASL responses.
    Responses(u8),
    Data,
}

const CAPABILITIES: &[u8] = b"250-backend\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n\
    250-AUTH PLAIN LOGIN\r\n250 ENHANCEDSTATUSCODES\r\n";

impl Dialogue for Smtp {
    fn greeting(&self) -> &'static [u8] {
        b"220 backend ESMTP\r\n"
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Then {
        let answer: &[u8] = match self.awaits {
            Awaits::Data if line != b"." => return Then::Go,
            Awaits::Data => {
                self.awaits = Awaits::Command;
                b"250 2.0.0 taken\r\n"
            }
            Awaits::Responses(2) => {
                self.awaits = Awaits::Responses(1);
                b"334 UGFzc3dvcmQ6\r\n"
            }
            Awaits::Responses(_) => {
                self.awaits = Awaits::Command;
                b"235 2.7.0 welcome\r\n"
            }
            Awaits::Command => return self.command(line, out),
        };
        out.extend_from_slice(answer);
        Then::Go
    }
}

impl Smtp {
    fn command(&mut self, line: &[u8], out: &mut Vec<u8>) -> Then {
        let mut words = line.split(|byte| *byte == b' ');
        let command = words.next().unwrap_or_default().to_ascii_uppercase();
        let answer: &[u8] = match command.as_slice() {
            b"EHLO" => CAPABILITIES,
            b"HELO" => b"250 backend\r\n",
            b"AUTH" => match (words.next().unwrap_or_default().to_ascii_uppercase().as_slice(), words.next()) {
                (b"LOGIN", None) => {
                    self.awaits = Awaits::Responses(2);
                    b"334 VXNlcm5hbWU6\r\n"
                }
                (b"LOGIN", Some(_)) => {
                    self.awaits = Awaits::Responses(1);
                    b"334 UGFzc3dvcmQ6\r\n"
                }
                (_, None) => {
                    self.awaits = Awaits::Responses(1);
                    b"334 \r\n"
                }
                (_, Some(_)) => b"235 2.7.0 welcome\r\n",
            },
            b"DATA" => {
                self.awaits = Awaits::Data;
                b"354 go on\r\n"
            }
            b"QUIT" => {
                out.extend_from_slice(b"221 2.0.0 bye\r\n");
                return Then::Close;
            }
            _ => b"250 2.0.0 ok\r\n",
        };
        out.extend_from_slice(answer);
        Then::Go
    }
}
