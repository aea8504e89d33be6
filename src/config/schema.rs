//! The JSON Schema of the file, for editors.

use super::sections::File;
use serde_json::{Map, Value, json};

/// Every key with its words, type and default, made from the structs that read the file.
///
/// It lets through what the reader expands or converts: `${…}` for a number, `false` for `off`.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(File).to_value();
    admit_other_spellings(&mut schema);
    schema["title"] = "gatepost configuration".into();
    schema["required"] = json!(["hostname", "backends"]);
    schema["$defs"]["Listener"]["required"] = json!(["address", "protocol"]);
    schema
}

fn admit_other_spellings(node: &mut Value) {
    match node {
        Value::Array(items) => items.iter_mut().for_each(admit_other_spellings),
        Value::Object(keys) => {
            keys.values_mut().for_each(admit_other_spellings);
            // A property may be called `type` or `enum`; a keyword's value is never a schema.
            let words = keys.get("enum").and_then(Value::as_array).cloned();
            let scalar = matches!(keys.get("type").and_then(Value::as_str), Some("integer" | "boolean"));
            if words.is_none() && !scalar {
                return;
            }
            const SAID_OF_THE_KEY: [&str; 4] = ["description", "default", "title", "examples"];
            let (outer, inner): (Map<_, _>, Map<_, _>) =
                std::mem::take(keys).into_iter().partition(|(key, _)| SAID_OF_THE_KEY.contains(&key.as_str()));
            let mut forms = vec![Value::Object(inner), json!({"type": "string", "pattern": "\\$\\{"})];
            if words.is_some_and(|words| words.contains(&json!("off"))) {
                forms.push(json!({"const": false}));
            }
            *keys = outer;
            keys.insert("anyOf".to_owned(), Value::Array(forms));
        }
        _ => {}
    }
}
