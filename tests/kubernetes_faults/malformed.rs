//! Objects and events that are not what they should be: the others are read, and the version before stays.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::apiserver::{Failure, Streaming, Times, Verb};
use super::support::fed::{SERVFAIL, SHOP};
use super::support::objects::{namespace, service};
use super::support::steady::{reports, until, until_answered, until_well};
use super::{MOMENTS, RECOVERY, WEB, cluster, steadily, well};

/// Service shop/web at another address, with labels of the wrong shape.
fn broken(labels: Value) -> Value {
    let mut web = service("shop", "web", "segment", "10.6.6.6");
    web["metadata"]["labels"] = labels;
    web
}

#[test]
fn of_an_object_that_breaks_the_version_before_stays_and_it_is_named() {
    let fed = cluster(&json!({}));
    let server = fed.start();
    let steady = steadily(&fed);
    for labels in [json!(7), json!({"solo.io/service-scope": 7}), json!(["segment"])] {
        fed.api.apply(broken(labels));
        // What is told after it shows that it was read.
        fed.api.apply(service("shop", "after", "segment", "10.0.3.1"));
        until_answered(fed.at, (SHOP, "after.shop.mesh.acme", 0, &["10.0.3.1"]), MOMENTS);
        until("a report of Service shop/web", MOMENTS, || reports(&server).contains("Service shop/web"));
        fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
        fed.api.apply(service("shop", "web", "segment", "10.0.0.1"));
        until("no report of Service shop/web", MOMENTS, || !reports(&server).contains("Service shop/web"));
        fed.api.delete("v1", "Service", "shop", "after");
        until_answered(fed.at, (SHOP, "after.shop.mesh.acme", 3, &[]), MOMENTS);
    }
    // One that is deleted while it is broken is gone all the same, with its report.
    fed.api.apply(broken(json!(7)));
    until("a report of Service shop/web", MOMENTS, || reports(&server).contains("Service shop/web"));
    fed.api.delete("v1", "Service", "shop", "web");
    until_answered(fed.at, (SHOP, WEB, 3, &[]), MOMENTS);
    assert!(!reports(&server).contains("shop/web"), "{}", reports(&server));
    well("broken objects", Duration::ZERO, steady, server);
}

#[test]
fn a_namespace_that_breaks_fails_closed() {
    let fed = cluster(&json!({}));
    let server = fed.start();
    let mut shop = namespace("shop", None);
    shop["metadata"]["labels"] = json!({"admin.solo.io/segment": 7});
    fed.api.apply(shop);
    until_answered(fed.at, (SHOP, WEB, SERVFAIL, &[]), MOMENTS);
    assert!(reports(&server).contains("shop"), "{}", reports(&server));
    fed.api.apply(namespace("shop", None));
    until_answered(fed.at, (SHOP, WEB, 0, &["10.0.0.1"]), MOMENTS);
    server.stop().expect("it stops");
}

#[test]
fn what_is_odd_but_legal_is_read() {
    let fed = cluster(&json!({}));
    let mut odd = service("shop", "odd", "segment", "10.0.3.2");
    let deep = (0..100).fold(json!(1), |inner, _| json!({"a": [inner]}));
    odd["spec"]["unknown"] = deep;
    odd["unknown"] = json!([1, {"x": null}, -1.5e300, u64::MAX]);
    odd["metadata"]["annotations"] = json!({"long": "x".repeat(1 << 20), "odd": "\u{0}\u{1f600}\"\\\n"});
    odd["metadata"]["ownerReferences"] = Value::Null;
    fed.api.apply(odd);
    let server = fed.start();
    fed.is(SHOP, "odd.shop.mesh.acme", 0, &["10.0.3.2"]);
    fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
    server.stop().expect("it stops");
}

/// A list of Services as it stands in the body of an answer.
fn list(version: u64, items: &Value) -> Failure {
    Failure::Status(json!({
        "kind": "ServiceList", "apiVersion": "v1", "code": 200,
        "metadata": {"resourceVersion": version.to_string()}, "items": items,
    }))
}

#[test]
fn a_list_with_odd_items_is_read_but_for_them() {
    let fed = cluster(&json!({}));
    let api = fed.api.double();
    api.streaming_lists(Streaming::Refused);
    let server = fed.start();
    let steady = steadily(&fed);
    let keep = service("shop", "keep", "segment", "10.0.0.9");
    let items = json!([
        null, 5, "x", [], [[{}]], true, {}, {"metadata": null}, {"metadata": 7}, {"metadata": {"name": 7}},
        {"metadata": {"name": null, "namespace": null}}, {"metadata": {"name": "nowhere"}},
        broken(json!("labels")), keep, {"spec": 5, "metadata": {"name": "odd", "namespace": "shop"}},
        service("shop", "listed", "segment", "10.0.3.3"),
    ]);
    api.stop();
    fed.api.delete("v1", "Service", "shop", "gone");
    api.compact();
    api.fail("services", Some(Verb::List), list(api.version(), &items), Times::Next(1));
    api.resume();
    until_answered(fed.at, (SHOP, "listed.shop.mesh.acme", 0, &["10.0.3.3"]), RECOVERY);
    fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
    fed.is(SHOP, "gone.shop.mesh.acme", 3, &[]);
    let told = reports(&server);
    assert!(told.contains("Service shop/web") && told.contains("Service shop/odd"), "{told}");
    well("a list with odd items", Duration::ZERO, steady, server);
}

#[test]
fn odd_events_are_passed_over_and_unreadable_ones_lead_to_a_new_list() {
    let fed = cluster(&json!({}));
    let api = fed.api.double();
    let server = fed.start();
    let steady = steadily(&fed);
    let odd = [
        r#"{"type":"MODIFIED","object":null}"#,
        r#"{"type":"ADDED","object":{"metadata":null}}"#,
        r#"{"type":"DELETED","object":{"metadata":{"namespace":"shop"}}}"#,
        r#"{"type":"DELETED","object":[]}"#,
        r#"{"type":"DELETED","object":{"metadata":{"name":"never","namespace":"shop"}}}"#,
        r#"{"type":"BOOKMARK","object":7}"#,
        r#"{"type":"WHAT","object":{"metadata":{"name":"web","namespace":"shop"}}}"#,
        "",
        r#"{"object":{"metadata":{"name":"never","namespace":"shop","labels":7}},"type":"MODIFIED","more":{}}"#,
    ];
    odd.iter().for_each(|line| api.send_line("services", line));
    fed.api.apply(service("shop", "after", "segment", "10.0.3.1"));
    until_answered(fed.at, (SHOP, "after.shop.mesh.acme", 0, &["10.0.3.1"]), MOMENTS);
    assert!(reports(&server).contains("Service shop/never"), "{}", reports(&server));
    for (at, line) in ["no JSON", r#"{"type":7}"#, r#"{"type":"ADDED","object":"#].into_iter().enumerate() {
        api.send_line("services", line);
        let address = format!("10.0.4.{at}");
        fed.api.apply(service("shop", "after", "segment", &address));
        until_answered(fed.at, (SHOP, "after.shop.mesh.acme", 0, &[&address]), RECOVERY);
    }
    // The new list did not tell shop/never, so its report is gone, too.
    until("no reports", RECOVERY, || !reports(&server).contains("shop/never"));
    until_well(&server, RECOVERY);
    well("odd events", Duration::ZERO, steady, server);
}
