//! How an event or a message looks as a line: an object for machines, or text that a person can follow on a terminal.

use super::event::{Event, safe};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::macros::format_description;
use tracing::Level;

use crate::policy::LogFormat;

/// How lines look, decided once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// One object a line.
    Json,
    /// For people, in colour or without.
    Text {
        /// ANSI colour.
        color: bool,
    },
}

impl Style {
    /// The style for standard output: `auto` is text on a terminal; colour stands only there, and never under `NO_COLOR`.
    pub fn for_stdout(format: LogFormat) -> Self {
        let terminal = std::io::stdout().is_terminal();
        match format {
            LogFormat::Json => Style::Json,
            LogFormat::Auto if !terminal => Style::Json,
            LogFormat::Text | LogFormat::Auto => {
                let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                Style::Text { color: terminal && !forbidden }
            }
        }
    }

    /// Adds the event as a line, its line end included.
    pub(super) fn event(self, out: &mut Vec<u8>, at: SystemTime, event: &Event) {
        match self {
            Style::Json => {
                begin_object(out, at, event.event.level());
                event.write(out);
                out.extend_from_slice(b"}\n");
            }
            Style::Text { color } => {
                let mut text = String::with_capacity(160);
                begin(&mut text, color, at, event.event.level(), event.event.as_str());
                columns(&mut text, event);
                end(out, &text);
            }
        }
    }

    /// Adds a message of the program about itself as a line.
    pub(super) fn message(
        self,
        out: &mut Vec<u8>,
        at: SystemTime,
        level: Level,
        message: &str,
        fields: &[(&'static str, String)],
    ) {
        match self {
            Style::Json => json(out, at, level, &Message { message, fields }),
            Style::Text { color } => {
                let mut text = String::with_capacity(120);
                begin(&mut text, color, at, level, &level.as_str().to_ascii_lowercase());
                text.push_str(&safe(message, MAX_MESSAGE));
                for (name, value) in fields {
                    let _ = write!(text, " {name}={}", safe(value, MAX_MESSAGE));
                }
                end(out, &text);
            }
        }
    }
}

/// The longest message or value of a message's field.
const MAX_MESSAGE: usize = 4096;

/// One object: `time` and `level`, then what is said, which is an object that is not empty.
fn json(out: &mut Vec<u8>, at: SystemTime, level: Level, body: &impl Serialize) {
    let begin = out.len();
    begin_object(out, at, level);
    let seam = out.len();
    // Writing plain data with string keys into memory cannot fail; an empty line would be the trace if it did.
    if serde_json::to_writer(&mut *out, body).is_err() {
        out.truncate(begin);
    } else if let Some(brace) = out.get_mut(seam) {
        // Its fields go on with ours.
        *brace = b',';
    }
    out.push(b'\n');
}

/// `time` and `level`.
fn begin_object(out: &mut Vec<u8>, at: SystemTime, level: Level) {
    out.extend_from_slice(b"{\"time\":\"");
    rfc3339(out, at);
    out.extend_from_slice(b"\",\"level\":\"");
    out.extend_from_slice(lower_case(level).as_bytes());
    out.push(b'"');
}

fn lower_case(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

struct Message<'a> {
    message: &'a str,
    fields: &'a [(&'static str, String)],
}

impl Serialize for Message<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("message", &safe(self.message, MAX_MESSAGE))?;
        for (at, (name, value)) in self.fields.iter().enumerate() {
            let taken = matches!(*name, "time" | "level" | "message" | "event")
                || self.fields[..at].iter().any(|(earlier, _)| earlier == name);
            if !taken {
                map.serialize_entry(name, &safe(value, MAX_MESSAGE))?;
            }
        }
        map.end()
    }
}

/// Adds `2027-03-01T09:00:00.123Z`.
fn rfc3339(out: &mut Vec<u8>, at: SystemTime) {
    thread_local! {
        /// The second that was written last, as a number and as text: the lines of a second share it.
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].");
            *text = OffsetDateTime::from(at).format(&format).unwrap_or_default();
            *second = since.as_secs();
        }
        out.extend_from_slice(text.as_bytes());
    });
    let millis = since.subsec_millis();
    out.extend([100, 10, 1].map(|unit| b"0123456789"[(millis / unit % 10) as usize]));
    out.push(b'Z');
}

/// Time and what it is about, in columns: `09:00:00.123 auth.failed        `.
fn begin(text: &mut String, color: bool, at: SystemTime, level: Level, name: &str) {
    let format = format_description!("[hour]:[minute]:[second].[subsecond digits:3]");
    let time = OffsetDateTime::from(at).format(&format).unwrap_or_default();
    let paint = match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG | Level::TRACE => "\x1b[2m",
    };
    let _ = if color {
        write!(text, "\x1b[2m{time}\x1b[0m {paint}{name:<19}\x1b[0m ")
    } else {
        write!(text, "{time} {name:<19} ")
    };
}

/// Who, where from and why, then what else there is to know.
fn columns(text: &mut String, event: &Event) {
    if event.listener.is_some() || event.client_ip.is_some() {
        let client = event.client_ip.map(|ip| ip.to_string()).unwrap_or_default();
        let _ = write!(text, "{:<11} {client:<15} ", safe(event.listener.as_deref().unwrap_or("-"), 255));
    }
    if let Some(user) = &event.user {
        let _ = write!(text, "{:<16} ", safe(user, 255));
    }
    let mut more = Vec::new();
    if let Some(reason) = &event.reason {
        more.push(safe(reason, 255).into_owned());
    }
    if let Some(proxy) = event.proxy_ip {
        more.push(format!("via {proxy}"));
    }
    if let Some(login) = &event.login {
        more.push(format!("as {}", safe(login, 255)));
    }
    if let Some(mechanism) = &event.mechanism {
        more.push(mechanism.to_string());
    }
    match &event.tls {
        Some(tls) => {
            more.push(format!("TLS {}", tls.version));
            if let Some(client) = &tls.client {
                more.push(format!("certificate of {}", safe(client.name.as_deref().unwrap_or("nobody named"), 255)));
            }
        }
        None if event.event.is_auth() => more.push("no TLS".to_owned()),
        None => {}
    }
    match (&event.backend, &event.server) {
        (Some(backend), Some(server)) => more.push(format!("{} at {}", safe(backend, 255), safe(server, 300))),
        (Some(one), None) | (None, Some(one)) => more.push(safe(one, 300).into_owned()),
        (None, None) => {}
    }
    if let Some(duration) = event.duration {
        let whole = std::time::Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        more.push(humantime::format_duration(whole).to_string());
    }
    if let (Some(inwards), Some(outwards)) = (event.bytes_in, event.bytes_out) {
        more.push(format!("{inwards} bytes in, {outwards} out"));
    }
    if let Some(messages) = event.messages {
        more.push(format!("{messages} messages"));
    }
    if let Some(from) = &event.from {
        // The null sender is `<>` already.
        more.push(match from.as_str() {
            "<>" => "from <>".to_owned(),
            from => format!("from <{}>", safe(from, 1024)),
        });
    }
    if let Some(recipients) = event.recipients {
        more.push(format!("to {recipients}"));
    }
    if let Some(size) = event.size {
        more.push(format!("{size} bytes"));
    }
    if let Some(count) = event.count {
        more.push(format!("{count} times"));
    }
    text.push_str(&more.join(", "));
    if let Some(reply) = &event.reply {
        let _ = write!(text, " \"{}\"", safe(reply, 1024));
    }
    if let Some(detail) = &event.detail {
        let _ = write!(text, " {}", safe(detail, 2048));
    }
}

fn end(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.trim_end().as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::event::{Kind, SessionId};
    use crate::proto::Mechanism;
    use proptest::prelude::*;
    use std::time::Duration;

    fn failed(user: &str) -> Event {
        let mut event = Event::new(Kind::AuthFailed);
        event.session = Some(SessionId(7));
        event.listener = Some("imaps".into());
        event.client_ip = Some([192, 0, 2, 7].into());
        event.user = Some(user.into());
        event.reason = Some("bad_credentials".into());
        event.mechanism = Some(Mechanism::PLAIN);
        event.duration = Some(Duration::from_micros(45_678));
        event
    }

    fn at() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_803_891_600_007)
    }

    fn written(style: Style, event: &Event) -> String {
        let mut line = Vec::new();
        style.event(&mut line, at(), event);
        String::from_utf8(line).expect("UTF-8")
    }

    fn message(style: Style, words: &str, fields: &[(&'static str, String)]) -> String {
        let mut line = Vec::new();
        style.message(&mut line, at(), Level::INFO, words, fields);
        String::from_utf8(line).expect("UTF-8")
    }

    #[test]
    fn the_time_is_that_of_each_line() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_803_891_600_007, "2027-03-01T09:00:00.007Z"),
            (1_803_891_600_999, "2027-03-01T09:00:00.999Z"),
            (1_803_891_601_020, "2027-03-01T09:00:01.020Z"),
            (1_803_891_600_007, "2027-03-01T09:00:00.007Z"),
        ] {
            let mut text = Vec::new();
            rfc3339(&mut text, UNIX_EPOCH + Duration::from_millis(millis));
            assert_eq!(String::from_utf8_lossy(&text), expected);
        }
    }

    #[test]
    fn an_object_begins_with_time_and_level() {
        let line = written(Style::Json, &failed("alice"));
        assert!(
            line.starts_with(r#"{"time":"2027-03-01T09:00:00.007Z","level":"warn","event":"auth.failed","session":"#),
            "{line}"
        );
        assert!(line.ends_with("\"duration_ms\":45}\n"), "{line}");
    }

    #[test]
    fn a_person_reads_who_where_from_and_why() {
        let line = written(Style::Text { color: false }, &failed("alice"));
        assert_eq!(
            line,
            "09:00:00.007 auth.failed         imaps       192.0.2.7       alice            bad_credentials, PLAIN, no TLS, 45ms\n"
        );
        let mut event = failed("alice");
        event.proxy_ip = Some([10, 0, 0, 9].into());
        let line = written(Style::Text { color: false }, &event);
        assert!(line.contains(" alice            bad_credentials, via 10.0.0.9, PLAIN,"), "{line}");
        let line = written(Style::Text { color: true }, &failed("alice"));
        assert!(line.contains("\x1b[33mauth.failed"), "{line}");
    }

    #[test]
    fn a_sender_stands_in_one_pair_of_brackets() {
        for (from, shown) in [("joe@example.net", "from <joe@example.net>"), ("<>", "from <>")] {
            let mut event = Event::new(Kind::MessageAccepted);
            event.from = Some(from.into());
            let line = written(Style::Text { color: false }, &event);
            assert!(line.trim_end().ends_with(&format!(" {shown}")), "{line}");
        }
    }

    #[test]
    fn a_message_keeps_its_fields_and_none_overwrites_time_or_level() {
        let fields = [("address", "[::]:993".to_owned()), ("level", "x".to_owned()), ("address", "y".to_owned())];
        let line = message(Style::Json, "listening", &fields);
        let expected =
            r#"{"time":"2027-03-01T09:00:00.007Z","level":"info","message":"listening","address":"[::]:993"}"#;
        assert_eq!(line, format!("{expected}\n"));
    }

    proptest! {
        #[test]
        fn one_event_is_one_line_whatever_a_name_holds(name in any::<String>()) {
            for style in [Style::Json, Style::Text { color: false }] {
                let line = written(style, &failed(&name));
                prop_assert_eq!(line.chars().filter(|c| c.is_control()).count(), 1);
                prop_assert!(line.ends_with('\n'));
                let message = message(style, &name, &[("x", name.clone())]);
                prop_assert_eq!(message.chars().filter(|c| c.is_control()).count(), 1);
            }
            let line = written(Style::Json, &failed(&name));
            let value: serde_json::Value = serde_json::from_str(&line).expect("valid JSON");
            prop_assert_eq!(&value["event"], "auth.failed");
            prop_assert!(value["user"].as_str().is_some_and(|user| user.len() <= 255));
        }
    }
}
