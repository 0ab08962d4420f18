//! The API server of the tests answers as a real one does: held against the recordings in `fixtures-apiserver`. Its faults
//! are in `apiserver/faults.rs`.

#[path = "apiserver/faults.rs"]
mod faults;
#[path = "support"]
mod support {
    #![allow(dead_code, reason = "every test crate uses its own part of this")]

    pub mod apiserver;
    pub mod apiserver_client;
}

use std::time::Duration;

use serde_json::{Value, json};
use support::apiserver::{ApiServer, Failure, Rule, Times, Verb};
use support::apiserver_client::{
    Answer, Ask, Connection, End, fetch, get, recorded, shape, watch, without_numbers, word,
};

/// How long anything may take that happens at once.
const SOON: Duration = Duration::from_secs(10);

fn service(name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "spec": {"clusterIP": "10.96.0.9"},
    })
}

/// A server with the objects of the recorded one.
fn recorded_server() -> ApiServer {
    let server = ApiServer::start();
    for (list, kind) in [("list-services", "Service"), ("list-endpointslices", "EndpointSlice"), ("list-pods", "Pod")] {
        let list = recorded(list).1.json().expect("a list");
        for item in list["items"].as_array().expect("items") {
            let mut item = item.clone();
            item["kind"] = kind.into();
            item["apiVersion"] = list["apiVersion"].clone();
            server.apply(item);
        }
    }
    server
}

/// Writes until this version is reached.
fn reach(server: &ApiServer, version: u64) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "counted"}});
    while server.apply(namespace.clone()) < version {}
}

fn segments(server: &ApiServer) {
    server.install_crd("admin.solo.io", &["v1alpha1"], "segments", "Segment");
}

fn check_head(name: &str, real: &Answer, ours: &Answer) {
    assert_eq!(ours.code, real.code, "{name}: {ours:?}");
    for header in ["content-type", "retry-after", "cache-control", "x-content-type-options"] {
        assert_eq!(ours.headers.get(header), real.headers.get(header), "{name}: {header}");
    }
}

/// Asks what was asked then, and compares.
fn check(server: &ApiServer, name: &str) {
    check_as(server, name, None);
}

fn check_as(server: &ApiServer, name: &str, token: Option<&str>) {
    let (path, real) = recorded(name);
    let ours = fetch(server, &Ask { token: token.map(ToOwned::to_owned), ..Ask::new(&path) });
    check_head(name, &real, &ours);
    match (real.json(), ours.json()) {
        (Some(real), Some(ours)) if real["kind"] == "Status" => {
            assert_eq!(without_numbers(&ours), without_numbers(&real), "{name}");
            assert_eq!((&ours["code"], &ours["details"]), (&real["code"], &real["details"]), "{name}");
        }
        (Some(real), Some(ours)) => {
            assert_eq!(shape(&ours), shape(&real), "{name}");
            assert_eq!((&ours["kind"], &ours["apiVersion"]), (&real["kind"], &real["apiVersion"]), "{name}");
        }
        (None, None) => assert_eq!(ours.body.trim_end(), real.body.trim_end(), "{name}"),
        (real, ours) => panic!("{name}: {ours:?}, not {real:?}"),
    }
}

fn check_lines(name: &str, real: &[Value], ours: &[Value]) {
    let words = |lines: &[Value]| lines.iter().map(word).collect::<Vec<_>>();
    assert_eq!(words(ours), words(real), "{name}");
    for (ours, real) in ours.iter().zip(real) {
        assert_eq!(shape(ours), shape(real), "{name}: {ours}");
        if real["type"] == "ERROR" {
            assert_eq!(without_numbers(ours), without_numbers(real), "{name}");
        }
    }
}

#[test]
fn discovery_is_that_of_a_real_server() {
    let server = recorded_server();
    for name in ["version", "api", "apis-discovery"] {
        check(&server, name);
    }
    assert_eq!(get(&server, "/version").json(), recorded("version").1.json());
    assert_eq!(get(&server, "/apis/admin.solo.io/v1alpha1").code, 404);
    segments(&server);
    let found = get(&server, "/apis/admin.solo.io/v1alpha1").json().expect("JSON");
    assert_eq!(found["resources"][0]["name"], "segments");
    let groups = get(&server, "/apis").json().expect("JSON");
    assert_eq!(groups["groups"][0]["preferredVersion"]["groupVersion"], "admin.solo.io/v1alpha1");
}

#[test]
fn lists_are_those_of_a_real_server() {
    let server = recorded_server();
    let names = ["list-services", "list-services-rv0", "list-services-page1", "list-endpointslices", "list-pods"];
    for name in names.into_iter().chain(["list-selector-none"]) {
        check(&server, name);
    }
}

#[test]
fn failures_are_those_of_a_real_server() {
    let server = recorded_server();
    let missing = ["err-404-crd-missing-list", "err-404-crd-missing-watch", "err-404-group-admin", "err-404-object"];
    for name in missing.into_iter().chain(["list-exact-expired", "list-rv-future", "watch-rv-bad"]) {
        check(&server, name);
    }
    check_as(&server, "err-401", Some("another"));

    reach(&server, 310);
    server.compact();
    check(&server, "list-continue-expired");

    segments(&server);
    server.fail("segments", None, Failure::Reinitializing, Times::Next(2));
    check(&server, "fresh-crd-watch-1");
    check(&server, "list-segments");

    server.set_rbac(Some(Vec::new()));
    check(&server, "err-403-list");
    check(&server, "err-403-watch");
}

#[test]
fn streaming_lists_are_those_of_a_real_server() {
    let server = recorded_server();
    let (path, real) = recorded("watch-streaminglist");
    let (mut ours, head) = Connection::ask(&server, &Ask::new(&path)).expect("an answer");
    check_head("watch-streaminglist", &real, &head);
    let lines: Vec<Value> = (0..5).map(|_| ours.line().expect("a line")).collect();
    check_lines("watch-streaminglist", &real.lines(), &lines);

    segments(&server);
    let (path, real) = recorded("fresh-crd-watch-2");
    let (lines, end) = watch(&server, &path).lines();
    check_lines("fresh-crd-watch-2", &real.lines(), &lines);
    assert_eq!(end, End::Proper, "after timeoutSeconds=1");
}

#[test]
fn versions_of_watches_are_treated_as_by_a_real_server() {
    let server = recorded_server();
    let (path, real) = recorded("watch-rv-1-expired");
    let (lines, end) = watch(&server, &path).lines();
    check_lines("watch-rv-1-expired", &real.lines(), &lines);
    assert_eq!(end, End::Proper);

    let mut future = watch(&server, &recorded("watch-rv-future").0);
    let before = server.version();
    server.apply(service("new", json!({})));
    let mut replay = watch(&server, &format!("/api/v1/services?watch=true&resourceVersion={before}"));
    assert_eq!(replay.word(), "ADDED new");
    server.cut();
    assert_eq!(future.lines(), (Vec::new(), End::Cut(String::new())));

    reach(&server, 281);
    let (path, real) = recorded("watch-timeout");
    let quick = path.replace("timeoutSeconds=3", "timeoutSeconds=1");
    let (lines, end) = watch(&server, &quick).lines();
    check_lines("watch-timeout", &real.lines(), &lines);
    assert_eq!(end, End::Proper);
}

#[test]
fn a_live_watch_is_that_of_a_real_server() {
    let server = recorded_server();
    let (path, real) = recorded("watch-live");
    let mut real = real.lines();
    // The real one may say at the end twice how far it is.
    real.dedup_by(|a, b| word(a) == "BOOKMARK" && word(b) == "BOOKMARK");
    let mut stream = watch(&server, &path.replace("timeoutSeconds=6", "timeoutSeconds=2"));
    let mut ours = vec![stream.line().expect("a bookmark")];
    let labelled = |at: usize, label: Option<&str>| {
        let mut object = real[at]["object"].clone();
        let labels = object["metadata"]["labels"].as_object_mut().expect("labels");
        match label {
            Some(value) => labels.insert("t".to_owned(), value.into()),
            None => labels.remove("t"),
        };
        server.apply(object)
    };
    labelled(1, None);
    labelled(1, Some("1"));
    labelled(2, Some("1"));
    let gone = labelled(2, Some("2"));
    labelled(4, Some("1"));
    server.delete("v1", "Service", "shop", "tr");
    let (rest, end) = stream.lines();
    ours.extend(rest);
    check_lines("watch-live", &real, &ours);
    assert_eq!(end, End::Proper);
    let deleted = &ours[3]["object"]["metadata"];
    assert_eq!((&deleted["labels"]["t"], &deleted["resourceVersion"]), (&json!("1"), &json!(gone.to_string())));
}

#[test]
fn a_crd_goes_as_on_a_real_server() {
    let server = ApiServer::start();
    segments(&server);
    let (path, real) = recorded("watch-crd-deleted");
    let real = real.lines();
    server.apply(real[0]["object"].clone());
    let mut stream = watch(&server, &path);
    let mut ours = vec![stream.line().expect("a segment"), stream.line().expect("a bookmark")];
    server.remove_crd("admin.solo.io", "segments");
    let (rest, end) = stream.lines();
    ours.extend(rest);
    check_lines("watch-crd-deleted", &real, &ours);
    assert_eq!(end, End::Proper);
    check(&server, "err-404-crd-missing-watch");

    // It may come back, in other versions.
    server.install_crd("admin.solo.io", &["v1", "v1alpha1"], "segments", "Segment");
    server.apply(real[0]["object"].clone());
    for version in ["v1", "v1alpha1"] {
        let list = get(&server, &format!("/apis/admin.solo.io/{version}/segments")).json().expect("JSON");
        assert_eq!(list["items"][0]["apiVersion"], format!("admin.solo.io/{version}"));
        assert_eq!(list["items"][0]["kind"], "Segment");
    }
}

#[test]
fn pages_are_of_one_version() {
    let server = ApiServer::start();
    for name in ["a", "b", "c", "d", "e"] {
        server.apply(service(name, json!({})));
    }
    let names = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items");
        items.iter().map(|i| i["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
    };
    let page = |query: &str| get(&server, &format!("/api/v1/namespaces/shop/services?limit=2{query}"));
    let first = page("").json().expect("JSON");
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    let token = first["metadata"]["continue"].as_str().expect("a token");

    server.delete("v1", "Service", "shop", "c");
    server.apply(service("bb", json!({})));
    let second = page(&format!("&continue={token}")).json().expect("JSON");
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);

    server.compact();
    let expired = page(&format!("&continue={token}"));
    assert_eq!(expired.code, 410);
    let token = expired.json().expect("JSON")["metadata"]["continue"].as_str().expect("a token").to_owned();
    assert_eq!(names(&page(&format!("&continue={token}")).json().expect("JSON")), ["bb", "d"]);
}

#[test]
fn selectors_select() {
    let server = ApiServer::start();
    server.apply(service("one", json!({"a": "1", "b": "x"})));
    server.apply(service("two", json!({"a": "2"})));
    server.apply(service("none", json!({})));
    let cases = [
        ("labelSelector=a%3D1", "one"),
        ("labelSelector=a%3D%3D2", "two"),
        ("labelSelector=a%21%3D1", "none two"),
        ("labelSelector=a+in+%281%2C2%29%2C%21b", "two"),
        ("labelSelector=a+notin+%282%29", "none one"),
        ("labelSelector=b", "one"),
        ("labelSelector=%21a", "none"),
        ("fieldSelector=metadata.name%3Dtwo", "two"),
        ("fieldSelector=metadata.namespace%21%3Dshop", ""),
    ];
    for (query, wanted) in cases {
        let list = get(&server, &format!("/api/v1/services?{query}")).json().expect("JSON");
        let items = list["items"].as_array().expect("items").iter();
        let names: Vec<&str> = items.map(|i| i["metadata"]["name"].as_str().expect("a name")).collect();
        assert_eq!(names.join(" "), wanted, "{query}");
    }
    let pod = |name: &str, node: &str| {
        let metadata = json!({"name": name, "namespace": "shop"});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": node}})
    };
    server.apply(pod("here", "n1"));
    server.apply(pod("there", "n2"));
    let mut stream = watch(&server, "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1");
    assert_eq!(stream.word(), "ADDED here");
    assert_eq!(get(&server, "/api/v1/services?fieldSelector=spec.nodeName%3Dn1").code, 400);
}

#[test]
fn metadata_alone_comes_when_asked_for() {
    let server = recorded_server();
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = fetch(&server, &Ask { accept, ..Ask::new("/api/v1/pods") }).json().expect("JSON");
    let item = &list["items"][0];
    assert_eq!((&list["kind"], &item["kind"]), (&json!("PartialObjectMetadataList"), &json!("PartialObjectMetadata")));
    assert_eq!((&item["metadata"]["labels"]["app"], &item["spec"]), (&json!("web"), &Value::Null));
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let path =
        "/api/v1/pods?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let (mut stream, _) = Connection::ask(&server, &Ask { accept, ..Ask::new(path) }).expect("an answer");
    let line = stream.line().expect("a pod");
    assert_eq!((&line["object"]["apiVersion"], &line["object"]["spec"]), (&json!("meta.k8s.io/v1"), &Value::Null));
    assert_eq!(stream.word(), "BOOKMARK end");
}

#[test]
fn rules_and_tokens_say_who_may_do_what() {
    let server = recorded_server();
    let words = |list: &[&str]| list.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
    let rule = Rule {
        namespace: Some("shop".to_owned()),
        groups: words(&[""]),
        resources: words(&["services"]),
        verbs: words(&["list"]),
    };
    server.set_rbac(Some(vec![rule]));
    assert_eq!(get(&server, "/api/v1/namespaces/shop/services").code, 200);
    let codes = ["/api/v1/services", "/api/v1/namespaces/shop/services?watch=true", "/apis/foo.io/v1/bars"];
    assert_eq!(codes.map(|path| get(&server, path).code), [403, 403, 403]);
    let denied = get(&server, "/apis/foo.io/v1/namespaces/shop/bars").json().expect("JSON");
    let message = r#"bars.foo.io is forbidden: User "nobody" cannot list resource "bars" in API group "foo.io" in the namespace "shop""#;
    assert_eq!(denied["message"], message);
    server.set_token("next");
    assert_eq!(get(&server, "/api/v1/namespaces/shop/services").code, 200);
    assert!(server.kubeconfig().contains("token: next"));
    server.wait_for("five lists", SOON, |seen| seen.count(Verb::List, "*") == 5).expect("they are in the log");
}

#[test]
fn the_client_of_segdns_understands_it() {
    let server = recorded_server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let config = kube::config::Kubeconfig::from_yaml(&server.kubeconfig()).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.expect("a configuration");
        let client = kube::Client::try_from(config).expect("a client");
        let services = kube::Api::<k8s_openapi::api::core::v1::Service>::all(client);
        let page = services.list(&kube::api::ListParams::default().limit(3)).await.expect("a list");
        assert_eq!((page.items.len(), page.metadata.remaining_item_count), (3, Some(1)));
        let metadata = services.list_metadata(&Default::default()).await.expect("a list");
        assert_eq!(metadata.items.len(), 4);
        server.set_token("another");
        let refused = services.list(&Default::default()).await.expect_err("another token");
        assert!(matches!(&refused, kube::Error::Api(status) if status.code == 401), "{refused}");
    });
}
