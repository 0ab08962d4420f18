//! What every source is doing: whether its first complete state is in, when it was last heard of, and what keeps it.
//!
//! Sources write it as they go; `/readyz`, `/metrics` and the log read it. It holds words, not objects.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use tokio::sync::Notify;

/// Which source: a cluster's objects of one kind, or its manifests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The cluster's name.
    pub cluster: Box<str>,
    /// A kind as `kubectl api-resources` names it (`services`, `endpointslices`), `manifests`, or `secrets` for the peers'
    /// kubeconfigs.
    pub kind: Box<str>,
}

/// What keeps a source from its objects now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What is wrong, e.g. `services is forbidden: User "x" cannot list resource "services"`.
    pub text: String,
    /// What to change.
    pub remedy: String,
    /// Of what sort it is.
    pub cause: Cause,
}

/// Of what sort a trouble is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The resource does not exist there (a custom resource that is not installed): nothing waits for it.
    Missing,
    /// The account may not read it.
    Forbidden,
    /// The account is not known, or its certificate does not count.
    Unauthorized,
    /// There is no connection, or no answer.
    Unreachable,
    /// Anything else.
    Other,
}

impl Cause {
    /// The fixed word for it, in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Forbidden => "forbidden",
            Self::Unauthorized => "unauthorized",
            Self::Unreachable => "unreachable",
            Self::Other => "other",
        }
    }
}

impl Trouble {
    /// Whether nothing waits for what is in this trouble.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.cause == Cause::Missing
    }
}

/// What one source is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Its first complete state has been read by this process.
    pub synced: bool,
    /// When it last said anything: an object, a bookmark, a complete list.
    pub heard: Option<Instant>,
    /// Failures so far.
    pub errors: u64,
    /// What is wrong with it now.
    pub trouble: Option<Trouble>,
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Board {
    states: Mutex<BTreeMap<Source, State>>,
    saved: Mutex<Option<SystemTime>>,
    news: Notify,
}

impl Board {
    /// A source that is there from now on; what it has said before stays.
    pub fn expect(&self, source: &Source) {
        self.lock().entry(source.clone()).or_default();
    }

    /// It has said something.
    pub fn heard(&self, source: &Source) {
        self.change(source, |state| state.heard = Some(Instant::now()));
    }

    /// Its complete state is in. Returns the trouble that this ends, so that it is logged; that an API server is away ends
    /// with the last of its sources.
    pub fn complete(&self, source: &Source) -> Option<Trouble> {
        let mut states = self.lock();
        let state = states.get_mut(source)?;
        (state.synced, state.heard) = (true, Some(Instant::now()));
        self.news.notify_one();
        let ended = state.trouble.take()?;
        let lasts = ended.cause == Cause::Unreachable && is_away(&states, source);
        (!lasts).then_some(ended)
    }

    /// It has failed. True if this trouble is news, so that it is to be logged; that an API server is away is news once, and
    /// not for each of its sources.
    pub fn failed(&self, source: &Source, trouble: Trouble) -> bool {
        let mut states = self.lock();
        let known = trouble.cause == Cause::Unreachable && is_away(&states, source);
        let Some(state) = states.get_mut(source) else { return false };
        state.errors += 1;
        self.news.notify_one();
        let same = state.trouble.as_ref().is_some_and(|old| match trouble.cause {
            Cause::Unreachable => old.cause == trouble.cause,
            _ => *old == trouble,
        });
        state.trouble = Some(trouble);
        !known && !same
    }

    /// Nothing of this cluster is watched any more.
    pub fn forget(&self, cluster: &str) {
        self.lock().retain(|source, _| *source.cluster != *cluster);
    }

    /// Everything, by cluster and kind.
    #[must_use]
    pub fn states(&self) -> Vec<(Source, State)> {
        self.lock().iter().map(|(source, state)| (source.clone(), state.clone())).collect()
    }

    /// Of what sort the trouble is that a source is in now.
    #[must_use]
    pub fn cause(&self, source: &Source) -> Option<Cause> {
        self.lock().get(source)?.trouble.as_ref().map(|trouble| trouble.cause)
    }

    /// Whether all that a source has is known, as it is now: it was read, and nothing keeps it.
    #[must_use]
    pub fn is_whole(&self, source: &Source) -> bool {
        self.lock().get(source).is_some_and(|state| state.synced && state.trouble.is_none())
    }

    /// Returns when a source has failed or become complete since the last time, or a saved state has come or gone; for one
    /// who waits.
    pub async fn changed(&self) {
        self.news.notified().await;
    }

    /// The saved state of this time is served, or no longer is.
    pub fn serve_saved(&self, written: Option<SystemTime>) {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = written;
        self.news.notify_one();
    }

    /// When the state that is served was saved, as long as it is a saved one.
    #[must_use]
    pub fn saved(&self) -> Option<SystemTime> {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a source that nobody expects any more says is passed over: its cluster is gone.
    fn change<R>(&self, source: &Source, change: impl FnOnce(&mut State) -> R) -> Option<R> {
        self.lock().get_mut(source).map(change)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Source, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether another source of the same cluster says that its API server is away.
fn is_away(states: &BTreeMap<Source, State>, source: &Source) -> bool {
    let away = |state: &State| state.trouble.as_ref().is_some_and(|trouble| trouble.cause == Cause::Unreachable);
    states.iter().any(|(other, state)| other.cluster == source.cluster && other != source && away(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(cluster: &str, kind: &str) -> Source {
        Source { cluster: cluster.into(), kind: kind.into() }
    }

    #[test]
    fn one_line_is_enough_for_an_api_server_that_is_away_and_for_its_return() {
        let board = Board::default();
        let [pods, services, peer] =
            [("here", "pods"), ("here", "services"), ("there", "pods")].map(|(c, k)| source(c, k));
        for source in [&pods, &services, &peer] {
            board.expect(source);
        }
        let trouble = |cause, text: &str| Trouble { text: text.into(), remedy: String::new(), cause };
        let away = |text| trouble(Cause::Unreachable, text);
        assert!(board.failed(&pods, away("refused")));
        assert!(!board.failed(&services, away("refused")) && !board.failed(&pods, away("timed out")));
        assert!(board.failed(&peer, away("refused")), "another API server");
        assert!(board.failed(&services, trouble(Cause::Forbidden, "no")), "another cause");
        assert!(!board.failed(&services, trouble(Cause::Forbidden, "no")));
        assert!(board.complete(&services).is_some());
        assert!(!board.failed(&services, away("refused")));
        assert!(board.complete(&pods).is_none() && board.complete(&services).is_some());
        assert!(board.complete(&services).is_none(), "there was none");
        board.forget("there");
        assert!(!board.failed(&peer, away("refused")), "nobody expects it");
        let errors: Vec<u64> = board.states().iter().map(|(_, state)| state.errors).collect();
        assert_eq!(errors, [2, 4]);
    }
}
