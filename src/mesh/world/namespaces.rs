//! What is known of the local cluster's namespaces; a change of one costs little however many there are.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::World;
use crate::mesh::object::LOCAL;
use crate::mesh::segment::Standing;

/// What the names of the local cluster's domain are hidden by (R16), and may be mistaken for (R21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// The namespace's segment.
    pub standing: Standing,
    /// Its Services whose name is the last label of a mesh zone, so that a search-path form could mean them.
    pub shadows: Box<[Box<str>]>,
}

/// Namespaces by name.
type Part = HashMap<Box<str>, NamespaceFacts, RandomState>;

/// How many parts there are; a namespace that changes has one of them copied.
const PARTS: usize = 64;

/// The local cluster's namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespaces {
    /// Those that exist.
    parts: Box<[Arc<Part>]>,
    /// What every other is: missing; where no Namespace object is known at all, of the cluster's segment.
    pub others: Standing,
}

impl Default for Namespaces {
    fn default() -> Self {
        Self::new(Standing::Missing)
    }
}

/// The part that a name is in. Names differ most at their ends; names that do not only make one part larger.
fn part_of(name: &str) -> usize {
    let last = name.bytes().rev().take(4);
    last.fold(0, |sum: usize, octet| sum.wrapping_mul(31).wrapping_add(octet.into())) % PARTS
}

impl Namespaces {
    fn new(others: Standing) -> Self {
        let empty = Arc::new(Part::default());
        Self { parts: (0..PARTS).map(|_| Arc::clone(&empty)).collect(), others }
    }

    /// What is known of a namespace.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&NamespaceFacts> {
        self.parts[part_of(name)].get(name)
    }

    /// The segment of a namespace.
    #[must_use]
    pub fn standing(&self, name: &str) -> Standing {
        self.get(name).map_or(self.others, |facts| facts.standing)
    }

    /// Those that exist, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &NamespaceFacts)> {
        self.parts.iter().flat_map(|part| part.iter()).map(|(name, facts)| (&**name, facts))
    }

    fn set(&mut self, name: &str, facts: Option<NamespaceFacts>) {
        if self.get(name) == facts.as_ref() {
            return;
        }
        let part = Arc::make_mut(&mut self.parts[part_of(name)]);
        match facts {
            Some(facts) => drop(part.insert(name.into(), facts)),
            None => drop(part.remove(name)),
        }
    }
}

impl World {
    /// What is known of the local cluster's namespaces.
    #[must_use]
    pub fn namespaces(&self) -> Arc<Namespaces> {
        Arc::clone(&self.namespaces)
    }

    /// Works out what is known of these namespaces.
    pub(super) fn look_at(&mut self, names: &BTreeSet<Box<str>>) {
        let mut next = Namespaces::clone(&self.namespaces);
        let shadows: BTreeSet<&str> = self.shadows().collect();
        for name in names {
            next.set(name, self.facts(name, &shadows));
        }
        self.namespaces = Arc::new(next);
    }

    /// Works out what is known of every namespace.
    pub(super) fn look_at_all(&mut self) {
        // Of a namespace that nobody has told, as of any that is missing: its cluster's segment where there are no objects.
        let others = if self.clusters[LOCAL].has_namespaces() {
            Standing::Missing
        } else {
            self.layout.clusters[LOCAL].standing
        };
        let mut all = Namespaces::new(others);
        let shadows: BTreeSet<&str> = self.shadows().collect();
        for name in self.clusters[LOCAL].namespaces.keys() {
            all.set(name, self.facts(name, &shadows));
        }
        self.namespaces = Arc::new(all);
    }

    /// What is known of a namespace, if it exists; `shadows` are the names of Services that matter.
    fn facts(&self, name: &str, shadows: &BTreeSet<&str>) -> Option<NamespaceFacts> {
        let state = self.clusters[LOCAL].namespaces.get(name).filter(|state| state.object.is_some())?;
        let shadows = shadows.iter().copied().filter(|service| state.has_service(service));
        Some(NamespaceFacts { standing: self.standing(LOCAL, name), shadows: shadows.map(Into::into).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_comes_and_goes_and_leaves_the_others_and_older_states_alone() {
        let facts = |segment| NamespaceFacts { standing: Standing::Of(segment), shadows: Box::default() };
        let names: Vec<String> = (0..500).map(|n| format!("ns-{n}")).collect();
        let mut all = Namespaces::new(Standing::Missing);
        names.iter().for_each(|name| all.set(name, Some(facts(1))));
        let before = all.clone();
        all.set("ns-7", Some(facts(2)));
        all.set("ns-8", None);
        all.set("other", None);
        for name in &names {
            let want = match &**name {
                "ns-7" => Standing::Of(2),
                "ns-8" => Standing::Missing,
                _ => Standing::Of(1),
            };
            assert_eq!((all.standing(name), before.standing(name)), (want, Standing::Of(1)), "{name}");
        }
        let same = all.parts.iter().zip(&before.parts).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert!(same >= PARTS - 2, "{same} parts are shared");
    }
}
