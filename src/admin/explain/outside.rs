//! Names outside the mesh zones: aliases (R9), hosts of hand-written entries (R10), and everything that is forwarded.

use super::{Scene, Story, cached, mesh, name_of, who};
use crate::admin::found;
use crate::admin::words;
use crate::mesh::caller::CallerSegment;
use crate::mesh::entry::parent_of;
use crate::mesh::name::Name;
use crate::mesh::object::{Kind, LOCAL, Segment, ServiceEntry};
use crate::mesh::settings::{ClusterNames, ServiceEntries};
use crate::table::decide::{Decision, Reason, Verdict};
use crate::table::key::Key;
use crate::table::zone::ZoneKind;

/// Tells a decision about a name outside the mesh zones and the cluster domain.
pub fn tell(scene: Scene<'_>, story: &mut Story, key: &Key, decision: &Decision<'_>) {
    let name = key.text(key.all());
    if decision.reason != Reason::Forwarded {
        return mesh::seen(scene, story, &name, decision.reason);
    }
    if matches!(decision.verdict, Verdict::HoldThenForward) {
        story.rule("R22");
        story.say(format!(
            "No Segment has told the mesh zones yet, so {name} waits for policy.identityHold and is then forwarded (R22). To \
             change it: name the mesh zones in segments.zones."
        ));
    }
    forward(scene, story, key, decision);
    if let Some(name) = name_of(&name) {
        hidden_alias(scene, story, &name);
        lost_zone(scene, story, &name);
        entries(scene, story, &name);
    }
}

/// Where it goes (R23).
pub fn forward(scene: Scene<'_>, story: &mut Story, key: &Key, decision: &Decision<'_>) {
    let name = key.text(key.all());
    let wire = [key.span(key.all()), &[0]].concat();
    match (scene.upstreams)(&wire) {
        Some((zone, all)) if !all.is_empty() => {
            let all = all.join(", ");
            story.say(format!(
                "{name} is no name of ours: forwarded to the upstreams of zone {zone:?} in forward, {all}; they decide the \
                 answer (R23)."
            ));
        }
        Some((zone, _)) => story
            .say(format!("{name} belongs to zone {zone:?} in forward, which names no upstream now: SERVFAIL (R23).")),
        None => story.say(format!("{name} is no name of ours, and no zone in forward takes it: SERVFAIL (R23).")),
    }
    cached::tell(scene, story, key);
    let reverse = decision.zone.is_some_and(|z| scene.table.zones.get(z).kind == ZoneKind::Reverse);
    if scene.table.policy.cluster_names == ClusterNames::Segment {
        if let Verdict::Forward(how) = decision.verdict
            && how.filtered
        {
            let soa = if decision.zone.is_some() { ", and an NXDOMAIN carries segdns's own SOA" } else { "" };
            story.say(format!(
                "With policy.clusterNames: segment, names of namespaces that the caller may not see are taken out of the \
                 answer{soa} (R16)."
            ));
        }
    } else if reverse {
        story.say("There are no reverse names for mesh addresses (R18).");
    }
}

/// R13: an alias that the caller may not see is forwarded like any other name.
fn hidden_alias(scene: Scene<'_>, story: &mut Story, name: &Name) {
    let Some(found) = found::find(scene.world, name) else { return };
    let Some(segment) = found.segment else { return };
    story.rule("R13");
    story.say(format!(
        "{name} is also a name that {} publishes outside its mesh zone, but this caller may not see it, so it is forwarded \
         like any other name (R13).",
        words::segment(scene.world, segment)
    ));
    mesh::provenance(scene, story, &found);
    match scene.asker.caller.segment {
        CallerSegment::Of(_) => {
            who::tell(scene, story);
            mesh::because(scene, story, &found, segment);
        }
        CallerSegment::Invalid | CallerSegment::Unknown => who::tell_failure(scene, story),
    }
}

/// R2: it would be in the zone of a Segment, if that were valid.
fn lost_zone(scene: Scene<'_>, story: &mut Story, name: &Name) {
    let inside = |s: &&Segment| {
        let domain = s.domain.as_deref().and_then(|d| Name::parse(d.trim_end_matches('.')).ok());
        domain.is_some_and(|domain| name.is_in(&domain))
    };
    for segment in scene.world.cluster(LOCAL).segments.values().filter(inside) {
        let object = words::object(scene.world, LOCAL, Kind::Segment, &segment.namespace, &segment.name);
        for report in words::reports_of(scene.world, &object) {
            story.rule("R2");
            story.about([object.clone()]);
            story.say(format!(
                "It would be in the mesh zone of {}, but that is invalid ({}): {}. To change it: {}.",
                words::of_cluster(&object),
                report.rule,
                report.text,
                report.remedy
            ));
        }
    }
    let zones = scene.world.layout().zones.iter().map(|(zone, _)| zone.as_str());
    let asked = name.as_str();
    let near: Vec<&str> = zones
        .filter(|zone| {
            let labels = zone.split('.').count();
            let tail: Vec<&str> = asked.rsplit('.').take(labels).collect();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join(".");
            !words::similar(&tail, std::iter::once(*zone)).is_empty()
        })
        .collect();
    if !near.is_empty() {
        story.say(format!("There is a mesh zone {} that looks like it; is the name misspelt?", near.join(" and ")));
    }
}

/// R8 and R10: entries that list it and do not count.
fn entries(scene: Scene<'_>, story: &mut Story, name: &Name) {
    let world = scene.world;
    let lists = |e: &&ServiceEntry| e.hosts.iter().any(|h| h.eq_ignore_ascii_case(name.as_str()));
    let mut all: Vec<_> = world.cluster(LOCAL).entries.values().filter(lists).collect();
    all.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    for entry in all {
        let object = words::object(world, LOCAL, Kind::ServiceEntry, &entry.namespace, &entry.name);
        let title = words::of_cluster(&object);
        let generated = parent_of(world.settings(), entry).is_some();
        story.about([object.clone()]);
        if world.settings().service_entries == ServiceEntries::Generated && !generated {
            story.say(format!(
                "{title} lists it, but serviceEntries is generated, so hand-written entries do not count (R10). To change it: \
                 set serviceEntries to all."
            ));
            continue;
        }
        let reports = words::reports_of(world, &object);
        for report in &reports {
            story.rule(report.rule);
            let (rule, text, remedy) = (report.rule, &report.text, &report.remedy);
            story.say(format!("{title} lists it, but it is dropped ({rule}): {text}. To change it: {remedy}."));
        }
        if reports.is_empty() && !generated {
            story.say(format!("{title} lists it, but gives no address for it, so it is forwarded (R10)."));
        }
    }
}
