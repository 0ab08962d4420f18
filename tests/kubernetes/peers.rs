//! Peers come, change and go.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::in_every_lab;
use crate::moments::{World, during};
use crate::support::HERE;
use crate::support::fed::{Api, FAR, Fed, Lab, NXDOMAIN, SHOP, SOON, base, secret};
use crate::support::objects::{merge, namespace, segment, service, slice};
use crate::support::server::{Server, http_get};
use crate::{WEB, endpoints};

const ONLY: &str = "only.shop.mesh.acme";

in_every_lab! {
    peers_come_and_go_with_their_secrets,
    all_addresses_of_a_peer_come_and_go_at_once,
    a_secret_that_names_another_cluster_never_mixes_the_two,
    a_local_service_goes_before_the_peers_as_soon_as_it_is_ready,
    a_secret_that_breaks_is_reported_and_its_peer_stays,
    a_peer_that_two_secrets_name_stays_until_both_are_gone,
}

fn peers_come_and_go_with_their_secrets(lab: Lab) {
    let fed = Fed::new(lab, &json!({}));
    let there = lab.api_server();
    there.apply_all(base());
    there.apply_all([service("shop", "only", "segment", "10.9.0.1"), slice("shop", "only", "10.5.0.1")]);
    let server = fed.start();
    fed.is(SHOP, ONLY, NXDOMAIN, &[]);
    fed.join("there", &there);
    fed.until(SHOP, ONLY, 0, &["10.5.0.1"]);
    there.apply(slice("shop", "only", "10.5.0.2"));
    fed.until(SHOP, ONLY, 0, &["10.5.0.2"]);
    // The local cluster's own name is passed over, as Istio does.
    fed.api.apply(secret("own", &[("here", &there.kubeconfig())]));
    fed.part("there");
    fed.until(SHOP, ONLY, NXDOMAIN, &[]);
    fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
    assert_eq!(reports(&server), json!([]));
    server.stop().expect("it stops");
}

/// A cluster with Services shop/only, shop/two and shop/web, whose endpoints are in `10.5.NET.0`.
fn cluster(lab: Lab, net: u8) -> Api {
    let api = lab.api_server();
    api.apply_all(base());
    let ips = [1, 2, 3].map(|n| format!("10.5.{net}.{n}"));
    for (ix, name) in ["only", "two", "web"].into_iter().enumerate() {
        api.apply_all([service("shop", name, "segment", &format!("10.9.0.{}", ix + 1))]);
        api.apply(endpoints("shop", name, &ips.each_ref().map(String::as_str)));
    }
    api
}

const NET1: [&str; 3] = ["10.5.1.1", "10.5.1.2", "10.5.1.3"];
const NET2: [&str; 3] = ["10.5.2.1", "10.5.2.2", "10.5.2.3"];

/// What is answered while a peer with these endpoints counts. The local shop/web has no ready endpoint (R6 d and e).
fn peer_has(ips: &[&'static str]) -> World {
    let only = |name| (name, (!ips.is_empty()).then_some("acme"), "segment", ips.to_vec());
    let web = if ips.is_empty() { vec!["10.0.0.1"] } else { ips.to_vec() };
    World {
        segments: vec![("acme", "mesh.acme"), ("other", "mesh.other")],
        callers: vec![(SHOP, Some("acme")), (FAR, Some("other")), (HERE, Some("acme"))],
        services: vec![only("only.shop"), only("two.shop"), ("web.shop", Some("acme"), "segment", web)],
        others: Vec::new(),
    }
}

fn all_addresses_of_a_peer_come_and_go_at_once(lab: Lab) {
    let fed = Fed::new(lab, &json!({}));
    let there = cluster(lab, 1);
    let server = fed.start();
    during(&fed, &[peer_has(&[]), peer_has(&NET1)], || fed.join("there", &there));
    during(&fed, &[peer_has(&NET1), peer_has(&[])], || fed.part("there"));
    during(&fed, &[peer_has(&[]), peer_has(&NET1)], || fed.join("there", &there));
    // R4: of another segment there than here, nothing of it counts, nor with another domain.
    during(&fed, &[peer_has(&NET1), peer_has(&[])], || there.apply(namespace("istio-system", Some("elsewhere"))));
    assert!(reports(&server).to_string().contains("peer-disabled"));
    during(&fed, &[peer_has(&[]), peer_has(&NET1)], || there.apply(namespace("istio-system", Some("acme"))));
    during(&fed, &[peer_has(&NET1), peer_has(&[])], || there.apply(segment("acme", "mesh.there")));
    during(&fed, &[peer_has(&[]), peer_has(&NET1)], || there.apply(segment("acme", "mesh.acme")));
    // Of a segment that both have its names are under that one's domain, for that one's callers.
    let mut of_other = peer_has(&NET1);
    of_other.services.retain(|s| s.0 != "web.shop");
    for service in &mut of_other.services {
        service.1 = Some("other");
    }
    of_other.services.push(("web.shop", Some("other"), "segment", NET1.to_vec()));
    of_other.services.push(("web.shop", Some("acme"), "segment", vec!["10.0.0.1"]));
    let other = || there.apply(namespace("istio-system", Some("other")));
    during(&fed, &[peer_has(&NET1), of_other.clone()], other);
    during(&fed, &[of_other, peer_has(&NET1)], || there.apply(namespace("istio-system", Some("acme"))));
    server.stop().expect("it stops");
}

fn a_secret_that_names_another_cluster_never_mixes_the_two(lab: Lab) {
    let fed = Fed::new(lab, &json!({}));
    let (first, second) = (cluster(lab, 1), cluster(lab, 2));
    fed.join("there", &first);
    let server = fed.start();
    // Until the new one's first state is complete there is no such peer.
    during(&fed, &[peer_has(&NET1), peer_has(&[]), peer_has(&NET2)], || fed.join("there", &second));
    during(&fed, &[peer_has(&NET2), peer_has(&[]), peer_has(&NET1)], || fed.join("there", &first));
    server.stop().expect("it stops");
}

fn a_local_service_goes_before_the_peers_as_soon_as_it_is_ready(lab: Lab) {
    let fed = Fed::new(lab, &json!({}));
    let there = cluster(lab, 1);
    fed.join("there", &there);
    let server = fed.start();
    let with = |web: &[&'static str]| {
        let mut world = peer_has(&NET1);
        world.services[2].3 = web.to_vec();
        world
    };
    let delete = || fed.api.delete("discovery.k8s.io/v1", "EndpointSlice", "shop", "web-1");
    during(&fed, &[with(&NET1), with(&["10.0.0.1"])], || fed.api.apply(slice("shop", "web", "10.6.0.1")));
    during(&fed, &[with(&["10.0.0.1"]), with(&NET1)], delete);
    let mut unready = slice("shop", "web", "10.6.0.1");
    merge(&mut unready, &json!({"endpoints": [{"addresses": ["10.6.0.1"], "conditions": {"ready": false}}]}));
    during(&fed, &[with(&NET1), with(&NET1)], || fed.api.apply(unready));
    during(&fed, &[with(&NET1), with(&["10.0.0.1"])], || fed.api.apply(slice("shop", "web", "10.6.0.1")));
    server.stop().expect("it stops");
}

fn reports(server: &Server) -> Value {
    let (_, body) = http_get(server.admin(), "/debug/reports").expect("an answer");
    serde_json::from_str(&body).expect("JSON")
}

/// Waits until something holds.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not after {SOON:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn a_secret_that_breaks_is_reported_and_its_peer_stays(lab: Lab) {
    let fed = Fed::new(lab, &json!({}));
    let there = cluster(lab, 1);
    fed.join("there", &there);
    let server = fed.start();
    during(&fed, &[peer_has(&NET1), peer_has(&NET1)], || {
        fed.api.apply(secret("peer-there", &[("there", "no kubeconfig")]));
        let named =
            |report: &Value| report["text"].as_str().is_some_and(|t| t.contains("Secret istio-system/peer-there"));
        eventually("a report", || reports(&server).as_array().is_some_and(|all| all.iter().any(named)));
    });
    // It is still followed, with the credentials that it had. Three slices are three changes.
    let moved = |count: usize| {
        let mut world = peer_has(&NET1);
        world.services[..count].iter_mut().for_each(|service| service.3 = NET2.to_vec());
        world
    };
    during(&fed, &[0, 1, 2, 3].map(moved), || {
        for name in ["only", "two", "web"] {
            there.apply(endpoints("shop", name, &NET2));
        }
    });
    during(&fed, &[peer_has(&NET2), peer_has(&NET2)], || {
        fed.join("there", &there);
        eventually("no report", || reports(&server) == json!([]));
    });
    server.stop().expect("it stops");
}

fn a_peer_that_two_secrets_name_stays_until_both_are_gone(lab: Lab) {
    let fed = Fed::new(lab, &json!({}));
    let there = cluster(lab, 1);
    fed.join("there", &there);
    let server = fed.start();
    during(&fed, &[peer_has(&NET1), peer_has(&NET1)], || {
        fed.api.apply(secret("second", &[("there", &there.kubeconfig())]));
        eventually("a report", || reports(&server).to_string().contains("names a cluster that the older"));
        fed.part("there");
        eventually("no report", || reports(&server) == json!([]));
    });
    during(&fed, &[peer_has(&NET1), peer_has(&[])], || fed.api.delete("v1", "Secret", "istio-system", "second"));
    server.stop().expect("it stops");
}

/// `segdns_source_age_seconds` of a cluster.
fn age(server: &Server, cluster: &str) -> Option<f64> {
    let (_, text) = http_get(server.admin(), "/metrics").expect("an answer");
    let series = format!("segdns_source_age_seconds{{cluster=\"{cluster}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
}

#[test]
fn a_peer_that_is_away_keeps_its_last_state_ages_and_comes_back_without_a_gap() {
    let fed = Fed::new(Lab::Double, &json!({}));
    let there = cluster(Lab::Double, 1);
    fed.join("there", &there);
    let server = fed.start();
    during(&fed, &[peer_has(&NET1), peer_has(&NET1)], || {
        there.double().stop();
        let young = age(&server, "there").expect("an age");
        eventually("it ages", || age(&server, "there").expect("an age") > young + 0.5);
    });
    assert_eq!(http_get(server.admin(), "/readyz").expect("an answer").0, 200);
    // What has changed meanwhile comes in one piece for each kind; here one kind has.
    during(&fed, &[peer_has(&NET1), peer_has(&NET2)], || {
        there.double().apply_all(["only", "two", "web"].map(|name| endpoints("shop", name, &NET2)));
        // Its watch cannot go on from where it was: it has to list.
        there.double().compact();
        there.double().resume();
    });
    eventually("it is young", || age(&server, "there").expect("an age") < 5.0);
    server.stop().expect("it stops");
}

#[test]
fn a_peer_that_never_answers_delays_readiness_by_its_wait_and_no_longer() {
    let fed = Fed::new(Lab::Double, &json!({"sources": {"kubernetes": {"peers": {"wait": "300ms"}}}}));
    // One that takes connections, and never says a word.
    let silent = TcpListener::bind((HERE, 0)).expect("a port");
    let there = cluster(Lab::Double, 1);
    let address = there.double().address().to_string();
    let other = there.kubeconfig().replace(&address, &silent.local_addr().expect("an address").to_string());
    fed.api.apply(secret("peer-there", &[("there", &other)]));
    let began = Instant::now();
    let mut server = fed.spawn();
    server.wait_ready().expect("ready");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300), "it waits for peers: {took:?}");
    assert!(took < Duration::from_secs(5), "and no longer: {took:?}");
    fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
    let (_, ready) = http_get(server.admin(), "/readyz").expect("an answer");
    assert!(ready.contains("pending: there "), "what is awaited is named: {ready}");
    // It joins when it answers after all.
    during(&fed, &[peer_has(&[]), peer_has(&NET1)], || fed.join("there", &there));
    server.stop().expect("it stops");
}
