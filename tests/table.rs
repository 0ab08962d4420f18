//! `segdns table`: all names with who sees them, or what one caller sees.

mod support;

use serde_json::{Value, json};
use support::{Ran, manifests, run};

fn table(fixture: &str, clusters: &[&str], more: &[&str]) -> Ran {
    let sources = manifests(fixture, clusters);
    let mut args = vec!["table", "--node", "node1"];
    args.extend(sources.iter().map(String::as_str));
    args.extend(more);
    run(&args)
}

fn row<'v>(all: &'v Value, name: &str) -> Option<&'v Value> {
    all.as_array().expect("a list").iter().find(|r| r["name"] == name)
}

#[test]
fn every_name_says_who_sees_it_and_what_publishes_it() {
    let all = table("peers", &["cluster1", "cluster5", "cluster6"], &["-o", "json"]).json();
    let mix = row(&all, "mix.shop.mesh.acme").expect("mix");
    assert_eq!((&mix["scope"], &mix["addresses"]), (&json!("mixed"), &json!(["10.101.0.11"])));
    assert!(mix["visible_to"].as_array().is_some_and(|v| v.contains(&json!("acquired-segment"))), "{mix}");
    assert!(mix["objects"].as_array().is_some_and(|o| o.len() >= 2), "{mix}");
    let mine = row(&all, "mine.shop.mesh.acme").expect("mine");
    assert_eq!((&mine["scope"], &mine["visible_to"]), (&json!("segment"), &json!(["acme-segment"])));
    let names: Vec<&str> = all.as_array().expect("a list").iter().filter_map(|r| r["name"].as_str()).collect();
    assert!(names.is_sorted(), "{names:?}");
}

#[test]
fn a_caller_is_shown_its_own_names_and_addresses_only() {
    let clusters = ["cluster1", "cluster5", "cluster6"];
    let all = table("peers", &clusters, &["-o", "json", "--as", "127.10.1.21"]).json();
    assert_eq!(row(&all, "mix.shop.mesh.acme").expect("mix")["addresses"], json!(["10.15.0.11"]));
    assert_eq!(row(&all, "mine.shop.mesh.acme"), None);
    let text = table("peers", &clusters, &["--as", "segment:acme-segment"]);
    assert!(text.out.starts_with("NAME ") && text.out.contains("mine.shop.mesh.acme"), "{text:?}");
    let bad = table("peers", &clusters, &["--as", "segment:nosuch"]);
    assert_eq!((bad.status, bad.err.lines().count()), (1, 1), "{bad:?}");
}

#[test]
fn aliases_and_takeover_are_in_it() {
    let all = table("aliases", &["cluster1"], &["-o", "json"]).json();
    assert!(row(&all, "a1.shop.corp.example").is_some());
    let all = table("entries", &["cluster1", "cluster2"], &["-o", "json"]).json();
    let taken = row(&all, "cn.shop.svc.cluster.local").expect("cn");
    assert_eq!((&taken["scope"], &taken["segment"]), (&json!("takeover"), &json!("acme-segment")));
}
