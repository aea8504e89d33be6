use super::event::SessionId;
use super::*;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

/// A sink that shows what came.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<u8>>>);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics while writing").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shown {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no test panics while writing").clone()).expect("the log is UTF-8")
    }
}

/// A sink nobody takes anything from, until the channel's sender goes.
struct Stuck(Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(user: &str) -> Event {
    let mut event = Event::new(Kind::AuthFailed);
    event.session = Some(SessionId(1));
    event.user = Some(user.into());
    event
}

#[tokio::test]
async fn a_record_is_a_line_and_reaches_who_listens() {
    let shown = Shown::default();
    let observe = Observe::with_sink(Box::new(shown.clone()));
    let mut events = observe.subscribe();
    observe.record(&failed("alice"));
    assert_eq!(events.recv().await.expect("the event just recorded").user.as_deref(), Some("alice"));
    observe.flush();
    let line: serde_json::Value = serde_json::from_str(&shown.text()).expect("one object");
    assert_eq!((&line["event"], &line["user"]), (&"auth.failed".into(), &"alice".into()));
}

#[test]
fn a_log_nobody_reads_holds_up_no_session_and_what_is_lost_is_counted() {
    let (release, stuck) = channel();
    let observe = Observe::with_sink(Box::new(Stuck(stuck)));
    for _ in 0..40_000 {
        observe.record(&failed("alice"));
    }
    let text = observe.metrics().render();
    let dropped = text.lines().find_map(|line| line.strip_prefix("gatepost_log_dropped_total "));
    let dropped: u64 = dropped.and_then(|number| number.parse().ok()).expect("the counter is there");
    assert!((20_000..40_000).contains(&dropped), "{dropped}");
    drop(release);
}

#[test]
fn a_flood_of_refusals_is_summed_into_one_line() {
    let shown = Shown::default();
    let observe = Observe::with_sink(Box::new(shown.clone()));
    let mut event = Event::new(Kind::ConnectionRefused);
    event.listener = Some("imaps".into());
    event.reason = Some("banned".into());
    for _ in 0..1000 {
        observe.record(&event);
    }
    observe.flush();
    let text = shown.text();
    let (sums, lines): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.contains("\"count\":"));
    assert!(lines.len() < 500 && !sums.is_empty(), "{} {}", lines.len(), sums.len());
    let summed: u64 = sums
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["count"].as_u64().expect("a number"))
        .sum();
    assert_eq!(lines.len() as u64 + summed, 1000);
    assert!(
        observe.metrics().render().contains("gatepost_connections_total{listener=\"imaps\",outcome=\"banned\"} 1000")
    );
}

#[test]
fn the_auth_log_has_logins_alone_whatever_the_level_and_survives_rotation() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, rotated) = (folder.path().join("auth.log"), folder.path().join("auth.log.1"));
    let auth = AuthLog::open(&path).expect("a new file");
    let shown = Shown::default();
    let style = Style::Text { color: false };
    let observe = Observe::start(Box::new(shown.clone()), style, Level::ERROR, Some(auth)).expect("a thread");
    observe.record(&failed("alice"));
    observe.record(&Event::new(Kind::ConfigReloaded));
    observe.flush();
    std::fs::rename(&path, &rotated).expect("a rename");
    observe.reopen();
    observe.record(&failed("bob"));
    observe.flush();

    let (old, new) = (std::fs::read_to_string(&rotated).expect("old"), std::fs::read_to_string(&path).expect("new"));
    assert!(old.lines().count() == 1 && old.contains("\"user\":\"alice\""), "{old}");
    assert!(new.lines().count() == 1 && new.contains("\"user\":\"bob\""), "{new}");
    assert_eq!(shown.text(), "", "level error shows no login");
    let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o137, 0, "{mode:o}: nothing for others, no writing for the group");
}

#[test]
fn messages_go_through_the_same_log_with_their_spans_fields() {
    let shown = Shown::default();
    let observe = Observe::with_sink(Box::new(shown.clone()));
    let subscriber = tracing_subscriber::registry().with(observe.diagnostics());
    tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!("session", session = "00ff", listener = "imaps");
        let _inside = span.enter();
        tracing::info!(server = "10.0.0.5:143", "a line\nand no second one");
        tracing::debug!("too quiet");
        tracing::info!(target: "hyper::proto", "another crate's chatter");
        tracing::warn!(target: "hyper::proto", "another crate's warning");
        let quiet = || tracing::info!("below the level at first");
        observe.set_level(Level::WARN);
        quiet();
        observe.set_level(Level::DEBUG);
        quiet();
    });
    observe.flush();
    let text = shown.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines[0].ends_with(
            r#""level":"info","message":"a line\\u{a}and no second one","session":"00ff","listener":"imaps","server":"10.0.0.5:143"}"#
        ),
        "{text}"
    );
    assert!(lines[1].contains("another crate's warning"));
}
