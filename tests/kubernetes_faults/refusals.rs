//! What is missing, forbidden, or asked for with the wrong credentials.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::apiserver::{ApiServer, Failure, Rule, Times};
use super::support::fed::{Fed, Lab, NXDOMAIN, SERVFAIL, SHOP, base};
use super::support::objects::{namespace, pod, segment, service, slice};
use super::support::server::Server;
use super::support::steady::{Steady, Want, metric, readyz, reports, until_answered, until_ready, until_well};
use super::{KEEP, MOMENTS, OUTSIDE, RECOVERY, WEB, change, cluster, steadily, until_changed, well};

const SEGMENTS: (&str, &str) = ("admin.solo.io", "segments");

fn install_segments(api: &ApiServer) {
    api.install_crd(SEGMENTS.0, &["v1alpha1"], SEGMENTS.1, "Segment");
}

#[test]
fn segments_that_are_removed_with_their_definition_fail_closed_until_they_are_back() {
    // Without it the zone would be no mesh zone any more, once its Segment is gone.
    let fed = cluster(&json!({"segments": {"zones": ["mesh.acme"]}}));
    let api = fed.api.double();
    let server = fed.start();
    let steady = Steady::start(fed.at, &[(SHOP, OUTSIDE, 0, &["192.0.2.80"])]);
    api.remove_crd(SEGMENTS.0, SEGMENTS.1);
    until_answered(fed.at, (SHOP, KEEP, SERVFAIL, &[]), MOMENTS);
    fed.is(SHOP, "web.shop.mesh.internal", SERVFAIL, &[]);
    assert!(reports(&server).contains("acme"), "{}", reports(&server));
    until_ready(&server, 200, &["missing: here segments"], 3 * MOMENTS);
    fed.is(SHOP, KEEP, SERVFAIL, &[]);
    let back = Instant::now();
    install_segments(api);
    // As real ones are for about a second.
    let busy = Duration::from_secs(2);
    api.fail("segments.admin.solo.io", None, Failure::Reinitializing, Times::For(busy));
    fed.api.apply_all([segment("acme", "mesh.acme"), segment("other", "mesh.other")]);
    until_answered(fed.at, (SHOP, KEEP, 0, &["10.0.0.9"]), busy + RECOVERY);
    let took = back.elapsed();
    until_well(&server, RECOVERY);
    well("CRD installed again, with 2 s of 429, read", took, steady, server);
}

#[test]
fn entries_that_are_removed_with_their_definition_are_gone() {
    let fed = cluster(&json!({"serviceEntries": "all"}));
    let api = fed.api.double();
    fed.api.apply(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": {"name": "partner", "namespace": "shop"},
        "spec": {"hosts": ["api.partner.test"], "addresses": ["192.0.2.5"], "resolution": "STATIC"},
    }));
    let server = fed.start();
    fed.is(SHOP, "api.partner.test", 0, &["192.0.2.5"]);
    let steady = steadily(&fed);
    api.remove_crd("networking.istio.io", "serviceentries");
    until_answered(fed.at, (SHOP, "api.partner.test", NXDOMAIN, &[]), MOMENTS);
    assert!(fed.upstream.asked("api.partner.test", 1), "it is forwarded");
    until_ready(&server, 200, &["missing: here serviceentries"], 3 * MOMENTS);
    well("entries gone", Duration::ZERO, steady, server);
}

#[test]
fn a_cluster_without_custom_resources_works_and_they_may_come_later() {
    let fed = Fed::empty(Lab::Double, &json!({}));
    let api = fed.api.double();
    let (istio, of_istio) = ("networking.istio.io", ["serviceentries", "workloadentries"]);
    api.remove_crd(SEGMENTS.0, SEGMENTS.1);
    of_istio.iter().for_each(|plural| api.remove_crd(istio, plural));
    fed.api.apply_all([namespace("istio-system", None), namespace("shop", None), pod("shop", "a", SHOP)]);
    fed.api.apply(service("shop", "web", "segment", "10.0.0.1"));
    let server = fed.start();
    let missing = ["segments", "serviceentries", "workloadentries"].map(|kind| format!("missing: here {kind}"));
    until_ready(&server, 200, &missing.each_ref().map(String::as_str), MOMENTS);
    let flat = "web.shop.mesh.internal";
    fed.is(SHOP, flat, 0, &["10.0.0.1"]);
    assert_eq!(metric(&server, "segdns_source_trouble", &["kind=\"segments\"", "reason=\"missing\""]) as u8, 1);
    let steady = Steady::start(fed.at, &[(SHOP, flat, 0, &["10.0.0.1"]), (SHOP, OUTSIDE, 0, &["192.0.2.80"])]);
    let installed = Instant::now();
    install_segments(api);
    fed.api.apply_all([segment("other", "mesh.other"), namespace("far", Some("other"))]);
    fed.api.apply(service("far", "x", "global", "10.0.0.7"));
    until_answered(fed.at, (SHOP, "x.far.mesh.other", 0, &["10.0.0.7"]), RECOVERY);
    let took = installed.elapsed();
    until_ready(&server, 200, &["missing: here serviceentries"], MOMENTS);
    assert!(!readyz(&server).1.contains("segments"), "{:?}", readyz(&server));
    well("CRD installed, read", took, steady, server);
}

/// Everything but this resource.
fn all_but(plural: &str) -> Vec<Rule> {
    let all = "namespaces pods secrets services endpointslices segments serviceentries workloadentries";
    let resources = all.split(' ').filter(|&other| other != plural).map(str::to_owned).collect();
    let verbs = vec!["list".to_owned(), "watch".to_owned()];
    vec![Rule { namespace: None, groups: vec!["*".to_owned()], resources, verbs }]
}

fn is_named_as_forbidden(server: &Server, plural: &str) {
    let labels = [format!("kind=\"{plural}\""), "reason=\"forbidden\"".to_owned()];
    let labels = labels.each_ref().map(String::as_str);
    assert_eq!(metric(server, "segdns_source_trouble", &labels) as u8, 1);
    assert!(metric(server, "segdns_source_errors_total", &labels[..1]) >= 1.0);
    let log = server.log();
    let line = log.lines().find(|line| line.contains("forbidden") && line.contains(plural));
    assert!(line.is_some_and(|line| line.contains("deploy/rbac.yaml")), "{log}");
}

/// What is forbidden at the start is named and waited for, and never final.
fn forbidden_at_the_start(plural: &str) {
    let fed = cluster(&json!({"segments": {"zones": ["mesh.acme"]}}));
    let api = fed.api.double();
    api.set_rbac(Some(all_but(plural)));
    let server = fed.spawn();
    let pending = format!("pending: here {plural}");
    until_ready(&server, 503, &[&pending, "forbidden", "apply deploy/rbac.yaml"], MOMENTS);
    is_named_as_forbidden(&server, plural);
    let wants: [Want<'_>; 2] = [(SHOP, WEB, SERVFAIL, &[]), (SHOP, OUTSIDE, 0, &["192.0.2.80"])];
    let steady = Steady::start(fed.at, &wants);
    let errors = || metric(&server, "segdns_source_errors_total", &[&format!("kind=\"{plural}\"")]);
    super::support::steady::until("six refusals", 4 * MOMENTS, || errors() >= 6.0);
    steady.end();
    let granted = Instant::now();
    api.set_rbac(None);
    until_answered(fed.at, (SHOP, WEB, 0, &["10.0.0.1"]), RECOVERY);
    eprintln!("{plural} granted, read: {:.1?}", granted.elapsed());
    until_well(&server, RECOVERY);
    server.stop().expect("it stops");
}

#[test]
fn services_that_are_forbidden_are_waited_for() {
    forbidden_at_the_start("services");
}

#[test]
fn segments_that_are_forbidden_are_waited_for_and_not_taken_for_missing() {
    forbidden_at_the_start("segments");
}

#[test]
fn secrets_that_are_forbidden_cost_the_peers_and_nothing_else() {
    // Nobody waits for peers that nobody may know: it would be ready after five minutes.
    let fed = cluster(&json!({"sources": {"kubernetes": {"peers": {"wait": "5m"}}}}));
    let api = fed.api.double();
    api.set_rbac(Some(all_but("secrets")));
    let there = Lab::Double.api_server();
    there.apply_all(base());
    there.apply_all([service("shop", "only", "segment", "10.99.0.1"), slice("shop", "only", "10.5.0.1")]);
    fed.join("there", &there);
    let server = fed.start();
    fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
    until_ready(&server, 200, &["pending: here secrets", "forbidden", "apply deploy/rbac.yaml"], MOMENTS);
    is_named_as_forbidden(&server, "secrets");
    let steady = steadily(&fed);
    let granted = Instant::now();
    api.set_rbac(None);
    until_answered(fed.at, (SHOP, "only.shop.mesh.acme", 0, &["10.5.0.1"]), RECOVERY);
    let took = granted.elapsed();
    until_well(&server, RECOVERY);
    well("secrets granted, peer read", took, steady, server);
}

#[test]
fn a_permission_that_is_taken_away_takes_no_state_away() {
    let fed = cluster(&json!({}));
    let api = fed.api.double();
    let server = fed.start();
    let steady = steadily(&fed);
    api.set_rbac(Some(all_but("services")));
    api.cut();
    change(&fed);
    until_ready(&server, 200, &["ok\n", "trouble: here services", "forbidden"], MOMENTS);
    is_named_as_forbidden(&server, "services");
    fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
    let granted = Instant::now();
    api.set_rbac(None);
    let took = until_changed(&fed, granted, RECOVERY);
    until_well(&server, RECOVERY);
    well("services forbidden and granted again, read", took, steady, server);
}

/// Replaces a file in one step, as kubelet does.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("a file");
    std::fs::rename(&new, path).expect("a file");
}

#[test]
fn a_token_in_a_file_may_be_rotated_with_or_without_a_newline() {
    let fed = cluster(&json!({}));
    let api = fed.api.double();
    let path = fed.dir.path().join("token");
    // People's editors end files with a newline; kubelet does not.
    std::fs::write(&path, format!("{}\n", api.token())).expect("a file");
    std::fs::write(fed.kubeconfig(), api.kubeconfig_with_token_file(&path)).expect("a kubeconfig");
    let server = fed.start();
    let steady = steadily(&fed);
    for (round, end) in ["", "\n"].into_iter().enumerate() {
        let token = format!("rotated-{round}");
        api.set_token(&token);
        api.cut();
        let address = format!("10.0.2.{round}");
        fed.api.apply(service("shop", "web", "segment", &address));
        until_ready(&server, 200, &["trouble: here ", "services", "401"], MOMENTS);
        assert_eq!(metric(&server, "segdns_source_trouble", &["services", "reason=\"unauthorized\""]) as u8, 1);
        let rotated = Instant::now();
        replace(&path, &format!("{token}{end}"));
        until_answered(fed.at, (SHOP, WEB, 0, &[&address]), RECOVERY);
        eprintln!("token rotated with {end:?}, read: {:.1?}", rotated.elapsed());
        until_well(&server, RECOVERY);
    }
    well("tokens rotated", Duration::ZERO, steady, server);
}

#[test]
fn a_peers_token_may_be_rotated_in_its_secret() {
    let fed = cluster(&json!({}));
    let there = Lab::Double.api_server();
    there.apply_all(base());
    there.apply_all([service("shop", "only", "segment", "10.99.0.1"), slice("shop", "only", "10.5.0.1")]);
    there.apply_all([service("shop", "stays", "segment", "10.99.0.2"), slice("shop", "stays", "10.5.0.9")]);
    fed.join("there", &there);
    let server = fed.start();
    let only = "only.shop.mesh.acme";
    fed.is(SHOP, only, 0, &["10.5.0.1"]);
    let steady =
        Steady::start(fed.at, &[(SHOP, "stays.shop.mesh.acme", 0, &["10.5.0.9"]), (SHOP, KEEP, 0, &["10.0.0.9"])]);
    there.double().set_token("rotated");
    there.double().cut();
    there.apply(slice("shop", "only", "10.5.0.2"));
    until_ready(&server, 200, &["trouble: there ", "endpointslices", "401"], MOMENTS);
    fed.is(SHOP, only, 0, &["10.5.0.1"]);
    let rotated = Instant::now();
    fed.join("there", &there);
    until_answered(fed.at, (SHOP, only, 0, &["10.5.0.2"]), RECOVERY);
    let took = rotated.elapsed();
    until_well(&server, RECOVERY);
    well("the peer's token rotated, read", took, steady, server);
}
