//! R7: how far a generated entry is seen.

use super::publishers;
use crate::mesh::address::Group;
use crate::mesh::entry::parent_of;
use crate::mesh::label::{self, Scope};
use crate::mesh::object::{LOCAL, ServiceEntry, WorkloadEntry};
use crate::mesh::segment::{SegmentIx, Standing};
use crate::mesh::world::World;

/// R7 for a host that no Service publishes: it is another name for the entry's parent, and seen no further than that.
pub fn parent_scope(world: &World, entry: &ServiceEntry, segment: SegmentIx) -> Scope {
    let (namespace, name) = parent_of(world.settings(), entry).unwrap_or_default();
    let publishers = publishers(world, namespace, name);
    entry_scope(world, (namespace, name), segment, Group::of(&publishers, segment))
}

/// R7: the scope of a generated entry, by what is behind it.
pub fn entry_scope(
    world: &World,
    (namespace, name): (&str, &str),
    segment: SegmentIx,
    publishers: Group<'_, '_>,
) -> Scope {
    if let Some(local) = publishers.local() {
        return local.scope;
    }
    let peers = publishers.iter().map(|p| p.scope).max();
    let workloads = || world.workloads_of(namespace, name).filter_map(|w| workload_scope(world, w, segment)).max();
    peers.or_else(workloads).unwrap_or(Scope::Global)
}

/// The scope that a WorkloadEntry of this segment tells; one without a scope label tells none, one with a value that is
/// not global stays in the segment (fail closed).
fn workload_scope(world: &World, workload: &WorkloadEntry, segment: SegmentIx) -> Option<Scope> {
    let of = workload.labels.get(label::SEGMENT);
    if of.is_some_and(|l| world.layout().resolve(LOCAL, l) != Standing::Of(segment)) {
        return None;
    }
    match workload.labels.get(label::SCOPE)? {
        "global" | "global-only" => Some(Scope::Global),
        _ => Some(Scope::Segment),
    }
}
