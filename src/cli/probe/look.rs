//! Looking: what a server shows to somebody who asks. Each question has a connection of its own but the first, which sees
//! greeting, TLS and capabilities; one after the other, since old servers bound the connections of an address.

use super::versions::{self, Answer, Version};
use crate::cli::remote::{Elsewhere, Fault, Target, Wire, dial, ehlo};
use crate::proto::{Capabilities, Service};
use crate::tls::{self, ChainFinding, Facts, Presented};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

type UnderTls = tokio_rustls::client::TlsStream<TcpStream>;

/// A sender and a recipient whom no server here has: the domain is reserved (RFC 2606 section 3).
const STRANGER: &str = "gatepost-probe@example.org";

/// How it is looked.
pub(super) struct Looking<'a> {
    pub(super) target: &'a Target,
    /// Dialled instead of the target's own host.
    pub(super) instead: Option<&'a Elsewhere>,
    pub(super) roots: &'a RootCertStore,
    /// Makes handshakes that believe anybody.
    pub(super) witness: Arc<ClientConfig>,
    pub(super) patience: Duration,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) address: Option<SocketAddr>,
    pub(super) greeting: Option<String>,
    /// What it says in the clear that it can do; none where TLS stands at the first byte.
    pub(super) before: Option<Capabilities>,
    pub(super) tls: Option<Facts>,
    /// What it proves itself with, or what is wrong with a chain that cannot be read.
    pub(super) presented: Option<Result<Presented, Vec<ChainFinding>>>,
    /// What it says under TLS that it can do.
    pub(super) after: Option<Capabilities>,
    /// Versions before TLS 1.3, the oldest first.
    pub(super) versions: Vec<(Version, Answer)>,
    pub(super) injection: Option<Injection>,
    pub(super) relay: Option<Relay>,
    /// Why there is no more.
    pub(super) fault: Option<Fault>,
}

/// What became of a command that stood in the clear behind STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Injection {
    /// It was answered under TLS (CVE-2011-0411).
    Run,
    /// It was dropped, or the connection ended there.
    Dropped,
    /// There was no connection for the question, or under TLS no answer to anything.
    Unknown,
}

/// Whether mail from a stranger to elsewhere is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Relay {
    /// The recipient was accepted.
    Open(String),
    /// One of both was refused for good.
    Closed(String),
    /// "Not now".
    Unknown(String),
}

impl Looking<'_> {
    /// Looks at everything; `progress` is told what is looked at next.
    pub(super) async fn look(&self, mut progress: impl FnMut(&str)) -> Seen {
        let mut seen = Seen::default();
        progress("greeting and TLS");
        if let Err(fault) = self.converse(&mut seen).await {
            seen.fault = Some(fault);
        }
        let speaks_tls = match &seen.fault {
            Some(Fault::Tls(error)) => !is_plain(error),
            _ => seen.tls.is_some(),
        };
        if speaks_tls {
            for version in Version::ALL {
                progress(&format!("does it take {version}?"));
                let answer = self.offer(version).await.unwrap_or(Answer::Unknown);
                seen.versions.push((version, answer));
            }
        }
        if seen.tls.is_some() && !self.target.implicit {
            progress("is a command behind STARTTLS dropped?");
            seen.injection = Some(self.inject().await.unwrap_or(Injection::Unknown));
        }
        seen
    }

    async fn converse(&self, seen: &mut Seen) -> Result<(), Fault> {
        let mut wire = self.connect().await?;
        seen.address = wire.stream().peer_addr().ok();
        let ours = ehlo(wire.stream().local_addr().ok());
        if self.target.implicit {
            let mut wire = self.upgrade(wire, seen).await?;
            seen.greeting = Some(wire.greeting().await?);
            return self.inside(wire, &ours, seen).await;
        }
        seen.greeting = Some(wire.greeting().await?);
        let before = wire.capabilities(&ours).await?;
        let offers_tls = before.has(start_tls(self.target.service));
        seen.before = Some(before);
        if !offers_tls {
            if is_for_mail(self.target.service) {
                seen.relay = relay(&mut wire).await.ok();
            }
            wire.goodbye().await;
            return Ok(());
        }
        wire.ask_for_tls("").await?;
        let wire = self.upgrade(wire, seen).await?;
        self.inside(wire, &ours, seen).await
    }

    /// What is to be seen under TLS.
    async fn inside(&self, mut wire: Wire<UnderTls>, ours: &str, seen: &mut Seen) -> Result<(), Fault> {
        seen.after = Some(wire.capabilities(ours).await?);
        if is_for_mail(self.target.service) {
            seen.relay = relay(&mut wire).await.ok();
        }
        wire.goodbye().await;
        Ok(())
    }

    async fn upgrade(&self, wire: Wire<TcpStream>, seen: &mut Seen) -> Result<Wire<UnderTls>, Fault> {
        let wire = wire.under_tls(Arc::clone(&self.witness), &self.target.host).await?;
        let (_, connection) = wire.stream().get_ref();
        let chain = connection.peer_certificates().unwrap_or_default();
        seen.presented = Some(tls::examine_presented(chain, &self.target.host, self.roots, SystemTime::now()));
        seen.tls = Some(Facts::of(connection, None));
        Ok(wire)
    }

    async fn connect(&self) -> Result<Wire<TcpStream>, Fault> {
        let stream = dial(self.target, self.instead, self.patience).await?;
        Ok(Wire::new(stream, self.target.service.protocol(), self.patience))
    }

    /// A new connection, up to where a ClientHello is due. `behind` stands in the clear behind STARTTLS.
    async fn up_to_tls(&self, behind: &str) -> Result<Wire<TcpStream>, Fault> {
        let mut wire = self.connect().await?;
        if !self.target.implicit {
            wire.greeting().await?;
            wire.capabilities(&ehlo(wire.stream().local_addr().ok())).await?;
            wire.ask_for_tls(behind).await?;
        }
        Ok(wire)
    }

    async fn offer(&self, version: Version) -> Result<Answer, Fault> {
        let (stream, _) = self.up_to_tls("").await?.into_stream();
        let host = tls::server_name(&self.target.host).map_err(|error| Fault::Unreachable(error.to_string()))?;
        Ok(versions::offer(stream, version, &host, self.patience).await)
    }

    /// Puts a command behind STARTTLS into the same packet. An error means that nothing is known.
    async fn inject(&self) -> Result<Injection, Fault> {
        let command = match self.target.service {
            Service::Imap => "x NOOP\r\n",
            Service::Pop3 => "CAPA\r\n",
            Service::Submission | Service::Smtp => "NOOP\r\n",
        };
        let wire = match self.up_to_tls(command).await {
            Ok(wire) => wire,
            Err(fault @ (Fault::Unreachable(_) | Fault::TurnedAway(_))) => return Err(fault),
            // Who refuses, or hangs up, has not taken it.
            Err(_) => return Ok(Injection::Dropped),
        };
        match wire.under_tls(Arc::clone(&self.witness), &self.target.host).await {
            Ok(wire) => Ok(answers_to(self.target.service, &wire.goodbye().await)),
            Err(_) => Ok(Injection::Dropped),
        }
    }
}

/// Whether somebody answers more than the goodbye.
fn answers_to(service: Service, lines: &[String]) -> Injection {
    let was_run = match service {
        Service::Imap => lines.iter().any(|line| line.starts_with("x ")),
        Service::Pop3 => lines.iter().filter(|line| line.starts_with("+OK") || line.starts_with("-ERR")).count() > 1,
        Service::Submission | Service::Smtp => {
            lines.iter().filter(|line| line.as_bytes().get(3) != Some(&b'-')).count() > 1
        }
    };
    match was_run {
        true => Injection::Run,
        false if lines.is_empty() => Injection::Unknown,
        false => Injection::Dropped,
    }
}

/// Whether the handshake failed because what came was no TLS at all.
pub(super) fn is_plain(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}

/// Asks for a stranger's mail to elsewhere to be taken, as far as RCPT; there is never a DATA.
async fn relay<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>) -> Result<Relay, Fault> {
    let mut outcome = None;
    for command in [format!("MAIL FROM:<{STRANGER}>"), format!("RCPT TO:<{STRANGER}>")] {
        let reply = wire.command(&command).await?;
        let words = reply.summary().to_line();
        outcome = Some(match reply.code() / 100 {
            2 => Relay::Open(words),
            5 => Relay::Closed(words),
            _ => Relay::Unknown(words),
        });
        if !reply.is_positive() {
            break;
        }
    }
    // Who hangs up instead has answered all the same.
    let _ = wire.command("RSET").await;
    Ok(outcome.unwrap_or_else(|| Relay::Unknown(String::new())))
}

fn is_for_mail(service: Service) -> bool {
    matches!(service, Service::Submission | Service::Smtp)
}

/// How the protocol calls the upgrade in its list.
pub(super) fn start_tls(service: Service) -> &'static str {
    if service == Service::Pop3 { "STLS" } else { "STARTTLS" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_behind_starttls_was_run_if_there_is_an_answer_too_many() {
        use Injection::{Dropped, Run, Unknown};
        for (service, lines, expected) in [
            (Service::Imap, &["* BYE", "q OK"][..], Dropped),
            (Service::Imap, &["x OK NOOP", "* BYE", "q OK"], Run),
            (Service::Imap, &["x BAD what?", "* BYE", "q OK"], Run),
            (Service::Pop3, &["+OK bye"], Dropped),
            (Service::Pop3, &["+OK list", "USER", ".", "+OK bye"], Run),
            (Service::Pop3, &["-ERR what?", "+OK bye"], Run),
            (Service::Smtp, &["221-good", "221 bye"], Dropped),
            (Service::Smtp, &["221"], Dropped),
            (Service::Smtp, &["250 ok", "221 bye"], Run),
            (Service::Submission, &["503 EHLO first", "221 bye"], Run),
            (Service::Submission, &[], Unknown),
        ] {
            let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            assert_eq!(answers_to(service, &lines), expected, "{service:?} {lines:?}");
        }
    }
}
