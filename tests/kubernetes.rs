//! Fed by an API server: what changes there is answered, through the binary, at every moment in between, too.

mod support;

#[path = "kubernetes/cli.rs"]
mod cli;
#[path = "kubernetes/moments.rs"]
mod moments;
#[path = "kubernetes/peers.rs"]
mod peers;
#[path = "kubernetes/pods.rs"]
mod pods;

use moments::{World, during};
use serde_json::{Value, json};
use support::HERE;
use support::fed::{FAR, Fed, Lab, NXDOMAIN, SHOP};
use support::objects::{merge, namespace, segment, service, slice};

const WEB: &str = "web.shop.mesh.acme";

in_every_lab! {
    what_the_api_server_has_is_answered_and_follows_its_changes,
    a_namespace_of_another_segment_takes_its_names_and_callers_along_at_once,
    a_cluster_of_another_segment_takes_everything_along_at_once,
    a_scope_holds_for_everyone_at_once,
    a_domain_changes_for_all_names_at_once,
    endpoints_are_replaced_and_never_mixed,
    takeover_comes_and_goes_with_its_label,
}

fn what_the_api_server_has_is_answered_and_follows_its_changes(lab: Lab) {
    let fed = Fed::new(lab, &json!({}));
    let server = fed.start();
    fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
    fed.is(FAR, WEB, NXDOMAIN, &[]);
    fed.api.apply(service("shop", "web", "global", "10.0.0.2"));
    fed.until(SHOP, WEB, 0, &["10.0.0.2"]);
    fed.until(FAR, WEB, 0, &["10.0.0.2"]);
    fed.api.delete("v1", "Service", "shop", "web");
    fed.until(SHOP, WEB, NXDOMAIN, &[]);
    server.stop().expect("it stops");
}

/// A headless Service with this scope.
fn headless(ns: &str, name: &str, scope: &str) -> Value {
    let mut service = service(ns, name, scope, "");
    service["spec"] = json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "http", "port": 80}]});
    service
}

/// A slice with these endpoints.
fn endpoints(ns: &str, service: &str, ips: &[&str]) -> Value {
    let mut slice = slice(ns, service, "");
    slice["endpoints"] = ips.iter().map(|ip| json!({"addresses": [ip]})).collect();
    slice
}

/// [`Fed::new`] with more services: `many.shop` has three addresses, `open.shop` is seen everywhere, `own.far` and
/// `own.rest` only in their segment.
fn busy(lab: Lab) -> Fed {
    let fed = Fed::new(lab, &json!({}));
    fed.api.apply_all([
        namespace("rest", None),
        headless("shop", "many", "segment"),
        endpoints("shop", "many", &["10.6.0.1", "10.6.0.2", "10.6.0.3"]),
        service("shop", "open", "global", "10.0.0.7"),
        service("far", "own", "segment", "10.0.0.8"),
        service("rest", "own", "segment", "10.0.0.9"),
    ]);
    fed
}

/// What [`busy`] answers when the namespaces shop and rest are of these segments, and the node is of rest's.
fn of(shop: Option<&'static str>, rest: &'static str) -> World {
    World {
        segments: vec![("acme", "mesh.acme"), ("other", "mesh.other"), ("default", "mesh.internal")],
        callers: vec![(SHOP, shop), (FAR, Some("other")), (HERE, Some(rest))],
        services: vec![
            ("web.shop", shop, "segment", vec!["10.0.0.1"]),
            ("many.shop", shop, "segment", vec!["10.6.0.1", "10.6.0.2", "10.6.0.3"]),
            ("open.shop", shop, "global", vec!["10.0.0.7"]),
            ("own.far", Some("other"), "segment", vec!["10.0.0.8"]),
            ("own.rest", Some(rest), "segment", vec!["10.0.0.9"]),
        ],
        others: Vec::new(),
    }
}

fn a_namespace_of_another_segment_takes_its_names_and_callers_along_at_once(lab: Lab) {
    let fed = busy(lab);
    let server = fed.start();
    let label = |segment: Option<&str>| fed.api.apply(namespace("shop", segment));
    let [acme, other, nowhere] = [Some("acme"), Some("other"), None].map(|segment| of(segment, "acme"));
    during(&fed, &[acme.clone(), other.clone()], || label(Some("other")));
    during(&fed, &[other.clone(), acme.clone()], || label(None));
    // R3: one that does not exist closes it; the Segment's arrival would open it.
    during(&fed, &[acme.clone(), nowhere.clone()], || label(Some("nowhere")));
    during(&fed, &[nowhere, of(Some("default"), "acme")], || label(Some("default")));
    during(&fed, &[of(Some("default"), "acme"), other.clone()], || label(Some("other")));
    // Two changes: what is between them may be seen, and nothing else.
    during(&fed, &[other.clone(), acme.clone(), other], || {
        label(None);
        label(Some("other"));
    });
    server.stop().expect("it stops");
}

fn a_cluster_of_another_segment_takes_everything_along_at_once(lab: Lab) {
    let fed = busy(lab);
    let server = fed.start();
    let label = |segment: Option<&str>| fed.api.apply(namespace("istio-system", segment));
    let [acme, other, default] = ["acme", "other", "default"].map(|segment| of(Some(segment), segment));
    during(&fed, &[acme.clone(), other.clone()], || label(Some("other")));
    during(&fed, &[other, default.clone()], || label(None));
    during(&fed, &[default.clone(), acme.clone()], || label(Some("acme")));
    // A namespace's own label is not touched.
    fed.api.apply(namespace("shop", Some("acme")));
    during(&fed, &[acme, of(Some("acme"), "default")], || label(Some("default")));
    server.stop().expect("it stops");
}

fn a_scope_holds_for_everyone_at_once(lab: Lab) {
    let fed = busy(lab);
    let server = fed.start();
    let scoped = |scope: &'static str| {
        let mut world = of(Some("acme"), "acme");
        world.services[0].2 = scope;
        world
    };
    let scopes = ["segment", "global", "cluster", "global-only", "segment"];
    for pair in scopes.windows(2) {
        during(&fed, &[scoped(pair[0]), scoped(pair[1])], || {
            fed.api.apply(service("shop", "web", pair[1], "10.0.0.1"));
        });
    }
    server.stop().expect("it stops");
}

fn a_domain_changes_for_all_names_at_once(lab: Lab) {
    let fed = busy(lab);
    let server = fed.start();
    let with = |domain: &'static str| {
        let mut world = of(Some("acme"), "acme");
        world.segments[0].1 = domain;
        world
    };
    during(&fed, &[with("mesh.acme"), with("mesh.new")], || fed.api.apply(segment("acme", "mesh.new")));
    during(&fed, &[with("mesh.new"), with("new")], || fed.api.apply(segment("acme", "new")));
    during(&fed, &[with("new"), with("mesh.acme")], || fed.api.apply(segment("acme", "mesh.acme")));
    server.stop().expect("it stops");
}

fn endpoints_are_replaced_and_never_mixed(lab: Lab) {
    let fed = busy(lab);
    let server = fed.start();
    let with = |addresses: &[&'static str]| {
        let mut world = of(Some("acme"), "acme");
        world.services[1].3 = addresses.to_vec();
        world
    };
    let (old, new) = (["10.6.0.1", "10.6.0.2", "10.6.0.3"], ["10.6.1.1", "10.6.1.2", "10.6.1.3"]);
    during(&fed, &[with(&old), with(&new)], || fed.api.apply(endpoints("shop", "many", &new)));
    // Two slices are two objects: what is between them may be seen.
    let mut second = endpoints("shop", "many", &["10.6.2.1"]);
    merge(&mut second, &json!({"metadata": {"name": "many-2"}}));
    let both = ["10.6.1.1", "10.6.1.2", "10.6.1.3", "10.6.2.1"];
    during(&fed, &[with(&new), with(&both), with(&["10.6.2.1"])], || {
        fed.api.apply(second);
        fed.api.delete("discovery.k8s.io/v1", "EndpointSlice", "shop", "many-1");
    });
    server.stop().expect("it stops");
}

fn takeover_comes_and_goes_with_its_label(lab: Lab) {
    let fed = busy(lab);
    let server = {
        let mut config = fed.config.clone();
        merge(&mut config, &json!({"policy": {"takeoverFor": "all"}}));
        let mut server = support::server::Server::spawn_fed(&config, Some(&fed.kubeconfig())).expect("a process");
        server.wait_ready().expect("ready");
        server
    };
    // FAR is of another segment, so that it is forwarded, to an upstream that knows no such name.
    let taken = |on: bool| World {
        segments: of(None, "acme").segments,
        callers: vec![(SHOP, Some("acme")), (HERE, Some("acme"))],
        services: vec![("web.shop", Some("acme"), "segment", vec!["10.0.0.1"])],
        others: vec![("web.shop.svc.cluster.local", if on { vec!["10.0.0.1"] } else { Vec::new() })],
    };
    let label = |value: Option<&str>| {
        let mut web = service("shop", "web", "segment", "10.0.0.1");
        if let Some(value) = value {
            merge(&mut web, &json!({"metadata": {"labels": {"solo.io/service-takeover": value}}}));
        }
        fed.api.apply(web);
    };
    during(&fed, &[taken(false), taken(true)], || label(Some("true")));
    during(&fed, &[taken(true), taken(false)], || label(Some("false")));
    during(&fed, &[taken(false), taken(true)], || label(Some("true")));
    fed.is(FAR, "web.shop.svc.cluster.local", NXDOMAIN, &[]);
    during(&fed, &[taken(true), taken(false)], || label(None));
    server.stop().expect("it stops");
}
