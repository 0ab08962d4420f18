//! What became of configurations that were read again, for metrics and `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::{ArcSwap, ArcSwapOption};

/// What became of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force.
    Applied,
    /// It says what is in force already, but for keys that wait for a restart.
    Unchanged,
    /// It cannot be used; the one before stays.
    Refused,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Refused];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Reloads {
    counts: [AtomicU64; 3],
    hash: ArcSwap<String>,
    refused: ArcSwapOption<String>,
    waiting: ArcSwap<Vec<String>>,
}

impl Reloads {
    /// Counts one.
    pub fn count(&self, outcome: Outcome) {
        self.counts[outcome as usize].fetch_add(1, Relaxed);
    }

    /// How many there were, by the word for what became of them.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 3] {
        Outcome::ALL.map(|outcome| (outcome.word(), self.counts[outcome as usize].load(Relaxed)))
    }

    /// The file in force has this SHA-256, and these keys of it wait for a restart.
    pub fn accept(&self, hash: String, waiting: Vec<String>) {
        self.refused.store(None);
        self.waiting.store(Arc::new(waiting));
        self.hash.store(Arc::new(hash));
    }

    /// The file cannot be used, for this reason.
    pub fn refuse(&self, why: String) {
        self.refused.store(Some(Arc::new(why)));
    }

    /// SHA-256 of the file in force, in hexadecimal digits; empty without a file.
    #[must_use]
    pub fn hash(&self) -> Arc<String> {
        self.hash.load_full()
    }

    /// Why the file, as it is now, cannot be used.
    #[must_use]
    pub fn refused(&self) -> Option<Arc<String>> {
        self.refused.load_full()
    }

    /// The keys that wait for a restart.
    #[must_use]
    pub fn waiting(&self) -> Arc<Vec<String>> {
        self.waiting.load_full()
    }

    /// What an operator should know, in lines.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let refused = self.refused().map(|why| format!("trouble: the configuration before it is in force: {why}"));
        let waiting = self.waiting();
        let waiting = (!waiting.is_empty()).then(|| format!("note: wait for a restart: {}", waiting.join(", ")));
        refused.into_iter().chain(waiting).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_good_again_ends_the_trouble_of_a_bad_one() {
        let reloads = Reloads::default();
        assert!(reloads.notes().is_empty() && reloads.hash().is_empty());
        reloads.count(Outcome::Refused);
        reloads.refuse("segdns.yaml:3: ttl: bad".into());
        assert_eq!(reloads.notes(), ["trouble: the configuration before it is in force: segdns.yaml:3: ttl: bad"]);
        reloads.count(Outcome::Applied);
        reloads.accept("12ab".into(), vec!["admin".into(), "listen".into()]);
        assert_eq!(reloads.notes(), ["note: wait for a restart: admin, listen"]);
        assert_eq!(reloads.counts(), [("applied", 1), ("unchanged", 0), ("refused", 1)]);
        assert_eq!((&**reloads.hash(), reloads.refused()), ("12ab", None));
    }
}
