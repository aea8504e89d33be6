//! An old server, as a reader of bytes: strict about where a line ends, or sloppy as many are. It believes whoever is
//! connected, answers everything with yes, and keeps what it understood: commands, and messages.

use crate::gateway::own_addresses;
use gatepost::proto::Protocol;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a server takes for the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// CRLF alone.
    Strict,
    /// CRLF, LF or CR: LF.LF, LF.CRLF, CR.CR, CRLF.CR and all the others end a message.
    Sloppy,
    /// The same, and a NUL is dropped before anything is looked at.
    DropsNul,
}

impl Reads {
    pub(super) const ALL: [Self; 3] = [Self::Strict, Self::Sloppy, Self::DropsNul];
}

/// A server's side of one connection: bytes in, replies out.
#[derive(Debug)]
pub(super) struct Reader {
    protocol: Protocol,
    reads: Reads,
    line: Vec<u8>,
    /// Octets of `line` that came as literals, and hold no line end whatever they are.
    literal_end: usize,
    awaited: usize,
    after_cr: bool,
    state: State,
    /// The lines it took for commands, responses to its challenges among them.
    pub(super) commands: Vec<String>,
    /// The messages it took, their dots undone, CRLF behind each line.
    pub(super) messages: Vec<Vec<u8>>,
    message: Vec<u8>,
    closed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Commands,
    Data,
    /// The next line answers a challenge; with IMAP's tag.
    Response(String),
}

impl Reader {
    pub(super) fn new(protocol: Protocol, reads: Reads) -> Self {
        Self {
            protocol,
            reads,
            line: Vec::new(),
            literal_end: 0,
            awaited: 0,
            after_cr: false,
            state: State::Commands,
            commands: Vec::new(),
            messages: Vec::new(),
            message: Vec::new(),
            closed: false,
        }
    }

    fn greeting(&self) -> &'static str {
        match self.protocol {
            Protocol::Imap => "* OK [CAPABILITY IMAP4rev1 LITERAL+ AUTH=CRAM-MD5] ready\r\n",
            Protocol::Pop3 => "+OK ready\r\n",
            Protocol::Smtp => "220 old.example.net ESMTP\r\n",
        }
    }

    /// Takes bytes and gives the replies to them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut replies = Vec::new();
        for &byte in bytes {
            self.byte(byte, &mut replies);
        }
        replies
    }

    fn byte(&mut self, byte: u8, replies: &mut Vec<u8>) {
        // The second half of a CRLF whose first ended the line.
        if std::mem::take(&mut self.after_cr) && byte == b'\n' {
            return;
        }
        if self.awaited > 0 {
            self.line.push(byte);
            self.awaited -= 1;
            self.literal_end = self.line.len();
            return;
        }
        if self.reads == Reads::DropsNul && byte == 0 {
            return;
        }
        let line_ends = if self.reads == Reads::Strict {
            self.line.push(byte);
            let ends = self.line.len() >= self.literal_end + 2 && self.line.ends_with(b"\r\n");
            if ends {
                self.line.truncate(self.line.len() - 2);
            }
            ends
        } else {
            self.after_cr = byte == b'\r';
            let ends = matches!(byte, b'\r' | b'\n');
            if !ends {
                self.line.push(byte);
            }
            ends
        };
        if line_ends {
            self.end_of_line(replies);
        }
    }

    fn end_of_line(&mut self, replies: &mut Vec<u8>) {
        if self.state == State::Data {
            let line = std::mem::take(&mut self.line);
            if line == b"." {
                self.state = State::Commands;
                self.messages.push(std::mem::take(&mut self.message));
                replies.extend_from_slice(b"250 queued\r\n");
            } else {
                self.message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                self.message.extend_from_slice(b"\r\n");
            }
            return;
        }
        if self.protocol == Protocol::Imap
            && let Some((octets, waits)) = literal(&self.line[self.literal_end..])
        {
            self.awaited = octets;
            self.literal_end = self.line.len();
            if waits {
                replies.extend_from_slice(b"+ go\r\n");
            }
            return;
        }
        let line = std::mem::take(&mut self.line);
        self.literal_end = 0;
        self.commands.push(line.escape_ascii().to_string());
        let reply = self.answer(&String::from_utf8_lossy(&line));
        replies.extend_from_slice(reply.as_bytes());
    }

    fn answer(&mut self, line: &str) -> String {
        let right = !line.contains("wrong") && !line.contains(&super::base64("\0joe\0wrong"));
        let words: Vec<&str> = line.split([' ', ':']).collect();
        match (self.protocol, std::mem::replace(&mut self.state, State::Commands)) {
            (Protocol::Imap, State::Response(tag)) => format!("{tag} OK in\r\n"),
            (Protocol::Imap, _) => {
                let (tag, verb) = (words[0], words.get(1).copied().unwrap_or_default());
                match verb {
                    "LOGIN" if !right => format!("{tag} NO [AUTHENTICATIONFAILED] no\r\n"),
                    "AUTHENTICATE" => {
                        self.state = State::Response(tag.to_owned());
                        "+ PDEuMkBvbGQ+\r\n".to_owned()
                    }
                    "LOGOUT" => {
                        self.closed = true;
                        format!("* BYE\r\n{tag} OK bye\r\n")
                    }
                    _ => format!("{tag} OK done\r\n"),
                }
            }
            (Protocol::Pop3, State::Commands) => match words[0] {
                "CAPA" => "+OK\r\nUSER\r\nUIDL\r\nTOP\r\nSASL CRAM-MD5\r\n.\r\n".to_owned(),
                "PASS" if !right => "-ERR no\r\n".to_owned(),
                "AUTH" => {
                    self.state = State::Response(String::new());
                    "+ PDEuMkBvbGQ+\r\n".to_owned()
                }
                "QUIT" => {
                    self.closed = true;
                    "+OK bye\r\n".to_owned()
                }
                _ => "+OK\r\n".to_owned(),
            },
            (Protocol::Pop3, _) => "+OK in\r\n".to_owned(),
            (Protocol::Smtp, State::Response(_)) => "235 in\r\n".to_owned(),
            (Protocol::Smtp, _) => match words[0] {
                "EHLO" => "250-old.example.net\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-XCLIENT NAME ADDR\r\n\
                           250-XFORWARD NAME ADDR\r\n250-ETRN\r\n250-CHUNKING\r\n250 AUTH PLAIN CRAM-MD5\r\n"
                    .to_owned(),
                "AUTH" if words.get(1) == Some(&"CRAM-MD5") => {
                    self.state = State::Response(String::new());
                    "334 PDEuMkBvbGQ+\r\n".to_owned()
                }
                "AUTH" if right => "235 in\r\n".to_owned(),
                "AUTH" => "535 no\r\n".to_owned(),
                "DATA" => {
                    self.state = State::Data;
                    "354 go\r\n".to_owned()
                }
                "QUIT" => {
                    self.closed = true;
                    "221 bye\r\n".to_owned()
                }
                _ => "250 ok\r\n".to_owned(),
            },
        }
    }
}

/// The literal announced at the end of a line, and whether its sender waits for a word.
fn literal(line: &[u8]) -> Option<(usize, bool)> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix('}')?;
    let number = text.rsplit_once('{')?.1;
    let (number, waits) = number.strip_suffix('+').map_or((number, true), |number| (number, false));
    Some((number.parse().ok()?, waits))
}

/// Such a server on a port of its own.
#[derive(Clone)]
pub(super) struct Old {
    pub(super) address: SocketAddr,
    connections: Arc<Mutex<Vec<Reader>>>,
}

impl Old {
    pub(super) async fn serve(protocol: Protocol, reads: Reads) -> Self {
        let listener = TcpListener::bind((own_addresses(), 0)).await.expect("a free port");
        let old = Self { address: listener.local_addr().expect("bound"), connections: Arc::default() };
        let connections = Arc::clone(&old.connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let reader = Reader::new(protocol, reads);
                let number = {
                    let mut all = connections.lock().expect("no panic");
                    all.push(reader);
                    all.len() - 1
                };
                tokio::spawn(answer(stream, Arc::clone(&connections), number));
            }
        });
        old
    }

    /// Connections so far, the gateway's own question about what it can do among them.
    pub(super) fn dialled(&self) -> usize {
        self.connections.lock().expect("no panic").len()
    }

    /// The commands heard on all connections, the words apart with which the gateway asks what it can do, and parts.
    pub(super) fn commands(&self) -> Vec<String> {
        let ours = |line: &String| {
            ["EHLO mail.example.net", "QUIT", "CAPA"].contains(&line.as_str())
                || line.ends_with(" CAPABILITY")
                || line.ends_with(" LOGOUT")
        };
        let connections = self.connections.lock().expect("no panic");
        connections.iter().flat_map(|reader| reader.commands.clone()).filter(|line| !ours(line)).collect()
    }

    /// The messages taken on all connections.
    pub(super) fn messages(&self) -> Vec<Vec<u8>> {
        let connections = self.connections.lock().expect("no panic");
        connections.iter().flat_map(|reader| reader.messages.clone()).collect()
    }
}

async fn answer(mut stream: TcpStream, connections: Arc<Mutex<Vec<Reader>>>, number: usize) {
    let with = |take: &dyn Fn(&mut Reader) -> Vec<u8>| {
        let mut all = connections.lock().expect("no panic");
        let replies = take(&mut all[number]);
        (replies, all[number].closed)
    };
    let (greeting, _) = with(&|reader| reader.greeting().as_bytes().to_vec());
    if stream.write_all(&greeting).await.is_err() {
        return;
    }
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut bytes).await {
        let (replies, closed) = with(&|reader| reader.take(&bytes[..length]));
        if stream.write_all(&replies).await.is_err() || closed {
            return;
        }
    }
}

#[test]
fn a_sloppy_server_is_sloppy_and_a_strict_one_strict() {
    let ends = ["\r\n.\r\n", "\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\n.\r", "\r.\n"];
    for end in ends {
        for (nul, drops_nul) in [("", false), ("\0", true)] {
            let wire = format!("DATA\r\na{}", end.replace('.', &format!("{nul}.{nul}")));
            for reads in Reads::ALL {
                let mut reader = Reader::new(Protocol::Smtp, reads);
                reader.take(wire.as_bytes());
                let is_end = match reads {
                    Reads::Strict => end == ends[0] && !drops_nul,
                    Reads::Sloppy => !drops_nul,
                    Reads::DropsNul => true,
                };
                assert_eq!(reader.messages.len(), usize::from(is_end), "{reads:?} {wire:?}");
            }
        }
    }
    let mut imap = Reader::new(Protocol::Imap, Reads::Strict);
    assert_eq!(imap.take(b"a LOGIN {3}\r\n"), b"+ go\r\n");
    imap.take(b"j\r\n {5+}\r\nx}\r\ny\r\n");
    assert_eq!(imap.commands, ["a LOGIN {3}j\\r\\n {5+}x}\\r\\ny"]);
}
