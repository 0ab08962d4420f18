//! What only a real API server shows: see `tests/support/envtest.rs`. Skipped without one, visibly.

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{Client, Proto, next_id};
use support::envtest::{Envtest, RANGE, in_turn, rbac};
use support::fed::{Api, FAR, Fed, Lab, NXDOMAIN, SERVFAIL, SHOP, base};
use support::fixture::root;
use support::objects::{fragment, load, merge, pod, service};
use support::rows::{self, Row};
use support::server::{Server, http_get};
use support::upstream::Upstream;
use support::world::World;
use support::{UPSTREAM, free_port, judge, wire};

const WEB: &str = "web.shop.mesh.acme";
/// An API server needs some seconds for a start, and segdns some until it asks again.
const AGAIN: Duration = Duration::from_secs(40);
/// Ready, and nothing an operator should know.
const READY: &[&str] = &["ok"];
/// How often a test looks.
const LOOK: Duration = Duration::from_millis(20);

macro_rules! with_a_real_api_server {
    ($($name:ident),* $(,)?) => {
        mod real {
            $(#[test] fn $name() { super::in_turn(stringify!($name), super::$name); })*
        }
    };
}

with_a_real_api_server! {
    an_api_server_that_is_killed_and_started_again_is_followed_on,
    an_etcd_that_is_killed_and_started_again_is_not_noticed,
    custom_resources_come_later_and_go,
    what_kubectl_applies_and_labels_is_answered,
    fixture_bookinfo_segments,
    fixture_httpbin_global,
}

fn an_api_server_that_is_killed_and_started_again_is_followed_on() {
    let fed = Fed::new(Lab::Real, &json!({}));
    fed.api.apply(service("shop", "gone", "segment", "10.0.0.3"));
    let server = fed.start();
    fed.api.real().kill_api();
    ready_says(&server, &["trouble: here ", "services", "refused"]);
    fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
    fed.api.real().start_api().expect("it starts again");
    // All this happens before segdns asks again, or while it does: 403, 410 and 429 are what it may be told then.
    fed.api.delete("v1", "Service", "shop", "gone");
    fed.api.apply_all([service("shop", "web", "global", "10.0.0.2"), service("shop", "new", "segment", "10.0.0.4")]);
    fed.until_within(AGAIN, SHOP, WEB, 0, &["10.0.0.2"]);
    fed.until_within(AGAIN, FAR, WEB, 0, &["10.0.0.2"]);
    fed.until_within(AGAIN, SHOP, "gone.shop.mesh.acme", NXDOMAIN, &[]);
    fed.until_within(AGAIN, SHOP, "new.shop.mesh.acme", 0, &["10.0.0.4"]);
    ready_says(&server, READY);
    server.stop().expect("it stops");
}

fn an_etcd_that_is_killed_and_started_again_is_not_noticed() {
    let fed = Fed::new(Lab::Real, &json!({}));
    let server = fed.start();
    let away = Instant::now() + Duration::from_secs(4);
    fed.api.real().kill_etcd();
    while Instant::now() < away {
        fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
        assert_eq!(readyz(&server).0, 200);
        std::thread::sleep(LOOK);
    }
    fed.api.real().start_etcd();
    fed.api.apply(service("shop", "web", "global", "10.0.0.2"));
    fed.until_within(AGAIN, FAR, WEB, 0, &["10.0.0.2"]);
    server.stop().expect("it stops");
}

fn custom_resources_come_later_and_go() {
    let fed = Fed::empty(Lab::Real, &known());
    let api = fed.api.real();
    for (group, plural) in [("admin.solo.io", "segments"), ("networking.istio.io", "serviceentries")] {
        api.remove_crd(group, plural);
    }
    let (segments, rest): (Vec<Value>, Vec<Value>) = base().into_iter().partition(|o| o["kind"] == "Segment");
    api.apply_all(rest);
    api.apply_all([service("shop", "web", "segment", "10.0.0.1"), pod("shop", "a", SHOP)]);
    let server = fed.start();
    ready_says(&server, &["missing: here ", "segments"]);
    ready_says(&server, &["missing: here ", "serviceentries"]);
    // R3: the label of istio-system names no Segment.
    fed.is(SHOP, WEB, SERVFAIL, &[]);
    api.install_crds();
    api.apply_all(segments);
    fed.until_within(AGAIN, SHOP, WEB, 0, &["10.0.0.1"]);
    // Its objects are deleted, one by one, and then the streams end.
    api.remove_crd("admin.solo.io", "segments");
    fed.until_within(AGAIN, SHOP, WEB, SERVFAIL, &[]);
    ready_says(&server, &["missing: here ", "segments"]);
    server.stop().expect("it stops");
}

fn what_kubectl_applies_and_labels_is_answered() {
    let api = Envtest::bare(RANGE);
    api.install_crds();
    let fed = Fed::of(Api::Real(api), &known());
    let api = fed.api.real();
    fed.api.apply_all(base());
    fed.api.apply_all([service("shop", "web", "segment", "10.0.0.1"), pod("shop", "a", SHOP), pod("far", "b", FAR)]);
    let server = fed.spawn();
    ready_says(&server, &["pending: here ", "apply deploy/rbac.yaml"]);
    fed.is(SHOP, WEB, SERVFAIL, &[]);
    api.kubectl(&["apply", "-f", &rbac().display().to_string()]);
    fed.until_within(AGAIN, SHOP, WEB, 0, &["10.0.0.1"]);
    ready_says(&server, READY);
    // Granted is what is needed and nothing else.
    let account = "--as=system:serviceaccount:kube-system:segdns";
    let granted = api.kubectl(&["auth", "can-i", "--list", account, "--namespace=shop", "--no-headers"]);
    assert!(!granted.contains("secrets"), "{granted}");
    fed.is(FAR, WEB, NXDOMAIN, &[]);
    api.kubectl(&["label", "namespace", "far", "admin.solo.io/segment-"]);
    fed.until(FAR, WEB, 0, &["10.0.0.1"]);
    api.kubectl(&["label", "namespace", "far", "admin.solo.io/segment=other"]);
    fed.until(FAR, WEB, NXDOMAIN, &[]);
    api.kubectl(&["label", "--namespace=shop", "service/web", "solo.io/service-scope=global", "--overwrite"]);
    fed.until(FAR, WEB, 0, &["10.0.0.1"]);
    api.kubectl(&["delete", "--namespace=shop", "service/web"]);
    fed.until(FAR, WEB, NXDOMAIN, &[]);
    server.stop().expect("it stops");
}

fn fixture_bookinfo_segments() {
    fixture("bookinfo-segments");
}

fn fixture_httpbin_global() {
    fixture("httpbin-global");
}

/// The rows of a fixture of two clusters that need no policy, each cluster being the local one once.
fn fixture(name: &str) {
    let dir = root().join(name);
    let mut config = fragment(&dir.join("config.yaml"));
    let expect = config.as_object_mut().and_then(|config| config.remove("expect")).expect("what is expected");
    let clusters = [("cluster1", "10.101.0.0/16"), ("cluster2", "10.102.0.0/16")];
    let feds = clusters.map(|(local, range)| fed_by_fixture(&dir.join(local), local, range, &config));
    feds[0].join("cluster2", &feds[1].api);
    feds[1].join("cluster1", &feds[0].api);
    let rows = rows::read(&dir.join("expect.tsv"));
    for (fed, (local, _)) in feds.iter().zip(clusters) {
        let zones: Vec<String> = serde_json::from_value(expect["zones"][local].clone()).expect("zones");
        let server = fed.start();
        let rows: Vec<&Row> = rows.iter().filter(|row| row.local == local && row.policy == "-").collect();
        assert!(rows.len() > 3, "{name} has hardly a row for {local}");
        let bad: Vec<String> = rows.iter().flat_map(|row| complaints(fed, row, &zones)).collect();
        assert!(bad.is_empty(), "{name}, {local}:\n{}", bad.join("\n"));
        ready_says(&server, READY);
        server.stop().expect("it stops");
    }
}

fn fed_by_fixture(dir: &Path, local: &str, range: &str, config: &Value) -> Fed {
    let api = Envtest::bare(range);
    api.install_crds();
    api.apply_all(load(&rbac()));
    let files = ["namespaces", "segments", "services", "endpointslices", "pods", "serviceentries", "workloadentries"];
    api.apply_all(files.iter().flat_map(|file| load(&dir.join(format!("{file}.yaml")))));
    let mut config = config.clone();
    merge(&mut config, &json!({"cluster": {"name": local}}));
    let mut fed = Fed::of(Api::Real(api), &config);
    let mut world = World::outside();
    world.add_cluster(dir);
    fed.upstream = Upstream::start(world, SocketAddr::new(UPSTREAM, free_port())).expect("an upstream");
    fed.config["forward"] = json!([{"zone": ".", "upstreams": [fed.upstream.address()]}]);
    fed
}

fn complaints(fed: &Fed, row: &Row, zones: &[String]) -> Vec<String> {
    let query = wire::query(next_id(), &row.name, wire::type_number(&row.rtype), true);
    let from = if row.caller == "-" { support::HERE } else { row.caller.parse().expect("an address") };
    let answer = Client::default().ask(from, fed.at, Proto::Udp, &query).expect("an answer");
    let bad = judge::judge(row, &query, &answer, true, zones, &fed.upstream);
    bad.into_iter().map(|text| format!("row {} {} from {}: {text}", row.no, row.name, row.caller)).collect()
}

/// The zone is known before its Segment is, so that no name of it is forwarded.
fn known() -> Value {
    json!({"segments": {"zones": ["mesh.acme"]}})
}

/// Waits until a line of `/readyz` holds all of this; with [`READY`], until it is the only one.
fn ready_says(server: &Server, what: &[&str]) {
    let end = Instant::now() + AGAIN;
    loop {
        let (code, body) = readyz(server);
        let holds = |line: &str| what.iter().all(|text| line.contains(text));
        if if what == READY { code == 200 && body.trim() == "ok" } else { body.lines().any(holds) } {
            return;
        }
        assert!(Instant::now() < end, "no {what:?} after {AGAIN:?}: {code} {body}\n{}", server.tail());
        std::thread::sleep(LOOK);
    }
}

fn readyz(server: &Server) -> (u16, String) {
    http_get(server.admin(), "/readyz").unwrap_or_else(|error| (0, error.to_string()))
}
