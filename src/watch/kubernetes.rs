//! Objects from API servers: the local cluster's, and those of peers that Secrets name in Istio's way.
//!
//! ```text
//! connect   a kubeconfig, or the pod's own account, becomes a client
//! resource  what is watched, where, by which selector: the same list as deploy/rbac.yaml
//! follow    one resource: list, watch, and again after every fault
//! gather    one cluster: what differs from what was told before becomes changes
//! peers     Secrets become clusters that come, change and go
//! run       what waits for what: the local cluster, a saved state, the peers
//! events    what is wrong with objects, told to who owns them
//! ```
//!
//! Everything runs on a thread of its own. A fault never takes an object away: only the API server's word does.

pub mod connect;
pub mod events;
pub mod follow;
pub mod gather;
pub mod peers;
pub mod resource;
mod run;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch};

use super::board::Board;
use super::saved::Saved;
use crate::mesh::object::Change;
use connect::{ConnectError, Connection};
use peers::Context;

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

impl Options {
    fn events(&self) -> events::Options {
        events::Options {
            cluster: self.cluster.clone(),
            node: self.node.clone().unwrap_or_else(|| "segdns".into()),
            segments: format!("{}/{}", self.segment_group, self.segment_version),
        }
    }
}

/// Why no API server can be watched at all.
#[derive(Debug, Error)]
pub enum StartError {
    /// Neither a kubeconfig nor a pod's own account.
    #[error("no API server can be watched: {0}")]
    Credentials(#[from] ConnectError),
    /// The system grants no thread, or none of what an event loop needs.
    #[error("the thread that watches API servers cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// The running thread.
#[derive(Debug)]
pub struct Kubernetes {
    /// What it reads.
    pub updates: mpsc::UnboundedReceiver<Update>,
    /// What each source is doing.
    pub board: Arc<Board>,
    /// What is wrong now, for Events of the local cluster; nothing is written before something is told here.
    pub reports: watch::Sender<events::Reports>,
    /// Dropped, it ends the thread.
    _running: oneshot::Sender<()>,
}

impl Kubernetes {
    /// Starts to watch; ends when it is dropped. `saved` is given out at once, and counts (R22) as soon as the API server
    /// turns out to be away.
    ///
    /// # Errors
    /// No credentials, or no thread.
    pub fn start(options: Options, saved: Option<Saved>) -> Result<Self, StartError> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let connection = {
            let _inside = runtime.enter();
            Connection::local()?
        };
        let (out, updates) = mpsc::unbounded_channel();
        let board = Arc::<Board>::default();
        let (running, stop) = oneshot::channel();
        let (reports, told) = watch::channel(events::Reports::default());
        let told = events::run(connection.clone(), options.events(), told);
        let context = Context { options: Arc::new(options), out, board: Arc::clone(&board) };
        thread::Builder::new().name("watch".into()).spawn(move || {
            runtime.block_on(async {
                // A defect there must not end the watches.
                tokio::spawn(told);
                tokio::select! {
                    () = run::run(context, connection, saved) => {}
                    _ = stop => {}
                }
            });
            // Name look-ups that hang must not keep the process.
            runtime.shutdown_background();
        })?;
        Ok(Self { updates, board, reports, _running: running })
    }
}
