//! Which of several servers a session goes to, and which after it.

use super::server::{DOWN, Server};
use crate::policy::Balance;
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Puts the servers into the order in which they are tried; those known to be down come last. `key` is whose session it is.
pub(super) fn arrange(servers: &mut [Arc<Server>], balance: Balance, key: &[u8]) {
    // The keys change while we sort; each is looked at once.
    match balance {
        Balance::First => {}
        Balance::RoundRobin => servers.sort_by_cached_key(|server| server.chosen()),
        Balance::LeastSessions => servers.sort_by_cached_key(|server| (server.sessions(), server.chosen())),
        Balance::User => servers.sort_by_cached_key(|server| Reverse(weight(key, server))),
    }
    servers.sort_by_cached_key(|server| server.state.load(Ordering::Relaxed) == DOWN);
}

/// Rendezvous hashing: each server draws a number for the user, and the highest has them. Without one of the servers its users
/// move, and nobody else; every gateway, and the same one after a restart, draws the same numbers. The host comes first, so that
/// a user's mail is read on one machine by IMAP and POP3 alike.
fn weight(key: &[u8], server: &Server) -> ([u8; 32], [u8; 32]) {
    let draw = |port: &[u8]| {
        let mut hash = blake3::Hasher::new();
        // No host name holds NUL, so no two of these read alike.
        for part in [server.name.host.as_bytes(), b"\0", port, b"\0", key] {
            hash.update(part);
        }
        *hash.finalize().as_bytes()
    };
    (draw(b""), draw(&server.name.port.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::super::server::UP;
    use super::*;
    use crate::observe::Observe;
    use crate::policy::{Backend, ServerName};
    use crate::proto::Protocol;
    use std::collections::BTreeMap;

    fn servers(protocol: Protocol, hosts: &[&str]) -> Vec<Arc<Server>> {
        let backend = Backend::new("main", BTreeMap::new());
        let observe = Observe::with_sink(Box::new(std::io::sink()));
        let name = |host: &&str| ServerName { host: (*host).to_owned(), port: 143 };
        hosts.iter().map(|host| Server::new(&backend, protocol.into(), &name(host), observe.metrics())).collect()
    }

    fn hosts(servers: &[Arc<Server>]) -> Vec<&str> {
        servers.iter().map(|server| server.name.host.as_str()).collect()
    }

    #[test]
    fn each_is_taken_in_its_turn_and_what_is_down_is_passed_over() {
        let mut all = servers(Protocol::Imap, &["a", "b", "c"]);
        let mut taken = String::new();
        for choice in 1..=9 {
            if choice == 5 {
                all.iter().find(|server| server.name.host == "b").expect("b").state.store(DOWN, Ordering::Relaxed);
            }
            arrange(&mut all, Balance::RoundRobin, b"");
            all[0].choose(choice);
            taken += &all[0].name.host;
        }
        assert_eq!(taken, "abcacacac", "and a server's turn is not its neighbour's second one");
        assert_eq!(hosts(&all)[2], "b");
    }

    #[test]
    fn the_one_with_the_fewest_sessions_is_taken_and_places_are_given_back() {
        let mut all = servers(Protocol::Imap, &["a", "b"]);
        let first = all[0].enter(None).expect("no bound");
        arrange(&mut all, Balance::LeastSessions, b"");
        assert_eq!(hosts(&all), ["b", "a"]);
        drop(first);
        let _other = all[0].enter(Some(1)).expect("room for one");
        assert!(all[0].enter(Some(1)).is_none(), "and no room for two");
        arrange(&mut all, Balance::LeastSessions, b"");
        assert_eq!(hosts(&all), ["a", "b"]);
    }

    #[test]
    fn a_user_stays_and_only_the_users_of_a_server_that_is_down_move() {
        let mut all = servers(Protocol::Imap, &["a", "b", "c", "d"]);
        let users: Vec<String> = (0..400).map(|number| format!("main\0user{number}")).collect();
        let home = |all: &mut Vec<Arc<Server>>, user: &String| {
            arrange(all, Balance::User, user.as_bytes());
            all[0].name.host.clone()
        };
        let homes: Vec<String> = users.iter().map(|user| home(&mut all, user)).collect();
        for server in ["a", "b", "c", "d"] {
            let count = homes.iter().filter(|home| *home == server).count();
            assert!((60..=140).contains(&count), "{count} of 400 on {server}");
        }
        all.reverse();
        let mut pop3 = servers(Protocol::Pop3, &["d", "c", "b", "a"]);
        all.iter().find(|server| server.name.host == "c").expect("c").state.store(DOWN, Ordering::Relaxed);
        for (user, before) in users.iter().zip(&homes) {
            let now = home(&mut all, user);
            assert!(if before == "c" { now != "c" } else { now == *before }, "{user}: {before} → {now}");
            assert_eq!(home(&mut pop3, user), *before, "the same machine, whatever the protocol");
        }
        all.iter().for_each(|server| server.state.store(UP, Ordering::Relaxed));
        let back: Vec<String> = users.iter().map(|user| home(&mut all, user)).collect();
        assert_eq!(back, homes);
    }
}
