//! What is the same for all Services of a namespace, looked up once for many of them.

use crate::mesh::cluster::{Cluster, Services};
use crate::mesh::label::Marks;
use crate::mesh::object::ClusterIx;
use crate::mesh::segment::Standing;
use crate::mesh::world::World;

/// What all Services of a namespace have in common.
pub struct Scene<'w, 'u> {
    pub world: &'w World,
    pub namespace: &'u str,
    /// Where it is, of the clusters that count (R4).
    pub places: Vec<Place<'w>>,
}

/// A namespace of one cluster.
pub struct Place<'w> {
    pub cluster: ClusterIx,
    pub services: Services<'w>,
    pub marks: Marks<'w>,
    pub standing: Standing,
}

impl<'w, 'u> Scene<'w, 'u> {
    pub fn new(world: &'w World, namespace: &'u str) -> Self {
        let place = |(cluster, objects): (ClusterIx, &'w Cluster)| {
            let (services, object) = objects.services_of(namespace)?;
            let standing = world.standing(cluster, namespace);
            Some(Place { cluster, services, marks: Marks::of_namespace(object), standing })
        };
        Self { world, namespace, places: world.active_clusters().filter_map(place).collect() }
    }
}
