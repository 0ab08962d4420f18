//! From a name back to the objects that publish it.

use std::net::IpAddr;

use crate::mesh::address::{Answers, Publisher, Rung};
use crate::mesh::alias::{self, Subject};
use crate::mesh::caller::Caller;
use crate::mesh::entry::{HostClass, UnitKey, parent_of};
use crate::mesh::label::Scope;
use crate::mesh::name::Name;
use crate::mesh::object::{Kind, LOCAL, LabelsView, ServiceEntry};
use crate::mesh::publish::{self, Body, Cross, Rank, Record, Takeover};
use crate::mesh::report::ObjectRef;
use crate::mesh::segment::SegmentIx;
use crate::mesh::visible::{View, view};
use crate::mesh::world::World;

use super::words;

/// A name that is published, and by what.
#[derive(Debug)]
pub struct Found<'w> {
    /// The name, and what stands there.
    pub record: Record,
    /// What it was compiled from.
    pub unit: UnitKey,
    /// Whose name it is; `None` for hosts that are everyone's and for cluster names.
    pub segment: Option<SegmentIx>,
    /// The Services that publish it, in this segment.
    pub services: Vec<Publisher<'w>>,
    /// The ServiceEntries that have it as a host, or its service's name.
    pub entries: Vec<&'w ServiceEntry>,
}

/// The published name `name`, or the wildcard above it.
#[must_use]
pub fn find<'w>(world: &'w World, name: &Name) -> Option<Found<'w>> {
    if let Some(found) = services_name(world, name) {
        return Some(found);
    }
    let above = std::iter::successors(name.parent(), Name::parent);
    let wildcards = above.filter_map(|n| Name::parse_host(&format!("*.{n}")).ok());
    let candidates = std::iter::once(name.clone()).chain(wildcards);
    for candidate in candidates {
        if let Some(unit) = world.rival_of(&candidate) {
            let record = world.compiled(unit).records.into_iter().find(|r| r.name == candidate)?;
            return Some(trace(world, unit, record));
        }
    }
    None
}

/// The name of a Service, of one of its endpoints, or a cluster name: its unit can be read from the name.
fn services_name<'w>(world: &'w World, name: &Name) -> Option<Found<'w>> {
    let (namespace, service) = service_of(world, name)?;
    let unit = UnitKey::service(namespace, service);
    let record = world.compiled(&unit).records.into_iter().find(|r| r.name == *name && r.rank == Rank::Service)?;
    Some(trace(world, &unit, record))
}

/// Namespace and name of the Service that a name would be of.
#[must_use]
pub fn service_of<'n>(world: &World, name: &'n Name) -> Option<(&'n str, &'n str)> {
    let zone = world.layout().zone_of(name).map(|z| &world.layout().zones[z].0);
    let svc = || name.as_str().strip_suffix(world.settings().cluster_domain.as_str())?.strip_suffix(".svc.");
    let prefix = zone.and_then(|z| name.prefix_of(z)).or_else(svc)?;
    let mut labels = prefix.rsplit('.');
    Some((labels.next()?, labels.next()?))
}

/// The objects behind a record of a unit.
#[must_use]
pub fn trace<'w>(world: &'w World, unit: &UnitKey, record: Record) -> Found<'w> {
    let segment = match &record.body {
        Body::Mesh { segment, .. } => Some(*segment),
        Body::Public(_) | Body::Cluster(_) => None,
    };
    let claims = world.claims_of(unit.into());
    let counts = |class: HostClass| match (&record.body, class) {
        (Body::Mesh { segment, .. }, HostClass::Mesh(of)) => *segment == of,
        (Body::Cluster(all), HostClass::Mesh(of) | HostClass::ClusterName(of)) => all.iter().any(|t| t.segment == of),
        (Body::Public(_), HostClass::Plain) => true,
        _ => false,
    };
    let entries: Vec<_> = claims.iter().filter(|(_, c)| counts(c.class)).map(|(e, _)| *e).collect();
    let parent = entries.first().and_then(|e| parent_of(world.settings(), e));
    let place = match unit {
        UnitKey::Service { namespace, name } => Some((&**namespace, &**name)),
        UnitKey::Host(_) => parent,
    };
    let all = place.map(|(namespace, name)| publish::publishers(world, namespace, name)).unwrap_or_default();
    let ours = |of: SegmentIx| match &record.body {
        Body::Mesh { segment, .. } => *segment == of,
        Body::Cluster(all) => all.iter().any(|t| t.segment == of),
        Body::Public(_) => false,
    };
    let services = all.into_iter().filter(|(of, _)| ours(*of)).map(|(_, p)| p).collect();
    Found { record, unit: unit.clone(), segment, services, entries }
}

impl<'w> Found<'w> {
    /// What a caller is answered of it, takeover included; `None` hides it.
    #[must_use]
    pub fn answers(&self, world: &World, caller: &Caller) -> Option<&Answers> {
        let segment = caller.segment.segment();
        match &self.record.body {
            Body::Public(answers) => Some(answers),
            Body::Cluster(all) => {
                let taken = all.iter().find(|t| Some(t.segment) == segment).filter(|_| caller.takes_over);
                taken.map(|t| &t.answers)
            }
            Body::Mesh { segment: of, own, cross } => match view(&world.settings().policy, segment?, *of) {
                View::Own => Some(own),
                View::Cross => cross.or(own),
                View::Nothing => None,
            },
        }
    }

    /// What is answered to those who see the most of it.
    #[must_use]
    pub fn best(&self) -> Option<&Answers> {
        match &self.record.body {
            Body::Public(answers) => Some(answers),
            Body::Cluster(all) => all.first().map(|t| &t.answers),
            Body::Mesh { own, .. } => Some(own),
        }
    }

    /// For a cluster name: whose callers it is taken over for.
    #[must_use]
    pub fn takeovers(&self) -> &[Takeover] {
        match &self.record.body {
            Body::Cluster(all) => all,
            Body::Mesh { .. } | Body::Public(_) => &[],
        }
    }

    /// The scopes of those who publish it; of entries alone, by who sees the name (R7).
    #[must_use]
    pub fn scopes(&self) -> Vec<Scope> {
        if !self.services.is_empty() {
            return self.services.iter().map(|p| p.scope).collect();
        }
        match &self.record.body {
            Body::Mesh { cross: Cross::Same | Cross::Other(_), .. } => vec![Scope::Global],
            _ => vec![Scope::Segment],
        }
    }

    /// The entry that the addresses are from, if they are an entry's.
    #[must_use]
    pub fn entry_of(&self, answers: &Answers) -> Option<&'w ServiceEntry> {
        let gives = |e: &&ServiceEntry| {
            let has = |address: &IpAddr| match answers.rung {
                Rung::EntrySpec => e.addresses.contains(address),
                Rung::EntryStatus => e.status_addresses.iter().any(|(_, a)| a == address),
                Rung::Inline => e.endpoints.contains(address),
                _ => false,
            };
            let first = answers.v4.first().copied().map(IpAddr::V4);
            first.or(answers.v6.first().copied().map(IpAddr::V6)).is_some_and(|address| has(&address))
        };
        self.entries.iter().copied().find(gives)
    }

    /// The pattern that gives an alias (R9).
    #[must_use]
    pub fn pattern<'s>(&self, world: &'s World) -> Option<&'s str> {
        let (UnitKey::Service { namespace, name }, Rank::Alias(..)) = (&self.unit, &self.record.rank) else {
            return None;
        };
        let segment = self.segment?;
        let mut subjects: Vec<_> = self.services.iter().map(|p| (p.service.labels, p.service.annotations)).collect();
        if subjects.is_empty() {
            subjects.push((LabelsView::default(), LabelsView::default()));
        }
        let aliases = &world.layout().segments[usize::from(segment)].aliases;
        let gives = |(labels, annotations): &(LabelsView<'_>, LabelsView<'_>), alias| {
            let subject = Subject { service: name, namespace, labels: *labels, annotations: *annotations };
            alias::expand(world.settings(), world.layout(), segment, alias, subject).ok().as_ref()
                == Some(&self.record.name)
        };
        aliases.iter().find(|alias| subjects.iter().any(|s| gives(s, alias))).map(|alias| &*alias.pattern)
    }

    /// Every object that publishes it: Services, and the entry that gives addresses, or all entries where no Service does.
    #[must_use]
    pub fn objects(&self, world: &World) -> Vec<ObjectRef> {
        let service =
            |p: &Publisher<'_>| words::object(world, p.cluster, Kind::Service, p.service.namespace, p.service.name);
        let entry = |e: &&ServiceEntry| words::object(world, LOCAL, Kind::ServiceEntry, &e.namespace, &e.name);
        let mut out: Vec<_> = self.services.iter().map(service).collect();
        match self.best().and_then(|answers| self.entry_of(answers)) {
            Some(giver) => out.push(entry(&giver)),
            None if out.is_empty() => out.extend(self.entries.iter().map(entry)),
            None => {}
        }
        out
    }
}
