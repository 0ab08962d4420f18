//! `segdns explain`: the words that matter for every reason, and the JSON.

mod support;

use serde_json::{Value, json};
use support::server::{Server, http_get};
use support::{HERE, Ran, free_port, manifests, run};

/// `explain -o json` offline over a fixture.
fn explain(fixture: &str, clusters: &[&str], question: &[&str], more: &[&str]) -> Ran {
    let sources = manifests(fixture, clusters);
    let mut args = vec!["explain", "--node", "node1", "-o", "json"];
    args.extend(sources.iter().map(String::as_str));
    args.extend(question);
    args.extend(more);
    run(&args)
}

/// One case: fixture, clusters, name, type, caller; rcode, reason, rule, and what the text has to say.
struct Case {
    at: (&'static str, &'static [&'static str]),
    ask: (&'static str, &'static str, &'static str),
    want: (Value, &'static str, &'static str),
    says: &'static [&'static str],
}

const BOTH: &[&str] = &["cluster1", "cluster2"];
const ONE: &[&str] = &["cluster1"];

fn cases() -> Vec<Case> {
    let case = |at, ask, want, says| Case { at, ask, want, says };
    vec![
        case(
            ("bookinfo-segments", BOTH),
            ("details.bookinfo-backends.mesh.acme.", "A", "127.10.1.11"),
            (json!("NOERROR"), "visible", "R11"),
            &["the caller's own", "solo.io/service-scope=global", "R6b", "240.240.1.1"],
        ),
        case(
            ("bookinfo-segments", BOTH),
            ("details.bookinfo-backends.mesh.acquired", "A", "127.10.1.11"),
            (json!("NOERROR"), "global", "R11"),
            &["scope global", "cluster2", "acquired-segment"],
        ),
        case(
            ("bookinfo-segments", BOTH),
            ("details.bookinfo-backends.mesh.internal", "A", "127.10.1.11"),
            (json!("NXDOMAIN"), "absent", "R12"),
            &["ask for details.bookinfo-backends.mesh.acme", "details.bookinfo-backends.mesh.acme instead"],
        ),
        case(
            ("namespace-segments", ONE),
            ("web.own.mesh.acquired", "A", "127.10.1.11"),
            (json!("NXDOMAIN"), "hidden", "R11"),
            &["is hidden", "scope segment", "Namespace own of cluster1 carries", "=global", "acquired-segment"],
        ),
        case(
            ("namespace-segments", ONE),
            ("local.plain.mesh.acme", "A", "127.10.1.11"),
            (json!("NXDOMAIN"), "absent", "R1"),
            &["not exported", "solo.io/service-scope"],
        ),
        case(
            ("namespace-segments", ONE),
            ("web.lost.mesh.acme", "A", "127.10.1.11"),
            (json!("NXDOMAIN"), "absent", "R3"),
            &["names no valid Segment", "Namespace lost"],
        ),
        case(
            ("namespace-segments", ONE),
            ("web.plain.mesh.acme", "A", "127.10.1.31"),
            (json!("SERVFAIL"), "caller-segment-invalid", "R3"),
            &["Namespace lost of cluster1 carries the label admin.solo.io/segment=", "create the Segment"],
        ),
        case(
            ("namespace-segments", ONE),
            ("web.plain.mesh.acme", "A", "198.51.100.77"),
            (json!("SERVFAIL"), "caller-unknown", "R15"),
            &["no pod of this node", "add it to callers"],
        ),
        case(
            ("namespace-segments", ONE),
            ("wbe.plain.mesh.acme", "A", "127.10.1.11"),
            (json!("NXDOMAIN"), "absent", "R18"),
            &["has no Service wbe", "did you mean web?"],
        ),
        case(
            ("namespace-segments", ONE),
            ("vip.own.mesh.acme", "A", "127.10.1.11"),
            (json!("NXDOMAIN"), "absent", "R8"),
            &["dropped (R8)", "ServiceEntry"],
        ),
        case(
            ("peers", &["cluster1", "cluster2", "cluster3"]),
            ("two.shop.mesh.acme", "A", "127.10.1.11"),
            (json!("NXDOMAIN"), "absent", "R4"),
            &["cluster2 is disabled", "mesh.other"],
        ),
        case(
            ("addresses", BOTH),
            ("empty.shop.mesh.internal", "A", "127.10.1.11"),
            (json!("NOERROR"), "no-address", "R22"),
            &["has an address: NODATA"],
        ),
        case(
            ("addresses", BOTH),
            ("extmesh.shop.mesh.internal", "A", "127.10.1.11"),
            (json!("NOERROR"), "visible", "R11"),
            &["CNAME to c.shop.mesh.internal", "R6c"],
        ),
        case(
            ("addresses", BOTH),
            ("loopa.shop.mesh.internal", "A", "127.10.1.11"),
            (json!("SERVFAIL"), "visible", "R11"),
            &["loop"],
        ),
        case(
            ("answers", ONE),
            ("dual.shop.mesh.internal", "AAAA", "127.10.1.11"),
            (json!("NOERROR"), "nodata", "R18"),
            &["no IPv6 address", "answers.aaaa"],
        ),
        case(
            ("answers", ONE),
            ("dual.shop.mesh.internal", "TYPE65", "127.10.1.11"),
            (json!("NOERROR"), "nodata", "R18"),
            &["has no HTTPS records"],
        ),
        case(
            ("answers", ONE),
            ("shop.mesh.internal", "A", "127.10.1.11"),
            (json!("NOERROR"), "empty-non-terminal", "R14"),
            &["something below"],
        ),
        case(("answers", ONE), ("mesh.internal", "SOA", "127.10.1.11"), (json!("NOERROR"), "apex", "R14"), &["apex"]),
        case(
            ("answers", ONE),
            ("www.example.com", "A", "127.10.1.11"),
            (Value::Null, "forwarded", "R23"),
            &["zone \".\"", "192.0.2.1:53"],
        ),
        case(
            ("answers", ONE),
            ("www.example.com", "AXFR", "127.10.1.11"),
            (json!("REFUSED"), "protocol", "R24"),
            &["not transferred"],
        ),
        case(
            ("entries", BOTH),
            ("cn.shop.svc.cluster.local", "A", "127.10.1.11"),
            (json!("NOERROR"), "takeover", "R19"),
            &["under takeover", "spec.hosts", "240.240.1.50"],
        ),
        case(
            ("entries", BOTH),
            ("cn.shop.svc.cluster.local", "A", "127.10.1.90"),
            (Value::Null, "forwarded", "R20"),
            &["not enrolled", "ambient.istio.io/redirection"],
        ),
        case(
            ("aliases", BOTH),
            ("a1.shop.corp.example", "A", "127.10.1.11"),
            (json!("NOERROR"), "visible", "R9"),
            &["alias of Service shop/a1", "pattern"],
        ),
        case(
            ("aliases", BOTH),
            ("a2.shop.corp.example", "A", "127.10.1.21"),
            (Value::Null, "forwarded", "R13"),
            &["forwarded like any other name", "scope segment"],
        ),
        case(
            ("search-paths", ONE),
            ("web.shop.mesh.acme.svc.cluster.local", "A", "127.10.1.11"),
            (json!("NOERROR"), "visible", "R21"),
            &["search path", "not forwarded"],
        ),
    ]
}

#[test]
fn every_reason_is_told_with_its_rule_and_the_words_that_matter() {
    let mut bad = Vec::new();
    for Case { at: (fixture, clusters), ask: (name, rtype, from), want: (rcode, reason, rule), says } in cases() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("c.yaml");
        std::fs::write(&config, "forward: [{zone: \".\", upstreams: [\"192.0.2.1:53\"]}]\n").expect("written");
        let config = config.display().to_string();
        let ran = explain(fixture, clusters, &[name, rtype, "--from", from], &["--config", &config]);
        assert_eq!(ran.status, 0, "{name} {rtype} from {from}: {ran:?}");
        let got = ran.json();
        let text = got["text"].as_str().unwrap_or_default();
        let have = (&got["rcode"], got["reason"].as_str(), got["rule"].as_str());
        if have != (&rcode, Some(reason), Some(rule)) {
            bad.push(format!("{name} {rtype} from {from}: {have:?}, not {rcode} {reason} {rule}\n{text}"));
        }
        for word in says.iter().filter(|word| !text.contains(**word)) {
            bad.push(format!("{name} {rtype} from {from}: no {word:?} in\n{text}"));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n\n"));
}

#[test]
fn the_json_has_the_contracts_keys_and_null_for_what_is_absent() {
    let ran =
        explain("bookinfo-segments", BOTH, &["details.bookinfo-backends.mesh.acme", "--from", "127.10.1.11"], &[]);
    let got = ran.json();
    let keys = ["name", "type", "caller", "rcode", "answers", "ttl", "source", "rule", "reason", "text", "objects"];
    assert_eq!(got.as_object().expect("an object").len(), keys.len());
    assert!(keys.iter().all(|k| got.get(k).is_some()), "{got}");
    assert_eq!((&got["answers"], &got["ttl"], &got["source"]), (&json!(["240.240.1.1"]), &json!(5), &json!("table")));
    for key in ["address", "pod", "namespace", "segment", "enrolled"] {
        assert!(got["caller"].get(key).is_some_and(|v| !v.is_null()), "{key}: {got}");
    }
    let segment = explain("bookinfo-segments", BOTH, &["x.y.mesh.acme", "--from", "segment:acme-segment"], &[]).json();
    assert_eq!(segment["caller"]["address"], Value::Null);
    assert_eq!(segment["caller"]["segment"], "acme-segment");
}

#[test]
fn a_caller_that_is_none_says_why_and_what_would_be() {
    let cases = [
        ("segment:nosuch", "there are default, acme-segment, acquired-segment"),
        ("nobody", "write an IP address, namespace/pod, or segment:NAME"),
        ("shop/nosuch", "has no such Pod"),
    ];
    for (from, says) in cases {
        let ran = explain("namespace-segments", ONE, &["web.plain.mesh.acme", "--from", from], &[]);
        assert_eq!((ran.status, ran.err.lines().count()), (1, 1), "{ran:?}");
        assert!(ran.err.contains(says), "{from}: {}", ran.err);
    }
}

#[test]
fn a_running_server_says_the_same_and_a_missing_one_is_one_line() {
    let admin = format!("{HERE}:{}", free_port());
    let dir = support::fixture::root().join("namespace-segments/cluster1");
    let config = json!({
        "listen": [format!("{HERE}:{}", free_port())], "admin": admin, "answers": {"grace": "60s"},
        "sources": {"manifests": [{"cluster": "cluster1", "path": dir}]},
        "forward": [{"zone": ".", "upstreams": ["192.0.2.1:53"]}],
    });
    let server = Server::start(&config).expect("a server");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), config.to_string()).expect("written");
    let file = file.path().display().to_string();
    for name in ["web.own.mesh.acquired", "www.example.com", "web.plain.mesh.acme.svc.cluster.local"] {
        let question = ["explain", name, "--from", "127.10.1.11", "-o", "json"];
        let online = run(&[&question[..], &["--server", &admin]].concat());
        let offline = run(&[&question[..], &["--config", &file, "--node", "node1"]].concat());
        assert_eq!((online.status, &online.out), (0, &offline.out), "{offline:?}");
    }
    let (code, body) = http_get(server.admin(), "/debug/explain?name=a.b&nosuch=1").expect("an answer");
    assert_eq!((code, body.contains("allowed are name, type, from")), (400, true), "{body}");
    let ran = run(&["explain", "a.b", "--from", "segment:nosuch", "--server", &admin]);
    assert_eq!((ran.status, ran.err.contains("there are default")), (1, true), "{ran:?}");
    server.stop().expect("it ends");
    let ran = run(&["explain", "a.b", "--from", "127.0.0.1", "--server", &admin]);
    assert_eq!((ran.status, ran.err.lines().count()), (1, 1), "{ran:?}");
    assert!(ran.err.contains("cannot be asked"), "{ran:?}");
}

/// Explains under a configuration of its own.
fn under(config: &serde_json::Value, name: &str, from: &str) -> Value {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), config.to_string()).expect("written");
    let path = file.path().display().to_string();
    let ran = run(&["explain", name, "--from", from, "--config", &path, "--node", "node1", "-o", "json"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    ran.json()
}

fn source(fixture: &str) -> Value {
    let dir = support::fixture::root().join(fixture).join("cluster1");
    json!({"manifests": [{"cluster": "cluster1", "path": dir}]})
}

fn assert_told(got: &Value, reason: &str, rule: &str, says: &[&str]) {
    assert_eq!((got["reason"].as_str(), got["rule"].as_str()), (Some(reason), Some(rule)), "{got:#}");
    let text = got["text"].as_str().unwrap_or_default();
    assert!(says.iter().all(|word| text.contains(word)), "{says:?} in\n{text}");
}

#[test]
fn what_a_setting_decides_names_the_setting() {
    let config = json!({"sources": source("service-entries-all"), "serviceEntries": "all"});
    let got = under(&config, "a.wild.example", "127.10.1.11");
    assert_told(&got, "public", "R10", &["hand-written ServiceEntry", "240.240.9.6"]);
    let config = json!({"sources": source("service-entries-all")});
    let got = under(&config, "addr.partner.example", "127.10.1.11");
    assert_told(&got, "forwarded", "R23", &["serviceEntries is generated"]);
    let config = json!({"sources": source("cluster-names"), "policy": {"clusterNames": "segment"}});
    let got = under(&config, "web.own.svc.cluster.local", "127.10.1.11");
    assert_told(&got, "cluster-name-hidden", "R16", &["Namespace own", "policy.clusterNamesAlways"]);
    assert_eq!(got["rcode"], "NXDOMAIN");
    let got = under(&config, "web.nosuch.svc.cluster.local", "127.10.1.11");
    assert_told(&got, "absent", "R16", &["has no namespace nosuch", "policy.clusterNames"]);
    assert_eq!(got["rcode"], "NXDOMAIN");
    let got = under(&config, "www.example.com", "127.10.1.11");
    assert_told(&got, "forwarded", "R23", &["taken out of the answer (R16)"]);
    let config = json!({"sources": source("bookinfo-segments"), "policy": {"crossSegment": "deny"}});
    let got = under(&config, "details.bookinfo-backends.mesh.acme", "segment:acquired-segment");
    assert_told(&got, "hidden", "R11", &["policy.crossSegment is deny"]);
}

#[test]
fn a_file_that_holds_everything_back_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("ns.yaml"), "kind: Namespace\nmetadata: {name: x\n").expect("written");
    let config = json!({"sources": {"manifests": [{"cluster": "c1", "path": dir.path()}]}});
    let got = under(&config, "a.b.mesh.internal", "127.0.0.1");
    assert_told(&got, "not-synced", "R22", &["first complete state of c1", "ns.yaml"]);
    assert_eq!(got["rcode"], "SERVFAIL");
}

#[test]
fn a_running_server_tells_the_grace() {
    let admin = format!("{HERE}:{}", free_port());
    let config = json!({
        "listen": [format!("{HERE}:{}", free_port())], "admin": admin, "answers": {"grace": "60s"},
        "sources": source("addresses"), "forward": [{"zone": ".", "upstreams": ["192.0.2.1:53"]}],
    });
    let server = Server::start(&config).expect("a server");
    let got = run(&["explain", "empty.shop.mesh.internal", "--from", "127.10.1.11", "--server", &admin, "-o", "json"]);
    assert_told(&got.json(), "grace", "R22", &["just appeared", "answers.grace"]);
    drop(server);
}
