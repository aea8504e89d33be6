//! A backend that says no to everybody. Old servers answer "wrong password" when their directory is down; many passwords that
//! worked until now failing at once, and nobody getting in, is that and not a thousand people's mistake.

use super::user::User;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// This many users' good passwords …
const WITNESSES: usize = 5;
/// … failing within this time.
const WINDOW: Duration = Duration::from_secs(60);
/// The most users kept: what matters is whether they are many.
const MAX_WITNESSES: usize = 64;

/// Whose good password failed when, by backend.
#[derive(Debug, Default)]
pub(super) struct Outages(Mutex<HashMap<String, Vec<(Instant, User)>>>);

impl Outages {
    /// A login failed at a backend; `witness` is the user, if the password is the one that worked last. Whether the backend is ill.
    ///
    /// An attacker would need as many accounts whose password they changed elsewhere, and gains guesses that lead to no ban
    /// until the next customer gets in; `auth_per_ip`, and at each user `auth_failures_per_user`, still bound them.
    pub(super) fn failed(&self, backend: &str, witness: Option<&User>) -> bool {
        let now = Instant::now();
        let mut backends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = witness {
            let witnesses = backends.entry(backend.to_owned()).or_default();
            witnesses.retain(|(_, known)| known != user);
            if witnesses.len() == MAX_WITNESSES {
                witnesses.remove(0);
            }
            witnesses.push((now, user.clone()));
        }
        let Some(witnesses) = backends.get_mut(backend) else { return false };
        witnesses.retain(|(at, _)| now.duration_since(*at) < WINDOW);
        witnesses.len() >= WITNESSES
    }

    /// A login succeeded: the backend is well.
    pub(super) fn succeeded(&self, backend: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(backend);
    }
}
