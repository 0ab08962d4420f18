//! The thread that turns what sources tell into tables. It waits, applies and sleeps; queries never wait for it.

mod reports;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use super::source::Source;
use crate::admin::http::Admin;
use crate::histogram::Histogram;
use crate::memory;
use crate::mesh::object::Change;
use crate::mesh::settings::Settings;
use crate::table::keeper::Keeper;
use crate::watch::interfaces;
use crate::watch::kubernetes::Update;
use reports::ReportLog;

/// How often manifests are looked at; a change is live within a second (contract section 5).
const POLL: Duration = Duration::from_millis(250);
/// How often the node's own addresses are.
const INTERFACES: Duration = Duration::from_secs(5);
/// So many changes are applied at once at most, so that what comes first does not wait for too much.
const BATCH: usize = 10_000;
/// After so many changes at once it is worth the while to look for memory that is free now.
const MANY: usize = 5_000;

/// Other settings, and whom to tell that they are in force.
type Order = (Settings, oneshot::Sender<()>);

/// How the thread is given other settings.
#[derive(Clone, Debug)]
pub struct Orders(UnboundedSender<Order>);

impl Orders {
    /// Has tables built by these settings, and waits until new queries are answered by them. False if that cannot be: the
    /// thread has ended. Not to be called inside of a task.
    pub fn set(&self, settings: Settings) -> bool {
        let (done, is_done) = oneshot::channel();
        self.0.send((settings, done)).is_ok() && is_done.blocking_recv().is_ok()
    }
}

/// The running thread.
pub struct Feeder {
    stop: oneshot::Sender<()>,
    orders: Orders,
    thread: JoinHandle<Source>,
}

impl Feeder {
    /// Starts it.
    ///
    /// # Errors
    /// The system grants no thread.
    pub fn start(source: Source, keeper: Arc<Keeper>, admin: Arc<Admin>) -> std::io::Result<Self> {
        // Of its own, so that a change does not wait for a worker that answers queries.
        let clock = Builder::new_current_thread().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let reports = ReportLog::new(matches!(source, Source::Kubernetes(_)));
        let config = admin.config();
        let events = config.sources.kubernetes.as_ref().is_some_and(|kubernetes| kubernetes.events.are_written());
        let feed = Feed { keeper, propagation: Arc::clone(&admin.propagation), looked: None, reports, events };
        let (orders, ordered) = mpsc::unbounded_channel();
        let run = move || run(source, feed, &clock, (stopped, ordered), &admin);
        let thread = thread::Builder::new().name("feed".into()).spawn(run)?;
        Ok(Self { stop, orders: Orders(orders), thread })
    }

    /// How it is given other settings.
    pub fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// Ends it, and gives the source back, which goes on.
    pub fn stop(self) -> Option<Source> {
        drop(self.stop);
        self.thread.join().ok()
    }
}

/// How the thread is told to end, and given other settings.
type Told = (oneshot::Receiver<()>, UnboundedReceiver<Order>);

fn run(mut source: Source, mut feed: Feed, clock: &Runtime, mut told: Told, admin: &Admin) -> Source {
    let (mut first, mut order, mut closed) = (None, None, false);
    loop {
        // A half-applied state must not be built upon, and the last table is better than none.
        let turn = AssertUnwindSafe(|| feed.turn(&mut source, first.take(), order.take()));
        if catch_unwind(turn).is_err() {
            tracing::error!("objects are no longer read, because of the panic above; the last table is served");
            admin.stalled.store(true, Relaxed);
            return source;
        }
        let (updates, most) = match &mut source {
            Source::Manifests(_) => (None, POLL),
            Source::Kubernetes(kubernetes) => (Some(&mut kubernetes.updates).filter(|_| !closed), INTERFACES),
        };
        match clock.block_on(wait(updates, feed.due(most), &mut told)) {
            Came::Stop => return source,
            Came::Due => {}
            Came::Update(update) => first = Some(update),
            Came::Order(settings) => order = Some(settings),
            Came::Closed => {
                tracing::error!(
                    "API servers are no longer watched, because their thread has ended; the last table is served"
                );
                admin.stalled.store(true, Relaxed);
                closed = true;
            }
        }
    }
}

/// What has ended the wait.
#[derive(Debug)]
enum Came {
    Stop,
    Update(Update),
    Order(Order),
    /// Nothing comes any more.
    Closed,
    Due,
}

async fn wait(updates: Option<&mut UnboundedReceiver<Update>>, due: Duration, (stop, orders): &mut Told) -> Came {
    let next = async {
        match updates {
            Some(updates) => updates.recv().await.map_or(Came::Closed, Came::Update),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        _ = stop => Came::Stop,
        Some(order) = orders.recv() => Came::Order(order),
        came = next => came,
        () = tokio::time::sleep(due) => Came::Due,
    }
}

struct Feed {
    keeper: Arc<Keeper>,
    propagation: Arc<Histogram>,
    looked: Option<Instant>,
    reports: ReportLog,
    /// Reports become Kubernetes Events.
    events: bool,
}

impl Feed {
    fn turn(&mut self, source: &mut Source, first: Option<Update>, order: Option<Order>) {
        if let Some((settings, done)) = order {
            self.keeper.set_settings(settings);
            memory::give_back();
            // Who has asked for it may be gone.
            let _ = done.send(());
        }
        if let (Some(first), Source::Kubernetes(kubernetes)) = (first, &mut *source) {
            self.take(first, &mut kubernetes.updates);
        }
        if self.looked.is_none_or(|at| at.elapsed() >= INTERFACES) {
            // Where the system does not tell, the node has the addresses that it had.
            if let Ok(addresses) = interfaces::addresses() {
                self.keeper.set_node_addresses(addresses);
            }
            self.looked = Some(Instant::now());
        }
        if let Source::Manifests(directories) = source {
            let changes = directories.poll();
            if !changes.is_empty() {
                self.apply(changes);
            }
        }
        self.keeper.tick();
        if self.reports.look(&self.keeper)
            && let Source::Kubernetes(kubernetes) = source
            && self.events
        {
            kubernetes.reports.send_replace(self.reports.all());
        }
    }

    /// Applies an update, and with it those that wait already: what comes in a burst costs one table, and what comes alone
    /// waits for nothing.
    fn take(&mut self, first: Update, more: &mut UnboundedReceiver<Update>) {
        let Update { mut changes, received } = first;
        let mut told: Vec<Instant> = received.into_iter().collect();
        while changes.len() < BATCH {
            let Ok(Update { changes: next, received }) = more.try_recv() else { break };
            changes.extend(next);
            told.extend(received);
        }
        self.apply(changes);
        for received in told {
            self.propagation.observe(received.elapsed());
        }
    }

    fn apply(&self, changes: Vec<Change>) {
        let many = changes.len() >= MANY;
        self.keeper.apply(changes);
        if many {
            memory::give_back();
        }
    }

    /// How long nothing has to be done unless something comes, at most `most`.
    fn due(&self, most: Duration) -> Duration {
        let interfaces = self.looked.map_or(Duration::ZERO, |at| INTERFACES.saturating_sub(at.elapsed()));
        [self.keeper.next_tick(), self.reports.due()].into_iter().flatten().fold(most.min(interfaces), Duration::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::object::{Change, LOCAL, Namespace, Object};

    fn feed() -> Feed {
        let settings = Settings { clusters: vec!["cluster1".into()], ..Settings::default() };
        Feed {
            keeper: Arc::new(Keeper::new(settings)),
            propagation: Arc::default(),
            looked: None,
            reports: ReportLog::new(true),
            events: false,
        }
    }

    fn namespaces(names: std::ops::Range<usize>) -> Vec<Change> {
        let namespace =
            |n: usize| Object::Namespace(Namespace { name: format!("n{n}").into(), ..Namespace::default() });
        names.map(|n| Change::Apply { cluster: LOCAL, object: namespace(n), faults: Vec::new() }).collect()
    }

    fn told(changes: Vec<Change>) -> Update {
        Update { changes, received: Some(Instant::now()) }
    }

    #[test]
    fn what_comes_alone_is_applied_at_once_and_a_burst_as_one_batch() {
        let mut feed = feed();
        let (send, mut updates) = mpsc::unbounded_channel();
        let generation = |feed: &Feed| feed.keeper.snapshot().load().generation;
        let start = generation(&feed);
        feed.take(told(namespaces(0..1)), &mut updates);
        assert_eq!((generation(&feed), feed.propagation.read().count), (start + 1, 1));
        for n in 1..4 {
            send.send(told(namespaces(n..n + 1))).unwrap();
        }
        let listed = Update { changes: vec![Change::Synced { cluster: LOCAL }], received: None };
        send.send(listed).unwrap();
        let first = updates.try_recv().unwrap();
        feed.take(first, &mut updates);
        assert_eq!((generation(&feed), feed.propagation.read().count), (start + 2, 4), "lists are not counted");
        assert!(feed.keeper.snapshot().load().synced && updates.is_empty());
    }

    #[test]
    fn a_batch_has_a_bound() {
        let (mut feed, (send, mut updates)) = (feed(), mpsc::unbounded_channel());
        for n in 0..3 {
            send.send(told(namespaces(n * BATCH / 2..(n + 1) * BATCH / 2))).unwrap();
        }
        let first = updates.try_recv().unwrap();
        feed.take(first, &mut updates);
        assert_eq!(updates.len(), 1);
    }

    #[test]
    fn a_wait_ends_with_what_comes_first_and_the_end_before_all() {
        let clock = Builder::new_current_thread().enable_time().build().unwrap();
        let (send, mut updates) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let (orders, ordered) = mpsc::unbounded_channel();
        let mut told = (stopped, ordered);
        let (long, short) = (Duration::from_secs(600), Duration::from_millis(1));
        let came = clock.block_on(wait(Some(&mut updates), short, &mut told));
        assert!(matches!(came, Came::Due), "{came:?}");
        send.send(Update { changes: Vec::new(), received: None }).unwrap();
        let came = clock.block_on(wait(Some(&mut updates), long, &mut told));
        assert!(matches!(came, Came::Update(_)), "{came:?}");
        orders.send((Settings::default(), oneshot::channel().0)).unwrap();
        let came = clock.block_on(wait(Some(&mut updates), long, &mut told));
        assert!(matches!(came, Came::Order(_)), "{came:?}");
        drop((send, orders));
        let came = clock.block_on(wait(Some(&mut updates), long, &mut told));
        assert!(matches!(came, Came::Closed), "{came:?}");
        let came = clock.block_on(wait(None, short, &mut told));
        assert!(matches!(came, Came::Due), "{came:?}");
        drop(stop);
        let came = clock.block_on(wait(Some(&mut updates), long, &mut told));
        assert!(matches!(came, Came::Stop), "{came:?}");
    }
}
