//! Callers beside one that floods: what they ask does not wait behind it, and nobody is answered otherwise than before.

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::client::{Client, Proto};
use support::objects::{namespace, pod, segment, service, slice, write};
use support::server::{Server, http_get};
use support::steady::until;
use support::{HERE, free_port, wire};
use tempfile::TempDir;

const GREEDY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 34, 0, 1));
const MODEST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 34, 0, 2));
/// One that both see, one that only the greedy one sees, and one that nobody has.
const NAMES: [&str; 3] = ["web.shop.mesh.acme", "till.shop.mesh.acme", "nosuch.shop.mesh.acme"];
/// What the greedy caller has in flight, of several sockets.
const WINDOW: usize = 1000;
const SOCKETS: usize = 10;
/// How long is measured.
const LASTS: Duration = Duration::from_secs(2);
/// In which a flood has to be noticed.
const NOTICED: Duration = Duration::from_secs(10);
/// In which a caller comes back after one: the server waits for 10 s.
const BACK: Duration = Duration::from_secs(25);

struct Lab {
    /// What one test measures, the flood of the other must not be in the way of.
    _turn: MutexGuard<'static, ()>,
    _dir: TempDir,
    server: Server,
    at: SocketAddr,
}

impl Lab {
    fn start() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), "segments.yaml", &[segment("acme", "mesh.acme"), segment("other", "mesh.other")]);
        let spaces = [("istio-system", "acme"), ("shop", "acme"), ("guests", "other")];
        write(dir.path(), "namespaces.yaml", &spaces.map(|(name, segment)| namespace(name, Some(segment))));
        let services = [
            service("shop", "web", "global", "10.0.0.1"),
            slice("shop", "web", "10.1.0.1"),
            service("shop", "till", "segment", "10.0.0.2"),
            slice("shop", "till", "10.1.0.2"),
        ];
        write(dir.path(), "services.yaml", &services);
        write(dir.path(), "pods.yaml", &[pod("shop", "greedy", GREEDY), pod("guests", "modest", MODEST)]);
        let at = SocketAddr::new(HERE, free_port());
        let config = json!({
            "listen": [at],
            "admin": SocketAddr::new(HERE, free_port()),
            "cluster": {"name": "here"},
            "sources": {"manifests": [{"cluster": "here", "path": dir.path()}]},
            "forward": [],
            // One queue for everybody, as it would be with more workers that are all busy.
            "limits": {"workers": 1},
            "drain": {"lameduck": "0s", "deadline": "2s"},
        });
        let server = Server::start(&config).expect("a server");
        Client::default().until(MODEST, at, NAMES[0], (0, &["10.0.0.1"]), Duration::from_secs(10));
        Self { _turn: turn, _dir: dir, server, at }
    }

    /// What this caller is answered to [`NAMES`], without the ID.
    fn answers(&self, from: IpAddr) -> Vec<Vec<u8>> {
        let ask = |name| Client::default().ask(from, self.at, Proto::Udp, &wire::query(0, name, 1, true));
        NAMES.iter().map(|name| ask(name).expect("an answer")[2..].to_vec()).collect()
    }

    fn metric(&self, line: &str) -> u64 {
        let (_, text) = http_get(self.server.admin(), "/metrics").expect("metrics");
        let value = text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {line} in {text}"))
    }

    fn apart(&self) -> u64 {
        self.metric("segdns_callers_apart ")
    }
}

/// Callers that keep so many questions in flight, all together, until they are ended; each answer has to be the expected one.
struct Greedy {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<Duration>>,
}

/// A question in flight: which of [`NAMES`], and since when.
type Pending = Option<(usize, Instant)>;

impl Greedy {
    fn start(callers: &[IpAddr], window: usize, lab: &Lab) -> Self {
        let own = |from: &IpAddr| {
            let socket = UdpSocket::bind(SocketAddr::new(*from, 0)).expect("a socket");
            socket.connect(lab.at).expect("connected");
            socket.set_nonblocking(true).expect("not blocking");
            (socket, vec![Pending::None; window / callers.len()])
        };
        let mut sockets: Vec<_> = callers.iter().map(own).collect();
        let expected = lab.answers(callers[0]);
        let over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut took = Vec::new();
            while !end.load(Relaxed) {
                for (socket, pending) in &mut sockets {
                    step(socket, pending, &expected, &mut took);
                }
            }
            took
        });
        Self { over, thread }
    }

    /// How long each question took, sorted.
    fn end(self) -> Vec<Duration> {
        self.over.store(true, Relaxed);
        let mut took = self.thread.join().expect("every answer was as it had to be");
        took.sort_unstable();
        took
    }
}

/// Takes what has come, and asks again in its place.
fn step(socket: &UdpSocket, pending: &mut [Pending], expected: &[Vec<u8>], took: &mut Vec<Duration>) {
    let mut buffer = [0; 1500];
    while let Ok(length) = socket.recv(&mut buffer) {
        let place = usize::from(u16::from_be_bytes([buffer[0], buffer[1]]));
        let (name, sent) = pending[place].take().expect("it was asked, once");
        assert_eq!(buffer[2..length], expected[name], "{}", NAMES[name]);
        took.push(sent.elapsed());
    }
    for (place, pending) in pending.iter_mut().enumerate() {
        // What was lost, with a full buffer somewhere, would be missed for ever.
        if pending.is_none_or(|(_, sent)| sent.elapsed() > Duration::from_secs(2)) {
            let name = place % NAMES.len();
            let id = u16::try_from(place).expect("a window of 16 bits");
            if socket.send(&wire::query(id, NAMES[name], 1, true)).is_ok() {
                *pending = Some((name, Instant::now()));
            }
        }
    }
}

/// How long each question of the modest caller took, sorted; one every 2 ms, and each is answered as before.
fn modest(lab: &Lab, expected: &[Vec<u8>]) -> Vec<Duration> {
    let socket = UdpSocket::bind(SocketAddr::new(MODEST, 0)).expect("a socket");
    socket.connect(lab.at).expect("connected");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let (mut took, begun, mut buffer) = (Vec::new(), Instant::now(), [0; 1500]);
    while begun.elapsed() < LASTS {
        let id = u16::try_from(took.len() % 60_000).expect("16 bits");
        let name = took.len() % NAMES.len();
        let start = Instant::now();
        socket.send(&wire::query(id, NAMES[name], 1, true)).expect("sent");
        let length = socket.recv(&mut buffer).expect("an answer in time");
        took.push(start.elapsed());
        assert_eq!((&buffer[..2], &buffer[2..length]), (&id.to_be_bytes()[..], &expected[name][..]));
        thread::sleep(Duration::from_millis(2));
    }
    took.sort_unstable();
    took
}

fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

#[test]
fn a_caller_does_not_wait_behind_one_that_floods_which_comes_back_when_it_is_calm() {
    let lab = Lab::start();
    let before = [lab.answers(GREEDY), lab.answers(MODEST)];
    assert_ne!(before[0], before[1], "they do not see the same");
    let alone = modest(&lab, &before[1]);
    assert_eq!((lab.apart(), lab.metric("segdns_floods_total ")), (0, 0));

    let greedy = Greedy::start(&[GREEDY; SOCKETS], WINDOW, &lab);
    until("the flood is noticed", NOTICED, || lab.apart() == 1);
    let beside = modest(&lab, &before[1]);
    let queued = greedy.end();
    let [alone, beside, flooding] = [&alone, &beside, &queued].map(|took| median(took));
    println!("median of the modest caller {alone:?} alone, {beside:?} beside one whose own is {flooding:?}");
    assert!(beside < flooding / 2, "{beside:?} beside a caller that waits for {flooding:?}");

    until("the caller is calm", BACK, || lab.apart() == 0);
    assert_eq!([lab.answers(GREEDY), lab.answers(MODEST)], before);
    assert_eq!(lab.metric("segdns_floods_total "), 1);
    let log = lab.server.log();
    for line in ["floods: answered apart from others", "floods no more: answered like others again"] {
        let said = log.lines().filter(|l| l.contains(line) && l.contains(&GREEDY.to_string())).count();
        assert_eq!(said, 1, "{line}: {log}");
    }
    lab.server.stop().expect("a clean end");
}

#[test]
fn many_callers_that_keep_the_server_busy_together_are_left_alone() {
    let lab = Lab::start();
    // Of nobody's pods, so the node's own.
    let callers: Vec<IpAddr> = (1..=64).map(|last| Ipv4Addr::new(127, 34, 1, last).into()).collect();
    let greedy = Greedy::start(&callers, WINDOW, &lab);
    thread::sleep(LASTS);
    let took = greedy.end();
    assert!(took.len() > WINDOW, "{} answers", took.len());
    assert_eq!((lab.apart(), lab.metric("segdns_floods_total ")), (0, 0));
    lab.server.stop().expect("a clean end");
}
