//! A responder for the tests: the first octet of a query says what becomes of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Listener, Options, Outcome, Respond, Transport};

/// What every wait of a test is bounded by.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// `d`: dropped. `p`: panics. `r`: panics when it is read. `w`: the UDP worker waits for `wake`. `l`: later, at once. `s`: later, when `release` has a
/// permit. `x`: later, panics. Anything else is echoed.
pub(super) struct Echo {
    pub(super) started: Semaphore,
    pub(super) release: Semaphore,
    pub(super) wake: mpsc::SyncSender<()>,
    /// Workers that were made.
    pub(super) made: AtomicUsize,
    /// Those that are there.
    pub(super) present: Arc<AtomicUsize>,
    waiting: Mutex<mpsc::Receiver<()>>,
}

impl Echo {
    pub(super) fn new() -> Arc<Self> {
        let (wake, waiting) = mpsc::sync_channel(1);
        Arc::new(Self {
            started: Semaphore::new(0),
            release: Semaphore::new(0),
            wake,
            made: AtomicUsize::new(0),
            present: Arc::default(),
            waiting: Mutex::new(waiting),
        })
    }
}

/// A worker's scratch, counted for as long as it is there, and what was read at each place.
pub(super) struct Present {
    all: Arc<AtomicUsize>,
    read: [Vec<u8>; 4],
}

impl Drop for Present {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Relaxed);
    }
}

impl Respond for Echo {
    type Worker = Present;

    const AHEAD: usize = 2;

    fn worker(&self) -> Present {
        self.made.fetch_add(1, Relaxed);
        self.present.fetch_add(1, Relaxed);
        Present { all: self.present.clone(), read: Default::default() }
    }

    fn read(&self, worker: &mut Present, place: usize, query: &[u8]) {
        let read = &mut worker.read[place % 4];
        read.clear();
        assert!(query.first() != Some(&b'r'), "asked to");
        read.extend(query);
    }

    fn answer(
        &self,
        worker: &mut Present,
        place: usize,
        query: &[u8],
        _: SocketAddr,
        over: Transport,
        out: &mut [u8],
    ) -> Outcome {
        if worker.read[place % 4] != query {
            assert!(query.first() == Some(&b'r'), "{query:?} was not read");
            return Outcome::Drop;
        }
        match query.first() {
            Some(b'd') => return Outcome::Drop,
            Some(b'p') => panic!("asked to"),
            Some(b'w') if over == Transport::Udp => self.waiting.lock().unwrap().recv_timeout(PATIENCE).unwrap(),
            Some(b'l' | b's' | b'x') => return Outcome::Later,
            _ => {}
        }
        let len = query.len().min(out.len());
        out[..len].copy_from_slice(&query[..len]);
        Outcome::Reply(len)
    }

    async fn later(&self, query: Vec<u8>, _: SocketAddr, _: Transport) -> Option<Vec<u8>> {
        self.started.add_permits(1);
        match query[0] {
            b's' => self.release.acquire().await.unwrap().forget(),
            b'x' => panic!("asked to"),
            _ => {}
        }
        Some(query)
    }

    fn overloaded(&self, query: &[u8], out: &mut [u8]) -> usize {
        out[..query.len()].copy_from_slice(query);
        out[0] = b'O';
        query.len()
    }
}

pub(super) fn options(address: &str) -> Options {
    Options {
        addresses: vec![address.parse().unwrap()],
        workers: 1,
        tcp_connections: 100,
        tcp_per_client: 50,
        tcp_idle: PATIENCE,
        later_inflight: 100,
    }
}

pub(super) fn listen(options: Options, echo: &Arc<Echo>) -> Listener {
    Listener::start(options, echo.clone(), Handle::current()).unwrap()
}

/// Waits for what has to become so.
pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let all = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("never: {what}"));
}
