//! Short stories: who tries what from where, and who gets in.

mod attackers;
mod customers;
mod evaders;

use super::*;
use crate::observe::{Event, Kind};
use crate::policy::access::{Access, AccessList, AddressSet, parse_network};
use crate::policy::portal::{Portal, UserForm};
use crate::policy::{
    Admin, Auth, Backend, BareNewline, ClientCertificate, Log, LogFormat, Runtime, Submission, Timeouts, Tls,
};
use crate::proto::{Mechanisms, Protocol, Secret, Service, TlsRule, UserName};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use tokio::sync::broadcast;
use tokio::time::advance;

/// What somebody who tried to log in experienced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    In,
    Wrong(FailedReason),
    Unavailable,
    Refused(Refusal),
}

const BAD: Said = Said::Wrong(FailedReason::BadCredentials);
const STALE: Said = Said::Wrong(FailedReason::StalePassword);
const REPEATED: Said = Said::Wrong(FailedReason::Repeated);
const BANNED: Said = Said::Refused(Refusal::Banned);
const LATER: Said = Said::Refused(Refusal::RateLimited);

const HOME: &str = "192.0.2.7";
const ATTACKER: &str = "203.0.113.66";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// A gate, and a mail server behind it.
struct World {
    gate: Gate,
    policy: Policy,
    observe: Arc<Observe>,
    events: RefCell<broadcast::Receiver<Event>>,
    accounts: RefCell<HashMap<String, String>>,
    /// The server says no to everybody.
    ill: Cell<bool>,
    /// How many logins the server was asked to judge.
    judged: Cell<usize>,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Policy)) -> Self {
        Self::behind(Vec::new(), change)
    }

    fn behind(gateways: Vec<IpAddr>, change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = policy();
        change(&mut policy);
        let observe = Observe::with_sink(Box::new(std::io::sink()));
        let events = RefCell::new(observe.subscribe());
        let gate = Gate::behind(&policy, Store::memory(), Arc::clone(&observe), gateways);
        let accounts = RefCell::default();
        Self { gate, policy, observe, events, accounts, ill: Cell::new(false), judged: Cell::new(0) }
    }

    fn account(&self, user: &str, password: &str) {
        self.accounts.borrow_mut().insert(user.to_owned(), password.to_owned());
    }

    /// A customer who has logged in before.
    async fn customer(&self, user: &str, password: &str, from: &str) {
        self.account(user, password);
        assert_eq!(self.login(from, user, password).await, Said::In, "{user} from {from}");
    }

    async fn login(&self, from: &str, user: &str, password: &str) -> Said {
        let right = self.accounts.borrow().get(user).is_some_and(|known| known == password);
        self.attempt(from, user, Some(password), right).await
    }

    /// A login in which no password is seen (CRAM-MD5, APOP).
    async fn unseen(&self, from: &str, user: &str, right: bool) -> Said {
        self.attempt(from, user, None, right).await
    }

    async fn attempt(&self, from: &str, name: &str, password: Option<&str>, right: bool) -> Said {
        let user = user(name);
        let password = password.map(|text| Secret::from(text.as_bytes()));
        let attempt = Attempt { client: ip(from), user: Some(&user), password: password.as_ref(), backend: "main" };
        let ticket = match self.gate.login(&attempt).await {
            Ok(ticket) => ticket,
            Err(refusal) => return Said::Refused(refusal),
        };
        self.judged.set(self.judged.get() + 1);
        let verdict = if right && !self.ill.get() { Verdict::Accepted } else { Verdict::Rejected };
        match self.gate.outcome(ticket, &attempt, verdict).await {
            Ruling::Accepted => Said::In,
            Ruling::Failed(reason) => Said::Wrong(reason),
            Ruling::Outage | Ruling::NoVerdict => Said::Unavailable,
        }
    }

    /// Whether a connection comes in, and goes again.
    fn connects(&self, from: &str) -> Result<(), Refusal> {
        self.gate.connection(&self.policy.listeners[0], ip(from)).map(drop)
    }

    /// The events so far, by their names.
    fn events(&self) -> Vec<Event> {
        let mut events = self.events.borrow_mut();
        std::iter::from_fn(|| events.try_recv().ok()).collect()
    }

    fn event_names(&self) -> Vec<&'static str> {
        self.events().iter().map(|event| event.event.as_str()).collect()
    }

    fn bans_metric(&self) -> String {
        let text = self.observe.metrics().render();
        text.lines().find_map(|line| line.strip_prefix("gatepost_bans ")).unwrap_or_default().to_owned()
    }
}

#[test]
fn a_session_may_wait_on_any_thread() {
    fn is_send<T: Send>(_: &T) {}
    let world = World::new();
    let attempt = Attempt { client: ip(HOME), user: None, password: None, backend: "main" };
    is_send(&world.gate.login(&attempt));
    is_send(&world.gate.outcome(Ticket(Vec::new()), &attempt, Verdict::Accepted));
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address of the test")
}

fn user(name: &str) -> User {
    User::new("main", Protocol::Imap, &UserName::new(name.as_bytes()).expect("a name of the test"))
}

/// The contract's defaults.
fn portal() -> Portal {
    Portal {
        company: "mail.example.net".into(),
        help_contact: None,
        user_name: UserForm::Address,
        domains: vec!["example.net".into()],
        ports: BTreeMap::new(),
        on_mail_ports: false,
        hsts: Duration::ZERO,
        webmails: Vec::new(),
        webmail_timeout: Duration::from_secs(60),
    }
}

fn policy() -> Policy {
    let rate = |text: &str| Some(text.parse().expect("a rate of the test"));
    let backend = Arc::new(Backend::new("main", BTreeMap::new()));
    let listener = Listener {
        name: "imaps".into(),
        addresses: Vec::new(),
        service: Service::Imap,
        tls: TlsRule::Implicit,
        backend: Arc::clone(&backend),
        access: Access {
            allow: None,
            deny: Some(AccessList::new(parse_network("198.18.0.0/15").into_iter().collect(), Vec::new())),
        },
        proxy_protocol: AddressSet::default(),
        trusted_clients: AddressSet::default(),
        client_certificate: ClientCertificate::Off,
    };
    Policy {
        hostname: "mail.example.net".into(),
        state_dir: "/var/lib/gatepost".into(),
        listeners: vec![Arc::new(listener)],
        tunnels: Vec::new(),
        pages: Vec::new(),
        portal: portal(),
        backends: BTreeMap::from([("main".into(), backend)]),
        routes: Arc::default(),
        auth: Auth {
            mechanisms: Mechanisms::All,
            without_tls: Mechanisms::All,
            submission: crate::policy::Checker::Backend,
            pop_before_smtp: None,
            remember_good: 30 * DAY,
            outage_guard: true,
        },
        submission: Submission {
            accept_domains: Vec::new().into(),
            require_auth: true,
            relay_probe: false,
            sender_must_match: false,
            bare_newline: BareNewline::Reject,
            max_size: 50 << 20,
            add_received: false,
        },
        limits: Limits {
            sessions: 20_000,
            sessions_per_ip: Some(1000),
            sessions_per_user: None,
            connections_per_ip: rate("600/min"),
            auth_per_ip: rate("300/min"),
            auth_attempts_per_session: 3,
            auth_failures_per_ip: rate("20/10min"),
            auth_failures_per_user: rate("50/h"),
            messages_per_user: None,
            recipients_per_user: None,
            ban: HOUR,
            failure_delay: Duration::from_secs(2),
            ipv6_prefix: 64,
            exempt: vec!["127.0.0.0/8".parse().expect("a network"), "::1/128".parse().expect("a network")],
        },
        timeouts: Timeouts {
            tls_handshake: MINUTE,
            login: MINUTE,
            idle_imap: MINUTE,
            idle_pop3: MINUTE,
            idle_submission: MINUTE,
            idle_tcp: MINUTE,
            connect: MINUTE,
            backend_greeting: MINUTE,
            backend_login: MINUTE,
            backend_data_end: MINUTE,
        },
        tls: Tls { certificates: Vec::new(), acme: None, only_1_3: false, client_ca: None, session_tickets: true },
        log: Log { level: tracing::Level::INFO, format: LogFormat::Json, auth_log: None },
        admin: Admin { address: None, socket: None },
        runtime: Runtime { user: None, group: None, workers: 0, drain_timeout: MINUTE, sandbox: false },
        sources: Vec::new(),
    }
}
