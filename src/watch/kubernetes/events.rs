//! Kubernetes Events for what is wrong, at the object at fault, so that whoever owns it reads it in `kubectl get events`.
//!
//! ```text
//! lease  one node of the cluster writes: that which holds a Lease
//! write  a report becomes an Event; the same again counts one more in it
//! call   one request and its answer
//! ```
//!
//! Every node finds the same reports. As long as there are none of the local cluster, nothing is asked of the API server, and
//! the Lease is let go. An Event is written again once an hour for as long as its report stays, since API servers forget
//! Events after an hour; a cleared report is no longer renewed. Nothing waits for any of this.

mod call;
mod lease;
mod write;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::connect::Connection;
use super::follow::Failure;
use crate::mesh::object::Kind;
use crate::mesh::report::Report;
use lease::Lease;
use write::{Told, Writer};

/// What is wrong now, in every cluster.
pub type Reports = Arc<BTreeSet<Report>>;

/// The file that grants what is needed.
pub const RBAC: &str = "deploy/rbac-events.yaml";
/// Name of the Lease.
pub const LEASE: &str = "segdns-events";

/// How soon the same report is written again.
const AGAIN: Duration = Duration::from_secs(3600);
/// How many Events may be written at once, and how soon one more may.
const BURST: u32 = 10;
const REFILL: Duration = Duration::from_secs(6);
/// How long it rests after a failure, and where what it needs is not granted.
const RETRY: Duration = Duration::from_secs(15);
const FORBIDDEN: Duration = Duration::from_secs(300);
/// Nodes that find something at the same time do not ask at the same time.
const SPREAD: Duration = Duration::from_secs(2);

/// Whose Events these are.
#[derive(Clone, Debug)]
pub struct Options {
    /// The local cluster: only its objects get Events.
    pub cluster: Box<str>,
    /// The node, for people.
    pub node: Box<str>,
    /// API group and version of Segments.
    pub segments: String,
}

/// Writes Events for as long as reports come.
pub async fn run(connection: Connection, options: Options, mut reports: watch::Receiver<Reports>) {
    let mut events = Events::new(connection, options);
    loop {
        let now = Arc::clone(&reports.borrow_and_update());
        let wait = events.turn(&now).await;
        let changed = reports.changed();
        let ended = match wait {
            Some(wait) => timeout(wait, changed).await.is_ok_and(|changed| changed.is_err()),
            None => changed.await.is_err(),
        };
        if ended {
            return;
        }
    }
}

struct Events {
    writer: Writer,
    lease: Lease,
    cluster: Box<str>,
    /// What has been written within the last hour.
    told: BTreeMap<Report, Told>,
    bucket: Bucket,
    /// Nothing is asked before.
    rest: Option<Instant>,
    /// Something of ours was wrong when it last looked.
    busy: bool,
    /// What was last said of a failure; nothing after a success.
    said: String,
}

impl Events {
    fn new(connection: Connection, options: Options) -> Self {
        let Options { cluster, node, segments } = options;
        let identity = format!("{node}_{:08x}", rand::random::<u32>());
        let lease = Lease::new(connection.clone(), identity);
        let writer = Writer::new(connection, node, segments);
        let (told, bucket) = (BTreeMap::new(), Bucket::new());
        Self { writer, lease, cluster, told, bucket, rest: None, busy: false, said: String::new() }
    }

    /// Does what is due. How long until something else may be; `None` until reports change.
    async fn turn(&mut self, reports: &BTreeSet<Report>) -> Option<Duration> {
        let own: Vec<&Report> = reports.iter().filter(|report| self.is_own(report)).collect();
        let now = Instant::now();
        self.told.retain(|report, told| told.at + AGAIN > now || reports.contains(report));
        if own.is_empty() {
            self.busy = false;
            return None;
        }
        if !std::mem::replace(&mut self.busy, true) {
            self.rest = Some(now + rand::random_range(Duration::ZERO..SPREAD));
        }
        if let Some(rest) = self.rest.filter(|rest| *rest > now) {
            return Some(rest - now);
        }
        Some(match self.work(&own).await {
            Ok(wait) => wait,
            Err(failure) => self.failed(&failure),
        })
    }

    fn is_own(&self, report: &Report) -> bool {
        report.object.cluster == self.cluster && report.object.kind != Kind::Source
    }

    async fn work(&mut self, own: &[&Report]) -> Result<Duration, Failure> {
        if !self.lease.hold().await? {
            self.said.clear();
            return Ok(self.lease.due());
        }
        // What was never written comes first, then what was written longest ago.
        let age = |report: &&&Report| self.told.get(**report).map(|told| told.at);
        let Some(report) = own.iter().min_by_key(age).copied() else { return Ok(self.lease.due()) };
        let now = Instant::now();
        let due = self.told.get(report).map_or(now, |told| told.at + AGAIN).max(self.bucket.due(now));
        if due > now {
            return Ok(self.lease.due().min(due - now));
        }
        self.bucket.take(now);
        let told = self.writer.write(report, self.told.get(report)).await?;
        self.told.insert(report.clone(), told);
        self.said.clear();
        Ok(Duration::ZERO)
    }

    fn failed(&mut self, failure: &Failure) -> Duration {
        self.lease.lose();
        let text = failure.text("the API server");
        let (remedy, rest) = if failure.code() == 403 {
            (format!("apply {RBAC}, or set sources.kubernetes.events: false"), FORBIDDEN)
        } else {
            ("it is tried again".to_owned(), RETRY)
        };
        // Once, however often it is tried: an API server may be away for hours.
        if self.said != text {
            tracing::warn!("Kubernetes Events for reports are not written: {text}; {remedy}");
            self.said = text;
        }
        self.rest = Some(Instant::now() + rest);
        rest
    }
}

/// How many Events may be written now.
#[derive(Debug)]
struct Bucket {
    tokens: u32,
    /// When the last token came in.
    at: Instant,
}

impl Bucket {
    fn new() -> Self {
        Self { tokens: BURST, at: Instant::now() }
    }

    fn fill(&mut self, now: Instant) {
        while self.tokens < BURST && self.at + REFILL <= now {
            self.tokens += 1;
            self.at += REFILL;
        }
        if self.tokens >= BURST {
            self.at = now;
        }
    }

    /// When one may be written.
    fn due(&mut self, now: Instant) -> Instant {
        self.fill(now);
        if self.tokens > 0 { now } else { self.at + REFILL }
    }

    fn take(&mut self, now: Instant) {
        self.fill(now);
        self.tokens = self.tokens.saturating_sub(1);
    }
}
