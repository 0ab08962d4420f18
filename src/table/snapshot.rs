//! The one place where the newest table is.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Table;

/// A table that can be replaced while others read it.
pub type Cell = Arc<ArcSwap<Table>>;

/// The newest table, and a bell that rings when it is replaced.
#[derive(Debug)]
pub struct Snapshot {
    table: Cell,
    bell: watch::Sender<u64>,
}

impl Snapshot {
    /// Starts with this table.
    #[must_use]
    pub fn new(table: Arc<Table>) -> Self {
        let bell = watch::Sender::new(table.generation);
        Self { table: Arc::new(ArcSwap::new(table)), bell }
    }

    /// Replaces the table: queries that are read from now on see the new one, those in hand the old one.
    pub fn put(&self, table: Arc<Table>) {
        let generation = table.generation;
        self.table.store(table);
        self.bell.send_replace(generation);
    }

    /// The newest table.
    #[must_use]
    pub fn load(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Where the newest table is; a worker keeps a cache of it, so that a query costs one load.
    #[must_use]
    pub fn cell(&self) -> Cell {
        Arc::clone(&self.table)
    }

    /// Rings when the table is replaced.
    #[must_use]
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }
}
