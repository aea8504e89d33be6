//! The file as its structs: every key, its type, its default, and the words an editor shows for it.
//!
//! The JSON Schema comes from the same structs. What a section may hold together with another is decided in
//! `build`; keys of features that are not built are here too, so that their refusal can say so.

mod defaults;
mod forms;
mod tls;
mod webmail;

pub(crate) use defaults::default_listeners;
pub(crate) use forms::{Mechanisms, Program, Servers};
pub(crate) use tls::{Acme, AcmeChallenge, AcmeKey, Certificate, MinVersion, Tls};
pub(crate) use webmail::{Webmail, Webmails};

use super::value::{
    Address, Hidden, Host, ListEntry, Named, OneOrMany, OurAddress, Quota, RouteProtocol, SecretText, Size, Span,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The whole file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    /// Our name in greetings and on the default certificate.
    pub(crate) hostname: Option<String>,
    /// Private CA, ACME account, marks; created with mode 0700.
    pub(crate) state_dir: PathBuf,
    /// Where clients come in, by a name of yours. Given: replaces the default listeners, which are those on 993, 995,
    /// 465 (implicit TLS) and 587 (STARTTLS) whose protocol a backend has.
    pub(crate) listeners: Option<Named<Listener>>,
    /// Added to the default listeners' ports; from the command line or the environment alone.
    #[serde(skip)]
    pub(crate) port_offset: u16,
    /// The servers behind, by a name of yours.
    pub(crate) backends: Named<Backend>,
    /// Which backend a session goes to: the first match wins, else the listener's backend.
    pub(crate) routes: Vec<Route>,
    /// Certificates and TLS versions towards clients.
    pub(crate) tls: Tls,
    /// Who may log in how.
    pub(crate) auth: Auth,
    /// How logins without TLS on `tls: optional` listeners come to an end. Not in this version.
    pub(crate) plaintext: Plaintext,
    /// Rules for mail that clients send.
    pub(crate) submission: Submission,
    /// Bounds. COUNT/PERIOD is a burst of COUNT, refilled evenly; for failures a sliding window. 0 is no limit.
    pub(crate) limits: Limits,
    /// Deadlines. Waiting for the backend is never the client's idle or login time.
    pub(crate) timeouts: Timeouts,
    /// Where limits, bans and marks are kept: `memory`. A shared store is not in this version.
    pub(crate) store: String,
    /// Where events and messages go.
    pub(crate) log: Log,
    /// Metrics, health and control.
    pub(crate) admin: Admin,
    /// What the help page of the `https` listeners says.
    pub(crate) portal: Portal,
    /// The process.
    pub(crate) runtime: Runtime,
}

/// Where clients come in.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listener {
    /// One address or a list. "[::]:993" takes IPv4 too, and becomes 0.0.0.0 on a host without IPv6.
    pub(crate) address: OneOrMany<Address>,
    /// What it offers. `https` is the help page: with `tls: implicit` it is served, with `tls: off` (port 80) the way there is
    /// told. `tcp` is anything else: TLS ends here, and the bytes go on as they are.
    pub(crate) protocol: Option<Protocol>,
    /// TLS from the first byte (`implicit`), an upgrade before any login (`starttls`), an upgrade and logins without
    /// it too (`optional`), or none (`off`: only on loopback or with an `allow` list).
    pub(crate) tls: TlsRule,
    /// Whom it stands in front of; by default the only backend.
    pub(crate) backend: Option<String>,
    /// Who may come in: networks, addresses, or file:PATH (one a line, or hosts.allow form). [] is everyone.
    pub(crate) allow: Vec<ListEntry>,
    /// Who may not; looked at first.
    pub(crate) deny: Vec<ListEntry>,
    /// Networks of load balancers: what comes from there must begin with a PROXY header (v1 or v2), and the client's address
    /// in it is believed. Others are ordinary clients.
    pub(crate) proxy_protocol: Vec<ListEntry>,
    /// Programs that log in for others (webmail): what they say of the end user's address, by IMAP's ID (x-originating-ip) or
    /// SMTP's XCLIENT, is believed for limits and events, and never passed on as they gave it.
    pub(crate) trusted_clients: Vec<ListEntry>,
    /// Whether clients are asked for certificates that `tls.client_ca` has signed: `request` (who has none comes in all the
    /// same, who shows a bad one does not) or `require`.
    pub(crate) client_certificate: ClientCertificate,
}

/// What a listener offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    Imap,
    Pop3,
    Submission,
    Smtp,
    Https,
    Tcp,
}

/// A listener's rule about TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TlsRule {
    Implicit,
    Starttls,
    Optional,
    Off,
}

/// Whether clients are asked for certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientCertificate {
    Off,
    Request,
    Require,
}

/// The servers behind.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Backend {
    /// Shorthand for imap, pop3 and smtp on their standard ports 143, 110 and 25; `pop3: null` beside it turns one off.
    pub(crate) host: Option<Host>,
    /// HOST:PORT, or a list: several servers.
    pub(crate) imap: Servers,
    /// HOST:PORT, or a list: several servers.
    pub(crate) pop3: Servers,
    /// HOST:PORT, or a list: several servers.
    pub(crate) smtp: Servers,
    /// HOST:PORT, or a list: several servers behind `protocol: tcp` listeners. `host` gives none.
    pub(crate) tcp: Servers,
    /// Which of several servers is taken: the `first`, each in its turn (`round-robin`), the one with the fewest sessions of
    /// ours (`least-sessions`), or for the same `user` always the same one. One that is down is passed over.
    pub(crate) balance: Balance,
    /// TLS towards the servers: from the first byte (`implicit`), by STARTTLS or STLS before anything else (`starttls`), or
    /// `off`. Under the first two nothing ever goes in the clear.
    pub(crate) tls: BackendTls,
    /// PEM of the CA to trust there; by default the system's.
    pub(crate) tls_ca: Option<PathBuf>,
    /// The name that must stand in the servers' certificate; by default the host's name or address.
    pub(crate) tls_name: Option<Host>,
    /// What we prove ourselves with to servers that ask for a certificate.
    pub(crate) tls_certificate: Option<Certificate>,
    /// How the servers learn the client's address: by a PROXY header (`proxy-v1`, `proxy-v2`), by XCLIENT on SMTP and POP3
    /// (`xclient`), by ID on IMAP (`imap-id`), by a Received line in each message (`received`), by being dialled from it
    /// (`transparent`), or not at all (`off`). They must be told to believe us, and nobody but us.
    pub(crate) client_address: ClientAddress,
    /// Our addresses to dial from, in turn; each has 64k ports to a server's address. [] leaves it to the system.
    pub(crate) source: OneOrMany<OurAddress>,
    /// The most sessions of ours on each server and protocol at a time; past it the next server is tried, and past the
    /// last clients hear "unavailable". 0 is no limit.
    pub(crate) max_sessions: usize,
    /// How often it is asked whether it is well; every 5s while down.
    pub(crate) health_interval: Span,
    /// Words in a code-less refusal that mean "not now", not "wrong password".
    pub(crate) temporary_replies: Vec<String>,
}

/// Which of several servers is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Balance {
    First,
    RoundRobin,
    LeastSessions,
    User,
}

/// TLS towards a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BackendTls {
    Off,
    Starttls,
    Implicit,
}

/// How a backend learns the client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ClientAddress {
    Off,
    ProxyV1,
    ProxyV2,
    Xclient,
    ImapId,
    Received,
    Transparent,
}

/// A rule that chooses a backend, for whom all its conditions hold.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Route {
    /// For imap, pop3, smtp or tcp alone, or a list of them; by default for all.
    pub(crate) protocol: OneOrMany<RouteProtocol>,
    /// The server name that the client asks for; `*` stands for anything.
    pub(crate) sni: Option<String>,
    /// The name in the client's certificate (its address, else its common name); `*` stands for anything, and for nobody
    /// without one.
    pub(crate) client_certificate: Option<String>,
    /// The user's name; `*` stands for anything, as in `*@shell.example.net`.
    pub(crate) user: Option<String>,
    /// A map of users, reread when it changes: a line is `user backend [login-name]`; users that are not in it go on to the
    /// next route.
    pub(crate) file: Option<PathBuf>,
    /// A service that speaks nginx's mail auth_http protocol: http://HOST[:PORT]/PATH.
    pub(crate) auth_http: Option<String>,
    /// With auth_http: headers that are added to each request, such as a shared secret.
    pub(crate) headers: Named<SecretText>,
    /// With auth_http: how long an answer may take.
    pub(crate) timeout: Span,
    /// Where it leads; by default the listener's backend. With auth_http: whose settings hold for the servers it names.
    pub(crate) backend: Option<String>,
    /// The name to log in with there: text, {user}, {local}, {domain}.
    pub(crate) login: Option<String>,
    /// Who may take it; whoever it is for and may not is refused. [] is everyone.
    pub(crate) allow: Vec<ListEntry>,
}

/// Who may log in how.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Auth {
    /// `all`, or a list: PLAIN, LOGIN, CRAM-MD5, APOP, USER, …; the backend's list is the other bound.
    pub(crate) mechanisms: Mechanisms,
    /// On `tls: optional` listeners: what may log in without TLS; [] is all that `mechanisms` allows.
    pub(crate) without_tls: Vec<String>,
    /// Who checks SMTP AUTH: `backend` (the SMTP server), `imap` or `pop3` (a login to that server of the backend, so that an
    /// SMTP server that knows no AUTH gets it), `auth_http` (the service of the route), or
    /// `file:PATH` (hashes of passwords; `gatepost passwd` writes them).
    pub(crate) submission: String,
    /// An address that has just logged in over POP or IMAP may send without a login.
    pub(crate) pop_before_smtp: Option<PopBeforeSmtp>,
    /// How long a keyed hash of a password that worked is kept: a formerly good one is a stale device, not an attack.
    pub(crate) remember_good: Span,
    /// Many known-good passwords failing at once mean an ill backend: answer "unavailable", punish nobody.
    pub(crate) outage_guard: bool,
}

/// An address that has just logged in over POP or IMAP may send without a login.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PopBeforeSmtp {
    /// For how long.
    pub(crate) window: Option<Span>,
}

/// How logins without TLS come to an end. Not in this version.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Plaintext {
    /// What happens to such a login, by date.
    pub(crate) stages: Vec<Stage>,
    /// Once all logins of a user use TLS, one without it is refused.
    pub(crate) ratchet: bool,
    /// Who is left in peace.
    pub(crate) exempt: Vec<Exemption>,
    /// Named in what a refused or warned client is told.
    pub(crate) help_url: Option<String>,
    /// For dates and windows.
    pub(crate) timezone: String,
}

/// What happens to a login without TLS from a day on. Not in this version, but for `action: observe`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Stage {
    /// The day it begins.
    pub(crate) from: Option<String>,
    /// What happens.
    pub(crate) action: StageAction,
    /// Brownout: when.
    pub(crate) windows: Vec<String>,
    /// Brownout: how many of them.
    pub(crate) share: Option<String>,
}

/// What happens to a login without TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StageAction {
    #[default]
    Observe,
    Warn,
    Brownout,
    Refuse,
}

/// Who may go on logging in without TLS. Not in this version.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Exemption {
    /// The address.
    pub(crate) client: Option<ListEntry>,
    /// The user.
    pub(crate) user: Option<String>,
    /// The last day.
    pub(crate) until: Option<String>,
    /// Whom to ask.
    pub(crate) owner: Option<String>,
    /// Why.
    pub(crate) reason: Option<String>,
}

/// Rules for mail that clients send.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Submission {
    /// Nobody sends through a `submission` listener without a login. With `false` the server behind decides about the recipients of
    /// who has none, as long as the relay probe finds that it relays nothing for our address.
    pub(crate) require_auth: bool,
    /// Whether SMTP servers are asked, at start and daily, if they relay for our bare address: sender, foreign recipient, RSET,
    /// never a message.
    pub(crate) relay_probe: bool,
    /// On `smtp` listeners: the domains a stranger may write to. Must be given there; [] is none. With `require_auth: false` they
    /// bound who has no login on `submission` listeners, too.
    pub(crate) accept_domains: Option<Vec<String>>,
    /// MAIL FROM must be the logged-in user's: the login name, or an address that a route leads to the same mailbox.
    pub(crate) sender_must_match: bool,
    /// Puts a Received line that tells of the client at the head of each message.
    pub(crate) add_received: bool,
    /// What is done with a CR or LF that stands alone in a message.
    pub(crate) bare_newline: BareNewline,
    /// The largest message.
    pub(crate) max_size: Size,
}

/// What is done with a CR or LF that stands alone in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BareNewline {
    Reject,
    Normalize,
}

/// Bounds on rates and numbers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Sessions in all; the effective bound is min(this, (descriptors - 256) / 2).
    pub(crate) sessions: usize,
    /// Sessions of one address.
    pub(crate) sessions_per_ip: usize,
    /// Sessions of one user.
    pub(crate) sessions_per_user: usize,
    /// New connections of one address.
    pub(crate) connections_per_ip: Quota,
    /// Logins of one address that did not succeed.
    pub(crate) auth_per_ip: Quota,
    /// Failed attempts in one session, then goodbye. At least 1.
    pub(crate) auth_attempts_per_session: u32,
    /// Distinct (user, password) pairs that failed from one address, before a ban.
    pub(crate) auth_failures_per_ip: Quota,
    /// Failures for one user, before passwords from strangers to that user no longer reach the backend.
    pub(crate) auth_failures_per_user: Quota,
    /// How long a ban lasts.
    pub(crate) ban: Span,
    /// The answer to a failed login leaves no sooner than this after its last byte came.
    pub(crate) failure_delay: Span,
    /// Messages that one user begins, such as 200/h.
    pub(crate) messages_per_user: Quota,
    /// Recipients that one user writes to, such as 1000/day.
    pub(crate) recipients_per_user: Quota,
    /// An IPv6 client is its network of this length.
    #[schemars(range(min = 1, max = 128))]
    pub(crate) ipv6_prefix: u8,
    /// Addresses without per-address limits and bans; per-user limits still hold.
    pub(crate) exempt: Vec<ListEntry>,
}

/// Deadlines.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Timeouts {
    /// The whole handshake.
    pub(crate) tls_handshake: Span,
    /// From the greeting to a login.
    pub(crate) login: Span,
    /// Silence in a logged-in IMAP session.
    pub(crate) idle_imap: Span,
    /// Silence in a logged-in POP3 session.
    pub(crate) idle_pop3: Span,
    /// Silence in a logged-in SMTP session.
    pub(crate) idle_submission: Span,
    /// Silence on a connection through a `tcp` listener.
    pub(crate) idle_tcp: Span,
    /// TCP to the backend.
    pub(crate) connect: Span,
    /// The backend's greeting; old servers look up names first.
    pub(crate) backend_greeting: Span,
    /// The backend's verdict; old servers copy a mailbox at PASS.
    pub(crate) backend_login: Span,
    /// The backend's answer to the end of a message (RFC 5321 4.5.3.2.6).
    pub(crate) backend_data_end: Span,
}

/// Where events and messages go.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// The least level shown.
    pub(crate) level: Level,
    /// Text on a terminal and JSON elsewhere (`auto`), or always one of them.
    pub(crate) format: LogFormat,
    /// A file of AUTH events alone, JSON lines; reopened on SIGHUP.
    pub(crate) auth_log: Option<PathBuf>,
}

/// The least level shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Auto,
    Text,
    Json,
}

/// Metrics, health and control.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Admin {
    /// /metrics /healthz /readyz; null is none.
    pub(crate) address: Option<Address>,
    /// The same and the control API; null is none.
    pub(crate) socket: Option<PathBuf>,
    /// Lets the TCP address do what the socket does. Not in this version.
    pub(crate) token: Option<Hidden>,
}

/// What the help page of the `https` listeners says.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Portal {
    /// Who runs the mail service: the page's heading. By default the hostname.
    pub(crate) company: Option<String>,
    /// Whom customers may ask: a https:, mailto: or tel: URL, or plain words.
    pub(crate) help_contact: Option<String>,
    /// What customers type as their user name: the whole `address`, or the `local` part before the @.
    pub(crate) user_name: UserForm,
    /// The domains of the customers' addresses. By default the hostname without its first label.
    pub(crate) domains: Vec<String>,
    /// Ports as the world sees them, by listener, where a container or a firewall changes them.
    pub(crate) ports: Named<u16>,
    /// Whether a browser on an IMAP or POP3 port with `tls: implicit` gets the page. By default if there is an `https` listener.
    pub(crate) on_mail_ports: Option<bool>,
    /// How long browsers are told to come by TLS alone, such as 365d; 0: they are told nothing. Not for a private CA.
    pub(crate) hsts: Span,
    /// An old web server that browsers reach through the page's listeners: its URL, such as http://10.0.0.5/squirrelmail/, is
    /// then at /webmail/; or a list that says where each is.
    pub(crate) webmail: Webmails,
    /// How long the webmail may take to begin its answer, and to go on with it.
    pub(crate) webmail_timeout: Span,
}

/// What customers type as their user name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UserForm {
    #[default]
    Address,
    Local,
}

/// The process.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Runtime {
    /// Whom to become after binding.
    pub(crate) user: Option<String>,
    /// Which group to become; by default the user's own.
    pub(crate) group: Option<String>,
    /// Worker threads; 0 is one a core.
    pub(crate) workers: usize,
    /// How long a drain waits for sessions to end.
    pub(crate) drain_timeout: Span,
    /// Whether the process gives up, at start, what it will not need: programs, other files, rights.
    pub(crate) sandbox: bool,
}
