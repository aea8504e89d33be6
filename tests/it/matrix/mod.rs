//! The fault matrix: protocol × point of the dialogue × fault, on the backend's side and on the client's. Each row
//! asserts what the client hears, what is recorded and when, that a well backend then serves, and that no descriptor,
//! task or session is left over.
//!
//! Time is virtual: a backend that hangs for ten minutes costs nothing. Each service's rows run in a process of their
//! own, so that its descriptors can be counted.

mod backend;
mod backend_expected;
mod bench;
mod client;
mod client_expected;
pub(crate) mod end;
mod playing;
mod points;
mod stalled;

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Tells a process that it is the one to run the rows.
const HERE: &str = "GATEPOST_MATRIX_HERE";
/// The time all rows of a table may take on a machine that is busy with other things too.
const LIMIT: Duration = Duration::from_secs(300);
/// The time a row may take.
const ROW: Duration = Duration::from_secs(60);

/// A row: what it is called, and how it is played.
pub(crate) type Row = (String, Box<dyn FnOnce()>);

/// Plays a table in a process of its own, and asserts that it had so many rows.
pub(crate) fn play(test: &str, rows: impl FnOnce() -> Vec<Row>, expected: usize) {
    if std::env::var_os(HERE).is_some() {
        return play_here(rows(), expected);
    }
    let program = std::env::current_exe().expect("this program");
    let mut said = tempfile::tempfile().expect("a file");
    let mut child = Command::new(program)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(HERE, "1")
        .stdout(said.try_clone().expect("the file"))
        .stderr(said.try_clone().expect("the file"))
        .spawn()
        .expect("this program once more");
    let began = Instant::now();
    let ended = loop {
        if let Some(status) = child.try_wait().expect("our child") {
            break status.success();
        }
        if began.elapsed() > LIMIT {
            child.kill().expect("our child");
            break false;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut text = String::new();
    said.seek(SeekFrom::Start(0)).expect("a file of ours");
    said.read_to_string(&mut text).expect("a file of ours");
    // A row that hangs is the one shown last.
    assert!(ended, "{text}");
    println!("{}", text.lines().find(|line| line.contains(" rows in ")).expect("it counted them"));
}

fn play_here(rows: Vec<Row>, expected: usize) {
    let only = std::env::var("ROW").ok();
    let (began, count) = (Instant::now(), rows.len());
    let at = Arc::new(AtomicUsize::new(0));
    let watched = Arc::clone(&at);
    std::thread::spawn(move || end_where_it_hangs(&watched));
    let mut failed = Vec::new();
    for (name, row) in rows {
        at.fetch_add(1, Ordering::Relaxed);
        if only.as_ref().is_some_and(|only| !name.contains(only)) {
            continue;
        }
        // The last line tells where it hangs, if it does.
        eprintln!("{name}");
        std::io::stderr().flush().expect("somewhere to write");
        if catch_unwind(AssertUnwindSafe(row)).is_err() {
            failed.push(name);
        }
    }
    println!("{count} rows in {:?}", began.elapsed());
    assert!(failed.is_empty(), "{} of {count} rows failed:\n{}", failed.len(), failed.join("\n"));
    assert_eq!(count, expected, "a row came or went");
}

/// With a clock that stands still, what waits in vain waits for ever.
fn end_where_it_hangs(at: &AtomicUsize) {
    let mut last = usize::MAX;
    while last != at.load(Ordering::Relaxed) {
        last = at.load(Ordering::Relaxed);
        std::thread::sleep(ROW);
    }
    eprintln!("the last row hangs");
    std::process::exit(1);
}
