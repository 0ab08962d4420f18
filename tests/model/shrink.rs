//! From a case that fails to the least one that fails in the same way, and how it is shown.

use serde_json::Value;

use super::case::{Case, Fault, Kind, Tally};
use super::change::Edit;
use super::feed;
use super::front::Lab;
use super::live::Round;
use super::mesh::{Mesh, Object, Policy};
use super::wire::Query;

/// The first fault of this kind that a case has.
fn fault(lab: &Lab, case: &Case, kind: Kind) -> Option<Fault> {
    case.faults(lab, &mut Tally::default()).into_iter().find(|f| f.kind == kind)
}

/// Takes away whatever can be taken away, until nothing can. A case that does not fail again stays what it is.
#[must_use]
pub fn shrink(lab: &Lab, case: &Case, first: &Fault) -> (Case, Fault) {
    let (mut case, kind) = (case.clone(), first.kind);
    let Some(mut found) = fault(lab, &case, kind) else {
        let text = format!("(not again) {}", first.text);
        return (case, Fault { text, ..first.clone() });
    };
    loop {
        let mut smaller = false;
        for candidate in smaller_ones(&case) {
            // Candidates of one round are made from its start; each is tried on what is left by now.
            let next = candidate(&case);
            if let Some(next) = next
                && let Some(again) = fault(lab, &next, kind)
            {
                (case, found, smaller) = (next, again, true);
            }
        }
        if !smaller {
            return (case, found);
        }
    }
}

type Step = Box<dyn Fn(&Case) -> Option<Case>>;

/// A step that changes a copy; `None` if it had nothing to change.
fn step(change: impl Fn(&mut Case) -> bool + 'static) -> Step {
    Box::new(move |case| {
        let mut copy = case.clone();
        change(&mut copy).then_some(copy)
    })
}

/// Every way to make a case smaller, the boldest first. Places are counted from the end, so that they stay what they are.
fn smaller_ones(case: &Case) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for at in (0..case.queries.len()).rev() {
        steps.push(step(move |c| c.queries.len() > usize::from(c.rounds.is_empty()) && remove(&mut c.queries, at)));
    }
    steps.push(step(|c| {
        c.before != c.caller && {
            c.before = c.caller;
            true
        }
    }));
    steps.extend(rounds(case));
    for ix in (1..case.mesh.clusters.len()).rev() {
        steps.push(step(move |c| {
            c.mesh.clusters.len() > ix && {
                c.mesh.clusters.truncate(ix);
                c.rounds.iter_mut().for_each(|r| r.edits.retain(|edit| edit.cluster() < ix));
                true
            }
        }));
        steps.push(step(move |c| {
            c.mesh.clusters.get_mut(ix).is_some_and(|of| {
                !of.objects.is_empty() && {
                    of.objects.clear();
                    true
                }
            })
        }));
    }
    for (ix, cluster) in case.mesh.clusters.iter().enumerate() {
        for at in (0..cluster.objects.len()).rev() {
            steps.push(step(move |c| {
                let objects = c.mesh.clusters.get_mut(ix).map(|of| &mut of.objects);
                objects.is_some_and(|all| remove(all, at))
            }));
        }
    }
    steps.extend(policies());
    steps.extend(details(&case.mesh));
    steps.extend(plainer());
    steps
}

/// Fewer changes and questions after them; or what is changed is so from the start.
fn rounds(case: &Case) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (at, round) in case.rounds.iter().enumerate().rev() {
        steps.push(step(move |c| {
            at < c.rounds.len() && {
                let mesh = &mut c.mesh;
                c.rounds.drain(..=at).flat_map(|r| r.edits).for_each(|edit| edit.apply(mesh));
                true
            }
        }));
        steps.push(step(move |c| remove(&mut c.rounds, at)));
        for edit in (0..round.edits.len()).rev() {
            steps.push(step(move |c| c.rounds.get_mut(at).is_some_and(|round| remove(&mut round.edits, edit))));
        }
        for query in (0..round.queries.len()).rev() {
            steps.push(step(move |c| c.rounds.get_mut(at).is_some_and(|round| remove(&mut round.queries, query))));
        }
    }
    steps
}

/// Takes one of a list away; whether it was there.
fn remove<T>(list: &mut Vec<T>, at: usize) -> bool {
    at < list.len() && {
        list.remove(at);
        true
    }
}

fn policies() -> Vec<Step> {
    let set = |change: fn(&mut Policy, Policy)| {
        step(move |c| {
            let before = c.mesh.policy.clone();
            change(&mut c.mesh.policy, Policy::default());
            c.mesh.policy != before
        })
    };
    vec![
        set(|p, d| *p = d),
        set(|p, d| p.deny = d.deny),
        set(|p, d| p.default_visible = d.default_visible),
        set(|p, d| p.namespace_segments = d.namespace_segments),
        set(|p, d| p.closed = d.closed),
        set(|p, d| p.always = d.always),
        set(|p, d| p.takeover_all = d.takeover_all),
        set(|p, d| p.takeover_cname = d.takeover_cname),
        set(|p, d| p.entries_all = d.entries_all),
        set(|p, d| p.aaaa = d.aaaa),
        set(|p, d| p.autopath = d.autopath),
        set(|p, d| p.grace = d.grace),
        set(|p, d| p.callers = d.callers),
    ]
}

/// Parts of objects: labels, and the last of every list.
fn details(mesh: &Mesh) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (ix, cluster) in mesh.clusters.iter().enumerate() {
        for (at, object) in cluster.objects.iter().enumerate() {
            let mut copy = object.clone();
            let keys: Vec<String> = copy.labels_mut().into_iter().flat_map(|l| l.keys().cloned()).collect();
            for key in keys {
                steps.push(of_object(ix, at, move |o| o.labels_mut().is_some_and(|l| l.remove(&key).is_some())));
            }
            for list in 0..LISTS {
                steps.push(of_object(ix, at, move |o| shorten(o, list)));
            }
        }
    }
    steps
}

fn of_object(ix: usize, at: usize, change: impl Fn(&mut Object) -> bool + 'static) -> Step {
    step(move |c| c.mesh.clusters.get_mut(ix).and_then(|of| of.objects.get_mut(at)).is_some_and(&change))
}

/// How many lists [`shorten`] knows of an object.
const LISTS: usize = 3;

/// Takes the last of a list away; whether there was one.
fn shorten(object: &mut Object, list: usize) -> bool {
    match (object, list) {
        (Object::Segment(s), 0) => s.aliases.pop().is_some(),
        (Object::Slice(s), 0) => s.endpoints.pop().is_some(),
        (Object::Slice(s), 1) => s.ports.pop().is_some(),
        (Object::Service(s), 0) => s.ports.pop().is_some(),
        (Object::Entry(e), 0) => e.addresses.pop().is_some(),
        (Object::Entry(e), 1) => e.status.pop().is_some(),
        (Object::Entry(e), 2) => e.hosts.len() > 1 && e.hosts.pop().is_some(),
        (Object::Pod(p), 1) => p.searches.as_mut().is_some_and(|all| all.pop().is_some()),
        (Object::Pod(p), 0) => p.addresses.len() > 1 && p.addresses.pop().is_some(),
        _ => false,
    }
}

/// Plainer questions.
fn plainer() -> Vec<Step> {
    let each = |change: fn(&mut Query)| {
        step(move |c| {
            let before = c.queries.clone();
            c.queries.iter_mut().for_each(change);
            let mut all = c.rounds.iter_mut().flat_map(|r| &mut r.queries);
            let later = all.by_ref().fold(false, |any, q| {
                let old = q.clone();
                change(q);
                any || *q != old
            });
            later || c.queries != before
        })
    };
    vec![
        each(|q| q.edns = None),
        each(|q| q.tcp = false),
        each(|q| q.flags = 0x0100),
        each(|q| q.name = q.name.to_lowercase()),
        each(|q| q.rtype = 1),
    ]
}

/// A case and its fault as an operator would want them: manifests, configuration, question, both answers.
#[must_use]
pub fn shown(case: &Case, fault: &Fault) -> String {
    let mut out = format!("{:?}: {}\n", fault.kind, fault.text);
    if let Some((caller, query)) = &fault.asked {
        let hidden = case.hidden.as_deref().unwrap_or("-");
        out += &format!("asked by {caller} (first {}), hidden {hidden}: {query:?}\n", case.before);
        out += &format!(
            "segdns explain {} TYPE{} --from {caller} --node node1 --config segdns.yaml",
            query.name, query.rtype
        );
        for ix in 0..case.mesh.clusters.len() {
            out += &format!(" --manifests {0}={0}", feed::cluster_name(ix));
        }
        out.push('\n');
    }
    for query in &case.queries {
        out += &format!("all questions: {} TYPE{}\n", query.name, query.rtype);
    }
    out += &format!("# segdns.yaml\n{}", yaml(&feed::config(&case.mesh)));
    for (ix, cluster) in case.mesh.clusters.iter().enumerate() {
        let synced = if cluster.synced { "" } else { ", whose first complete state is still to come" };
        out += &format!("# {0}/objects.yaml{synced}\n", feed::cluster_name(ix));
        for object in cluster.objects.iter().flat_map(feed::manifests) {
            out += &format!("---\n{}", yaml(&object));
        }
    }
    for (n, round) in case.rounds.iter().enumerate() {
        out += &changes(n, round);
    }
    out
}

/// What happens then, and what is asked after it.
fn changes(n: usize, round: &Round) -> String {
    let mut out = String::new();
    for edit in &round.edits {
        out += &match edit {
            Edit::Put(ix, object) => {
                let all: String = feed::manifests(object).iter().map(|o| format!("---\n{}", yaml(o))).collect();
                format!("# change {n}, in {}:\n{all}", feed::cluster_name(*ix))
            }
            Edit::Gone(ix, object) => {
                format!("# change {n}, in {}: {:?} is gone\n", feed::cluster_name(*ix), object.key())
            }
            Edit::Synced(ix) => format!("# change {n}: {} is complete\n", feed::cluster_name(*ix)),
        };
    }
    for query in &round.queries {
        out += &format!("# then {} asks {} TYPE{}\n", round.caller, query.name, query.rtype);
    }
    out
}

/// A value as YAML, its texts quoted as JSON has them.
fn yaml(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    out
}

fn write(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if depth < 3 => {
            for (key, value) in map {
                let nested = matches!(value, Value::Object(of) if depth < 2 && !of.is_empty());
                out.push_str(&"  ".repeat(depth));
                out.push_str(&format!("{}:{}", Value::from(key.clone()), if nested { "\n" } else { " " }));
                if nested { write(value, depth + 1, out) } else { out.push_str(&format!("{value}\n")) }
            }
        }
        other => out.push_str(&format!("{other}\n")),
    }
}
