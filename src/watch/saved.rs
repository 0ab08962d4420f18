//! The saved snapshot (`sources.snapshot`, R22): the last complete state on disk, for a start without the API server.

use std::time::SystemTime;

use crate::mesh::object::Object;

/// What was saved: the objects of every cluster, the local one first.
#[derive(Debug)]
pub struct Saved {
    /// When it was written.
    pub written: SystemTime,
    /// The clusters that were complete then.
    pub clusters: Vec<SavedCluster>,
}

/// One cluster of a saved state.
#[derive(Debug)]
pub struct SavedCluster {
    /// Its name.
    pub name: Box<str>,
    /// All its objects.
    pub objects: Vec<Object>,
}
