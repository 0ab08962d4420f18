//! What is wrong now, by what it is about.

use std::collections::BTreeMap;

use crate::mesh::cluster::Place;
use crate::mesh::entry::UnitKey;
use crate::mesh::name::Name;
use crate::mesh::object::{ClusterIx, Key};
use crate::mesh::report::{Report, ReportCounts};

/// Who is to be thanked or blamed for a report; a report stays until its owner is judged again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    Source(ClusterIx, String),
    Fault(ClusterIx, Key),
    Layout,
    Namespace(ClusterIx, Box<str>),
    Callers,
    Entry(Place),
    Unit(UnitKey),
    Rivals(Name),
}

/// Owners of which there are as many as objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Many {
    /// [`Owner::Fault`]
    Faults,
    /// [`Owner::Unit`]
    Units,
}

impl Owner {
    /// The cluster that it is of, where that can be a peer.
    const fn cluster(&self) -> Option<ClusterIx> {
        match self {
            Self::Source(cluster, _) | Self::Fault(cluster, _) | Self::Namespace(cluster, _) => Some(*cluster),
            Self::Layout | Self::Callers | Self::Entry(_) | Self::Unit(_) | Self::Rivals(_) => None,
        }
    }

    const fn many(&self) -> Option<Many> {
        match self {
            Self::Fault(..) => Some(Many::Faults),
            Self::Unit(_) => Some(Many::Units),
            _ => None,
        }
    }
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Reports {
    all: BTreeMap<Owner, Vec<Report>>,
    /// How many owners there are of each of [`Many`].
    counts: [usize; 2],
    /// Counts the changes.
    revision: u64,
}

impl Reports {
    /// Everything that is wrong, each once.
    #[must_use]
    pub fn all(&self) -> Vec<Report> {
        let mut all: Vec<Report> = self.all.values().flatten().cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// How many [`Reports::all`] has of each kind; none is copied for it.
    #[must_use]
    pub fn count(&self) -> ReportCounts {
        let mut all: Vec<&Report> = self.all.values().flatten().collect();
        all.sort_unstable();
        all.dedup();
        let mut counts = ReportCounts::default();
        all.iter().for_each(|report| counts[report.kind as usize] += 1);
        counts
    }

    /// Changes whenever [`Reports::all`] does.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether any of these has something wrong.
    #[must_use]
    pub const fn any(&self, of: Many) -> bool {
        self.counts[of as usize] > 0
    }

    /// Takes what is wrong with `owner` now, in place of what was.
    pub fn set(&mut self, owner: Owner, reports: Vec<Report>) {
        if self.all.get(&owner).map_or(&[][..], Vec::as_slice) == reports.as_slice() {
            return;
        }
        self.revision += 1;
        let many = owner.many();
        let before = self.all.len();
        if reports.is_empty() {
            self.all.remove(&owner);
        } else {
            self.all.insert(owner, reports);
        }
        let (count, after) = (many.map(|many| &mut self.counts[many as usize]), self.all.len());
        count.into_iter().for_each(|count| *count = *count + after - before);
    }

    /// As [`Reports::set`], of one of many, of which nearly all have nothing wrong: it is named only if that matters.
    pub fn set_one(&mut self, of: Many, owner: impl FnOnce() -> Owner, reports: Vec<Report>) {
        if !reports.is_empty() || self.any(of) {
            self.set(owner(), reports);
        }
    }

    /// A cluster is gone, with everything that it had.
    pub fn forget(&mut self, cluster: ClusterIx) {
        let owners: Vec<Owner> = self.all.keys().filter(|owner| owner.cluster() == Some(cluster)).cloned().collect();
        owners.into_iter().for_each(|owner| self.set(owner, Vec::new()));
    }
}
