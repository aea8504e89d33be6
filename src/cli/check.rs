//! `gatepost check`: what is wrong, and with `--online` what the backends say.

use super::source::{SourceArguments, print_findings};
use super::{FAILED, FINE, REFUSED, print_data, say, small_runtime};
use crate::backend::{Backends, Lost, Relaying, Server, Wanted};
use crate::observe::Observe;
use crate::policy::{Backend, Policy, Spoken};
use crate::proto::{BackSettings, Capabilities, Protocol};
use std::fmt::Write;
use std::sync::Arc;

/// Flags of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    source: SourceArguments,
    /// Also dials every backend and shows what it can do, and every webmail
    #[arg(long)]
    online: bool,
}

impl CheckArguments {
    /// As for [`SourceArguments::flags_first`].
    pub(super) fn flags_first(self, is_flag: impl Fn(&str) -> bool) -> Self {
        Self { source: self.source.flags_first(is_flag), ..self }
    }
}

/// Checks a configuration.
pub(super) fn check(arguments: &CheckArguments) -> u8 {
    let (policy, warnings) = match arguments.source.load(None) {
        Ok(loaded) => loaded,
        Err(findings) => {
            print_findings(&findings);
            say(format_args!("{}: the configuration is refused", count(findings.len(), "finding")));
            return REFUSED;
        }
    };
    print_findings(&warnings);
    if let Err(error) = crate::server::privileges::identity(&policy.runtime) {
        say(error);
        return REFUSED;
    }
    let (listeners, backends) = (policy.doors().count(), policy.backends.len());
    say(format_args!("the configuration is good: {}, {}", count(listeners, "listener"), count(backends, "backend")));
    if arguments.online { online(&policy) } else { FINE }
}

fn online(policy: &Policy) -> u8 {
    let runtime = match small_runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(format_args!("no runtime: {error}"));
            return FAILED;
        }
    };
    let backends = Arc::new(Backends::new(policy, Observe::with_sink(Box::new(std::io::sink()))));
    let mut code = FINE;
    for backend in policy.backends.values() {
        for spoken in backend.servers.keys() {
            for server in backends.servers(backend, *spoken) {
                let place = format!("{} {}://{}", backend.name, spoken.as_str(), server.name);
                say(format_args!("dialling {place} …"));
                let seen = runtime.block_on(async {
                    match spoken {
                        Spoken::Mail(protocol) => look_at(policy, &backends, backend, &server, *protocol, &place).await,
                        Spoken::Tcp => {
                            let stream = backends.open_tunnel_to(backend, &server, &policy.timeouts, None).await?;
                            stream.close().await;
                            Ok(format!("{place}: up\n"))
                        }
                    }
                });
                code = code.max(match seen {
                    Ok(text) => print_data(text),
                    Err(lost) => {
                        say(format_args!("{place}: {lost}"));
                        FAILED
                    }
                });
            }
        }
    }
    for webmail in &policy.portal.webmails {
        let place = format!("webmail {}", webmail.server);
        say(format_args!("dialling {place} …"));
        match runtime.block_on(backends.dial(&webmail.server, webmail.tls.as_ref(), &policy.timeouts)) {
            Ok(_) => code = code.max(print_data(format!("{place}: up\n"))),
            Err(lost) => {
                say(format_args!("{place}: {lost}"));
                code = FAILED;
            }
        }
    }
    code
}

/// Asks a mail server what it can do, and an SMTP server also whether it relays for us.
async fn look_at(
    policy: &Policy,
    backends: &Backends,
    backend: &Backend,
    server: &Arc<Server>,
    protocol: Protocol,
    place: &str,
) -> Result<String, Lost> {
    let settings = BackSettings {
        ehlo: policy.hostname.clone(),
        temporary_replies: Arc::clone(&backend.temporary_replies),
        ..BackSettings::default()
    };
    let wanted = Wanted { protocol, settings: &settings, timeouts: &policy.timeouts, caller: None };
    let dialogue = backends.open_server(backend, server, &wanted).await?;
    let mut text = describe(place, protocol, &dialogue.capabilities);
    dialogue.quit().await;
    if protocol == Protocol::Smtp && policy.submission.relay_probe {
        text += &relays(backends.ask_whether_it_relays(policy, backend, server).await);
    }
    Ok(text)
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Whether an SMTP server relays for our address, in a line.
fn relays(relaying: Relaying) -> String {
    let words = match relaying {
        Relaying::Open => {
            "relays mail to anywhere for this host without a login: take this host out of its mynetworks (or the like)"
        }
        Relaying::Closed => "relays nothing for this host without a login",
        Relaying::Unknown => "does not say whether it relays for this host",
    };
    format!("    {words}\n")
}

fn describe(place: &str, protocol: Protocol, capabilities: &Capabilities) -> String {
    let mut text = format!("{place}: up\n");
    for line in &capabilities.lines {
        let _ = writeln!(text, "    {line}");
    }
    if capabilities.apop.is_some() {
        text.push_str("    (APOP)\n");
    }
    if !capabilities.takes_passwords() {
        text.push_str(match protocol {
            Protocol::Smtp => {
                "    takes no passwords: with auth.submission: imap its customers' are checked by a login to the IMAP server\n"
            }
            Protocol::Imap | Protocol::Pop3 => "    takes no passwords: nobody can log in through it\n",
        });
    }
    text
}
