//! Old configurations as they stand on old hosts, each beside exactly what `gatepost import` makes of it: the YAML and the list of
//! what did not carry over.
//!
//! `GATEPOST_WRITE_EXPECTED=1 cargo test --test import` writes `expected.yaml` and `expected.txt` anew; look at the difference
//! then.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The kinds, and what their main file is called.
const KINDS: [(&str, &str); 5] = [
    ("nginx", "nginx.conf"),
    ("perdition", "perdition.conf"),
    ("stunnel", "stunnel.conf"),
    ("dovecot", "dovecot.conf"),
    ("hosts.allow", "hosts.allow"),
];

/// What `check` may say about a file that comes out: the feature is another version's, or the old host's files are not here.
const FORGIVEN: [&str; 3] = ["not in this version", "cannot be read", "No such file"];

fn gatepost(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatepost"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GATEPOST_")) {
        command.env_remove(name);
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    // A program that does not read its input ends before it is all written.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("ended")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Where this checkout lies is nothing to compare.
fn anywhere(text: &str) -> String {
    text.replace(env!("CARGO_MANIFEST_DIR"), "/REPOSITORY")
}

fn cases(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new("tests/import").join(kind);
    let entries = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut cases: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

#[test]
fn each_old_file_becomes_exactly_this() {
    for (kind, main) in KINDS {
        let cases = cases(kind);
        assert!(cases.len() >= 2, "{kind}: only {} cases", cases.len());
        for case in cases {
            let file = case.join(main);
            let output = gatepost(&["import", kind, file.to_str().expect("UTF-8")], "");
            assert_eq!(output.status.code(), Some(0), "{}: {}", file.display(), text(&output.stderr));
            assert_expected(&case.join("expected.yaml"), &anywhere(&text(&output.stdout)));
            assert_expected(&case.join("expected.txt"), &anywhere(&text(&output.stderr)));
        }
    }
}

fn assert_expected(beside: &Path, text: &str) {
    if std::env::var_os("GATEPOST_WRITE_EXPECTED").is_some() {
        fs::write(beside, text).expect("written");
    }
    let expected = fs::read_to_string(beside).unwrap_or_default();
    assert!(text == expected, "{}:\n--- expected\n{expected}--- said\n{text}", beside.display());
}

#[test]
fn what_comes_out_is_good_but_for_what_is_not_here() {
    let mut clean = 0;
    for (kind, main) in KINDS {
        for case in cases(kind) {
            let file = case.join(main);
            let output = gatepost(&["import", kind, file.to_str().expect("UTF-8")], "");
            let yaml = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
            fs::write(yaml.path(), &output.stdout).expect("written");
            let checked = gatepost(&["check", "-c", yaml.path().to_str().expect("UTF-8")], "");
            let said = text(&checked.stderr);
            let mut errors = said.lines().filter(|line| line.contains(": error: "));
            let unforgiven = errors.find(|line| !FORGIVEN.iter().any(|words| line.contains(words)));
            assert_eq!(unforgiven, None, "{}\n{}", file.display(), text(&output.stdout));
            match checked.status.code() {
                Some(0) => clean += 1,
                Some(78) => assert!(said.contains("finding"), "{said}"),
                code => panic!("{}: ended with {code:?}: {said}", file.display()),
            }
        }
    }
    assert!(clean >= 3, "only {clean} configurations are good as they are");
}

#[test]
fn the_list_stands_on_stderr_and_at_the_top_of_the_configuration() {
    for (kind, main) in KINDS {
        for case in cases(kind) {
            let file = case.join(main);
            let output = gatepost(&["import", kind, file.to_str().expect("UTF-8")], "");
            let (yaml, list) = (text(&output.stdout), text(&output.stderr));
            for line in list.lines() {
                assert!(yaml.contains(&format!("\n# - {line}\n")), "{}: the YAML lacks {line}", file.display());
            }
            serde_yaml::from_str::<serde_yaml::Mapping>(&yaml)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }
}

#[test]
fn no_secret_of_an_old_file_comes_out() {
    let mut seen = 0;
    for (kind, main) in KINDS {
        for case in cases(kind) {
            let file = case.join(main);
            let output = gatepost(&["import", kind, file.to_str().expect("UTF-8")], "");
            let all = text(&output.stdout) + &text(&output.stderr);
            assert!(!all.contains("hunter2"), "{}: {all}", file.display());
            seen += usize::from(fs::read_to_string(&file).expect("readable").contains("hunter2"));
        }
    }
    assert!(seen >= 3, "only {seen} files have a secret in them");
}

#[test]
fn a_list_comes_from_standard_input_too() {
    let output =
        gatepost(&["import", "hosts.allow", "-"], "ipop3d: 192.0.2. 198.51.100.0/255.255.255.0 EXCEPT 198.51.100.9\n");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let yaml: serde_yaml::Value = serde_yaml::from_slice(&output.stdout).expect("YAML");
    let allow = yaml["listeners"]["pop3s"]["allow"].as_sequence().expect("a list");
    assert!(allow.contains(&"192.0.2.0/24".into()) && !allow.contains(&"198.51.100.0/24".into()), "{allow:?}");
    assert!(yaml["listeners"]["imaps"].is_null(), "IMAP was named nowhere");
    assert!(text(&output.stderr).contains("standard input:1"), "{}", text(&output.stderr));
}

#[test]
fn what_cannot_be_read_says_so_and_nothing_comes_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    for (kind, file, words) in [
        ("nginx", "/absent/nginx.conf".to_owned(), "/absent/nginx.conf cannot be read: No such file"),
        ("nginx", dir.path().to_str().expect("UTF-8").to_owned(), "not a regular file"),
        ("nginx", write("web.conf", "http { server { listen 80; } }"), "no server for mail"),
        ("nginx", write("open.conf", "mail {\n server { listen 993;\n"), "open.conf:3: the file ends inside a block"),
        ("nginx", write("huge.conf", &"# ".repeat(600_000)), "larger than 1 MiB"),
        (
            "stunnel",
            write("client.ini", "[pop3]\nclient = yes\naccept = 1110\nconnect = pop.isp.example:995\n"),
            "no service in it",
        ),
        ("stunnel", write("bad.ini", "[pop3s]\naccept 995\n"), "bad.ini:2: `accept 995` is neither"),
        ("dovecot", write("bad.dovecot", "service x {\n"), "inside the block `service`"),
        ("dovecot", write("sieve.dovecot", "protocols = sieve\n"), "no IMAP, POP3 or submission"),
        ("perdition", write("sieve.perdition", "protocol MANAGESIEVE\n"), "neither POP3 nor IMAP4"),
        ("hosts.allow", write("sshd.allow", "sshd: ALL\n"), "no line in it lets anybody in"),
    ] {
        let output = gatepost(&["import", kind, &file], "");
        assert_eq!(output.status.code(), Some(1), "{kind} {file}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(words), "{kind} {file}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{kind} {file}: {}", text(&output.stdout));
    }
    assert_eq!(gatepost(&["import", "sendmail", "x"], "").status.code(), Some(2));
}

#[test]
fn files_that_include_themselves_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("loop.conf");
    for (kind, again, rest) in [
        ("nginx", "include loop.conf;\n", "mail { server { listen 993 ssl; } }\n"),
        ("dovecot", "!include loop.conf\n", "protocols = imap\n"),
        ("stunnel", "include = loop.conf\n", "[imaps]\naccept = 993\nconnect = 143\n"),
    ] {
        fs::write(&path, format!("{again}{again}{rest}")).expect("written");
        let output = gatepost(&["import", kind, path.to_str().expect("UTF-8")], "");
        assert!(matches!(output.status.code(), Some(0 | 1)), "{kind}: {output:?}");
        assert!(
            text(&output.stderr).contains("too deep") || text(&output.stderr).contains("more than 1,000 files"),
            "{kind}: {}",
            text(&output.stderr)
        );
    }
}
