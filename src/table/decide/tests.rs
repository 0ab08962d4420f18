//! Cases of R11 to R14, R16, R18, R19, R21 and R22, over tables built from objects.

mod cluster;

use std::net::IpAddr;
use std::sync::Arc;

use super::*;
use crate::mesh::name::Name;
use crate::mesh::object::{
    Alias, Change, Endpoint, EndpointSlice, LOCAL, Labels, Namespace, Object, Pod, Port, Protocol, Reach, Segment,
    Service, ServiceEntry,
};
use crate::mesh::settings::{CrossSegment, Policy, ServiceEntries, Settings, TakeoverAnswer};
use crate::mesh::world::World;
use crate::table::build::Builder;

const ROOT: &str = "istio-system";
/// A pod of segment acme, IPv4 only; one with IPv6, too; one that is not in the mesh; and so on.
const ACME: &str = "10.1.0.1";
const ACME_SIX: &str = "10.1.0.2";
const PLAIN: &str = "10.1.0.3";
const OTHER: &str = "10.1.0.4";
const DEFAULT: &str = "10.1.0.5";
const INVALID: &str = "10.1.0.6";
const STRANGER: &str = "192.0.2.1";
const NODE: &str = "127.0.0.1";

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn settings() -> Settings {
    Settings { clusters: vec!["here".into()], service_entries: ServiceEntries::All, grace_ms: 0, ..Settings::default() }
}

fn with(change: impl FnOnce(&mut Policy)) -> Settings {
    let mut settings = settings();
    change(&mut settings.policy);
    settings
}

fn namespace(name: &str, segment: Option<&str>) -> Object {
    let labels = Labels::new(segment.map(|s| ("admin.solo.io/segment", s)));
    Object::Namespace(Namespace { name: name.into(), labels, broken: false })
}

fn segment(name: &str, domain: &str, pattern: Option<&str>) -> Object {
    let alias = |p: &str| Alias { pattern: p.into(), selector: Labels::new([("alias", "yes")]), unsupported: None };
    Object::Segment(Segment {
        namespace: ROOT.into(),
        name: name.into(),
        created: 0,
        domain: Some(domain.into()),
        aliases: pattern.map(alias).into_iter().collect(),
    })
}

fn service(ns: &str, name: &str, reach: Reach, labels: &[(&str, &str)]) -> Object {
    Object::Service(Service {
        namespace: ns.into(),
        name: name.into(),
        created: 0,
        labels: Labels::new(labels.iter().copied()),
        annotations: Labels::default(),
        reach,
        publish_not_ready: false,
        ports: Box::new([Port { name: "http".into(), number: 80, protocol: Protocol::Tcp }]),
    })
}

fn ips(all: &[&str]) -> Reach {
    Reach::ClusterIps(all.iter().map(|a| a.parse().unwrap()).collect())
}

fn pod(ns: &str, enrolled: bool, addresses: &[&str]) -> Object {
    Object::Pod(Pod {
        namespace: ns.into(),
        name: addresses[0].into(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        enrolled,
        ..Pod::default()
    })
}

const SCOPE: &str = "solo.io/service-scope";
const TAKEOVER: &str = "solo.io/service-takeover";

fn objects() -> Vec<Object> {
    let both = || ips(&["10.2.0.1", "fd00::1"]);
    let (global, own) = ((SCOPE, "global"), (SCOPE, "segment"));
    let endpoint = |hostname: Option<&str>, ready| Endpoint {
        addresses: Box::new(["10.3.0.1".parse().unwrap()]),
        ready,
        hostname: hostname.map(Into::into),
    };
    let slice = |service: &str, endpoints: &[Endpoint]| {
        Object::EndpointSlice(EndpointSlice {
            namespace: "shop".into(),
            name: service.into(),
            service: service.into(),
            endpoints: endpoints.into(),
            ports: Box::new([Port { name: "http".into(), number: 8080, protocol: Protocol::Tcp }]),
        })
    };
    let hand_written = ServiceEntry {
        namespace: "shop".into(),
        name: "hand".into(),
        hosts: Box::new(["api.example.com".into(), "*.wild.example".into()]),
        addresses: Box::new(["10.9.0.1".parse().unwrap()]),
        ..ServiceEntry::default()
    };
    vec![
        segment("acme", "mesh.acme", Some("{service}.corp")),
        segment("other", "other", None),
        namespace(ROOT, Some("acme")),
        namespace("shop", None),
        namespace("kube-system", None),
        namespace("far", Some("other")),
        namespace("acme", None),
        namespace("base", Some("default")),
        namespace("lost", Some("ghost")),
        pod("shop", true, &[ACME]),
        pod("shop", true, &[ACME_SIX, "fd00::c"]),
        pod("shop", false, &[PLAIN]),
        pod("far", true, &[OTHER]),
        pod("base", true, &[DEFAULT]),
        pod("lost", true, &[INVALID]),
        service("shop", "g", both(), &[global, (TAKEOVER, "true"), ("alias", "yes")]),
        service("shop", "s", both(), &[own, ("alias", "yes")]),
        service("shop", "none", ips(&[]), &[own, (TAKEOVER, "true")]),
        service("shop", "ext", Reach::ExternalName("g.shop.mesh.acme".into()), &[own]),
        service("shop", "hl", Reach::Headless, &[own, (TAKEOVER, "true")]),
        service("shop", "idle", Reach::Headless, &[own]),
        slice("hl", &[endpoint(Some("pod-0"), true), endpoint(Some("pod-1"), false)]),
        slice("idle", &[endpoint(None, false)]),
        service("far", "g", both(), &[global, (TAKEOVER, "true")]),
        service("far", "s", both(), &[own]),
        service("base", "g", both(), &[global]),
        service("base", "s", both(), &[own]),
        service("lost", "g", both(), &[global]),
        service("shop", "other", both(), &[]),
        Object::ServiceEntry(hand_written),
    ]
}

const SYNCED: Change = Change::Synced { cluster: LOCAL };

fn build(settings: Settings, synced: bool, objects: Vec<Object>) -> Arc<Table> {
    built(settings, objects, synced.then_some(SYNCED))
}

/// A table of these objects, and of what is told after them.
fn built(
    settings: Settings,
    objects: impl IntoIterator<Item = Object>,
    last: impl IntoIterator<Item = Change>,
) -> Arc<Table> {
    let mut world = World::new(settings);
    let mut builder = Builder::new(&world, 11);
    let applied = objects.into_iter().map(|object| Change::Apply { cluster: LOCAL, object, faults: Vec::new() });
    let delta = world.apply(applied.chain(last).collect(), 0);
    builder.apply(&world, delta)
}

fn full(settings: Settings) -> Arc<Table> {
    build(settings, true, objects())
}

/// The verdict in a word, with what matters of it, and the reason.
fn ask(table: &Table, from: &str, text: &str, rtype: u16) -> (String, Reason) {
    let from: IpAddr = from.parse().unwrap();
    let key = Key::from_text(text).unwrap();
    let caller = table.callers.find(from);
    let decision = decide(table, &caller, Question::new(table, &key, rtype));
    let all = |view: View<'_>| {
        let of_type = view.addresses().filter(|a| a.is_ipv4() == (rtype == rtype::A));
        of_type.map(|a| a.to_string()).collect::<Vec<_>>().join(",")
    };
    let mut word = match decision.verdict {
        Verdict::Addresses(view) => all(view),
        Verdict::Chain(target, view) => format!("{}>{}", super::super::key::text_of(target), all(view)),
        Verdict::Cname(target) => super::super::key::text_of(target),
        Verdict::Services(port) => format!("{:?}", port.targets().collect::<Vec<_>>()),
        other => {
            let text = format!("{other:?}");
            text.split([' ', '(']).next().unwrap_or_default().to_owned()
        }
    };
    if let Some(labels) = decision.mesh_labels {
        word = format!("{labels}:{word}");
    }
    (word, decision.reason)
}

type Case<'a> = (&'a str, &'a str, u16, &'a str, Reason);

fn check(table: &Table, cases: &[Case<'_>]) {
    for (from, name, rtype, want, reason) in cases {
        let got = ask(table, from, name, *rtype);
        assert_eq!((got.0.as_str(), got.1), (*want, *reason), "{name} {rtype} from {from}");
    }
}

const A: u16 = rtype::A;
const AAAA: u16 = rtype::AAAA;
const TXT: u16 = 16;

#[test]
fn a_caller_sees_its_own_segment_and_what_is_global_of_others_but_never_the_default_one() {
    use Reason::{Absent, Global, Hidden, Visible};
    let v4 = "10.2.0.1";
    let cases: &[Case<'_>] = &[
        (ACME, "s.shop.mesh.acme", A, v4, Visible),
        (ACME, "S.Shop.MESH.Acme", A, v4, Visible),
        (ACME, "g.shop.mesh.acme", A, v4, Visible),
        (ACME, "g.far.other", A, v4, Global),
        (ACME, "s.far.other", A, "NxDomain", Hidden),
        (ACME, "g.base.mesh.internal", A, "NxDomain", Hidden),
        (OTHER, "g.shop.mesh.acme", A, v4, Global),
        (OTHER, "s.shop.mesh.acme", A, "NxDomain", Hidden),
        (OTHER, "s.far.other", A, v4, Visible),
        (DEFAULT, "g.shop.mesh.acme", A, v4, Global),
        (DEFAULT, "s.base.mesh.internal", A, v4, Visible),
        (NODE, "s.shop.mesh.acme", A, v4, Visible),
        (PLAIN, "s.shop.mesh.acme", A, v4, Visible),
        (ACME, "other.shop.mesh.acme", A, "NxDomain", Absent),
        (ACME, "g.lost.mesh.acme", A, "NxDomain", Absent),
        (ACME, "g.lost.mesh.internal", A, "NxDomain", Absent),
        (ACME, "x.s.shop.mesh.acme", A, "NxDomain", Absent),
    ];
    check(&full(settings()), cases);
    check(
        &full(with(|p| p.cross_segment = CrossSegment::Deny)),
        &[
            (ACME, "g.far.other", A, "NxDomain", Hidden),
            (DEFAULT, "g.shop.mesh.acme", A, "NxDomain", Hidden),
            (ACME, "s.shop.mesh.acme", A, v4, Visible),
        ],
    );
    check(
        &full(with(|p| p.default_segment_visible = true)),
        &[(ACME, "g.base.mesh.internal", A, v4, Global), (ACME, "s.base.mesh.internal", A, "NxDomain", Hidden)],
    );
}

#[test]
fn callers_without_a_segment_get_servfail_for_every_name_in_a_mesh_zone_apexes_too() {
    let table = full(settings());
    for name in ["s.shop.mesh.acme", "none.shop.mesh.acme", "shop.mesh.acme", "mesh.acme", "g.base.mesh.internal"] {
        for rtype in [A, AAAA, rtype::SOA, rtype::SRV, rtype::ANY, 65_280] {
            assert_eq!(ask(&table, INVALID, name, rtype), ("ServFail".into(), Reason::CallerInvalid), "{name}");
            assert_eq!(ask(&table, STRANGER, name, rtype), ("HoldThenFail".into(), Reason::CallerUnknown), "{name}");
        }
    }
    for from in [INVALID, STRANGER] {
        for name in ["example.com", "g.shop.svc.cluster.local", "g.corp", "1.0.2.10.in-addr.arpa"] {
            assert_eq!(ask(&table, from, name, A), ("Forward".into(), Reason::Forwarded), "{name} from {from}");
        }
    }
}

#[test]
fn hidden_is_decided_as_absent_whatever_is_asked() {
    let table = full(settings());
    let pairs = [
        ("s.far.other", "q.far.other"),
        ("x.s.far.other", "x.q.far.other"),
        ("_http._tcp.s.far.other", "_http._tcp.q.far.other"),
        ("_tcp.s.far.other", "_tcp.q.far.other"),
        ("g.base.mesh.internal", "q.base.mesh.internal"),
        ("base.mesh.internal", "bose.mesh.internal"),
        ("s.far.other.far.svc.cluster.local", "q.far.other.far.svc.cluster.local"),
        ("s.far.other.svc.cluster.local", "q.far.other.svc.cluster.local"),
        ("s.far.other.cluster.local", "q.far.other.cluster.local"),
    ];
    for (hidden, absent) in pairs {
        for rtype in (1..=300).chain([65_280]) {
            let (one, two) = (ask(&table, ACME, hidden, rtype), ask(&table, ACME, absent, rtype));
            assert_eq!((one.0.as_str(), two.0.as_str()), ("NxDomain", "NxDomain"), "{hidden} {rtype}");
        }
    }
}

#[test]
fn an_empty_non_terminal_exists_for_those_who_see_a_name_below_it() {
    use Reason::{Absent, Apex, Empty, Hidden};
    let cases: &[Case<'_>] = &[
        (ACME, "shop.mesh.acme", A, "NoData", Empty),
        (ACME, "far.other", A, "NoData", Empty),
        (ACME, "base.mesh.internal", A, "NxDomain", Hidden),
        (DEFAULT, "base.mesh.internal", A, "NoData", Empty),
        (ACME, "lost.mesh.acme", A, "NxDomain", Absent),
        (ACME, "mesh.acme", A, "NoData", Apex),
        (OTHER, "mesh.acme", rtype::SOA, "Apex", Apex),
        (OTHER, "mesh.internal", rtype::NS, "Apex", Apex),
        (ACME, "mesh.internal", rtype::ANY, "Any", Apex),
    ];
    check(&full(settings()), cases);
    check(
        &full(with(|p| p.cross_segment = CrossSegment::Deny)),
        &[(ACME, "far.other", A, "NxDomain", Hidden), (OTHER, "far.other", A, "NoData", Empty)],
    );
}

#[test]
fn types_are_answered_as_the_name_has_them() {
    use Reason::{Empty, NoAddress, NoData, Visible};
    let cases: &[Case<'_>] = &[
        (ACME, "s.shop.mesh.acme", AAAA, "NoData", NoData),
        (ACME_SIX, "s.shop.mesh.acme", AAAA, "fd00::1", Visible),
        (NODE, "s.shop.mesh.acme", AAAA, "fd00::1", Visible),
        (ACME, "s.shop.mesh.acme", TXT, "NoData", NoData),
        (ACME, "s.shop.mesh.acme", 65, "NoData", NoData),
        (ACME, "s.shop.mesh.acme", rtype::SOA, "NoData", NoData),
        (ACME, "s.shop.mesh.acme", rtype::ANY, "Any", Visible),
        (ACME, "ext.shop.mesh.acme", A, "g.shop.mesh.acme", Visible),
        (ACME, "ext.shop.mesh.acme", TXT, "g.shop.mesh.acme", Visible),
        (ACME, "none.shop.mesh.acme", A, "NoData", NoAddress),
        (ACME, "idle.shop.mesh.acme", A, "NoData", NoAddress),
        (ACME, "hl.shop.mesh.acme", A, "10.3.0.1", Visible),
        (ACME, "pod-0.hl.shop.mesh.acme", A, "10.3.0.1", Visible),
        (ACME, "pod-1.hl.shop.mesh.acme", A, "NxDomain", Reason::Absent),
        (ACME, "_http._tcp.s.shop.mesh.acme", rtype::SRV, "[(80, [])]", Visible),
        (ACME, "_HTTP._tcp.s.shop.mesh.acme", rtype::SRV, "[(80, [])]", Visible),
        (ACME, "_http._tcp.s.shop.mesh.acme", A, "NoData", NoData),
        (ACME, "_tcp.s.shop.mesh.acme", A, "NoData", Empty),
        (ACME, "_http._udp.s.shop.mesh.acme", rtype::SRV, "NxDomain", Reason::Absent),
        (ACME, "_http._tcp.idle.shop.mesh.acme", rtype::SRV, "NoData", NoAddress),
        (ACME, "_._tcp.s.shop.mesh.acme", rtype::SRV, "NxDomain", Reason::Absent),
    ];
    check(&full(settings()), cases);
    check(
        &full(with(|p| p.aaaa = crate::mesh::settings::Aaaa::Off)),
        &[(ACME_SIX, "s.shop.mesh.acme", AAAA, "NoData", NoData)],
    );
    check(
        &full(with(|p| p.aaaa = crate::mesh::settings::Aaaa::On)),
        &[(ACME, "s.shop.mesh.acme", AAAA, "fd00::1", Visible)],
    );
}

#[test]
fn aliases_and_hand_written_hosts_are_answered_and_hidden_ones_are_forwarded() {
    use Reason::{Forwarded, Global, Public, Visible};
    let cases: &[Case<'_>] = &[
        (ACME, "s.corp", A, "10.2.0.1", Visible),
        (OTHER, "g.corp", A, "10.2.0.1", Global),
        (OTHER, "s.corp", A, "Forward", Forwarded),
        (DEFAULT, "s.corp", A, "Forward", Forwarded),
        (STRANGER, "g.corp", A, "Forward", Forwarded),
        (ACME, "q.corp", A, "Forward", Forwarded),
        (STRANGER, "api.example.com", A, "10.9.0.1", Public),
        (OTHER, "x.wild.example", A, "10.9.0.1", Public),
        (OTHER, "a.b.wild.example", A, "10.9.0.1", Public),
        (OTHER, "wild.example", A, "Forward", Forwarded),
        (OTHER, "api.example.com", TXT, "NoData", Reason::NoData),
    ];
    check(&full(settings()), cases);
}

#[test]
fn a_cluster_name_is_taken_over_for_enrolled_callers_of_the_services_segment() {
    use Reason::{Forwarded, Takeover};
    let cases: &[Case<'_>] = &[
        (ACME, "g.shop.svc.cluster.local", A, "10.2.0.1", Takeover),
        (ACME, "g.shop.svc.cluster.local", AAAA, "NoData", Takeover),
        (ACME_SIX, "g.shop.svc.cluster.local", AAAA, "fd00::1", Takeover),
        (ACME, "g.shop.svc.cluster.local", rtype::SRV, "Forward", Takeover),
        (PLAIN, "g.shop.svc.cluster.local", A, "Forward", Forwarded),
        (OTHER, "g.shop.svc.cluster.local", A, "Forward", Forwarded),
        (NODE, "g.shop.svc.cluster.local", A, "Forward", Forwarded),
        (ACME, "g.far.svc.cluster.local", A, "Forward", Forwarded),
        (OTHER, "g.far.svc.cluster.local", A, "10.2.0.1", Takeover),
        (ACME, "s.shop.svc.cluster.local", A, "Forward", Forwarded),
        (ACME, "none.shop.svc.cluster.local", A, "Forward", Forwarded),
        (ACME, "hl.shop.svc.cluster.local", A, "Forward", Forwarded),
        (ACME, "x.g.shop.svc.cluster.local", A, "Forward", Forwarded),
    ];
    check(&full(settings()), cases);
    let chain = full(with(|p| p.takeover = TakeoverAnswer::Cname));
    check(&chain, &[(ACME, "g.shop.svc.cluster.local", A, "g.shop.mesh.acme>10.2.0.1", Takeover)]);
    let all = full(with(|p| p.takeover_for = crate::mesh::settings::TakeoverFor::All));
    check(
        &all,
        &[
            (PLAIN, "g.shop.svc.cluster.local", A, "10.2.0.1", Takeover),
            (OTHER, "g.shop.svc.cluster.local", A, "Forward", Forwarded),
        ],
    );
}

#[test]
fn a_mesh_name_behind_a_search_path_is_answered_at_once_unless_the_cluster_could_have_it() {
    use Reason::{Absent, Empty, Forwarded, Global, Hidden, NoData, Visible};
    let cases: &[Case<'_>] = &[
        (ACME, "s.shop.mesh.acme.shop.svc.cluster.local", A, "4:10.2.0.1", Visible),
        (ACME, "s.shop.mesh.acme.cluster.local", A, "4:10.2.0.1", Visible),
        (ACME, "s.shop.mesh.acme.shop.svc.cluster.local", TXT, "4:NoData", NoData),
        (ACME, "shop.mesh.acme.shop.svc.cluster.local", A, "3:NoData", Empty),
        (ACME, "g.far.other.far.svc.cluster.local", A, "3:10.2.0.1", Global),
        (ACME, "s.far.other.far.svc.cluster.local", A, "NxDomain", Hidden),
        (ACME, "q.far.other.svc.cluster.local", A, "NxDomain", Absent),
        (ACME, "_http._tcp.s.shop.mesh.acme.shop.svc.cluster.local", rtype::SRV, "6:[(80, [])]", Visible),
        // Apexes, and what may be of the namespace `acme` or of the Service `other` in `shop`.
        (ACME, "mesh.acme.shop.svc.cluster.local", A, "Forward", Forwarded),
        (ACME, "other.cluster.local", A, "Forward", Forwarded),
        (ACME, "s.shop.mesh.acme.svc.cluster.local", A, "Forward", Forwarded),
        (ACME, "s.far.other.shop.svc.cluster.local", A, "Forward", Forwarded),
        (ACME, "q.far.other.shop.svc.cluster.local", A, "Forward", Forwarded),
        // A caller without a segment is told nothing.
        (INVALID, "s.shop.mesh.acme.shop.svc.cluster.local", A, "NxDomain", Reason::CallerInvalid),
        (STRANGER, "s.shop.mesh.acme.shop.svc.cluster.local", A, "NxDomain", Reason::CallerUnknown),
    ];
    check(&full(settings()), cases);
}

#[test]
fn before_the_first_complete_state_mesh_names_fail_and_others_wait_for_the_zones_only() {
    use Reason::{Forwarded, NotSynced};
    let half = build(settings(), false, objects());
    check(
        &half,
        &[
            (ACME, "s.shop.mesh.acme", A, "ServFail", NotSynced),
            (ACME, "mesh.acme", rtype::SOA, "ServFail", NotSynced),
            (ACME, "g.base.mesh.internal", A, "ServFail", NotSynced),
            (STRANGER, "s.shop.mesh.acme", A, "ServFail", NotSynced),
            (ACME, "s.shop.mesh.acme.shop.svc.cluster.local", A, "ServFail", NotSynced),
            (ACME, "g.shop.svc.cluster.local", A, "Forward", Forwarded),
            (ACME, "s.corp", A, "Forward", Forwarded),
            (ACME, "api.example.com", A, "Forward", Forwarded),
        ],
    );
    let nothing = build(settings(), false, Vec::new());
    check(
        &nothing,
        &[
            (ACME, "s.shop.mesh.acme", A, "HoldThenForward", Forwarded),
            (ACME, "example.com", A, "HoldThenForward", Forwarded),
            (ACME, "g.shop.svc.cluster.local", A, "Forward", Forwarded),
            (ACME, "s.base.mesh.internal", A, "ServFail", NotSynced),
        ],
    );
    let told = Settings { zones: vec![name("mesh.acme")], ..settings() };
    check(
        &build(told, false, Vec::new()),
        &[(ACME, "s.shop.mesh.acme", A, "ServFail", NotSynced), (ACME, "example.com", A, "Forward", Forwarded)],
    );
    let empty = build(settings(), true, Vec::new());
    check(&empty, &[(ACME, "example.com", A, "Forward", Forwarded)]);
}
