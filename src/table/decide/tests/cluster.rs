//! Cases of R16, and of names of the cluster domain that cannot exist or may be completed.

use super::*;
use crate::mesh::settings::{CallerOf, CallerRule};

#[test]
fn cluster_names_of_other_segments_are_hidden_if_the_policy_says_so() {
    use Reason::{Absent, ClusterHidden, Forwarded};
    let closed = full(with(|p| p.cluster_names = ClusterNames::Segment));
    let cases = [
        (ACME, "s.shop.svc.cluster.local", Forwarded),
        (ACME, "x.far.svc.cluster.local", ClusterHidden),
        (ACME, "X.Far.SVC.Cluster.local", ClusterHidden),
        (ACME, "a.b.c.far.svc.cluster.local", ClusterHidden),
        (ACME, "far.svc.cluster.local", ClusterHidden),
        (ACME, "10-3-0-1.far.pod.cluster.local", ClusterHidden),
        (ACME, "far.pod.cluster.local", ClusterHidden),
        (ACME, "_http._tcp.x.far.svc.cluster.local", ClusterHidden),
        (ACME, "x.lost.svc.cluster.local", ClusterHidden),
        (ACME, "x.absent.svc.cluster.local", Absent),
        (ACME, "10-3-0-1.absent.pod.cluster.local", Absent),
        (ACME, "absent.svc.cluster.local", Absent),
        (ACME, "svc.cluster.local", Forwarded),
        (ACME, "pod.cluster.local", Forwarded),
        (ACME, "cluster.local", Forwarded),
        (ACME, "ns.dns.cluster.local", Forwarded),
        (ACME, "dns-version.cluster.local", Forwarded),
        (ACME, "far.cluster.local", Forwarded),
        (OTHER, "x.shop.svc.cluster.local", ClusterHidden),
        (OTHER, "dns.kube-system.svc.cluster.local", Forwarded),
        (OTHER, "istiod.istio-system.svc.cluster.local", Forwarded),
        // It is among clusterNamesAlways, and no Namespace object tells of it.
        (OTHER, "kubernetes.default.svc.cluster.local", Forwarded),
        (INVALID, "x.shop.svc.cluster.local", ClusterHidden),
        (INVALID, "x.lost.svc.cluster.local", ClusterHidden),
        (INVALID, "x.absent.svc.cluster.local", Absent),
        (INVALID, "kubernetes.default.svc.cluster.local", Forwarded),
        (STRANGER, "x.shop.svc.cluster.local", ClusterHidden),
        (STRANGER, "dns.kube-system.svc.cluster.local", Forwarded),
        (ACME, "1.0.2.10.in-addr.arpa", Forwarded),
        (ACME, "example.com", Forwarded),
    ];
    for (from, name, reason) in cases {
        let want = if reason == Forwarded { "Forward" } else { "NxDomain" };
        for rtype in [A, AAAA, TXT, rtype::SRV, rtype::ANY, 65_280] {
            assert_eq!(ask(&closed, from, name, rtype), (want.into(), reason), "{name} {rtype} from {from}");
        }
        if reason == Forwarded {
            let (caller, key) = (closed.callers.find(from.parse().unwrap()), Key::from_text(name).unwrap());
            let verdict = decide(&closed, &caller, Question::new(&closed, &key, A)).verdict;
            let want = Forward { exists: false, filtered: true, absent: None };
            assert!(matches!(verdict, Verdict::Forward(how) if how == want), "{name}: {verdict:?}");
        }
    }
    let open = full(settings());
    check(
        &open,
        &[
            (ACME, "x.far.svc.cluster.local", A, "Forward", Forwarded),
            (ACME, "x.absent.svc.cluster.local", A, "Forward", Forwarded),
        ],
    );
}

#[test]
fn a_hidden_service_or_namespace_is_nothing_that_a_search_path_form_could_mean() {
    use Reason::{Absent, Forwarded, Global, Hidden, Visible};
    let closed = full(with(|p| p.cluster_names = ClusterNames::Segment));
    check(
        &closed,
        &[
            // Service shop/other, and domain other
            (ACME, "s.far.other.shop.svc.cluster.local", A, "Forward", Forwarded),
            (OTHER, "s.far.other.shop.svc.cluster.local", A, "3:10.2.0.1", Visible),
            (OTHER, "s.far.other.base.svc.cluster.local", A, "3:10.2.0.1", Visible),
            (OTHER, "none.far.other.shop.svc.cluster.local", A, "NxDomain", Absent),
            // Namespace acme, and domain mesh.acme
            (ACME, "g.shop.mesh.acme.svc.cluster.local", A, "Forward", Forwarded),
            (OTHER, "g.shop.mesh.acme.svc.cluster.local", A, "4:10.2.0.1", Global),
            (OTHER, "s.shop.mesh.acme.svc.cluster.local", A, "NxDomain", Hidden),
        ],
    );
}

#[test]
fn what_else_a_name_under_takeover_has_is_not_asked_for_where_its_namespace_is_hidden() {
    let entry = ServiceEntry {
        namespace: ROOT.into(),
        name: "t".into(),
        labels: Labels::new([
            ("solo.io/parent-service", "g"),
            ("solo.io/parent-service-namespace", "shop"),
            ("admin.solo.io/segment", "other"),
        ]),
        hosts: Box::new(["g.shop.other".into(), "g.shop.svc.cluster.local".into()]),
        addresses: Box::new(["10.9.0.7".parse().unwrap()]),
        ..ServiceEntry::default()
    };
    let all = || objects().into_iter().chain([Object::ServiceEntry(entry.clone())]).collect();
    for (names, txt) in [(ClusterNames::Open, "Forward"), (ClusterNames::Segment, "NoData")] {
        check(
            &build(with(|p| p.cluster_names = names), true, all()),
            &[
                (OTHER, "g.shop.svc.cluster.local", A, "10.9.0.7", Reason::Takeover),
                (OTHER, "g.shop.svc.cluster.local", TXT, txt, Reason::Takeover),
                (ACME, "g.shop.svc.cluster.local", TXT, "Forward", Reason::Takeover),
            ],
        );
    }
}

#[test]
fn before_the_first_complete_state_only_namespaces_that_are_always_visible_are_asked_for() {
    use Reason::{Forwarded, NotSynced};
    let closed = with(|p| p.cluster_names = ClusterNames::Segment);
    for objects in [objects(), Vec::new()] {
        let half = build(closed.clone(), false, objects);
        check(
            &half,
            &[
                (ACME, "s.shop.svc.cluster.local", A, "ServFail", NotSynced),
                (ACME, "x.absent.svc.cluster.local", A, "ServFail", NotSynced),
                (STRANGER, "1-2-3-4.shop.pod.cluster.local", A, "ServFail", NotSynced),
                (STRANGER, "shop.svc.cluster.local", A, "ServFail", NotSynced),
                (STRANGER, "kubernetes.default.svc.cluster.local", A, "Forward", Forwarded),
                (STRANGER, "svc.cluster.local", A, "Forward", Forwarded),
                (STRANGER, "1.0.2.10.in-addr.arpa", A, "Forward", Forwarded),
            ],
        );
    }
}

#[test]
fn without_any_namespace_object_every_namespace_is_of_the_clusters_segment() {
    use Reason::{ClusterHidden, Forwarded};
    let mut closed = with(|p| p.cluster_names = ClusterNames::Segment);
    let of = |cidr: &str, segment: &str| CallerRule {
        cidr: cidr.parse().unwrap(),
        of: CallerOf::Segment(segment.into()),
        enrolled: false,
    };
    closed.callers = vec![of("10.5.0.1/32", "default"), of("10.5.0.2/32", "other")];
    let table = build(closed, true, vec![segment("other", "other", None)]);
    check(
        &table,
        &[
            ("10.5.0.1", "x.shop.svc.cluster.local", A, "Forward", Forwarded),
            ("10.5.0.2", "x.shop.svc.cluster.local", A, "NxDomain", ClusterHidden),
            ("10.5.0.2", "x.kube-system.svc.cluster.local", A, "Forward", Forwarded),
        ],
    );
}

/// A table of which an API server has told everything.
fn told(settings: Settings, all: bool) -> Arc<Table> {
    built(settings, objects(), [SYNCED, Change::Told { all }])
}

/// The label at which the proof begins that a name cannot exist, as a name.
fn proof(table: &Table, from: &str, text: &str) -> Option<String> {
    let (caller, key) = (table.callers.find(from.parse().unwrap()), Key::from_text(text).unwrap());
    match decide(table, &caller, Question::new(table, &key, A)).verdict {
        Verdict::Forward(how) => how.absent.map(|label| key.text(usize::from(label)..key.count())),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn what_kubernetes_has_told_not_to_exist_is_marked_and_in_doubt_nothing_is() {
    let table = told(Settings { forwarded: vec![name("own.cluster.local"), name("local")], ..settings() }, true);
    for (text, want) in [
        ("s.shop.svc.cluster.local", None),
        ("S.Shop.SVC.cluster.local", None),
        ("pod-0.hl.shop.svc.cluster.local", None),
        ("nosuch.hl.shop.svc.cluster.local", None),
        ("_http._tcp.s.shop.svc.cluster.local", None),
        ("g.lost.svc.cluster.local", None),
        ("shop.svc.cluster.local", None),
        ("svc.cluster.local", None),
        ("cluster.local", None),
        // The cluster DNS may rewrite a name of a namespace that exists.
        ("nosuch.shop.svc.cluster.local", None),
        ("x.nosuch.shop.svc.cluster.local", Some("svc.cluster.local")),
        ("_http._tcp.nosuch.shop.svc.cluster.local", Some("svc.cluster.local")),
        ("s.nosuch.svc.cluster.local", Some("svc.cluster.local")),
        ("nosuch.svc.cluster.local", Some("svc.cluster.local")),
        ("api.github.com.shop.svc.cluster.local", Some("svc.cluster.local")),
        ("api.github.com.svc.cluster.local", Some("svc.cluster.local")),
        ("api.github.com.cluster.local", Some("com.cluster.local")),
        ("api.github.COM.cluster.local", Some("com.cluster.local")),
        ("com.cluster.local", None),
        ("1-2-3-4.shop.pod.cluster.local", None),
        ("1-2-3-4.nosuch.pod.cluster.local", None),
        ("ns.dns.cluster.local", None),
        ("x.dns-version.cluster.local", None),
        ("_http._tcp.cluster.local", None),
        // Asked from other upstreams than the rest of the cluster domain.
        ("x.own.cluster.local", None),
        ("example.com", None),
        ("1.0.2.10.in-addr.arpa", None),
    ] {
        assert_eq!(proof(&table, STRANGER, text).as_deref(), want, "{text}");
        assert_eq!(proof(&table, PLAIN, text).as_deref(), want, "{text}");
    }
    let untold = told(settings(), false);
    assert_eq!(proof(&untold, PLAIN, "s.nosuch.svc.cluster.local"), None);
    assert_eq!(proof(&full(settings()), PLAIN, "api.github.com.cluster.local"), None);
}

#[test]
fn with_cluster_names_by_segment_what_cannot_exist_is_answered_at_once() {
    use Reason::{Absent, Forwarded};
    let closed = told(with(|p| p.cluster_names = ClusterNames::Segment), true);
    check(
        &closed,
        &[
            (ACME, "nosuch.shop.svc.cluster.local", A, "Forward", Forwarded),
            (ACME, "x.nosuch.shop.svc.cluster.local", A, "NxDomain", Absent),
            (ACME, "api.github.com.cluster.local", A, "NxDomain", Absent),
            (ACME, "x.nosuch.kube-system.svc.cluster.local", A, "NxDomain", Absent),
            (ACME, "s.shop.svc.cluster.local", A, "Forward", Forwarded),
            (ACME, "1-2-3-4.shop.pod.cluster.local", A, "Forward", Forwarded),
            (ACME, "com.cluster.local", A, "Forward", Forwarded),
        ],
    );
}

#[test]
fn services_come_and_go_one_by_one() {
    let mut world = World::new(settings());
    let mut builder = Builder::new(&world, 11);
    let marked = |builder: &Builder| proof(&builder.table(), STRANGER, "x.web.shop.svc.cluster.local").is_some();
    let put = |object| Change::Apply { cluster: LOCAL, object, faults: Vec::new() };
    let web = || service("shop", "web", ips(&["10.2.0.9"]), &[]);
    let gone = || Change::Delete { cluster: LOCAL, key: web().key() };
    let steps = [
        (vec![put(namespace("shop", None)), Change::Synced { cluster: LOCAL }, Change::Told { all: true }], true),
        (vec![put(web())], false),
        // A change, and one that goes and comes in one batch, leave it as it is.
        (vec![put(service("shop", "web", ips(&["10.2.0.8"]), &[]))], false),
        (vec![gone(), put(web())], false),
        (vec![put(web()), gone()], true),
        (vec![put(web()), gone(), put(web())], false),
        (vec![Change::Told { all: false }], false),
        (vec![gone()], false),
        (vec![Change::Told { all: true }], true),
        // Of a peer, it is no Service of the cluster domain here.
        (vec![Change::Joined { cluster: 1, name: "peer".into() }], true),
        (vec![Change::Apply { cluster: 1, object: web(), faults: Vec::new() }], true),
    ];
    for (step, (changes, want)) in steps.into_iter().enumerate() {
        let delta = world.apply(changes, 0);
        builder.apply(&world, delta);
        assert_eq!(marked(&builder), want, "after step {step}");
    }
}

#[test]
fn the_first_form_of_a_pods_search_list_may_be_completed_and_nothing_else() {
    let searching = |ns: &str, address: &str, searches: Option<&[&str]>| {
        let all = searches.map(|all| all.iter().map(|one| (*one).into()).collect());
        Object::Pod(Pod {
            namespace: ns.into(),
            name: address.into(),
            addresses: Box::new([address.parse().unwrap()]),
            searches: all,
            ..Pod::default()
        })
    };
    let (shop, far, lost, own) = ("10.4.0.1", "10.4.0.2", "10.4.0.3", "10.4.0.4");
    let pods = [
        searching("shop", shop, Some(&["pod.example", "CORP.example."])),
        searching("far", far, Some(&[])),
        searching("lost", lost, Some(&[])),
        searching("shop", own, None),
    ];
    let table = |change: fn(&mut Policy), synced: bool, all: bool| {
        let hidden = service("lost", "h", ips(&["10.2.0.7"]), &[]);
        let last = synced.then_some(SYNCED).into_iter().chain([Change::Told { all }]);
        built(with(change), objects().into_iter().chain(pods.clone()).chain([hidden]), last)
    };
    let what = |table: &Table, from: &str, text: &str| ask(table, from, text, A).0;
    let open = table(|p| p.autopath = true, true, false);
    for (from, text, want) in [
        (shop, "api.github.com.shop.svc.cluster.local", "Complete"),
        (shop, "API.github.com.SHOP.svc.cluster.local", "Complete"),
        (shop, "nosuch.shop.svc.cluster.local", "Complete"),
        (shop, "g.shop.svc.cluster.local", "Complete"),
        (far, "api.github.com.far.svc.cluster.local", "Complete"),
        (lost, "api.github.com.lost.svc.cluster.local", "Complete"),
        (shop, "api.github.com.far.svc.cluster.local", "Forward"),
        (shop, "api.github.com.svc.cluster.local", "Forward"),
        (shop, "shop.svc.cluster.local", "Forward"),
        (shop, "api.github.com.shop.pod.cluster.local", "Forward"),
        (shop, "mesh.acme.shop.svc.cluster.local", "Forward"),
        (shop, "q.far.other.shop.svc.cluster.local", "Forward"),
        (shop, "s.shop.mesh.acme.shop.svc.cluster.local", "4:10.2.0.1"),
        (shop, "api.github.com", "Forward"),
        (own, "api.github.com.shop.svc.cluster.local", "Forward"),
        (ACME, "api.github.com.shop.svc.cluster.local", "Forward"),
        (NODE, "api.github.com.shop.svc.cluster.local", "Forward"),
    ] {
        assert_eq!(what(&open, from, text), want, "{text} from {from}");
    }
    let name = "api.github.com.shop.svc.cluster.local";
    assert_eq!(what(&table(|_| {}, true, true), shop, name), "Forward", "off");
    assert_eq!(what(&table(|p| p.autopath = true, false, true), shop, name), "Forward", "before the first sync");
    // What is told to exist needs no completion; what is told not to is marked all the same.
    let told = table(|p| p.autopath = true, true, true);
    assert_eq!(what(&told, shop, "g.shop.svc.cluster.local"), "Forward");
    let (caller, key) = (told.callers.find(shop.parse().unwrap()), Key::from_text(name).unwrap());
    let verdict = decide(&told, &caller, Question::new(&told, &key, A)).verdict;
    assert!(matches!(verdict, Verdict::Complete(Some(Forward { absent: Some(4), .. }))), "{verdict:?}");
    // Hidden from a caller without a valid segment, as every name is.
    let closed = table(|p| (p.autopath, p.cluster_names) = (true, ClusterNames::Segment), true, true);
    let key = Key::from_text("api.github.com.lost.svc.cluster.local").unwrap();
    let decision = decide(&closed, &closed.callers.find(lost.parse().unwrap()), Question::new(&closed, &key, A));
    assert!(
        matches!(decision.verdict, Verdict::Complete(None)) && matches!(decision.plain().verdict, Verdict::NxDomain)
    );
    // And so a Service that is there goes the way of one that is not.
    for name in ["h.lost.svc.cluster.local", "nosuch.lost.svc.cluster.local"] {
        assert_eq!(what(&closed, lost, name), "Complete", "{name}");
    }
    // In the order of the pod's search list, the cluster's own domains of the node's file left out.
    let asked = [&*crate::table::key::wire_of(name).unwrap(), &[0]].concat();
    let node = ["corp.example", "kube-system.svc.cluster.local"].map(self::name);
    let caller = open.callers.find(shop.parse().unwrap());
    let key = Key::from_text(name).unwrap();
    let all = crate::table::autopath::candidates(&open, &caller, &key, &asked, &node);
    let all: Vec<String> = all.iter().map(|wire| crate::table::key::text_of(wire)).collect();
    let want =
        ["svc.cluster.local", "cluster.local", "corp.example", "pod.example"].map(|s| format!("api.github.com.{s}"));
    assert_eq!(all[..4], want);
    assert_eq!(all[4..], ["api.github.com"]);
}
