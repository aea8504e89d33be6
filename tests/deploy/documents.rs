//! The documentation, held against the program: what it shows works, what it names is there.

use crate::commands::{both, command, output, run};
use crate::root;
use regex::Regex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)#]*)(?:#([^)]*))?\)").expect("a pattern");
    let mut seen = 0;
    for (path, text) in documents() {
        for found in link.captures_iter(&text) {
            let target = match &found[1] {
                "" => path.clone(),
                file => path.parent().expect("a file has a folder").join(file),
            };
            let there = std::fs::read(&target)
                .unwrap_or_else(|error| panic!("{} links to {}: {error}", path.display(), target.display()));
            // Pictures are there too, and have no headings.
            let there = String::from_utf8_lossy(&there);
            if let Some(anchor) = found.get(2) {
                let mut anchors = there.lines().filter_map(|line| line.strip_prefix("## ")).map(anchor_of);
                assert!(anchors.any(|known| known == anchor.as_str()), "{}: no {}", path.display(), anchor.as_str());
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} links");
}

#[test]
fn every_configuration_shown_is_good() {
    let mut seen = 0;
    for (path, text) in documents() {
        for example in blocks(&text, "yaml") {
            is_good(&path, example);
            seen += 1;
        }
    }
    assert!(seen > 8, "only {seen} configurations");
}

#[test]
fn every_example_is_good() {
    let mut seen = 0;
    for entry in root().join("examples").read_dir().expect("there is a folder examples") {
        let path = entry.expect("it can be listed").path();
        is_good(&path, &std::fs::read_to_string(&path).expect("an example can be read"));
        seen += 1;
    }
    assert!(seen > 1, "only {seen} examples");
}

#[test]
fn every_command_named_is_there() {
    const COMMAND: &str = r"gatepost ((?:cert )?[a-z]+)((?: --[a-z-]+)*)";
    let in_prose = Regex::new(&format!("`{COMMAND}")).expect("a pattern");
    let at_the_prompt = Regex::new(&format!(r"(?m)^(?:docker compose exec gatepost )?{COMMAND}")).expect("a pattern");
    let mut commands = BTreeSet::new();
    for (_, text) in documents() {
        let shown = blocks(&text, "sh").concat();
        for found in in_prose.captures_iter(&text).chain(at_the_prompt.captures_iter(&shown)) {
            commands.insert((found[1].to_owned(), found[2].to_owned()));
        }
    }
    assert!(commands.len() > 8, "{commands:?}");
    for (name, flags) in commands {
        let help = output(command(env!("CARGO_BIN_EXE_gatepost"), name.split(' ')).arg("--help"));
        assert!(help.status.success(), "gatepost {name}: {}", both(&help));
        for flag in flags.split_whitespace() {
            assert!(both(&help).contains(flag), "gatepost {name} has no {flag}");
        }
    }
}

#[test]
fn every_metric_named_is_there_and_every_event_is_named() {
    let watching = std::fs::read_to_string(root().join("deploy/docs/watching-it.md")).expect("a document");
    let metrics = std::fs::read_to_string(root().join("src/observe/metrics/families.rs")).expect("a source");
    let expression = Regex::new(r"`[^`]*(gatepost_[a-z_]+)[^`]*`").expect("a pattern");
    let label = Regex::new(r#"by \((\w+)\)|(\w+)!?=""#).expect("a pattern");
    for found in expression.captures_iter(&watching) {
        let name = found[1].trim_end_matches("_bucket");
        let (_, after) = metrics.split_once(&format!("\"{name}\"")).unwrap_or_else(|| panic!("there is no {name}"));
        let labels = &after[..after.find("),").expect("a family ends")];
        for label in label.captures_iter(&found[0]).filter_map(|found| found.get(1).or(found.get(2))) {
            let known = label.as_str() == "le" || labels.contains(&format!("\"{}\"", label.as_str()));
            assert!(known, "{name} has no {}", label.as_str());
        }
    }
    let events = std::fs::read_to_string(root().join("src/observe/event.rs")).expect("a source");
    let mut seen = 0;
    for found in Regex::new(r#"Kind::\w+ => "([a-z_.]+)""#).expect("a pattern").captures_iter(&events) {
        assert!(watching.contains(&format!("`{}`", &found[1])), "{} is not explained", &found[1]);
        seen += 1;
    }
    assert!(seen > 15, "only {seen} events");
}

#[test]
fn the_limits_have_the_defaults_that_are_written_down() {
    let schema = schema();
    let defaults = &schema["properties"]["limits"]["default"];
    let text = std::fs::read_to_string(root().join("deploy/docs/who-may-come-in.md")).expect("a document");
    let row = Regex::new(r"(?m)^\| `(\w+)` \| ([^|]+) \|").expect("a pattern");
    let mut seen = 0;
    for found in row.captures_iter(&text) {
        let default = match &defaults[&found[1]] {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Array(list) => list.iter().filter_map(|v| v.as_str()).collect::<Vec<_>>().join(", "),
            other => other.to_string(),
        };
        assert_eq!(plain(&found[2]), plain(&default), "limits.{}", &found[1]);
        seen += 1;
    }
    assert!(seen > 8, "only {seen} limits");
}

#[test]
fn the_schema_knows_the_sections() {
    let schema = schema();
    for section in ["hostname", "listeners", "backends", "tls", "auth", "limits", "timeouts", "log", "admin"] {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
}

/// README.md and everything in `deploy/docs`.
fn documents() -> Vec<(PathBuf, String)> {
    let folder = root().join("deploy/docs").read_dir().expect("there is a folder deploy/docs");
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.expect("it can be listed").path()).collect();
    paths.push(root().join("README.md"));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    assert!(paths.len() > 6, "{paths:?}");
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).expect("a document"))).collect()
}

/// What stands between ```LANGUAGE and ```.
pub(crate) fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("\n```{language}\n");
    text.split(&begin).skip(1).map(|rest| &rest[..rest.find("\n```").expect("a block ends") + 1]).collect()
}

/// Where a heading is found.
fn anchor_of(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// A default as it is written down: 50/h where the program says 50/1h, and an address without the length of its own.
fn plain(value: &str) -> String {
    let one = Regex::new("/1([a-z])").expect("a pattern");
    one.replace(value.trim(), "/$1").replace("/128", "")
}

fn schema() -> serde_json::Value {
    serde_json::from_str(&run(&mut command(env!("CARGO_BIN_EXE_gatepost"), ["schema"]))).expect("the schema is JSON")
}

/// `gatepost check` has nothing to say, when the files that it names are there.
fn is_good(path: &Path, configuration: &str) {
    let folder = TempDir::new().expect("a temporary directory");
    let named = Regex::new(r"/(?:etc/gatepost(?:-dns)?|certificates)/[\w./-]+").expect("a pattern");
    let mut text = configuration.to_owned();
    for file in named.find_iter(configuration).map(|found| found.as_str()).collect::<BTreeSet<_>>() {
        let there = folder.path().join(&file[1..]);
        std::fs::create_dir_all(there.parent().expect("it is in a folder")).expect("a new folder");
        let authority =
            std::fs::read_to_string(root().join("tests/config/files/branch-ca.pem")).expect("a certificate");
        let text_of_it = match file {
            file if file.ends_with(".map") => "joe main\n",
            file if file.ends_with("-ca.pem") => &authority,
            _ => "192.0.2.0/24\n",
        };
        std::fs::write(&there, text_of_it).expect("a new file");
        if file.ends_with("/hook") {
            let runnable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&there, runnable).expect("our file");
        }
        text = text.replace(file, &there.display().to_string());
    }
    certify(&folder, &text);
    for found in Regex::new(r"tls_ca: ([^\s,}]+)").expect("a pattern").captures_iter(&text) {
        make_certificate(&folder, &found[1], "authority.key");
    }
    let text = text.replace("user: gatepost", "user: nobody");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("our folder");
    let file = folder.path().join("gatepost.yaml");
    std::fs::write(&file, text).expect("a new file");
    let checked = output(command(env!("CARGO_BIN_EXE_gatepost"), ["check", "-c"]).arg(file));
    assert!(checked.status.success(), "{}:\n{configuration}\n{}", path.display(), both(&checked));
}

/// Certificates in the place of those that the configuration names.
fn certify(folder: &TempDir, configuration: &str) {
    let pair = Regex::new(r"chain: ([^\s,]+), key: ([^\s,]+)").expect("a pattern");
    for found in pair.captures_iter(configuration) {
        make_certificate(folder, &found[1], &found[2]);
        std::fs::set_permissions(&found[2], std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("our file");
    }
}

fn make_certificate(folder: &TempDir, chain: &str, key: &str) {
    let mut openssl = command("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-nodes", "-days", "90", "-subj", "/CN=mail.example.net"]);
    openssl.args(["-addext", "subjectAltName=DNS:mail.example.net", "-out", chain, "-keyout", key]);
    run(openssl.current_dir(folder.path()));
}
