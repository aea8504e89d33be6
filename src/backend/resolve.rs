//! Names of backends to addresses, anew every ten seconds: compose services move.

use crate::policy::ServerName;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer is used.
const FRESH: Duration = Duration::from_secs(10);

/// The most names that are remembered: a service may name any.
const MOST: usize = 1024;

/// Remembers what the system's resolver said.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    answers: Mutex<HashMap<ServerName, (Instant, Vec<SocketAddr>)>>,
}

impl Resolver {
    /// The addresses of a server. An address literal resolves to itself.
    pub(super) async fn resolve(&self, name: &ServerName) -> std::io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = name.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, name.port)]);
        }
        let known = self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some((when, addresses)) = &known
            && when.elapsed() < FRESH
        {
            return Ok(addresses.clone());
        }
        match tokio::net::lookup_host((name.host.as_str(), name.port)).await {
            Ok(found) => {
                let addresses: Vec<_> = found.collect();
                let entry = (Instant::now(), addresses.clone());
                let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
                if answers.len() >= MOST {
                    answers.retain(|_, (when, _)| when.elapsed() < FRESH);
                }
                answers.insert(name.clone(), entry);
                drop(answers);
                Ok(addresses)
            }
            // A name server that is away for a moment must not take the mail with it.
            Err(error) => known.map(|(_, addresses)| addresses).ok_or(error),
        }
    }
}
