//! Names that more than one may want: aliases (R9) and hosts of ServiceEntries that are no Service's name (R10).

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::entry::{Unit, UnitKey};
use super::name::Name;
use super::publish::{Body, Rank};
use super::report::{ObjectRef, Report, ReportKind};

/// One claim to a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who claims it.
    pub unit: UnitKey,
    /// What would stand there.
    pub body: Body,
    /// The object to blame if it loses.
    pub object: ObjectRef,
}

/// All claims to names that are no Service's own, the best first.
#[derive(Debug, Default)]
pub struct Rivals(HashMap<Name, BTreeMap<(Rank, UnitKey), Claim>, RandomState>);

impl Rivals {
    /// Files a claim.
    pub fn put(&mut self, name: &Name, rank: Rank, claim: Claim) {
        self.0.entry(name.clone()).or_default().insert((rank, claim.unit.clone()), claim);
    }

    /// Takes back what `unit` claims of `name`.
    pub fn take(&mut self, name: &Name, unit: Unit<'_>) {
        if let Some(claims) = self.0.get_mut(name) {
            claims.retain(|(_, of), _| Unit::from(of) != unit);
            if claims.is_empty() {
                self.0.remove(name);
            }
        }
    }

    /// Whether anyone claims it.
    #[must_use]
    pub fn claim(&self, name: &Name) -> bool {
        self.0.contains_key(name)
    }

    /// The best claim.
    #[must_use]
    pub fn winner(&self, name: &Name) -> Option<&Claim> {
        self.0.get(name)?.values().next()
    }

    /// What to report of those that do not get it; `service` says that a Service has the name, so that none does.
    #[must_use]
    pub fn losers(&self, name: &Name, service: bool) -> Vec<Report> {
        let Some(claims) = self.0.get(name) else { return Vec::new() };
        let winner = if service { None } else { claims.values().next() };
        let losers = claims.iter().skip(usize::from(!service));
        losers.map(|((rank, _), claim)| lost(name, rank, claim, winner)).collect()
    }
}

fn lost(name: &Name, rank: &Rank, claim: &Claim, winner: Option<&Claim>) -> Report {
    let by = winner.map_or("a published service's own name".to_owned(), |w| format!("that of {}", w.object));
    let (kind, rule, what) = match rank {
        Rank::Service | Rank::EntryHost => (ReportKind::EntryDropped, "R8", "host"),
        Rank::Alias(..) => (ReportKind::AliasDropped, "R9", "alias"),
        Rank::Plain(..) => (ReportKind::HostDropped, "R10", "host"),
    };
    let text = format!("its {what} {name} is already {by}, so it is not given");
    let remedy = "let the two have different names, by a label, a pattern or spec.hosts".into();
    Report { kind, rule, object: claim.object.clone(), text, remedy }
}
