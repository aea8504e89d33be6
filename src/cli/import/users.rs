//! Users whose server stands in a list of the old program's.

use super::model::{Backend, BackendOptions, Imported, On, Route, Server, Service};
use super::notes::{Notes, Place};

/// More users than these want a file of their own.
const MOST_ROUTES: usize = 100;
/// The most backends that are made of one list.
const MOST_SERVERS: usize = 500;
/// Where the file is suggested to be.
const USERS_MAP: &str = "/etc/gatepost/users.map";

/// A user (or a pattern of users) and where they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) servers: Vec<(Service, Server)>,
    /// The name there, where it differs.
    pub(super) login: Option<String>,
    pub(super) options: BackendOptions,
}

/// Makes routes of users. Many of them become a map file, which whoever reads this makes by `command`.
pub(super) fn take_up(users: &[User], command: &str, place: &Place, imported: &mut Imported, notes: &mut Notes) {
    let in_file = users.len() > MOST_ROUTES;
    for user in users {
        if imported.backends.len() >= MOST_SERVERS {
            notes.left(place, &user.name, "leads to one server more than 500: write the others under backends");
            break;
        }
        let mut id = None;
        for (service, server) in &user.servers {
            let backend = Backend::of(*service, vec![server.clone()], user.options.clone());
            id = Some(imported.backend(backend));
        }
        if !in_file {
            let (on, login) = (On::User(user.name.clone()), user.login.clone());
            imported.route(Route { on, backend: id, login });
        }
    }
    if in_file {
        imported.route(Route { on: On::File(USERS_MAP.to_owned()), backend: None, login: None });
        let count = users.len();
        notes.left(
            place,
            "users",
            format_args!("its {count} users belong into {USERS_MAP}, a line each: user, backend (the server's name here), login name if it differs: {command}"),
        );
    }
}
