//! What differs between two configurations, key by key, as a person would say it.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::admin::settings::settings;
use crate::config::Config;

/// A value is shown up to so many characters.
const SHOWN: usize = 120;

/// A key whose value is another now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// `answers.ttl`; a list is one value.
    pub key: String,
    before: Option<Value>,
    after: Option<Value>,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.key, shown(self.before.as_ref()), shown(self.after.as_ref()))
    }
}

fn shown(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => return "none".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The keys that differ, in the order of the alphabet.
#[must_use]
pub fn between(before: &Config, after: &Config) -> Vec<Changed> {
    let (mut before, mut after) = (leaves(before), leaves(after));
    before.retain(|key, value| match after.get(key) {
        Some(other) if other == value => after.remove(key).is_none(),
        _ => true,
    });
    let mut keys: Vec<String> = before.keys().chain(after.keys()).cloned().collect();
    keys.sort();
    keys.dedup();
    keys.into_iter().map(|key| Changed { before: before.remove(&key), after: after.remove(&key), key }).collect()
}

/// Every value of the effective configuration by its key.
pub fn leaves(config: &Config) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    flatten(String::new(), settings(config), &mut out);
    out
}

fn flatten(path: String, value: Value, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                flatten(path, value, out);
            }
        }
        value => drop(out.insert(path, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(before: &str, after: &str) -> Vec<String> {
        let parse = |text: &str| Config::parse(text, "segdns.yaml", |_| None).unwrap();
        between(&parse(before), &parse(after)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keys_are_named_with_both_values() {
        assert_eq!(changes("", "answers: {ttl: 5}"), [""; 0]);
        let all = changes("policy: {crossSegment: deny}", "answers: {ttl: 30}\nsegments: {zones: [mesh.acme]}");
        let want =
            ["answers.ttl: 5 -> 30", "policy.crossSegment: deny -> scope", "segments.zones: [] -> [\"mesh.acme\"]"];
        assert_eq!(all, want);
    }

    #[test]
    fn what_is_there_on_one_side_only_is_none_on_the_other_and_long_values_are_cut() {
        let all = changes("sources: {snapshot: null}", "sources: {kubernetes: {node: n1}}");
        assert_eq!(all.last().unwrap(), "sources.snapshot: none -> /var/lib/segdns");
        assert!(all.iter().any(|one| one == "sources.kubernetes.node: none -> n1"), "{all:?}");
        let names = (0..100).map(|n| format!("ns-{n}")).collect::<Vec<_>>().join(", ");
        let all = changes("", &format!("policy: {{clusterNamesAlways: [{names}]}}"));
        assert!(all[0].ends_with("...") && all[0].len() < 300, "{all:?}");
    }
}
