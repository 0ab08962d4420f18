//! The TCP side: accept loops and the bounds on connections (R24).

mod connection;

use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use self::connection::Connection;
use super::handover::Succession;
use super::{Bounds, Context, Phase, Respond, Stats, add, reach};

/// The largest message: its length has two octets (RFC 1035 section 4.2.2).
const MESSAGE_OCTETS: usize = u16::MAX as usize;
/// Octets taken from a connection at a time.
const READ_OCTETS: usize = 16 << 10;
/// The pause of the accept loop when the system is out of descriptors or memory: the pending connection stays
/// pending, so that trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often the log says so.
const ACCEPT_WARNING: Duration = Duration::from_secs(60);

/// What all connections share.
pub(super) struct Tables<R: Respond> {
    registry: Arc<Registry>,
    idle: Duration,
    /// Scratch not in use. One is taken for as long as a thread answers without awaiting, so there are never more
    /// than runtime threads, however many connections there are.
    desks: Mutex<Vec<Desk<R>>>,
}

/// Scratch of a thread while it answers on a connection.
struct Desk<R: Respond> {
    worker: R::Worker,
    input: Box<[u8]>,
    answer: Box<[u8]>,
}

impl<R: Respond> Tables<R> {
    pub(super) fn new(idle: Duration, bounds: Arc<Bounds>, stats: Arc<Stats>) -> Self {
        let registry = Registry { start: Instant::now(), stats, bounds, open: Mutex::default() };
        Self { registry: Arc::new(registry), idle, desks: Mutex::default() }
    }

    fn desk(&self, respond: &R) -> Desk<R> {
        let free = lock(&self.desks).pop();
        free.unwrap_or_else(|| Desk {
            worker: respond.worker(),
            input: vec![0; READ_OCTETS].into(),
            answer: vec![0; MESSAGE_OCTETS].into(),
        })
    }

    fn give_back(&self, desk: Desk<R>) {
        lock(&self.desks).push(desk);
    }
}

/// A panic while a lock is held cannot leave these tables half changed, so poison is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connections that are open, and how many there may be.
struct Registry {
    start: Instant,
    stats: Arc<Stats>,
    bounds: Arc<Bounds>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    places: HashMap<u64, Arc<Place>>,
    clients: HashMap<IpAddr, usize>,
}

/// What others may know of a connection.
struct Place {
    id: u64,
    client: IpAddr,
    /// Microseconds from the registry's start to the last complete query or answer.
    active: AtomicU64,
    /// Queries on the general path; a connection that waits for us is not idle.
    in_flight: AtomicUsize,
    /// Somebody else gets the place.
    evicted: Notify,
}

impl Registry {
    /// Gives a new connection a place. At the bound of its client the client's own longest idle connection goes, at
    /// the bound of all the longest idle of all; if none of them is idle the new one gets no place, because the
    /// others are owed answers.
    fn admit(&self, client: IpAddr) -> Option<Arc<Place>> {
        let client = client.to_canonical();
        let mut open = lock(&self.open);
        // More than one has to go where a bound was lowered.
        while open.clients.get(&client).copied().unwrap_or(0) >= self.bounds.tcp_per_client.load(Relaxed) {
            self.evict(&mut open, Some(client))?;
        }
        while open.places.len() >= self.bounds.tcp_connections.load(Relaxed) {
            self.evict(&mut open, None)?;
        }
        let id = open.next;
        open.next += 1;
        let place = Arc::new(Place {
            id,
            client,
            active: AtomicU64::new(self.since_start(Instant::now())),
            in_flight: AtomicUsize::new(0),
            evicted: Notify::new(),
        });
        open.places.insert(id, place.clone());
        *open.clients.entry(client).or_default() += 1;
        self.count(&open);
        Some(place)
    }

    /// Closes the longest idle connection: the system has a bound of its own, and is at it.
    fn make_room(&self) {
        let _ = self.evict(&mut lock(&self.open), None);
    }

    /// Takes the place of the longest idle connection (of one client, or of all).
    fn evict(&self, open: &mut Open, of: Option<IpAddr>) -> Option<()> {
        let idle = open
            .places
            .values()
            .filter(|place| of.is_none_or(|client| place.client == client) && place.in_flight.load(Relaxed) == 0);
        let longest = idle.min_by_key(|place| place.active.load(Relaxed))?.clone();
        longest.evicted.notify_one();
        add(&self.stats.tcp_evicted);
        self.remove(open, &longest);
        Some(())
    }

    fn remove(&self, open: &mut Open, place: &Place) {
        if open.places.remove(&place.id).is_none() {
            return;
        }
        if let Some(count) = open.clients.get_mut(&place.client) {
            *count -= 1;
            if *count == 0 {
                open.clients.remove(&place.client);
            }
        }
        self.count(open);
    }

    fn count(&self, open: &Open) {
        self.stats.tcp_connections.store(open.places.len() as u64, Relaxed);
    }

    fn since_start(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_micros() as u64
    }
}

/// A place, given back at the end.
struct Seat {
    place: Arc<Place>,
    registry: Arc<Registry>,
    /// Who gets the connection when this process ends.
    succession: Arc<Succession>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.remove(&mut lock(&self.registry.open), &self.place);
    }
}

/// Starts the accept loop of a non-blocking listening socket. It ends with the phase of serving.
///
/// # Errors
/// The socket cannot be registered with the runtime.
pub(super) fn start<R: Respond>(
    context: Arc<Context<R>>,
    listener: std::net::TcpListener,
    succession: Arc<Succession>,
) -> io::Result<()> {
    let runtime = context.runtime.clone();
    let _entered = runtime.enter();
    let listener = TcpListener::from_std(listener)?;
    runtime.spawn(accept_all(context, listener, succession));
    Ok(())
}

/// Serves a connection that another process has accepted, and begun to read.
///
/// # Errors
/// The client is gone, or the socket cannot be registered with the runtime.
pub(super) fn adopt<R: Respond>(
    context: &Arc<Context<R>>,
    succession: &Arc<Succession>,
    stream: std::net::TcpStream,
    input: Vec<u8>,
) -> io::Result<()> {
    let _entered = context.runtime.enter();
    let from = stream.peer_addr()?;
    stream.set_nonblocking(true)?;
    welcome(context, succession, (TcpStream::from_std(stream)?, from), input);
    Ok(())
}

async fn accept_all<R: Respond>(context: Arc<Context<R>>, listener: TcpListener, succession: Arc<Succession>) {
    let mut phase = context.phase.clone();
    let mut said: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            _ = reach(&mut phase, |phase| phase != Phase::Serve) => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => welcome(&context, &succession, accepted, Vec::new()),
                Err(error) => {
                    add(&context.stats.accept_errors);
                    if !of_the_connection(&error) {
                        if said.is_none_or(|at| at.elapsed() >= ACCEPT_WARNING) {
                            said = Some(Instant::now());
                            tracing::warn!(%error, "TCP connections cannot be accepted; the longest idle ones are closed");
                        }
                        context.tcp.registry.make_room();
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            },
        }
    }
    // Another process takes what comes.
    if succession.is_taken() {
        return;
    }
    // Connections the kernel has completed already may carry queries.
    while let Some(Ok(accepted)) = poll_fn(|cx| {
        Poll::Ready(match listener.poll_accept(cx) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        })
    })
    .await
    {
        welcome(&context, &succession, accepted, Vec::new());
    }
}

/// Errors of the connection that was to be accepted, which is gone then; the next one may be fine. Linux passes on
/// network errors of the new socket as well (accept(2)).
fn of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
    ) || error.raw_os_error() == Some(libc::EPROTO)
}

fn welcome<R: Respond>(
    context: &Arc<Context<R>>,
    succession: &Arc<Succession>,
    (stream, from): (TcpStream, SocketAddr),
    input: Vec<u8>,
) {
    let registry = &context.tcp.registry;
    let Some(place) = registry.admit(from.ip()) else {
        add(&context.stats.tcp_refused);
        return;
    };
    add(&context.stats.tcp_accepted);
    // Without it an answer could wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let seat = Seat { place, registry: registry.clone(), succession: succession.clone() };
    context.runtime.spawn(Connection::new(context.clone(), (stream, from), seat, input).run());
}

#[cfg(test)]
mod tests;
