//! What the ring is synchronized by, in one place: `tests/orders.rs` compiles the same ring over loom's, which goes through
//! every order in which threads may see each other's steps.

pub(super) use std::sync::atomic::{AtomicU64, fence};
pub(super) use std::sync::{Mutex, MutexGuard};

/// So many words that are zero, and not resident before they are used. `None` if the system does not grant them.
pub(super) fn zeroed(words: usize) -> Option<Box<[AtomicU64]>> {
    bytemuck::try_zeroed_slice_box(words).ok()
}
