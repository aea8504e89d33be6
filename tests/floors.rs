//! `src` is built in floors: what a module uses of ours stands below it. The table is the one in `lib.rs`.

use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each module, and all it may use.
const FLOORS: [(&str, &[&str]); 14] = [
    ("proto", &[]),
    ("policy", &["proto"]),
    ("tls", &[]),
    ("config", &["proto", "policy", "tls"]),
    ("store", &["policy"]),
    ("observe", &["proto", "policy"]),
    ("gate", &["proto", "policy", "tls", "store", "observe"]),
    ("route", &["proto", "policy"]),
    ("backend", &["proto", "policy", "tls", "observe"]),
    ("session", &["proto", "policy", "tls", "store", "observe", "gate", "route", "backend"]),
    ("server", &["proto", "policy", "tls", "config", "store", "observe", "gate", "route", "backend", "session"]),
    ("admin", &["server", "observe"]),
    ("portal", &["proto", "policy", "tls", "observe", "backend", "session"]),
    (
        "cli",
        &[
            "proto", "policy", "tls", "config", "store", "observe", "gate", "route", "backend", "session", "server",
            "admin", "portal",
        ],
    ),
];

#[test]
fn no_arrow_points_up() {
    let allowed: BTreeMap<_, BTreeSet<_>> =
        FLOORS.map(|(module, below)| (module, below.iter().copied().collect())).into();
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        for used in ours(&text) {
            let allowed = allowed.get(module.as_str()).unwrap_or_else(|| panic!("{module} is not in the table"));
            if used != module && !allowed.contains(used.as_str()) {
                wrong.push(format!("{}: {module} uses {used}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_is_the_one_of_the_crate() {
    let library = std::fs::read_to_string(source().join("lib.rs")).expect("a library");
    let declared: BTreeSet<_> = matches(r"(?m)^pub mod (\w+);", &library).collect();
    let shown: BTreeSet<_> = library
        .lines()
        .filter(|line| line.starts_with("//! | "))
        .flat_map(|line| matches(r"\[`(\w+)`\]", line).collect::<Vec<_>>())
        .collect();
    let ours: BTreeSet<_> = FLOORS.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(declared, ours);
    assert_eq!(shown, ours, "the table in lib.rs");
}

#[test]
fn the_protocols_do_no_input_or_output_and_know_no_clock() {
    let forbidden = Regex::new(
        r"\b(tokio|async|await|socket2|rustls|nix)\b|std::(net|fs|thread|process|env|time)\b|std::io::\{?\s*(stdin|stdout|stderr|Read|Write)\b",
    )
    .expect("a pattern");
    let mut seen = 0;
    for (module, path, text) in sources() {
        if module == "proto" {
            seen += 1;
            for (number, line) in text.lines().enumerate() {
                assert!(!forbidden.is_match(line), "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
    assert!(seen > 10, "saw {seen} files of proto");
}

#[test]
fn an_arrow_is_seen_however_it_is_written() {
    let text = "use crate::policy::Rate;\nuse crate::{gate, observe::{Event, Kind}, tls as t};\n\
                fn f() -> crate::store::Store { crate :: backend::x() }\n\
                // use crate::cli;\n/// [`crate::server`]\npub(in crate::session) use super::super::admin;";
    let found: BTreeSet<_> = ours(&code(text)).into_iter().collect();
    let expected = ["policy", "gate", "observe", "tls", "store", "backend", "session"];
    assert_eq!(found, expected.map(str::to_owned).into());
}

/// Every file with the module it belongs to and its text without comments.
fn sources() -> Vec<(String, PathBuf, String)> {
    let mut files = Vec::new();
    gather(&source(), &mut files);
    let root = source();
    let sources: Vec<_> = files
        .into_iter()
        .filter_map(|path| {
            let inside = path.strip_prefix(&root).expect("inside");
            let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
            let module = first.trim_end_matches(".rs").to_owned();
            // The two that stand outside the building.
            let is_outside = matches!(module.as_str(), "lib" | "main");
            let text = code(&std::fs::read_to_string(&path).expect("text"));
            (!is_outside).then_some((module, path, text))
        })
        .collect();
    assert!(sources.len() > 50, "saw {} files", sources.len());
    sources
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            gather(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The text without comments. A `//` inside a string also ends its line here, which hides nothing but strings.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules at the crate's root that are named: `crate::a::b`, `crate::{a::{b}, c as d}`.
fn ours(code: &str) -> Vec<String> {
    let mut found: Vec<_> = matches(r"\bcrate\s*::\s*(\w+)", code).collect();
    let [group, part] = [r"\bcrate\s*::\s*\{", r"\w+|[{},]"].map(|pattern| Regex::new(pattern).expect("a pattern"));
    for group in group.find_iter(code) {
        let (mut depth, mut word_before) = (0, None);
        for part in part.find_iter(&code[group.end() - 1..]) {
            match part.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                "," => {}
                word if depth == 1 && matches!(word_before, Some("{" | "," | "}")) => found.push(word.to_owned()),
                _ => {}
            }
            word_before = Some(part.as_str());
            if depth == 0 {
                break;
            }
        }
    }
    found
}

fn matches<'a>(pattern: &str, text: &'a str) -> impl Iterator<Item = String> + use<'a> {
    let pattern = Regex::new(pattern).expect("a pattern");
    let found: Vec<_> = pattern.captures_iter(text).map(|captures| captures[1].to_owned()).collect();
    found.into_iter()
}
