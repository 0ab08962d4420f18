//! One look at API servers, for `check`, `table` and `explain`: watched until the first complete state is in, or a time has
//! passed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::runtime::Builder;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use crate::admin::sources::{is_pending, notes, pending, summary};
use crate::mesh::object::{Change, LOCAL};
use crate::watch::board::{Board, Source, State};
use crate::watch::kubernetes::resource::SECRETS;
use crate::watch::kubernetes::{Kubernetes, Options, StartError, Update};

/// How long peers are waited for at most, whatever a server may wait: somebody sits before this.
const PEERS: Duration = Duration::from_secs(10);

/// How long to wait.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// In all.
    whole: Duration,
    /// While every source of the local cluster that is awaited has only trouble.
    trouble: Duration,
    /// How often to see what they are doing.
    step: Duration,
}

const PATIENCE: Patience =
    Patience { whole: Duration::from_secs(30), trouble: Duration::from_secs(5), step: Duration::from_millis(100) };

/// Why nothing can be seen.
#[derive(Debug, Error)]
pub enum LookError {
    /// There is nobody to ask.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system grants no timer.
    #[error("waiting for API servers failed: {0}")]
    Clock(#[from] std::io::Error),
    /// Trouble, and nothing else.
    #[error("objects cannot be read: {0}")]
    Trouble(String),
    /// Too slow.
    #[error("there is no complete state after {0:?}: {1}")]
    Slow(Duration, String),
    /// A defect.
    #[error("API servers are no longer watched, because their thread has ended; report this as a defect of segdns")]
    Ended,
}

/// What there was to see.
#[derive(Debug)]
pub struct Seen {
    /// Every object of every cluster that was read.
    pub changes: Vec<Change>,
    /// What is missing in it, and why, one line each.
    pub notes: Vec<String>,
    /// Something that should have been read was not.
    pub partial: bool,
}

/// Watches until the local cluster's state is complete, with its peers unless these take too long.
///
/// # Errors
/// What keeps it from being complete, source by source, in one line.
pub fn look(options: Options) -> Result<Seen, LookError> {
    let clock = Builder::new_current_thread().enable_time().build()?;
    let (local, peers_wait) = (options.cluster.clone(), options.peers_wait.min(PEERS));
    let mut kubernetes = Kubernetes::start(Options { peers_wait, ..options }, None)?;
    let board = Arc::clone(&kubernetes.board);
    let changes = clock.block_on(read(&mut kubernetes.updates, &board, &local, PATIENCE))?;
    let states = board.states();
    let unread = pending(&states);
    let partial = !unread.is_empty();
    let notes = unread.into_iter().map(|line| format!("not read: {line}")).chain(notes(&states)).collect();
    Ok(Seen { changes, notes, partial })
}

async fn read(
    updates: &mut UnboundedReceiver<Update>,
    board: &Board,
    local: &str,
    patience: Patience,
) -> Result<Vec<Change>, LookError> {
    let begun = Instant::now();
    let (mut changes, mut stuck): (Vec<Change>, Option<Instant>) = (Vec::new(), None);
    loop {
        match timeout(patience.step, updates.recv()).await {
            Ok(Some(update)) => {
                let complete = update.changes.contains(&Change::Synced { cluster: LOCAL });
                changes.extend(update.changes);
                if complete {
                    while let Ok(update) = updates.try_recv() {
                        changes.extend(update.changes);
                    }
                    return Ok(changes);
                }
            }
            Ok(None) => return Err(LookError::Ended),
            Err(_) => {}
        }
        let states = board.states();
        stuck = stuck.or_else(|| Some(Instant::now())).filter(|_| only_trouble(local, &states));
        if stuck.is_some_and(|since| since.elapsed() >= patience.trouble) {
            return Err(LookError::Trouble(summary(&states)));
        }
        if begun.elapsed() >= patience.whole {
            return Err(LookError::Slow(patience.whole, summary(&states)));
        }
    }
}

/// Whether everything that the local cluster's state still needs is in trouble. Who may not read Secrets, as most people
/// may not, sees the local cluster.
fn only_trouble(local: &str, states: &[(Source, State)]) -> bool {
    let own = states.iter().filter(|(source, _)| *source.cluster == *local && *source.kind != *SECRETS);
    let mut awaited = own.filter(|state| is_pending(state)).peekable();
    awaited.peek().is_some() && awaited.all(|(_, state)| state.trouble.is_some())
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{self, UnboundedSender};

    use super::*;
    use crate::watch::board::{Cause, Trouble};

    const IMPATIENT: Patience = Patience {
        whole: Duration::from_millis(300),
        trouble: Duration::from_millis(30),
        step: Duration::from_millis(5),
    };

    fn source(cluster: &str, kind: &str) -> Source {
        Source { cluster: cluster.into(), kind: kind.into() }
    }

    fn fail(board: &Board, cluster: &str, kind: &str) {
        board.expect(&source(cluster, kind));
        let (text, remedy) = ("forbidden: no".to_owned(), "apply deploy/rbac.yaml".to_owned());
        let trouble = Trouble { text, remedy, cause: Cause::Forbidden };
        board.failed(&source(cluster, kind), trouble);
    }

    fn outcome(prepare: impl FnOnce(&Board, &UnboundedSender<Update>)) -> Result<usize, String> {
        let clock = Builder::new_current_thread().enable_time().build().unwrap();
        let (board, (send, mut updates)) = (Board::default(), mpsc::unbounded_channel());
        prepare(&board, &send);
        let read = clock.block_on(read(&mut updates, &board, "cluster1", IMPATIENT));
        read.map(|changes| changes.len()).map_err(|error| error.to_string())
    }

    fn told(cluster: usize) -> Update {
        Update { changes: vec![Change::Synced { cluster }], received: None }
    }

    #[test]
    fn it_ends_with_the_local_clusters_complete_state_and_what_came_with_it() {
        let all = outcome(|board, send| {
            fail(board, "cluster1", "secrets");
            for cluster in [1, LOCAL, 2] {
                send.send(told(cluster)).unwrap();
            }
        });
        assert_eq!(all, Ok(3));
    }

    #[test]
    fn trouble_alone_ends_it_soon_and_names_what_to_do() {
        let trouble = outcome(|board, _| {
            fail(board, "cluster1", "pods");
            fail(board, "cluster1", "services");
            board.expect(&source("cluster1", "namespaces"));
            board.complete(&source("cluster1", "namespaces"));
        });
        let want = "objects cannot be read: cluster1 pods, services: forbidden: no; apply deploy/rbac.yaml";
        assert_eq!(trouble, Err(want.into()));
    }

    #[test]
    fn what_still_may_come_is_waited_for_to_the_end() {
        let slow = outcome(|board, _| {
            fail(board, "cluster1", "pods");
            board.expect(&source("cluster1", "services"));
        });
        let want = "there is no complete state after 300ms: cluster1 pods: forbidden: no; apply deploy/rbac.yaml | cluster1 \
                    services: no complete list yet";
        assert_eq!(slow, Err(want.into()));
        let peers = outcome(|board, _| {
            fail(board, "cluster1", "secrets");
            fail(board, "cluster2", "pods");
        });
        assert!(peers.is_err_and(|error| error.starts_with("there is no complete state after 300ms: ")));
    }

    #[test]
    fn a_thread_that_has_ended_is_not_waited_for() {
        let clock = Builder::new_current_thread().enable_time().build().unwrap();
        let (send, mut updates) = mpsc::unbounded_channel();
        drop(send);
        let read = clock.block_on(read(&mut updates, &Board::default(), "cluster1", IMPATIENT));
        assert!(matches!(read, Err(LookError::Ended)), "{read:?}");
    }
}
