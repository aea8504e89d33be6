//! What holds where the file is silent.

use super::super::value::{Address, Named, OneOrMany, Quota, Span};
use super::{
    Acme, AcmeChallenge, AcmeKey, Admin, Auth, Backend, BackendTls, Balance, BareNewline, ClientAddress,
    ClientCertificate, File, Level, Limits, Listener, Log, LogFormat, Mechanisms, MinVersion, Plaintext, Portal,
    Protocol, Route, Runtime, Servers, Stage, Submission, Timeouts, Tls, TlsRule, UserForm, Webmails,
};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

/// The listeners that stand where none is written, so many ports above their own; `None` if there are not so many.
pub(crate) fn default_listeners(offset: u16) -> Option<Named<Listener>> {
    let listeners = [
        ("imaps", Protocol::Imap, TlsRule::Implicit, 993u16),
        ("pop3s", Protocol::Pop3, TlsRule::Implicit, 995),
        ("submissions", Protocol::Submission, TlsRule::Implicit, 465),
        ("submission", Protocol::Submission, TlsRule::Starttls, 587),
    ];
    let listener = |(name, protocol, tls, port): (&str, _, _, u16)| {
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port.checked_add(offset)?));
        let address = OneOrMany(vec![Address(address)]);
        Some((name.to_owned(), Listener { address, protocol: Some(protocol), tls, ..Listener::default() }))
    };
    listeners.into_iter().map(listener).collect::<Option<_>>().map(Named)
}

impl Default for File {
    fn default() -> Self {
        Self {
            hostname: None,
            state_dir: "/var/lib/gatepost".into(),
            listeners: None,
            port_offset: 0,
            backends: Named::default(),
            routes: Vec::new(),
            tls: Tls::default(),
            auth: Auth::default(),
            plaintext: Plaintext::default(),
            submission: Submission::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            store: "memory".to_owned(),
            log: Log::default(),
            admin: Admin::default(),
            portal: Portal::default(),
            runtime: Runtime::default(),
        }
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            address: OneOrMany(Vec::new()),
            protocol: None,
            tls: TlsRule::Implicit,
            backend: None,
            allow: Vec::new(),
            deny: Vec::new(),
            proxy_protocol: Vec::new(),
            trusted_clients: Vec::new(),
            client_certificate: ClientCertificate::Off,
        }
    }
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            host: None,
            imap: Servers::ByHost,
            pop3: Servers::ByHost,
            smtp: Servers::ByHost,
            tcp: Servers::ByHost,
            balance: Balance::First,
            tls: BackendTls::Off,
            tls_ca: None,
            tls_name: None,
            tls_certificate: None,
            client_address: ClientAddress::Off,
            source: OneOrMany(Vec::new()),
            max_sessions: 0,
            health_interval: seconds(60),
            temporary_replies: ["lock", "busy", "in use", "temporar"].map(str::to_owned).to_vec(),
        }
    }
}

impl Default for Route {
    fn default() -> Self {
        Self {
            protocol: OneOrMany(Vec::new()),
            sni: None,
            client_certificate: None,
            user: None,
            file: None,
            auth_http: None,
            headers: Named::default(),
            timeout: seconds(10),
            backend: None,
            login: None,
            allow: Vec::new(),
        }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            acme: None,
            min_version: MinVersion::Tls12,
            client_ca: None,
            session_tickets: true,
        }
    }
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            contact: None,
            names: Vec::new(),
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            ca: None,
            challenge: AcmeChallenge::Http01,
            http_address: default("[::]:80"),
            tls_address: default("[::]:443"),
            hook: None,
            hook_timeout: default("2min"),
            dns_wait: default("10s"),
            key: AcmeKey::Ecdsa,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            mechanisms: Mechanisms::All,
            without_tls: Vec::new(),
            submission: "backend".to_owned(),
            pop_before_smtp: None,
            remember_good: default("30d"),
            outage_guard: true,
        }
    }
}

impl Default for Plaintext {
    fn default() -> Self {
        Self {
            stages: vec![Stage::default()],
            ratchet: false,
            exempt: Vec::new(),
            help_url: None,
            timezone: "UTC".to_owned(),
        }
    }
}

impl Default for Submission {
    fn default() -> Self {
        Self {
            require_auth: true,
            relay_probe: true,
            accept_domains: None,
            sender_must_match: false,
            add_received: false,
            bare_newline: BareNewline::Reject,
            max_size: default("50MiB"),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 20_000,
            sessions_per_ip: 1_000,
            sessions_per_user: 0,
            connections_per_ip: default("600/min"),
            auth_per_ip: default("300/min"),
            auth_attempts_per_session: 3,
            auth_failures_per_ip: default("20/10min"),
            auth_failures_per_user: default("50/h"),
            ban: default("1h"),
            failure_delay: seconds(2),
            messages_per_user: Quota(None),
            recipients_per_user: Quota(None),
            ipv6_prefix: 64,
            exempt: vec![default("127.0.0.0/8"), default("::1")],
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tls_handshake: seconds(10),
            login: seconds(60),
            idle_imap: minutes(35),
            idle_pop3: minutes(10),
            idle_submission: minutes(5),
            idle_tcp: minutes(60),
            connect: seconds(5),
            backend_greeting: seconds(30),
            backend_login: minutes(3),
            backend_data_end: minutes(10),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: Level::Info, format: LogFormat::Auto, auth_log: None }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: Some(default("127.0.0.1:9900")), socket: Some("/run/gatepost/admin.sock".into()), token: None }
    }
}

impl Default for Portal {
    fn default() -> Self {
        Self {
            company: None,
            help_contact: None,
            user_name: UserForm::Address,
            domains: Vec::new(),
            ports: Named::default(),
            on_mail_ports: None,
            hsts: seconds(0),
            webmail: Webmails::default(),
            webmail_timeout: seconds(60),
        }
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Self { user: None, group: None, workers: 0, drain_timeout: minutes(10), sandbox: true }
    }
}

const fn seconds(count: u64) -> Span {
    Span(Duration::from_secs(count))
}

const fn minutes(count: u64) -> Span {
    seconds(count * 60)
}

/// A default as the documentation writes it.
fn default<T: std::str::FromStr<Err = String>>(text: &str) -> T {
    text.parse().unwrap_or_else(|why| panic!("the default {text} {why}"))
}
