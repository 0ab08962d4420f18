//! The thread that turns manifests into tables. It reads, applies and sleeps; queries never wait for it.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::admin::http::Admin;
use crate::mesh::report::Report;
use crate::table::keeper::Keeper;
use crate::watch::interfaces;
use crate::watch::manifests::Manifests;

/// How often manifests are looked at; a change is live within a second (contract section 5).
const POLL: Duration = Duration::from_millis(250);
/// How often the node's own addresses are.
const INTERFACES: Duration = Duration::from_secs(5);
/// How many reports are logged for one change; `segdns check` has them all.
const LOGGED: usize = 20;

/// The running thread.
pub struct Feeder {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Feeder {
    /// Starts it.
    ///
    /// # Errors
    /// The system grants no thread.
    pub fn start(manifests: Manifests, keeper: Arc<Keeper>, admin: Arc<Admin>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("feed".into()).spawn(move || {
            let mut feed = Feed { manifests, keeper, looked: None, logged: BTreeSet::new() };
            while !stopped.load(Relaxed) {
                // A half-applied state must not be built upon, and the last table is better than none.
                if catch_unwind(AssertUnwindSafe(|| feed.turn())).is_err() {
                    tracing::error!("objects are no longer read, because of the panic above; the last table is served");
                    admin.stalled.store(true, Relaxed);
                    return;
                }
                thread::sleep(feed.keeper.next_tick().map_or(POLL, |due| due.min(POLL)));
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it.
    pub fn stop(self) {
        self.stop.store(true, Relaxed);
        // A panic was reported when it happened.
        drop(self.thread.join());
    }
}

struct Feed {
    manifests: Manifests,
    keeper: Arc<Keeper>,
    looked: Option<Instant>,
    logged: BTreeSet<Report>,
}

impl Feed {
    fn turn(&mut self) {
        if self.looked.is_none_or(|at| at.elapsed() >= INTERFACES) {
            self.keeper.set_node_addresses(interfaces::addresses());
            self.looked = Some(Instant::now());
        }
        let changes = self.manifests.poll();
        if !changes.is_empty() {
            self.keeper.apply(changes);
            self.log();
        }
        self.keeper.tick();
    }

    /// Logs what has come to be wrong, each thing once, and what no longer is.
    fn log(&mut self) {
        let now: BTreeSet<Report> = self.keeper.look(|world, _| world.reports()).into_iter().collect();
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
        self.logged = now;
    }
}
