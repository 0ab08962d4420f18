//! Cases of R2 to R4.

use super::*;
use crate::mesh::object::Labels;
use crate::mesh::settings::{Policy, ServiceEntries};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn settings() -> Settings {
    Settings {
        clusters: vec!["here".into(), "peer".into()],
        cluster_domain: name("cluster.local"),
        root_namespace: "istio-system".into(),
        default_name: "default".into(),
        default_domain: name("mesh.internal"),
        zones: vec![name("mesh.extra"), name("mesh.acme")],
        node: None,
        service_entries: ServiceEntries::Generated,
        policy: Policy::default(),
        callers: Vec::new(),
        forwarded: Vec::new(),
        grace_ms: 0,
    }
}

fn segment(name: &str, domain: Option<&str>, created: i64) -> Segment {
    Segment {
        namespace: "istio-system".into(),
        name: name.into(),
        created,
        domain: domain.map(Into::into),
        ..Segment::default()
    }
}

fn root(label: Option<&str>) -> Namespace {
    let labels = Labels::new(label.map(|l| (label::SEGMENT, l)));
    Namespace { name: "istio-system".into(), labels, broken: false }
}

fn judge(here: &[Segment], label: Option<&str>, there: &[Segment], theirs: Option<&str>) -> (Layout, Vec<Report>) {
    let (root_here, root_there) = (root(label), root(theirs));
    let clusters = [
        ClusterFacts { segments: here.iter().collect(), root: Some(&root_here) },
        ClusterFacts { segments: there.iter().collect(), root: Some(&root_there) },
    ];
    Layout::judge(&settings(), &clusters)
}

fn domains(layout: &Layout) -> Vec<&str> {
    layout.segments.iter().skip(1).map(|s| s.domain.as_str()).collect()
}

#[test]
fn a_domain_counts_if_it_is_a_dns_name_outside_what_others_own() {
    let label63 = "a".repeat(63);
    let longest = format!("{}.{}.{}.{}", label63, label63, label63, "a".repeat(61));
    let over = format!("{longest}a");
    let (long_label, edge) = (format!("{}.acme", "a".repeat(64)), format!("{label63}.acme"));
    let cases: [(&str, Option<&str>); 27] = [
        ("mesh.acme", Some("mesh.acme")),
        ("Mesh.ACME", Some("mesh.acme")),
        ("acme", Some("acme")),
        ("prod.mesh.internal", Some("prod.mesh.internal")),
        ("internal", Some("internal")),
        ("1.2", Some("1.2")),
        ("a--b.c", Some("a--b.c")),
        (&longest, Some(&longest)),
        (&edge, Some(&edge)),
        (&over, None),
        (&long_label, None),
        ("mesh.internal", None),
        ("MESH.internal", None),
        ("cluster.local", None),
        ("mesh.Cluster.local", None),
        ("local", None),
        ("arpa", None),
        ("in-addr.arpa", None),
        ("10.in-addr.ARPA", None),
        ("sharpa", Some("sharpa")),
        ("", None),
        ("mesh_acme", None),
        ("mesh..acme", None),
        (".acme", None),
        ("mesh.acme.", None),
        ("-mesh.acme", None),
        ("m\u{fc}ll.acme", None),
    ];
    for (text, want) in cases {
        let (layout, reports) = judge(&[segment("s", Some(text), 0)], None, &[], None);
        assert_eq!(domains(&layout), want.into_iter().collect::<Vec<_>>(), "{text}");
        let kinds: Vec<_> = reports.iter().map(|r| (r.kind, r.rule)).collect();
        let reported: &[_] = if want.is_some() { &[] } else { &[(ReportKind::SegmentInvalid, "R2")] };
        assert_eq!(kinds, reported, "{text}");
    }
}

#[test]
fn a_segment_counts_in_the_root_namespace_with_a_name_of_its_own_and_a_domain() {
    let elsewhere = Segment { namespace: "shop".into(), ..segment("s", Some("mesh.acme"), 0) };
    for wrong in [elsewhere, segment("default", Some("mesh.acme"), 0), segment("s", None, 0)] {
        let (layout, reports) = judge(std::slice::from_ref(&wrong), Some("s"), &[], None);
        assert_eq!(layout.segments.len(), 1, "{wrong:?}");
        let invalid = reports.iter().filter(|r| r.kind == ReportKind::SegmentInvalid).count();
        assert_eq!((invalid, layout.find("s")), (1, None), "{wrong:?}");
        assert_eq!(layout.clusters[LOCAL].standing, Standing::Invalid);
    }
}

#[test]
fn of_two_segments_with_one_domain_the_older_keeps_it_whatever_their_order() {
    // (name, created), the winner first.
    let cases = [(("b", 1), ("a", 2)), (("a", 1), ("b", 1)), (("z", -5), ("a", 0))];
    for ((winner, first), (loser, second)) in cases {
        let mut both = vec![segment(winner, Some("mesh.acme"), first), segment(loser, Some("MESH.acme"), second)];
        for _ in 0..2 {
            let (layout, reports) = judge(&both, Some(loser), &[], None);
            assert_eq!((layout.find(winner), layout.find(loser)), (Some(1), None));
            assert_eq!(&*reports[0].object.name, loser);
            assert_eq!(layout.clusters[LOCAL].standing, Standing::Invalid, "R3: never the winner's names");
            both.reverse();
        }
    }
}

#[test]
fn a_label_names_a_valid_segment_or_nothing() {
    let here = [segment("one", Some("mesh.one"), 0), segment("bad", Some("a_b"), 0)];
    let cases = [
        (None, Standing::Of(DEFAULT)),
        (Some("default"), Standing::Of(DEFAULT)),
        (Some("one"), Standing::Of(1)),
        (Some("bad"), Standing::Invalid),
        (Some("absent"), Standing::Invalid),
        (Some(""), Standing::Invalid),
        (Some("One"), Standing::Invalid),
        (Some("DEFAULT"), Standing::Invalid),
    ];
    for (label, want) in cases {
        let (layout, reports) = judge(&here, label, &[], None);
        assert_eq!(layout.clusters[LOCAL].standing, want, "{label:?}");
        let told = reports.iter().any(|r| r.kind == ReportKind::SegmentLabelInvalid && r.rule == "R3");
        assert_eq!(told, want == Standing::Invalid, "{label:?}");
    }
    let broken = Namespace { broken: true, ..root(None) };
    let clusters = [ClusterFacts { segments: Vec::new(), root: Some(&broken) }];
    let (layout, _) = Layout::judge(&settings(), &clusters);
    assert_eq!(layout.clusters[LOCAL].standing, Standing::Invalid, "what its label says is not known");
}

#[test]
fn a_peer_counts_if_its_segment_exists_here_with_the_same_domain() {
    let one = |domain| segment("one", Some(domain), 0);
    // segments here, segments there, the peer's label: its standing, and whether it is disabled
    type Case = (Vec<Segment>, Vec<Segment>, Option<&'static str>, Standing, bool);
    let cases: [Case; 8] = [
        (vec![one("mesh.one")], vec![one("Mesh.One")], Some("one"), Standing::Of(1), false),
        (vec![one("mesh.one")], vec![one("mesh.two")], Some("one"), Standing::Invalid, true),
        (vec![], vec![one("mesh.one")], Some("one"), Standing::Invalid, true),
        (vec![one("a_b")], vec![one("mesh.one")], Some("one"), Standing::Invalid, true),
        (vec![], vec![], Some("one"), Standing::Invalid, true),
        (vec![one("mesh.one")], vec![], Some("one"), Standing::Invalid, false),
        (vec![one("mesh.one")], vec![one("mesh.two")], None, Standing::Of(DEFAULT), false),
        (vec![], vec![], Some("default"), Standing::Of(DEFAULT), false),
    ];
    for (here, there, label, standing, disabled) in cases {
        let (layout, reports) = judge(&here, None, &there, label);
        let peer = &layout.clusters[1];
        assert_eq!((peer.standing, peer.disabled), (standing, disabled), "{here:?} {there:?} {label:?}");
        let told = reports.iter().any(|r| r.kind == ReportKind::PeerDisabled && r.rule == "R4");
        assert_eq!(told, disabled, "{here:?} {there:?} {label:?}");
        assert_eq!(layout.clusters[LOCAL].standing, Standing::Of(DEFAULT), "the local cluster goes on");
    }
}

#[test]
fn a_name_belongs_to_the_longest_zone_that_is_its_suffix() {
    let here = [
        segment("outer", Some("acme"), 0),
        segment("inner", Some("mesh.acme"), 0),
        segment("prod", Some("prod.mesh.internal"), 0),
    ];
    let (layout, _) = judge(&here, None, &[], None);
    let of = |text: &str| layout.segment_of(&name(text)).map(|s| &*layout.segments[usize::from(s)].name);
    let cases = [
        ("web.shop.acme", Some("outer")),
        ("web.mesh.acme", Some("inner")),
        ("web.shop.mesh.acme", Some("inner")),
        ("web.xmesh.acme", Some("outer")),
        ("web.prod.mesh.internal", Some("prod")),
        ("web.shop.mesh.internal", Some("default")),
        ("mesh.acme", None),
        ("acme", None),
        ("xacme", None),
        ("web.shop.mesh.extra", None),
        ("example.com", None),
    ];
    for (text, want) in cases {
        assert_eq!(of(text), want, "{text}");
    }
    // A zone that the configuration names, too, stands once, with its segment.
    let zones: Vec<_> = layout.zones.iter().map(|(zone, s)| (zone.as_str(), s.is_some())).collect();
    assert_eq!(zones.iter().filter(|(zone, _)| *zone == "mesh.acme").count(), 1);
    assert!(zones.contains(&("mesh.acme", true)) && zones.contains(&("mesh.extra", false)));
}
