//! A connection to a mail server and what is said on it before a login: one thing asked, one thing answered.
//!
//! Each answer has its deadline and its bound: a server that drips, or never comes to an end, is given up.

use crate::proto::line::{Line, LineReader, MAX_COMMAND, printable};
use crate::proto::smtp::{ReplyReader, SmtpReply};
use crate::proto::{BackFault, Capabilities, Mechanism, Protocol};
use crate::tls;
use bytes::BytesMut;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The most octets of one answer.
const MAX_ANSWER: usize = 64 * 1024;
/// The most lines of a list that are kept, and the most octets of each.
const MAX_LINES: usize = 128;
const MAX_LINE: usize = 512;
/// How often a greeting may be announced (Dovecot, while it waits for its auth process) before it has to come.
const MAX_WAITING: usize = 8;

/// How long a server may take over its goodbye.
const LEAVING: Duration = Duration::from_secs(2);

/// Why a conversation ended before its time.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Fault {
    /// No address, nobody listens, no route.
    #[error("{0}")]
    Unreachable(String),
    /// It did not do this within the time it had.
    #[error("it did not {0} in time")]
    Timeout(&'static str),
    /// It closed the connection where an answer was due.
    #[error("it closed the connection where an answer was due")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(std::io::Error),
    /// BYE, -ERR, 4yz or 5yz in the greeting's place.
    #[error("it turns us away: {0}")]
    TurnedAway(String),
    /// Not what its protocol says.
    #[error("it does not speak {0}: {1}")]
    Garbage(&'static str, String),
    /// A line or an answer past its bound.
    #[error("its answer has no end")]
    TooLarge,
    /// It would not begin TLS.
    #[error("it refuses STARTTLS: {0}")]
    NoStartTls(String),
    /// It said more in the clear behind its go-ahead.
    #[error("it goes on in the clear behind its go-ahead for TLS: somebody on the way may put words into its mouth")]
    Unsolicited,
    /// The handshake failed; kept as it is, since what is wrong with a certificate is in it.
    #[error("the TLS handshake failed: {0}")]
    Tls(std::io::Error),
}

/// A connection, in the clear or under TLS.
pub(in crate::cli) struct Wire<S> {
    stream: S,
    protocol: Protocol,
    input: BytesMut,
    lines: LineReader,
    replies: ReplyReader,
    patience: Duration,
    deadline: Instant,
    /// Octets since the last thing asked.
    heard: usize,
}

impl Wire<TcpStream> {
    /// Takes up a connection that was just made. Each answer may take `patience`.
    pub(in crate::cli) fn new(stream: TcpStream, protocol: Protocol, patience: Duration) -> Self {
        Self::over(stream, protocol, patience)
    }

    /// Asks for TLS and waits for the go-ahead. `behind` is written in the same packet, to see whether it is run.
    ///
    /// # Errors
    /// [`Fault::NoStartTls`] when it says no, [`Fault::Unsolicited`] when it says more than yes.
    pub(in crate::cli) async fn ask_for_tls(&mut self, behind: &str) -> Result<(), Fault> {
        let (command, yes) = match self.protocol {
            Protocol::Imap => ("s STARTTLS\r\n", "s OK"),
            Protocol::Pop3 => ("STLS\r\n", "+OK"),
            Protocol::Smtp => ("STARTTLS\r\n", "220"),
        };
        self.say(&format!("{command}{behind}")).await?;
        let answer = match self.protocol {
            Protocol::Smtp => in_words(&self.reply().await?),
            Protocol::Pop3 => self.line().await?,
            Protocol::Imap => self.imap_answer("s").await?.pop().unwrap_or_default(),
        };
        if !begins(&answer, yes) {
            return Err(Fault::NoStartTls(answer));
        }
        if self.input.is_empty() { Ok(()) } else { Err(Fault::Unsolicited) }
    }

    /// Begins TLS as `host`'s client. What was read in the clear is gone with the plain wire.
    ///
    /// # Errors
    /// [`Fault::Tls`], [`Fault::Timeout`].
    pub(in crate::cli) async fn under_tls(
        self,
        config: Arc<ClientConfig>,
        host: &str,
    ) -> Result<Wire<TlsStream<TcpStream>>, Fault> {
        let name = tls::server_name(host).map_err(|error| Fault::Unreachable(format!("{host}: {error}")))?;
        let connecting = TlsConnector::from(config).connect(name, self.stream);
        match timeout(self.patience, connecting).await {
            Ok(Ok(stream)) => Ok(Wire::over(stream, self.protocol, self.patience)),
            Ok(Err(error)) => Err(Fault::Tls(error)),
            Err(_) => Err(Fault::Timeout("finish the TLS handshake")),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    fn over(stream: S, protocol: Protocol, patience: Duration) -> Self {
        Self {
            stream,
            protocol,
            input: BytesMut::new(),
            lines: LineReader::default(),
            replies: ReplyReader::default(),
            patience,
            deadline: Instant::now() + patience,
            heard: 0,
        }
    }

    /// What the words go through.
    pub(in crate::cli) fn stream(&self) -> &S {
        &self.stream
    }

    /// Gives up the dialogue: the stream, and what was read of it and not looked at.
    pub(in crate::cli) fn into_stream(self) -> (S, BytesMut) {
        (self.stream, self.input)
    }

    /// Takes the greeting, printable.
    ///
    /// # Errors
    /// [`Fault::TurnedAway`], [`Fault::Garbage`] and those of any answer.
    pub(in crate::cli) async fn greeting(&mut self) -> Result<String, Fault> {
        match self.protocol {
            Protocol::Smtp => {
                let reply = self.reply().await?;
                if reply.code() == 220 { Ok(in_words(&reply)) } else { Err(Fault::TurnedAway(in_words(&reply))) }
            }
            Protocol::Pop3 => match self.line().await? {
                line if begins(&line, "+OK") => Ok(line),
                line if begins(&line, "-ERR") => Err(Fault::TurnedAway(line)),
                line => Err(self.garbage(&line)),
            },
            Protocol::Imap => {
                for _ in 0..MAX_WAITING {
                    let line = self.line().await?;
                    if begins(&line, "* BYE") {
                        return Err(Fault::TurnedAway(line));
                    }
                    if !begins(&line, "* OK") && !begins(&line, "* PREAUTH") {
                        return Err(self.garbage(&line));
                    }
                    if !line.contains("Waiting for authentication") {
                        return Ok(line);
                    }
                }
                Err(Fault::Timeout("greet"))
            }
        }
    }

    /// Asks what the server can do. `ehlo` is our name towards SMTP. Old servers that do not know the question have an
    /// empty list.
    ///
    /// # Errors
    /// Those of any answer.
    pub(in crate::cli) async fn capabilities(&mut self, ehlo: &str) -> Result<Capabilities, Fault> {
        match self.protocol {
            Protocol::Imap => {
                self.say("c CAPABILITY\r\n").await?;
                let answer = self.imap_answer("c").await?;
                let list = answer.iter().find(|line| begins(line, "* CAPABILITY")).map(String::as_str);
                Ok(imap_capabilities(list.and_then(|list| list.get("* CAPABILITY".len()..)).unwrap_or_default()))
            }
            Protocol::Pop3 => {
                self.say("CAPA\r\n").await?;
                let mut lines = Vec::new();
                if begins(&self.line().await?, "+OK") {
                    loop {
                        match self.line().await? {
                            end if end == "." => break,
                            line if lines.len() < MAX_LINES => lines.push(cut(line)),
                            _ => {}
                        }
                    }
                }
                Ok(pop3_capabilities(lines))
            }
            Protocol::Smtp => {
                self.say(&format!("EHLO {ehlo}\r\n")).await?;
                let reply = self.reply().await?;
                if reply.is_positive() {
                    return Ok(smtp_capabilities(&reply));
                }
                self.say(&format!("HELO {ehlo}\r\n")).await?;
                self.reply().await.map(|_| Capabilities::default())
            }
        }
    }

    /// Says a command of SMTP and takes the reply.
    ///
    /// # Errors
    /// Those of any answer.
    pub(in crate::cli) async fn command(&mut self, command: &str) -> Result<SmtpReply, Fault> {
        self.say(&format!("{command}\r\n")).await?;
        self.reply().await
    }

    /// Says goodbye and returns every line that comes until the server closes, within [`LEAVING`]. What it says last is of
    /// interest to few, and that it breaks off here to nobody.
    pub(in crate::cli) async fn goodbye(mut self) -> Vec<String> {
        let command = if self.protocol == Protocol::Imap { "q LOGOUT\r\n" } else { "QUIT\r\n" };
        let mut lines = Vec::new();
        self.patience = self.patience.min(LEAVING);
        if self.say(command).await.is_ok() {
            while lines.len() < MAX_LINES
                && let Ok(line) = self.line().await
            {
                lines.push(line);
            }
        }
        let _ = timeout(LEAVING, self.stream.shutdown()).await;
        lines
    }

    async fn say(&mut self, text: &str) -> Result<(), Fault> {
        (self.deadline, self.heard) = (Instant::now() + self.patience, 0);
        let saying = async {
            self.stream.write_all(text.as_bytes()).await?;
            self.stream.flush().await
        };
        timeout_at(self.deadline, saying).await.map_err(|_| Fault::Timeout("read"))?.map_err(Fault::Broken)
    }

    /// Every line up to the one with the tag, that one included.
    async fn imap_answer(&mut self, tag: &str) -> Result<Vec<String>, Fault> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            let is_last = line.split(' ').next() == Some(tag);
            if !is_last && begins(&line, "* BYE") {
                return Err(Fault::TurnedAway(line));
            }
            if lines.len() < MAX_LINES || is_last {
                lines.push(line);
            }
            if is_last {
                return Ok(lines);
            }
        }
    }

    async fn reply(&mut self) -> Result<SmtpReply, Fault> {
        loop {
            match self.replies.next(&mut self.input) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => self.more().await?,
                Err(BackFault::Garbage(protocol, what)) => return Err(Fault::Garbage(protocol, what)),
                Err(_) => return Err(Fault::TooLarge),
            }
        }
    }

    async fn line(&mut self) -> Result<String, Fault> {
        loop {
            match self.lines.next(&mut self.input, MAX_COMMAND) {
                Some(Line::Whole { bytes, .. }) => return Ok(printable(&bytes, MAX_COMMAND)),
                Some(Line::TooLong) => return Err(Fault::TooLarge),
                // Binary, or another protocol, may never bring the end of a line.
                None if self.input.len() > MAX_COMMAND => return Err(Fault::TooLarge),
                None => self.more().await?,
            }
        }
    }

    async fn more(&mut self) -> Result<(), Fault> {
        let reading = self.stream.read_buf(&mut self.input);
        match timeout_at(self.deadline, reading).await {
            Err(_) => Err(Fault::Timeout("answer")),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Fault::Closed),
            Ok(Err(error)) => Err(Fault::Broken(error)),
            Ok(Ok(0)) => Err(Fault::Closed),
            Ok(Ok(read)) => {
                self.heard += read;
                if self.heard > MAX_ANSWER { Err(Fault::TooLarge) } else { Ok(()) }
            }
        }
    }

    fn garbage(&self, line: &str) -> Fault {
        let protocol = match self.protocol {
            Protocol::Imap => "IMAP",
            Protocol::Pop3 => "POP3",
            Protocol::Smtp => "SMTP",
        };
        Fault::Garbage(protocol, line.chars().take(80).collect())
    }
}

fn begins(line: &str, with: &str) -> bool {
    line.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
}

fn in_words(reply: &SmtpReply) -> String {
    let text: Vec<String> = reply.lines().map(|line| printable(line, MAX_LINE)).collect();
    format!("{} {}", reply.code(), text.join(" ")).trim_end().to_owned()
}

fn cut(mut line: String) -> String {
    let end = (0..=line.len().min(MAX_LINE)).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0);
    line.truncate(end);
    line
}

fn mechanisms<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Mechanism> {
    names.filter_map(|name| Mechanism::parse(name.as_bytes())).collect()
}

/// RFC 3501 section 7.2.1.
fn imap_capabilities(list: &str) -> Capabilities {
    let lines: Vec<String> = list.split_whitespace().take(MAX_LINES).map(|atom| cut(atom.to_owned())).collect();
    let is_sasl = |atom: &'_ String| atom.get(..5).is_some_and(|key| key.eq_ignore_ascii_case("AUTH="));
    let mechanisms = mechanisms(lines.iter().filter(|atom| is_sasl(atom)).filter_map(|atom| atom.get(5..)));
    let mut capabilities = Capabilities { lines, mechanisms, ..Capabilities::default() };
    capabilities.login_command = !capabilities.has("LOGINDISABLED");
    capabilities
}

/// RFC 2449 section 5. A server that does not know CAPA is older than any way to log in but USER.
fn pop3_capabilities(lines: Vec<String>) -> Capabilities {
    let knows_none = lines.is_empty();
    let mut capabilities = Capabilities { lines, ..Capabilities::default() };
    capabilities.mechanisms = mechanisms(capabilities.argument("SASL").unwrap_or_default().split(' '));
    capabilities.login_command = knows_none || capabilities.has("USER");
    capabilities
}

/// RFC 5321 section 4.1.1.1, RFC 4954 section 3; `AUTH=` is what Outlook once wanted to see.
fn smtp_capabilities(reply: &SmtpReply) -> Capabilities {
    let lines: Vec<String> =
        reply.lines().skip(1).take(MAX_LINES).map(|line| printable(line, MAX_LINE).trim().to_owned()).collect();
    let mut capabilities = Capabilities { lines, ..Capabilities::default() };
    let lists = lines_of(&capabilities, "AUTH ").chain(lines_of(&capabilities, "AUTH="));
    capabilities.mechanisms = mechanisms(lists.flat_map(|list| list.split(' ')));
    capabilities.mechanisms.dedup();
    capabilities
}

/// What follows this beginning on the lines that have it.
fn lines_of<'a>(capabilities: &'a Capabilities, beginning: &'a str) -> impl Iterator<Item = &'a str> {
    capabilities.lines.iter().filter(|line| begins(line, beginning)).filter_map(|line| line.get(beginning.len()..))
}

#[cfg(test)]
mod tests;
