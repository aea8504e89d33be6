//! Whether an SMTP server relays for our bare address: the trust in our network that a gateway must never lend to strangers.

use super::{Backends, Dialogue, Lost, Server, Wanted};
use crate::policy::{Backend, BackendTls, ClientAddress, Policy};
use crate::proto::smtp::{ReplyReader, SmtpReply};
use crate::proto::{BackSettings, Protocol};
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A domain that is nobody's (RFC 2606 section 3): a server that takes it takes anything.
const FOREIGN: &str = "relay-probe@example.org";
/// An address of nobody's that no look into the DNS can refuse (RFC 5321 section 4.1.3, RFC 5737).
const LITERAL: &str = "relay-probe@[192.0.2.1]";
/// Senders that are not ours, who are asked first: a server may have rules about who calls himself one of its users, and they say
/// nothing about strangers. `<>` passes where a sender must have a mailbox or a domain; but some take it for nobody far away.
const STRANGERS: [&str; 3] = ["", LITERAL, "relay-probe@example.com"];
/// As so many senders a server is asked on one connection. With two recipients each that is ten refusals, behind which
/// Postfix begins to wait (`smtpd_soft_error_limit`; at 20 it hangs up), and five RSET, of which Exim has ten enough
/// (`smtp_accept_max_nonmail`).
const AT_ONCE: usize = 5;
/// How often a server is asked.
const DAILY: Duration = Duration::from_secs(86_400);
/// How soon one is asked again that could not be.
const SOON: Duration = Duration::from_secs(600);

/// What a server does with mail for somebody else that comes from our address without a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relaying {
    /// It takes it.
    Open,
    /// It refuses it.
    Closed,
    /// It could not be asked, or says "later".
    Unknown,
}

impl Relaying {
    /// The word in a status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Unknown => "unknown",
        }
    }

    /// What two answers come to: one way through is enough, and what is not known closes none.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Open, _) | (_, Self::Open) => Self::Open,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Closed, Self::Closed) => Self::Closed,
        }
    }
}

impl Backends {
    /// Asks every SMTP server of the policy whether it relays for us, now and daily, until `stop`.
    pub fn watch_relaying(self: &Arc<Self>, policy: &Arc<Policy>, stop: &CancellationToken) {
        if !policy.submission.relay_probe {
            return;
        }
        for backend in policy.backends.values() {
            for server in self.servers(backend, Protocol::Smtp) {
                let (this, policy, backend) = (Arc::clone(self), Arc::clone(policy), Arc::clone(backend));
                let asked = Asked::of(&policy, &backend);
                let stop = stop.clone();
                tokio::spawn(async move {
                    let asking = async {
                        loop {
                            let relaying = this.ask_whether_it_relays(&policy, &backend, &server).await;
                            // Where a reload has it asked in another way by now, nobody wants to know.
                            if let Some(before) = server.relays(&asked, relaying) {
                                tell(&server, before, relaying, &policy);
                            }
                            tokio::time::sleep(if relaying == Relaying::Unknown { SOON } else { DAILY }).await;
                        }
                    };
                    stop.run_until_cancelled(asking).await;
                });
            }
        }
    }

    /// Asks one server: sender, foreign recipient, and RSET, never a message. Many senders take several connections, one after
    /// the other.
    pub async fn ask_whether_it_relays(&self, policy: &Policy, backend: &Backend, server: &Arc<Server>) -> Relaying {
        let settings = BackSettings {
            ehlo: policy.hostname.clone(),
            temporary_replies: Arc::clone(&backend.temporary_replies),
            ..BackSettings::default()
        };
        let wanted = Wanted { protocol: Protocol::Smtp, settings: &settings, timeouts: &policy.timeouts, caller: None };
        let questions = Questions::of(policy);
        let mut relaying: Option<Relaying> = None;
        for senders in questions.senders.chunks(AT_ONCE) {
            let Ok(dialogue) = self.open_server(backend, server, &wanted).await else { return Relaying::Unknown };
            let asked = ask(dialogue, senders, questions.recipients, policy.timeouts.backend_login);
            let Ok(said) = asked.await else { return Relaying::Unknown };
            relaying = all_of(relaying, said);
            if relaying == Some(Relaying::Open) {
                break;
            }
        }
        relaying.unwrap_or(Relaying::Unknown)
    }
}

/// How a server is asked: a verdict holds for who would be asked about in the same way, and for nobody else.
#[derive(Debug, Clone)]
pub struct Asked {
    questions: Questions,
    ehlo: String,
    source: Vec<IpAddr>,
    client_address: ClientAddress,
    tls: Option<BackendTls>,
}

impl Asked {
    /// How the policy has the servers of a backend asked.
    pub fn of(policy: &Policy, backend: &Backend) -> Self {
        Self {
            questions: Questions::of(policy),
            ehlo: policy.hostname.clone(),
            source: backend.source.clone(),
            client_address: backend.client_address,
            tls: backend.tls.clone(),
        }
    }
}

impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        let is_same_tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            // Read anew, it may hold a certificate that a server relays for.
            (Some(one), Some(two)) => one.starttls == two.starttls && Arc::ptr_eq(&one.config, &two.config),
            _ => false,
        };
        is_same_tls
            && self.questions == other.questions
            && self.ehlo == other.ehlo
            && self.source == other.source
            && self.client_address == other.client_address
    }
}

/// As whom and for whom a server is asked to take mail: each with each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Questions {
    /// The first ones are nobody's here.
    senders: Vec<String>,
    recipients: &'static [&'static str],
}

impl Questions {
    /// Where strangers are sent there on the strength of the answer, a server must not seem closed that looks foreign domains
    /// up before it trusts us, or that trusts whoever calls himself one of its users (sendmail's `relay_local_from`).
    fn of(policy: &Policy) -> Self {
        let mut senders: Vec<String> = STRANGERS.map(str::to_owned).into();
        let mut seen = HashSet::new();
        let of_users = policy.portal.domains.iter().chain(policy.submission.accept_domains.iter());
        // Without strangers the verdict is a warning, and one user says as much as another.
        let of_users = of_users.take(if policy.submission.require_auth { 0 } else { usize::MAX });
        for domain in std::iter::once(&policy.hostname).chain(of_users) {
            if seen.insert(domain.to_ascii_lowercase()) {
                senders.push(format!("postmaster@{domain}"));
            }
        }
        let recipients: &[&str] = if policy.submission.require_auth { &[FOREIGN] } else { &[FOREIGN, LITERAL] };
        Self { senders, recipients }
    }
}

/// What was found before and what was found now; none: no sender came as far as a recipient.
fn all_of(before: Option<Relaying>, now: Option<Relaying>) -> Option<Relaying> {
    before.map_or(now, |before| Some(now.map_or(before, |now| before.and(now))))
}

/// Asks on one connection. A sender that is refused is only not asked about; one that may come later leaves it open what he may.
async fn ask(
    dialogue: Dialogue,
    senders: &[String],
    recipients: &[&str],
    patience: Duration,
) -> Result<Option<Relaying>, Lost> {
    let deadline = Instant::now() + patience;
    let (mut stream, mut input, _) = dialogue.into_session();
    let mut replies = ReplyReader::default();
    let mut say = async |line: &str| -> Result<SmtpReply, Lost> {
        let exchange = async {
            stream.write_all(format!("{line}\r\n").as_bytes()).await.map_err(Lost::Broken)?;
            loop {
                if let Some(reply) = replies.next(&mut input)? {
                    return Ok(reply);
                }
                if stream.read_buf(&mut input).await.map_err(Lost::Broken)? == 0 {
                    return Err(Lost::Closed);
                }
            }
        };
        let too_late = |_| Lost::Timeout("the backend did not answer in time".to_owned());
        tokio::time::timeout_at(deadline, exchange).await.map_err(too_late)?
    };
    let mut relaying = None;
    'asking: for sender in senders {
        let reply = say(&format!("MAIL FROM:<{sender}>")).await?;
        if !reply.is_positive() {
            if !reply.is_permanent() {
                relaying = all_of(relaying, Some(Relaying::Unknown));
            }
            continue;
        }
        for recipient in recipients {
            let reply = say(&format!("RCPT TO:<{recipient}>")).await?;
            let said = match reply {
                _ if reply.is_positive() => Relaying::Open,
                _ if reply.is_permanent() => Relaying::Closed,
                _ => Relaying::Unknown,
            };
            relaying = all_of(relaying, Some(said));
            if said == Relaying::Open {
                // How it takes that, and the goodbye, changes nothing about what it has said.
                let _ = say("RSET").await;
                break 'asking;
            }
        }
        let _ = say("RSET").await;
    }
    let _ = say("QUIT").await;
    Ok(relaying)
}

/// Says what was found where it is news.
fn tell(server: &Server, before: Relaying, now: Relaying, policy: &Policy) {
    let (backend, name) = (&server.backend, &server.name);
    match now {
        _ if before == now => {}
        Relaying::Open if !policy.submission.require_auth => tracing::error!(
            "{backend} smtp://{name} relays mail to anywhere for our address without a login: submission.require_auth: false does not hold towards it, and who has no login hears 530; take our address out of its mynetworks (or the like), or write require_auth: true"
        ),
        Relaying::Open => tracing::warn!(
            "{backend} smtp://{name} relays mail to anywhere for our address without a login: gatepost lets no stranger near it, but whoever else shares its network may send through it; take our address out of its mynetworks (or the like), and write auth.submission: imap so that customers still can send"
        ),
        Relaying::Closed => tracing::info!("{backend} smtp://{name} relays nothing for our address without a login"),
        Relaying::Unknown => {}
    }
}
