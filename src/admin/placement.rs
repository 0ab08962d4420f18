//! Pods of this node that ztunnel answers for: what `/debug/placement`, `/readyz`, the metric and the log say of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;

use crate::dns::seen::Seen;
use crate::mesh::placement::{By, Captured, captured};
use crate::mesh::world::World;
use crate::table::keeper::Keeper;

/// An epoch is this part of the silence that counts.
const EPOCHS: u16 = 4;
/// How many pods the log names at once.
const LOGGED: usize = 10;

/// How many it remembers to have named.
const REMEMBERED: usize = 4096;

/// What to do about it.
pub const REMEDY: &str = "names by caller and takeover do not hold for what ztunnel answers: annotate the pod with \
                          ambient.istio.io/dns-capture: \"false\", or set cni.ambient.dnsCapture=false, and restart it";

/// Looks for them.
#[derive(Debug)]
pub struct Placement {
    seen: Arc<Seen>,
    /// How long an enrolled pod has to be silent; zero looks for nobody.
    silence: Duration,
    since: Instant,
    /// What was found last.
    found: ArcSwap<Vec<Captured>>,
}

impl Placement {
    /// From now on.
    #[must_use]
    pub fn new(seen: Arc<Seen>, silence: Duration) -> Self {
        Self { seen, silence, since: Instant::now(), found: ArcSwap::default() }
    }

    /// The captured pods of this node, as far as can be told by now. Waits while a change of objects is being applied.
    #[must_use]
    pub fn look(&self, keeper: &Keeper) -> Arc<Vec<Captured>> {
        self.found.store(Arc::new(keeper.look(|world, _| self.captured(world))));
        self.found.load_full()
    }

    /// The same; while a change is being applied, those that were found last. Probes and scrapes do not wait.
    #[must_use]
    pub fn latest(&self, keeper: &Keeper) -> Arc<Vec<Captured>> {
        if let Some(found) = keeper.look_at_once(|world, _| self.captured(world)) {
            self.found.store(Arc::new(found));
        }
        self.found.load_full()
    }

    fn captured(&self, world: &World) -> Vec<Captured> {
        if self.silence.is_zero() || !world.synced() {
            return Vec::new();
        }
        let epoch = self.silence / u32::from(EPOCHS);
        let watched = self.since.elapsed() >= self.silence + epoch;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let old = i64::try_from(now.saturating_sub(self.silence).as_secs()).unwrap_or(i64::MAX);
        captured(world, |pod| watched && pod.created < old, |address| self.seen.has_asked(address, EPOCHS))
    }

    /// The line of `/readyz`, if there is anything to say.
    #[must_use]
    pub fn note(&self, keeper: &Keeper) -> Option<String> {
        let all = self.latest(keeper);
        let first = all.first()?;
        let Captured { namespace, pod, .. } = first;
        let count = match all.len() {
            1 => "1 pod".to_owned(),
            count => format!("{count} pods"),
        };
        Some(format!(
            "placement: ztunnel seems to answer for {count} of this node, {namespace}/{pod} first; see /debug/placement"
        ))
    }

    /// Keeps the epochs, and logs each such pod once; never returns, unless it has nothing to do.
    pub async fn run(&self, keeper: &Keeper) {
        if self.silence.is_zero() {
            return;
        }
        let mut logged = BTreeSet::new();
        loop {
            tokio::time::sleep(self.silence / u32::from(EPOCHS)).await;
            self.seen.advance();
            let now: BTreeSet<Captured> = self.latest(keeper).iter().cloned().collect();
            let mut new = now.difference(&logged);
            for Captured { namespace, pod, by, .. } in new.by_ref().take(LOGGED) {
                let why = match by {
                    By::Annotation => "its annotation ambient.istio.io/dns-capture asks for it",
                    By::Silence => "it is enrolled and sends no queries here",
                };
                tracing::info!(%namespace, %pod, "ztunnel seems to answer for this pod: {why}; {REMEDY}");
            }
            let more = new.count();
            if more > 0 {
                tracing::info!("and for {more} more; see /debug/placement");
            }
            // Who asks now and then is named once all the same, and what is remembered stays bounded.
            if logged.len() > REMEMBERED {
                logged.clear();
            }
            logged.extend(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::object::{Capture, Change, LOCAL, Object, Pod};
    use crate::mesh::settings::Settings;

    #[test]
    fn probes_and_scrapes_do_not_wait_for_a_change_and_see_what_was_found_before_it() {
        let keeper = Keeper::new(Settings { clusters: vec!["here".into()], ..Settings::default() });
        let addresses = [[10, 1, 0, 1].into()].into();
        let pod = Pod { addresses, searches: Some([].into()), capture: Capture::On, ..Pod::default() };
        let applied = Change::Apply { cluster: LOCAL, object: Object::Pod(pod), faults: Vec::new() };
        keeper.apply(vec![applied, Change::Synced { cluster: LOCAL }]);
        let placement = Placement::new(Arc::default(), Duration::from_secs(300));
        // As while a change is being applied.
        let held = || keeper.look(|_, _| (placement.latest(&keeper).len(), placement.note(&keeper).is_some()));
        assert_eq!(held(), (0, false));
        assert_eq!(placement.look(&keeper).len(), 1);
        assert_eq!(held(), (1, true));
    }
}
