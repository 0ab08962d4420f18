//! Everything that can go wrong, switched by a test while the server runs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use super::ApiServer;
use super::request::{Target, Verb};
use super::resource::{Key, is_meant};
use super::status::Failure;

/// How often a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The next so many.
    Next(u32),
    /// Until [`ApiServer::heal`].
    Always,
    /// For so long from now.
    For(Duration),
}

/// What the server makes of `sendInitialEvents`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Streaming {
    /// It streams lists.
    #[default]
    On,
    /// 422, as with the feature gate off.
    Refused,
    /// 200, and then a 500 in the stream, as with an old etcd.
    Broken,
}

/// What is switched at the moment.
#[derive(Debug, Default)]
pub(super) struct Faults {
    failures: Vec<Armed>,
    frozen: BTreeSet<String>,
    hanging: BTreeSet<String>,
    pub(super) streaming: Streaming,
    pub(super) slow: Duration,
    pub(super) bookmarks: Option<Duration>,
    /// What all streams were told; each remembers how far it has read.
    pub(super) commands: Vec<Command>,
}

/// Something that all open streams do.
#[derive(Debug)]
pub(super) enum Command {
    /// Break off in the middle of a line.
    Tear,
    /// End the streams of these resources with this error.
    Error(String, Value),
    /// Send this line on the streams of these resources.
    Line(String, Bytes),
}

#[derive(Debug)]
struct Armed {
    resource: String,
    verb: Option<Verb>,
    custom_only: bool,
    failure: Failure,
    left: Option<u32>,
    from: Instant,
    until: Option<Instant>,
}

impl Faults {
    /// The failure of this request, if it is to fail.
    pub(super) fn strike(&mut self, target: &Target, custom: bool) -> Option<Failure> {
        let now = Instant::now();
        self.failures.retain(|armed| armed.until.is_none_or(|until| now < until) && armed.left != Some(0));
        let armed = self.failures.iter_mut().find(|armed| {
            is_meant(&armed.resource, &target.group, &target.plural)
                && armed.verb.is_none_or(|verb| verb == target.verb)
                && (custom || !armed.custom_only)
                && armed.from <= now
        })?;
        armed.left = armed.left.map(|left| left - 1);
        Some(armed.failure.clone())
    }

    pub(super) fn is_frozen(&self, key: &Key) -> bool {
        self.frozen.iter().any(|word| is_meant(word, &key.0, &key.1))
    }

    pub(super) fn is_hanging(&self, target: &Target) -> bool {
        target.verb != Verb::Get && self.hanging.iter().any(|word| is_meant(word, &target.group, &target.plural))
    }

    fn arm(&mut self, resource: &str, verb: Option<Verb>, failure: Failure, times: Times) -> &mut Armed {
        let from = Instant::now();
        let (left, until) = match times {
            Times::Next(count) => (Some(count), None),
            Times::Always => (None, None),
            Times::For(time) => (None, Some(from + time)),
        };
        self.failures.push(Armed {
            resource: resource.to_owned(),
            verb,
            custom_only: false,
            failure,
            left,
            from,
            until,
        });
        self.failures.last_mut().expect("just pushed")
    }
}

/// Faults. A resource is named by its plural, by `plural.group`, or `*` for all of them.
impl ApiServer {
    /// Lets requests fail, those of one verb or of all. What was armed first strikes first.
    pub fn fail(&self, resource: &str, verb: Option<Verb>, failure: Failure, times: Times) {
        self.shared.change(|state| {
            state.faults.arm(resource, verb, failure, times);
        });
    }

    /// Ends all failures that [`ApiServer::fail`] and [`ApiServer::restart`] have armed.
    pub fn heal(&self) {
        self.shared.change(|state| state.faults.failures.clear());
    }

    /// Says what becomes of requests for streaming lists.
    pub fn streaming_lists(&self, streaming: Streaming) {
        self.shared.change(|state| state.faults.streaming = streaming);
    }

    /// Sends periodic bookmarks on streams that are opened from now on; none at first.
    pub fn bookmarks(&self, every: Option<Duration>) {
        self.shared.change(|state| state.faults.bookmarks = every);
    }

    /// Ends all open streams of these resources with an error in the stream.
    pub fn send_to_watchers(&self, resource: &str, failure: &Failure) {
        self.shared.change(|state| {
            let status = failure.status(None, &state.access.user);
            state.faults.commands.push(Command::Error(resource.to_owned(), status));
        });
    }

    /// Sends a line, whatever it says, on all open streams of these resources.
    pub fn send_line(&self, resource: &str, line: &str) {
        let line = Bytes::from(format!("{line}\n"));
        self.shared.change(|state| state.faults.commands.push(Command::Line(resource.to_owned(), line)));
    }

    /// Nothing more is sent on the streams of these resources, open ones and new ones, though they stay open: as if the
    /// network swallowed everything.
    pub fn freeze(&self, resource: &str) {
        self.shared.change(|state| state.faults.frozen.insert(resource.to_owned()));
    }

    /// Ends [`ApiServer::freeze`]: what was held back is sent.
    pub fn thaw(&self, resource: &str) {
        self.shared.change(|state| state.faults.frozen.remove(resource));
    }

    /// Lists and new streams of these resources get no answer at all, while `on`.
    pub fn hang(&self, resource: &str, on: bool) {
        self.shared.change(|state| {
            if on { state.faults.hanging.insert(resource.to_owned()) } else { state.faults.hanging.remove(resource) }
        });
    }

    /// Waits so long before each list and before each line of a watch.
    pub fn slow(&self, delay: Duration) {
        self.shared.change(|state| state.faults.slow = delay);
    }

    /// Refuses versions older than now: lists and watches from them are 410.
    pub fn compact(&self) {
        self.shared.change(super::store::State::compact);
    }

    /// Goes back to an earlier state, as an etcd that was restored from a backup: the versions that clients know lie in
    /// the future, and are given out a second time. All connections end.
    ///
    /// # Panics
    /// The history does not go back so far.
    pub fn rewind(&self, to: u64) {
        self.shared.change(|state| state.rewind(to));
        self.cut();
    }

    /// Ends all connections at once, without close_notify and without a last chunk: as SIGKILL does.
    pub fn cut(&self) {
        let old = self.shared.connections();
        old.values().for_each(|conn| conn.kill.notify_one());
        self.await_end(old.keys());
    }

    /// As [`ApiServer::cut`], and streams break off in the middle of a line.
    pub fn cut_mid_line(&self) {
        let old = self.shared.connections();
        self.shared.change(|state| state.faults.commands.push(Command::Tear));
        // Those with a stream are killed by it, when the torn line is on its way.
        old.values().filter(|conn| !conn.is_streaming()).for_each(|conn| conn.kill.notify_one());
        self.await_end(old.keys());
    }

    /// Ends all connections as [`ApiServer::cut`] does, and refuses new ones until [`ApiServer::resume`].
    pub fn stop(&self) {
        self.close_port();
        self.cut();
    }

    /// Listens again, on the same port. What had been watched may be resumed unless [`ApiServer::compact`] came between.
    ///
    /// # Panics
    /// The port cannot be had.
    pub fn resume(&self) {
        self.open_port();
    }

    /// A restart as clients of a real server see it: all streams end with a 410, connections close, older versions are
    /// gone, and for a while permitted requests are 403; after that, custom resources are 429 for a while.
    pub fn restart(&self, forbidden: Duration, reinitializing: Duration) {
        let old = self.shared.connections();
        self.shared.change(|state| {
            let status = Failure::Expired.status(None, &state.access.user);
            let faults = &mut state.faults;
            faults.commands.push(Command::Error("*".to_owned(), status));
            if !forbidden.is_zero() {
                faults.arm("*", None, Failure::Forbidden, Times::For(forbidden));
            }
            let until = Times::For(forbidden + reinitializing);
            faults.arm("*", None, Failure::Reinitializing, until).custom_only = true;
            state.compact();
        });
        old.values().for_each(|conn| conn.close.notify_one());
    }

    fn await_end<'a>(&self, old: impl Iterator<Item = &'a u64>) {
        let old: BTreeSet<u64> = old.copied().collect();
        let gone = |log: &super::Observed| old.iter().all(|id| !log.live.contains(id));
        self.wait_for("the end of all connections", Duration::from_secs(5), gone).unwrap_or_else(|e| panic!("{e}"));
    }
}
