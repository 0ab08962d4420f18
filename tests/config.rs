//! What segdns says of its configuration and of its command line, without a server: `config`, `completions`, `man`.

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::run;

#[test]
fn a_file_is_judged_as_serve_would_judge_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("segdns.yaml");
    let check = |text: &str| {
        std::fs::write(&path, text).expect("written");
        run(&["config", "check", "--config", path.to_str().expect("a path")])
    };
    let source = "sources: {manifests: [{cluster: a, path: /m}]}\n";
    let good = check(source);
    assert_eq!((good.status, &*good.out, &*good.err), (0, "ok\n", ""));
    // In a cluster the node's name comes from the pod's environment, which who checks the file has not.
    assert_eq!(check("sources: {kubernetes: {}}\n").status, 0);
    let cases = [
        ("answers: {tll: 5}\n", ":1: answers.tll: there is no such key (did you mean ttl?)"),
        ("drain: {lameduck: 20s}\n", ": drain.deadline: it has to be above 0 and not before drain.lameduck ends"),
        ("cache: {bytes: much}\n", ":1: cache.bytes: \"much\" is not allowed here; write a size"),
    ];
    for (text, want) in cases {
        let bad = check(&format!("{text}{source}"));
        assert_eq!((bad.status, &*bad.out, bad.err.lines().count()), (2, "", 1), "{bad:?}");
        assert!(bad.err.contains(want), "{text}{bad:?}");
    }
    assert_eq!(run(&["config", "check", "--config", "/nonexistent"]).status, 2);
}

#[test]
fn the_reference_is_a_table_and_the_schema_is_one() {
    let page = run(&["config", "reference"]);
    assert_eq!(page.status, 0);
    let rows = page.out.lines().filter(|line| line.starts_with("| `"));
    assert!(rows.clone().count() > 50 && rows.clone().all(|row| row.matches('|').count() == 6), "{}", page.out);
    assert!(page.out.contains("| `answers.ttl` | seconds, 0 to 3600 | `5` | live |"), "{}", page.out);
    let schema: Value = run(&["config", "schema"]).json();
    assert_eq!(schema["properties"]["answers"]["additionalProperties"], false);
}

/// Whether a program takes a text; `None` if there is no such program here.
fn takes(program: &str, args: &[&str], text: &str) -> Option<String> {
    let child =
        Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.ok()?;
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(if output.status.success() { err } else { format!("{}: {err}", output.status) })
}

#[test]
fn completions_are_scripts_of_their_shells_that_know_every_command() {
    for (shell, args) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["-n"])] {
        let script = run(&["completions", shell]);
        assert_eq!(script.status, 0);
        for word in ["serve", "explain", "config", "reference", "--manifests"] {
            let word = if shell == "fish" { word.trim_start_matches('-') } else { word };
            assert!(script.out.contains(word), "{shell} does not know {word}");
        }
        let said = takes(shell, args, &script.out);
        assert!(shell != "bash" || said.is_some(), "there is a bash everywhere");
        assert!(said.is_none_or(|said| said.is_empty()), "{shell}");
    }
    assert_eq!(run(&["completions", "abacus"]).status, 2);
}

#[test]
fn there_is_a_manual_page_for_each_command_and_groff_has_nothing_to_say_against_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("a path");
    assert_eq!(run(&["man", "--dir", path]).status, 0);
    let pages: Vec<_> =
        std::fs::read_dir(dir.path()).expect("listed").map(|entry| entry.expect("one").path()).collect();
    for name in ["segdns.1", "segdns-serve.1", "segdns-config-check.1"] {
        assert!(pages.iter().any(|page| page.ends_with(name)), "{name} is not in {pages:?}");
    }
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("read");
        let said = takes("groff", &["-man", "-Tutf8", "-ww"], &text);
        assert!(said.as_ref().is_none_or(String::is_empty), "{}: {said:?}", page.display());
    }
    let one = run(&["man"]);
    assert!(one.status == 0 && one.out.contains(".TH segdns 1"), "{one:?}");
    let nowhere = run(&["man", "--dir", "/nonexistent"]);
    assert_eq!((nowhere.status, nowhere.err.lines().count()), (1, 1));
}
