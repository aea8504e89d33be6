//! Both ends of a follower, and a script for them.

use super::super::*;
use crate::proto::smtp::shown_extensions;

pub(super) const PIPELINING: &[&str] = &["PIPELINING", "SIZE 1000", "8BITMIME", "DSN"];

pub(super) fn settings(backend: &[&str], recipients: Recipients) -> TransactionSettings {
    let backend = capabilities(backend);
    TransactionSettings {
        hostname: "mail.example.net".to_owned(),
        max_message: 100,
        bare_newline: BareNewline::Reject,
        recipients,
        extensions: shown_extensions(&backend, 100),
        backend,
        helo: None,
    }
}

pub(super) fn capabilities(lines: &[&str]) -> Capabilities {
    Capabilities { lines: lines.iter().map(ToString::to_string).collect(), ..Capabilities::default() }
}

/// Both ends of a follower, and what it said.
pub(super) struct Session {
    pub(super) follower: Transaction,
    pub(super) from_client: BytesMut,
    pub(super) from_backend: BytesMut,
    pub(super) to_backend: BytesMut,
    pub(super) to_client: BytesMut,
    pub(super) reports: VecDeque<String>,
    /// The answer to the next question.
    refusal: Option<Refusal>,
    header: &'static str,
}

impl Session {
    pub(super) fn new(settings: TransactionSettings) -> Self {
        Self {
            follower: Transaction::new(settings),
            from_client: BytesMut::new(),
            from_backend: BytesMut::new(),
            to_backend: BytesMut::new(),
            to_client: BytesMut::new(),
            reports: VecDeque::new(),
            refusal: None,
            header: "",
        }
    }

    pub(super) fn pump(&mut self) {
        loop {
            let (follower, to_backend, to_client) = (&mut self.follower, &mut self.to_backend, &mut self.to_client);
            let mut progress = follower.backend(&mut self.from_backend, to_backend, to_client);
            if matches!(progress, Progress::More) {
                progress = follower.client(&mut self.from_client, to_backend, to_client);
            }
            self.reports.push_back(match progress {
                Progress::More => return,
                Progress::Sender(_) | Progress::Recipient(_) => {
                    follower.decide(self.refusal.take(), to_backend, to_client);
                    continue;
                }
                Progress::Data => {
                    to_backend.extend_from_slice(self.header.as_bytes());
                    continue;
                }
                Progress::Redial => "redial".to_owned(),
                Progress::Abandon(refused) => format!("abandon {}", text(&refused)),
                Progress::Refused(refused) => format!("refused {}", text(&refused)),
                Progress::Accepted(Message { envelope, size, reply }) => {
                    let sent = counted(envelope.from.as_ref(), envelope.recipients);
                    format!("accepted {sent} {size} {}", reply.to_line())
                }
                Progress::Over(over) => format!("over {over:?}"),
            });
        }
    }

    pub(super) fn play(settings: TransactionSettings, script: &str, byte_by_byte: bool) {
        let mut session = Self::new(settings);
        let mut lines = script.lines().map(str::trim_start).filter(|line| !line.is_empty()).peekable();
        while let Some(line) = lines.next() {
            let (mark, text) = line.split_at_checked(2).unwrap_or((line, ""));
            let mut bytes = wire(mark, text);
            match mark {
                "C:" | "C~" | "B:" | "B~" => {
                    session.nothing_unsaid(line);
                    while let Some(next) = lines.next_if(|next| next.as_bytes().first() == mark.as_bytes().first()) {
                        let (mark, text) = next.split_at(2);
                        bytes.extend(wire(mark, text));
                    }
                    for piece in bytes.chunks(if byte_by_byte { 1 } else { usize::MAX }) {
                        let from =
                            if mark.starts_with('C') { &mut session.from_client } else { &mut session.from_backend };
                        from.extend_from_slice(piece);
                        session.pump();
                    }
                }
                "S:" | "S~" => take(&mut session.to_client, &bytes, line),
                "G:" | "G~" => take(&mut session.to_backend, &bytes, line),
                "= " => assert_eq!(session.reports.pop_front().as_deref(), Some(text.trim_start()), "{line}"),
                "! " => session.act(text.trim_start()),
                _ => panic!("{line}"),
            }
        }
        session.nothing_unsaid("the end");
    }

    fn act(&mut self, text: &str) {
        match text.split_once(' ').unwrap_or((text, "")) {
            ("refuse", "rate_limited") => self.refusal = Some(Refusal::RateLimited),
            ("refuse", "sender_mismatch") => self.refusal = Some(Refusal::SenderMismatch),
            ("redialed", lines) => {
                let lines: Vec<&str> = lines.split(", ").filter(|line| !line.is_empty()).collect();
                self.follower.redialed(capabilities(&lines), &mut self.to_backend);
            }
            ("unavailable", _) => self.follower.unavailable(&mut self.to_client),
            ("lost", _) => self.follower.backend_lost(&mut self.to_client),
            ("header", _) => self.header = "Received: by us\r\n",
            ("turn", turn) => assert_eq!(format!("{:?}", self.follower.turn()), turn),
            ("idle", idle) => assert_eq!(self.follower.is_idle().to_string(), idle),
            _ => panic!("{text}"),
        }
        self.pump();
    }

    fn nothing_unsaid(&self, line: &str) {
        assert_eq!(self.to_client.escape_ascii().to_string(), "", "to the client, before {line}");
        assert_eq!(self.to_backend.escape_ascii().to_string(), "", "to the backend, before {line}");
        assert_eq!(self.reports, [""; 0], "before {line}");
    }
}

fn wire(mark: &str, text: &str) -> Vec<u8> {
    let text = text.strip_prefix(' ').unwrap_or(text);
    match mark.ends_with(':') {
        true => format!("{text}\r\n").into_bytes(),
        false => text.replace("\\r", "\r").replace("\\n", "\n").into_bytes(),
    }
}

fn take(pending: &mut BytesMut, expected: &[u8], line: &str) {
    let length = expected.len().min(pending.len());
    let got = pending.split_to(length).escape_ascii().to_string();
    assert_eq!(got, expected.escape_ascii().to_string(), "{line}, and then: {}", pending.escape_ascii());
}

fn sender(from: Option<&Address>) -> String {
    format!("<{}>", from.map(ToString::to_string).unwrap_or_default())
}

fn counted(from: Option<&Address>, recipients: usize) -> String {
    format!("{} for {recipients}", sender(from))
}

fn text(refused: &Refused) -> String {
    let stage = match &refused.stage {
        Stage::Sender => format!("sender {}", sender(refused.from.as_ref())),
        Stage::Recipient(to) => format!("recipient {} to {to}", sender(refused.from.as_ref())),
        Stage::Message { recipients, size } => {
            format!("message {} {size}", counted(refused.from.as_ref(), *recipients))
        }
    };
    let reason = refused.reason.map_or("backend", Refusal::as_str);
    format!("{stage} {reason}: {}", refused.reply.to_line())
}
