//! What a batch of changes may have touched.

use std::collections::{BTreeMap, BTreeSet};

use crate::mesh::cluster::Place;
use crate::mesh::entry::UnitKey;
use crate::mesh::object::ClusterIx;

/// Collected while a batch is filed, worked off once at its end.
#[derive(Debug, Default)]
pub struct Dirty {
    /// Segments or a mesh root namespace: R2 to R4 are judged anew.
    pub layout: bool,
    /// Everything of these clusters.
    pub clusters: BTreeSet<ClusterIx>,
    /// Namespaces whose labels changed.
    pub namespaces: BTreeSet<(ClusterIx, Box<str>)>,
    /// Units to compile.
    pub units: BTreeSet<UnitKey>,
    /// ServiceEntries to judge.
    pub entries: BTreeSet<Place>,
    /// Pods, rules or segments of callers.
    pub callers: bool,
    /// Services of the local cluster that came, changed or went, and whether each was there before.
    pub services: BTreeMap<Place, bool>,
    /// What is known of the local cluster's namespaces.
    pub facts: bool,
}
