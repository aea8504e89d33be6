//! From the sections to the policy. What the sections' types could not refuse is refused here, all of it at once.

mod acme;
mod auth;
mod backends;
mod certificates;
mod client_certificates;
mod files;
mod listeners;
mod overlap;
mod portal;
mod routes;
mod tunnels;
mod unbuilt;
mod webmail;

use super::expand::Surroundings;
use super::finding::quoted;
use super::report::{Report, Spot};
use super::sections::{self, BareNewline, File, Level, LogFormat, MinVersion};
use super::value::{ListEntry, Span, is_host_name};
use crate::policy::{self, Policy, Reach};
use std::time::Duration;

/// Makes the policy, or `None` where the report has an error.
pub(super) fn policy(file: &File, around: Surroundings<'_>, report: &mut Report) -> Option<Policy> {
    unbuilt::refuse(file, report);
    let runtime = runtime(&file.runtime, report);
    let reader = files::Reader::new(around, runtime.user.as_deref());
    let hostname = hostname(file, report);
    let backends = backends::build(&file.backends, &reader, report);
    let routes = routes::build(file, &backends, &reader, report);
    let listeners = listeners::build(file, &backends, &reader, report);
    let webmails = webmail::build(file, hostname.as_deref(), &listeners, &reader, report);
    let tls = tls(file, hostname.as_deref(), &webmails, &reader, report);
    let admin = admin(&file.admin, &reader, report);
    let admin_address = admin.address.map(|address| (Spot::top("admin").key("address"), address));
    let acme_address = tls.acme.as_ref().and_then(acme::listens);
    let others: Vec<_> = acme_address.into_iter().chain(admin_address).collect();
    overlap::look_at(&listeners, &others, &backends, &webmails, hostname.as_deref(), report);
    let auth = auth::build(&file.auth, &reader, report);
    auth::look_at(&auth, &routes, &listeners, report);
    routes::look_at(&routes, &auth, &listeners, report);
    client_certificates::look_at(file, &listeners, &routes, report);
    tunnels::look_at(&listeners, &backends, report);
    unproven(file, &auth, &backends, report);
    if file.submission.sender_must_match && auth.pop_before_smtp.is_some() {
        let message =
            "does not hold for who sends without a login (auth.pop_before_smtp): such a sender has no name to match";
        report.warning(&Spot::top("submission").key("sender_must_match"), message);
    }
    let portal = portal::build(file, hostname.as_deref(), &listeners, webmails, report);
    let policy = Policy {
        hostname: hostname.unwrap_or_default(),
        state_dir: reader.writable(&Spot::top("state_dir"), &file.state_dir, Reach::keeps_state, report),
        pages: listeners.iter().filter_map(|built| built.page.clone()).collect(),
        tunnels: listeners.iter().filter_map(|built| built.tunnel.clone()).collect(),
        listeners: listeners.into_iter().filter_map(|built| built.listener).collect(),
        portal,
        backends: backends.into_iter().filter_map(|(name, backend)| Some((name, backend?))).collect(),
        routes: routes.into(),
        auth,
        submission: submission(&file.submission, report),
        limits: limits(&file.limits, report),
        timeouts: timeouts(&file.timeouts, report),
        tls,
        log: log(&file.log, &reader, report),
        admin,
        runtime,
        sources: Vec::new(),
    };
    (!report.has_errors()).then_some(policy)
}

fn hostname(file: &File, report: &mut Report) -> Option<String> {
    let Some(written) = &file.hostname else {
        report.missing(
            &Spot::top("hostname"),
            "is missing: write the name that clients connect to, such as mail.example.net",
        );
        return None;
    };
    let name = written.strip_suffix('.').unwrap_or(written);
    if is_host_name(name) {
        return Some(name.to_ascii_lowercase());
    }
    let cure = if name.is_ascii() {
        "write the name that clients connect to, such as mail.example.net"
    } else {
        "write its ASCII form, which begins with xn--"
    };
    report.error(&Spot::top("hostname"), format_args!("{} is not a host name: {cure}", quoted(written)));
    None
}

/// What cannot be beside `submission.require_auth: false`: whatever has the server take what comes from this host unasked.
fn unproven(file: &File, auth: &policy::Auth, backends: &backends::Backends, report: &mut Report) {
    let section = &file.submission;
    let spot = Spot::top("submission");
    if section.require_auth {
        return;
    }
    let mut refuse = |key: &str, message: &str| report.error(&spot.key(key), message);
    if !section.relay_probe {
        refuse(
            "relay_probe",
            "`false` leaves unknown whether the server would relay for strangers, whom require_auth: false sends there: leave it out",
        );
    }
    if auth.submission != policy::Checker::Backend {
        refuse(
            "require_auth",
            "with auth.submission the SMTP server hears no AUTH and relays for this host, so for strangers too: write true, or auth.submission: backend",
        );
    }
    if auth.pop_before_smtp.is_some() {
        refuse(
            "require_auth",
            "with auth.pop_before_smtp the SMTP server relays for this host, so for strangers too: write true, or leave pop_before_smtp out",
        );
    }
    if section.accept_domains.as_ref().is_some_and(Vec::is_empty) {
        refuse(
            "accept_domains",
            "`[]` has strangers write to nobody, and require_auth: false is for strangers: leave it out for the server to decide, or name domains",
        );
    }
    let smtp = policy::Spoken::Mail(crate::proto::Protocol::Smtp);
    for backend in backends.values().flatten() {
        if backend.servers.contains_key(&smtp) && backend.source.len() > 1 {
            let message = "the server is asked from one of our addresses whether it relays, and may do so for another, also for strangers (submission.require_auth: false): write one";
            report.error(&Spot::top("backends").key(&backend.name).key("source"), message);
        }
    }
    if section.sender_must_match {
        let message = "does not hold for who sends without a login (submission.require_auth: false): such a sender has no name to match";
        report.warning(&spot.key("sender_must_match"), message);
    }
}

fn submission(section: &sections::Submission, report: &mut Report) -> policy::Submission {
    let spot = Spot::top("submission");
    let mut accept_domains = Vec::new();
    for (index, domain) in section.accept_domains.iter().flatten().enumerate() {
        if is_host_name(domain) {
            accept_domains.push(domain.to_ascii_lowercase());
        } else {
            let message = format!("{} is not a domain: write it like example.net", quoted(domain));
            report.error(&spot.key("accept_domains").item(index), message);
        }
    }
    if section.max_size.0 == 0 {
        report.error(&spot.key("max_size"), "`0` would refuse every message: write a size such as 50MiB");
    }
    policy::Submission {
        accept_domains: accept_domains.into(),
        require_auth: section.require_auth,
        relay_probe: section.relay_probe,
        sender_must_match: section.sender_must_match,
        bare_newline: match section.bare_newline {
            BareNewline::Reject => policy::BareNewline::Reject,
            BareNewline::Normalize => policy::BareNewline::Normalize,
        },
        max_size: section.max_size.0,
        add_received: section.add_received,
    }
}

fn limits(section: &sections::Limits, report: &mut Report) -> policy::Limits {
    let spot = Spot::top("limits");
    if section.auth_attempts_per_session == 0 {
        let message = "`0` would end every session before its first login: write 1 or more";
        report.error(&spot.key("auth_attempts_per_session"), message);
    }
    if !(1..=128).contains(&section.ipv6_prefix) {
        let message =
            format!("`{}` is not a prefix length: write 1 to 128, 64 for what one customer has", section.ipv6_prefix);
        report.error(&spot.key("ipv6_prefix"), message);
    }
    if section.failure_delay.0 >= Duration::from_secs(60) {
        let message = "a wrong password would be answered after a minute or more, when clients have given up: write a few seconds";
        report.error(&spot.key("failure_delay"), message);
    }
    let number = |count: usize| (count > 0).then_some(count);
    policy::Limits {
        sessions: number(section.sessions).unwrap_or(usize::MAX),
        sessions_per_ip: number(section.sessions_per_ip),
        sessions_per_user: number(section.sessions_per_user),
        connections_per_ip: section.connections_per_ip.0,
        auth_per_ip: section.auth_per_ip.0,
        auth_attempts_per_session: section.auth_attempts_per_session,
        auth_failures_per_ip: section.auth_failures_per_ip.0,
        auth_failures_per_user: section.auth_failures_per_user.0,
        messages_per_user: section.messages_per_user.0,
        recipients_per_user: section.recipients_per_user.0,
        ban: section.ban.0,
        failure_delay: section.failure_delay.0,
        ipv6_prefix: section.ipv6_prefix,
        exempt: section
            .exempt
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| match entry {
                ListEntry::Network(network) => Some(*network),
                ListEntry::File(_) => {
                    report.error(&spot.key("exempt").item(index), "a file cannot stand here: write the networks");
                    None
                }
            })
            .collect(),
    }
}

fn timeouts(section: &sections::Timeouts, report: &mut Report) -> policy::Timeouts {
    let mut deadline = |key: &str, span: Span| {
        if span.0.is_zero() {
            report.error(
                &Spot::top("timeouts").key(key),
                "`0` leaves no time at all, and there is no waiting for ever: write a duration",
            );
        }
        span.0
    };
    policy::Timeouts {
        tls_handshake: deadline("tls_handshake", section.tls_handshake),
        login: deadline("login", section.login),
        idle_imap: deadline("idle_imap", section.idle_imap),
        idle_pop3: deadline("idle_pop3", section.idle_pop3),
        idle_submission: deadline("idle_submission", section.idle_submission),
        idle_tcp: deadline("idle_tcp", section.idle_tcp),
        connect: deadline("connect", section.connect),
        backend_greeting: deadline("backend_greeting", section.backend_greeting),
        backend_login: deadline("backend_login", section.backend_login),
        backend_data_end: deadline("backend_data_end", section.backend_data_end),
    }
}

fn tls(
    file: &File,
    hostname: Option<&str>,
    webmails: &[webmail::Placed],
    reader: &files::Reader<'_>,
    report: &mut Report,
) -> policy::Tls {
    let section = &file.tls;
    // The public CA's certificate may be the one for the host name.
    let has_own = |host: &str| section.acme.iter().flat_map(|acme| &acme.names).any(|name| acme::covers(name, host));
    let of_files = hostname.filter(|host| !has_own(host));
    let examined = certificates::build(&section.certificates, of_files, reader, report);
    webmail::look_at_names(webmails, section, &examined, report);
    let written = acme::Written { state_dir: &file.state_dir, auth_log: file.log.auth_log.as_deref() };
    policy::Tls {
        acme: section.acme.as_ref().and_then(|acme| acme::build(acme, written, (hostname, &examined), reader, report)),
        certificates: examined.files,
        only_1_3: section.min_version == MinVersion::Tls13,
        client_ca: client_certificates::ca(section, reader, report),
        session_tickets: section.session_tickets,
    }
}

fn log(section: &sections::Log, reader: &files::Reader<'_>, report: &mut Report) -> policy::Log {
    let spot = Spot::top("log").key("auth_log");
    let auth_log = section.auth_log.as_ref().map(|path| reader.writable(&spot, path, Reach::logs, report));
    policy::Log {
        level: match section.level {
            Level::Error => tracing::Level::ERROR,
            Level::Warn => tracing::Level::WARN,
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
            Level::Trace => tracing::Level::TRACE,
        },
        format: match section.format {
            LogFormat::Auto => policy::LogFormat::Auto,
            LogFormat::Text => policy::LogFormat::Text,
            LogFormat::Json => policy::LogFormat::Json,
        },
        auth_log,
    }
}

fn admin(section: &sections::Admin, reader: &files::Reader<'_>, report: &mut Report) -> policy::Admin {
    // sun_path of unix(7), with the byte that ends it.
    const LONGEST_SOCKET: usize = 107;
    let socket = section.socket.as_ref().map(|path| reader.path(path));
    if let Some(path) = socket.as_ref().filter(|path| path.as_os_str().len() > LONGEST_SOCKET) {
        let message =
            format!("the path has {} octets, and a socket's may have {LONGEST_SOCKET}", path.as_os_str().len());
        report.error(&Spot::top("admin").key("socket"), message);
    }
    policy::Admin { address: section.address.map(|address| address.0), socket }
}

fn runtime(section: &sections::Runtime, report: &mut Report) -> policy::Runtime {
    const MOST_WORKERS: usize = 1024;
    let spot = Spot::top("runtime");
    if let Some(user) = section.user.as_deref().filter(|name| files::user(name).is_none()) {
        let message = format!("there is no user {} on this host: create it, or write another", quoted(user));
        report.error(&spot.key("user"), message);
    }
    if let Some(group) = section.group.as_deref().filter(|name| !files::group_exists(name)) {
        let message =
            format!("there is no group {} on this host: create it, or leave it out for the user's own", quoted(group));
        report.error(&spot.key("group"), message);
    }
    if section.workers > MOST_WORKERS {
        report.error(
            &spot.key("workers"),
            format_args!("`{}` is too many: write at most {MOST_WORKERS}, or 0 for one a core", section.workers),
        );
    }
    policy::Runtime {
        user: section.user.clone(),
        group: section.group.clone(),
        workers: section.workers,
        drain_timeout: section.drain_timeout.0,
        sandbox: section.sandbox,
    }
}
