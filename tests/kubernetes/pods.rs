//! Addresses of pods that are used again.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::in_every_lab;
use crate::moments::{World, during};
use crate::support::HERE;
use crate::support::fed::{FAR, Fed, Lab, SHOP};
use crate::support::objects::{merge, namespace, pod, segment, service};

in_every_lab! {
    an_address_goes_from_a_pod_that_is_deleted_to_a_new_one_of_another_segment,
}

/// Three segments, so that a pod of shop, one of far and the node are all told apart. Each sees only its own service.
fn apart(lab: Lab) -> Fed {
    let fed = Fed::new(lab, &json!({}));
    fed.api.apply_all([
        segment("third", "mesh.third"),
        namespace("shop", Some("acme")),
        namespace("istio-system", Some("third")),
        service("far", "own", "segment", "10.0.0.8"),
        service("istio-system", "own", "segment", "10.0.0.9"),
    ]);
    fed
}

/// What they answer while [`SHOP`] is of this segment.
fn shop_is(segment: &'static str) -> World {
    World {
        segments: vec![("acme", "mesh.acme"), ("other", "mesh.other"), ("third", "mesh.third")],
        callers: vec![(SHOP, Some(segment)), (FAR, Some("other")), (HERE, Some("third"))],
        services: vec![
            ("web.shop", Some("acme"), "segment", vec!["10.0.0.1"]),
            ("own.far", Some("other"), "segment", vec!["10.0.0.8"]),
            ("own.istio-system", Some("third"), "segment", vec!["10.0.0.9"]),
        ],
        others: Vec::new(),
    }
}

fn an_address_goes_from_a_pod_that_is_deleted_to_a_new_one_of_another_segment(lab: Lab) {
    let fed = apart(lab);
    let server = fed.start();
    // In between it is an address of no pod, and on this machine one of the node's.
    during(&fed, &[shop_is("acme"), shop_is("third"), shop_is("other")], || {
        fed.api.delete("v1", "Pod", "shop", "a");
        fed.api.apply(pod("far", "new", SHOP));
    });
    during(&fed, &[shop_is("other"), shop_is("third"), shop_is("acme")], || {
        fed.api.delete("v1", "Pod", "far", "new");
        fed.api.apply(pod("shop", "again", SHOP));
    });
    // One that has ended is no caller any more, and does not come back.
    let mut ended = pod("shop", "again", SHOP);
    merge(&mut ended, &json!({"status": {"phase": "Succeeded"}}));
    during(&fed, &[shop_is("acme"), shop_is("third")], || fed.api.apply(ended));
    server.stop().expect("it stops");
}

fn created(ns: &str, name: &str, ip: IpAddr, when: &str) -> Value {
    let mut pod = pod(ns, name, ip);
    merge(&mut pod, &json!({"metadata": {"creationTimestamp": when}}));
    pod
}

/// A real API server decides creation and deletion times itself.
#[test]
fn of_two_pods_with_one_address_the_newest_that_is_not_terminating_has_it() {
    let fed = apart(Lab::Double);
    let old = |state: Value| {
        let mut old = created("shop", "a", SHOP, "2025-03-01T10:00:00Z");
        merge(&mut old, &state);
        old
    };
    let new = created("far", "new", SHOP, "2025-03-01T10:00:05Z");
    let terminating = json!({"metadata": {"deletionTimestamp": "2025-03-01T10:00:30Z"}});
    fed.api.apply(old(json!({})));
    let server = fed.start();
    // The new one is there before the old one is gone; the address is never the node's.
    during(&fed, &[shop_is("acme"), shop_is("other")], || {
        fed.api.apply(new.clone());
        fed.api.apply(old(terminating.clone()));
        fed.api.delete("v1", "Pod", "shop", "a");
    });
    // A terminating pod stays until it is gone, or until there is another.
    let mut leaving = new;
    merge(&mut leaving, &terminating);
    during(&fed, &[shop_is("other"), shop_is("other")], || fed.api.apply(leaving.clone()));
    during(&fed, &[shop_is("other"), shop_is("acme")], || fed.api.apply(old(json!({}))));
    during(&fed, &[shop_is("acme"), shop_is("acme")], || fed.api.delete("v1", "Pod", "far", "new"));
    during(&fed, &[shop_is("acme"), shop_is("acme")], || fed.api.apply(old(terminating)));
    during(&fed, &[shop_is("acme"), shop_is("third")], || fed.api.delete("v1", "Pod", "shop", "a"));
    server.stop().expect("it stops");
}
