//! Words for what labels say, with the objects that they stand on.

use crate::mesh::cluster::view::ServiceView;
use crate::mesh::label::{self, Scope};
use crate::mesh::object::{ClusterIx, Kind, LOCAL, Namespace};
use crate::mesh::report::{ObjectRef, Report};
use crate::mesh::segment::{DEFAULT, SegmentIx, object_ref};
use crate::mesh::world::World;

/// A clause, and the objects it is about.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The clause.
    pub text: String,
    /// The objects.
    pub objects: Vec<ObjectRef>,
}

/// Names any object.
#[must_use]
pub fn object(world: &World, cluster: ClusterIx, kind: Kind, namespace: &str, name: &str) -> ObjectRef {
    object_ref(world.settings(), cluster, kind, namespace, name)
}

/// The local cluster's Segment object of a segment; the default one has none.
#[must_use]
pub fn segment_object(world: &World, segment: SegmentIx) -> Option<ObjectRef> {
    let valid = world.layout().segments.get(usize::from(segment)).filter(|_| segment != DEFAULT)?;
    Some(object(world, LOCAL, Kind::Segment, &world.settings().root_namespace, &valid.name))
}

/// A segment's name, for a sentence.
#[must_use]
pub fn segment(world: &World, segment: SegmentIx) -> String {
    let name = world.layout().segments.get(usize::from(segment)).map_or("", |s| &*s.name);
    if segment == DEFAULT { format!("the default segment ({name})") } else { format!("segment {name}") }
}

/// `Service ns/name of cluster c`, for a sentence.
#[must_use]
pub fn of_cluster(object: &ObjectRef) -> String {
    let ObjectRef { cluster, kind, namespace, name } = object;
    if namespace.is_empty() {
        format!("{kind} {name} of {cluster}")
    } else {
        format!("{kind} {namespace}/{name} of {cluster}")
    }
}

/// Why a namespace is of its segment (contract section 1).
#[must_use]
pub fn standing(world: &World, cluster: ClusterIx, namespace: &str) -> Told {
    let settings = world.settings();
    let objects = world.cluster(cluster);
    let root = &*settings.root_namespace;
    let name = |ns: &str| object(world, cluster, Kind::Namespace, "", ns);
    let own = objects.namespace(namespace);
    if own.is_none() && objects.has_namespaces() {
        let text = format!("{} has no Namespace {namespace} that is known here", settings.clusters[cluster]);
        return Told { text, objects: Vec::new() };
    }
    if own.is_some_and(|o| o.broken) {
        let text = format!("{} cannot be read, so its segment is not known", of_cluster(&name(namespace)));
        return Told { text, objects: vec![name(namespace)] };
    }
    let label = |o: &Namespace| o.labels.get(label::SEGMENT).map(ToOwned::to_owned);
    if let Some(value) = own.and_then(label).filter(|_| settings.namespace_segments() || namespace == root) {
        let text = format!("{} carries the label {}={value}", of_cluster(&name(namespace)), label::SEGMENT);
        return Told { text, objects: vec![name(namespace)] };
    }
    let without = if settings.namespace_segments() {
        format!("Namespace {namespace} carries no label {} of its own", label::SEGMENT)
    } else {
        format!("labels of namespaces do not count (policy.namespaceSegments), {namespace}'s included")
    };
    let above = of_cluster(&name(root));
    match objects.namespace(root).and_then(label) {
        Some(value) => {
            let text = format!("{without}, and the mesh root namespace ({above}) carries {}={value}", label::SEGMENT);
            Told { text, objects: vec![name(root)] }
        }
        None => {
            let text = format!("{without}, and neither does the mesh root namespace ({above})");
            Told { text, objects: Vec::new() }
        }
    }
}

/// Which label gives a Service its value of `key`, and what it is.
#[must_use]
pub fn label_of(world: &World, cluster: ClusterIx, service: ServiceView<'_>, key: &str) -> Option<(Told, String)> {
    let on = |object: ObjectRef, value: &str| {
        let text = format!("the label {key}={value} on {}", of_cluster(&object));
        (Told { text, objects: vec![object] }, value.to_owned())
    };
    if let Some(value) = service.labels.get(key) {
        return Some(on(object(world, cluster, Kind::Service, service.namespace, service.name), value));
    }
    let namespace = world.cluster(cluster).namespace(service.namespace)?;
    Some(on(object(world, cluster, Kind::Namespace, "", service.namespace), namespace.labels.get(key)?))
}

/// What is reported of an object.
#[must_use]
pub fn reports_of(world: &World, object: &ObjectRef) -> Vec<Report> {
    world.reports().into_iter().filter(|r| r.object == *object).collect()
}

/// The word for who publishes with which scopes.
#[must_use]
pub fn scope_word(scopes: &[Scope]) -> &'static str {
    match (scopes.contains(&Scope::Segment), scopes.contains(&Scope::Global)) {
        (true, true) => "mixed",
        (_, true) => "global",
        _ => "segment",
    }
}

/// `a, b and c`
#[must_use]
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Those of `known` that look like `word`: at most two letters away, the nearest first.
#[must_use]
pub fn similar<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Vec<&'k str> {
    let most = 2.min(word.len().saturating_sub(1) / 2);
    let sorted = |text: &str| {
        let mut octets = text.as_bytes().to_vec();
        octets.sort_unstable();
        octets
    };
    // Two letters that changed places are one slip, not two.
    let slips = |k: &str| match distance(word, k) {
        2 if sorted(word) == sorted(k) => 1,
        letters => letters,
    };
    let mut hits: Vec<_> = known.map(|k| (slips(k), k)).filter(|(d, _)| (1..=most).contains(d)).collect();
    hits.sort_unstable();
    hits.dedup();
    hits.into_iter().take(3).map(|(_, k)| k).collect()
}

/// How many letters to change, insert or remove (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let here = (corner + usize::from(a != b)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], here);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_proposed() {
        let known = ["details", "reviews", "detail", "ab"];
        assert_eq!(similar("detials", known.into_iter()), ["details"]);
        assert_eq!(similar("detail", known.into_iter()), ["details"]);
        assert_eq!(similar("wbe", ["web"].into_iter()), ["web"]);
        assert!(similar("ac", known.into_iter()).is_empty());
    }
}
