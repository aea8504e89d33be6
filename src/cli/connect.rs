//! `gatepost connect`: a local plaintext port to a remote server under TLS, for programs that know no TLS.
//!
//! ```text
//! program ── in the clear, on this machine ──→ connect ── TLS, verified ──→ server
//! ```
//!
//! With `imaps`, `pop3s` and `smtps` everything is passed from the first byte on, the server's greeting too. With the others
//! STARTTLS comes first, and since nothing that was said before TLS is believed, the greeting is ours then: a timestamp for
//! APOP or a list of capabilities could be anybody's. What a server says under TLS it says without STARTTLS.

use super::remote::{self, Fault, Target, Wire, dial, ehlo};
use super::{FAILED, FINE, MISUSED, say, small_runtime};
use crate::proto::line::printable;
use crate::proto::{Protocol, Service};
use crate::tls::{self, Facts};
use rustls::{CertificateError, ClientConfig};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::client::TlsStream;

/// How many connections there may be at once; more wait to be accepted.
const MOST: usize = 500;
/// The longest sentence to a program whose server cannot be had: with all around it one line of POP3 (RFC 2449 section 4).
const LONGEST: usize = 400;
/// How long a program has to read why it is refused.
const LINGER: Duration = Duration::from_secs(2);

/// Flags of `connect`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct ConnectArguments {
    /// Where programs on this machine connect: 127.0.0.1:1143
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// The server: imaps://mail.example.net, submission://mail.example.net:587, …
    #[arg(value_name = "URL")]
    target: Target,
    /// Trusts the CAs in this file (PEM) alone [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The name that the server's certificate must be for [default: the URL's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Listens where other machines can come too: what they say goes over their network in the clear
    #[arg(long)]
    allow_remote: bool,
    /// How long each step up to the server's TLS may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

const HELP: &str = "\
What URLs mean:
  imaps://  pop3s://  smtps://                  TLS from the first byte
  imap://   pop3://   submission://  smtp://    STARTTLS or STLS, always

The server's certificate is verified each time, and there is no way around it.
It runs until Ctrl-C or SIGTERM.

Examples:
  gatepost connect --listen 127.0.0.1:1143 imaps://mail.example.net
  gatepost connect --listen 127.0.0.1:1587 submission://mail.example.net";

/// Listens and passes on, until it is told to end.
pub(super) fn connect(arguments: &ConnectArguments) -> u8 {
    if !arguments.listen.ip().is_loopback() && !arguments.allow_remote {
        say(format_args!(
            "--listen {}: other machines could come in there, and their passwords would go over the network in the clear; \
             listen on 127.0.0.1, or say --allow-remote",
            arguments.listen
        ));
        return MISUSED;
    }
    let name = arguments.name.clone().unwrap_or_else(|| arguments.target.host.clone());
    if tls::server_name(&name).is_err() {
        say(format_args!("--name {name:?} is neither a name nor an address"));
        return MISUSED;
    }
    let roots = match remote::roots(arguments.ca.as_deref()) {
        Ok(roots) => roots,
        Err(error) => {
            say(error);
            return MISUSED;
        }
    };
    let config = match tls::client_config(roots, None) {
        Ok(config) => config,
        Err(error) => {
            say(error);
            return FAILED;
        }
    };
    let way = Way { target: arguments.target.clone(), name, config, patience: arguments.timeout };
    let running = small_runtime().and_then(|runtime| runtime.block_on(run(arguments.listen, Arc::new(way))));
    match running {
        Ok(()) => FINE,
        Err(error) => {
            say(format_args!("cannot listen on {}: {error}", arguments.listen));
            FAILED
        }
    }
}

async fn run(listen: SocketAddr, way: Arc<Way>) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = TcpListener::bind(listen).await?;
    say(format_args!("listening on {} for {}", listener.local_addr()?, way.target));
    let permits = Arc::new(Semaphore::new(MOST));
    let accepting = async {
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((local, from)) => {
                    tokio::spawn(serve(Arc::clone(&way), local, from, permit));
                }
                Err(error) => {
                    // Out of descriptors, mostly: some come back when a connection ends.
                    say(format_args!("cannot accept: {error}"));
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// One connection, and its line.
async fn serve(way: Arc<Way>, mut local: TcpStream, from: SocketAddr, _permit: OwnedSemaphorePermit) {
    // A dialogue of small lines must not wait for Nagle; a socket that refuses the option still works.
    let _ = local.set_nodelay(true);
    let began = Instant::now();
    let mut reached = match way.reach().await {
        Ok(reached) => reached,
        Err(fault) => {
            let why = printable(why(&fault, &way.name).as_bytes(), LONGEST);
            say(format_args!("{from}: refused, {}: {why}", way.target));
            refuse(local, way.target.service, &why).await;
            return;
        }
    };
    let passing = async {
        local.write_all(reached.greeting.as_bytes()).await?;
        copy_bidirectional(&mut local, &mut reached.stream).await
    };
    let outcome = match passing.await {
        Ok((there, back)) => format!("{there} octets there, {back} back"),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the server ended it without close_notify".to_owned()
        }
        Err(error) => format!("broke off: {error}"),
    };
    let time = humantime::format_duration(Duration::from_secs(began.elapsed().as_secs()));
    let Reached { at, facts, .. } = &reached;
    say(format_args!("{from}: {} at {at}, TLS {} {}: {outcome}, {time}", way.target, facts.version, facts.cipher));
}

/// The way to the server, the same for every connection.
struct Way {
    target: Target,
    /// What the certificate must be for.
    name: String,
    config: Arc<ClientConfig>,
    patience: Duration,
}

/// A server that has proved itself.
struct Reached {
    stream: TlsStream<TcpStream>,
    at: SocketAddr,
    facts: Facts,
    /// What the local program hears first; empty where the server greets.
    greeting: String,
}

impl Way {
    async fn reach(&self) -> Result<Reached, Fault> {
        let service = self.target.service;
        let stream = dial(&self.target, None, self.patience).await?;
        let (at, ours) = (stream.peer_addr().map_err(Fault::Broken)?, stream.local_addr().ok());
        let mut wire = Wire::new(stream, service.protocol(), self.patience);
        let mut greeting = String::new();
        if !self.target.implicit {
            wire.greeting().await?;
            if service.protocol() == Protocol::Smtp {
                // STARTTLS stands behind an EHLO (RFC 3207 section 4); what is in the list is nobody's word yet.
                wire.capabilities(&ehlo(ours)).await?;
            }
            wire.ask_for_tls("").await?;
            greeting = our_greeting(service, &self.target.host);
        }
        let (stream, _) = wire.under_tls(Arc::clone(&self.config), &self.name).await?.into_stream();
        let facts = Facts::of(stream.get_ref().1, None);
        Ok(Reached { stream, at, facts, greeting })
    }
}

fn our_greeting(service: Service, host: &str) -> String {
    match service {
        Service::Imap => format!("* OK {host} by gatepost\r\n"),
        Service::Pop3 => format!("+OK {host} by gatepost\r\n"),
        Service::Submission | Service::Smtp => format!("220 {host} ESMTP by gatepost\r\n"),
    }
}

/// Says in the protocol's words that it is not the password, and why.
fn refusal(service: Service, why: &str) -> String {
    let why: String = why.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).take(LONGEST).collect();
    match service {
        Service::Imap => format!("* BYE [UNAVAILABLE] {why}\r\n"),
        Service::Pop3 => format!("-ERR [SYS/TEMP] {why}\r\n"),
        Service::Submission | Service::Smtp => format!("421 4.7.0 {why}\r\n"),
    }
}

async fn refuse(mut local: TcpStream, service: Service, why: &str) {
    let refusing = async {
        local.write_all(refusal(service, why).as_bytes()).await?;
        local.shutdown().await?;
        // Closing a socket with unread input would reset it, and the reset overtake our words.
        let mut rest = [0; 512];
        while local.read(&mut rest).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // A program that is gone cannot be told.
    let _ = tokio::time::timeout(LINGER, refusing).await;
}

fn why(fault: &Fault, name: &str) -> String {
    match fault {
        Fault::Tls(error) if is_unknown_issuer(error) => {
            "its certificate is signed by nobody who is trusted here: name its CA with --ca FILE, or have it send the whole \
             chain"
                .to_owned()
        }
        Fault::Tls(error) => tls::words(error, name),
        other => other.to_string(),
    }
}

fn is_unknown_issuer(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_of_the_protocol_whatever_it_is_for() {
        let long = format!("a\r\nb OK \u{1b}[31m{}", "x".repeat(1000));
        for (service, begins) in [
            (Service::Imap, "* BYE [UNAVAILABLE] a  b OK  [31mxxx"),
            (Service::Pop3, "-ERR [SYS/TEMP] a  b OK  [31mxxx"),
            (Service::Submission, "421 4.7.0 a  b OK  [31mxxx"),
            (Service::Smtp, "421 4.7.0 a  b OK  [31mxxx"),
        ] {
            let line = refusal(service, &long);
            assert!(line.starts_with(begins) && line.ends_with("\r\n") && line.len() <= 512, "{line:?}");
            assert_eq!(line.matches('\n').count(), 1);
        }
    }

    #[test]
    fn our_greeting_promises_nothing() {
        for service in [Service::Imap, Service::Pop3, Service::Submission, Service::Smtp] {
            let greeting = our_greeting(service, "mail.example.net");
            assert!(!greeting.contains('[') && !greeting.contains('<'), "no capabilities, no timestamp: {greeting}");
        }
    }
}
