//! The way of a session: to which backend, to which of its servers, by which login name.
//!
//! `policy::route` knows what is written; here it is put together with a user, and a service is asked where one is to be.
//! A stranger is never asked about before the gate has let the attempt pass.

mod auth_http;

pub use auth_http::{Inquiry, Tls, ask};

use crate::policy::route::{AuthHttp, Leads, Route, Routes, Shown, Target, Traveller};
use crate::policy::{Backend, ServerName, Spoken};
use crate::proto::{Protocol, Reply, Secret, UserName};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Where a session goes.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The backend.
    pub backend: Arc<Backend>,
    /// This server and no other, where a service has named one.
    pub server: Option<ServerName>,
}

/// Where a user goes, and as whom.
#[derive(Debug)]
pub struct Way {
    /// The place.
    pub destination: Destination,
    /// The name to log in with, where it is not the one the client gave.
    pub login: Option<UserName>,
    /// The password to log in with, where it is not the one the client gave.
    pub password: Option<Secret<Vec<u8>>>,
}

/// Why there is none.
#[derive(Debug)]
pub enum Astray {
    /// The route is not for this address.
    NotAllowed,
    /// No login name can be made of the user's: nobody has such a name.
    NoSuchUser,
    /// A service said no to the credentials.
    Rejected {
        /// Its words, and its code on SMTP.
        reply: Reply,
        /// How long it wants the answer to be held back; `None`: the connection is to end with it.
        wait: Option<Duration>,
    },
    /// A service could not be asked, or did not say where.
    Unavailable(String),
}

impl Destination {
    /// A backend, whichever of its servers.
    pub fn any_of(backend: &Arc<Backend>) -> Self {
        Self { backend: Arc::clone(backend), server: None }
    }
}

/// Whether a client whose user is not known may go where its connection leads.
///
/// # Errors
/// [`Astray::NotAllowed`].
pub fn may_go(routes: &Routes, traveller: &Traveller<'_>, client: IpAddr) -> Result<(), Astray> {
    match routes.before_login(traveller) {
        Some(route) if !route.admits(client) => Err(Astray::NotAllowed),
        _ => Ok(()),
    }
}

/// The destination of a connection whose user is not known, or never will be. `fallback`: the listener's backend.
pub fn before_login(routes: &Routes, traveller: &Traveller<'_>, fallback: &Arc<Backend>) -> Destination {
    Destination::any_of(routes.before_login(traveller).and_then(leads_all_to).unwrap_or(fallback))
}

/// The destination of a connection that names no user, whatever is spoken on it.
///
/// # Errors
/// [`Astray::NotAllowed`]: the route is not for this address.
pub fn of_connection(
    routes: &Routes,
    (spoken, shown): (Spoken<Protocol>, Shown<'_>),
    client: IpAddr,
    fallback: &Arc<Backend>,
) -> Result<Destination, Astray> {
    match routes.of_connection(spoken, shown) {
        Some(route) if !route.admits(client) => Err(Astray::NotAllowed),
        route => Ok(Destination::any_of(route.and_then(leads_all_to).unwrap_or(fallback))),
    }
}

fn leads_all_to(route: &Route) -> Option<&Arc<Backend>> {
    match &route.leads {
        Leads::All(target) => target.backend.as_ref(),
        Leads::User(..) | Leads::Map(_) | Leads::AuthHttp(_) => None,
    }
}

/// What the configuration says of a user.
#[derive(Debug)]
pub enum Found<'a> {
    /// The way.
    Way(Way),
    /// A service knows it, and is to be asked ([`ask`]) once the gate has let the attempt pass.
    Ask(&'a AuthHttp),
}

/// Looks for the way of a user. `fallback`: the listener's backend.
///
/// # Errors
/// [`Astray::NotAllowed`], [`Astray::NoSuchUser`].
pub fn of_user<'a>(
    routes: &'a Routes,
    traveller: &Traveller<'_>,
    client: IpAddr,
    user: &UserName,
    fallback: &Arc<Backend>,
) -> Result<Found<'a>, Astray> {
    let Some((route, entry)) = routes.of_user(traveller, user) else {
        return Ok(Found::Way(Way { destination: Destination::any_of(fallback), login: None, password: None }));
    };
    if !route.admits(client) {
        return Err(Astray::NotAllowed);
    }
    let (backend, login) = match (&route.leads, &entry) {
        (Leads::AuthHttp(service), _) => return Ok(Found::Ask(service)),
        (Leads::Map(_), None) => (fallback, None),
        (Leads::Map(_), Some(entry)) => (&entry.backend, entry.login.as_ref()),
        (Leads::All(Target { backend, login }) | Leads::User(_, Target { backend, login }), _) => {
            (backend.as_ref().unwrap_or(fallback), login.as_ref())
        }
    };
    let taken = || UserName::new(user.as_taken(traveller.login_protocol));
    let login = login.map(|login| login.apply(&taken()?)).transpose().map_err(|_| Astray::NoSuchUser)?;
    let login = login.filter(|login| login != user);
    Ok(Found::Way(Way { destination: Destination::any_of(backend), login, password: None }))
}
