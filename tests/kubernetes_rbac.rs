//! `deploy/rbac*.yaml` grant what segdns asks for, and nothing else: the files are the policy of the API servers here, and
//! every request of a whole life, faults included, is held against them.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use segdns::config::Config;
use segdns::watch::kubernetes::{Options, resource};
use serde_json::{Value, json};
use support::apiserver::{ApiServer, Observed, Request, Rule, Streaming, Verb};
use support::fed::{Api, Fed, Lab, NXDOMAIN, SHOP, SOON, base};
use support::objects::{self, list, segment, service, slice, text};
use support::server::Server;

/// A peer where a custom resource is missing is asked again after up to 7.5 s.
const ASKED_AGAIN: Duration = Duration::from_secs(20);
const WEB: &str = "web.shop.mesh.acme";
const ONLY: &str = "only.shop.mesh.acme";

/// One verb on one resource, in one namespace or everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    verb: String,
    group: String,
    resource: String,
    namespace: Option<String>,
}

impl Grant {
    fn covers(&self, asked: &Self) -> bool {
        let everywhere = Self { namespace: asked.namespace.clone(), ..self.clone() };
        self == asked || (self.namespace.is_none() && everywhere == *asked)
    }

    fn rule(&self) -> Rule {
        Rule {
            namespace: self.namespace.clone(),
            groups: vec![self.group.clone()],
            resources: vec![self.resource.clone()],
            verbs: vec![self.verb.clone()],
        }
    }
}

type Grants = BTreeSet<Grant>;

/// What a file of `deploy` grants to an account. Each role in it has to be bound to that account and to nobody else.
fn granted(file: &str, account: (&str, &str)) -> Grants {
    let all = objects::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file));
    let mut grants = Grants::new();
    for role in all.iter().filter(|o| text(o, "/kind").ends_with("Role")) {
        let binding = format!("{}Binding", text(role, "/kind"));
        let bound: Vec<&Value> = all.iter().filter(|o| o["kind"] == *binding && binds(o, role)).collect();
        let [bound] = bound[..] else { panic!("{file}: one {binding} has to bind {}", role["metadata"]) };
        let (namespace, name) = account;
        let who = json!([{"kind": "ServiceAccount", "name": name, "namespace": namespace}]);
        assert_eq!(bound["subjects"], who, "{file}: {}", bound["metadata"]);
        grants.extend(list(role, "/rules").iter().flat_map(|rule| of_rule(rule, &role["metadata"]["namespace"])));
    }
    assert!(!grants.is_empty(), "{file} grants nothing");
    grants
}

fn binds(binding: &Value, role: &Value) -> bool {
    binding["roleRef"]["kind"] == role["kind"]
        && binding["roleRef"]["name"] == role["metadata"]["name"]
        && binding["metadata"]["namespace"] == role["metadata"]["namespace"]
}

fn of_rule(rule: &Value, namespace: &Value) -> Vec<Grant> {
    let words = |field: &str| -> Vec<String> {
        let words: Vec<String> = list(rule, field).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        assert!(!words.is_empty() && !words.iter().any(|w| w == "*"), "{field} of {rule}");
        words
    };
    assert_eq!(rule.as_object().map(serde_json::Map::len), Some(3), "groups, resources and verbs, and no more: {rule}");
    let mut grants = Vec::new();
    for group in words("/apiGroups") {
        for resource in words("/resources") {
            for verb in words("/verbs") {
                let (group, resource) = (group.clone(), resource.clone());
                grants.push(Grant { verb, group, resource, namespace: namespace.as_str().map(str::to_owned) });
            }
        }
    }
    grants
}

const ACCOUNT: (&str, &str) = ("kube-system", "segdns");
const READER: (&str, &str) = ("istio-system", "istio-reader-service-account");

/// What the crate says that it needs.
fn wanted(rules: Vec<resource::Rule>) -> Grants {
    let of = |rule: &resource::Rule, verb: &str| Grant {
        verb: verb.to_owned(),
        group: rule.group.to_string(),
        resource: rule.plural.to_string(),
        namespace: rule.namespace.as_deref().map(str::to_owned),
    };
    rules.iter().flat_map(|rule| resource::VERBS.map(|verb| of(rule, verb))).collect()
}

/// The namespaced grant that `serviceEntries: all` has no use for any more.
fn narrow_entries() -> Grants {
    let one = |verb: &str| Grant {
        verb: verb.to_owned(),
        group: "networking.istio.io".to_owned(),
        resource: "serviceentries".to_owned(),
        namespace: Some("istio-system".to_owned()),
    };
    resource::VERBS.map(one).into()
}

fn options(entries: &str) -> Options {
    let text = format!("{{sources: {{kubernetes: {{node: n1}}}}, serviceEntries: {entries}}}");
    let config = Config::parse(&text, "the test", |_| None).unwrap_or_else(|e| panic!("{e}"));
    config.watched().expect("API servers are its source")
}

#[test]
fn the_files_grant_what_the_code_says_that_it_needs() {
    let usual = granted("rbac.yaml", ACCOUNT);
    assert_eq!(usual, wanted(resource::rules(&options("generated"))));
    let mut all = &usual - &narrow_entries();
    all.extend(granted("rbac-all-entries.yaml", ACCOUNT));
    assert_eq!(all, wanted(resource::rules(&options("all"))));
    let peer = granted("rbac-peer.yaml", READER);
    assert_eq!(peer, wanted(resource::peer_rules(&options("generated"))));
    assert_eq!(peer, wanted(resource::peer_rules(&options("all"))));
}

#[test]
fn a_whole_life_uses_every_grant_and_needs_no_other() {
    let local = granted("rbac.yaml", ACCOUNT);
    let peer = granted("rbac-peer.yaml", READER);
    let used = life(&json!({}), &local, &peer);
    assert_eq!(used, [local, peer], "left: used; right: granted");
}

#[test]
fn with_all_service_entries_one_file_more_is_needed_and_used() {
    let local = &granted("rbac.yaml", ACCOUNT) | &granted("rbac-all-entries.yaml", ACCOUNT);
    let peer = granted("rbac-peer.yaml", READER);
    let used = life(&json!({"serviceEntries": "all"}), &local, &peer);
    assert_eq!(used, [&local - &narrow_entries(), peer], "left: used; right: granted");
}

#[test]
fn events_need_and_use_one_file_more() {
    let fed = Fed::new(Lab::Double, &json!({"sources": {"kubernetes": {"events": true}}}));
    let text = std::fs::read_to_string(fed.kubeconfig()).expect("a kubeconfig");
    // Where its pods are.
    let here = text.replacen("    user: test\n", "    namespace: kube-system\n    user: test\n", 1);
    std::fs::write(fed.kubeconfig(), here).expect("written");
    let events = granted("rbac-events.yaml", ACCOUNT);
    let all = &granted("rbac.yaml", ACCOUNT) | &events;
    let api = fed.api.double();
    api.set_rbac(Some(all.iter().map(Grant::rule).collect()));
    fed.api.apply(objects::namespace("lost", Some("ghost")));
    let done = |verb: Verb, resource: &str| {
        let what = format!("{} {resource}", verb.name());
        let seen = |o: &Observed| o.of(verb, resource).any(|r| r.code.is_some_and(|code| code < 300));
        api.wait_for(&what, ASKED_AGAIN, seen).unwrap_or_else(|e| panic!("{e}"));
    };
    let server = fed.start();
    done(Verb::Create, "events");
    done(Verb::Update, "leases");
    server.stop().expect("it stops");
    // What is next to write finds the Events of the one before.
    api.delete("coordination.k8s.io/v1", "Lease", "kube-system", "segdns-events");
    let server = fed.start();
    done(Verb::Patch, "events");
    server.stop().expect("it stops");
    drop(used(api, &all));
    // Events are written in namespaces, and granted in all of them.
    let asked: Vec<Grant> = api.requests().iter().map(asked).collect();
    let unused: Vec<&Grant> = events.iter().filter(|grant| !asked.iter().any(|a| grant.covers(a))).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

/// Runs a server through everything that makes it ask, and returns what it has used of the grants of the local cluster and
/// of the peer.
fn life(extra: &Value, local: &Grants, peer: &Grants) -> [Grants; 2] {
    let fed = Fed::new(Lab::Double, extra);
    let there = self::peer();
    fed.api.double().set_rbac(Some(local.iter().map(Grant::rule).collect()));
    there.double().set_rbac(Some(peer.iter().map(Grant::rule).collect()));
    fed.join("there", &there);
    let server = fed.start();
    follow_changes(&fed, &there);
    // A restart with what it forgets: lists come in a stream again, and after the next one in pages.
    let both = [fed.api.double(), there.double()];
    for streaming in [Streaming::On, Streaming::Refused] {
        let before = both.map(|api| api.observed(|o| o.requests.len()));
        for api in both {
            api.streaming_lists(streaming);
            api.restart(Duration::ZERO, Duration::from_millis(300));
        }
        for (api, before) in both.into_iter().zip(before) {
            watches_are_back(api, before);
        }
        follow_changes(&fed, &there);
    }
    // Away and back: it goes on from where it was.
    both.iter().for_each(|api| api.stop());
    both.iter().for_each(|api| api.resume());
    follow_changes(&fed, &there);
    custom_resources_come_and_go(&server, &fed, &there);
    fed.part("there");
    fed.until(SHOP, ONLY, NXDOMAIN, &[]);
    server.stop().expect("it stops");
    both.map(|api| used(api, if std::ptr::eq(api, both[0]) { local } else { peer }))
}

fn peer() -> Api {
    // Of Istio's resources there is none: nobody is to ask for them there.
    let api = ApiServer::start();
    api.install_crd("admin.solo.io", &["v1alpha1"], "segments", "Segment");
    let there = Api::Double(api);
    there.apply_all(base());
    there.apply_all([service("shop", "only", "segment", "10.99.0.1"), slice("shop", "only", "10.5.0.1")]);
    there
}

/// A change in each cluster is answered.
fn follow_changes(fed: &Fed, there: &Api) {
    for last in ["1", "2"] {
        let (here, away) = (format!("10.0.0.{last}"), format!("10.5.0.{last}"));
        fed.api.apply(service("shop", "web", "segment", &here));
        there.apply(slice("shop", "only", &away));
        fed.until(SHOP, WEB, 0, &[&here]);
        fed.until(SHOP, ONLY, 0, &[&away]);
    }
}

/// Every resource that was watched is watched again.
fn watches_are_back(api: &ApiServer, before: usize) {
    let known = api.observed(|o| resources(&o.requests[..before]));
    let back = |o: &Observed| {
        let open = o.requests[before..].iter().filter(|r| r.open && r.code == Some(200));
        known.iter().all(|resource| open.clone().any(|r| r.resource == *resource))
    };
    api.wait_for("all watches again", SOON, back).unwrap_or_else(|e| panic!("{e}"));
}

fn resources(requests: &[Request]) -> BTreeSet<String> {
    requests.iter().map(|r| r.resource.clone()).collect()
}

/// Custom resources go, and come back, in both clusters.
fn custom_resources_come_and_go(server: &Server, fed: &Fed, there: &Api) {
    let resources = [
        (there.double(), "admin.solo.io", &["v1alpha1"][..], "segments", "Segment"),
        (fed.api.double(), "networking.istio.io", &["v1", "v1beta1"][..], "workloadentries", "WorkloadEntry"),
    ];
    for (api, group, versions, plural, kind) in resources {
        api.remove_crd(group, plural);
        let refused = |o: &Observed| o.requests.iter().any(|r| r.code == Some(404) && r.resource == plural);
        api.wait_for("a 404", SOON, refused).unwrap_or_else(|e| panic!("{e}"));
        api.install_crd(group, versions, plural, kind);
        let watched = |o: &Observed| o.open_watches(plural) == 1;
        api.wait_for("a watch", ASKED_AGAIN, watched).unwrap_or_else(|e| panic!("{e}: {}", server.tail()));
    }
    there.apply(segment("acme", "mesh.acme"));
    follow_changes(fed, there);
}

/// What has to be granted for a request.
fn asked(request: &Request) -> Grant {
    let verb = request.verb.unwrap_or_else(|| panic!("{} is no resource", request.path));
    Grant {
        verb: verb.name().to_owned(),
        group: request.group.clone(),
        resource: request.resource.clone(),
        namespace: request.namespace.clone(),
    }
}

/// What was asked of an API server. Nothing was refused, and everything is covered by a grant.
fn used(api: &ApiServer, grants: &Grants) -> Grants {
    let mut used = Grants::new();
    for request in api.requests() {
        assert!(request.code != Some(403), "{request:?}");
        let asked = asked(&request);
        let by: Vec<&Grant> = grants.iter().filter(|grant| grant.covers(&asked)).collect();
        assert!(!by.is_empty(), "no grant for {request:?}");
        // A narrower grant beside one that holds everywhere would not be needed.
        used.extend(by.into_iter().filter(|grant| **grant == asked).cloned());
    }
    used
}
