//! Whole configuration files: those that load, and those that are refused, each beside exactly what is said about it.
//!
//! `GATEPOST_WRITE_EXPECTED=1 cargo test --test config` writes the `.txt` files anew; look at the difference then.

mod schema;

use gatepost::config::{self, Environment, Given};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// From the root of the repository, where cargo runs tests, so that findings read the same everywhere.
const VALID: &str = "tests/config/valid";
const INVALID: &str = "tests/config/invalid";

fn environment() -> Environment {
    [("BACKEND", "10.0.0.5"), ("PORT", "993"), ("EMPTY", ""), ("SECRET", "hunter2")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into_iter()
        .collect()
}

fn files(directory: &str) -> Vec<PathBuf> {
    // A checkout may leave keys readable by all, which is a finding of its own.
    for entry in fs::read_dir("tests/config/files").expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "key") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own file");
        }
        // And git keeps no more of a mode than that a file is a program.
        for (name, mode) in [("hook", 0o755), ("hook-of-everybody", 0o757)] {
            if path.file_name().is_some_and(|file| file == name) {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
            }
        }
    }
    let entries = fs::read_dir(directory).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    files
}

/// What `check` prints about a file, and whether it is refused.
fn said(path: &Path) -> (String, bool) {
    let (findings, refused) = match config::load(path, &environment()) {
        Ok((_, findings)) => (findings, false),
        Err(findings) => (findings, true),
    };
    (findings.iter().map(|finding| format!("{finding}\n")).collect(), refused)
}

#[test]
fn each_valid_file_loads_with_nothing_to_say_but_its_warnings() {
    let files = files(VALID);
    assert!(files.len() >= 8, "only {} files seen", files.len());
    for path in files {
        let (text, refused) = said(&path);
        assert!(!refused, "{text}");
        assert_expected(&path, &text);
    }
}

#[test]
fn each_invalid_file_is_refused_in_exactly_these_words() {
    let files = files(INVALID);
    assert!(files.len() >= 40, "only {} files seen", files.len());
    for path in files {
        let (text, refused) = said(&path);
        assert!(refused, "{} is not refused: {text}", path.display());
        assert!(text.contains("error: "), "{} is refused without an error", path.display());
        assert!(!text.contains("hunter2"), "what a variable holds may be secret: {text}");
        for line in text.lines() {
            assert!(line.starts_with("tests/config/"), "a finding without its place: {line}");
        }
        assert_expected(&path, &text);
    }
}

/// The text beside a file; a file without one has nothing said about it.
fn assert_expected(path: &Path, text: &str) {
    let beside = path.with_extension("txt");
    if std::env::var_os("GATEPOST_WRITE_EXPECTED").is_some() {
        if text.is_empty() {
            let _ = fs::remove_file(&beside);
        } else {
            fs::write(&beside, text).expect("written");
        }
    }
    let expected = fs::read_to_string(&beside).unwrap_or_default();
    assert!(text == expected, "{}:\n--- expected\n{expected}--- said\n{text}", path.display());
}

#[test]
fn the_examples_load_without_a_warning() {
    let files = files("examples");
    assert!(files.len() >= 2, "only {} files seen", files.len());
    for path in files {
        let text = fs::read_to_string(&path).expect("readable");
        // What an example names in /etc is not on the machine that tests it.
        let here = std::path::absolute("tests/config/files").expect("a path");
        let text = text.replace("/etc/gatepost", here.to_str().expect("a path in UTF-8"));
        let text = text.replace("user: gatepost", "user: null");
        let copy = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
        fs::write(copy.path(), text).expect("written");
        let loaded = config::load(copy.path(), &Environment::default());
        let (policy, warnings) = loaded.unwrap_or_else(|findings| panic!("{}: {findings:#?}", path.display()));
        assert!(warnings.is_empty(), "{}: {warnings:#?}", path.display());
        assert!(!policy.listeners.is_empty() && !policy.backends.is_empty());
    }
}

#[test]
fn the_smallest_file_is_the_four_default_listeners_before_one_old_server() {
    let (policy, _) = config::load(Path::new("examples/smallest.yaml"), &Environment::default()).expect("good");
    let listeners: Vec<String> = policy
        .listeners
        .iter()
        .map(|l| format!("{} {} {} {}", l.name, l.addresses[0], l.service.as_str(), l.tls.as_str()))
        .collect();
    let expected = [
        "imaps [::]:993 imap implicit",
        "pop3s [::]:995 pop3 implicit",
        "submissions [::]:465 submission implicit",
        "submission [::]:587 submission starttls",
    ];
    assert_eq!(listeners, expected);
    let servers: Vec<String> = policy.backends["main"].servers.values().map(|list| list[0].to_string()).collect();
    assert_eq!(servers, ["10.0.0.5:143", "10.0.0.5:110", "10.0.0.5:25"]);
}

#[test]
fn the_command_line_stands_before_the_file() {
    let given = Given {
        hostname: Some("pop.example.net".to_owned()),
        admin_address: Some("off".to_owned()),
        cert: Some("tests/config/files/mail.pem".into()),
        key: Some("tests/config/files/mail.key".into()),
        backend: Some("10.9.9.9".to_owned()),
        ..Given::default()
    };
    files(VALID);
    let smallest = Path::new("examples/smallest.yaml");
    let (policy, findings) = config::load_with(smallest, &Environment::default(), &given).expect("good");
    assert_eq!((policy.hostname.as_str(), policy.admin.address), ("pop.example.net", None));
    assert_eq!(policy.tls.certificates.len(), 1);
    assert_eq!(policy.backends["main"].servers.values().next().expect("a server")[0].host, "10.0.0.5");
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("warning: --backend (GATEPOST_BACKEND): is not looked at"), "{said:?}");
    assert!(said[1].contains("GATEPOST_CERT") && said[1].contains("is not for pop.example.net"), "{said:?}");
}

#[test]
fn a_file_that_is_wrong_all_over_is_refused_within_bounds() {
    let head = "hostname: mail.example.net\nbackends: { main: { host: 10.0.0.5 } }\n";
    let kinds = [
        "ban: 1h\n".repeat(5_000),
        (0..5_000).map(|n| format!("k{n}: $x\n")).collect(),
        format!("auth: {{ without_tls: [{}] }}\n", "\"P L\", ".repeat(5_000)),
        format!("listeners: {{ a: {{ allow: [{}] }} }}\n", "x, ".repeat(5_000)),
    ];
    let file = tempfile::NamedTempFile::new().expect("a file");
    for text in kinds {
        fs::write(file.path(), format!("{head}{text}")).expect("written");
        let findings = config::load(file.path(), &Environment::default()).expect_err("refused");
        assert!((50..=200).contains(&findings.len()), "{} findings", findings.len());
    }
}

#[test]
fn a_file_that_is_not_there_or_too_large_is_said_in_one_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let huge = dir.path().join("huge.yaml");
    fs::write(&huge, "# ".repeat(600_000)).expect("written");
    for (path, words) in [
        (dir.path().join("none.yaml"), "No such file"),
        (dir.path().to_owned(), "not a regular file"),
        (huge, "larger than 1 MiB"),
    ] {
        let findings = config::load(&path, &Environment::default()).expect_err("refused");
        assert_eq!(findings.len(), 1);
        assert!(findings[0].to_string().contains(words), "{}", findings[0]);
    }
}
