//! Who asks, and why it is of its segment.

use super::{Scene, Story};
use crate::admin::words;
use crate::mesh::caller::{CallerBy, CallerSegment};
use crate::mesh::label;
use crate::mesh::object::{Kind, LOCAL};
use crate::mesh::settings::CallerOf;

/// The caller, for the middle of a sentence: `pod ns/name (10.0.0.1)`.
pub fn name(scene: Scene<'_>) -> String {
    let asker = scene.asker;
    match (&asker.pod, asker.address) {
        (Some((namespace, pod)), Some(address)) => format!("pod {namespace}/{pod} ({address})"),
        (_, Some(address)) => format!("the address {address}"),
        (_, None) => "any caller of that segment".to_owned(),
    }
}

/// The sentence that says of which segment the caller is, and why.
pub fn tell(scene: Scene<'_>, story: &mut Story) {
    let of = match scene.asker.caller.segment {
        CallerSegment::Of(segment) => format!("of {}", words::segment(scene.world, segment)),
        CallerSegment::Invalid => "of no valid segment".to_owned(),
        CallerSegment::Unknown => "of no known segment".to_owned(),
    };
    let who = name(scene);
    let Some(because) = because(scene, story) else {
        return story.say(format!("The caller is {who}, {of}."));
    };
    story.say(format!("The caller is {who}, {of}: {because}."));
}

fn because(scene: Scene<'_>, story: &mut Story) -> Option<String> {
    let world = scene.world;
    let root = &*world.settings().root_namespace;
    let cluster = &world.settings().clusters[LOCAL];
    match scene.asker.by? {
        CallerBy::Pod => {
            let (namespace, pod) = scene.asker.pod.as_ref()?;
            story.about([words::object(world, LOCAL, Kind::Pod, namespace, pod)]);
            Some(story.take(words::standing(world, LOCAL, namespace)))
        }
        CallerBy::Rule(ix) => {
            let rule = world.settings().callers.get(ix)?;
            let told = match &rule.of {
                CallerOf::Segment(name) => format!("callers[{ix}] says that {} counts as segment {name}", rule.cidr),
                CallerOf::Namespace(name) => {
                    let standing = story.take(words::standing(world, LOCAL, name));
                    format!("callers[{ix}] says that {} counts as namespace {name}, and {standing}", rule.cidr)
                }
            };
            Some(told)
        }
        CallerBy::Node => {
            let standing = story.take(words::standing(world, LOCAL, root));
            Some(format!("it is one of the node's own addresses, which are of the segment of {cluster}; {standing}"))
        }
        CallerBy::Cluster => {
            let standing = story.take(words::standing(world, LOCAL, root));
            Some(format!(
                "no pod of this node has the address, but no namespace of {cluster} has a segment of its own, so it can \
                 only be of the cluster's; {standing}"
            ))
        }
        CallerBy::Nothing => Some(format!(
            "no pod of this node has the address, no line of callers covers it, it is none of the node's own, and \
             namespaces of {cluster} have segments of their own"
        )),
    }
}

/// R3 and R15: why a caller without a segment is answered SERVFAIL, and what to change.
pub fn tell_failure(scene: Scene<'_>, story: &mut Story) {
    tell(scene, story);
    if scene.asker.caller.segment == CallerSegment::Unknown {
        if scene.asker.by == Some(CallerBy::Nothing) {
            return story.say(
                "To change it: if the pod is new, ask again; if the address is no pod's, add it to callers with a segment \
                 or a namespace.",
            );
        }
        return story.say("To change it: create the Namespace, or let the source show it; until then its pods wait.");
    }
    let namespace = scene.asker.namespace(scene.world);
    let root = &*scene.world.settings().root_namespace;
    let local = scene.world.cluster(LOCAL);
    let label = |ns: &str| local.namespace(ns).and_then(|o| o.labels.get(label::SEGMENT)).map(ToOwned::to_owned);
    let counts = scene.world.settings().namespace_segments();
    let value = namespace.as_deref().filter(|_| counts).and_then(label).or_else(|| label(root));
    let Some(value) = value else {
        return story.say("To change it: see the reports of `segdns check`.");
    };
    let segment = words::object(scene.world, LOCAL, Kind::Segment, root, &value);
    for report in words::reports_of(scene.world, &segment) {
        story.about([segment.clone()]);
        story.say(format!("The Segment {value} is invalid ({}): {}; {}.", report.rule, report.text, report.remedy));
    }
    let known: Vec<String> = scene.world.layout().segments.iter().map(|s| s.name.to_string()).collect();
    story.say(format!(
        "To change it: create the Segment {value:?} in namespace {root}, or correct the label; valid segments here are {}.",
        words::list(&known)
    ));
}
