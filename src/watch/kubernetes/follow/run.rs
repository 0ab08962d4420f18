//! The loop itself.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::super::connect::Connection;
use super::super::resource::Resource;
use super::backoff::{Backoff, jitter};
use super::failure::{self, Failure};
use super::watched::Watched;
use super::wire::{self, Event, Lines, Part, Start};
use super::{Sink, Timing};
use crate::watch::board::{Board, Source};

/// So many of the same fault in a row are no accident.
const REPEATED: u32 = 3;
/// A list in a stream that fails in a way that may pass gets one more chance.
const STREAM_FAULTS: u32 = 2;

/// How a stream ended.
enum End {
    /// As it has to at some time.
    Closed,
    /// In the middle of something.
    Broken(Failure),
    /// Nothing more came.
    Silent,
    /// The API server said so, or what it said cannot be read.
    Failed(Failure),
}

pub struct Follower<T, S> {
    connection: Connection,
    resource: Resource,
    source: Source,
    board: Arc<Board>,
    timing: Timing,
    sink: S,

    /// The version to watch from; none if there has to be a list first.
    at: Option<Box<str>>,
    /// The last version that was complete, for a list that may not be older.
    known: Option<Box<str>>,
    /// Which of the resource's versions is asked for.
    version: usize,
    /// How many of them have turned out to be missing, in a row.
    tried: usize,
    /// Until when lists are read in pages, because the API server cannot tell them in a stream.
    pages_until: Option<Instant>,

    retry: Backoff,
    relist: Backoff,
    /// Failed lists in a stream, in a row.
    stream_faults: u32,
    /// Faults of watches in a row that may be those of the version watched from.
    watch_faults: u32,
    /// Watches in a row that said nothing at all.
    silent: u32,
    /// Since when, and how often in a row, the resource has been missing.
    missing: Option<(Instant, u32)>,
    /// The sink has been told that the resource does not exist.
    absent: bool,
    /// The board holds that, and no other trouble.
    noted: bool,
    /// The sink knows objects, or has been told a complete list of none.
    told: bool,
    /// A list has been complete.
    synced: bool,
    /// The board holds a trouble.
    troubled: bool,
    objects: PhantomData<fn() -> T>,
}

impl<T: Watched, S: Sink<T>> Follower<T, S> {
    pub fn new(
        connection: Connection,
        resource: Resource,
        source: Source,
        board: Arc<Board>,
        timing: Timing,
        sink: S,
    ) -> Self {
        let (retry, cap) = (timing.retry, timing.retry_cap);
        let told = sink.knows();
        Self {
            connection,
            resource,
            source,
            board,
            timing,
            sink,
            at: None,
            known: None,
            version: 0,
            tried: 0,
            pages_until: None,
            retry: Backoff::new(retry, cap),
            relist: Backoff::new(retry, cap),
            stream_faults: 0,
            watch_faults: 0,
            silent: 0,
            missing: None,
            absent: false,
            noted: false,
            told,
            synced: false,
            troubled: false,
            objects: PhantomData,
        }
    }

    pub async fn run(mut self) {
        self.board.expect(&self.source);
        loop {
            let wait = match self.at.clone() {
                Some(from) => self.resume(&from).await,
                None if self.pages_until.is_some_and(|until| Instant::now() < until) => self.pages().await,
                None => self.stream().await,
            };
            sleep(wait).await;
        }
    }

    /// Lists in a stream, and goes on to watch in it. Returns how long to wait then, as the others.
    async fn stream(&mut self) -> Duration {
        let mut lines = match self.open(Start::Now).await {
            Ok(lines) => lines,
            Err(failure) => return self.stream_refused(&failure),
        };
        self.sink.begin();
        let opened = Instant::now();
        let mut initial = true;
        let end = self.read(&mut lines, &mut initial).await;
        if !initial {
            return self.ended(end, opened);
        }
        match end {
            // An API server that does not know the parameter tells all objects, and then nothing until something happens.
            End::Closed | End::Silent => self.fall_back("it does not say when its list is complete"),
            End::Broken(failure) | End::Failed(failure) => match failure.code() {
                410 => self.relist.next_but_first(),
                // An etcd that cannot tell how far it is makes the API server fail here, each time.
                0 | 500 | 504 => self.stream_failed(&failure),
                _ => self.fault("watch", &failure),
            },
        }
    }

    fn stream_refused(&mut self, failure: &Failure) -> Duration {
        match failure.code() {
            404 => self.not_found(failure),
            410 => self.relist.next_but_first(),
            // All that may be about the parameters, and not about who asks or when.
            400 | 402 | 405..=409 | 411..=428 | 430..=499 | 501 | 505 => {
                self.fall_back("it refuses to list in a stream")
            }
            500 | 504 => self.stream_failed(failure),
            _ if matches!(failure, Failure::Silent(_)) => self.stream_failed(failure),
            _ => self.fault("watch", failure),
        }
    }

    fn stream_failed(&mut self, failure: &Failure) -> Duration {
        self.stream_faults += 1;
        let wait = if matches!(failure, Failure::Silent(_)) {
            // What has taken so long is to be known, whatever comes of what is tried next.
            self.fault("watch", failure)
        } else {
            tracing::debug!(resource = self.resource.name(), ?failure, "a list in a stream failed");
            self.retry.next()
        };
        if self.stream_faults >= STREAM_FAULTS { self.fall_back("it fails to list in a stream") } else { wait }
    }

    fn fall_back(&mut self, why: &str) -> Duration {
        let (resource, cluster) = (self.resource.name(), &self.source.cluster);
        tracing::debug!(%cluster, resource, "the API server is asked for pages: {why}");
        self.stream_faults = 0;
        self.pages_until = Some(Instant::now() + self.timing.stream_again);
        Duration::ZERO
    }

    /// Lists in pages.
    async fn pages(&mut self) -> Duration {
        let mut token: Option<Box<str>> = None;
        let known = self.known.clone();
        loop {
            let part = match &token {
                Some(token) => Part::Next(token),
                None if self.resource.paged => Part::First,
                None => Part::Whole(known.as_deref().unwrap_or("0")),
            };
            let page = wire::list::<T>(&self.connection, &self.resource, self.version, part, self.timing.request).await;
            let page = match page {
                Ok(page) => page,
                Err(failure) => return self.page_failed(&failure),
            };
            self.exists();
            self.retry.reset();
            if token.is_none() {
                self.sink.begin();
            }
            self.board.heard(&self.source);
            for object in page.objects {
                self.told = true;
                self.sink.seen(object);
            }
            token = page.token;
            if token.is_none() {
                self.complete(page.version);
                return Duration::ZERO;
            }
        }
    }

    fn page_failed(&mut self, failure: &Failure) -> Duration {
        match failure {
            Failure::Said(said) if said.code == 404 => self.not_found(failure),
            // What the token stands for is too old to be read on.
            Failure::Said(said) if said.code == 410 => self.relist.next_but_first(),
            Failure::Said(said) if said.too_large && self.known.is_some() => {
                self.known = None;
                self.retry.next()
            }
            _ => self.fault("list", failure),
        }
    }

    /// Watches on from a version.
    async fn resume(&mut self, from: &str) -> Duration {
        match self.open(Start::After(from)).await {
            Ok(mut lines) => {
                let opened = Instant::now();
                let end = self.read(&mut lines, &mut false).await;
                self.ended(end, opened)
            }
            Err(failure) => self.watch_failed(&failure),
        }
    }

    async fn open(&mut self, start: Start<'_>) -> Result<Lines, Failure> {
        let seconds = rand::random_range(self.timing.watch.clone());
        let lines =
            wire::watch(&self.connection, &self.resource, self.version, start, seconds, self.timing.request).await?;
        self.exists();
        Ok(lines)
    }

    /// Reads a watch to its end. `initial` is true before the bookmark that ends the list in the stream.
    async fn read(&mut self, lines: &mut Lines, initial: &mut bool) -> End {
        let opened = Instant::now();
        let mut last = opened;
        loop {
            let dead = if *initial {
                (last + self.timing.initial_silence).min(opened + self.timing.initial)
            } else {
                last + self.timing.silence
            };
            let settled = opened + self.timing.settled;
            let settles = self.troubled && !*initial && settled < dead;
            let next = timeout_at(if settles { settled } else { dead }, lines.next()).await;
            let line = match next {
                Err(_) if settles => {
                    self.recovered();
                    continue;
                }
                Err(_) => return End::Silent,
                Ok(None) => return End::Closed,
                Ok(Some(Err(failure))) => return End::Broken(failure),
                Ok(Some(Ok(line))) => line,
            };
            let (version, event) = match wire::event::<T>(&self.resource, line) {
                Ok(read) => read,
                Err(failure) => return End::Failed(failure),
            };
            last = Instant::now();
            if *initial && last >= opened + self.timing.initial {
                return End::Silent;
            }
            if let Err(failure) = self.take(version, event, initial) {
                return End::Failed(failure);
            }
        }
    }

    /// Takes one event.
    fn take(&mut self, version: Option<Box<str>>, event: Event<T>, initial: &mut bool) -> Result<(), Failure> {
        if let Event::Failed(said) = event {
            return Err(Failure::Said(said));
        }
        self.board.heard(&self.source);
        self.retry.reset();
        match event {
            Event::Applied(object) => {
                self.told = true;
                match object {
                    Some(object) if *initial => self.sink.seen(object),
                    Some(object) => self.sink.applied(object),
                    None => {}
                }
            }
            Event::Deleted { namespace, name } => self.sink.deleted(&namespace, &name),
            Event::Bookmark { end: true } if *initial => {
                *initial = false;
                self.stream_faults = 0;
                let Some(version) = version else {
                    return Err(Failure::Garbled("a list in a stream without a version".to_owned()));
                };
                self.complete(version);
                return Ok(());
            }
            Event::Bookmark { .. } | Event::Failed(_) | Event::Other => {}
        }
        // Objects of a list come in any order, so their versions say nothing of how far it is.
        if !*initial {
            self.silent = 0;
            self.watch_faults = 0;
            self.relist.reset();
            self.recovered();
            if let Some(version) = version {
                self.known = Some(version.clone());
                self.at = Some(version);
            }
        }
        Ok(())
    }

    /// After a watch.
    fn ended(&mut self, end: End, opened: Instant) -> Duration {
        match end {
            End::Closed if opened.elapsed() >= self.timing.settled => {
                self.watch_faults = 0;
                Duration::ZERO
            }
            End::Closed => {
                let text = "the watch ends as soon as it begins".to_owned();
                self.cut(&Failure::Unreachable { text, credentials: false })
            }
            End::Broken(failure) => self.cut(&failure),
            End::Silent => {
                self.silent += 1;
                tracing::debug!(resource = self.resource.name(), at = self.at.as_deref(), "a watch is silent");
                // A version that the API server does not have yet, after a restore of its store, is silence forever.
                if self.silent > 1 {
                    self.silent = 0;
                    self.at = None;
                    self.known = None;
                }
                Duration::ZERO
            }
            End::Failed(failure) => self.watch_failed(&failure),
        }
    }

    /// A connection that broke is no trouble, if the next one holds.
    fn cut(&mut self, failure: &Failure) -> Duration {
        self.watch_faults += 1;
        if self.watch_faults >= REPEATED {
            return self.fault("watch", failure);
        }
        tracing::debug!(resource = self.resource.name(), ?failure, "a watch was cut");
        self.retry.next()
    }

    /// A watch, or the request for it, failed.
    fn watch_failed(&mut self, failure: &Failure) -> Duration {
        match failure.code() {
            404 => self.not_found(failure),
            410 => {
                self.at = None;
                self.relist.next_but_first()
            }
            code => {
                // Neither of these is about the version watched from.
                if matches!(failure, Failure::Said(_) | Failure::Garbled(_))
                    && !matches!(code, 401 | 403 | 429 | 502..=504)
                {
                    self.watch_faults += 1;
                    if self.watch_faults >= REPEATED || matches!(failure, Failure::Garbled(_)) {
                        self.at = None;
                    }
                }
                self.fault("watch", failure)
            }
        }
    }

    /// The resource, or this version of it, does not exist.
    fn not_found(&mut self, failure: &Failure) -> Duration {
        self.at = None;
        self.version = (self.version + 1) % self.resource.versions.len().max(1);
        self.tried += 1;
        if self.tried < self.resource.versions.len() {
            return Duration::ZERO;
        }
        self.tried = 0;
        if !self.resource.optional {
            return self.fault("list", failure);
        }
        let now = Instant::now();
        let (since, count) = self.missing.get_or_insert((now, 0));
        *count += 1;
        // Right after its start an API server does not know its custom resources yet.
        let persists = *count >= REPEATED && now.duration_since(*since) >= self.timing.missing;
        if self.told && !persists {
            return self.retry.next();
        }
        if !self.absent {
            (self.absent, self.told, self.known) = (true, false, None);
            self.sink.absent();
        }
        if !self.noted {
            (self.noted, self.troubled) = (true, true);
            let trouble = failure::missing(&self.resource, &self.source);
            tracing::info!("{}; {}", trouble.text, trouble.remedy);
            self.board.failed(&self.source, trouble);
        }
        jitter(self.timing.missing)
    }

    fn exists(&mut self) {
        (self.tried, self.missing, self.absent, self.noted) = (0, None, false, false);
    }

    /// Tells the board of a failure, and reads the credentials again if that may help.
    fn fault(&mut self, verb: &str, failure: &Failure) -> Duration {
        let server = self.connection.server();
        let mut trouble = failure.trouble(verb, &self.resource, &self.source, &server);
        if failure.wants_credentials()
            && let Err(error) = self.connection.renew()
        {
            trouble.text.push_str(&format!("; {}", error.what));
            trouble.remedy = error.remedy;
        }
        (self.troubled, self.noted, self.missing) = (true, false, None);
        let (name, cluster) = (self.resource.name(), &self.source.cluster);
        let line = format!("cannot {verb} {name} of cluster {cluster}: {}; {}", trouble.text, trouble.remedy);
        if self.board.failed(&self.source, trouble) {
            tracing::warn!("{line}");
        }
        let wanted = match failure {
            Failure::Said(said) => said.retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        self.retry.next().max(wanted.min(self.timing.retry_cap))
    }

    /// A list is complete.
    fn complete(&mut self, version: Box<str>) {
        self.sink.complete();
        (self.told, self.synced) = (true, true);
        self.known = Some(version.clone());
        self.at = Some(version);
        self.over();
    }

    /// What was told before is complete up to now again.
    fn recovered(&mut self) {
        if self.troubled && self.synced {
            self.over();
        }
    }

    fn over(&mut self) {
        self.troubled = false;
        if let Some(trouble) = self.board.complete(&self.source) {
            tracing::info!(cluster = %self.source.cluster, resource = self.resource.name(), "over: {}", trouble.text);
        }
    }
}
