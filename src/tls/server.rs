//! TLS as the server: one set of certificates and ticket keys under a configuration for every protocol.

use super::certificates::Certificates;
use super::client_ca::{ClientCa, Demand};
use super::provider;
use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// What an operator may choose about TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The oldest version taken.
    pub min_version: MinVersion,
    /// Whether clients may resume sessions by ticket. Off costs a full handshake for each connection.
    pub session_tickets: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { min_version: MinVersion::Tls12, session_tickets: true }
    }
}

/// The oldest version of TLS that is taken. There is nothing below 1.2 (RFC 8996).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

/// The protocol inside, as ALPN names it (RFC 7301). A client that names protocols and not this one is refused with
/// alert 120 (`no_application_protocol`): it was sent here by somebody who wants one server's bytes taken for
/// another's (the ALPACA attack). A client that names none, as nearly all mail clients, is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `imap`.
    Imap,
    /// `pop3`.
    Pop3,
    /// `smtp`: not registered with IANA, but what nginx and the clients that send one use.
    Smtp,
    /// `http/1.1`, for the help page.
    Http,
    /// `imap`, or the help page for a browser: who names both gets `imap`, who names none too.
    ImapOrPage,
    /// `pop3`, likewise.
    Pop3OrPage,
    /// None: the protocol inside is not known here, and what a client names is not looked at.
    Unnamed,
}

impl Alpn {
    /// The name of what browsers speak.
    pub const PAGE: &str = "http/1.1";

    const ALL: [Self; 7] =
        [Self::Imap, Self::Pop3, Self::Smtp, Self::Http, Self::ImapOrPage, Self::Pop3OrPage, Self::Unnamed];

    /// What is agreed to; of several the first that the client names.
    fn protocols(self) -> Vec<Vec<u8>> {
        let names: &[&str] = match self {
            Self::Imap => &["imap"],
            Self::Pop3 => &["pop3"],
            Self::Smtp => &["smtp"],
            Self::Http => &[Self::PAGE],
            Self::ImapOrPage => &["imap", Self::PAGE],
            Self::Pop3OrPage => &["pop3", Self::PAGE],
            Self::Unnamed => &[],
        };
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }
}

/// Serves TLS to clients. Clones share the certificates: [`ServerTls::replace`] on one changes what every listener
/// shows from the next handshake on, and touches no session that is open.
///
/// # Resumption
/// All protocols and listeners share the ticket keys, which exist in memory alone, change every six hours and are
/// forgotten six hours later. rustls binds a ticket to the SNI, the cipher suite and so the TLS version; whatever
/// differs means a full handshake. ALPN is held against the listener's own on every handshake, resumed or not, so a
/// ticket got from one protocol opens no way into another. The certificate is not bound: a ticket outlives its
/// replacement. Early data (0-RTT), which could be replayed, is never taken.
///
/// Where certificates are asked of clients nothing is resumed, neither by a ticket from there nor by one from elsewhere. A
/// ticket holds the client's chain as it was verified once, and each resumed session brings a new one: whoever has been in
/// would stay in after the certificate has expired, was revoked, or its CA is no longer believed.
///
/// # Names
/// rustls takes an address in the SNI for no SNI. What is no host name at all (NUL, non-ASCII, over 253 bytes) it
/// refuses with `illegal_parameter` before any choice is made or anything is kept.
#[derive(Clone)]
pub struct ServerTls {
    slot: Arc<Slot>,
    settings: Settings,
    tickets: Option<Arc<dyn ProducesTickets>>,
    configs: Configs,
    asking: Arc<ArcSwap<Asking>>,
}

/// A configuration for every protocol, made once.
#[derive(Clone)]
struct Configs([Arc<ServerConfig>; Alpn::ALL.len()]);

/// Those of listeners that ask for clients' certificates.
struct Asking {
    request: Configs,
    require: Configs,
}

impl ServerTls {
    /// Begins to serve these certificates. It fails only where the system gives no random numbers.
    pub fn new(settings: Settings, certificates: Certificates) -> Result<Self, rustls::Error> {
        let slot = Arc::new(Slot(ArcSwap::from_pointee(certificates)));
        Self::assemble(slot, settings, None)
    }

    /// Serves the same certificates under other settings. Ticket keys are kept if tickets stay on, so that a reload
    /// does not cost every client a full handshake. A later [`ServerTls::replace`] on either reaches both. Whose clients are
    /// believed is to be said anew ([`ServerTls::believe`]).
    pub fn with_settings(&self, settings: Settings) -> Result<Self, rustls::Error> {
        Self::assemble(Arc::clone(&self.slot), settings, self.tickets.clone())
    }

    /// Puts other certificates in service, for every handshake that begins from now on.
    pub fn replace(&self, certificates: Certificates) {
        self.slot.0.store(Arc::new(certificates));
    }

    /// Says who signs clients' certificates, for every handshake that begins from now on. Before, nobody does.
    ///
    /// # Errors
    /// A fault of the library's; nothing is changed then.
    pub fn believe(&self, ca: &ClientCa) -> Result<(), rustls::Error> {
        self.asking.store(Arc::new(Asking::of(&self.slot, self.settings, ca)?));
        Ok(())
    }

    /// Gives the certificates in service.
    pub fn certificates(&self) -> Arc<Certificates> {
        self.slot.0.load_full()
    }

    /// Gives the settings in force.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Gives the configuration for one protocol: made once, so that this is a reference more and nothing else.
    pub fn config(&self, alpn: Alpn) -> Arc<ServerConfig> {
        self.configs.of(alpn)
    }

    /// Gives the one for a listener that wants to see certificates of its clients.
    pub fn config_for(&self, alpn: Alpn, demand: Demand) -> Arc<ServerConfig> {
        match demand {
            Demand::Nothing => self.configs.of(alpn),
            Demand::Request => self.asking.load().request.of(alpn),
            Demand::Require => self.asking.load().require.of(alpn),
        }
    }

    fn assemble(
        slot: Arc<Slot>,
        settings: Settings,
        tickets: Option<Arc<dyn ProducesTickets>>,
    ) -> Result<Self, rustls::Error> {
        let tickets = match tickets {
            _ if !settings.session_tickets => None,
            Some(tickets) => Some(tickets),
            None => Some(Ticketer::new()?),
        };
        let configs = Configs::new(base(&slot, settings, None)?, tickets.as_ref());
        let asking = Asking::of(&slot, settings, &ClientCa::nobody())?;
        Ok(Self { slot, settings, tickets, configs, asking: Arc::new(ArcSwap::from_pointee(asking)) })
    }
}

impl Configs {
    fn new(mut base: ServerConfig, tickets: Option<&Arc<dyn ProducesTickets>>) -> Self {
        match tickets {
            Some(tickets) => {
                base.ticketer = Arc::clone(tickets);
                // A ticket is for one connection (RFC 8446 appendix C.4), and each connection leaves one for the next. A
                // second one costs as much as all that the gate does.
                base.send_tls13_tickets = 1;
            }
            None => base.send_tls13_tickets = 0,
        }
        Self(Alpn::ALL.map(|alpn| {
            let mut config = base.clone();
            config.alpn_protocols = alpn.protocols();
            Arc::new(config)
        }))
    }

    fn of(&self, alpn: Alpn) -> Arc<ServerConfig> {
        let [imap, pop3, smtp, http, imap_or_page, pop3_or_page, unnamed] = &self.0;
        Arc::clone(match alpn {
            Alpn::Imap => imap,
            Alpn::Pop3 => pop3,
            Alpn::Smtp => smtp,
            Alpn::Http => http,
            Alpn::ImapOrPage => imap_or_page,
            Alpn::Pop3OrPage => pop3_or_page,
            Alpn::Unnamed => unnamed,
        })
    }
}

impl Asking {
    fn of(slot: &Arc<Slot>, settings: Settings, ca: &ClientCa) -> Result<Self, rustls::Error> {
        let configs = |demand| Ok::<_, rustls::Error>(Configs::new(base(slot, settings, ca.verifier(demand))?, None));
        Ok(Self { request: configs(Demand::Request)?, require: configs(Demand::Require)? })
    }
}

/// What all configurations have in common that hold clients against the same verifier.
fn base(
    slot: &Arc<Slot>,
    settings: Settings,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[&SupportedProtocolVersion] = match settings.min_version {
        MinVersion::Tls12 => &[&TLS13, &TLS12],
        MinVersion::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(slot) as Arc<dyn ResolvesServerCert>);
    // Sessions are kept by the clients, in tickets, or not at all: a client cannot fill our memory.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    // A greeting goes out behind our first flight (RFC 8446 section 4.4.4), before the client has proved that it read
    // that: nothing in it is a secret, and who it goes to is settled by no certificate. Where one is asked for the library
    // waits for it.
    config.send_half_rtt_data = true;
    // The records of a user who has logged in are made outside of rustls, under its keys.
    config.enable_secret_extraction = true;
    Ok(config)
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Where the certificates in service stand: rustls looks here at every handshake.
#[derive(Debug)]
struct Slot(ArcSwap<Certificates>);

thread_local! {
    /// The name in the hello for which a certificate was chosen last on this thread, until it is taken.
    static ASKED_FOR: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a step of a handshake and tells the name (SNI) in the hello, if one was read in it: at most 253 bytes of ASCII in
/// lower case. rustls' unbuffered connection knows the name and does not say it; it is heard where the certificate is
/// chosen, which is within the step and on its thread.
pub fn hearing_the_name<T>(step: impl FnOnce() -> T) -> (T, Option<String>) {
    ASKED_FOR.set(None);
    let outcome = step();
    (outcome, ASKED_FOR.take())
}

impl ResolvesServerCert for Slot {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED_FOR.set(hello.server_name().map(str::to_owned));
        let certificates = self.0.load();
        Some(Arc::clone(certificates.choose(hello.server_name(), hello.signature_schemes()).certified()))
    }
}

#[cfg(test)]
mod tests;
