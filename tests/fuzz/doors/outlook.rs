//! Outlook's question about its settings: XML of a stranger's, and the one thing of a request to the help page that comes back.

use super::Input;
use gatepost::policy::portal::UserForm;
use gatepost::portal::{Setting, Settings, outlook};
use gatepost::proto::Service;
use std::sync::LazyLock;

/// The most that is read of a question.
const MOST: usize = 4 * 1024;
/// An address that an answer is known for.
const JOE: &str = "joe@example.net";

static SETTINGS: LazyLock<[Settings; 2]> = LazyLock::new(|| {
    let way = |service, port| Setting { service, implicit: true, host: "mail.example.net".to_owned(), port };
    let settings = Settings {
        all: vec![way(Service::Imap, 993), way(Service::Submission, 465)],
        host: "mail.example.net".to_owned(),
        domains: vec!["example.net".to_owned()],
        user: UserForm::Address,
    };
    [settings.clone(), Settings { user: UserForm::Local, ..settings }]
});

/// The door: the settings choose whether users are told by their whole address. Holds for every question: no panic; the answer is
/// the error, or the one that a good question gets but for the user's name; that one was in the question, is bounded, and can stand
/// in XML as it is.
pub fn door(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let settings = &SETTINGS[usize::from(input.settings[0] % 2)];
    let question = &input.text[..input.text.len().min(MOST)];
    let answer = outlook(settings, "A & B", question);
    let Some(name) = between(&answer, "<LoginName>", "</LoginName>") else {
        assert_eq!(answer, outlook(settings, "A & B", b""), "neither an answer nor the error");
        return;
    };
    let good = outlook(settings, "A & B", format!("<a><EMailAddress>{JOE}</EMailAddress></a>").as_bytes());
    let known = between(&good, "<LoginName>", "</LoginName>").expect("an answer");
    let with = |name: &str| format!("<LoginName>{name}</LoginName>");
    assert_eq!(answer, good.replace(&with(known), &with(name)), "more than the name is another");
    assert!(!name.is_empty() && name.len() <= 254, "{} octets of a name", name.len());
    let breaks = |c: char| c.is_control() || c.is_whitespace() || "<>\"'&\\;:,()[]".contains(c);
    assert!(!name.contains(breaks), "{name:?}");
    let asked = std::str::from_utf8(question).expect("an answer to what is no text");
    // A character may be written by its number, and a comment may stand inside a text.
    assert!(asked.contains(['&', '!']) || asked.contains(name), "{name:?} was not asked");
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    Some(rest.split_once(end)?.0)
}
