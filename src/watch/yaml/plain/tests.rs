use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn quick(text: &str) -> Option<Value> {
    let mut json = String::new();
    to_json(text, false, &mut json)?;
    Some(serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json} of {text:?}")))
}

fn full(text: &str) -> Result<Value, String> {
    let read: Result<Vec<Value>, _> = serde_saphyr::from_str_multiple_with_options(text, super::super::options());
    match read {
        Ok(all) if all.len() == 1 => Ok(all[0].clone()),
        Ok(all) => Err(format!("{} documents", all.len())),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn what_kubectl_prints_is_read_as_it_is_meant() {
    let cases = [
        ("a: b\n", json!({"a": "b"})),
        ("---\n# a comment\na: b", json!({"a": "b"})),
        (
            "a:\n  b: c\n  d:\n  - e\n  - f: 1\n    g: true\n  - - h\nz: {}\n",
            json!({
                "a": {"b": "c", "d": ["e", {"f": 1, "g": true}, ["h"]]}, "z": {}
            }),
        ),
        ("a:\nb: null\nc: []\nd:\n-\n- e\n", json!({"a": null, "b": null, "c": [], "d": [null, "e"]})),
        ("ip: 10.0.0.1\nv: 1.27.3\nu: 5b8f6f0c-8a53-4c7e-9f0e-0001\nc: 10.0.0.0/8\n6: x\n", json!(null)),
        (
            "ip: 10.0.0.1\nv: 1.27.3\nu: 5b8f6f0c-8a53-4c7e-9f0e-0001\nc: 10.0.0.0/8\nb: fd00::1\n",
            json!({
                "ip": "10.0.0.1", "v": "1.27.3", "u": "5b8f6f0c-8a53-4c7e-9f0e-0001", "c": "10.0.0.0/8", "b": "fd00::1"
            }),
        ),
        (
            "a: \"80\"\nb: 'it''s'\nc: \"x\\n\\\"y\\u00e9\"\nd: '\\'\n",
            json!({
                "a": "80", "b": "it's", "c": "x\n\"y\u{e9}", "d": "\\"
            }),
        ),
        (
            "a: |\n  {\"b\": \"c\"}\n\n  # d\nb: |-\n    e\n     f\nc: |+\n  g\n\n",
            json!({
                "a": "{\"b\": \"c\"}\n\n# d\n", "b": "e\n f", "c": "g\n\n"
            }),
        ),
        (
            "a: one two\n  three\n\n  four\nb: \"five\n  six\\\n  \\ seven\"\nc: 'eight\n\n  nine'\n",
            json!({
                "a": "one two three\nfour", "b": "five six seven", "c": "eight\nnine"
            }),
        ),
        ("args:\n- --port=80\n- -c\n- /bin/sh\n- $(POD)\n", json!({"args": ["--port=80", "-c", "/bin/sh", "$(POD)"]})),
        ("'q': 1\n\"r/s\": 2\nf:spec:\n  k: 0\n", json!({"q": 1, "r/s": 2, "f:spec": {"k": 0}})),
    ];
    for (text, want) in cases {
        if want.is_null() {
            assert_eq!(quick(text), None, "{text}");
            continue;
        }
        assert_eq!(full(text), Ok(want.clone()), "the full parser on {text}");
        assert_eq!(quick(text), Some(want), "{text}");
    }
}

#[test]
fn what_is_in_doubt_is_left_to_the_full_parser() {
    let cases = [
        "",
        "---\n",
        "a",
        "- a",
        "a: b\n---\nc: d\n",
        "a: &x b\n",
        "a: *x\n",
        "a: !!str b\n",
        "a: b # c\n",
        "a: {b: c}\n",
        "a: [b]\n",
        "a: >\n  b\n",
        "a: |2\n  b\n",
        "a: yes\n",
        "a: On\n",
        "a: 0777\n",
        "a: 0x1f\n",
        "a: 1e3\n",
        "a: .5\n",
        "a: -1\n",
        "a: 1_000\n",
        "a: 12:30\n",
        "a: ~\n",
        "a: .inf\n",
        "a: b\na: c\n",
        "a: b\n\"a\": c\n",
        "? a\n",
        "a:b\n",
        "a: b: c\n",
        "a: \"b\n",
        "a: 'b\n",
        "a: \"\\x41\"\n",
        "a: \"\\ud800\"\n",
        "a:\n\tb: c\n",
        "a: b\r\n",
        "a: ü\n",
        "<<: b\n",
        "null: b\n",
        " a: b\n",
        "a:\n  b: c\n d: e\n",
        "a: b\n  c: d\n",
        "a: -\n",
        "a: @b\n",
        "a: %b\n",
        "a: \"b\" c\n",
        "a:\n- b\n c: d\n",
        "%YAML 1.2\n---\na: b\n",
        "...\n",
        "a: |\n\n  b\n",
        "a: \"b\nc\"\n",
        "a: 18446744073709551616\n",
        "a: 99999999999999999999999\n",
    ];
    for text in cases {
        assert_eq!(quick(text), None, "{text:?}");
    }
    let deep = (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>();
    assert_eq!(quick(&deep), None);
    let wide = (0..200).map(|n| format!("a{n}: b\n")).collect::<String>();
    assert_eq!(quick(&wide), None);
}

/// Lines that make something of each other more often than by chance.
fn line() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("b"),
        Just("10.0.0.1"),
        Just("80"),
        Just("true"),
        Just("'q r'"),
        Just("\"d\\\"e\\n\""),
        Just("{}"),
        Just("[]"),
        Just("|"),
        Just("|-"),
        Just("|+"),
        Just("two words"),
        Just("2026-01-01"),
        Just("1.5"),
        Just("7c9f-1-2"),
        Just("1e5k"),
        Just("-x"),
        Just("--y=z"),
        Just("# no"),
        Just("x # no"),
        Just("\"open"),
        Just("shut\""),
        Just("'it''s"),
        Just("'"),
        Just("12:30"),
        Just("no"),
        Just("~"),
        Just("0o7"),
        Just("1e3"),
        Just("\\"),
        Just("a\\"),
        Just("fd00::1"),
        Just("1::2"),
        Just("http://h:8/p"),
        Just("a:b"),
        Just("k: v"),
        Just("- i"),
        Just("5m30s"),
        Just("1-2-3"),
        Just("9/3"),
        Just("(c)"),
    ];
    let word = prop_oneof![3 => word.prop_map(str::to_owned), 1 => "[ -~]{0,6}"];
    let key = prop_oneof![Just("a"), Just("b"), Just("c/d"), Just("\"e\""), Just("f:g"), Just("h "), Just(".i")];
    let blank = prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("  ")];
    let indent = (0usize..4, prop_oneof![6 => Just(2usize), 1 => Just(1usize)]).prop_map(|(n, by)| " ".repeat(n * by));
    (indent, 0..8u8, key, word, blank).prop_map(|(indent, form, key, word, blank)| match form {
        0..=2 => format!("{indent}{key}: {word}{blank}\n"),
        3 => format!("{indent}{key}:{blank}\n"),
        4 => format!("{indent}- {word}{blank}\n"),
        5 => format!("{indent}- {key}: {word}\n"),
        6 => format!("{indent}{word}{blank}\n"),
        _ => format!("{blank}\n"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, max_global_rejects: 1 << 20, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_here_is_what_the_full_parser_reads(lines in prop::collection::vec(line(), 1..6)) {
        let text = lines.concat();
        if let Some(read) = quick(&text) {
            prop_assert_eq!(full(&text), Ok(read), "{:?}", text);
        }
    }
}
