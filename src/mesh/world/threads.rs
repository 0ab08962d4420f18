//! Work that is large enough for several threads: a first state, a new Segment.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread::{Builder, available_parallelism, scope};

/// From so many objects on, more threads are worth their start.
pub const MANY: usize = 1_000;
/// Queries are answered meanwhile.
const MAX_THREADS: usize = 4;

/// How many threads there are for it, this one included.
pub fn threads() -> usize {
    static CORES: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from));
    (*CORES).min(MAX_THREADS)
}

/// Does the work of each part, by as many threads as there are.
pub fn share<T: Send>(parts: &mut [T], work: impl Fn(&mut T) + Sync) {
    let (count, next) = (parts.len(), AtomicUsize::new(0));
    let parts: Vec<Mutex<&mut T>> = parts.iter_mut().map(Mutex::new).collect();
    let run = || {
        while let Some(part) = parts.get(next.fetch_add(1, Relaxed)) {
            work(&mut part.lock().unwrap_or_else(PoisonError::into_inner));
        }
    };
    run_beside(count, run, || ());
}

/// Runs `work` on this thread, after what is to be done `beside`, and on others; at most `most`.
pub fn run_beside(most: usize, work: impl Fn() + Sync, beside: impl FnOnce()) {
    scope(|scope| {
        for _ in 1..threads().min(most) {
            // Where the system grants no thread, the others do its share.
            drop(Builder::new().name("objects".into()).spawn_scoped(scope, &work));
        }
        beside();
        work();
    });
}
