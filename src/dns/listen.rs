//! Sockets: batched UDP workers and the TCP accept loop, both in front of one [`Respond`].
//!
//! UDP is answered on plain threads, one SO_REUSEPORT socket each, TCP on the tokio runtime. Nothing here knows DNS
//! beyond the two octets of length before a message on TCP (RFC 1035 section 4.2.2).
//!
//! ```text
//! bind      opens the sockets of an address; `handover` gets them from the process that is replaced, and gives them on
//! post      an address: its sockets, and the threads that read them; `threads` is how those are woken
//! bounds    how much there may be at a time
//! udp       the workers; `mmsg` is their system calls
//! floods    one caller does not slow another; `steer` is which socket the kernel gives a datagram to
//! pulse     whether workers get on
//! tcp       connections
//! ```

mod bind;
mod bounds;
mod error;
mod floods;
mod handover;
pub(super) mod mmsg;
pub(super) mod outbox;
mod post;
pub mod pulse;
mod steer;
mod tcp;
#[cfg(test)]
mod testing;
mod threads;
mod udp;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::moment::Moment;

use bind::Bound;
pub use error::ListenError;
use floods::{Groups, Guard};
use handover::{Door, Place};
use outbox::{Address, Letter};
use post::{Post, Posted};
use pulse::Pulses;

pub use bounds::Bounds;

/// How a query came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// A frame of a TCP connection.
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// What [`Respond::respond`] made of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The first octets of the output, this many, are the answer.
    Reply(usize),
    /// No answer.
    Drop,
    /// The general path has to answer: [`Respond::later`].
    Later,
}

/// What answers the queries that the sockets receive.
pub trait Respond: Send + Sync + 'static {
    /// Scratch of one worker: counters, rotation, the snapshot it holds. There is one per UDP worker and, for TCP,
    /// one per runtime thread that ever answered at the same time as others. Those of spare UDP workers come and go; no
    /// other is dropped before the listener.
    type Worker: Send;

    /// Makes the scratch of a worker.
    fn worker(&self) -> Self::Worker;

    /// What a worker is asked from now on came at once, and it is `now`: no clock need be read for it before
    /// [`Respond::end`]. A worker that is never told so is asked things that came one by one; nobody knows how long that takes.
    fn begin(&self, _worker: &mut Self::Worker, _now: Moment) {}

    /// How many queries of a batch are read before the first of them is answered.
    const AHEAD: usize = 0;

    /// Reads the query at a place of the batch, at most [`Respond::AHEAD`] places before the next one that is answered. Places
    /// are read in order, each once, and answered in order. Bound by what [`Respond::answer`] is bound by; a panic costs the
    /// query its answer and nothing else.
    fn read(&self, _worker: &mut Self::Worker, _place: usize, _query: &[u8]) {}

    /// What the query at this place needs, which was just read, may be fetched. It is read ahead of its turn, or answered next.
    /// Nothing depends on it.
    fn fetch(&self, _worker: &mut Self::Worker, _place: usize, _ahead: bool) {}

    /// All that came at once was asked, and what was answered is sent: what [`Respond::depart`] has started may leave.
    fn end(&self, _worker: &mut Self::Worker) {}

    /// Answers the query that was read at this place, on the receive path. Must not block, allocate, lock or log. `out` has 1536
    /// octets for UDP and 65,535 for TCP. A panic costs the query its answer and nothing else.
    fn answer(
        &self,
        worker: &mut Self::Worker,
        place: usize,
        query: &[u8],
        from: SocketAddr,
        transport: Transport,
        out: &mut [u8],
    ) -> Outcome;

    /// Reads and answers a query that comes alone.
    fn respond(
        &self,
        worker: &mut Self::Worker,
        query: &[u8],
        from: SocketAddr,
        transport: Transport,
        out: &mut [u8],
    ) -> Outcome {
        self.read(worker, 0, query);
        self.answer(worker, 0, query, from, transport, out)
    }

    /// The general path, in a task of its own; `None` means no answer. It has to end by itself in bounded time.
    fn later(
        &self,
        query: Vec<u8>,
        from: SocketAddr,
        transport: Transport,
    ) -> impl Future<Output = Option<Vec<u8>>> + Send;

    /// Starts what [`Respond::later`] would do without a task, for a query that [`Respond::answer`] has just left over: `back`
    /// then gets the answer when it is there, on any thread. Called inside the runtime; must not block.
    ///
    /// # Errors
    /// `back`, if it takes a task.
    fn depart(
        self: &Arc<Self>,
        _worker: &mut Self::Worker,
        _query: &[u8],
        _from: SocketAddr,
        _transport: Transport,
        back: Back,
    ) -> Result<(), Back> {
        Err(back)
    }

    /// The answer (SERVFAIL) when the general path is full: the size written to `out`, or 0 for none.
    fn overloaded(&self, query: &[u8], out: &mut [u8]) -> usize;
}

/// Where to listen and within which bounds.
#[derive(Clone, Debug)]
pub struct Options {
    /// UDP and TCP both; port 0 takes a free port, see [`Listener::addresses`]. `::` is IPv6 only.
    pub addresses: Vec<SocketAddr>,
    /// UDP workers per address; 0 means one per core. As many more threads sleep until a caller floods.
    pub workers: usize,
    /// TCP connections in total; beyond it the longest idle one is closed.
    pub tcp_connections: usize,
    /// TCP connections of one source address; beyond it that client's own longest idle one is closed.
    pub tcp_per_client: usize,
    /// How long a TCP connection may go without a complete query or a sent answer.
    pub tcp_idle: Duration,
    /// Queries on the general path at a time, UDP and TCP together.
    pub later_inflight: usize,
}

/// What the sockets count themselves. All but the first two are totals since the start, and none is touched by a UDP
/// query that is answered in place.
#[derive(Debug, Default)]
pub struct Stats {
    /// TCP connections now.
    pub tcp_connections: AtomicU64,
    /// Callers now that flood, and are answered apart from others.
    pub callers_apart: AtomicU64,
    /// How often a caller was set apart.
    pub floods: AtomicU64,
    /// TCP connections accepted.
    pub tcp_accepted: AtomicU64,
    /// Idle TCP connections closed to make room for a new one.
    pub tcp_evicted: AtomicU64,
    /// TCP connections refused because at the bound none was idle.
    pub tcp_refused: AtomicU64,
    /// TCP connections closed after the idle time, an unfinished query included.
    pub tcp_idle_closed: AtomicU64,
    /// TCP connections closed because the client did not read its answers.
    pub tcp_write_timeouts: AtomicU64,
    /// Errors of `accept`.
    pub accept_errors: AtomicU64,
    /// Datagrams that were cut at the buffer's end.
    pub udp_truncated: AtomicU64,
    /// Datagrams from port 0, which get no answer.
    pub udp_port_zero: AtomicU64,
    /// Queries turned away because the general path was full.
    pub overloaded: AtomicU64,
    /// Panics of a responder, each the loss of one query.
    pub panics: AtomicU64,
    /// Answers that could not be sent.
    pub send_errors: AtomicU64,
    /// Errors of `recvmmsg`.
    pub receive_errors: AtomicU64,
    /// Whether UDP workers get on; what they write of it is their own.
    pub pulses: Pulses,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// How far the end of a listener is. That its sockets are another process's too is no phase: they are read all the same, and
/// only the end is another one then ([`handover`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Serving.
    Serve,
    /// Nothing new is taken, what is in flight is answered.
    Drain,
    /// What is in flight is given up.
    Abort,
}

/// What workers, connections and tasks share. Each holds a reference; the last one to go ends [`Listener::stop`].
struct Context<R: Respond> {
    respond: Arc<R>,
    stats: Arc<Stats>,
    runtime: Handle,
    bounds: Arc<Bounds>,
    phase: watch::Receiver<Phase>,
    tcp: tcp::Tables<R>,
    floods: mpsc::Sender<floods::Seen>,
    _alive: mpsc::Sender<()>,
}

/// What is done with an answer.
enum Done {
    /// It leaves by a socket of UDP; that there is none needs nothing.
    Datagram(Address),
    /// Somebody takes it, or learns that there is none.
    Told(Box<dyn FnOnce(Option<Vec<u8>>) + Send>),
}

/// Whom an answer on the general path is owed to: as long as it is there the listener has not ended.
trait Owner: Send + Sync {
    fn stats(&self) -> &Stats;
    /// A place on the general path is free again.
    fn leave(&self);
}

/// The way back to who asked, and a place on the general path. Whatever becomes of it, answered, dropped by a panic or given
/// up, the asker's connection is told exactly once.
pub struct Back {
    done: Option<Done>,
    owner: Arc<dyn Owner>,
}

impl Back {
    /// Sends the answer; `None` means none.
    pub fn answer(mut self, answer: Option<Vec<u8>>) {
        self.tell(answer);
    }

    fn tell(&mut self, answer: Option<Vec<u8>>) {
        match (self.done.take(), answer) {
            (Some(Done::Datagram(address)), Some(answer)) => {
                outbox::post(Letter { address, answer, owner: Arc::clone(&self.owner) });
            }
            (Some(Done::Told(tell)), answer) => tell(answer),
            (Some(Done::Datagram(_)), None) | (None, _) => {}
        }
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        if thread::panicking() {
            add(&self.owner.stats().panics);
        }
        self.tell(None);
        self.owner.leave();
    }
}

impl<R: Respond> Owner for Context<R> {
    fn stats(&self) -> &Stats {
        &self.stats
    }

    fn leave(&self) {
        self.bounds.leave();
    }
}

impl<R: Respond> Context<R> {
    /// Starts the general path for a query, unless it is full. `done` then happens exactly once.
    fn later(
        self: &Arc<Self>,
        worker: &mut R::Worker,
        query: &[u8],
        (from, transport): (SocketAddr, Transport),
        done: Done,
    ) -> bool {
        if !self.bounds.enter() {
            add(&self.stats.overloaded);
            return false;
        }
        let back = Back { done: Some(done), owner: self.clone() };
        let Err(back) = self.respond.depart(worker, query, from, transport, back) else { return true };
        let (context, query) = (self.clone(), query.to_vec());
        self.runtime.spawn(async move {
            tokio::select! {
                biased;
                answer = context.respond.later(query, from, transport) => back.answer(answer),
                () = aborted(context.phase.clone()) => {}
            }
        });
        true
    }
}

async fn aborted(mut phase: watch::Receiver<Phase>) {
    reach(&mut phase, |phase| phase == Phase::Abort).await;
}

/// Waits for a phase. A listener that is gone is an end as well.
async fn reach(phase: &mut watch::Receiver<Phase>, wanted: impl Fn(Phase) -> bool) -> Phase {
    phase.wait_for(|phase| wanted(*phase)).await.map_or(Phase::Abort, |phase| *phase)
}

/// The open sockets and everything that runs on them. Dropping it gives up what is in flight.
pub struct Listener {
    addresses: Vec<SocketAddr>,
    stats: Arc<Stats>,
    bounds: Arc<Bounds>,
    posts: Vec<Arc<dyn Posted>>,
    is_inherited: bool,
    door: Option<Door>,
    phase: watch::Sender<Phase>,
    alive: mpsc::Receiver<()>,
}

impl Listener {
    /// Opens all sockets and starts to answer; TCP and the general path run on `runtime`. Sockets of an address that another
    /// segdns serves are taken over from it ([`handover`]), and are not read before [`Listener::serve`].
    ///
    /// # Errors
    /// [`ListenError`] if an address cannot be had; then nothing is left open.
    pub fn start<R: Respond>(options: Options, respond: Arc<R>, runtime: Handle) -> Result<Self, ListenError> {
        if options.addresses.is_empty() {
            return Err(ListenError::NoAddress);
        }
        threads::prepare().map_err(|error| ListenError::Thread(error.into()))?;
        let workers = match options.workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let opened = options.addresses.iter().map(|address| open(*address, 2 * workers));
        let opened = opened.collect::<Result<Vec<_>, _>>()?;
        let (phase, seen) = watch::channel(Phase::Serve);
        let (alive, ended) = mpsc::channel(1);
        let stats = Arc::new(Stats::default());
        let bounds = Arc::new(Bounds::new(&options));
        let (floods, seen_floods) = mpsc::channel(floods::REPORTS);
        let context = Arc::new(Context {
            respond,
            stats: stats.clone(),
            bounds: bounds.clone(),
            phase: seen,
            tcp: tcp::Tables::new(options.tcp_idle, bounds.clone(), stats.clone()),
            floods,
            runtime,
            _alive: alive,
        });
        let (addresses, groups) = (opened.iter().map(|(bound, _)| bound.address).collect(), Groups::default());
        let is_inherited = opened.iter().any(|(_, inherited)| inherited.is_some());
        // From here on an error drops the listener, which stops what has been started.
        let mut listener =
            Self { addresses, stats, bounds, posts: Vec::new(), is_inherited, door: None, phase, alive: ended };
        let mut places: Vec<(Arc<dyn Place>, _)> = Vec::new();
        for (place, (bound, inherited)) in opened.into_iter().enumerate() {
            let waits = inherited.is_some();
            let post = Arc::new(Post::new(context.clone(), bound, waits, workers, place, groups.clone()));
            listener.posts.push(post.clone());
            if !waits {
                post.serve()?;
            }
            places.push((post, inherited));
        }
        context.runtime.spawn(Guard::new(groups, context.stats.clone()).run(seen_floods));
        listener.door = Some(Door::open(places).map_err(ListenError::Thread)?);
        Ok(listener)
    }

    /// Reads also the sockets that were taken over, from now on: whoever answers is ready. It happens by itself if the process
    /// that they were taken over from leaves or dies.
    ///
    /// # Errors
    /// [`ListenError`] if the system grants no threads, or TCP cannot be served.
    pub fn serve(&self) -> Result<(), ListenError> {
        self.posts.iter().try_for_each(|post| post.serve())?;
        self.door.iter().for_each(Door::look);
        Ok(())
    }

    /// Whether sockets were taken over from another process.
    pub fn is_inherited(&self) -> bool {
        self.is_inherited
    }

    /// Whether another process reads all sockets of this one, so that nobody misses it: a newcomer that has taken them over, or
    /// the old one as long as this one only waits.
    pub fn succeeded(&self) -> watch::Receiver<bool> {
        self.door.as_ref().map_or_else(|| watch::channel(false).1, Door::succeeded)
    }

    /// The addresses listened on, in the order asked, with the ports really given.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The counters; they may be kept beyond the listener.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// How much there may be at a time; may be changed while it serves.
    pub fn bounds(&self) -> &Arc<Bounds> {
        &self.bounds
    }

    /// Stops: nothing new is accepted, and what is on the general path is answered. What the sockets hold is left to the
    /// process that has taken them over, and so are TCP connections after their current answers. Without such a process what
    /// the sockets already hold is answered, and TCP connections are closed after their answers. What is not done after
    /// `limit` is given up. Says whether all was done.
    pub async fn stop(mut self, limit: Duration) -> bool {
        self.enter(Phase::Drain);
        tokio::time::timeout(limit, self.alive.recv()).await.is_ok()
    }

    fn enter(&mut self, phase: Phase) {
        // Before anything else, so that all know whether they were taken over.
        self.door = None;
        self.posts.drain(..).for_each(|post| post.end());
        self.phase.send_replace(phase);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.enter(Phase::Abort);
    }
}

/// The sockets of an address, taken over or opened.
fn open(address: SocketAddr, count: usize) -> Result<(Bound, Option<handover::Ours>), ListenError> {
    match handover::inherit(address) {
        Some((bound, ours)) => Ok((bound, Some(ours))),
        None => Ok((bind::bind(address, count)?, None)),
    }
}

#[cfg(test)]
mod tests;
