//! Names in mesh zones, and names published outside them: who publishes them, where the addresses come from, what hides
//! them.

use super::{Scene, Story, absent, name_of, who};
use crate::admin::found::{self, Found};
use crate::admin::words;
use crate::mesh::address::{Answers, Publisher};
use crate::mesh::caller::CallerBy;
use crate::mesh::entry::{UnitKey, parent_of};
use crate::mesh::label::{self, Scope};
use crate::mesh::object::{Kind, LOCAL};
use crate::mesh::segment::{DEFAULT, SegmentIx};
use crate::mesh::settings::{Aaaa, CrossSegment};
use crate::table::decide::{Decision, Reason, rtype};

/// Tells a decision about `name`, which is in a mesh zone.
pub fn tell(scene: Scene<'_>, story: &mut Story, name: &str, decision: &Decision<'_>) {
    match decision.reason {
        Reason::NotSynced => not_synced(scene, story, name),
        Reason::CallerInvalid => {
            story.say(format!(
                "SERVFAIL for {name} and every other mesh name: the caller's segment label names no valid Segment (R3)."
            ));
            who::tell_failure(scene, story);
        }
        Reason::CallerUnknown => {
            story.say(format!(
                "{name} waits for policy.identityHold and is then SERVFAIL, as every mesh name: nobody knows the caller's \
                 segment (R15)."
            ));
            who::tell_failure(scene, story);
        }
        Reason::Apex => story
            .say(format!("{name} is the apex of a mesh zone: it has SOA and NS for everyone, and nothing else (R14).")),
        Reason::Empty => empty(scene, story, name),
        Reason::Hidden => hidden(scene, story, name),
        Reason::Absent => absent::tell(scene, story, name),
        _ => seen(scene, story, name, decision.reason),
    }
}

fn not_synced(scene: Scene<'_>, story: &mut Story, name: &str) {
    let pending: Vec<String> = scene.world.pending_clusters().into_iter().map(ToOwned::to_owned).collect();
    story.say(format!(
        "SERVFAIL for {name} and every other mesh name: the first complete state of {} is not in yet (R22).",
        words::list(&pending)
    ));
    let local = &scene.world.settings().clusters[LOCAL];
    for report in scene.world.reports().iter().filter(|r| r.object.kind == Kind::Source && r.object.cluster == *local) {
        story.about([report.object.clone()]);
        story.say(format!("{}; {}.", report.text, report.remedy));
    }
}

fn empty(scene: Scene<'_>, story: &mut Story, name: &str) {
    if name.starts_with('_') {
        return story.say(format!("{name} has nothing itself; ports of the service stand below it (R14, R18)."));
    }
    story.say(format!("{name} exists only because something below it does that the caller sees: NODATA (R14)."));
    who::tell(scene, story);
}

/// `_port._proto.` and `_proto.` stand at their service.
fn service_part(name: &str) -> &str {
    let mut rest = name;
    while let Some((_, after)) = rest.split_once('.').filter(|(first, _)| first.starts_with('_')) {
        rest = after;
    }
    rest
}

/// A name that the caller sees, whatever the answer to the type is.
pub fn seen(scene: Scene<'_>, story: &mut Story, name: &str, reason: Reason) {
    let Some(found) = name_of(service_part(name)).and_then(|n| found::find(scene.world, &n)) else {
        return story.say(format!("{name} is published."));
    };
    headline(scene, story, name, &found, reason);
    provenance(scene, story, &found);
    if let Some(answers) = found.answers(scene.world, &scene.asker.caller) {
        source(scene, story, &found, answers);
        missing(scene, story, name, answers, reason);
    }
    if found.segment.is_some() {
        who::tell(scene, story);
    }
}

fn headline(scene: Scene<'_>, story: &mut Story, name: &str, found: &Found<'_>, reason: Reason) {
    let of = found.segment.map(|s| words::segment(scene.world, s)).unwrap_or_default();
    let own = scene.asker.caller.segment.segment() == found.segment;
    let line = match found.segment {
        None => format!("{name} is a host of a hand-written ServiceEntry, for everyone (R10)."),
        Some(_) if own => format!("{name} is a name of {of}, the caller's own, which sees it (R11)."),
        Some(_) => {
            format!("{name} is a name of {of} with scope global, so callers of other segments see it, too (R11).")
        }
    };
    story.say(line);
    match reason {
        Reason::Public => story.rule("R10"),
        Reason::Visible | Reason::Global if found.pattern(scene.world).is_some() => story.rule("R9"),
        _ => {}
    }
}

/// Who publishes it, with which scope and in which segment.
pub fn provenance(scene: Scene<'_>, story: &mut Story, found: &Found<'_>) {
    let world = scene.world;
    let segment = found.segment.map(|s| words::segment(world, s)).unwrap_or_default();
    if let (Some(pattern), UnitKey::Service { namespace, name }) = (found.pattern(world), &found.unit) {
        story.say(format!(
            "It is an alias of Service {namespace}/{name}, by the pattern {pattern:?} of {segment} (R9)."
        ));
    }
    story.about(found.objects(world));
    for p in &found.services {
        let service = words::object(world, p.cluster, Kind::Service, p.service.namespace, p.service.name);
        let scope = scope_words(scene, story, p);
        let standing = story.take(words::standing(world, p.cluster, p.service.namespace));
        let place = if segment.is_empty() { String::new() } else { format!("; it is of {segment}: {standing}") };
        story.say(format!("{} publishes it: {scope} (R1){place}.", words::of_cluster(&service)));
    }
    for entry in &found.entries {
        let object = words::object(world, LOCAL, Kind::ServiceEntry, &entry.namespace, &entry.name);
        let made = parent_of(world.settings(), entry)
            .map(|(ns, svc)| format!(", generated for Service {ns}/{svc},"))
            .unwrap_or_default();
        let alone = if found.services.is_empty() && found.segment.is_some() {
            let scope = words::scope_word(&found.scopes());
            format!(" (no Service publishes that name itself; scope {scope} by R7)")
        } else {
            String::new()
        };
        story.say(format!("{}{made} lists it{alone}.", words::of_cluster(&object)));
    }
    if let Some(segment) = found.segment {
        story.about(words::segment_object(world, segment));
    }
}

fn scope_words(scene: Scene<'_>, story: &mut Story, p: &Publisher<'_>) -> String {
    let label = words::label_of(scene.world, p.cluster, p.service, label::SCOPE);
    match label {
        Some((told, _)) => format!("scope {} by {}", p.scope.word(), story.take(told)),
        None => format!("scope {}", p.scope.word()),
    }
}

/// Where the addresses come from (R6).
pub fn source(scene: Scene<'_>, story: &mut Story, found: &Found<'_>, answers: &Answers) {
    if answers.cname.is_none() && !answers.has_address() {
        return;
    }
    let entry = found.entry_of(answers).map(|e| {
        let object = words::object(scene.world, LOCAL, Kind::ServiceEntry, &e.namespace, &e.name);
        let text = format!(", {}", words::of_cluster(&object));
        story.about([object]);
        text
    });
    let all = answers.v4.iter().map(ToString::to_string).chain(answers.v6.iter().map(ToString::to_string));
    let all: Vec<String> = all.chain(answers.cname.iter().map(ToString::to_string)).collect();
    let (words, rule) = (answers.rung.words(), answers.rung.rule());
    story.say(format!("Its addresses are {words}{} ({rule}): {}.", entry.unwrap_or_default(), all.join(", ")));
}

/// Why a name that the caller sees has nothing for it.
fn missing(scene: Scene<'_>, story: &mut Story, name: &str, answers: &Answers, reason: Reason) {
    let word = scene.word;
    match reason {
        Reason::Grace => story.say(format!(
            "{name} has just appeared and has no address yet: SERVFAIL for answers.grace, then NODATA (R22)."
        )),
        Reason::NoAddress if name.starts_with('_') => {
            story.say(format!("{name} exists, but no ready endpoint has that port: NODATA (R22)."));
        }
        Reason::NoAddress => story.say(
            "Nothing that publishes it has an address: NODATA (R22). To change it: give the Service a ready endpoint or a \
             ClusterIP, or let the control plane write addresses into the generated ServiceEntry.",
        ),
        Reason::NoData if scene.rtype == rtype::AAAA && !answers.v6.is_empty() => story.say(aaaa(scene)),
        Reason::NoData => story.say(format!("It exists, but has no {word} records: NODATA (R18).")),
        _ => {}
    }
}

/// R18: why IPv6 addresses are kept back.
pub fn aaaa(scene: Scene<'_>) -> String {
    let why = match scene.table.policy.aaaa {
        Aaaa::Off => "answers.aaaa is off".to_owned(),
        _ if scene.asker.by == Some(CallerBy::Pod) => {
            "answers.aaaa is auto, and the caller's pod has no IPv6 address".to_owned()
        }
        _ => "answers.aaaa says so".to_owned(),
    };
    format!("It has IPv6 addresses, but this caller is not answered AAAA: {why} (R18).")
}

/// A name that exists, and that the caller may not see.
pub fn hidden(scene: Scene<'_>, story: &mut Story, name: &str) {
    let world = scene.world;
    let host = service_part(name);
    let Some(found) = name_of(host).and_then(|n| found::find(world, &n)) else {
        return story.say(format!("NXDOMAIN: {name} is hidden from the caller (R11)."));
    };
    let Some(segment) = found.segment else { return };
    story.say(format!(
        "NXDOMAIN: {name} exists, but it is a name of {} that is hidden from this caller, exactly as if it did not exist \
         (R13).",
        words::segment(world, segment)
    ));
    provenance(scene, story, &found);
    who::tell(scene, story);
    because(scene, story, &found, segment);
    if let UnitKey::Service { namespace, name: service } = &found.unit {
        absent::elsewhere(scene, story, host, namespace, service);
    }
}

/// Which rule hides it, and what would show it.
pub fn because(scene: Scene<'_>, story: &mut Story, found: &Found<'_>, segment: SegmentIx) {
    let policy = &scene.table.policy;
    let of = words::segment(scene.world, segment);
    if policy.cross_segment == CrossSegment::Deny {
        story.rule("R11");
        story.say(
            "policy.crossSegment is deny, so callers see nothing of another segment, whatever the scope (R11). To change \
             it: set policy.crossSegment to scope.",
        );
    } else if segment == DEFAULT && !policy.default_segment_visible {
        story.rule("R12");
        story.say(
            "Names of the default segment are only for callers of the default segment: once a caller is segmented, they \
             are NXDOMAIN for it (R12). To change it: publish the service in the caller's segment, or set \
             policy.defaultSegmentVisible for a roll-out in steps.",
        );
    } else {
        story.rule("R11");
        let what = match found.services.iter().find(|p| p.scope == Scope::Segment) {
            Some(p) => {
                let object = words::object(scene.world, p.cluster, Kind::Service, p.service.namespace, p.service.name);
                format!("label {} with {}=global", words::of_cluster(&object), label::SCOPE)
            }
            None => format!("let the Service behind it have {}=global", label::SCOPE),
        };
        story.say(format!(
            "Its scope is segment, so only callers of {of} see it (R11). To change it: {what}, or ask from a pod of {of}."
        ));
    }
}
