//! The configuration, as a file has it.

use super::{Input, wire};
use gatepost::config::{Environment, Finding, Place, admin_socket, load};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// The door. Holds for every text: no panic; what is wrong is said with a place inside the text, in one line, and an
/// error is among it; what is taken has no error among its warnings; asked twice, the answer is the same.
pub fn door(data: &[u8]) {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos();
        let folder = std::env::temp_dir().join(format!("gatepost-config-{}-{now}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        folder.join("gatepost.yaml")
    });
    let Some(input) = Input::read(data) else { return };
    fs::write(&*FILE, input.text).expect("written");
    let environment: Environment = [("HOST", "10.0.0.5"), ("EMPTY", ""), ("TRICK", "${HOST}\nadmin: {}")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into_iter()
        .collect();
    let _ = admin_socket(&FILE, &environment);
    let loaded = load(&FILE, &environment).map(|(_, warnings)| warnings);
    let text = String::from_utf8_lossy(input.text);
    match &loaded {
        Ok(warnings) => assert!(!warnings.iter().any(Finding::is_error), "taken with an error: {warnings:?}"),
        Err(findings) => assert!(findings.iter().any(Finding::is_error), "refused without an error: {findings:?}"),
    }
    for finding in loaded.as_ref().unwrap_or_else(|findings| findings) {
        assert_placed(finding, &FILE, &text);
    }
    let again = load(&FILE, &environment).map(|(_, warnings)| warnings);
    assert_eq!(loaded, again, "asked twice");
}

fn assert_placed(finding: &Finding, file: &Path, text: &str) {
    wire::assert_harmless(&finding.message, 4096);
    let place = finding.place.as_ref().unwrap_or_else(|| panic!("nowhere: {finding}"));
    if Path::new(&place.file) == file {
        // Lines end as editors have it, or as YAML does, to which a CR alone ends one, too.
        let plain = text.replace("\r\n", "\n");
        let by_yaml = plain.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']);
        let inside = is_inside(place, text.split('\n')) || is_inside(place, by_yaml);
        assert!(inside, "no such place: {finding}");
    }
}

/// Where something is missing at the end, the place is behind it, be there a line end or not.
fn is_inside<'a>(place: &Place, lines: impl Iterator<Item = &'a str>) -> bool {
    let line = place.line.checked_sub(1).and_then(|index| lines.chain([""]).nth(index));
    line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&place.column))
}
