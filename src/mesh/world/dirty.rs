//! What a batch of changes may have touched.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::RandomState;

use crate::mesh::cluster::Place;
use crate::mesh::entry::UnitKey;
use crate::mesh::name::Name;
use crate::mesh::object::ClusterIx;

/// Collected while a batch is filed, worked off once at its end.
#[derive(Debug, Default)]
pub struct Dirty {
    /// Segments or a mesh root namespace: R2 to R4 are judged anew.
    pub layout: bool,
    /// What was known of names is void even if zones and segments stay: other settings answer otherwise.
    pub void: bool,
    /// Everything of these clusters.
    pub clusters: BTreeSet<ClusterIx>,
    /// Namespaces whose labels changed.
    pub namespaces: BTreeSet<(ClusterIx, Box<str>)>,
    /// Units to compile.
    pub units: Units,
    /// ServiceEntries to judge.
    pub entries: BTreeSet<Place>,
    /// Pods, rules or segments of callers.
    pub callers: bool,
    /// Namespaces of the local cluster of which something else may be known now.
    pub facts: BTreeSet<Box<str>>,
    /// All of them, and what counts for those that are not known.
    pub all_facts: bool,
}

/// Units that were touched, by namespace: a first state has all of them, most of them twice.
#[derive(Debug, Default)]
pub struct Units {
    services: HashMap<Box<str>, Vec<Touched>, RandomState>,
    hosts: BTreeSet<Name>,
}

/// A Service name that was touched.
#[derive(Debug)]
pub struct Touched {
    /// The name.
    pub name: Box<str>,
    /// If the local cluster's Service came, changed or went: whether it was there before.
    pub was: Option<bool>,
}

impl Units {
    /// The unit is touched.
    pub fn insert(&mut self, unit: &UnitKey) {
        match unit {
            UnitKey::Service { namespace, name } => self.touch(namespace, name, None),
            UnitKey::Host(host) => {
                self.hosts.insert(host.clone());
            }
        }
    }

    /// The unit of a Service is touched; see [`Touched`].
    pub fn touch(&mut self, namespace: &str, name: &str, was: Option<bool>) {
        let touched = || Touched { name: name.into(), was };
        let Some(of) = self.services.get_mut(namespace) else {
            self.services.insert(namespace.into(), vec![touched()]);
            return;
        };
        // What is read one after the other is often about one Service.
        match of.last_mut().filter(|last| *last.name == *name) {
            Some(last) => last.was = last.was.or(was),
            None => of.push(touched()),
        }
    }

    /// What others have touched is touched, too.
    pub fn append(&mut self, others: Self) {
        for (namespace, names) in others.services {
            self.services.entry(namespace).or_default().extend(names);
        }
        self.hosts.extend(others.hosts);
    }

    /// Each Service name once, by namespace and name; of several accounts of what was there, the first.
    #[must_use]
    pub fn into_sorted(self) -> (BTreeMap<Box<str>, Vec<Touched>>, BTreeSet<Name>) {
        let mut services: BTreeMap<_, Vec<Touched>> = self.services.into_iter().collect();
        for of in services.values_mut() {
            of.sort_by(|a, b| a.name.cmp(&b.name));
            of.dedup_by(|later, first| {
                let same = later.name == first.name;
                first.was = if same { first.was.or(later.was) } else { first.was };
                same
            });
        }
        (services, self.hosts)
    }
}
