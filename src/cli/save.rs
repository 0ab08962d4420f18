//! The thread that saves the complete state as it changes (`sources.snapshot`, R22). Queries never wait for it; changes do
//! while the objects are encoded.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::admin::sources::SNAPSHOT;
use crate::table::keeper::Keeper;
use crate::watch::board::{Board, Cause, Source, Trouble};
use crate::watch::saved::{self, Body, Identity, WriteError};

/// How often it may save.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Changes of so long are saved together.
    gather: Duration,
    /// At most one part in so many of the time is spent on saving, so that churn does not wear the disk.
    share: u32,
}

const PACE: Pace = Pace { gather: Duration::from_secs(5), share: 100 };

/// The running thread.
#[derive(Debug)]
pub(crate) struct Saver {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Saver {
    /// Starts it. It saves to `dir` when the local cluster is complete and the saved state is no longer what is served: at
    /// once the first time, then 5 s after a change, or later if saving takes long. On `board` it is the local cluster's
    /// source `snapshot`.
    ///
    /// Whoever serves a saved state says so on `board` before its objects go to `keeper`, or it would be saved as new.
    ///
    /// # Errors
    /// The system grants no thread, or none of what a timer needs.
    pub(crate) fn start(dir: PathBuf, identity: Identity, keeper: Arc<Keeper>, board: Arc<Board>) -> io::Result<Self> {
        Self::at_pace(dir, identity, keeper, board, PACE)
    }

    fn at_pace(
        dir: PathBuf,
        identity: Identity,
        keeper: Arc<Keeper>,
        board: Arc<Board>,
        pace: Pace,
    ) -> io::Result<Self> {
        let source = Source { cluster: identity.cluster.clone(), kind: SNAPSHOT.into() };
        board.expect(&source);
        let bell = keeper.snapshot().bell();
        let due = Instant::now();
        let work = Work { dir, identity, keeper, board, source, pace, bell, changed: true, due, last: None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("save".into()).spawn(move || runtime.block_on(work.run(stopped)))?;
        Ok(Self { stop, thread })
    }

    /// Saves what has changed since it last did, and ends it.
    pub(crate) fn stop(self) {
        // It may have ended already, after a panic that was reported when it happened.
        let _ = self.stop.send(());
        drop(self.thread.join());
    }
}

struct Work {
    dir: PathBuf,
    identity: Identity,
    keeper: Arc<Keeper>,
    board: Arc<Board>,
    source: Source,
    pace: Pace,
    bell: watch::Receiver<u64>,
    /// The state may be another one than on disk.
    changed: bool,
    /// It is not saved before.
    due: Instant,
    /// What was last written.
    last: Option<Written>,
}

struct Written {
    sha256: String,
    bytes: usize,
}

impl Work {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let stopping = tokio::select! {
                biased;
                _ = &mut stopped => true,
                () = self.wait() => false,
            };
            self.changed |= self.bell.has_changed().unwrap_or_default();
            if self.changed && self.savable() && !self.turn() || stopping {
                return;
            }
        }
    }

    /// Until there is something to save, and it may be.
    async fn wait(&mut self) {
        loop {
            if !self.changed {
                self.ring().await;
                self.changed = true;
                self.due = self.due.max(Instant::now() + self.pace.gather);
            } else if !self.savable() {
                // The board has no bell: that the saved state is no longer served may change nothing in the table.
                let _ = timeout(self.pace.gather, self.ring()).await;
            } else if Instant::now() < self.due {
                sleep_until(self.due).await;
            } else {
                return;
            }
        }
    }

    async fn ring(&mut self) {
        if self.bell.changed().await.is_err() {
            // Nothing changes any more.
            std::future::pending::<()>().await;
        }
    }

    fn savable(&self) -> bool {
        self.keeper.snapshot().load().synced && self.board.saved().is_none()
    }

    /// Saves once. False if it panicked, so that it does not again every few seconds.
    fn turn(&mut self) -> bool {
        let begun = Instant::now();
        self.bell.mark_unchanged();
        self.changed = false;
        let saved = catch_unwind(AssertUnwindSafe(|| self.save()));
        self.due = Instant::now() + self.pace.gather.max(begun.elapsed() * self.pace.share);
        match saved {
            Ok(Ok(())) => {
                if self.board.complete(&self.source).is_some() {
                    tracing::info!(dir = ?self.dir, "the state is saved again");
                }
            }
            Ok(Err(error)) => {
                self.changed = true;
                let trouble = Trouble { text: error.to_string(), remedy: error.remedy().into(), cause: Cause::Other };
                if self.board.failed(&self.source, trouble) {
                    tracing::warn!(remedy = error.remedy(), "{error}");
                }
            }
            Err(panic) => {
                self.report(&*panic);
                return false;
            }
        }
        true
    }

    fn save(&mut self) -> Result<(), WriteError> {
        let Some(body) = self.encode() else { return Ok(()) };
        if self.last.as_ref().is_some_and(|last| last.sha256 == body.sha256()) {
            return Ok(());
        }
        let begun = Instant::now();
        saved::write(&self.dir, &self.identity, SystemTime::now(), &body)?;
        let (objects, bytes) = (body.objects(), body.bytes().len());
        tracing::debug!(dir = ?self.dir, objects, bytes, took = ?begun.elapsed(), "the state is saved");
        self.last = Some(Written { sha256: body.sha256().into(), bytes });
        Ok(())
    }

    /// The clusters that are complete; `None` without the local one, and once a change was applied by half.
    fn encode(&self) -> Option<Body> {
        // A little more than the last time, so that it is not copied while changes wait.
        let expected = self.last.as_ref().map_or(0, |last| last.bytes + last.bytes / 8);
        self.keeper.look(|world, table| {
            let complete = world.clusters().filter(|(_, _, cluster)| cluster.synced);
            let clusters = complete.map(|(_, name, cluster)| (name, cluster.objects()));
            (table.synced && !self.keeper.is_torn()).then(|| saved::encode(clusters, expected))
        })
    }

    fn report(&self, panic: &(dyn Any + Send)) {
        let what = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref().map(String::as_str));
        let text = format!("the state is no longer saved, because of a panic: {}", what.unwrap_or("see above"));
        tracing::error!("{text}; queries are answered as before");
        let remedy = "restart segdns, and report the panic".into();
        self.board.failed(&self.source, Trouble { text, remedy, cause: Cause::Other });
    }
}

#[cfg(test)]
mod tests;
