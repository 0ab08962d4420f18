//! Why a mesh name does not exist: what there is that it may have meant.

use super::{Scene, Story, name_of, who};
use crate::admin::words;
use crate::mesh::cluster::view::ServiceView;
use crate::mesh::entry::UnitKey;
use crate::mesh::label::{self, Export, Marks};
use crate::mesh::name::Name;
use crate::mesh::object::{ClusterIx, Kind, LOCAL, Reach, ServiceEntry};
use crate::mesh::publish::{Body, Cross};
use crate::mesh::report::ReportKind;
use crate::mesh::segment::{DEFAULT, SegmentIx, Standing};
use crate::mesh::visible::{View, view};

/// Tells why `name` is absent.
pub fn tell(scene: Scene<'_>, story: &mut Story, name: &str) {
    story.say(format!("NXDOMAIN: there is no name {name}."));
    let Some(host) = name_of(name.trim_start_matches('_').trim_start_matches('.')).or_else(|| service_host(name))
    else {
        return story.say("It is no host name (letters, digits and inner hyphens), so no service can have it.");
    };
    let host = if name.starts_with('_') { service_host(name).unwrap_or(host) } else { host };
    let layout = scene.world.layout();
    let Some((zone, segment)) = layout.zone_of(&host).map(|z| &layout.zones[z]) else { return };
    let prefix = host.prefix_of(zone).unwrap_or_default().to_owned();
    let before = story.lines.len();
    entries(scene, story, &host);
    aliases(scene, story, &host);
    let labels: Vec<&str> = prefix.split('.').filter(|l| !l.is_empty()).collect();
    match labels[..] {
        [namespace] => whole_namespace(scene, story, namespace, *segment),
        [service, namespace] if name.starts_with('_') => port(scene, story, name, (namespace, service), &host),
        [service, namespace] => one_service(scene, story, (namespace, service), &host, *segment),
        [hostname, service, namespace] => endpoint(scene, story, hostname, (namespace, service), &host),
        _ => {}
    }
    if story.lines.len() == before {
        story.say(format!("Names in {zone} are <service>.<namespace>.{zone}."));
    }
    let caller = scene.asker.caller.segment.segment();
    if *segment == Some(DEFAULT) && caller != Some(DEFAULT) && !scene.table.policy.default_segment_visible {
        story.rule("R12");
        story.say("Names of the default segment are only for callers of the default segment in any case (R12).");
    }
    who::tell(scene, story);
}

/// The host that `_port._proto.` stands before.
fn service_host(name: &str) -> Option<Name> {
    name_of(name.split('.').skip_while(|label| label.starts_with('_')).collect::<Vec<_>>().join(".").as_str())
}

/// R8: entries that list it and do not count.
fn entries(scene: Scene<'_>, story: &mut Story, host: &Name) {
    let lists = |e: &&ServiceEntry| e.hosts.iter().any(|h| h.eq_ignore_ascii_case(host.as_str()));
    for entry in scene.world.cluster(LOCAL).entries.values().filter(lists) {
        let object = words::object(scene.world, LOCAL, Kind::ServiceEntry, &entry.namespace, &entry.name);
        let reports = words::reports_of(scene.world, &object);
        let dropped: Vec<_> = reports.iter().filter(|r| r.text.contains(host.as_str())).collect();
        let dropped = if dropped.is_empty() { reports.iter().collect() } else { dropped };
        let title = words::of_cluster(&object);
        story.about([object]);
        if dropped.is_empty() {
            let root = &scene.world.settings().root_namespace;
            story.say(format!(
                "{title} lists it, but is no generated entry: that is one in {root} with the labels {} and {}, and without \
                 {}.",
                label::PARENT_SERVICE,
                label::PARENT_NAMESPACE,
                label::PEER_CLUSTER
            ));
        }
        for report in dropped {
            story.rule(report.rule);
            story.say(format!(
                "{title} lists it, but it is dropped ({}): {}. To change it: {}.",
                report.rule, report.text, report.remedy
            ));
        }
    }
}

/// R9: an alias that was not given.
fn aliases(scene: Scene<'_>, story: &mut Story, host: &Name) {
    let gives = format!(" {host},");
    let alias = |kind| kind == ReportKind::AliasDropped;
    for report in scene.world.reports().iter().filter(|r| alias(r.kind) && r.text.contains(&gives)) {
        story.rule("R9");
        story.about([report.object.clone()]);
        let title = words::of_cluster(&report.object);
        story.say(format!("{title} would have it as an alias (R9): {}. To change it: {}.", report.text, report.remedy));
    }
}

fn whole_namespace(scene: Scene<'_>, story: &mut Story, namespace: &str, segment: Option<SegmentIx>) {
    let clusters: Vec<ClusterIx> = clusters_with(scene, namespace);
    if clusters.is_empty() {
        return no_namespace(scene, story, namespace);
    }
    for ix in clusters {
        let standing = scene.world.standing(ix, namespace);
        let why = story.take(words::standing(scene.world, ix, namespace));
        let cluster = &scene.world.settings().clusters[ix];
        match standing.segment() {
            Some(of) if Some(of) == segment => story.say(format!(
                "Namespace {namespace} of {cluster} publishes nothing here that the caller sees, so not even the node above \
                 exists (R14): {why}."
            )),
            Some(of) => {
                let domain = &scene.world.layout().segments[usize::from(of)].domain;
                story.say(format!("Namespace {namespace} of {cluster} publishes under {domain}: {why}."));
            }
            None => story.say(format!("Nothing of namespace {namespace} of {cluster} is published (R3): {why}.")),
        }
    }
}

fn clusters_with(scene: Scene<'_>, namespace: &str) -> Vec<ClusterIx> {
    let all = scene.world.clusters();
    all.filter(|(_, _, cluster)| cluster.namespaces.contains_key(namespace)).map(|(ix, _, _)| ix).collect()
}

fn no_namespace(scene: Scene<'_>, story: &mut Story, namespace: &str) {
    let world = scene.world;
    let all = world.clusters().flat_map(|(_, _, cluster)| cluster.namespaces.keys());
    let near = words::similar(namespace, all.map(|n| &**n));
    let hint = if near.is_empty() { ".".to_owned() } else { format!("; did you mean {}?", near.join(" or ")) };
    story.say(format!("No cluster that is watched has a namespace {namespace}{hint}"));
}

/// Everything that may stand in the way of `<service>.<namespace>.<domain>`.
fn one_service(
    scene: Scene<'_>,
    story: &mut Story,
    (namespace, service): (&str, &str),
    host: &Name,
    segment: Option<SegmentIx>,
) {
    let world = scene.world;
    let mut any = false;
    for (ix, _, cluster) in world.clusters() {
        if let Some(object) = cluster.service_view(namespace, service) {
            any = true;
            in_cluster(scene, story, ix, object, segment);
        }
    }
    elsewhere(scene, story, host.as_str(), namespace, service);
    if any {
        return;
    }
    if clusters_with(scene, namespace).is_empty() && story.lines.len() == 1 {
        no_namespace(scene, story, namespace);
    } else if story.lines.len() == 1 {
        no_service(scene, story, namespace, service);
    }
    let has = |ns: &str, svc: &str| world.clusters().any(|(_, _, cluster)| cluster.has_service(ns, svc));
    if has(service, namespace) {
        story.say(format!(
            "There is a Service {namespace} in namespace {service}: are the two the wrong way round? Names are \
             <service>.<namespace>.<domain>."
        ));
    }
}

fn no_service(scene: Scene<'_>, story: &mut Story, namespace: &str, service: &str) {
    let world = scene.world;
    let clusters: Vec<String> =
        clusters_with(scene, namespace).into_iter().map(|ix| world.settings().clusters[ix].to_string()).collect();
    let states = world.clusters().filter_map(|(_, _, cluster)| cluster.namespaces.get(namespace));
    let near = words::similar(service, states.flat_map(|state| state.services()));
    let hint = if near.is_empty() { ".".to_owned() } else { format!("; did you mean {}?", near.join(" or ")) };
    story.say(format!(
        "Namespace {namespace} exists in {}, but has no Service {service} there{hint}",
        words::list(&clusters)
    ));
}

/// What keeps one cluster's Service from being published under the asked name.
fn in_cluster(
    scene: Scene<'_>,
    story: &mut Story,
    ix: ClusterIx,
    service: ServiceView<'_>,
    segment: Option<SegmentIx>,
) {
    let world = scene.world;
    let object = words::object(world, ix, Kind::Service, service.namespace, service.name);
    let title = words::of_cluster(&object);
    let cluster = &world.settings().clusters[ix];
    story.about([object.clone()]);
    if !peer_counts(scene, story, ix, &title) {
        return;
    }
    let namespace = world.cluster(ix).namespace(service.namespace);
    match label::export_of(Marks::of(service.labels), Marks::of_namespace(namespace)) {
        Export::Published { .. } => {}
        Export::ClusterOnly => return not_exported(scene, story, ix, service, &title),
        Export::Unknown(value) => {
            story.rule("R1");
            let told = words::label_of(world, ix, service, label::SCOPE);
            let told = told.map(|(told, _)| story.take(told)).unwrap_or_default();
            return story.say(format!(
                "{title} is not exported (R1): {told} has a value ({value:?}) that is none of global, segment, cluster and \
                 global-only. To change it: correct the value."
            ));
        }
    }
    for report in words::reports_of(world, &object) {
        if matches!(report.kind, ReportKind::NameDropped | ReportKind::ExternalNameDropped) {
            story.rule(report.rule);
            story.say(format!(
                "{title} is exported, but dropped ({}): {}. To change it: {}.",
                report.rule, report.text, report.remedy
            ));
        }
    }
    let why = story.take(words::standing(world, ix, service.namespace));
    match world.standing(ix, service.namespace) {
        Standing::Of(of) if Some(of) != segment => {
            let rule = if segment == Some(DEFAULT) { "R12" } else { "R1" };
            story.rule(rule);
            let domain = &world.layout().segments[usize::from(of)].domain;
            story.about(words::segment_object(world, of));
            story.say(format!(
                "{title} is published as {}.{}.{domain} instead, in {} ({rule}): {why}.",
                service.name,
                service.namespace,
                words::segment(world, of)
            ));
        }
        Standing::Of(_) => {}
        Standing::Invalid => {
            story.rule("R3");
            story.say(format!(
                "{title} is exported, but nothing of its namespace is published (R3): {why}, which names no valid Segment. \
                 To change it: create that Segment, or correct the label."
            ));
        }
        Standing::Missing => {
            story.rule("R3");
            story.say(format!("{title} is not published until its Namespace is known: {why} ({cluster})."));
        }
    }
}

/// R4 and R22: whether a cluster counts at all; if not, why.
fn peer_counts(scene: Scene<'_>, story: &mut Story, ix: ClusterIx, title: &str) -> bool {
    let world = scene.world;
    if world.active_clusters().any(|(active, _)| active == ix) {
        return true;
    }
    let cluster = &world.settings().clusters[ix];
    if !world.cluster(ix).synced {
        story.rule("R22");
        story.say(format!("{title} does not count yet: the first complete state of {cluster} is not in (R22)."));
        return false;
    }
    story.rule("R4");
    let root = words::object(world, ix, Kind::Namespace, "", &world.settings().root_namespace);
    let report = words::reports_of(world, &root).into_iter().find(|r| r.kind == ReportKind::PeerDisabled);
    let why = report.map(|r| format!(": {}. To change it: {}", r.text, r.remedy)).unwrap_or_default();
    story.about([root]);
    story.say(format!("{title} does not count, because peer {cluster} is disabled as a whole (R4){why}."));
    false
}

fn not_exported(scene: Scene<'_>, story: &mut Story, ix: ClusterIx, service: ServiceView<'_>, title: &str) {
    story.rule("R1");
    let change = format!("label the Service with {}=segment, or =global for callers of other segments", label::SCOPE);
    let line = match words::label_of(scene.world, ix, service, label::SCOPE) {
        Some((told, value)) => format!(
            "{title} exists, but is not exported (R1): {}, and scope {value} keeps it in its cluster. To change it: {change}.",
            story.take(told)
        ),
        None => format!(
            "{title} exists, but is not exported (R1): neither it nor its Namespace carries the label {}. To change it: \
             {change}.",
            label::SCOPE
        ),
    };
    story.say(line);
}

/// Other names of the same Service that the caller sees.
pub fn elsewhere(scene: Scene<'_>, story: &mut Story, not: &str, namespace: &str, service: &str) {
    let Some(caller) = scene.asker.caller.segment.segment() else { return };
    let policy = &scene.table.policy;
    let sees = |body: &Body| match body {
        Body::Mesh { segment, cross, .. } => match view(policy, caller, *segment) {
            View::Own => true,
            View::Cross => *cross != Cross::Hidden,
            View::Nothing => false,
        },
        Body::Public(_) | Body::Cluster(_) => false,
    };
    let starts = format!("{service}.{namespace}.");
    let records = scene.world.compiled(&UnitKey::service(namespace, service)).records;
    let names = records.iter().filter(|r| r.name.as_str() != not && r.name.as_str().starts_with(&starts));
    let names: Vec<String> = names.filter(|r| sees(&r.body)).map(|r| r.name.to_string()).collect();
    if !names.is_empty() {
        story.say(format!(
            "The caller sees a Service {namespace}/{service} under its segment's name: ask for {} if that is meant.",
            words::list(&names)
        ));
    }
}

/// `_port._proto.<service>` of a service that has no such port.
fn port(scene: Scene<'_>, story: &mut Story, name: &str, (namespace, service): (&str, &str), host: &Name) {
    let records = scene.world.compiled(&UnitKey::service(namespace, service)).records;
    let Some(record) = records.iter().find(|r| r.name == *host) else {
        let segment = scene.world.layout().segment_of(host);
        return one_service(scene, story, (namespace, service), host, segment);
    };
    let Body::Mesh { own: answers, .. } = &record.body else { return };
    let proto = |p| match p {
        crate::mesh::object::Protocol::Tcp => "_tcp",
        crate::mesh::object::Protocol::Udp => "_udp",
        crate::mesh::object::Protocol::Sctp => "_sctp",
    };
    let ports: Vec<String> = answers.ports.iter().map(|p| format!("_{}.{}", p.name, proto(p.protocol))).collect();
    let have = if ports.is_empty() { "none".to_owned() } else { words::list(&ports) };
    story.say(format!("{host} is published, but {name} is none of its named ports (R18); it has {have}."));
}

/// `<hostname>.<service>.<namespace>.<domain>`
fn endpoint(scene: Scene<'_>, story: &mut Story, hostname: &str, (namespace, service): (&str, &str), host: &Name) {
    let world = scene.world;
    let records = world.compiled(&UnitKey::service(namespace, service)).records;
    if !records.iter().any(|record| record.name == *host) {
        // What endpoints it has is not told: of an API server, those of Services that are not published are not kept.
        let segment = world.layout().segment_of(host);
        return one_service(scene, story, (namespace, service), host, segment);
    }
    for (ix, cluster) in world.active_clusters() {
        let Some(unit) = cluster.unit(namespace, service) else { continue };
        let Some(object) = &unit.service else { continue };
        let named = |e: &&crate::mesh::object::Endpoint| e.hostname.as_deref() == Some(hostname);
        let endpoint = unit.slices.iter().flat_map(|s| s.endpoints.iter()).find(named);
        let title = words::object(world, ix, Kind::Service, namespace, service);
        story.about([title.clone()]);
        let title = words::of_cluster(&title);
        story.say(match endpoint {
            _ if object.reach != Reach::Headless => {
                format!("{title} is not headless, so its endpoints have no names of their own (R18).")
            }
            None => format!("{title} has no endpoint with the hostname {hostname} (R18)."),
            Some(e) if !e.ready && !object.publish_not_ready => {
                format!("{title} has an endpoint with the hostname {hostname}, but it is not ready (R18).")
            }
            Some(_) => format!("{title} has the endpoint, but is not published under this domain."),
        });
    }
}
