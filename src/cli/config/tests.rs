use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::cli::reload::change::{between, leaves};
use crate::config::ConfigError;
use crate::config::reference::{Key, Takes, time};

/// A file with this value at a path, and with what has to stand beside it there.
fn nest(path: &str, value: Value) -> Value {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let Some(list) = first.strip_suffix("[]") else {
        return json!({first: match rest {
            Some(rest) => nest(rest, value),
            None => value,
        }});
    };
    let rest = rest.expect("elements of lists are mappings");
    let mut element = match list {
        "callers" if rest == "namespace" => json!({"cidr": "10.0.0.0/8"}),
        "callers" => json!({"cidr": "10.0.0.0/8", "segment": "acme"}),
        "forward" => json!({"zone": ".", "upstreams": ["192.0.2.53"]}),
        "manifests" => json!({"cluster": "cluster1", "path": "/m"}),
        _ => panic!("what stands in a list of {list}?"),
    };
    element[rest] = value;
    json!({list: [element]})
}

/// The same for a whole file that can be used.
fn file(path: &str, value: Value) -> Value {
    let mut file = nest(path, value);
    if !path.starts_with("sources.kubernetes") && !path.starts_with("sources.manifests") {
        file["sources"]["manifests"] = json!([{"cluster": "cluster1", "path": "/m"}]);
    }
    if path == "drain.deadline" {
        file["drain"]["lameduck"] = json!("0s");
    }
    file
}

fn read(file: &Value) -> Result<Config, ConfigError> {
    let config = Config::parse(&format!("{file:#}"), "segdns.yaml", |_| None)?;
    config.validate()?;
    Ok(config)
}

/// Values that are allowed, and values that are not.
fn samples(takes: Takes) -> (Vec<Value>, Vec<Value>) {
    let number = |n: u64| json!(n);
    let span = |n: u64| json!(if n.is_multiple_of(1000) { time(n) } else { format!("{n}ms") });
    let ends = |least: u64, value: &dyn Fn(u64) -> Value, bad: Value| {
        let most = takes.most();
        let good = [Some(least), most].into_iter().flatten().map(value).collect();
        let beyond = [least.checked_sub(1), most.map(|most| most + 1)].into_iter().flatten().map(value);
        (good, beyond.chain([bad]).collect())
    };
    let texts = |all: &[&str]| all.iter().map(|text| json!(text)).collect::<Vec<_>>();
    match takes {
        Takes::Words(words) => {
            // As YAML reads them without quotes.
            let bare = [("true", true), ("off", false)].into_iter().filter(|(word, _)| words.contains(word));
            let bare = bare.map(|(_, value)| json!(value));
            (texts(words).into_iter().chain(bare).collect(), texts(&["nonsense"]))
        }
        Takes::Boolean => (vec![json!(true), json!(false)], texts(&["maybe"])),
        Takes::Count(least, _) | Takes::Seconds(least, _) => ends(least, &number, json!("many")),
        Takes::Time(least, _) => ends(least, &span, json!(5)),
        Takes::Octets => (vec![json!("512KiB"), json!(1024)], texts(&["much"])),
        Takes::Address => (texts(&["127.0.0.1:5300"]), texts(&["127.0.0.1"])),
        Takes::Cidr => (texts(&["10.9.0.0/16", "fd00::1"]), texts(&["ten"])),
        Takes::Domain => (texts(&["mesh.example"]), texts(&["no_name"])),
        Takes::Zone => (texts(&[".", "corp.example"]), texts(&["a..b"])),
        Takes::Upstream => (texts(&["192.0.2.1:53", "192.0.2.1", "/etc/resolv.conf"]), texts(&["here"])),
        Takes::Queries => (vec![json!("none"), json!("failures"), json!("all"), json!(0.01)], texts(&["some"])),
        Takes::Text => (texts(&["word"]), vec![json!(5)]),
        Takes::Path => (texts(&["/somewhere"]), vec![json!(5), Value::Null]),
        Takes::PathOrNone => (vec![json!("/somewhere"), Value::Null], vec![json!(5)]),
        Takes::List(of) => {
            let (good, bad) = samples(*of);
            (vec![json!(good)], bad.into_iter().map(|bad| json!([bad])).chain([json!("x")]).collect())
        }
    }
}

#[test]
fn what_a_row_says_of_its_values_is_what_the_reader_takes() {
    for Key { path, takes, .. } in KEYS {
        let (good, bad) = samples(*takes);
        for value in good {
            let file = file(path, value);
            assert!(read(&file).is_ok(), "{path}: {:?} {file}", read(&file));
        }
        for value in bad {
            let file = file(path, value);
            let error = read(&file).expect_err(&format!("{path}: {file}")).to_string();
            assert!(!error.contains("no such key"), "{error}");
            let words: &[&str] = if let Takes::Words(words) = takes { words } else { &[] };
            assert!(words.iter().all(|word| error.contains(word)), "{path}: {words:?} are not all in: {error}");
        }
    }
}

#[test]
fn every_section_of_the_reader_has_a_row_for_each_of_its_keys_and_no_other() {
    let mut sections: BTreeSet<&str> = BTreeSet::from([""]);
    for key in KEYS {
        sections.extend(key.path.match_indices('.').map(|(at, _)| &key.path[..at]));
    }
    for section in sections {
        let below = if section.is_empty() { String::new() } else { format!("{section}.") };
        let error = read(&nest(&format!("{below}nonsense"), json!(1))).unwrap_err().to_string();
        let (_, allowed) = error.split_once("allowed here: ").unwrap_or_else(|| panic!("{section}: {error}"));
        let allowed: BTreeSet<&str> = allowed.split(", ").collect();
        let rows = KEYS.iter().filter_map(|key| key.path.strip_prefix(&below));
        let rows: BTreeSet<&str> = rows.filter_map(|rest| rest.split('.').next()).collect();
        let rows: BTreeSet<&str> = rows.into_iter().map(|key| key.trim_end_matches("[]")).collect();
        assert_eq!(rows, allowed, "section {section:?}: write the missing rows into src/config/reference.rs");
    }
}

/// With something in every list.
fn full() -> Config {
    let mut config = read(&json!({
        "sources": {"kubernetes": {"node": "n1"}},
        "callers": [{"cidr": "10.0.0.0/8", "segment": "a"}, {"cidr": "10.0.0.0/9", "namespace": "b"}],
        "forward": [{"zone": ".", "upstreams": ["192.0.2.53"]}],
    }))
    .unwrap();
    config.sources.manifests = read(&file("debug", json!("any"))).unwrap().sources.manifests;
    config
}

#[test]
fn what_debug_config_shows_is_what_there_are_rows_for() {
    let mut shown = BTreeSet::new();
    for (path, value) in leaves(&full()) {
        match value {
            Value::Array(elements) if elements.iter().any(Value::is_object) => {
                let keys = elements.iter().flat_map(|element| element.as_object().unwrap().keys());
                shown.extend(keys.map(|key| format!("{path}[].{key}")));
            }
            _ => drop(shown.insert(path)),
        }
    }
    assert_eq!(shown, KEYS.iter().map(|key| key.path.to_owned()).collect());
}

#[test]
fn a_running_server_takes_every_live_key_and_no_other() {
    let manifests = read(&file("debug", json!("loopback"))).unwrap();
    let kubernetes = read(&json!({"sources": {"kubernetes": {"node": "n1"}}})).unwrap();
    for Key { path, takes, applies, .. } in KEYS {
        let own_sources = path.starts_with("sources.");
        for running in [&manifests, &kubernetes] {
            let live = match applies {
                Applies::Live => true,
                Applies::Restart => false,
                Applies::LiveFromManifests => running.sources.kubernetes.is_none(),
            };
            let values = samples(*takes).0.into_iter().map(|value| read(&file(path, value)).unwrap());
            let with = |mut wanted: Config| {
                if !own_sources {
                    wanted.sources = running.sources.clone();
                }
                wanted
            };
            let other = values.map(with).find(|wanted| !between(running, wanted).is_empty());
            let wanted = other.unwrap_or_else(|| panic!("{path}: no sample is another value than the default"));
            let kept = wanted.clone().kept(running);
            let (taken, waiting) = (between(running, &kept), between(&kept, &wanted));
            assert_eq!((taken.is_empty(), waiting.is_empty()), (!live, live), "{path}: {taken:?} {waiting:?}");
        }
    }
}

#[test]
fn the_schema_has_every_key_and_nothing_else() {
    let schema = schema::schema();
    for key in KEYS {
        let found = key.path.split('.').try_fold(&schema, |at, part| match part.strip_suffix("[]") {
            Some(list) => Some(&at.get("properties")?.get(list)?["items"]),
            None => at.get("properties")?.get(part),
        });
        assert_eq!(found.and_then(|found| found["description"].as_str()), Some(key.meaning), "{}", key.path);
    }
    let descriptions = schema.to_string().matches("\"description\":").count();
    assert_eq!(descriptions, KEYS.len());
}

/// Whether a schema lets a value through, by all that ours say but patterns.
fn allows(schema: &Value, value: &Value) -> bool {
    let is = |word: &Value| match word.as_str().unwrap() {
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("{other}?"),
    };
    let said = |key: &str, holds: &dyn Fn(&Value) -> bool| schema.get(key).is_none_or(holds);
    let list = |all: &Value| all.as_array().unwrap().clone();
    said("anyOf", &|any| list(any).iter().any(|one| allows(one, value)))
        && said("enum", &|words| list(words).contains(value))
        && said("const", &|one| one == value)
        && said("type", &|word| if word.is_array() { list(word).iter().any(is) } else { is(word) })
        && said("minimum", &|least| value.as_f64() >= least.as_f64())
        && said("maximum", &|most| value.as_f64() <= most.as_f64())
        && said("items", &|item| list(value).iter().all(|element| allows(item, element)))
}

#[test]
fn the_schema_lets_everything_through_that_a_row_does() {
    let schema = schema::schema();
    for Key { path, takes, .. } in KEYS {
        let part = |at: &Value, part: &str| match part.strip_suffix("[]") {
            Some(list) => at["properties"][list]["items"].clone(),
            None => at["properties"][part].clone(),
        };
        let own = path.split('.').fold(schema.clone(), |at, name| part(&at, name));
        for value in samples(*takes).0 {
            assert!(allows(&own, &value), "{path}: {value} {own}");
        }
        assert!(!allows(&own, &json!({"no": "mapping"})), "{path}");
    }
}

#[test]
fn the_page_in_docs_is_what_the_command_prints() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
    let how =
        "docs/configuration.md is not what it should be; run: cargo run -- config reference > docs/configuration.md";
    assert!(page == reference(), "{how}");
}
