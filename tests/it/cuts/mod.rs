//! No mail is lost and none is claimed: whenever a client heard 250 for a message, the backend had said 250 for it, and
//! what it had then was the message, whole. A client that vanishes inside a message leaves none at the backend.
//!
//! Shown by cutting a submission at every byte, on either side: `machine` does it to the follower alone, in every
//! variant; `live` to a gateway with sockets. Here is the submission, and the server at its other end.

mod live;
mod machine;

/// A submission as it goes over the wire, and what each part of it waits for.
pub(crate) struct Submission {
    /// Every byte the client sends.
    pub(crate) bytes: Vec<u8>,
    /// What its replies are for, in order.
    pub(crate) asked: Vec<Asked>,
    /// Before the bytes from here on, so many replies must be there.
    waits: Vec<(usize, usize)>,
    /// Where each message ends.
    pub(crate) ends: Vec<usize>,
}

/// What a reply is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Command,
    Data,
    Message(usize),
}

/// How a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// A command, and then its reply.
    OneByOne,
    /// As RFC 2920 has it: the next message's commands behind the end of the last.
    Pipelined,
    /// Everything, whatever is answered.
    Blind,
}

/// The messages, as they are written by a client that knows its trade: dots doubled, CRLF everywhere.
pub(crate) const MESSAGES: [&[u8]; 2] = [
    b"Subject: one\r\n\r\n..\r\n..dot\r\n\r\n\xe4\xf6\xfc gr\xc3\xbc\xc3\x9fe\r\n.x\r\n...\r\n",
    b"Subject: two\r\n\r\n.. \r\n\xff\xfe\r\n",
];

impl Submission {
    /// `before` are the client's commands to the message's first, each with one reply.
    pub(crate) fn new(before: &[&str], messages: &[&[u8]], manner: Manner) -> Self {
        let mut this = Self { bytes: Vec::new(), asked: Vec::new(), waits: Vec::new(), ends: Vec::new() };
        for command in before {
            this.ask(command, Asked::Command, manner == Manner::Blind);
        }
        for (number, text) in messages.iter().enumerate() {
            let grouped = manner != Manner::OneByOne;
            // Behind a message the next one's commands may follow without a pause; behind what came before it not.
            let behind_a_message = number > 0;
            let first = manner == Manner::Blind || grouped && behind_a_message;
            this.ask("MAIL FROM:<joe@example.net>", Asked::Command, first);
            this.ask("RCPT TO:<ann@example.net>", Asked::Command, grouped);
            this.ask("RCPT TO:<bob@example.net>", Asked::Command, grouped);
            this.ask("DATA", Asked::Data, grouped);
            if manner != Manner::Blind {
                this.waits.push((this.bytes.len(), this.asked.len()));
            }
            this.bytes.extend_from_slice(text);
            this.bytes.extend_from_slice(b".\r\n");
            this.ends.push(this.bytes.len());
            this.asked.push(Asked::Message(number));
        }
        this.ask("QUIT", Asked::Command, manner != Manner::OneByOne);
        this
    }

    fn ask(&mut self, command: &str, asked: Asked, at_once: bool) {
        if !at_once {
            self.waits.push((self.bytes.len(), self.asked.len()));
        }
        self.bytes.extend_from_slice(command.as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
        self.asked.push(asked);
    }

    /// Up to where the client may send, with these replies heard. Without a go-ahead for the text it goes no further.
    pub(crate) fn may_send(&self, replies: &[u16]) -> usize {
        let denied = self.asked.iter().zip(replies).position(|(asked, code)| *asked == Asked::Data && *code != 354);
        let heard = denied.unwrap_or(replies.len());
        let next = self.waits.iter().find(|(_, needed)| *needed > heard);
        next.map_or(self.bytes.len(), |(at, _)| *at)
    }

    /// The messages to which these replies, the client's, said yes.
    pub(crate) fn accepted(&self, replies: &[u16]) -> Vec<usize> {
        let answered = self.asked.iter().zip(replies);
        let yes = answered.filter_map(|(asked, code)| match asked {
            Asked::Message(number) if *code == 250 => Some(*number),
            _ => None,
        });
        yes.collect()
    }

    /// The messages that are whole in the first `sent` bytes.
    pub(crate) fn whole(&self, sent: usize) -> usize {
        self.ends.iter().filter(|end| **end <= sent).count()
    }
}

/// The codes of the whole replies in these bytes.
pub(crate) fn replies(bytes: &[u8]) -> Vec<u16> {
    let lines = bytes.split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"\r\n"));
    let last = lines.filter(|line| line.get(3) != Some(&b'-'));
    last.map(|line| std::str::from_utf8(&line[..3]).ok().and_then(|code| code.parse().ok()).unwrap_or(0)).collect()
}

/// A server that takes mail as RFC 5321 has it, or lies in a way of its own.
pub(crate) struct Server {
    quirk: Quirk,
    line: Vec<u8>,
    text: Option<Vec<u8>>,
    /// All it has said so far.
    pub(crate) said: Vec<u8>,
    /// The messages it has read to their end, and where in what it said the yes to each ended.
    pub(crate) taken: Vec<(Vec<u8>, usize)>,
    /// Everything it has heard.
    pub(crate) heard: Vec<u8>,
}

/// What is odd about a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quirk {
    None,
    /// It says yes to a message as soon as it has heard some of it.
    YesBeforeTheDot,
    /// It says yes twice.
    YesTwice,
    /// It says 250 to DATA.
    YesToData,
    /// It says 354 to the dot, and yes behind it.
    GoAfterTheDot,
    /// It says no to the message.
    No,
    /// It says yes in three lines.
    YesInLines,
}

impl Server {
    pub(crate) fn new(quirk: Quirk) -> Self {
        Self { quirk, line: Vec::new(), text: None, said: Vec::new(), taken: Vec::new(), heard: Vec::new() }
    }

    /// Hears a byte, and answers at the end of a line.
    pub(crate) fn hear(&mut self, byte: u8) {
        self.heard.push(byte);
        self.line.push(byte);
        if !self.line.ends_with(b"\r\n") {
            return;
        }
        let line = std::mem::take(&mut self.line);
        match &mut self.text {
            Some(_) if line == b".\r\n" => {
                let text = self.text.take().unwrap_or_default();
                self.say(match self.quirk {
                    Quirk::YesTwice => "250 2.0.0 Ok: queued\r\n250 2.0.0 Ok: queued\r\n",
                    Quirk::GoAfterTheDot => "354 Go on\r\n250 2.0.0 Ok: queued\r\n",
                    Quirk::No => "554 5.7.1 No\r\n",
                    Quirk::YesInLines => "250-2.0.0 Ok\r\n250-2.0.0 so\r\n250 2.0.0 queued\r\n",
                    Quirk::YesBeforeTheDot => "",
                    Quirk::None | Quirk::YesToData => "250 2.0.0 Ok: queued\r\n",
                });
                let until = if self.quirk == Quirk::No { usize::MAX } else { self.said.len() };
                let until =
                    if self.quirk == Quirk::YesTwice { until - "250 2.0.0 Ok: queued\r\n".len() } else { until };
                self.taken.push((text, until));
            }
            Some(text) => {
                text.extend_from_slice(&line);
                if self.quirk == Quirk::YesBeforeTheDot && text.len() == line.len() {
                    self.say("250 2.0.0 Ok: queued\r\n");
                }
            }
            None => match line.split(|byte| b" \r".contains(byte)).next().unwrap_or_default() {
                b"DATA" if self.quirk == Quirk::YesToData => self.say("250 2.0.0 Ok\r\n"),
                b"DATA" => {
                    self.text = Some(Vec::new());
                    self.say("354 Go\r\n");
                }
                b"EHLO" => self.say("250-old.example.net\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n"),
                b"AUTH" => self.say("235 2.7.0 ok\r\n"),
                b"QUIT" => self.say("221 2.0.0 Bye\r\n"),
                b"MAIL" | b"RCPT" | b"RSET" | b"NOOP" => self.say("250 2.1.0 Ok\r\n"),
                _ => self.say("500 what\r\n"),
            },
        }
    }

    fn say(&mut self, words: &str) {
        self.said.extend_from_slice(words.as_bytes());
    }
}
