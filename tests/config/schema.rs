//! The schema against the files: it knows every key that loads, and no other.

use gatepost::config::{self, Environment};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeSet;

#[test]
fn every_key_of_every_valid_file_is_in_the_schema() {
    let schema = config::schema();
    let mut seen = BTreeSet::new();
    let folders = ["tests/config/valid", "examples"];
    for path in folders.into_iter().flat_map(super::files) {
        let text = std::fs::read_to_string(&path).expect("readable");
        let value: Value = serde_yaml::from_str(&text).expect("YAML");
        look_up(&value, &schema, &schema, &mut String::new(), &mut seen);
    }
    assert!(seen.len() > 100, "only {} keys seen", seen.len());
    // The file that writes every key with its default misses none that the schema has.
    let written: BTreeSet<&str> = seen.iter().map(String::as_str).collect();
    for section in ["tls", "auth", "plaintext", "submission", "limits", "timeouts", "log", "admin", "runtime"] {
        let node = resolved(&schema["properties"][section], &schema);
        for key in node["properties"].as_object().expect("a section has keys").keys() {
            let path = format!(".{section}.{key}");
            assert!(written.contains(path.as_str()), "no valid file shows {path}");
        }
    }
}

fn look_up(value: &Value, node: &Value, schema: &Value, path: &mut String, seen: &mut BTreeSet<String>) {
    let node = resolved(node, schema);
    let length = path.len();
    match value {
        Value::Object(keys) => {
            for (key, value) in keys {
                let below =
                    node["properties"].get(key).or_else(|| node.get("additionalProperties").filter(|n| n.is_object()));
                let below = below.unwrap_or_else(|| panic!("{path}.{key} is not in the schema"));
                *path += &format!(".{key}");
                look_up(value, below, schema, path, seen);
                seen.insert(path.clone());
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            let forms = node["anyOf"].as_array().cloned().unwrap_or_else(|| vec![node.clone()]);
            let list = forms.iter().map(|form| resolved(form, schema)).find(|form| form.get("items").is_some());
            let list = list.unwrap_or_else(|| panic!("{path} is no list in the schema"));
            for item in items {
                look_up(item, &list["items"], schema, path, seen);
            }
        }
        _ => {}
    }
}

/// Follows references and the option of null.
fn resolved<'a>(node: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(name) = node["$ref"].as_str() {
        let definition = &schema["$defs"][name.trim_start_matches("#/$defs/")];
        assert!(definition.is_object(), "{name} leads nowhere");
        return resolved(definition, schema);
    }
    let forms = node["anyOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    match forms {
        [one, null] if null["type"] == "null" => resolved(one, schema),
        _ => node,
    }
}

#[test]
fn an_editor_is_shown_words_and_defaults() {
    let schema = config::schema();
    assert_eq!(schema["title"], "gatepost configuration");
    assert_eq!(schema["additionalProperties"], false);
    let mut undescribed = Vec::new();
    let definitions = schema["$defs"].as_object().expect("definitions").values();
    for node in definitions.chain([&schema]) {
        for (key, property) in node["properties"].as_object().into_iter().flatten() {
            if property.get("description").is_none() {
                undescribed.push(key);
            }
        }
    }
    assert!(undescribed.is_empty(), "without a description: {undescribed:?}");
    let limits = resolved(&schema["properties"]["limits"], &schema);
    for (key, value) in [("ban", "1h"), ("auth_failures_per_ip", "20/10min"), ("failure_delay", "2s")] {
        assert_eq!(limits["properties"][key]["default"], value, "{key}");
    }
    assert_eq!(limits["properties"]["exempt"]["default"], serde_json::json!(["127.0.0.0/8", "::1/128"]));
    let sessions = limits["properties"]["sessions"]["anyOf"].as_array().expect("forms");
    assert!(sessions.iter().any(|form| form["pattern"] == r"\$\{"), "a variable may stand for a number: {sessions:?}");
    let off = schema["$defs"]["TlsRule"]["anyOf"].as_array().expect("forms");
    assert!(off.contains(&serde_json::json!({"const": false})), "false is taken for off: {off:?}");
    let timeouts = resolved(&schema["properties"]["timeouts"], &schema);
    assert_eq!(timeouts["properties"]["idle_imap"]["default"], "35min");
}

#[test]
fn the_defaults_an_editor_shows_load_as_a_file() {
    let schema = config::schema();
    let mut file = serde_json::json!({"hostname": "mail.example.net", "backends": {"main": {"host": "10.0.0.5"}}});
    for section in ["tls", "auth", "plaintext", "submission", "limits", "timeouts", "log", "admin", "runtime"] {
        let node = resolved(&schema["properties"][section], &schema);
        for (key, property) in node["properties"].as_object().expect("a section has keys") {
            if let Some(default) = property.get("default") {
                file[section][key] = default.clone();
            }
        }
    }
    let written = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
    std::fs::write(written.path(), file.to_string()).expect("written");
    let (by_hand, findings) = config::load(written.path(), &Environment::default()).expect("the defaults are good");
    assert_eq!(findings, []);
    let smallest =
        config::load(std::path::Path::new("examples/smallest.yaml"), &Environment::default()).expect("good").0;
    assert_eq!((by_hand.limits, by_hand.timeouts), (smallest.limits, smallest.timeouts));
    assert_eq!((by_hand.auth, by_hand.submission), (smallest.auth, smallest.submission));
    assert_eq!((by_hand.log, by_hand.admin), (smallest.log, smallest.admin));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        load_bytes(&bytes);
    }

    #[test]
    fn no_words_of_a_configuration_panic(text in r"(hostname|listeners|backends|main|host|imap|address|protocol|tls|allow|certificates|chain|: |:\n|\n|\n  |\n    |- |\[|\]|\{|\}|&a |\*a|10\.0\.0\.5|:143|\$\{|\}|off|null|993|!x|<<|,|file:){0,40}") {
        load_bytes(text.as_bytes());
    }
}

fn load_bytes(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("written");
    if let Err(findings) = config::load(file.path(), &Environment::default()) {
        assert!(findings.iter().any(config::Finding::is_error));
        assert!(findings.iter().all(|finding| !finding.to_string().contains('\n')), "{findings:?}");
    }
}
