//! An attempt to log in, and what becomes of it.

use super::user::User;
use crate::proto::Secret;
use std::net::IpAddr;

/// One attempt to log in.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// Where it comes from.
    pub client: IpAddr,
    /// Who it is for, once that is known.
    pub user: Option<&'a User>,
    /// With which password, where one is seen.
    pub password: Option<&'a Secret<Vec<u8>>>,
    /// The backend it goes to, by its name in the configuration: an outage is a backend's.
    pub backend: &'a str,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The backend said yes.
    Accepted,
    /// The backend said no to the credentials.
    Rejected,
    /// The backend heard the credentials, and hung up or says "not now". No failure, whoever's.
    NoVerdict,
}

/// What is to be said and recorded of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// `auth.ok`.
    Accepted,
    /// `auth.failed`, with its reason.
    Failed(FailedReason),
    /// The backend says no to everybody: to be answered and recorded as unavailable, whatever it said.
    Outage,
    /// There was no verdict to rule on.
    NoVerdict,
}

/// The reason on `auth.failed`. The client hears the same words for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedReason {
    /// A mistake or a guess. It counts.
    BadCredentials,
    /// A password that was good once: a device nobody told of the new one. Not counted.
    StalePassword,
    /// The same wrong password again. Not counted.
    Repeated,
}

impl FailedReason {
    /// The contract's `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            FailedReason::BadCredentials => "bad_credentials",
            FailedReason::StalePassword => "stale_password",
            FailedReason::Repeated => "repeated",
        }
    }
}
