//! What a mail program must be told, out of the policy.

use crate::policy::portal::UserForm;
use crate::policy::{Listener, Policy};
use crate::proto::{Service, TlsRule};
use std::sync::Arc;

/// The way to one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// What is there.
    pub service: Service,
    /// TLS from the first byte; else after STARTTLS.
    pub implicit: bool,
    /// The name to connect to, which the certificate has.
    pub host: String,
    /// The port as the world sees it.
    pub port: u16,
}

/// All ways, the best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// IMAP, POP3, submission; of each those with TLS from the first byte first (RFC 8314 section 3).
    pub all: Vec<Setting>,
    /// The name to connect to.
    pub host: String,
    /// The customers' domains; at least one.
    pub domains: Vec<String>,
    /// What they type as user name.
    pub user: UserForm,
}

impl Settings {
    /// The ways that the policy offers to customers: those where TLS is spoken or can be. What is not for everybody is
    /// left out where something else is, unless `portal.ports` names it.
    pub fn of(policy: &Policy) -> Self {
        let given = |listener: &Listener| policy.portal.ports.get(&listener.name).copied();
        let is_for_everybody = |listener: &Listener| {
            let is_inner = listener.access.allow.is_some() || listener.addresses.iter().all(|at| at.ip().is_loopback());
            given(listener).is_some() || !is_inner
        };
        // Port 25 is for other servers, and a port without TLS is not to be recommended.
        let is_offered = |listener: &&Arc<Listener>| listener.service != Service::Smtp && listener.tls != TlsRule::Off;
        let (outer, inner): (Vec<_>, Vec<_>) =
            policy.listeners.iter().filter(is_offered).partition(|listener| is_for_everybody(listener));
        let mut all = Vec::new();
        for listener in if outer.is_empty() { inner } else { outer } {
            let given = given(listener);
            for port in given.into_iter().chain(listener.addresses.iter().map(std::net::SocketAddr::port)) {
                let implicit = listener.tls == TlsRule::Implicit;
                let way = Setting { service: listener.service, implicit, host: policy.hostname.clone(), port };
                if !all.contains(&way) {
                    all.push(way);
                }
                // The port that the world sees stands for all that are bound.
                if given.is_some() {
                    break;
                }
            }
        }
        all.sort_by_key(|way| (rank(way.service), !way.implicit));
        let portal = &policy.portal;
        Self { all, host: policy.hostname.clone(), domains: portal.domains.clone(), user: portal.user_name }
    }

    /// The best way to a service.
    pub fn best(&self, service: Service) -> Option<&Setting> {
        self.all.iter().find(|way| way.service == service)
    }

    /// The best way to read mail.
    pub fn incoming(&self) -> Option<&Setting> {
        self.best(Service::Imap).or_else(|| self.best(Service::Pop3))
    }

    /// The domain that stands in examples.
    pub fn domain(&self) -> &str {
        self.domains.first().map_or(&self.host, String::as_str)
    }

    /// What stands for a user name in examples.
    pub fn example(&self) -> String {
        match self.user {
            UserForm::Address => format!("you@{}", self.domain()),
            UserForm::Local => "you".to_owned(),
        }
    }
}

fn rank(service: Service) -> u8 {
    match service {
        Service::Imap => 0,
        Service::Pop3 => 1,
        Service::Submission | Service::Smtp => 2,
    }
}
