//! Names of the cluster domain: takeover (R19, R20), search-path forms (R21), hidden ones (R16), and the cluster DNS'.

use super::{Scene, Story, mesh, name_of, outside, who};
use crate::admin::found::{self, Found};
use crate::admin::words::{self, Told};
use crate::mesh::caller::CallerBy;
use crate::mesh::cluster::view::{ReachView, ServiceView};
use crate::mesh::entry::Unit;
use crate::mesh::label::{self, Export, Marks};
use crate::mesh::object::{Kind, LOCAL};
use crate::mesh::publish;
use crate::table::autopath;
use crate::table::decide::{Decision, Forward, Reason, Verdict, rtype, search_path_form};
use crate::table::key::{Key, text_of};

/// Tells a decision about a name of the cluster domain.
pub fn tell(scene: Scene<'_>, story: &mut Story, key: &Key, decision: &Decision<'_>) {
    let name = key.text(key.all());
    let zones = &scene.table.zones;
    let above = key.count() - zones.get(zones.cluster()).labels;
    if let Verdict::Complete(_) = decision.verdict {
        tell(scene, story, key, &decision.plain());
        return walked(scene, story, key);
    }
    match decision.reason {
        Reason::Takeover => takeover(scene, story, &name, decision),
        Reason::ClusterHidden => hidden(scene, story, &name, key, above),
        Reason::Forwarded => {
            outside::forward(scene, story, key, decision);
            if let Verdict::Forward(Forward { absent: Some(_), .. }) = decision.verdict {
                let why = story.take(missing(scene, key, above));
                story.say(format!(
                    "It cannot exist: {why}. So an upstream's NXDOMAIN for another such name answers it, too, while it lasts."
                ));
            }
            if let Some((service, namespace)) = service_name(key, above) {
                no_takeover(scene, story, &name, &namespace, &service);
            }
        }
        _ => {
            let Some((end, _, _)) = search_path_form(scene.table, &scene.asker.caller, key, above) else {
                return not_asked(scene, story, &name, key, above, decision.reason);
            };
            let mesh_name = key.text(0..end);
            story.rule("R21");
            story.say(format!(
                "{name} is the mesh name {mesh_name} with a part of a search path ({}) behind it, so it is answered at once \
                 and not forwarded (R21).",
                key.text(end..key.count())
            ));
            if decision.mesh_labels.is_none() && matches!(decision.verdict, Verdict::NxDomain) {
                story.say("The caller gets NXDOMAIN, and its resolver goes on to the next form; the mesh name itself:");
            }
            mesh::tell(scene, story, &mesh_name, decision);
        }
    }
}

/// `autopath`: what is tried if the name does not exist.
fn walked(scene: Scene<'_>, story: &mut Story, key: &Key) {
    let asked = [key.span(key.all()), &[0]].concat();
    let all = autopath::candidates(scene.table, &scene.asker.caller, key, &asked, scene.searches);
    let all: Vec<String> = all.iter().map(|name| text_of(name)).collect();
    story.say(format!(
        "autopath: it is the first form of the caller's search list. If it does not exist, these are decided in its place, \
         one after the other, and the first that exists is answered behind a CNAME: {}.",
        all.join(", ")
    ));
}

/// Service and namespace of `<svc>.<ns>.svc.<cluster domain>`.
fn service_name(key: &Key, above: usize) -> Option<(String, String)> {
    (above == 3 && key.label(2) == b"svc").then(|| (key.text(0..1), key.text(1..2)))
}

fn takeover(scene: Scene<'_>, story: &mut Story, name: &str, decision: &Decision<'_>) {
    let Some(found) = name_of(name).and_then(|n| found::find(scene.world, &n)) else { return };
    let target = found.takeovers().iter().find(|t| Some(t.segment) == decision.segment);
    let Some(target) = target else { return };
    let of = words::segment(scene.world, target.segment);
    story.say(format!(
        "{name} is under takeover for callers of {of}: to them it means {} and its addresses (R19).",
        target.target
    ));
    match decision.verdict {
        Verdict::Forward(_) => story.say(format!(
            "{} is not among the types that are taken over (A and AAAA), so it is forwarded; an upstream's NXDOMAIN becomes \
             NODATA.",
            scene.word
        )),
        Verdict::NoData if scene.rtype == rtype::AAAA && !target.answers.v6.is_empty() => story.say(mesh::aaaa(scene)),
        Verdict::NoData => story.say(format!("It has no {} records: NODATA (R19).", scene.word)),
        _ => {}
    }
    because(scene, story, &found);
    mesh::source(scene, story, &found, &target.answers);
    enrolled(scene, story);
    who::tell(scene, story);
}

/// What takes the cluster name over: a label, the older scope, or an entry that lists it.
fn because(scene: Scene<'_>, story: &mut Story, found: &Found<'_>) {
    story.about(found.objects(scene.world));
    for p in found.services.iter().filter(|p| p.takeover) {
        let label = words::label_of(scene.world, p.cluster, p.service, label::TAKEOVER)
            .or_else(|| words::label_of(scene.world, p.cluster, p.service, label::SCOPE));
        let Some((told, _)) = label else { continue };
        let told = story.take(told);
        story.say(format!("It is taken over by {told} (R19)."));
    }
    for entry in &found.entries {
        if entry.hosts.iter().any(|h| h.eq_ignore_ascii_case(found.record.name.as_str())) {
            let object = words::object(scene.world, LOCAL, Kind::ServiceEntry, &entry.namespace, &entry.name);
            story.say(format!("{} lists it in spec.hosts (R19).", words::of_cluster(&object)));
            story.about([object]);
        }
    }
}

fn enrolled(scene: Scene<'_>, story: &mut Story) {
    let how = match scene.asker.by {
        _ if !scene.asker.caller.enrolled => "policy.takeoverFor is all, so enrolment does not matter",
        Some(CallerBy::Pod) => {
            "the caller's pod is enrolled (annotation ambient.istio.io/redirection or sidecar.istio.io/status)"
        }
        Some(CallerBy::Rule(_)) => "callers says enrolled: true for this address",
        _ => "the caller counts as enrolled",
    };
    story.say(format!("It is for enrolled callers: {how} (R20)."));
}

/// Why a Service's cluster name is forwarded rather than taken over.
fn no_takeover(scene: Scene<'_>, story: &mut Story, name: &str, namespace: &str, service: &str) {
    if let Some(found) = name_of(name).and_then(|n| found::find(scene.world, &n)) {
        story.about(found.objects(scene.world));
        return not_for_caller(scene, story, &found);
    }
    let world = scene.world;
    let local = world.cluster(LOCAL).service_view(namespace, service);
    if let Some(local) = &local {
        story.about([words::object(world, LOCAL, Kind::Service, namespace, service)]);
        return story.say(format!("It is not under takeover (R19): {}.", why_not(scene, *local)));
    }
    let peers = publish::publishers(world, namespace, service);
    let listed = !world.claims_of(Unit::Service { namespace, name: service }).is_empty();
    if peers.is_empty() && !listed {
        return;
    }
    let labelled = peers.iter().any(|(_, p)| p.takeover);
    let why = if labelled || listed {
        "no address of its mesh name is known yet, or the peer's Service is headless or an ExternalName"
    } else {
        "no Service of that name here, and no peer's carries the label solo.io/service-takeover=true"
    };
    story.say(format!("It is not under takeover (R19): {why}."));
}

fn why_not(scene: Scene<'_>, service: ServiceView<'_>) -> String {
    let world = scene.world;
    let namespace = world.cluster(LOCAL).namespace(service.namespace);
    let title = words::of_cluster(&words::object(world, LOCAL, Kind::Service, service.namespace, service.name));
    let label = words::label_of(world, LOCAL, service, label::TAKEOVER);
    let wanted = match label::export_of(Marks::of(service.labels), Marks::of_namespace(namespace)) {
        Export::Published { takeover, .. } => Some(takeover),
        _ => None,
    };
    if let Some((told, value)) = label.filter(|(_, value)| value != "true") {
        return format!("{}, and only the value true takes over, not {value:?}", told.text);
    }
    if !label::takeover_of(Marks::of(service.labels), Marks::of_namespace(namespace), wanted == Some(true)) {
        return format!("neither {title} nor its Namespace carries the label {}=true", label::TAKEOVER);
    }
    if wanted.is_none() {
        return format!("{title} carries {}, but is not exported (no {} that says so)", label::TAKEOVER, label::SCOPE);
    }
    match service.reach {
        ReachView::Headless => format!("{title} is headless, and takeover is not for headless Services"),
        ReachView::ExternalName(_) => format!("{title} is an ExternalName, and takeover is not for those"),
        ReachView::ClusterIps(_) if world.standing(LOCAL, service.namespace).segment().is_none() => {
            format!(
                "{} names no valid Segment, so nothing of it is published (R3)",
                words::standing(world, LOCAL, service.namespace).text
            )
        }
        ReachView::ClusterIps(_) => {
            format!("the mesh name of {title} has no address yet, so its cluster name is forwarded")
        }
    }
}

/// It is under takeover, but not for this caller (R19, R20).
fn not_for_caller(scene: Scene<'_>, story: &mut Story, found: &Found<'_>) {
    let caller = scene.asker.caller;
    let all: Vec<String> = found.takeovers().iter().map(|t| words::segment(scene.world, t.segment)).collect();
    if !scene.table.synced {
        return story.say("It is not under takeover before the first complete sync (R22).");
    }
    if !found.takeovers().iter().any(|t| Some(t.segment) == caller.segment.segment()) {
        story.rule("R19");
        story.say(format!("It is under takeover, but only for callers of {} (R19).", words::list(&all)));
        return who::tell(scene, story);
    }
    story.rule("R20");
    let change = match (&scene.asker.pod, scene.asker.by) {
        (Some((namespace, pod)), _) => {
            story.about([words::object(scene.world, LOCAL, Kind::Pod, namespace, pod)]);
            format!(
                "Pod {namespace}/{pod} carries neither the annotation ambient.istio.io/redirection=enabled nor \
                 sidecar.istio.io/status. To change it: enrol the pod (label istio.io/dataplane-mode=ambient on its \
                 namespace), or set policy.takeoverFor to all"
            )
        }
        (None, Some(CallerBy::Rule(ix))) => {
            format!("callers[{ix}] does not say enrolled: true for this address. To change it: add it")
        }
        _ => "addresses of the node itself are not enrolled. To change it: list them in callers with enrolled: true"
            .to_owned(),
    };
    story.say(format!(
        "It is under takeover, but only for enrolled callers, and this one is not enrolled (R20): {change}."
    ));
    who::tell(scene, story);
}

/// What is answered at once without being hidden: not known yet, of a namespace that nobody has told, or not there.
fn not_asked(scene: Scene<'_>, story: &mut Story, name: &str, key: &Key, above: usize, reason: Reason) {
    if reason == Reason::NotSynced {
        story.rule("R22");
        return story.say(format!(
            "With policy.clusterNames: segment {name} is SERVFAIL until the first complete state is in: which namespaces \
             the caller may see is not known before (R16, R22)."
        ));
    }
    story.rule("R16");
    let why = story.take(missing(scene, key, above));
    story.say(format!(
        "NXDOMAIN: {why}. With policy.clusterNames: segment that is answered here, as a hidden name is (R16)."
    ));
}

/// Why a name of the cluster domain cannot exist, by the objects.
fn missing(scene: Scene<'_>, key: &Key, above: usize) -> Told {
    let cluster = &scene.world.settings().clusters[LOCAL];
    let kind = key.text(above - 1..above);
    if kind != "svc" && kind != "pod" {
        return Told { text: format!("cluster {cluster} has nothing below {kind}"), objects: Vec::new() };
    }
    let namespace = key.text(above - 2..above - 1);
    if scene.world.cluster(LOCAL).namespace(&namespace).is_none() || above < 3 {
        return Told { text: format!("cluster {cluster} has no namespace {namespace}"), objects: Vec::new() };
    }
    let service = key.text(above - 3..above - 2);
    let object = words::object(scene.world, LOCAL, Kind::Namespace, "", &namespace);
    Told { text: format!("{} has no Service {service}", words::of_cluster(&object)), objects: vec![object] }
}

/// R16.
fn hidden(scene: Scene<'_>, story: &mut Story, name: &str, key: &Key, above: usize) {
    let namespace = key.text(above - 2..above - 1);
    let standing = scene.world.standing(LOCAL, &namespace);
    let why = story.take(words::standing(scene.world, LOCAL, &namespace));
    let of = standing
        .segment()
        .map_or("of no valid segment".to_owned(), |s| format!("of {}", words::segment(scene.world, s)));
    story.say(format!(
        "NXDOMAIN: {name} is a name of namespace {namespace}, which is {of}: {why}; with policy.clusterNames: segment only \
         callers of the same segment see its cluster names (R16)."
    ));
    who::tell(scene, story);
    story.say(format!(
        "To change it: add {namespace} to policy.clusterNamesAlways, or set policy.clusterNames to open."
    ));
}
