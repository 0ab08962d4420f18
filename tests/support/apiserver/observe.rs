//! What the server has seen: its log of requests, and how a test waits for it.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::ApiServer;
use super::request::{Query, Target, Verb};

/// A request, and what has become of it so far.
#[derive(Debug, Clone)]
pub struct Request {
    /// When it came.
    pub at: Instant,
    /// `GET`.
    pub method: String,
    /// Without its query.
    pub path: String,
    /// Its decoded query.
    pub query: Query,
    /// What is wanted of a resource; `None` for discovery and the like.
    pub verb: Option<Verb>,
    /// API group of the resource.
    pub group: String,
    /// Plural of the resource, or empty.
    pub resource: String,
    /// One namespace, or all.
    pub namespace: Option<String>,
    /// Header `User-Agent`.
    pub user_agent: String,
    /// Header `Accept`.
    pub accept: String,
    /// Status code, as soon as there is one.
    pub code: Option<u16>,
    /// Octets of the body that have been handed to the connection.
    pub octets: u64,
    /// Whether the answer is not at its end.
    pub open: bool,
}

/// All that was seen so far.
#[derive(Debug, Default)]
pub struct Observed {
    /// In the order in which they came.
    pub requests: Vec<Request>,
    /// How many connections there were.
    pub accepted: u64,
    pub(super) live: BTreeSet<u64>,
}

impl Observed {
    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.live.len()
    }

    /// The requests for a resource (a plural).
    pub fn of<'a>(&'a self, verb: Verb, resource: &'a str) -> impl Iterator<Item = &'a Request> {
        self.requests.iter().filter(move |r| r.verb == Some(verb) && (resource == "*" || r.resource == resource))
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self, verb: Verb, resource: &str) -> usize {
        self.of(verb, resource).count()
    }

    /// How many watches of a resource are open (200, and not at their end).
    #[must_use]
    pub fn open_watches(&self, resource: &str) -> usize {
        self.of(Verb::Watch, resource).filter(|r| r.open && r.code == Some(200)).count()
    }

    /// Octets of all bodies for a resource.
    #[must_use]
    pub fn octets(&self, resource: &str) -> u64 {
        self.requests.iter().filter(|r| resource == "*" || r.resource == resource).map(|r| r.octets).sum()
    }
}

/// The log, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Log {
    observed: Mutex<Observed>,
    changed: Condvar,
}

impl Log {
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Observed) -> T) -> T {
        let result = change(&mut self.observed.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        result
    }
}

/// The entry of a request that is being answered; it is closed when the answer ends, however it ends.
#[derive(Debug)]
pub(super) struct Entry {
    log: Arc<Log>,
    at: usize,
}

impl Entry {
    pub(super) fn open(
        log: &Arc<Log>,
        request: &hyper::Request<impl Sized>,
        query: &Query,
        to: Option<&Target>,
    ) -> Self {
        let header = |name: &str| {
            let value = request.headers().get(name).and_then(|v| v.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let entry = Request {
            at: Instant::now(),
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: query.clone(),
            verb: to.map(|t| t.verb),
            group: to.map(|t| t.group.clone()).unwrap_or_default(),
            resource: to.map(|t| t.plural.clone()).unwrap_or_default(),
            namespace: to.and_then(|t| t.namespace.clone()),
            user_agent: header("user-agent"),
            accept: header("accept"),
            code: None,
            octets: 0,
            open: true,
        };
        let at = log.change(|observed| {
            observed.requests.push(entry);
            observed.requests.len() - 1
        });
        Self { log: Arc::clone(log), at }
    }

    pub(super) fn code(&self, code: u16) {
        self.log.change(|observed| observed.requests[self.at].code = Some(code));
    }

    pub(super) fn sent(&self, octets: usize) {
        self.log.change(|observed| observed.requests[self.at].octets += u64::try_from(octets).unwrap_or(0));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.log.change(|observed| observed.requests[self.at].open = false);
    }
}

/// Observation.
impl ApiServer {
    /// Looks at what was seen so far.
    pub fn observed<T>(&self, look: impl FnOnce(&Observed) -> T) -> T {
        look(&self.shared.log.observed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The log of requests.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.observed(|observed| observed.requests.clone())
    }

    /// Waits until this is so.
    ///
    /// # Errors
    /// It is not so in time; with the last requests.
    pub fn wait_for(&self, what: &str, timeout: Duration, is_so: impl Fn(&Observed) -> bool) -> Result<(), String> {
        let log = &self.shared.log;
        let observed = log.observed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = log.changed.wait_timeout_while(observed, timeout, |observed| !is_so(observed));
        let (observed, result) = waited.unwrap_or_else(PoisonError::into_inner);
        if !result.timed_out() {
            return Ok(());
        }
        let last = observed.requests.iter().rev().take(8).rev();
        let last: Vec<String> = last
            .map(|r| format!("{} {:?} -> {:?}, {} octets, open: {}", r.path, r.query, r.code, r.octets, r.open))
            .collect();
        Err(format!("not within {timeout:?}: {what}; the last requests:\n{}", last.join("\n")))
    }
}
