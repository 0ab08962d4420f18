//! All objects of all clusters, and what changes in the names when one of them changes.
//!
//! [`World::apply`] takes a batch of changes and returns a [`Delta`]: only the names that the batch can have touched are
//! compiled anew, so that one Service's change costs one Service's work however many there are.

mod apply;
mod dirty;
mod file;
mod given;
mod namespaces;
mod reports;
mod threads;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::caller::Callers;
use super::cluster::view::ReachView;
use super::cluster::{Cluster, Place};
use super::entry::{HostClaim, Unit, UnitKey};
use super::grace::Grace;
use super::name::Name;
use super::object::{ClusterIx, LOCAL, ServiceEntry, WorkloadEntry};
use super::publish::{Body, Compiled, compile};
use super::report::{Report, ReportCounts};
use super::rival::Rivals;
use super::segment::{Layout, Standing, own_label};
use super::settings::Settings;
use dirty::Dirty;
use given::Given;
use reports::Reports;

pub use super::grace::Now;
pub use apply::Pieces;
pub use namespaces::{NamespaceFacts, Namespaces};

/// A Service of the local cluster that has come, or has gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// It has come.
    pub here: bool,
}

/// What a batch of changes changed.
#[derive(Debug, Default)]
pub struct Delta {
    /// Zones, segments or settings changed: what was known of names is void, and `records` has all of them.
    pub relayout: bool,
    /// Names and what now stands there; `None` for nothing.
    pub records: Vec<(Name, Option<Body>)>,
    /// The callers, if they changed.
    pub callers: Option<Arc<Callers>>,
    /// The namespaces, if they changed.
    pub namespaces: Option<Arc<Namespaces>>,
    /// The local cluster's Services that have come or gone, each once.
    pub services: Vec<Presence>,
}

impl Delta {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let names = self.records.is_empty() && self.services.is_empty();
        !self.relayout && names && self.callers.is_none() && self.namespaces.is_none()
    }
}

/// The state of all clusters. See the module's page.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    layout: Layout,
    clusters: Vec<Cluster>,
    node_addresses: Vec<IpAddr>,
    /// See [`World::told`].
    told: bool,
    /// What each ServiceEntry counts as.
    entries: HashMap<Place, EntryState, RandomState>,
    /// The ServiceEntries with a host that is compiled in the unit of a Service, by its namespace and name.
    by_service: ByService<Vec<Place>>,
    /// Those with one that is compiled in a unit of its own.
    by_host: HashMap<Name, Vec<Place>, RandomState>,
    /// What the control plane made for each parent Service, by its namespace and name.
    by_parent: ByService<Family>,
    /// The names that each unit has given, and whether only it can have them.
    given: Given,
    rivals: Rivals,
    namespaces: Arc<Namespaces>,
    grace: Grace,
    reports: Reports,
}

/// Something about Services, by namespace and name.
type ByService<T> = HashMap<Box<str>, HashMap<Box<str>, T, RandomState>, RandomState>;

/// What one ServiceEntry counts as.
#[derive(Debug, Default)]
struct EntryState {
    claims: Vec<HostClaim>,
    parent: Option<Place>,
}

/// What the control plane made for one Service.
#[derive(Debug, Default)]
struct Family {
    entries: Vec<Place>,
    workloads: Vec<Place>,
}

/// Puts a place among others, in order: most have one, for which a tree would take ten times the memory.
fn add_place(all: &mut Vec<Place>, place: &Place) {
    if let Err(at) = all.binary_search(place) {
        all.reserve_exact(1);
        all.insert(at, place.clone());
    }
}

fn remove_place(all: &mut Vec<Place>, place: &Place) {
    if let Ok(at) = all.binary_search(place) {
        all.remove(at);
    }
}

/// Changes what there is about a Service, and forgets it when nothing is left of it.
fn change_of<T: Default>(
    all: &mut ByService<T>,
    (namespace, name): (&str, &str),
    change: impl FnOnce(&mut T),
    is_empty: impl FnOnce(&T) -> bool,
) {
    let of_namespace = all.entry(namespace.into()).or_default();
    let of_service = of_namespace.entry(name.into()).or_default();
    change(of_service);
    if is_empty(of_service) {
        of_namespace.remove(name);
    }
    if of_namespace.is_empty() {
        all.remove(namespace);
    }
}

impl Family {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.workloads.is_empty()
    }
}

impl World {
    /// A world without objects: one cluster for each that the settings name.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let clusters = vec![Cluster::default(); settings.clusters.len()];
        let mut world = Self {
            layout: Layout::default(),
            clusters,
            node_addresses: Vec::new(),
            told: false,
            entries: HashMap::default(),
            by_service: HashMap::default(),
            by_host: HashMap::default(),
            by_parent: HashMap::default(),
            given: Given::default(),
            rivals: Rivals::default(),
            namespaces: Arc::default(),
            grace: Grace::new(settings.grace_ms),
            reports: Reports::default(),
            settings,
        };
        world.relayout(&mut Dirty::default());
        world.look_at_all();
        world
    }

    /// The operator's settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Zones and segments.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// One cluster's objects.
    #[must_use]
    pub fn cluster(&self, ix: ClusterIx) -> &Cluster {
        &self.clusters[ix]
    }

    /// The clusters that there are, complete or not, by index and name.
    pub fn clusters(&self) -> impl Iterator<Item = (ClusterIx, &str, &Cluster)> {
        let all = self.clusters.iter().zip(&self.settings.clusters).enumerate();
        all.filter(|(_, (c, _))| !c.vacant).map(|(ix, (c, name))| (ix, &**name, c))
    }

    /// The clusters that count: the local one, and peers that are complete and not disabled (R4, R22).
    pub fn active_clusters(&self) -> impl Iterator<Item = (ClusterIx, &Cluster)> {
        let counts = |ix: ClusterIx, c: &Cluster| ix == LOCAL || (c.synced && !self.layout.clusters[ix].disabled);
        self.clusters.iter().enumerate().filter(move |(ix, c)| counts(*ix, c))
    }

    /// Whether the local cluster's first complete state is in (R22).
    #[must_use]
    pub fn synced(&self) -> bool {
        self.clusters[LOCAL].synced
    }

    /// Whether all Services and Namespaces of the local cluster are told, as they are now: what is not told does not exist.
    /// Manifests never tell so, and a saved state does not.
    #[must_use]
    pub fn told(&self) -> bool {
        self.told
    }

    /// The Services that the local cluster has.
    #[must_use]
    pub fn services(&self) -> Vec<Presence> {
        let namespaces = self.clusters[LOCAL].namespaces.iter();
        let services = namespaces.flat_map(|(namespace, state)| state.services().map(move |name| (namespace, name)));
        services.map(|(ns, name)| Presence { namespace: ns.clone(), name: name.into(), here: true }).collect()
    }

    /// Clusters whose first complete state is still missing, by name.
    #[must_use]
    pub fn pending_clusters(&self) -> Vec<&str> {
        self.clusters().filter(|(_, _, c)| !c.synced).map(|(_, name, _)| name).collect()
    }

    /// The node's own addresses (R15).
    #[must_use]
    pub fn node_addresses(&self) -> &[IpAddr] {
        &self.node_addresses
    }

    /// The segment of a namespace (R3, and our extension by `namespaceSegments`).
    #[must_use]
    pub fn standing(&self, cluster: ClusterIx, namespace: &str) -> Standing {
        let of_cluster = self.layout.clusters[cluster].standing;
        let objects = &self.clusters[cluster];
        let Some(object) = objects.namespace(namespace) else {
            return if objects.has_namespaces() { Standing::Missing } else { of_cluster };
        };
        if object.broken {
            return Standing::Invalid;
        }
        own_label(&self.settings, object).map_or(of_cluster, |label| self.layout.resolve(cluster, label))
    }

    /// The target of an ExternalName Service (R6).
    ///
    /// # Errors
    /// What is wrong with it, and the remedy.
    pub fn external(&self, cluster: ClusterIx, reach: ReachView<'_>) -> Result<Option<Name>, (String, String)> {
        let ReachView::ExternalName(text) = reach else { return Ok(None) };
        let target = Name::parse(text.strip_suffix('.').unwrap_or(text)).map_err(|why| {
            let text = format!("its externalName {text:?} is no DNS name: {why}, so it is not published");
            (text, "correct spec.externalName".to_owned())
        })?;
        if cluster != LOCAL && target.is_in(&self.settings.cluster_domain) {
            let text = format!("its externalName {target} means the peer's own cluster, so it is not published here");
            return Err((text, "publish the Service that it points at instead".into()));
        }
        Ok(Some(target))
    }

    /// The hosts of ServiceEntries that are compiled in `unit`, older entries first.
    #[must_use]
    pub fn claims_of(&self, unit: Unit<'_>) -> Vec<(&ServiceEntry, &HostClaim)> {
        let places = match unit {
            Unit::Service { namespace, name } => self.by_service.get(namespace).and_then(|all| all.get(name)),
            Unit::Host(host) => self.by_host.get(host),
        };
        let places = places.into_iter().flatten();
        let entries = places.filter_map(|p| Some((self.clusters[LOCAL].entries.get(p)?, self.entries.get(p)?)));
        let mut out: Vec<_> = entries
            .flat_map(|(e, state)| state.claims.iter().filter(|c| Unit::from(&c.unit) == unit).map(move |c| (e, c)))
            .collect();
        out.sort_by(|(a, _), (b, _)| (a.created, &a.namespace, &a.name).cmp(&(b.created, &b.namespace, &b.name)));
        out
    }

    /// The WorkloadEntries behind a Service (R7).
    pub fn workloads_of(&self, namespace: &str, name: &str) -> impl Iterator<Item = &WorkloadEntry> {
        let places = self.family(namespace, name).into_iter().flat_map(|f| &f.workloads);
        places.filter_map(|p| self.clusters[LOCAL].workloads.get(p))
    }

    fn family(&self, namespace: &str, name: &str) -> Option<&Family> {
        self.by_parent.get(namespace)?.get(name)
    }

    /// Compiles a unit anew, for display; what is answered was compiled by the same function.
    #[must_use]
    pub fn compiled(&self, unit: &UnitKey) -> Compiled {
        compile(self, unit.into())
    }

    /// Every unit that publishes something now.
    pub fn units(&self) -> impl Iterator<Item = UnitKey> {
        self.given.units()
    }

    /// The unit whose claim to `name` holds, among those that claim it.
    #[must_use]
    pub fn rival_of(&self, name: &Name) -> Option<&UnitKey> {
        self.rivals.winner(name).map(|claim| &claim.unit)
    }

    /// Everything that is wrong now.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.reports.all()
    }

    /// How many [`World::reports`] has of each kind.
    #[must_use]
    pub fn report_counts(&self) -> ReportCounts {
        self.reports.count()
    }

    /// Changes whenever [`World::reports`] does, so that nobody has to compare them all.
    #[must_use]
    pub fn reports_revision(&self) -> u64 {
        self.reports.revision()
    }

    /// When [`World::tick`] has something to do, a [`Now`].
    #[must_use]
    pub fn next_tick(&self) -> Option<u64> {
        self.grace.next()
    }
}

#[cfg(test)]
mod tests;
