use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// All manifests below a directory.
fn manifests(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            manifests(&path, found);
        } else if matches!(path.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json")) {
            found.push(path);
        }
    }
}

/// What is found, or the fault, as text.
fn told(result: Result<Vec<Found>, Fault>) -> String {
    format!("{result:#?}")
}

fn alike(text: &str) -> String {
    let pieces = told(read(&[("f", text)]).remove(0));
    assert_eq!(pieces, told(whole("f", text)), "of {text}");
    pieces
}

#[test]
fn every_fixture_is_read_alike_in_pieces_and_by_the_full_parser() {
    let mut files = Vec::new();
    for dir in ["tests/fixtures", "tests/fixtures-apiserver", "deploy"] {
        manifests(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), &mut files);
    }
    assert!(files.len() > 50, "{files:?}");
    for file in files {
        alike(&fs::read_to_string(file).unwrap());
    }
}

const SERVICE: &str =
    "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  namespace: shop\nspec:\n  clusterIP: 10.0.0.1\n";

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("  {line}\n")).collect();
    format!("- {}", lines.concat().trim_start())
}

#[test]
fn lists_documents_and_faults_are_read_alike_in_pieces_and_by_the_full_parser() {
    let item = indented(SERVICE);
    let other = item.replace("10.0.0.1", "{}").replace("name: a", "name: b");
    let faulty = item.replace("10.0.0.1", "10.0.0.300").replace("name: a", "name: c # why");
    let head = "apiVersion: v1\nitems:\n";
    let tail = "kind: List\nmetadata:\n  resourceVersion: \"\"\n";
    let cases = [
        format!("{head}{item}{other}{faulty}{tail}"),
        format!("{head}{item}{tail}---\n{SERVICE}"),
        format!("{SERVICE}---\n{head}{item}{tail}---\n# nothing\n---\n"),
        format!("{head}{item}{tail}").replace("kind: List", "kind: ServiceList").replace("  kind: Service\n", ""),
        format!("{head}{item}- 7\n-\n- []\n{tail}"),
        format!("{head}{item}- &x\n  kind: Service\n- *x\n{tail}"),
        format!("{head}{item}- kind: \"a\n- b\"\n{tail}"),
        format!("# first\n\n{SERVICE}--- # second\n{SERVICE}...\n---\n{SERVICE}"),
        format!("{SERVICE}spec: {{}}\n"),
        format!("%YAML 1.2\n---\n{SERVICE}"),
        format!("\u{feff}{SERVICE}"),
        SERVICE.replace('\n', "\r\n"),
        SERVICE.replace("  name: a\n", "  name: a\n  labels:\n    x: y\n    x: z\n"),
        SERVICE.replace("  name: a\n", "  name: 1\n  labels: {x: true}\n"),
        "kind: List\nitems:\n".to_owned(),
        "kind: List\nitems: 7\n".to_owned(),
    ];
    for text in cases {
        alike(&text);
    }
}

#[test]
fn a_large_list_is_read_alike_in_pieces_and_by_the_full_parser() {
    let mut text = "apiVersion: v1\nitems:\n".to_owned();
    for n in 0..200 {
        let item = indented(SERVICE).replace("name: a", &format!("name: s{n}"));
        text.push_str(&if n % 50 == 7 { item.replace("10.0.0.1", "10.0.0.x") } else { item });
    }
    text.push_str("kind: List\n");
    assert!(split::split(&text).len() > 4);
    assert_eq!(alike(&text).matches("is not an IP address").count(), 4);
}

#[test]
fn json_is_read_alike_in_pieces_and_by_the_full_parser() {
    let service = |ip: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"a","labels":{{"x":"y\u00e9"}}}},"spec":{{"clusterIP":{ip}}}}}"#
        )
    };
    let good = service("\"10.0.0.1\"");
    let cases = [
        good.clone(),
        format!("{good}\n"),
        format!(
            "{{\n  \"apiVersion\": \"v1\",\n  \"items\": [\n    {good},\n\n    {}, {good},\n null, 7],\n  \"kind\": \"List\"}}",
            service("true")
        ),
        r#"{"apiVersion":"v1","kind":"ServiceList","items":[{"metadata":{"name":"a"}}]}"#.to_owned(),
        r#"{"kind":"List","items":null}"#.to_owned(),
        r#"{"kind":"List","items":7}"#.to_owned(),
        r#"{"kind":"List"}"#.to_owned(),
        format!("{good}{good}"),
        format!("{good},"),
        good.replace("\"x\"", "\"x\":\"z\",\"x\""),
        good.replace("\"name\"", "\"name\":\"b\",\"name\""),
        good.replace("{\"name\"", "{name"),
        format!("[{good}]"),
    ];
    for text in cases {
        alike(&text);
    }
    assert!(json_units(&format!("{{\"kind\":\"List\",\"items\":[{good},{good}]}}")) == 2, "item by item");
}

fn json_units(text: &str) -> usize {
    split::split(text).iter().filter(|unit| matches!(unit.form, Form::Json { .. })).count()
}
