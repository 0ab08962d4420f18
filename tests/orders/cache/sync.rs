//! Loom's, and one thing more: what a thread reads while it holds the lock is not tried in every order, as long as nobody
//! changes it without the lock. That saves time, and it is needed: loom goes back to the last step only that touched a word, so
//! that a look of the writer would hide the reader's before it.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use loom::thread::{self, ThreadId};

pub(super) use loom::sync::atomic::fence;

// Loom runs all threads of a model on one of the system's.
thread_local! {
    static HOLDER: RefCell<Option<ThreadId>> = const { RefCell::new(None) };
    static ALONE: Cell<bool> = const { Cell::new(true) };
}

/// Whether only who holds the lock changes anything; that is so from the start.
pub(super) fn writers_are_alone(alone: bool) {
    ALONE.set(alone);
}

#[derive(Debug)]
pub(super) struct AtomicU64(loom::sync::atomic::AtomicU64);

impl AtomicU64 {
    pub(super) fn new(value: u64) -> Self {
        Self(loom::sync::atomic::AtomicU64::new(value))
    }

    pub(super) fn load(&self, order: Ordering) -> u64 {
        if ALONE.get() && HOLDER.with_borrow(|holder| *holder == Some(thread::current().id())) {
            // SAFETY: the lock is held, and nobody else writes; loom checks that this is so.
            return unsafe { self.0.unsync_load() };
        }
        self.0.load(order)
    }

    pub(super) fn store(&self, value: u64, order: Ordering) {
        if ALONE.get() {
            self.0.store(value, order);
        } else {
            // Loom lets an exchange find a value that is overwritten already, which no memory model does, unless it was
            // overwritten by an exchange.
            self.0.swap(value, order);
        }
    }

    pub(super) fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.0.compare_exchange(current, new, success, failure)
    }
}

#[derive(Debug)]
pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

#[derive(Debug)]
pub(super) struct MutexGuard<'a, T>(loom::sync::MutexGuard<'a, T>);

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(super) fn lock(&self) -> Result<MutexGuard<'_, T>, PoisonError<MutexGuard<'_, T>>> {
        let held = self.0.lock().expect("nobody panicked with it");
        HOLDER.set(Some(thread::current().id()));
        Ok(MutexGuard(held))
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        HOLDER.set(None);
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

pub(super) fn zeroed(words: usize) -> Option<Box<[AtomicU64]>> {
    Some((0..words).map(|_| AtomicU64::new(0)).collect())
}
