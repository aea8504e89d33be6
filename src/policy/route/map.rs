//! A map of users: who belongs to which backend, one a line, reread when the file changes.

use super::super::Backend;
use super::super::reread::Reread;
use super::pattern::LoginTemplate;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file taken, in octets: over five million users.
const LARGEST: u64 = 256 * 1024 * 1024;
/// The most complaints about one file.
const MOST_COMPLAINTS: usize = 20;

/// A map file and what stood in it when it was last good.
///
/// ```text
/// # user               backend  [login name]
/// joe@example.net      shell    joe
/// *@example.net        main     {local}
/// *                    main
/// ```
/// A user that stands there alone goes before its domain, the domain before `*`. Letters match in either case (ASCII).
#[derive(Debug)]
pub struct UserMap {
    file: Reread,
    backends: BTreeMap<String, Arc<Backend>>,
    current: ArcSwap<Table>,
}

/// Where a user belongs.
#[derive(Debug, Clone)]
pub struct Entry {
    /// To whom.
    pub backend: Arc<Backend>,
    /// By which name, where it is another.
    pub login: Option<LoginTemplate>,
    /// The line is about the user or the domain, and not about everybody.
    pub names_domain: bool,
}

/// Why a map is of no use.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// It is not there, not readable, not a file, not UTF-8 or too large.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Lines that cannot be understood; never empty.
    #[error("{}", .0.iter().map(|(line, what)| format!("line {line}: {what}")).collect::<Vec<_>>().join("; "))]
    Bad(Vec<(usize, String)>),
}

impl UserMap {
    /// Reads a map for the first time. `backends`: those that may stand in it.
    ///
    /// # Errors
    /// A map that is missing or has a line that cannot be understood is refused.
    pub fn open(path: PathBuf, backends: BTreeMap<String, Arc<Backend>>) -> Result<Self, MapError> {
        let map = Self { file: Reread::new(path, LARGEST), backends, current: ArcSwap::default() };
        map.reread()?;
        Ok(map)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// How many lines with a user it has.
    pub fn len(&self) -> usize {
        self.current.load().rows.len()
    }

    /// Whether nobody stands in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a user belongs; `None` for one that is not there. Takes some twenty comparisons among a million.
    pub fn find(&self, user: &[u8]) -> Option<Entry> {
        self.current.load().find(user)
    }

    /// Reads the file again if it has changed, and says whether something else stands in it now.
    ///
    /// # Errors
    /// What stood in it when it was last good stays; the next call tries again.
    pub fn reread(&self) -> Result<bool, MapError> {
        let read = self.file.if_changed(|text| Table::parse(text, &self.backends).map_err(MapError::Bad))?;
        let changed = read.filter(|table| self.current.load().text != table.text);
        let is_changed = changed.is_some();
        if let Some(table) = changed {
            self.current.store(Arc::new(table));
        }
        Ok(is_changed)
    }
}

/// The file's text, and where in it what stands: a million users take their text and sixteen octets each.
#[derive(Debug, Default)]
struct Table {
    text: Box<str>,
    /// By the user's name, lower-cased.
    rows: Vec<Row>,
    backends: Vec<Arc<Backend>>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    user: u32,
    login: u32,
    user_length: u16,
    login_length: u16,
    backend: u32,
}

impl Row {
    fn user(self, text: &str) -> &[u8] {
        &text.as_bytes()[part(self.user, self.user_length)]
    }
}

fn part(begin: u32, length: u16) -> Range<usize> {
    begin as usize..begin as usize + usize::from(length)
}

/// Names compare as if lower-cased, without being copied for it.
fn compare(one: &[u8], other: &[u8]) -> std::cmp::Ordering {
    one.iter().map(u8::to_ascii_lowercase).cmp(other.iter().map(u8::to_ascii_lowercase))
}

impl Table {
    fn parse(text: String, known: &BTreeMap<String, Arc<Backend>>) -> Result<Self, Vec<(usize, String)>> {
        let text = text.into_boxed_str();
        let backends: Vec<_> = known.values().map(Arc::clone).collect();
        let places: BTreeMap<&str, u32> = known.keys().map(String::as_str).zip(0..).collect();
        let (mut rows, mut complaints) = (Vec::new(), Vec::new());
        for (number, line) in text.lines().enumerate() {
            match row(&text, line, &places) {
                Ok(Some(row)) => rows.push(row),
                Ok(None) => {}
                Err(message) => complaints.push((number + 1, message)),
            }
            if complaints.len() == MOST_COMPLAINTS {
                break;
            }
        }
        // Stable: of two lines for one user the later is the one complained of.
        rows.sort_by(|one, other| compare(one.user(&text), other.user(&text)));
        for pair in rows.windows(2) {
            let [first, second] = pair else { continue };
            if complaints.len() < MOST_COMPLAINTS && compare(first.user(&text), second.user(&text)).is_eq() {
                let (first, second) = (line_of(&text, first.user), line_of(&text, second.user));
                complaints.push((second, format!("the user stands in line {first} already: leave one of them out")));
            }
        }
        if complaints.is_empty() { Ok(Self { text, rows, backends }) } else { Err(complaints) }
    }

    fn find(&self, user: &[u8]) -> Option<Entry> {
        let at = user.iter().rposition(|byte| *byte == b'@');
        let domain = at.map(|at| [b"*", &user[at..]].concat());
        let named = self.row(user).or_else(|| self.row(domain.as_deref()?));
        let row = named.or_else(|| self.row(b"*"))?;
        let login = self.text.get(part(row.login, row.login_length)).filter(|login| !login.is_empty());
        // Each was tried when the file was read.
        let login = login.and_then(|login| LoginTemplate::parse(login).ok());
        let backend = Arc::clone(self.backends.get(row.backend as usize)?);
        Some(Entry { backend, login, names_domain: named.is_some() })
    }

    fn row(&self, user: &[u8]) -> Option<Row> {
        let found = self.rows.binary_search_by(|row| compare(row.user(&self.text), user)).ok()?;
        self.rows.get(found).copied()
    }
}

/// What a line says; nothing for an empty one. `line` is a part of `text`.
fn row(text: &str, line: &str, places: &BTreeMap<&str, u32>) -> Result<Option<Row>, String> {
    let line = line.split_once('#').map_or(line, |(content, _)| content);
    let mut words = line.split_ascii_whitespace();
    let Some(user) = words.next() else { return Ok(None) };
    let backend = words.next().ok_or("names no backend: write `user backend [login-name]`")?;
    let login = words.next();
    if words.next().is_some() {
        return Err("has more than three words: write `user backend [login-name]`".to_owned());
    }
    let Some(place) = places.get(backend) else {
        let known = places.keys().copied().collect::<Vec<_>>().join(", ");
        let backend = crate::proto::line::printable(backend.as_bytes(), 64);
        return Err(format!("there is no backend `{backend}`: there are {known}"));
    };
    if user.contains('*') && user != "*" && (!user.starts_with("*@") || user[1..].contains('*')) {
        return Err(
            "`*` stands for a whole user or before the @ of a whole domain: write `*` or `*@example.net`".to_owned()
        );
    }
    if let Some(login) = login {
        LoginTemplate::parse(login).map_err(|bad| format!("the login name: {bad}"))?;
    }
    let length = |word: &str| u16::try_from(word.len()).map_err(|_| "a name is longer than 65,535 octets".to_owned());
    let begin = |word: &str| {
        // Both are parts of one text.
        u32::try_from(word.as_ptr().addr() - text.as_ptr().addr()).map_err(|_| "the file is too large".to_owned())
    };
    Ok(Some(Row {
        user: begin(user)?,
        user_length: length(user)?,
        login: login.map_or(Ok(0), begin)?,
        login_length: login.map_or(Ok(0), length)?,
        backend: *place,
    }))
}

fn line_of(text: &str, at: u32) -> usize {
    1 + memchr::memchr_iter(b'\n', &text.as_bytes()[..at as usize]).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::route::tests::backend;
    use crate::proto::UserName;

    fn map(text: &str) -> Result<UserMap, MapError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        let backends = ["main", "shell"].map(|name| (name.to_owned(), backend(name)));
        UserMap::open(file.path().to_owned(), backends.into())
    }

    fn user(name: &str) -> UserName {
        UserName::new(name.as_bytes()).expect("a name")
    }

    /// `backend login`, as the map has it.
    fn found(map: &UserMap, name: &str) -> String {
        map.find(name.as_bytes()).map_or("nobody".to_owned(), |entry| {
            let login = entry.login.map(|login| login.apply(&user(name)).expect("a name").display());
            format!("{} {}", entry.backend.name, login.unwrap_or_default())
        })
    }

    #[test]
    fn the_user_goes_before_the_domain_and_the_domain_before_all() {
        let map = map(
            "# who is where\nJoe@Example.NET shell joe # moved\n*@example.net main {local}\n\nann\tshell\n* main\n",
        )
        .expect("good");
        assert_eq!(map.len(), 4);
        for (name, expected) in [
            ("joe@example.net", "shell joe"),
            ("JOE@EXAMPLE.NET", "shell joe"),
            ("ann@example.net", "main ann"),
            ("ann", "shell "),
            ("bob", "main "),
            ("*@example.net", "main *"),
        ] {
            assert_eq!(found(&map, name), expected, "{name}");
        }
        assert_eq!(found(&self::map("ann main\n").expect("good"), "bob"), "nobody");
        assert!(self::map("").expect("an empty map is one").is_empty());
    }

    #[test]
    fn every_line_that_is_wrong_is_told_with_what_to_write() {
        let text = "joe\njoe hell\njoe main a b\n*x main\nann main {x}\nbob main\nBOB shell\n";
        let said = map(text).expect_err("bad").to_string();
        for part in [
            "line 1: names no backend: write `user backend [login-name]`",
            "line 2: there is no backend `hell`: there are main, shell",
            "line 3: has more than three words",
            "line 4: `*` stands for a whole user",
            "line 5: the login name: there is no {x}",
            "line 7: the user stands in line 6 already",
        ] {
            assert!(said.contains(part), "{part}\nin: {said}");
        }
        assert!(matches!(map(&"x\n".repeat(100)), Err(MapError::Bad(all)) if all.len() == MOST_COMPLAINTS));
    }

    #[test]
    fn a_change_is_seen_and_a_broken_map_keeps_the_last_good_one() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let write = |text: &str| std::fs::write(file.path(), text).expect("written");
        write("joe main\n");
        let backends = ["main", "shell"].map(|name| (name.to_owned(), backend(name)));
        let map = UserMap::open(file.path().to_owned(), backends.into()).expect("good");
        write("joe shell\n");
        assert!(map.reread().expect("good"));
        assert_eq!(found(&map, "joe"), "shell ");
        write("joe nowhere\n");
        assert!(map.reread().is_err());
        assert_eq!(found(&map, "joe"), "shell ", "the last good one stays");
    }
}
