//! The log of reports: what has come to be wrong, each thing once, and what no longer is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::mesh::report::Report;
use crate::table::keeper::Keeper;

/// How often it looks at most: to compare all reports for each of many changes would keep the changes waiting.
const EVERY: Duration = Duration::from_secs(1);
/// How many reports are logged at once; `segdns check` has them all.
const LOGGED: usize = 20;

/// See the module's page.
pub struct ReportLog {
    /// Nothing is logged before the first complete state: half of one breaks rules that the whole does not.
    after_sync: bool,
    /// The world's count of their changes, as far as they have been looked at.
    revision: Option<u64>,
    looked: Option<Instant>,
    /// They have changed since, too soon to look.
    behind: bool,
    logged: Arc<BTreeSet<Report>>,
}

impl ReportLog {
    /// Nothing is logged yet.
    pub fn new(after_sync: bool) -> Self {
        Self { after_sync, revision: None, looked: None, behind: false, logged: Arc::default() }
    }

    /// Logs what has changed, if anything has, and if it is not too soon; whether it did.
    pub fn look(&mut self, keeper: &Keeper) -> bool {
        let soon = self.looked.is_some_and(|at| at.elapsed() < EVERY);
        let now = keeper.look(|world, _| {
            let revision = world.reports_revision();
            let news = self.revision != Some(revision) && (world.synced() || !self.after_sync);
            self.behind = news && soon;
            (news && !soon).then(|| (revision, world.reports()))
        });
        let Some((revision, reports)) = now else { return false };
        (self.revision, self.looked) = (Some(revision), Some(Instant::now()));
        self.log(reports.into_iter().collect());
        true
    }

    /// What is wrong, as of the last look.
    pub fn all(&self) -> Arc<BTreeSet<Report>> {
        Arc::clone(&self.logged)
    }

    /// How soon it has to look again, if nothing calls for it before.
    pub fn due(&self) -> Option<Duration> {
        let looked = self.looked.filter(|_| self.behind)?;
        Some(EVERY.saturating_sub(looked.elapsed()))
    }

    fn log(&mut self, now: BTreeSet<Report>) {
        let new: Vec<&Report> = now.difference(&self.logged).collect();
        for Report { kind, rule, object, text, remedy } in new.iter().take(LOGGED) {
            tracing::warn!(kind = kind.word(), rule, %object, remedy, "{text}");
        }
        if new.len() > LOGGED {
            tracing::warn!("and {} more; `segdns check` prints them all", new.len() - LOGGED);
        }
        let gone = self.logged.difference(&now).count();
        if gone > 0 {
            tracing::info!(mended = gone, remaining = now.len(), "reports are gone");
        }
        self.logged = Arc::new(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::object::{Change, Fault, LOCAL};
    use crate::mesh::settings::Settings;

    fn keeper() -> Keeper {
        Keeper::new(Settings { clusters: vec!["cluster1".into()], ..Settings::default() })
    }

    fn fault(place: &str) -> Vec<Change> {
        let faults = vec![Fault { text: format!("{place} is bad"), remedy: "mend it".into() }];
        vec![Change::Source { cluster: LOCAL, place: place.into(), faults }]
    }

    #[test]
    fn what_changes_within_a_second_is_logged_together_and_not_lost() {
        let (keeper, mut log) = (keeper(), ReportLog::new(false));
        keeper.apply(fault("a"));
        log.look(&keeper);
        assert_eq!((log.logged.len(), log.due()), (1, None));
        log.look(&keeper);
        assert_eq!(log.due(), None, "nothing has changed");
        keeper.apply(fault("b"));
        log.look(&keeper);
        keeper.apply(fault("c"));
        log.look(&keeper);
        assert!(log.logged.len() == 1 && log.due().is_some_and(|due| due <= EVERY));
        log.looked = Instant::now().checked_sub(EVERY);
        assert_eq!(log.due(), Some(Duration::ZERO));
        log.look(&keeper);
        assert_eq!((log.logged.len(), log.due()), (3, None));
    }

    #[test]
    fn what_is_told_piece_by_piece_is_looked_at_when_it_is_complete() {
        let (keeper, mut log) = (keeper(), ReportLog::new(true));
        keeper.apply(fault("a"));
        log.look(&keeper);
        assert_eq!((log.logged.len(), log.due()), (0, None));
        keeper.apply(vec![Change::Synced { cluster: LOCAL }]);
        log.look(&keeper);
        assert_eq!(log.logged.len(), 1);
    }
}
