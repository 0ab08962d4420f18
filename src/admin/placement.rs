//! Pods of this node that ztunnel answers for: what `/debug/placement`, `/readyz`, the metric and the log say of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::dns::seen::Seen;
use crate::mesh::placement::{By, Captured, captured};
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
}

impl Placement {
    /// From now on.
    #[must_use]
    pub fn new(seen: Arc<Seen>, silence: Duration) -> Self {
        Self { seen, silence, since: Instant::now() }
    }

    /// The captured pods of this node, as far as can be told by now.
    #[must_use]
    pub fn look(&self, keeper: &Keeper) -> Vec<Captured> {
        if self.silence.is_zero() {
            return Vec::new();
        }
        let epoch = self.silence / u32::from(EPOCHS);
        let watched = self.since.elapsed() >= self.silence + epoch;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let old = i64::try_from(now.saturating_sub(self.silence).as_secs()).unwrap_or(i64::MAX);
        keeper.look(|world, _| {
            if !world.synced() {
                return Vec::new();
            }
            captured(world, |pod| watched && pod.created < old, |address| self.seen.has_asked(address, EPOCHS))
        })
    }

    /// The line of `/readyz`, if there is anything to say.
    #[must_use]
    pub fn note(&self, keeper: &Keeper) -> Option<String> {
        let all = self.look(keeper);
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
            let now: BTreeSet<Captured> = self.look(keeper).into_iter().collect();
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
