//! One function for each kind.

use std::net::IpAddr;

use ipnet::IpNet;

use super::fields::{Reader, below, present};
use super::{Decoded, Step};
use crate::mesh::object::{
    Alias, Capture, Endpoint, EndpointSlice, Kind, Labels, Namespace, Object, Pod, Reach, Segment, Service,
    ServiceEntry, WorkloadEntry,
};
use crate::watch::item::{EndpointIn, Item, Meta, Spec, Status};
use crate::watch::loose::{Loose, Pairs, Text};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const REDIRECTION: &str = "ambient.istio.io/redirection";
const DNS_CAPTURE: &str = "ambient.istio.io/dns-capture";
const SIDECAR: &str = "sidecar.istio.io/status";

/// What every object has.
struct Head<'v, 'a> {
    namespace: Box<str>,
    name: Box<str>,
    meta: &'v Meta<'a>,
}

/// A path from literal steps: `path!["spec", "clusterIPs", 0]`.
macro_rules! path {
    ($($step:expr),*) => { [$(Step::from($step)),*] };
}

pub fn decode(kind: Kind, item: &Item<'_>, mut reader: Reader) -> Decoded {
    let Some(head) = head(kind, item, &mut reader) else { return Decoded::Broken(None, reader.problems) };
    let (nothing, none) = (Spec::default(), Status::default());
    let spec = reader.vital(&path!["spec"], &item.spec).unwrap_or(&nothing);
    let status = reader.field(&path!["status"], &item.status).unwrap_or(&none);
    let object = match kind {
        Kind::Namespace => namespace(&head, &mut reader),
        Kind::Service => service(&head, spec, &mut reader),
        Kind::EndpointSlice => endpoint_slice(&head, item, &mut reader),
        Kind::Pod => pod(&head, spec, status, &mut reader),
        Kind::Segment => segment(&head, item, spec, &mut reader),
        Kind::ServiceEntry => service_entry(&head, spec, status, &mut reader),
        Kind::WorkloadEntry => Object::WorkloadEntry(WorkloadEntry {
            namespace: head.namespace.clone(),
            name: head.name.clone(),
            labels: labels(&head, &mut reader),
        }),
        Kind::Source => return Decoded::Other,
    };
    // R2 and R3 give a Namespace or Segment that cannot be read a meaning; for the others the version before is better.
    if reader.broken && !matches!(kind, Kind::Namespace | Kind::Segment) {
        return Decoded::Broken(Some(object.key()), reader.problems);
    }
    Decoded::Object(object, reader.problems)
}

/// Name and namespace. Without them there is nothing that a later version could replace.
fn head<'v, 'a>(kind: Kind, item: &'v Item<'a>, reader: &mut Reader) -> Option<Head<'v, 'a>> {
    let Loose::Read(meta) = &item.metadata else {
        if reader.field(&path!["metadata"], &item.metadata).is_none() && reader.problems.is_empty() {
            reader.report(&path!["metadata"], &format!("this {kind} has none"), "give the object a metadata.name");
        }
        return None;
    };
    let name = present(&meta.name).filter(|name| !name.is_empty());
    if name.is_none() {
        let path = path!["metadata", "name"];
        match &meta.name {
            Loose::Wrong(_) => reader.text(&path, &meta.name).map_or((), |_| ()),
            _ => reader.report(&path, &format!("this {kind} has none"), "give the object a name"),
        }
    }
    let namespace = match (&meta.namespace, kind) {
        (_, Kind::Namespace) => Some(""),
        (Loose::Read(namespace), _) => Some(&**namespace),
        // As kubectl applies it without -n.
        (Loose::Absent, _) => Some("default"),
        (wrong, _) => reader.text(&path!["metadata", "namespace"], wrong),
    };
    Some(Head { namespace: namespace?.into(), name: name?.into(), meta })
}

fn labels(head: &Head<'_, '_>, reader: &mut Reader) -> Labels {
    reader.labels(&path!["metadata", "labels"], &head.meta.labels)
}

fn annotations(head: &Head<'_, '_>, reader: &mut Reader) -> Labels {
    reader.annotations(&path!["metadata", "annotations"], &head.meta.annotations)
}

fn created(head: &Head<'_, '_>, reader: &mut Reader) -> i64 {
    reader.time(&path!["metadata", "creationTimestamp"], &head.meta.creation_timestamp)
}

fn namespace(head: &Head<'_, '_>, reader: &mut Reader) -> Object {
    let before = reader.problems.len();
    let labels = labels(head, reader);
    let broken = reader.problems.len() > before;
    Object::Namespace(Namespace { name: head.name.clone(), labels, broken })
}

fn service(head: &Head<'_, '_>, spec: &Spec<'_>, reader: &mut Reader) -> Object {
    let reach = reach(spec, reader);
    Object::Service(Service {
        namespace: head.namespace.clone(),
        name: head.name.clone(),
        created: created(head, reader),
        labels: labels(head, reader),
        annotations: annotations(head, reader),
        reach,
        publish_not_ready: flag(&path!["spec", "publishNotReadyAddresses"], &spec.publish_not_ready_addresses, reader),
        ports: reader.ports(&path!["spec", "ports"], &spec.ports, "port"),
    })
}

fn flag(path: &[Step], value: &Loose<bool>, reader: &mut Reader) -> bool {
    reader.field(path, value).copied().unwrap_or_default()
}

fn reach(spec: &Spec<'_>, reader: &mut Reader) -> Reach {
    if reader.text(&path!["spec", "type"], &spec.kind) == Some("ExternalName") {
        let target = reader.text(&path!["spec", "externalName"], &spec.external_name);
        return Reach::ExternalName(target.unwrap_or_default().into());
    }
    let list = reader.texts(&path!["spec", "clusterIPs"], &spec.cluster_ips);
    if list.is_empty() {
        return match reader.text(&path!["spec", "clusterIP"], &spec.cluster_ip) {
            Some("None") => Reach::Headless,
            Some("") | None => Reach::ClusterIps(Box::default()),
            Some(text) => {
                let address = reader.address(|| path!["spec", "clusterIP"].to_vec(), text);
                Reach::ClusterIps(address.into_iter().collect())
            }
        };
    }
    if list.iter().any(|(_, text)| *text == "None") {
        return Reach::Headless;
    }
    let address = |(index, text)| reader.address(|| path!["spec", "clusterIPs", index].to_vec(), text);
    Reach::ClusterIps(list.into_iter().filter_map(address).collect())
}

fn endpoint_slice(head: &Head<'_, '_>, item: &Item<'_>, reader: &mut Reader) -> Object {
    let fqdn = reader.text(&path!["addressType"], &item.address_type) == Some("FQDN");
    reader.broken |= matches!(item.endpoints, Loose::Wrong(_));
    let endpoints = reader.list(&path!["endpoints"], &item.endpoints);
    let endpoints = endpoints.into_iter().map(|(place, input)| endpoint(&place, input, fqdn, reader)).collect();
    let labels = labels(head, reader);
    Object::EndpointSlice(EndpointSlice {
        namespace: head.namespace.clone(),
        name: head.name.clone(),
        service: labels.get(SERVICE_NAME).unwrap_or_default().into(),
        endpoints,
        ports: reader.ports(&path!["ports"], &item.ports, "port"),
    })
}

fn endpoint(place: &[Step], input: &EndpointIn<'_>, fqdn: bool, reader: &mut Reader) -> Endpoint {
    let addresses = if fqdn { Vec::new() } else { reader.texts(&below(place, "addresses"), &input.addresses) };
    let address = |(index, text)| reader.address(|| below(&below(place, "addresses"), index), text);
    let addresses = addresses.into_iter().filter_map(address).collect();
    // No word on readiness counts as ready (R6), but a word that cannot be read does not.
    let ready = match &input.conditions {
        Loose::Absent => true,
        Loose::Read(conditions) => match &conditions.ready {
            Loose::Absent => true,
            value => flag(&below(&below(place, "conditions"), "ready"), value, reader),
        },
        wrong => reader.field(&below(place, "conditions"), wrong).is_some(),
    };
    let hostname = reader.text(&below(place, "hostname"), &input.hostname).filter(|hostname| !hostname.is_empty());
    let hostname = hostname.filter(|hostname| {
        let valid = crate::mesh::name::Name::parse(hostname);
        if let Err(error) = &valid {
            let remedy = "write one DNS label, or leave it out";
            reader.report(&below(place, "hostname"), &format!("{hostname:?} is no host name: {error}"), remedy);
        }
        valid.is_ok()
    });
    Endpoint { addresses, ready, hostname: hostname.map(Into::into) }
}

fn pod(head: &Head<'_, '_>, spec: &Spec<'_>, status: &Status<'_>, reader: &mut Reader) -> Object {
    let annotations = annotations(head, reader);
    let mut addresses = Vec::new();
    for (place, input) in reader.list(&path!["status", "podIPs"], &status.pod_ips) {
        if let Some(text) = reader.text(&below(&place, "ip"), &input.ip) {
            addresses.extend(reader.address(|| below(&place, "ip"), text));
        }
    }
    if addresses.is_empty() && matches!(status.pod_ips, Loose::Absent) {
        let path = path!["status", "podIP"];
        if let Some(text) = reader.text(&path, &status.pod_ip).filter(|text| !text.is_empty()) {
            addresses.extend(reader.address(|| path.to_vec(), text));
        }
    }
    let phase = reader.text(&path!["status", "phase"], &status.phase);
    Object::Pod(Pod {
        namespace: head.namespace.clone(),
        name: head.name.clone(),
        uid: reader.text(&path!["metadata", "uid"], &head.meta.uid).unwrap_or_default().into(),
        created: created(head, reader),
        node: reader.text(&path!["spec", "nodeName"], &spec.node_name).unwrap_or_default().into(),
        host_network: flag(&path!["spec", "hostNetwork"], &spec.host_network, reader),
        addresses: addresses.into(),
        finished: matches!(phase, Some("Succeeded" | "Failed")),
        terminating: !matches!(head.meta.deletion_timestamp, Loose::Absent),
        searches: searches(spec, reader),
        enrolled: annotations.get(REDIRECTION) == Some("enabled") || annotations.get(SIDECAR).is_some(),
        capture: match (annotations.get(REDIRECTION), annotations.get(DNS_CAPTURE)) {
            (Some("enabled"), Some("true")) => Capture::On,
            (Some("enabled"), Some("false")) => Capture::Off,
            (Some("enabled"), _) => Capture::Unsaid,
            _ => Capture::Off,
        },
    })
}

/// What a pod's `dnsConfig` adds to its search list, if its `dnsPolicy` lets that begin with the cluster's.
fn searches(spec: &Spec<'_>, reader: &mut Reader) -> Option<Box<[Box<str>]>> {
    match (&spec.dns_policy, reader.text(&path!["spec", "dnsPolicy"], &spec.dns_policy)) {
        (Loose::Absent, _) | (_, Some("ClusterFirst" | "ClusterFirstWithHostNet")) => {}
        _ => return None,
    }
    let Some(config) = reader.field(&path!["spec", "dnsConfig"], &spec.dns_config) else { return Some([].into()) };
    let all = reader.texts(&path!["spec", "dnsConfig", "searches"], &config.searches);
    Some(all.into_iter().map(|(_, text)| text.into()).collect())
}

fn segment(head: &Head<'_, '_>, item: &Item<'_>, spec: &Spec<'_>, reader: &mut Reader) -> Object {
    let path = path!["spec", "domain"];
    if matches!(item.spec, Loose::Absent | Loose::Read(_)) && matches!(spec.domain, Loose::Absent) {
        reader.report(&path, "this Segment has none", "write the segment's DNS domain");
    }
    let domain = reader.text(&path, &spec.domain).map(Into::into);
    let mut aliases = Vec::new();
    for (place, input) in reader.list(&path!["spec", "aliases"], &spec.aliases) {
        let Some(pattern) = reader.text(&below(&place, "pattern"), &input.pattern) else {
            if matches!(input.pattern, Loose::Absent) {
                reader.report(&below(&place, "pattern"), "this alias has none", "write a pattern, or remove the alias");
            }
            continue;
        };
        let mut alias = Alias { pattern: pattern.into(), ..Alias::default() };
        let place = below(&place, "selector");
        match &input.selector {
            Loose::Absent => {}
            Loose::Read(selector) => {
                let before = reader.problems.len();
                alias.selector = selected(&below(&place, "matchLabels"), &selector.match_labels, reader);
                let unread = (reader.problems.len() > before).then(|| "matchLabels that cannot be read".to_owned());
                let others = (!selector.others.is_empty()).then(|| selector.others.join(", "));
                alias.unsupported = others.or(unread).map(Into::into);
            }
            wrong => {
                reader.field(&place, wrong);
                alias.unsupported = Some("a selector that cannot be read".into());
            }
        }
        aliases.push(alias);
    }
    Object::Segment(Segment {
        namespace: head.namespace.clone(),
        name: head.name.clone(),
        created: created(head, reader),
        domain,
        aliases: aliases.into(),
    })
}

fn selected(path: &[Step], value: &Loose<Pairs<'_>>, reader: &mut Reader) -> Labels {
    reader.labels(path, value)
}

fn service_entry(head: &Head<'_, '_>, spec: &Spec<'_>, status: &Status<'_>, reader: &mut Reader) -> Object {
    let hosts = reader.texts(&path!["spec", "hosts"], &spec.hosts).into_iter().map(|(_, host)| host.into()).collect();
    let mut status_addresses = Vec::new();
    for (place, input) in reader.list(&path!["status", "addresses"], &status.addresses) {
        let host = reader.text(&below(&place, "host"), &input.host).unwrap_or_default();
        if let Some(text) = reader.text(&below(&place, "value"), &input.value)
            && let Some(address) = reader.address(|| below(&place, "value"), text)
        {
            status_addresses.push((host.into(), address));
        }
    }
    let mut endpoints = Vec::new();
    for (place, input) in reader.list(&path!["spec", "endpoints"], &spec.endpoints) {
        // A host name or a Unix socket is legitimate there, and nothing that could be answered (R10).
        endpoints.extend(
            reader.text(&below(&place, "address"), &input.address).and_then(|text| text.parse::<IpAddr>().ok()),
        );
    }
    Object::ServiceEntry(ServiceEntry {
        namespace: head.namespace.clone(),
        name: head.name.clone(),
        created: created(head, reader),
        labels: labels(head, reader),
        hosts,
        addresses: entry_addresses(&spec.addresses, reader),
        endpoints: endpoints.into(),
        ports: reader.ports(&path!["spec", "ports"], &spec.ports, "number"),
        status_addresses: status_addresses.into(),
    })
}

/// `spec.addresses` of a ServiceEntry: CIDRs are legitimate there, and skipped (R6).
fn entry_addresses(value: &Loose<Vec<Text<'_>>>, reader: &mut Reader) -> Box<[IpAddr]> {
    let list = reader.texts(&path!["spec", "addresses"], value);
    let address = |(index, text): (usize, &str)| {
        let range = text.contains('/') && text.parse::<IpNet>().is_ok();
        if range { None } else { reader.address(|| path!["spec", "addresses", index].to_vec(), text) }
    };
    list.into_iter().filter_map(address).collect()
}
