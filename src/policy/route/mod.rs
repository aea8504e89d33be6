//! Which backend a session belongs to, and by which name its user logs in there.
//!
//! The routes of a configuration stand in an order, and the first that matches decides; where none does, the listener's
//! backend. Some need no more than the connection (the name it asked for by SNI, the client's certificate), some the user.
//! What an `auth_http` service says is asked for above, in `crate::route`: here is only who asks whom.

mod map;
mod pattern;

pub use map::{Entry, MapError, UserMap};
pub use pattern::{BadTemplate, LoginTemplate, Pattern};

use super::access::AccessList;
use super::{Backend, ServerName, Spoken};
use crate::proto::{Protocol, UserName};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The routes, in their order.
#[derive(Debug, Default)]
pub struct Routes(pub Vec<Route>);

/// A route.
#[derive(Debug)]
pub struct Route {
    /// For which protocols it is; empty: for all.
    pub protocols: Vec<Spoken<Protocol>>,
    /// Which names a client may have asked for by SNI; `None`: any, or none at all.
    pub sni: Option<Pattern>,
    /// Which names may stand in the certificate that a client has proved to have; `None`: any, or no certificate at all.
    pub certificate: Option<Pattern>,
    /// Who of them it is for, and where it leads.
    pub leads: Leads,
    /// Who may take it; `None`: everyone. Whoever it matches and may not is refused.
    pub allow: Option<AccessList>,
}

/// Where a route leads, and for whom.
#[derive(Debug)]
pub enum Leads {
    /// All of them there.
    All(Target),
    /// Users whose name matches there.
    User(Pattern, Target),
    /// Each user of a map to his own place; the others go on to the next route.
    Map(UserMap),
    /// Where a service says.
    AuthHttp(Arc<AuthHttp>),
}

/// A place, and a name there.
#[derive(Debug, Clone)]
pub struct Target {
    /// The backend; `None`: the listener's.
    pub backend: Option<Arc<Backend>>,
    /// The login name; `None`: as the client gave it.
    pub login: Option<LoginTemplate>,
}

/// A service that speaks nginx's `auth_http` protocol.
#[derive(Debug, Clone)]
pub struct AuthHttp {
    /// Where it listens.
    pub server: ServerName,
    /// What stands in `Host`.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Headers that are added to each request: a shared secret, as a rule.
    pub headers: Vec<(String, crate::proto::Secret<String>)>,
    /// How long an answer may take, all in all.
    pub timeout: Duration,
    /// Whose settings (`temporary_replies`, TLS) hold for the servers it names; `None`: the listener's backend.
    pub backend: Option<Arc<Backend>>,
}

/// What a client shows in its handshake of what routes look at; nothing, in the clear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shown<'a> {
    /// The name it asks for by SNI, lower-cased.
    pub sni: Option<&'a str>,
    /// The name in its certificate, which was found good; empty where it has no name in it. None: it has shown no certificate.
    pub certificate: Option<&'a str>,
}

/// What is known of a client's handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake<'a> {
    /// It may still come.
    ToCome,
    /// It is over, or none comes.
    Over(Shown<'a>),
}

/// What is known of a session when its way is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Traveller<'a> {
    /// What it speaks.
    pub protocol: Protocol,
    /// What the server speaks that takes its login.
    pub login_protocol: Protocol,
    /// What it showed in its handshake.
    pub shown: Shown<'a>,
}

impl Route {
    /// Whether a client at this address may take it.
    pub fn admits(&self, client: IpAddr) -> bool {
        self.allow.as_ref().is_none_or(|list| list.contains(client))
    }

    /// Whether it is about the domain of the names it is for, and not about whatever comes. `entry`: what its map says.
    pub fn names_domain(&self, entry: Option<&Entry>) -> bool {
        match &self.leads {
            Leads::User(pattern, _) => pattern.names_domain(),
            Leads::Map(_) => entry.is_some_and(|entry| entry.names_domain),
            Leads::All(_) | Leads::AuthHttp(_) => false,
        }
    }

    /// Whether the connection alone could take it.
    fn is_for(&self, traveller: &Traveller<'_>) -> bool {
        self.is_for_connection(traveller.protocol.into(), traveller.shown)
    }

    fn is_for_connection(&self, spoken: Spoken<Protocol>, shown: Shown<'_>) -> bool {
        let matches = |pattern: &Option<Pattern>, name: Option<&str>| {
            pattern.as_ref().is_none_or(|pattern| name.is_some_and(|name| pattern.matches(name.as_bytes())))
        };
        self.is_about(spoken) && matches(&self.sni, shown.sni) && matches(&self.certificate, shown.certificate)
    }

    /// Whether it is for what is spoken.
    pub fn is_about(&self, spoken: Spoken<Protocol>) -> bool {
        self.protocols.is_empty() || self.protocols.contains(&spoken)
    }

    /// Whether it cannot be decided, or not be taken, before the user is known.
    fn needs_the_user(&self) -> bool {
        match &self.leads {
            Leads::All(target) => target.login.is_some(),
            Leads::User(..) | Leads::Map(_) | Leads::AuthHttp(_) => true,
        }
    }

    /// Whether it takes everyone the connection is right for.
    fn takes_all(&self) -> bool {
        matches!(&self.leads, Leads::All(_) | Leads::AuthHttp(_))
    }
}

impl Routes {
    /// Whether any of them looks at what a client shows in its handshake.
    pub fn look_at_the_handshake(&self) -> bool {
        self.0.iter().any(|route| route.sni.is_some() || route.certificate.is_some())
    }

    /// Whether the user must be known before the way is: then only what names the user first may log in. While it is not known
    /// what the client shows, it is taken for each that a route could want.
    pub fn need_the_user(&self, protocol: Protocol, handshake: Handshake<'_>) -> bool {
        let traveller = match handshake {
            Handshake::Over(shown) => Traveller { protocol, login_protocol: protocol, shown },
            Handshake::ToCome => {
                return self.0.iter().any(|route| route.is_about(protocol.into()) && route.needs_the_user());
            }
        };
        for route in self.0.iter().filter(|route| route.is_for(&traveller)) {
            if route.needs_the_user() {
                return true;
            }
            if route.takes_all() {
                return false;
            }
        }
        false
    }

    /// The route of a connection whose user is not known, or will never be: the first that takes whoever comes to it.
    pub fn before_login(&self, traveller: &Traveller<'_>) -> Option<&Route> {
        self.of_connection(traveller.protocol.into(), traveller.shown)
    }

    /// The route of a connection that names no user, whatever is spoken on it.
    pub fn of_connection(&self, spoken: Spoken<Protocol>, shown: Shown<'_>) -> Option<&Route> {
        let mut all = self.0.iter().filter(|route| route.is_for_connection(spoken, shown));
        all.find(|route| matches!(route.leads, Leads::All(_)))
    }

    /// The route of a user, and what its map says of him. The name counts as the server will take it: a blank more must be no
    /// way around a route.
    pub fn of_user(&self, traveller: &Traveller<'_>, user: &UserName) -> Option<(&Route, Option<Entry>)> {
        let name = user.as_taken(traveller.login_protocol);
        self.0.iter().filter(|route| route.is_for(traveller)).find_map(|route| match &route.leads {
            Leads::All(_) | Leads::AuthHttp(_) => Some((route, None)),
            Leads::User(pattern, _) => pattern.matches(name).then_some((route, None)),
            Leads::Map(map) => map.find(name).map(|entry| (route, Some(entry))),
        })
    }

    /// The maps and lists that are reread when they change.
    pub fn maps(&self) -> impl Iterator<Item = &UserMap> {
        self.0.iter().filter_map(|route| match &route.leads {
            Leads::Map(map) => Some(map),
            Leads::All(_) | Leads::User(..) | Leads::AuthHttp(_) => None,
        })
    }

    /// Whether a service is asked about users of this protocol.
    pub fn ask_a_service(&self, protocol: Protocol) -> bool {
        self.0.iter().any(|route| route.is_about(protocol.into()) && matches!(route.leads, Leads::AuthHttp(_)))
    }

    /// The lists of who may take a route.
    pub fn lists(&self) -> impl Iterator<Item = &AccessList> {
        self.0.iter().filter_map(|route| route.allow.as_ref())
    }

    /// The first route that nobody ever comes to, because one before it takes all that it could: both, counted from 0.
    pub fn first_in_vain(&self) -> Option<(usize, usize)> {
        let covers = |one: &Route, other: &Route| {
            one.takes_all()
                && (one.protocols.is_empty()
                    || !other.protocols.is_empty() && other.protocols.iter().all(|p| one.protocols.contains(p)))
                && (one.sni.is_none() || one.sni == other.sni)
                && (one.certificate.is_none() || one.certificate == other.certificate)
        };
        (0..self.0.len()).find_map(|later| {
            (0..later).find(|earlier| covers(&self.0[*earlier], &self.0[later])).map(|earlier| (later, earlier))
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn backend(name: &str) -> Arc<Backend> {
        let servers = [(Protocol::Imap.into(), vec![ServerName { host: "127.0.0.1".to_owned(), port: 143 }])];
        Arc::new(Backend {
            name: name.to_owned(),
            servers: servers.into(),
            health_interval: Duration::from_secs(60),
            temporary_replies: Arc::default(),
            balance: crate::policy::Balance::First,
            client_address: crate::policy::ClientAddress::Off,
            max_sessions: None,
            source: Vec::new(),
            tls: None,
        })
    }

    fn to(name: &str) -> Target {
        Target { backend: Some(backend(name)), login: None }
    }

    fn route(sni: Option<&str>, leads: Leads) -> Route {
        Route { protocols: Vec::new(), sni: sni.map(Pattern::new), certificate: None, leads, allow: None }
    }

    fn asks_for(sni: Option<&str>) -> Shown<'_> {
        Shown { sni, certificate: None }
    }

    fn leads_to(route: Option<&Route>) -> Option<&str> {
        match &route?.leads {
            Leads::All(target) | Leads::User(_, target) => {
                target.backend.as_deref().map(|backend| backend.name.as_str())
            }
            Leads::Map(_) | Leads::AuthHttp(_) => None,
        }
    }

    #[test]
    fn the_first_that_matches_decides() {
        let routes = Routes(vec![
            route(Some("shell.example.net"), Leads::All(to("shell"))),
            route(None, Leads::User(Pattern::new("*@old.example"), to("old"))),
            route(None, Leads::All(to("main"))),
        ]);
        let imap = |sni| Traveller { protocol: Protocol::Imap, login_protocol: Protocol::Imap, shown: asks_for(sni) };
        let user = |name: &str| UserName::new(name.as_bytes()).expect("a name");
        for (sni, name, expected) in [
            (Some("shell.example.net"), "joe@old.example", "shell"),
            (Some("mail.example.net"), "joe@old.example", "old"),
            (None, "joe@old.example", "old"),
            (None, "joe", "main"),
        ] {
            let found = routes.of_user(&imap(sni), &user(name)).map(|(route, _)| route);
            assert_eq!(leads_to(found), Some(expected), "{sni:?} {name}");
        }
        let needed = |handshake| routes.need_the_user(Protocol::Imap, handshake);
        assert!(!needed(Handshake::Over(asks_for(Some("shell.example.net")))), "the name decides alone");
        assert!(needed(Handshake::Over(asks_for(None))) && needed(Handshake::ToCome));
        assert_eq!(leads_to(routes.before_login(&imap(None))), Some("main"));
        assert_eq!(leads_to(routes.before_login(&imap(Some("shell.example.net")))), Some("shell"));
    }

    #[test]
    fn a_route_of_one_protocol_is_not_there_for_another() {
        let routes = Routes(vec![Route {
            protocols: vec![Protocol::Pop3.into()],
            ..route(None, Leads::All(Target { backend: None, login: LoginTemplate::parse("{local}").ok() }))
        }]);
        let who = |protocol| Traveller { protocol, login_protocol: protocol, shown: Shown::default() };
        let over = Handshake::Over(Shown::default());
        assert!(routes.need_the_user(Protocol::Pop3, over), "its login name is made of the user's");
        assert!(!routes.need_the_user(Protocol::Imap, Handshake::ToCome));
        assert!(routes.before_login(&who(Protocol::Imap)).is_none());
    }

    #[test]
    fn what_names_no_user_goes_by_its_name_alone() {
        let routes = Routes(vec![
            route(Some("shell.example.net"), Leads::User(Pattern::new("joe"), to("joes"))),
            Route { protocols: vec![Protocol::Imap.into()], ..route(None, Leads::All(to("main"))) },
            route(Some("shell.example.net"), Leads::All(to("shell"))),
            Route { protocols: vec![Spoken::Tcp], ..route(None, Leads::All(to("sieve"))) },
        ]);
        for (spoken, sni, expected) in [
            (Spoken::Tcp, Some("shell.example.net"), Some("shell")),
            (Spoken::Tcp, None, Some("sieve")),
            (Protocol::Imap.into(), None, Some("main")),
            (Protocol::Pop3.into(), None, None),
        ] {
            assert_eq!(
                leads_to(routes.of_connection(spoken, Shown { sni, certificate: None })),
                expected,
                "{spoken:?} {sni:?}"
            );
        }
    }

    #[test]
    fn a_route_behind_one_that_takes_all_is_found() {
        let all = |sni| route(sni, Leads::All(to("main")));
        let user = |sni| route(sni, Leads::User(Pattern::new("*"), to("old")));
        assert_eq!(Routes(vec![user(None), all(None), user(None)]).first_in_vain(), Some((2, 1)));
        assert_eq!(Routes(vec![all(Some("a")), user(None)]).first_in_vain(), None);
        assert_eq!(Routes(vec![all(Some("a")), user(Some("a"))]).first_in_vain(), Some((1, 0)));
        let pop = Route { protocols: vec![Protocol::Pop3.into()], ..all(None) };
        assert_eq!(Routes(vec![pop, all(None)]).first_in_vain(), None);
        let with = |pattern| Route { certificate: Some(Pattern::new(pattern)), ..all(None) };
        assert_eq!(Routes(vec![with("*"), all(None)]).first_in_vain(), None);
        assert_eq!(Routes(vec![all(None), with("*")]).first_in_vain(), Some((1, 0)));
        assert_eq!(Routes(vec![with("*@a.example"), with("*@a.example")]).first_in_vain(), Some((1, 0)));
    }

    #[test]
    fn a_route_for_certificates_is_for_nobody_without_one() {
        let with = |sni, pattern, to| Route { certificate: Some(Pattern::new(pattern)), ..route(sni, Leads::All(to)) };
        let routes = Routes(vec![
            with(Some("shell.example.net"), "*@staff.example", to("shell")),
            with(None, "*@staff.example", to("staff")),
            with(None, "*", to("known")),
            route(None, Leads::All(to("main"))),
        ]);
        let way = |sni, certificate| {
            let shown = Shown { sni, certificate };
            let who = Traveller { protocol: Protocol::Imap, login_protocol: Protocol::Imap, shown };
            leads_to(routes.before_login(&who)).map(str::to_owned)
        };
        for (sni, certificate, expected) in [
            (None, None, "main"),
            (Some("shell.example.net"), None, "main"),
            (None, Some("joe@staff.example"), "staff"),
            (None, Some("JOE@Staff.Example"), "staff"),
            (Some("shell.example.net"), Some("joe@staff.example"), "shell"),
            (None, Some("joe@staff.example.evil.example"), "known"),
            (None, Some(""), "known"),
        ] {
            assert_eq!(way(sni, certificate).as_deref(), Some(expected), "{sni:?} {certificate:?}");
        }
        assert!(routes.look_at_the_handshake());
    }
}
