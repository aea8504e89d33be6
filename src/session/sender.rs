//! Whose name may stand on a message: `submission.sender_must_match`.

use super::Session;
use super::entered::Identity;
use crate::proto::UserName;
use crate::proto::smtp::Address;
use crate::route::{self, Found};

/// Whether the user may send from this address; `None` is `<>`, which reports on mail are sent from (RFC 8098 section 3) and
/// which names nobody.
///
/// It may be the name the user logged in with, or has at the backend; at a name without a domain, that name in a domain that is
/// ours; and any that a route leads to the same mailbox, so that a map of users is a map of aliases, too.
pub(super) fn is_own(session: &Session, identity: &Identity, from: Option<&Address>) -> bool {
    let Some(from) = from.filter(|_| session.policy.submission.sender_must_match) else { return true };
    let (Some(domain), Some(user)) = (from.domain(), &identity.name) else { return false };
    let local = from.local_part();
    let mailbox = identity.login_name.as_ref().unwrap_or(user);
    let is_named = |name: &UserName| {
        let name = name.as_bytes();
        match name.contains(&b'@') {
            true => name.eq_ignore_ascii_case(format!("{local}@{domain}").as_bytes()),
            false => name.eq_ignore_ascii_case(local.as_bytes()) && is_ours(session, domain),
        }
    };
    is_named(user) || is_named(mailbox) || leads_to(session, &format!("{local}@{domain}"), mailbox)
}

/// Whether a domain is one whose mail we take: that of our name, or one of `accept_domains`.
fn is_ours(session: &Session, domain: &str) -> bool {
    let hostname = &session.policy.hostname;
    let parent = hostname.split_once('.').map(|(_, parent)| parent).filter(|parent| parent.contains('.'));
    let accepted = session.policy.submission.accept_domains.iter().map(String::as_str);
    parent.into_iter().chain([hostname.as_str()]).chain(accepted).any(|ours| ours.eq_ignore_ascii_case(domain))
}

/// Whether who logs in by this address gets the mailbox, by a route that is about the address: one for whatever comes would make
/// everybody's address anybody's.
fn leads_to(session: &Session, address: &str, mailbox: &UserName) -> bool {
    let Ok(address) = UserName::new(address.as_bytes()) else { return false };
    let (routes, traveller) = (&session.policy.routes, session.traveller());
    if !routes.of_user(&traveller, &address).is_some_and(|(route, entry)| route.names_domain(entry.as_ref())) {
        return false;
    }
    let found = route::of_user(routes, &traveller, session.client.ip(), &address, &session.listener.backend);
    let Ok(Found::Way(way)) = found else { return false };
    let login = way.login.as_ref().unwrap_or(&address);
    way.destination.backend.name == session.destination.backend.name
        && login.as_bytes().eq_ignore_ascii_case(mailbox.as_bytes())
}
