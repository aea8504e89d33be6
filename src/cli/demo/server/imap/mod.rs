//! IMAP4rev1 (RFC 3501) with what today's mail programs like to have: IDLE, UIDPLUS, MOVE, SPECIAL-USE and some more.
//!
//! [`command`] takes a command off the wire, [`cursor`] reads it, and the rest carries it out: [`folders`] those
//! about folders by name, [`messages`] and [`fetch`] those about messages of the selected folder, seen through a
//! [`view`].

mod command;
mod cursor;
mod fetch;
mod folders;
mod messages;
mod mime;
mod search;
mod section;
mod structure;
mod view;

use super::login::{self, MECHANISMS, Verdict};
use super::store::{Space, Store};
use super::wire::Wire;
use crate::proto::line::Line;
use bytes::Bytes;
use command::{Received, receive, tag_of};
use cursor::{BadSyntax, Cursor};
use fetch::Attribute;
use std::io;
use std::sync::Arc;
use view::{NoSuchNumber, View};

/// Commands without a sense in a row before we hang up: this is not an IMAP client.
const NONSENSE: u32 = 20;

/// What a command comes to, behind `OK`; or why not.
type Outcome = Result<String, Failure>;

/// How a command fails.
enum Failure {
    /// `NO`: understood, and not to be had.
    No(&'static str),
    /// `BAD`: not understood.
    Bad(&'static str),
    /// The client is gone.
    Gone(io::Error),
}

impl From<BadSyntax> for Failure {
    fn from(BadSyntax(expected): BadSyntax) -> Self {
        Self::Bad(expected)
    }
}

impl From<NoSuchNumber> for Failure {
    fn from(NoSuchNumber: NoSuchNumber) -> Self {
        Self::Bad("there is no message of that number")
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(wire: Wire, store: Arc<Store>) -> io::Result<()> {
    let mut session = Session { wire, store, logged_in: false, view: None };
    let greeting = format!("* OK [CAPABILITY {}] mail.example.net plaintext IMAP ready\r\n", capabilities());
    session.wire.send(greeting).await?;
    let mut nonsense = 0;
    while nonsense < NONSENSE {
        let (command, space) = match receive(&mut session.wire, &session.store, session.logged_in).await? {
            Received::Command(command, space) => (command, space),
            Received::Refused { tag, answer } => {
                session.wire.send(format!("{tag} {answer}\r\n")).await?;
                nonsense += 1;
                continue;
            }
            Received::Gone => return session.wire.flush().await,
        };
        let tag = tag_of(&command);
        let (word, outcome) = session.carry_out(&tag, command, space).await;
        nonsense = if matches!(outcome, Err(Failure::Bad(_))) { nonsense + 1 } else { 0 };
        let answer = match outcome {
            Ok(text) => format!("{tag} OK {text}\r\n"),
            Err(Failure::No(text)) => format!("{tag} NO {text}\r\n"),
            Err(Failure::Bad(text)) => format!("{tag} BAD {text}\r\n"),
            Err(Failure::Gone(error)) => return Err(error),
        };
        session.wire.send(answer).await?;
        if word == "LOGOUT" {
            return session.wire.flush().await;
        }
    }
    session.wire.send("* BYE this is IMAP\r\n").await?;
    session.wire.flush().await
}

fn capabilities() -> String {
    let mechanisms: Vec<_> = MECHANISMS.iter().map(|mechanism| format!("AUTH={mechanism}")).collect();
    format!(
        "IMAP4rev1 LITERAL+ SASL-IR ID IDLE NAMESPACE UIDPLUS UNSELECT MOVE CHILDREN SPECIAL-USE {}",
        mechanisms.join(" ")
    )
}

struct Session {
    wire: Wire,
    store: Arc<Store>,
    logged_in: bool,
    view: Option<View>,
}

impl Session {
    /// Carries a command out and says what comes before its answer. Gives its word back, in capitals.
    async fn carry_out(&mut self, tag: &str, command: Bytes, space: Option<Space>) -> (String, Outcome) {
        let mut cursor = Cursor::new(command);
        let word = match start(&mut cursor, tag) {
            Ok(word) => word,
            Err(bad) => return (String::new(), Err(bad.into())),
        };
        let outcome = match word.as_str() {
            "CAPABILITY" => self.say(format!("* CAPABILITY {}\r\n", capabilities())).await,
            "NOOP" | "CHECK" => Ok("done".into()),
            "ID" => self.say("* ID (\"name\" \"gatepost demo\")\r\n".into()).await,
            "LOGOUT" => self.say("* BYE goodbye\r\n".into()).await,
            "LOGIN" | "AUTHENTICATE" if self.logged_in => Err(Failure::Bad("you are logged in")),
            "LOGIN" => self.login(&mut cursor),
            "AUTHENTICATE" => self.authenticate(&mut cursor).await,
            _ if !self.logged_in => Err(Failure::Bad("not known, or not before a login")),
            _ => self.with_folders(&word, &mut cursor, space).await,
        };
        match self.told(&word, outcome).await {
            Ok(outcome) => (word, outcome),
            Err(error) => (word, Err(Failure::Gone(error))),
        }
    }

    /// Tells what has changed in the selected folder, before the command's own answer.
    async fn told(&mut self, word: &str, outcome: Outcome) -> io::Result<Outcome> {
        if let Some(view) = &mut self.view {
            let numbers_hold = matches!(word, "FETCH" | "STORE" | "SEARCH");
            let mut out = String::new();
            view.sync(&self.store, !numbers_hold, &mut out);
            self.wire.send(out).await?;
        }
        Ok(outcome)
    }

    async fn say(&mut self, text: String) -> Outcome {
        self.wire.send(text).await?;
        Ok("done".into())
    }

    fn login(&mut self, cursor: &mut Cursor) -> Outcome {
        cursor.space()?;
        let user = cursor.astring()?;
        cursor.space()?;
        let password = cursor.astring()?;
        cursor.end()?;
        self.logged_in = login::accepts(&user, &password);
        if self.logged_in { welcome() } else { Err(WRONG) }
    }

    async fn authenticate(&mut self, cursor: &mut Cursor) -> Outcome {
        cursor.space()?;
        let mechanism = cursor.word()?;
        let initial = if cursor.at_end() {
            None
        } else {
            cursor.space()?;
            Some(cursor.run(|b| b != b' '))
        };
        cursor.end()?;
        match login::converse(&mut self.wire, &mechanism, initial.as_deref(), "+ ").await? {
            Verdict::Accepted => {
                self.logged_in = true;
                welcome()
            }
            Verdict::Wrong => Err(WRONG),
            Verdict::Unknown => Err(Failure::No("there is no such mechanism")),
            Verdict::Cancelled => Err(Failure::Bad("cancelled")),
            Verdict::Malformed => Err(Failure::Bad("cannot decode that")),
        }
    }

    /// What may be said after a login, with a folder selected or without.
    async fn with_folders(&mut self, word: &str, cursor: &mut Cursor, space: Option<Space>) -> Outcome {
        let mut out = String::new();
        let store = &self.store;
        let outcome = match word {
            "LIST" | "LSUB" => folders::list(store, word, cursor, &mut out),
            "SUBSCRIBE" => folders::subscribe(store, cursor, true),
            "UNSUBSCRIBE" => folders::subscribe(store, cursor, false),
            "STATUS" => folders::status(store, cursor, &mut out),
            "CREATE" => folders::create(store, cursor),
            "DELETE" => folders::delete(store, cursor),
            "RENAME" => folders::rename(store, cursor),
            "APPEND" => folders::append(store, cursor, space),
            "NAMESPACE" => {
                out.push_str("* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
                Ok("done".into())
            }
            "SELECT" | "EXAMINE" => self.select(cursor, word == "EXAMINE", &mut out),
            "IDLE" => return self.idle().await,
            _ => return self.with_messages(word, cursor).await,
        };
        self.wire.send(out).await?;
        outcome
    }

    fn select(&mut self, cursor: &mut Cursor, read_only: bool, out: &mut String) -> Outcome {
        // A SELECT that fails leaves no folder selected (RFC 3501 section 6.3.1).
        self.view = None;
        cursor.space()?;
        let name = cursor.mailbox()?;
        cursor.end()?;
        let (view, said) =
            View::open(&self.store, &name, read_only).ok_or(Failure::No("[NONEXISTENT] there is no such folder"))?;
        self.view = Some(view);
        out.push_str(&said);
        Ok(if read_only { "[READ-ONLY] opened".into() } else { "[READ-WRITE] opened".into() })
    }

    /// What may be said with a folder selected.
    async fn with_messages(&mut self, word: &str, cursor: &mut Cursor) -> Outcome {
        let Some(view) = &mut self.view else { return Err(Failure::Bad("not known, or first SELECT")) };
        let by_uid = word == "UID";
        let word = if by_uid {
            cursor.space()?;
            cursor.word()?
        } else {
            word.to_owned()
        };
        let mut out = String::new();
        let store = &self.store;
        let outcome = match (word.as_str(), by_uid) {
            ("FETCH", _) => return fetch(&mut self.wire, store, view, cursor, by_uid).await,
            ("STORE", _) => messages::store_flags(store, view, cursor, by_uid, &mut out),
            ("SEARCH", _) => messages::search(store, view, cursor, by_uid, &mut out),
            ("COPY", _) => messages::copy(store, view, cursor, by_uid, false, &mut out),
            ("MOVE", _) => messages::copy(store, view, cursor, by_uid, true, &mut out),
            ("EXPUNGE", true) => messages::expunge(store, view, Some(cursor)),
            ("EXPUNGE", false) => messages::expunge(store, view, None),
            ("CLOSE", false) => {
                if !view.read_only {
                    messages::expunge(store, view, None)?;
                }
                self.view = None;
                Ok("closed".into())
            }
            ("UNSELECT", false) => {
                self.view = None;
                Ok("closed".into())
            }
            _ => Err(Failure::Bad("not known")),
        };
        self.wire.send(out).await?;
        outcome
    }

    /// IDLE (RFC 2177): says each change as it happens, until the client says DONE.
    async fn idle(&mut self) -> Outcome {
        let mut changes = self.store.changes();
        self.wire.send("+ waiting\r\n").await?;
        loop {
            if let Some(view) = &mut self.view {
                let mut out = String::new();
                view.sync(&self.store, true, &mut out);
                self.wire.send(out).await?;
            }
            self.wire.flush().await?;
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| Failure::No("the demo ends"))?,
                line = self.wire.line(64) => {
                    return match line? {
                        Some(Line::Whole { bytes, .. }) if bytes.eq_ignore_ascii_case(b"DONE") => Ok("waited".into()),
                        Some(_) => Err(Failure::Bad("that was not DONE")),
                        None => Err(Failure::Gone(io::ErrorKind::UnexpectedEof.into())),
                    };
                }
            }
        }
    }
}

const WRONG: Failure = Failure::No("[AUTHENTICATIONFAILED] wrong name or password");

fn welcome() -> Outcome {
    Ok(format!("[CAPABILITY {}] welcome", capabilities()))
}

/// Passes the tag and gives the command's word.
fn start(cursor: &mut Cursor, tag: &str) -> Result<String, BadSyntax> {
    if tag == "*" {
        return Err(BadSyntax("a tag is missing"));
    }
    cursor.run(|b| b != b' ');
    cursor.space()?;
    cursor.word()
}

async fn fetch(wire: &mut Wire, store: &Store, view: &mut View, cursor: &mut Cursor, by_uid: bool) -> Outcome {
    cursor.space()?;
    let set = cursor.sequence_set()?;
    cursor.space()?;
    let mut attributes = Attribute::read_all(cursor)?;
    cursor.end()?;
    if by_uid && !attributes.contains(&Attribute::Uid) {
        attributes.insert(0, Attribute::Uid);
    }
    let places = view.resolve(&set, by_uid)?;
    let all_there = fetch::fetch(wire, store, view, &places, &attributes).await?;
    // A UID that is gone is no error (RFC 3501 section 6.4.8); a number the client still holds is (RFC 5530).
    if all_there || by_uid { Ok("fetched".into()) } else { Err(Failure::No("[EXPUNGEISSUED] some of these are gone")) }
}
