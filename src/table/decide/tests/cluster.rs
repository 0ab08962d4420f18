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
            let verdict = decide(&closed, &caller, Question { key: &key, rtype: A }).verdict;
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
