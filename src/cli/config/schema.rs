//! The JSON schema of the configuration file, made of the reference: editors complete keys by it and mark mistakes.

use serde_json::{Map, Value, json};

use crate::config::reference::{KEYS, Key, Takes};

/// The whole (JSON Schema 2020-12). Of texts it says little, as only the reader judges them; and it does not know that the
/// reader takes numbers and booleans in quotes, too.
pub fn schema() -> Value {
    let mut root = section();
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("segdns");
    for key in KEYS {
        let mut at = &mut root;
        let (parents, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        for part in parents.split('.').filter(|part| !part.is_empty()) {
            at = match part.strip_suffix("[]") {
                Some(list) => &mut child(at, list, || json!({"type": ["array", "null"], "items": section()}))["items"],
                None => child(at, part, section),
            };
        }
        *child(at, name, || Value::Null) = value(key);
    }
    root
}

/// A mapping; one without a value is empty.
fn section() -> Value {
    json!({"type": ["object", "null"], "properties": {}, "additionalProperties": false})
}

fn child<'v>(section: &'v mut Value, name: &str, or: impl FnOnce() -> Value) -> &'v mut Value {
    let properties = &mut section["properties"];
    if properties.get(name).is_none() {
        properties[name] = or();
    }
    &mut properties[name]
}

fn value(key: &Key) -> Value {
    let mut value = takes(key.takes);
    value["description"] = json!(key.meaning);
    value
}

/// A variable may stand in the place of any single value.
fn takes(takes: Takes) -> Value {
    const VARIABLE: &str = r"\$\{[^}]+\}";
    let or_variable = |value: Value| json!({"anyOf": [value, {"type": "string", "pattern": VARIABLE}]});
    match takes {
        // YAML's booleans, too, which an unquoted `off` or `true` is.
        Takes::Words(words) if words.iter().any(|word| ["off", "true"].contains(word)) => {
            or_variable(json!({"anyOf": [{"enum": words}, {"type": "boolean"}]}))
        }
        Takes::Words(words) => or_variable(json!({ "enum": words })),
        Takes::Boolean => or_variable(json!({"type": "boolean"})),
        Takes::Count(least, _) | Takes::Seconds(least, _) => {
            let mut number = Map::from_iter([("type".into(), json!("integer")), ("minimum".into(), json!(least))]);
            number.extend(takes.most().map(|most| ("maximum".into(), json!(most))));
            or_variable(number.into())
        }
        Takes::Time(..) => {
            let time = json!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"});
            or_variable(json!({"anyOf": [time, {"const": 0}]}))
        }
        Takes::Octets => {
            let size = json!({"type": "string", "pattern": "^[0-9]+(B|Ki|KiB|Mi|MiB|Gi|GiB)?$"});
            or_variable(json!({"anyOf": [{"type": "integer", "minimum": 0}, size]}))
        }
        Takes::Queries => or_variable(json!({"anyOf": [
            {"enum": ["none", "failures", "all"]},
            {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        ]})),
        Takes::List(of) => json!({"type": ["array", "null"], "items": self::takes(*of)}),
        Takes::Address | Takes::Cidr | Takes::Domain | Takes::Zone | Takes::Upstream | Takes::Text | Takes::Path => {
            json!({"type": "string"})
        }
        Takes::PathOrNone => json!({"type": ["string", "null"]}),
    }
}
