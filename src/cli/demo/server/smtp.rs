//! SMTP (RFC 5321) as an old server speaks it: it takes mail from whoever can reach it.

use super::login::{self, MECHANISMS, Verdict};
use super::store::{Flags, FolderFault, Full, INBOX, Message, OUTBOX, Space, Store};
use super::wire::Wire;
use super::{DOMAIN, MAX_MESSAGE};
use crate::proto::line::Line;
use bytes::Bytes;
use memchr::memmem;
use std::io;
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// A command line; RFC 4954 section 4 wants 12,288 octets for AUTH.
const LINE: usize = 12_288;
/// RFC 5321 section 4.5.3.1.8 wants 100 at least.
const RECIPIENTS: usize = 100;
/// RFC 5321 section 4.5.3.1.3, and the angle brackets.
const PATH: usize = 258;
/// What room for a message under way is taken in.
const STEP: usize = 256 * 1024;

/// Parameters of MAIL and RCPT that are understood, or need nothing done about them.
const MAIL_PARAMETERS: [&str; 6] = ["SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH"];
const RCPT_PARAMETERS: [&str; 2] = ["NOTIFY", "ORCPT"];

/// Serves one connection to its end.
pub(super) async fn serve(wire: Wire, store: Arc<Store>) -> io::Result<()> {
    let mut session = Session { wire, store, helo: String::new(), authenticated: false, mail: None };
    session.wire.send("220 mail.example.net ESMTP plaintext\r\n").await?;
    while let Some(line) = session.wire.line(LINE).await? {
        let Line::Whole { bytes, .. } = line else {
            session.wire.send("500 5.5.2 line too long\r\n").await?;
            continue;
        };
        let mut words = bytes.splitn(2, |&b| b == b' ');
        let verb = String::from_utf8_lossy(words.next().unwrap_or_default()).to_ascii_uppercase();
        let argument = String::from_utf8_lossy(words.next().unwrap_or_default()).trim().to_owned();
        if verb == "QUIT" {
            session.wire.send("221 2.0.0 goodbye\r\n").await?;
            break;
        }
        session.command(&verb, &argument).await?;
    }
    session.wire.flush().await
}

struct Session {
    wire: Wire,
    store: Arc<Store>,
    helo: String,
    authenticated: bool,
    mail: Option<Envelope>,
}

/// A mail transaction.
struct Envelope {
    from: String,
    to: Vec<String>,
}

impl Session {
    async fn command(&mut self, verb: &str, argument: &str) -> io::Result<()> {
        match verb {
            "EHLO" | "HELO" => self.hello(verb, argument).await,
            "AUTH" => self.auth(argument).await,
            "MAIL" => {
                let reply = self.mail_from(argument);
                self.wire.send(reply).await
            }
            "RCPT" => {
                let reply = self.recipient(argument);
                self.wire.send(reply).await
            }
            "DATA" => self.data().await,
            "RSET" => {
                self.mail = None;
                self.wire.send("250 2.0.0 forgotten\r\n").await
            }
            "NOOP" => self.wire.send("250 2.0.0 fine\r\n").await,
            "VRFY" => self.wire.send("252 2.1.5 try it\r\n").await,
            "HELP" => self.wire.send("214 2.0.0 EHLO AUTH MAIL RCPT DATA RSET NOOP QUIT\r\n").await,
            _ => self.wire.send("500 5.5.1 not known\r\n").await,
        }
    }

    async fn hello(&mut self, verb: &str, name: &str) -> io::Result<()> {
        if name.is_empty() {
            return self.wire.send("501 5.5.4 who are you?\r\n").await;
        }
        self.mail = None;
        self.helo = name.chars().filter(char::is_ascii_graphic).take(255).collect();
        if verb == "HELO" {
            return self.wire.send("250 mail.example.net\r\n").await;
        }
        let mechanisms = MECHANISMS.join(" ");
        let reply = format!(
            "250-mail.example.net\r\n250-SIZE {MAX_MESSAGE}\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
             250-DSN\r\n250-ENHANCEDSTATUSCODES\r\n250 AUTH {mechanisms}\r\n"
        );
        self.wire.send(reply).await
    }

    async fn auth(&mut self, argument: &str) -> io::Result<()> {
        if self.authenticated || self.mail.is_some() {
            return self.wire.send("503 5.5.1 not now\r\n").await;
        }
        let mut words = argument.split_ascii_whitespace();
        let mechanism = words.next().unwrap_or_default();
        let verdict = login::converse(&mut self.wire, mechanism, words.next().map(str::as_bytes), "334 ").await?;
        self.authenticated = verdict == Verdict::Accepted;
        let reply = match verdict {
            Verdict::Accepted => "235 2.7.0 welcome\r\n",
            Verdict::Wrong => "535 5.7.8 wrong name or password\r\n",
            Verdict::Cancelled => "501 5.7.0 cancelled\r\n",
            Verdict::Malformed => "501 5.5.2 cannot decode that\r\n",
            Verdict::Unknown => "504 5.5.4 no such mechanism\r\n",
        };
        self.wire.send(reply).await
    }

    fn mail_from(&mut self, argument: &str) -> String {
        if self.helo.is_empty() {
            return "503 5.5.1 first EHLO\r\n".into();
        }
        if self.mail.is_some() {
            return "503 5.5.1 one transaction at a time\r\n".into();
        }
        let Some((from, parameters)) = path(argument, "FROM:") else {
            return "501 5.5.4 MAIL FROM:<address>\r\n".into();
        };
        for (name, value) in parameters {
            if !MAIL_PARAMETERS.contains(&name.as_str()) {
                return "555 5.5.4 parameter not known\r\n".into();
            }
            if name == "SIZE" && value.parse::<usize>().is_ok_and(|size| size > MAX_MESSAGE) {
                return format!("552 5.3.4 more than {MAX_MESSAGE} octets\r\n");
            }
        }
        self.mail = Some(Envelope { from, to: Vec::new() });
        "250 2.1.0 sender taken\r\n".into()
    }

    fn recipient(&mut self, argument: &str) -> String {
        let Some(mail) = &mut self.mail else { return "503 5.5.1 first MAIL\r\n".into() };
        let Some((to, mut parameters)) = path(argument, "TO:").filter(|(to, _)| !to.is_empty()) else {
            return "501 5.5.4 RCPT TO:<address>\r\n".into();
        };
        if !parameters.all(|(name, _)| RCPT_PARAMETERS.contains(&name.as_str())) {
            return "555 5.5.4 parameter not known\r\n".into();
        }
        if mail.to.len() >= RECIPIENTS {
            return "452 4.5.3 too many recipients\r\n".into();
        }
        mail.to.push(to);
        "250 2.1.5 recipient taken\r\n".into()
    }

    async fn data(&mut self) -> io::Result<()> {
        let Some(mail) = self.mail.take_if(|mail| !mail.to.is_empty()) else {
            return self.wire.send("503 5.5.1 first MAIL and RCPT\r\n").await;
        };
        self.wire.send("354 go on, a dot alone ends it\r\n").await?;
        let header = self.trace(&mail);
        let reply = match self.message(header).await? {
            Ok(message) => self.deliver(&mail, &message),
            Err(TooLarge::ForAMessage) => format!("552 5.3.4 more than {MAX_MESSAGE} octets\r\n"),
            Err(TooLarge::ForTheStore) => "452 4.3.1 no room left in the demo\r\n".into(),
        };
        self.wire.send(reply).await
    }

    /// What is put before a message (RFC 5321 section 4.4); `X-Envelope-To` because Bcc would otherwise not be seen.
    fn trace(&self, mail: &Envelope) -> String {
        let with = if self.authenticated { "ESMTPA" } else { "ESMTP" };
        let date = OffsetDateTime::now_utc().format(&Rfc2822).unwrap_or_default();
        let to: String = mail.to.iter().map(|to| format!("X-Envelope-To: {to}\r\n")).collect();
        format!(
            "Return-Path: <{}>\r\n{to}Received: from {} by mail.example.net with {with};\r\n\t{date}\r\n",
            mail.from, self.helo
        )
    }

    /// Reads to CRLF.CRLF, and nothing else ends it; removes the doubled dots. What is too large is read to its end and lost.
    async fn message(&mut self, header: String) -> io::Result<Result<Arc<Message>, TooLarge>> {
        let start = header.len();
        let mut raw = header.into_bytes();
        let mut room = Room::new(&self.store);
        let mut fault = room.for_at_least(raw.len()).err();
        // The first line may be the dot, so the end is looked for from the CRLF before it on.
        let mut seen = start - 2;
        loop {
            let chunk = self.wire.chunk(usize::MAX).await?;
            raw.extend_from_slice(&chunk);
            if let Some(at) = memmem::find(&raw[seen..], b"\r\n.\r\n") {
                let end = seen + at + 2;
                let behind = raw.split_off(end);
                self.wire.unread(&behind[b".\r\n".len()..]);
                break;
            }
            fault = fault.or_else(|| room.for_at_least(raw.len()).err());
            if fault.is_some() {
                raw.drain(..raw.len() - 4);
            }
            seen = raw.len().saturating_sub(4).max(if fault.is_some() { 0 } else { start - 2 });
        }
        let Some(space) = room.taken.filter(|_| fault.is_none()) else {
            return Ok(Err(fault.unwrap_or(TooLarge::ForTheStore)));
        };
        Ok(Ok(Message::new(Bytes::from(without_stuffing(raw, start)), space)))
    }

    /// One copy to the INBOX if anyone is at home, one to the outbox if anyone is not.
    fn deliver(&self, mail: &Envelope, message: &Arc<Message>) -> String {
        let at_home = |to: &String| {
            let domain = to.rsplit_once('@').map_or("", |(_, domain)| domain);
            domain.eq_ignore_ascii_case(DOMAIN) || domain.is_empty()
        };
        let folders_for = [(INBOX, mail.to.iter().any(at_home)), (OUTBOX, !mail.to.iter().all(at_home))];
        let now = OffsetDateTime::now_utc();
        let delivered = self.store.change(|folders| {
            for (folder, _) in folders_for.iter().filter(|(_, wanted)| *wanted) {
                if let Err(fault @ FolderFault::Full) = folders.create(folder) {
                    return Err(fault);
                }
                folders.append(folder, message.clone(), Flags::default(), now)?;
            }
            Ok(())
        });
        match delivered {
            Ok(()) => "250 2.0.0 delivered\r\n".into(),
            Err(_) => "452 4.3.1 no room left in the demo\r\n".into(),
        }
    }
}

enum TooLarge {
    ForAMessage,
    ForTheStore,
}

/// Room for a message whose size is not known before its end, taken in steps.
struct Room<'a> {
    store: &'a Store,
    taken: Option<Space>,
    octets: usize,
}

impl<'a> Room<'a> {
    fn new(store: &'a Store) -> Self {
        Self { store, taken: None, octets: 0 }
    }

    fn for_at_least(&mut self, octets: usize) -> Result<(), TooLarge> {
        if octets > MAX_MESSAGE {
            return Err(TooLarge::ForAMessage);
        }
        while self.octets < octets {
            let more = self.store.space(STEP).map_err(|Full| TooLarge::ForTheStore)?;
            self.octets += STEP;
            match &mut self.taken {
                Some(taken) => taken.join(more),
                None => self.taken = Some(more),
            }
        }
        Ok(())
    }
}

/// Takes the dot off each line that begins with one, from `start` on.
fn without_stuffing(raw: Vec<u8>, start: usize) -> Vec<u8> {
    let mut plain = Vec::with_capacity(raw.len());
    let mut from = 0;
    for at in memmem::find_iter(&raw[start - 2..], b"\r\n.").map(|at| at + start) {
        plain.extend_from_slice(&raw[from..at]);
        from = at + 1;
    }
    plain.extend_from_slice(&raw[from..]);
    plain
}

/// `FROM:<address> NAME=value …`: the address without its brackets and route, and the parameters.
fn path<'a>(argument: &'a str, keyword: &str) -> Option<(String, impl Iterator<Item = (String, &'a str)>)> {
    let rest = argument.get(keyword.len()..)?;
    if !argument.get(..keyword.len())?.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let (address, parameters) = rest.trim_start().strip_prefix('<')?.split_once('>')?;
    let address = if address.starts_with('@') { address.split_once(':')?.1 } else { address };
    if address.len() > PATH || address.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return None;
    }
    let parameters = parameters.split_ascii_whitespace().map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (name.to_ascii_uppercase(), value)
    });
    Some((address.to_owned(), parameters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_with_its_parameters() {
        let cases = [
            ("FROM:<joe@example.net>", Some(("joe@example.net", 0))),
            ("from: <joe@example.net> SIZE=10 BODY=8BITMIME", Some(("joe@example.net", 2))),
            ("FROM:<>", Some(("", 0))),
            ("FROM:<@relay.example:joe@example.net>", Some(("joe@example.net", 0))),
            ("FROM:joe@example.net", None),
            ("FROM:<joe example>", None),
            ("FROM", None),
            ("ü", None),
        ];
        for (argument, expected) in cases {
            let read = path(argument, "FROM:").map(|(address, parameters)| (address, parameters.count()));
            assert_eq!(read, expected.map(|(address, n)| (address.to_owned(), n)), "{argument}");
        }
    }

    #[test]
    fn doubled_dots_become_one_and_no_other_dot_is_touched() {
        let cases =
            [("a\r\n..b\r\n", "a\r\n.b\r\n"), ("..\r\n", ".\r\n"), ("a..b\r\n.\n", "a..b\r\n\n"), ("a\n..b", "a\n..b")];
        for (sent, kept) in cases {
            let raw = format!("X: y\r\n{sent}").into_bytes();
            assert_eq!(without_stuffing(raw, 6), format!("X: y\r\n{kept}").into_bytes(), "{sent:?}");
        }
    }
}
