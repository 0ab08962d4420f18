//! What is wrong with objects becomes Kubernetes Events at these objects: written by one node, with what `deploy/rbac*.yaml`
//! grant, against an API server inside the test or a real one.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::fed::{Api, Fed, Lab, SOON};
use support::objects::{load, namespace, segment, service};
use support::server::Server;

const LOOK: Duration = Duration::from_millis(50);

/// A cluster whose account has its pods in kube-system, as in `deploy/`.
fn fed(lab: Lab, events: &Value) -> Fed {
    let fed = Fed::new(lab, &json!({"sources": {"kubernetes": {"events": events}}}));
    let text = std::fs::read_to_string(fed.kubeconfig()).expect("a kubeconfig");
    let here = text.replacen("    user: test\n", "    namespace: kube-system\n    user: test\n", 1);
    assert!(here != text, "{text}");
    std::fs::write(fed.kubeconfig(), here).expect("written");
    fed
}

fn grant(fed: &Fed) {
    if let Api::Real(api) = &fed.api {
        api.apply_all(load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rbac-events.yaml")));
    }
}

fn events(fed: &Fed) -> Vec<Value> {
    let all = match &fed.api {
        Api::Double(api) => json!(api.snapshot()),
        Api::Real(api) => serde_json::from_str::<Value>(&api.kubectl(&["get", "events", "-A", "-o", "json"]))
            .expect("JSON")["items"]
            .clone(),
    };
    let ours = |object: &&Value| object["kind"] == "Event" && object["source"]["component"] == "segdns";
    all.as_array().expect("a list").iter().filter(ours).cloned().collect()
}

fn until(fed: &Fed, server: &Server, what: &str, is: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let end = Instant::now() + SOON;
    loop {
        let all = events(fed);
        if is(&all) {
            return all;
        }
        assert!(Instant::now() < end, "{what}: {all:#?}\n{}", server.log());
        std::thread::sleep(LOOK);
    }
}

/// Something wrong with a Namespace, a Segment and a Service.
fn break_three(fed: &Fed) {
    fed.api.apply(namespace("lost", Some("ghost")));
    fed.api.apply(segment("late", "mesh.acme"));
    let mut odd = service("shop", "odd", "segment", "10.0.0.7");
    odd["metadata"]["labels"]["solo.io/service-scope"] = "everywhere".into();
    fed.api.apply(odd);
}

fn reports_become_events_at_their_objects(lab: Lab) {
    let fed = fed(lab, &json!(true));
    grant(&fed);
    let server = fed.start();
    break_three(&fed);
    let all = until(&fed, &server, "three Events", |all| all.len() == 3);
    let of = |kind: &str| all.iter().find(|e| e["involvedObject"]["kind"] == kind).unwrap_or_else(|| panic!("{kind}"));
    for (kind, name, place, reason) in [
        ("Namespace", "lost", "default", "SegmentLabelInvalid"),
        ("Segment", "late", "istio-system", "SegmentInvalid"),
        ("Service", "odd", "shop", "ScopeInvalid"),
    ] {
        let event = of(kind);
        assert_eq!((&event["involvedObject"]["name"], &event["reason"]), (&json!(name), &json!(reason)), "{event}");
        assert_eq!(event["metadata"]["namespace"], place, "{event}");
        assert!(event["involvedObject"]["uid"].as_str().is_some_and(|uid| uid.len() == 36), "{event}");
        assert!(event["message"].as_str().is_some_and(|m| m.contains("; ")), "what to do: {event}");
    }
    if let Api::Real(api) = &fed.api {
        let told = api.kubectl(&["describe", "service", "odd", "-n", "shop"]);
        assert!(told.contains("ScopeInvalid"), "{told}");
    }
    // A second process, as in an upgrade or on another node, finds the Lease held.
    let mut other = fed.config.clone();
    for key in ["listen", "admin"] {
        let at = format!("{}:{}", support::HERE, support::free_port());
        other[key] = if key == "listen" { json!([at]) } else { json!(at) };
    }
    let _ = other["sources"].as_object_mut().map(|sources| sources.remove("snapshot"));
    let mut second = Server::spawn_fed(&other, Some(&fed.kubeconfig())).expect("a process");
    second.wait_ready().unwrap_or_else(|e| panic!("{e}"));
    std::thread::sleep(Duration::from_secs(4));
    let again = events(&fed);
    assert!(again.len() == 3 && again.iter().all(|event| event["count"] == 1), "{again:#?}");
    assert!(!second.log().contains("Events"), "{}", second.log());
    second.stop().expect("it stops");
    server.stop().expect("it stops");
}

fn without_the_right_to_write_it_says_so_once_and_serves(lab: Lab) {
    let fed = fed(lab, &json!(true));
    if let Api::Double(api) = &fed.api {
        let reads = |group: &str, resources: &[&str]| support::apiserver::Rule {
            namespace: None,
            groups: vec![group.to_owned()],
            resources: resources.iter().map(|&r| r.to_owned()).collect(),
            verbs: vec!["list".to_owned(), "watch".to_owned()],
        };
        api.set_rbac(Some(vec![reads("*", &["*"])]));
    }
    let server = fed.start();
    break_three(&fed);
    let end = Instant::now() + SOON;
    while !server.log().contains("deploy/rbac-events.yaml") {
        assert!(Instant::now() < end, "{}", server.log());
        std::thread::sleep(LOOK);
    }
    fed.until(support::fed::SHOP, "odd.shop.mesh.acme", support::fed::NXDOMAIN, &[]);
    std::thread::sleep(Duration::from_secs(2));
    let said = server.log().matches("deploy/rbac-events.yaml").count();
    assert_eq!((said, events(&fed).len()), (1, 0), "{}", server.log());
    server.stop().expect("it stops");
}

fn switched_off_nothing_is_written(lab: Lab) {
    let fed = fed(lab, &json!(false));
    grant(&fed);
    let server = fed.start();
    break_three(&fed);
    let end = Instant::now() + SOON;
    while !server.log().contains("ghost") {
        assert!(Instant::now() < end, "{}", server.log());
        std::thread::sleep(LOOK);
    }
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(events(&fed).len(), 0);
    server.stop().expect("it stops");
}

in_every_lab! {
    reports_become_events_at_their_objects,
    without_the_right_to_write_it_says_so_once_and_serves,
    switched_off_nothing_is_written,
}
