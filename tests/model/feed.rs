//! Meshes as segdns takes them: changes for its keeper, settings, and manifests.

use std::net::IpAddr;

use segdns::mesh::name::Name;
use segdns::mesh::object as theirs;
use segdns::mesh::settings as set;
use serde_json::{Value, json};

use super::caller::NODE;
use super::change::Edit;
use super::mesh::{Aaaa, Labels, Mesh, Object, Of, Policy, Port, Reach, Rule};

/// A grace that does not end while a mesh is asked, milliseconds; the longest that may be configured.
const LONG: u64 = 60_000;

/// Names of the clusters.
#[must_use]
pub fn cluster_name(ix: usize) -> String {
    format!("cluster{}", ix + 1)
}

fn labels(labels: &Labels) -> theirs::Labels {
    theirs::Labels::new(labels.iter().map(|(k, v)| (&**k, &**v)))
}

fn ports(ports: &[Port]) -> Box<[theirs::Port]> {
    let protocol = |p: &Port| if p.udp { theirs::Protocol::Udp } else { theirs::Protocol::Tcp };
    ports.iter().map(|p| theirs::Port { name: (*p.name).into(), number: p.number, protocol: protocol(p) }).collect()
}

/// An object as segdns has it.
fn object(object: &Object) -> theirs::Object {
    match object {
        Object::Namespace(o) => theirs::Object::Namespace(theirs::Namespace {
            name: (*o.name).into(),
            labels: labels(&o.labels),
            broken: false,
        }),
        Object::Service(o) => theirs::Object::Service(theirs::Service {
            namespace: (*o.namespace).into(),
            name: (*o.name).into(),
            created: o.created,
            labels: labels(&o.labels),
            annotations: labels(&o.annotations),
            reach: match &o.reach {
                Reach::Ips(ips) => theirs::Reach::ClusterIps(ips.clone().into()),
                Reach::Headless => theirs::Reach::Headless,
                Reach::External(to) => theirs::Reach::ExternalName((**to).into()),
            },
            publish_not_ready: o.publish_not_ready,
            ports: ports(&o.ports),
        }),
        Object::Slice(o) => theirs::Object::EndpointSlice(theirs::EndpointSlice {
            namespace: (*o.namespace).into(),
            name: (*o.name).into(),
            service: (*o.service).into(),
            endpoints: o.endpoints.iter().map(endpoint).collect(),
            ports: ports(&o.ports),
        }),
        other => rest(other),
    }
}

fn endpoint(e: &super::mesh::Endpoint) -> theirs::Endpoint {
    theirs::Endpoint {
        addresses: [e.address].into(),
        ready: e.ready.unwrap_or(true),
        hostname: e.hostname.as_deref().map(Into::into),
    }
}

/// Objects that are not of the cluster itself.
fn rest(object: &Object) -> theirs::Object {
    match object {
        Object::Segment(o) => theirs::Object::Segment(theirs::Segment {
            namespace: (*o.namespace).into(),
            name: (*o.name).into(),
            created: o.created,
            domain: Some((*o.domain).into()),
            aliases: o
                .aliases
                .iter()
                .map(|a| theirs::Alias {
                    pattern: (*a.pattern).into(),
                    selector: labels(&a.selector),
                    unsupported: None,
                })
                .collect(),
        }),
        Object::Entry(o) => theirs::Object::ServiceEntry(theirs::ServiceEntry {
            namespace: (*o.namespace).into(),
            name: (*o.name).into(),
            created: o.created,
            labels: labels(&o.labels),
            hosts: o.hosts.iter().map(|h| (**h).into()).collect(),
            addresses: o.addresses.iter().filter_map(|a| a.parse().ok()).collect(),
            endpoints: o.endpoints.clone().into(),
            ports: ports(&o.ports),
            status_addresses: o.status.iter().map(|(h, a)| ((**h).into(), *a)).collect(),
        }),
        Object::Workload(o) => theirs::Object::WorkloadEntry(theirs::WorkloadEntry {
            namespace: (*o.namespace).into(),
            name: (*o.name).into(),
            labels: labels(&o.labels),
        }),
        Object::Pod(o) => theirs::Object::Pod(theirs::Pod {
            namespace: (*o.namespace).into(),
            name: (*o.name).into(),
            uid: (*o.uid).into(),
            created: o.created,
            node: (*o.node).into(),
            host_network: o.host_network,
            addresses: o.addresses.clone().into(),
            finished: o.finished,
            terminating: o.terminating,
            searches: o.searches.as_ref().map(|all| all.iter().map(|s| (**s).into()).collect()),
            capture: theirs::Capture::default(),
            enrolled: o.enrolled,
        }),
        Object::Namespace(_) | Object::Service(_) | Object::Slice(_) => unreachable!("told before"),
    }
}

/// Everything that makes this mesh out of none.
#[must_use]
pub fn changes(mesh: &Mesh) -> Vec<theirs::Change> {
    let mut all = Vec::new();
    for (cluster, of) in mesh.clusters.iter().enumerate() {
        let apply = |o| theirs::Change::Apply { cluster, object: object(o), faults: Vec::new() };
        all.extend(of.objects.iter().map(apply));
    }
    let synced = |(cluster, _)| theirs::Change::Synced { cluster };
    all.extend(mesh.clusters.iter().enumerate().filter(|(_, c)| c.synced).map(synced));
    all
}

/// What tells of these edits.
#[must_use]
pub fn edits(edits: &[Edit]) -> Vec<theirs::Change> {
    let change = |edit: &Edit| match edit {
        Edit::Put(cluster, o) => theirs::Change::Apply { cluster: *cluster, object: object(o), faults: Vec::new() },
        Edit::Gone(cluster, o) => theirs::Change::Delete { cluster: *cluster, key: object(o).key() },
        Edit::Synced(cluster) => theirs::Change::Synced { cluster: *cluster },
    };
    edits.iter().map(change).collect()
}

/// The settings of a mesh.
#[must_use]
pub fn settings(mesh: &Mesh) -> set::Settings {
    let Policy { callers, always, .. } = &mesh.policy;
    let p = &mesh.policy;
    let rule = |r: &Rule| set::CallerRule {
        cidr: cidr(r).parse().expect("a network"),
        of: match &r.of {
            Of::Segment(name) => set::CallerOf::Segment((**name).into()),
            Of::Namespace(name) => set::CallerOf::Namespace((**name).into()),
        },
        enrolled: r.enrolled,
    };
    let policy = set::Policy {
        cross_segment: if p.deny { set::CrossSegment::Deny } else { set::CrossSegment::Scope },
        default_segment_visible: p.default_visible,
        namespace_segments: p.namespace_segments,
        cluster_names: if p.closed { set::ClusterNames::Segment } else { set::ClusterNames::Open },
        cluster_names_always: always.iter().map(|n| (**n).into()).collect(),
        takeover_for: if p.takeover_all { set::TakeoverFor::All } else { set::TakeoverFor::Enrolled },
        takeover: if p.takeover_cname { set::TakeoverAnswer::Cname } else { set::TakeoverAnswer::Flatten },
        aaaa: match p.aaaa {
            Aaaa::Auto => set::Aaaa::Auto,
            Aaaa::On => set::Aaaa::On,
            Aaaa::Off => set::Aaaa::Off,
        },
        autopath: p.autopath,
        ..set::Policy::default()
    };
    set::Settings {
        clusters: (0..mesh.clusters.len()).map(|ix| cluster_name(ix).into()).collect(),
        node: Some(NODE.into()),
        service_entries: if p.entries_all { set::ServiceEntries::All } else { set::ServiceEntries::Generated },
        policy,
        callers: callers.iter().map(rule).collect(),
        forwarded: vec![Name::parse("cluster.local").expect("a name")],
        grace_ms: if p.grace { LONG } else { 0 },
        ..set::Settings::default()
    }
}

fn cidr(rule: &Rule) -> String {
    let [a, b, c] = rule.net;
    format!("{a}.{b}.{c}.0/24")
}

/// The part of a configuration that a mesh decides, for the binary.
#[must_use]
pub fn config(mesh: &Mesh) -> Value {
    let p = &mesh.policy;
    let callers: Vec<Value> = p
        .callers
        .iter()
        .map(|r| match &r.of {
            Of::Segment(name) => json!({"cidr": cidr(r), "segment": name, "enrolled": r.enrolled}),
            Of::Namespace(name) => json!({"cidr": cidr(r), "namespace": name, "enrolled": r.enrolled}),
        })
        .collect();
    json!({
        "serviceEntries": if p.entries_all { "all" } else { "generated" },
        "policy": {
            "crossSegment": if p.deny { "deny" } else { "scope" },
            "defaultSegmentVisible": p.default_visible,
            "namespaceSegments": p.namespace_segments,
            "clusterNames": if p.closed { "segment" } else { "open" },
            "clusterNamesAlways": p.always,
            "takeoverFor": if p.takeover_all { "all" } else { "enrolled" },
            "identityHold": "0ms",
        },
        "autopath": p.autopath,
        "callers": callers,
        "answers": {
            "grace": if p.grace { "60s" } else { "0s" },
            "takeover": if p.takeover_cname { "cname" } else { "flatten" },
            "aaaa": match p.aaaa { Aaaa::Auto => "auto", Aaaa::On => "on", Aaaa::Off => "off" },
        },
    })
}

fn family(ips: &[IpAddr]) -> &'static str {
    if ips.first().is_some_and(IpAddr::is_ipv6) { "IPv6" } else { "IPv4" }
}

fn port_list(ports: &[Port], number: &str) -> Value {
    let one = |p: &Port| json!({"name": p.name, number: p.number, "protocol": if p.udp { "UDP" } else { "TCP" }});
    ports.iter().map(one).collect()
}

fn time(created: i64) -> String {
    format!("2025-01-01T00:00:{created:02}Z")
}

/// An object as `kubectl get -o yaml` has it; several for a slice with addresses of both families.
#[must_use]
pub fn manifests(object: &Object) -> Vec<Value> {
    let one = match object {
        Object::Namespace(o) => json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": o.name, "labels": o.labels},
        }),
        Object::Service(o) => {
            let mut spec =
                json!({"ports": port_list(&o.ports, "port"), "publishNotReadyAddresses": o.publish_not_ready});
            match &o.reach {
                Reach::Ips(ips) => spec["clusterIPs"] = json!(ips),
                Reach::Headless => spec["clusterIP"] = "None".into(),
                Reach::External(to) => {
                    (spec["type"], spec["externalName"]) = ("ExternalName".into(), to.clone().into())
                }
            }
            json!({
                "apiVersion": "v1", "kind": "Service", "spec": spec,
                "metadata": {
                    "name": o.name, "namespace": o.namespace, "labels": o.labels, "annotations": o.annotations,
                    "creationTimestamp": time(o.created),
                },
            })
        }
        Object::Segment(o) => {
            let alias = |a: &super::mesh::Alias| json!({"pattern": a.pattern, "selector": {"matchLabels": a.selector}});
            json!({
                "apiVersion": "admin.solo.io/v1alpha1", "kind": "Segment",
                "metadata": {"name": o.name, "namespace": o.namespace, "creationTimestamp": time(o.created)},
                "spec": {"domain": o.domain, "aliases": o.aliases.iter().map(alias).collect::<Vec<_>>()},
            })
        }
        Object::Slice(o) => return slices(o),
        other => return vec![istio(other)],
    };
    vec![one]
}

fn slices(o: &super::mesh::Slice) -> Vec<Value> {
    let endpoint = |e: &super::mesh::Endpoint| {
        let mut value = json!({"addresses": [e.address]});
        if let Some(ready) = e.ready {
            value["conditions"] = json!({"ready": ready});
        }
        if let Some(hostname) = &e.hostname {
            value["hostname"] = hostname.clone().into();
        }
        value
    };
    let of_family = |six: bool, kind: &str| {
        let some: Vec<Value> = o.endpoints.iter().filter(|e| e.address.is_ipv6() == six).map(endpoint).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": kind, "endpoints": some,
            "metadata": {
                "name": format!("{}-{}", o.name, kind.to_lowercase()), "namespace": o.namespace,
                "labels": {"kubernetes.io/service-name": o.service},
            },
            "ports": port_list(&o.ports, "port"),
        })
    };
    vec![of_family(false, family(&[IpAddr::from([127, 0, 0, 1])])), of_family(true, "IPv6")]
}

fn istio(object: &Object) -> Value {
    match object {
        Object::Entry(o) => {
            let status: Vec<Value> = o.status.iter().map(|(h, a)| json!({"host": h, "value": a})).collect();
            let endpoints: Vec<Value> = o.endpoints.iter().map(|a| json!({"address": a})).collect();
            json!({
                "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
                "metadata": {
                    "name": o.name, "namespace": o.namespace, "labels": o.labels, "creationTimestamp": time(o.created),
                },
                "spec": {
                    "hosts": o.hosts, "addresses": o.addresses, "endpoints": endpoints, "resolution": "STATIC",
                    "ports": port_list(&o.ports, "number"),
                },
                "status": {"addresses": status},
            })
        }
        Object::Workload(o) => json!({
            "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "spec": {"address": "10.66.0.1"},
            "metadata": {"name": o.name, "namespace": o.namespace, "labels": o.labels},
        }),
        Object::Pod(o) => {
            let mut metadata = json!({
                "name": o.name, "namespace": o.namespace, "uid": o.uid, "creationTimestamp": time(o.created),
            });
            if o.enrolled {
                metadata["annotations"] = json!({"ambient.istio.io/redirection": "enabled"});
            }
            if o.terminating {
                metadata["deletionTimestamp"] = time(9).into();
            }
            let ips: Vec<Value> = o.addresses.iter().map(|ip| json!({"ip": ip})).collect();
            let mut spec = json!({"nodeName": o.node, "hostNetwork": o.host_network});
            match &o.searches {
                Some(all) => spec["dnsConfig"] = json!({"searches": all}),
                None => spec["dnsPolicy"] = "None".into(),
            }
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec,
                "status": {"phase": if o.finished { "Succeeded" } else { "Running" }, "podIPs": ips},
            })
        }
        other => unreachable!("no object of Istio: {other:?}"),
    }
}
