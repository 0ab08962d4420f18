//! Watches: a task per stream that reads the common history at its own pace.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::fault::{Command, Streaming};
use super::list::{PIECE, asked_version, is_compacted, selector};
use super::object::{Form, Object};
use super::request::{Query, Target, is_set};
use super::resource::{Key, is_meant};
use super::select::Selector;
use super::serve::{Conn, Shared};
use super::status::{Failure, error_line, invalid_option, too_large, too_old};
use super::store::{Event, FIRST_VERSION, State, Table};

/// How long before its end a stream gets its last bookmark.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// A stream, before anything has been sent.
#[derive(Debug)]
pub(super) struct Watch {
    key: Key,
    generation: u64,
    namespace: Option<String>,
    selector: Selector,
    form: Form,
    zero: &'static str,
    /// Up to which version the client knows everything.
    last: u64,
    initial: std::vec::IntoIter<Arc<Object>>,
    initial_end: bool,
    bookmarks: Bookmarks,
    deadline: Option<Instant>,
    /// Ends with this as soon as the initial events are through.
    error: Option<Bytes>,
    commands: usize,
}

#[derive(Debug)]
struct Bookmarks {
    allowed: bool,
    every: Option<Duration>,
    next: Option<Instant>,
    /// Before the end, if something has happened since this version.
    last: Option<(Instant, u64)>,
}

/// What a stream does next.
enum Step {
    Send(Bytes),
    Wait(Option<Instant>),
    /// Ends as HTTP ends.
    End(Option<Bytes>),
    /// Ends in the middle of a line.
    Tear,
}

impl Watch {
    /// What a watch request is answered with.
    ///
    /// # Errors
    /// The `Status` of its failure.
    pub(super) fn new(
        state: &State,
        table: &Table,
        target: &Target,
        query: &Query,
        partial: bool,
    ) -> Result<Self, Value> {
        let asked = asked_version(query)?;
        let streaming = is_set(query, "sendInitialEvents");
        check_options(state, query, asked)?;
        let selector = selector(table, query)?;
        let allowed = is_set(query, "allowWatchBookmarks");
        let timeout = query.get("timeoutSeconds").and_then(|t| t.parse().ok()).filter(|t| *t > 0);
        let form = if partial { Form::partial() } else { table.resource.typed(&target.version) };
        let synthetic = query.get("sendInitialEvents").map_or(asked.unwrap_or(0) == 0, |_| streaming);
        let is_wanted =
            |o: &Arc<Object>| target.namespace.as_ref().is_none_or(|ns| *ns == o.namespace) && selector.matches(o);
        let initial: Vec<_> =
            if synthetic { table.objects.values().filter(|o| is_wanted(o)).cloned().collect() } else { Vec::new() };
        let last = if synthetic { state.version } else { asked.unwrap_or(state.version) };
        let error = if streaming && state.faults.streaming == Streaming::Broken {
            Some(error_line(&Failure::Internal.status(Some(target), &state.access.user)))
        } else if !synthetic && is_compacted(state, last) {
            Some(error_line(&too_old(last, state.compacted.max(FIRST_VERSION))))
        } else {
            None
        };
        Ok(Self {
            key: table.resource.key(),
            generation: table.generation,
            namespace: target.namespace.clone(),
            selector,
            form,
            zero: table.resource.zero,
            last,
            initial: if error.is_some() { Vec::new().into_iter() } else { initial.into_iter() },
            initial_end: allowed && (streaming || asked.is_none()) && synthetic,
            bookmarks: Bookmarks::new(allowed, state.faults.bookmarks, timeout, last),
            deadline: timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
            error,
            commands: state.faults.commands.len(),
        })
    }

    /// Sends until the stream ends, or the client goes.
    pub(super) async fn run(mut self, shared: Arc<Shared>, conn: Arc<Conn>, to: mpsc::Sender<Bytes>) {
        let mut wake = shared.wake.subscribe();
        loop {
            wake.borrow_and_update();
            let (step, slow) = {
                let state = shared.lock();
                (self.next(&state), state.faults.slow)
            };
            match step {
                Step::Send(piece) => {
                    if !slow.is_zero() {
                        tokio::time::sleep(slow).await;
                    }
                    if to.send(piece).await.is_err() {
                        return;
                    }
                }
                Step::Wait(until) => {
                    let timer = async {
                        match until {
                            Some(at) => tokio::time::sleep_until(at).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        changed = wake.changed() => if changed.is_err() { return },
                        () = timer => {}
                        () = to.closed() => return,
                    }
                }
                Step::End(piece) => {
                    if let Some(piece) = piece {
                        let _ = to.send(piece).await;
                    }
                    return;
                }
                Step::Tear => {
                    let _ = to.try_send(Bytes::from_static(br#"{"type":"MODIFIED","object":{"kind":"Serv"#));
                    conn.kill.notify_one();
                    // The body must not end, or the client would see a proper last chunk.
                    return to.closed().await;
                }
            }
        }
    }

    fn next(&mut self, state: &State) -> Step {
        let frozen = state.faults.is_frozen(&self.key);
        while let Some(command) = state.faults.commands.get(self.commands) {
            self.commands += 1;
            match command {
                Command::Tear => return Step::Tear,
                Command::Error(word, status) if !frozen && is_meant(word, &self.key.0, &self.key.1) => {
                    return Step::End(Some(error_line(status)));
                }
                Command::Line(word, line) if !frozen && is_meant(word, &self.key.0, &self.key.1) => {
                    return Step::Send(line.clone());
                }
                Command::Error(..) | Command::Line(..) => {}
            }
        }
        if frozen {
            return Step::Wait(None);
        }
        if let Some(error) = self.error.take() {
            return Step::End(Some(error));
        }
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Step::End(None);
        }
        let one_by_one = !state.faults.slow.is_zero();
        if let Some(piece) = self.initial_piece(one_by_one) {
            return Step::Send(piece);
        }
        self.news(state, now, one_by_one)
    }

    fn initial_piece(&mut self, one_by_one: bool) -> Option<Bytes> {
        let mut piece = Vec::new();
        for object in self.initial.by_ref() {
            object.write_event("ADDED", &self.form, &mut piece);
            if one_by_one || piece.len() >= PIECE {
                return Some(piece.into());
            }
        }
        if std::mem::take(&mut self.initial_end) {
            self.write_bookmark(json!({"k8s.io/initial-events-end": "true"}), &mut piece);
        }
        (!piece.is_empty()).then(|| piece.into())
    }

    /// Changes, the end of the resource, or a bookmark.
    fn news(&mut self, state: &State, now: Instant, one_by_one: bool) -> Step {
        let Some(table) = state.tables.get(&self.key) else { return Step::End(None) };
        // A version from the future: silence, until the counter gets there.
        if self.last > state.version {
            return Step::Wait(self.deadline);
        }
        if self.last < state.floor {
            return Step::End(Some(error_line(&too_old(self.last, state.compacted))));
        }
        let mut piece = Vec::new();
        for event in table.after(self.last) {
            self.last = event.version;
            self.write_change(event, &mut piece);
            if piece.len() >= PIECE || (one_by_one && !piece.is_empty()) {
                return Step::Send(piece.into());
            }
        }
        self.last = state.version;
        if !piece.is_empty() {
            return Step::Send(piece.into());
        }
        if table.gone || table.generation != self.generation {
            return Step::End(None);
        }
        if self.bookmarks.is_due(now, self.last) {
            self.write_bookmark(Value::Null, &mut piece);
            return Step::Send(piece.into());
        }
        let last = self.bookmarks.last.map(|(at, _)| at);
        Step::Wait([self.deadline, self.bookmarks.next, last].into_iter().flatten().min())
    }

    fn write_change(&self, event: &Event, piece: &mut Vec<u8>) {
        let is_wanted = |object: &&Arc<Object>| {
            self.namespace.as_ref().is_none_or(|ns| *ns == object.namespace) && self.selector.matches(object)
        };
        match (event.old.as_ref().filter(is_wanted), event.new.as_ref().filter(is_wanted)) {
            (None, None) => {}
            (None, Some(new)) => new.write_event("ADDED", &self.form, piece),
            (Some(_), Some(new)) => new.write_event("MODIFIED", &self.form, piece),
            // As it was when it was last seen, at the version of the change.
            (Some(old), None) => old.at(event.version).write_event("DELETED", &self.form, piece),
        }
    }

    fn write_bookmark(&self, annotations: Value, piece: &mut Vec<u8>) {
        let mut metadata = json!({"resourceVersion": self.last.to_string()});
        if !annotations.is_null() {
            metadata["annotations"] = annotations;
        }
        let object = self.form.bookmark(&metadata, self.zero);
        piece.extend_from_slice(format!("{{\"type\":\"BOOKMARK\",\"object\":{object}}}\n").as_bytes());
    }
}

impl Bookmarks {
    fn new(allowed: bool, every: Option<Duration>, timeout: Option<u64>, version: u64) -> Self {
        let now = Instant::now();
        let last = timeout.map(|seconds| {
            let whole = Duration::from_secs(seconds);
            (now + whole - LAST_BOOKMARK.min(whole / 4), version)
        });
        let every = every.filter(|_| allowed);
        Self { allowed, every, next: every.map(|every| now + every), last: last.filter(|_| allowed) }
    }

    /// Whether one is to be sent now.
    fn is_due(&mut self, now: Instant, version: u64) -> bool {
        if let (Some(every), Some(next)) = (self.every, self.next)
            && next <= now
        {
            self.next = Some(now + every);
            return self.allowed;
        }
        let due = self.last.take_if(|(at, _)| *at <= now);
        due.is_some_and(|(_, since)| self.allowed && version > since)
    }
}

/// The rules for `sendInitialEvents` and `resourceVersionMatch` of a watch.
fn check_options(state: &State, query: &Query, asked: Option<u64>) -> Result<(), Value> {
    let exactly = query.get("resourceVersionMatch").map(String::as_str);
    if !query.contains_key("sendInitialEvents") {
        let message = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        return exactly.map_or(Ok(()), |_| Err(invalid_option("resourceVersionMatch", message)));
    }
    if exactly != Some("NotOlderThan") {
        let message = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return Err(invalid_option("resourceVersionMatch", message));
    }
    if state.faults.streaming == Streaming::Refused {
        let message = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
        return Err(invalid_option("sendInitialEvents", message));
    }
    match asked {
        Some(asked) if asked > state.version => Err(too_large(asked, state.version)),
        _ => Ok(()),
    }
}
