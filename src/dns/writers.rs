//! What each writer has for itself, and whoever reads looks at together: counters, samples, marks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One for each writer that there is or was.
#[derive(Debug)]
pub(super) struct Writers<T>(Mutex<Vec<Arc<T>>>);

impl<T> Default for Writers<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Writers<T> {
    /// One for one more writer. What a writer has left is another's then, with all that is in it, so that there are never more
    /// than there were writers at a time.
    pub(super) fn register(&self, new: impl FnOnce() -> T) -> Arc<T> {
        let mut all = self.all();
        if let Some(left) = all.iter_mut().find_map(|one| Arc::get_mut(one).is_some().then(|| Arc::clone(one))) {
            return left;
        }
        let one = Arc::new(new());
        all.push(Arc::clone(&one));
        one
    }

    /// All of them; none comes or goes meanwhile.
    pub(super) fn all(&self) -> MutexGuard<'_, Vec<Arc<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
