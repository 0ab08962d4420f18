//! Keeps the world of objects and the table in step: changes go in, the newest table comes out.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::mesh::object::Change;
use crate::mesh::report::ReportCounts;
use crate::mesh::settings::Settings;
use crate::mesh::world::{Delta, Now, Pieces, World};

use super::Table;
use super::build::Builder;
use super::snapshot::Snapshot;

/// See the module's page. Sources and the admin side share it; queries only see the [`Snapshot`].
#[derive(Debug)]
pub struct Keeper {
    state: Mutex<State>,
    snapshot: Arc<Snapshot>,
    started: Instant,
    builds: Histogram,
    /// A change is being applied, or was not to its end.
    torn: AtomicBool,
    /// When the change that is being applied began: milliseconds since the start and one; 0 while there is none.
    busy: AtomicU64,
    /// As they were when they were last counted, and [`World::reports_revision`] then.
    reports: Mutex<(Option<u64>, ReportCounts)>,
}

#[derive(Debug)]
struct State {
    world: World,
    builder: Builder,
}

impl Keeper {
    /// Starts without objects.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::with_seed(settings, rand::random())
    }

    /// As [`Keeper::new`], with names at the same places in every process: for what is counted and compared. Whoever knows the
    /// seed can choose names that all lie in one place.
    #[must_use]
    pub fn with_seed(settings: Settings, seed: u64) -> Self {
        let world = World::new(settings);
        let builder = Builder::new(&world, seed);
        let snapshot = Arc::new(Snapshot::new(builder.table()));
        let state = Mutex::new(State { world, builder });
        Self {
            state,
            snapshot,
            started: Instant::now(),
            builds: Histogram::default(),
            torn: AtomicBool::new(false),
            busy: AtomicU64::new(0),
            reports: Mutex::default(),
        }
    }

    /// Where queries read the newest table.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Applies a batch of changes; when this returns, new queries are answered by it.
    pub fn apply(&self, changes: Vec<Change>) {
        self.advance(|world, now, pieces| world.apply_in_pieces(changes, now, pieces));
    }

    /// Takes the node's own addresses (R15).
    pub fn set_node_addresses(&self, addresses: Vec<IpAddr>) {
        self.advance(|world, now, _| world.set_node_addresses(addresses, now));
    }

    /// Takes other settings, see [`World::set_settings`]; when this returns, new queries are answered by them.
    pub fn set_settings(&self, settings: Settings) {
        self.advance(|world, now, pieces| world.set_settings(settings, now, Some(pieces)));
    }

    /// Ends the graces that are over (R22).
    pub fn tick(&self) {
        if self.next_tick() == Some(Duration::ZERO) {
            self.advance(|world, now, _| world.tick(now));
        }
    }

    /// How long until [`Keeper::tick`] has something to do.
    #[must_use]
    pub fn next_tick(&self) -> Option<Duration> {
        let due = self.lock().world.next_tick()?;
        Some(Duration::from_millis(due.saturating_sub(self.now())))
    }

    /// Whether a change was never applied to its end, because of a panic: what [`Keeper::look`] shows is then no state of
    /// any moment. Tells so only inside of [`Keeper::look`]; outside, a change may be under way.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.torn.load(Relaxed)
    }

    /// Looks at the world and the table that was built from it, of one moment.
    pub fn look<R>(&self, look: impl FnOnce(&World, &Table) -> R) -> R {
        let state = self.lock();
        look(&state.world, &state.builder.table())
    }

    /// As [`Keeper::look`], for whoever must not wait: `None` while a change is being applied, or if one was not to its end.
    pub fn look_at_once<R>(&self, look: impl FnOnce(&World, &Table) -> R) -> Option<R> {
        let state = match self.state.try_lock() {
            Ok(state) => state,
            // Somebody has panicked while he looked.
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        (!self.is_torn()).then(|| look(&state.world, &state.builder.table()))
    }

    /// How long tables took to build.
    #[must_use]
    pub fn builds(&self) -> &Histogram {
        &self.builds
    }

    /// How long the change that is being applied has taken so far.
    #[must_use]
    pub fn busy(&self) -> Option<Duration> {
        let began = self.busy.load(Relaxed).checked_sub(1)?;
        Some(Duration::from_millis(self.now().saturating_sub(began)))
    }

    /// How many reports there are of each kind. While a change is being applied, as many as there were: whoever scrapes does
    /// not wait for it, and it not for them.
    #[must_use]
    pub fn report_counts(&self) -> ReportCounts {
        let mut counted = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        self.look_at_once(|world, _| {
            let revision = Some(world.reports_revision());
            if counted.0 != revision {
                *counted = (revision, world.report_counts());
            }
        });
        counted.1
    }

    fn advance(&self, change: impl FnOnce(&mut World, Now, Pieces<'_>) -> Delta) {
        let mut state = self.lock();
        self.torn.store(true, Relaxed);
        self.busy.store(self.now() + 1, Relaxed);
        let begun = Instant::now();
        let was = state.builder.table();
        let State { world, builder } = &mut *state;
        let mut pieces = false;
        let delta = change(world, self.now(), &mut |world, piece| {
            pieces = true;
            builder.take(world, piece);
        });
        let told = (world.synced(), world.told());
        if pieces || !delta.is_empty() || (was.synced, was.told) != told {
            self.snapshot.put(builder.apply(world, delta));
            self.builds.observe(begun.elapsed());
        }
        self.torn.store(false, Relaxed);
        self.busy.store(0, Relaxed);
    }

    fn now(&self) -> Now {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
