//! Perdition's maps: which server has which user. Patterns and texts can be read; databases cannot.

use super::super::model::{BackendOptions, Imported, Service};
use super::super::notes::{self, Notes, Place};
use super::super::ports;
use super::super::reading::Reading;
use super::super::users::{self, User};
use super::pattern;
use std::path::{Path, PathBuf};

/// A map that may be read.
pub(super) enum Kind {
    /// `regular expression: server`, the first that fits (libperditiondb_posix_regex).
    Patterns(PathBuf),
    /// `user:server`, from which a database was made (makegdbm, makebdb).
    Users(PathBuf),
}

/// How the servers in the map are spoken to.
pub(super) struct Target {
    pub(super) service: Service,
    /// The port where a line has none.
    pub(super) port: u16,
    pub(super) options: BackendOptions,
    /// Whether a user's name before the server's is the name to log in with.
    pub(super) from_database: bool,
}

/// Reads a map. `place` is where the configuration names it.
pub(super) fn read(
    kind: &Kind,
    target: &Target,
    place: &Place,
    reading: &mut Reading,
    imported: &mut Imported,
    notes: &mut Notes,
) {
    let (Kind::Patterns(file) | Kind::Users(file)) = kind;
    let text = match reading.text(file) {
        Ok(text) => text,
        Err(error) => {
            let advice = format!(
                "its map was not read: {error}: run the import where the map's text is, or write its users into a file (user, backend, login name, a line each) and routes: [{{ file: FILE }}]"
            );
            notes.left(place, "map_library", advice);
            return;
        }
    };
    let users = match kind {
        Kind::Patterns(_) => patterns(&text, file, target, notes),
        Kind::Users(_) => plain(&text, file, target, notes),
    };
    let command = format!("sed -nE 's/^([^#:]+):[[:space:]]*([^:[:space:]]+).*/\\1 \\2/p' {}", file.display());
    users::take_up(&users, &command, place, imported, notes);
}

fn patterns(text: &str, file: &Path, target: &Target, notes: &mut Notes) -> Vec<User> {
    let mut users = Vec::new();
    for (place, line) in lines(text, file) {
        let Some((expression, value)) = pattern::split(line) else {
            notes.left(&place, line, "is no EXPRESSION: SERVER");
            continue;
        };
        let Some(globs) = pattern::globs(expression) else {
            notes.left(
                &place,
                line,
                "is more than a pattern with * can say: write a route for it, or users into a file",
            );
            continue;
        };
        for glob in globs {
            users.extend(user(glob, value, pattern::begins_with_local(expression), target, &place, line, notes));
        }
    }
    users
}

fn plain(text: &str, file: &Path, target: &Target, notes: &mut Notes) -> Vec<User> {
    let mut users = Vec::new();
    for (place, line) in lines(text, file) {
        match line.split_once(':') {
            Some((name, value)) if !name.trim().is_empty() => {
                users.extend(user(name.trim().to_owned(), value.trim(), false, target, &place, line, notes));
            }
            _ => notes.left(&place, line, "is no USER:SERVER"),
        }
    }
    users
}

fn lines<'a>(text: &'a str, file: &Path) -> impl Iterator<Item = (Place, &'a str)> {
    let shown = notes::shown(file);
    text.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim();
        (!line.is_empty() && !line.starts_with('#')).then(|| (Place::new(&shown, index + 1), line))
    })
}

/// A user with `[name@]server[:port]`.
fn user(
    name: String,
    value: &str,
    begins_with_local: bool,
    target: &Target,
    place: &Place,
    line: &str,
    notes: &mut Notes,
) -> Option<User> {
    let (login, server) = match value.rsplit_once('@') {
        Some((login, server)) => (Some(login), server),
        None => (None, value),
    };
    let Some(server) = ports::server(server, Some(target.port)) else {
        notes.left(place, line, "names no server: write a route for it");
        return None;
    };
    let login = match login.filter(|_| target.from_database) {
        Some("$1" | "\\1") if begins_with_local => Some("{local}".to_owned()),
        Some(login) if login.contains(['$', '\\']) => {
            notes.left(place, line, "makes a login name of pieces: write login: with {local} and {domain}");
            None
        }
        login => login.map(str::to_owned),
    };
    Some(User { name, servers: vec![(target.service, server)], login, options: target.options.clone() })
}
