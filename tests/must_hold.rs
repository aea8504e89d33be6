//! `must-hold.md` names a proof for each thing that must hold, `mission.md` for each thing we set out for; this sees that none is
//! missing, and that each is there.

use std::collections::BTreeMap;
use std::path::Path;

/// How many things must hold.
const LINES: u32 = 48;

#[test]
fn everything_that_must_hold_has_a_proof_and_every_proof_is_there() {
    let table = read("tests/must-hold.md");
    let rows = rows(&table);
    let numbers: Vec<u32> = rows.iter().filter_map(|(name, _)| name.parse().ok()).collect();
    assert_eq!(numbers, (1..=LINES).collect::<Vec<_>>(), "each line once, in order");
    let mut wrong = Vec::new();
    for (name, proofs) in rows {
        if proofs.is_empty() {
            wrong.push(format!("{name} has no proof"));
        }
        wrong.extend(proofs.iter().filter_map(|proof| Some(format!("{name}: {}", objection(proof)?))));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The rows of the mission, and how many each part has.
const ROWS: [(char, u32); 5] = [('A', 10), ('B', 8), ('C', 6), ('D', 5), ('E', 5)];

#[test]
fn every_row_of_the_mission_has_a_proof_or_says_that_it_is_not_built() {
    let table = read("tests/mission.md");
    let wanted: Vec<String> =
        ROWS.iter().flat_map(|(part, count)| (1..=*count).map(move |n| format!("{part}{n}"))).collect();
    let rows = rows(&table);
    let names: Vec<&str> = rows.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, wanted, "each row once, in order");
    let mut wrong = Vec::new();
    for (name, proofs) in rows {
        let line = table.lines().find(|line| line.starts_with(&format!("| {name} |"))).expect("a row");
        if proofs.is_empty() && !line.ends_with("| not built yet |") {
            wrong.push(format!("{name} has no proof"));
        }
        wrong.extend(proofs.iter().filter_map(|proof| Some(format!("{name}: {}", objection(proof)?))));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_no_proof_is_seen() {
    for (proof, objection_begins) in [
        ("tests/must_hold.rs::what_is_no_proof_is_seen", None),
        ("tests/transcripts/imap/login_starttls.txt", None),
        ("tests/transcripts/imap/no_such_session.txt", Some("no session")),
        ("tests/sandbox/main.rs", None),
        ("tests/no_such_program/main.rs", Some("no program")),
        ("tests/must_hold.rs::no_such_test", Some("no test")),
        ("tests/must_hold.rs::objection", Some("no test")),
        ("tests/no_such_file.rs::a_test", Some("no file")),
        ("what_is_no_proof_is_seen", Some("neither")),
    ] {
        let found = objection(proof);
        match objection_begins {
            None => assert_eq!(found, None),
            Some(begin) => assert!(found.as_deref().is_some_and(|text| text.starts_with(begin)), "{found:?}"),
        }
    }
    let table = "| # | what | proof |\n| --- | --- | --- |\n| 1 | a `word` here | `a::b` `c.txt` |\n| b | x | |\n";
    assert_eq!(rows(table), [("1", vec!["a::b", "c.txt"]), ("b", vec![])]);
}

/// The rows: a number or a letter, and what stands in backquotes in the last column.
fn rows(table: &str) -> Vec<(&str, Vec<&str>)> {
    let lines = table.lines().filter(|line| line.starts_with('|'));
    let cells = lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    cells
        .filter_map(|cells| {
            let name = *cells.first()?;
            let proofs = cells.last()?.split('`').skip(1).step_by(2).collect();
            name.bytes().all(|byte| byte.is_ascii_alphanumeric()).then_some((name, proofs))
        })
        .collect()
}

/// Why a proof is none.
fn objection(proof: &str) -> Option<String> {
    if let Some((file, test)) = proof.split_once("::") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let Ok(source) = std::fs::read_to_string(path) else { return Some(format!("no file {file}")) };
        return (!tests(&source).contains_key(test)).then(|| format!("no test {test} in {file}"));
    }
    if proof.starts_with("tests/") && proof.ends_with("/main.rs") {
        // A program without a harness is a test as a whole.
        let is_there = Path::new(env!("CARGO_MANIFEST_DIR")).join(proof).is_file();
        return (!is_there).then(|| format!("no program {proof}"));
    }
    if proof.starts_with("tests/transcripts/") {
        let is_there = Path::new(env!("CARGO_MANIFEST_DIR")).join(proof).is_file();
        return (!is_there).then(|| format!("no session {proof}"));
    }
    Some(format!("neither a test nor a session: {proof}"))
}

/// The functions with a `#[…test…]` before them, and their lines.
fn tests(source: &str) -> BTreeMap<&str, usize> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let is_test = |at: usize| {
        let before = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        before.into_iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    };
    let named = lines.iter().enumerate().filter_map(|(at, line)| {
        let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
        Some((rest.split('(').next()?, at))
    });
    named.filter(|(_, at)| is_test(*at)).collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}
