//! Changes to a mesh, as operators and clusters make them while it is asked: Services come and go, labels move, addresses of
//! pods are given to others.

use super::draw::{self, Dice, NAMESPACES};
use super::mesh::{Cluster, Mesh, Object, Pod, Reach};

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// An object of a cluster is new, or is like this from now on.
    Put(usize, Object),
    /// An object is gone; what it was like.
    Gone(usize, Object),
    /// A cluster's first complete state is there.
    Synced(usize),
}

impl Edit {
    /// Whose it is.
    #[must_use]
    pub fn cluster(&self) -> usize {
        let (Self::Put(ix, _) | Self::Gone(ix, _) | Self::Synced(ix)) = self;
        *ix
    }

    /// Changes a mesh.
    pub fn apply(&self, mesh: &mut Mesh) {
        let cluster = &mut mesh.clusters[self.cluster()];
        match self {
            Self::Put(_, object) => match cluster.objects.iter_mut().find(|o| o.key() == object.key()) {
                Some(old) => *old = object.clone(),
                None => cluster.objects.push(object.clone()),
            },
            Self::Gone(_, object) => cluster.objects.retain(|o| o.key() != object.key()),
            Self::Synced(_) => cluster.synced = true,
        }
    }
}

/// Some changes that come together.
#[must_use]
pub fn draw(dice: &mut Dice, mesh: &Mesh) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut mesh = mesh.clone();
    for _ in 0..1 + dice.below(3) {
        let from = edits.len();
        one(dice, &mesh, &mut edits);
        edits[from..].iter().for_each(|edit| edit.apply(&mut mesh));
    }
    // Nobody makes slices of a Service that is a name only.
    for (ix, cluster) in mesh.clusters.iter().enumerate() {
        let external = |namespace: &str, name: &str| {
            let mut of = cluster.services().filter(|s| s.namespace == namespace && s.name == name);
            of.any(|s| matches!(s.reach, Reach::External(_)))
        };
        let slices = cluster.slices().filter(|s| external(&s.namespace, &s.service));
        edits.extend(slices.map(|s| Edit::Gone(ix, Object::Slice(s.clone()))));
    }
    edits
}

/// One change, or two that make one.
fn one(dice: &mut Dice, mesh: &Mesh, edits: &mut Vec<Edit>) {
    let ix = if dice.chance(65) { 0 } else { dice.below(mesh.clusters.len()) };
    let cluster = &mesh.clusters[ix];
    match dice.below(100) {
        0..20 => edits.extend(some(dice, cluster, |o| matches!(o, Object::Service(_))).map(|o| Edit::Gone(ix, o))),
        20..50 => edits.extend(relabelled(dice, cluster).map(|o| Edit::Put(ix, o))),
        50..66 => reuse(dice, &mesh.clusters[0], edits),
        66..76 => edits.extend(some(dice, cluster, |_| true).map(|o| Edit::Gone(ix, o))),
        76..80 => edits.push(Edit::Synced(ix)),
        _ => edits.push(Edit::Put(ix, drawn(dice, ix, mesh))),
    }
}

/// One of the objects of which this is true.
fn some(dice: &mut Dice, cluster: &Cluster, is: impl Fn(&Object) -> bool) -> Option<Object> {
    let all: Vec<&Object> = cluster.objects.iter().filter(|o| is(o)).collect();
    (!all.is_empty()).then(|| dice.pick(&all).clone())
}

/// An object with other labels than before: all of them, or one that is taken away or has another's value.
fn relabelled(dice: &mut Dice, cluster: &Cluster) -> Option<Object> {
    let mut object =
        some(dice, cluster, |o| matches!(o, Object::Namespace(_) | Object::Service(_) | Object::Entry(_)))?;
    let fresh = draw::labels(dice, 60, 70);
    let labels = object.labels_mut()?;
    match dice.below(3) {
        0 => labels.extend(fresh),
        1 => drop(labels.pop_last()),
        _ => labels.extend(fresh.into_iter().take(1)),
    }
    Some(object)
}

/// An address of a pod gets to another one: the first is gone, ends, or is not yet known to.
fn reuse(dice: &mut Dice, cluster: &Cluster, edits: &mut Vec<Edit>) {
    let Some(Object::Pod(old)) = some(dice, cluster, |o| matches!(o, Object::Pod(_))) else { return };
    let (name, namespace) = (format!("next-{}", dice.below(4)), dice.pick(&NAMESPACES).to_owned());
    let new = Pod {
        uid: format!("uid-{name}-{namespace}"),
        namespace,
        name,
        created: old.created + i64::from(dice.chance(80)),
        finished: false,
        terminating: false,
        enrolled: dice.chance(65),
        ..old.clone()
    };
    let end = match dice.below(4) {
        0 => Some(Edit::Gone(0, Object::Pod(old))),
        1 => Some(Edit::Put(0, Object::Pod(Pod { terminating: true, ..old }))),
        2 => Some(Edit::Put(0, Object::Pod(Pod { finished: true, ..old }))),
        _ => None,
    };
    let mut both = vec![Edit::Put(0, Object::Pod(new))];
    both.extend(end);
    // Watches of different kinds of news have no order.
    if dice.chance(50) {
        both.reverse();
    }
    edits.extend(both);
}

/// An object that is new, or another one of the same name.
fn drawn(dice: &mut Dice, ix: usize, mesh: &Mesh) -> Object {
    let segments: Vec<_> = mesh.clusters[0].segments().cloned().collect();
    match dice.below(10) {
        0..3 => Object::Service(draw::service(dice, ix)),
        3..5 => {
            let services: Vec<_> =
                mesh.clusters[ix].services().map(|s| (s.namespace.clone(), s.name.clone())).collect();
            let service = draw::service(dice, ix);
            let none = || (service.namespace, service.name);
            let (namespace, name) = if services.is_empty() { none() } else { dice.pick(&services) };
            Object::Slice(draw::slice(dice, ix, &namespace, &name))
        }
        5..7 => Object::Entry(draw::entry(dice, &segments)),
        7 => {
            let n = dice.below(3);
            Object::Workload(draw::workload(dice, n))
        }
        8 => {
            let n = dice.below(7);
            Object::Pod(draw::pod(dice, n))
        }
        _ => {
            let all = draw::segments(dice);
            match all.is_empty() {
                true => Object::Service(draw::service(dice, ix)),
                false => Object::Segment(dice.pick(&all)),
            }
        }
    }
}
