//! `check`, `table` and `explain` look at API servers themselves, and see what a running server sees.

use std::process::Command;

use serde_json::{Value, json};

use crate::in_every_lab;
use crate::support::fed::{Fed, Lab, base};
use crate::support::objects::{service, slice};
use crate::support::{HERE, Ran, binary, free_port};

in_every_lab! {
    what_is_looked_up_there_is_what_a_running_server_tells,
}

/// Runs the binary with this KUBECONFIG.
fn run(fed: &Fed, args: &[&str]) -> Ran {
    let output = Command::new(binary())
        .args(args)
        .env_remove("NODE_NAME")
        .env("KUBECONFIG", fed.kubeconfig())
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// The configuration as a file of its own.
fn config(fed: &Fed) -> String {
    let path = fed.dir.path().join("segdns.yaml");
    std::fs::write(&path, fed.config.to_string()).expect("written");
    path.display().to_string()
}

fn what_is_looked_up_there_is_what_a_running_server_tells(lab: Lab) {
    let fed = Fed::new(lab, &json!({}));
    let there = lab.api_server();
    there.apply_all(base());
    there.apply_all([service("shop", "only", "segment", "10.9.0.1"), slice("shop", "only", "10.5.0.1")]);
    fed.join("there", &there);
    // Something to report.
    fed.api.apply(service("shop", "odd", "nosuch", "10.0.0.5"));
    let server = fed.start();
    let (at, config) = (server.admin().to_string(), config(&fed));
    let here = ["--kubernetes", "--node", "node1", "--config", &config];
    let asked: [(i32, &[&str]); 7] = [
        (1, &["check"]),
        (0, &["table"]),
        (0, &["table", "--as", "127.41.0.1"]),
        (0, &["explain", "web.shop.mesh.acme", "--from", "127.41.0.1"]),
        (0, &["explain", "only.shop.mesh.acme", "--from", "shop/a"]),
        (0, &["explain", "web.shop.mesh.acme", "--from", "127.41.0.2"]),
        (1, &["explain", "web.shop.mesh.acme", "--from", "shop/nobody"]),
    ];
    for (status, words) in asked {
        let own = run(&fed, &[words, &here, &["-o", "json"]].concat());
        let theirs = run(&fed, &[words, &["--server", &at, "-o", "json"]].concat());
        assert_eq!((own.status, theirs.status), (status, status), "{words:?}: {own:?} {theirs:?}");
        assert_eq!(own.out, theirs.out, "{words:?}");
        let text = run(&fed, &[words, &here].concat());
        assert_eq!((text.status, text.out.is_empty()), (status, words.contains(&"shop/nobody")), "{text:?}");
    }
    // Flags say enough.
    let flags = ["table", "--kubernetes", "--node", "node1", "-o", "json"];
    let all = run(&fed, &flags).json();
    let named = |name: &str| all.as_array().is_some_and(|rows| rows.iter().any(|row| row["name"] == *name));
    assert!(named("web.shop.mesh.acme") && named("only.shop.mesh.acme"), "{all}");
    fed.api.delete("v1", "Service", "shop", "odd");
    let clean = run(&fed, &["check", "--kubernetes", "--node", "node1"]);
    assert_eq!((clean.status, clean.err.contains("R17")), (0, true), "{clean:?}");
    server.stop().expect("it stops");
}

#[test]
fn an_api_server_that_is_not_there_is_one_helpful_line() {
    let fed = Fed::new(Lab::Double, &json!({}));
    fed.api.double().stop();
    let words: [&[&str]; 3] = [&["check"], &["table"], &["explain", "web.shop.mesh.acme", "--from", "127.41.0.1"]];
    for words in words {
        let ran = run(&fed, &[words, &["--kubernetes", "--node", "node1"]].concat());
        assert_eq!((ran.status, ran.out.as_str(), ran.err.lines().count()), (2, "", 1), "{words:?}: {ran:?}");
        let address = fed.api.double().address().to_string();
        assert!(ran.err.contains(&address) && ran.err.contains("refused"), "it says where and why: {ran:?}");
    }
    // No kubeconfig, and no pod.
    let missing = fed.dir.path().join("nowhere");
    let output = Command::new(binary())
        .args(["check", "--kubernetes", "--node", "node1"])
        .env("KUBECONFIG", &missing)
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .expect("the binary runs");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), err.lines().count()), (Some(2), 1), "{err}");
    assert!(err.contains("KUBECONFIG") || err.contains(&missing.display().to_string()), "{err}");
}

#[test]
fn a_peer_that_is_not_there_is_noted_and_the_rest_is_told() {
    let fed = Fed::new(Lab::Double, &json!({}));
    let there = Lab::Double.api_server();
    fed.join("there", &there);
    there.double().stop();
    let check = run(&fed, &["check", "--kubernetes", "--node", "node1", "-o", "json"]);
    assert_eq!((check.status, check.json()), (2, json!([])), "{check:?}");
    assert!(check.err.contains("there") && check.err.contains("refused"), "{check:?}");
    let table = run(&fed, &["table", "--kubernetes", "--node", "node1", "-o", "json"]);
    assert_eq!(table.status, 0, "{table:?}");
    assert_eq!(table.json()[0]["name"], "web.shop.mesh.acme");
    let nobody = run(&fed, &["table", "--server", &format!("{HERE}:{}", free_port())]);
    assert_eq!((nobody.status, nobody.err.lines().count()), (1, 1), "{nobody:?}");
    let _: Value = table.json();
}
