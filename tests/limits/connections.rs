//! Ten thousand TCP connections that do nothing.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::server::Server;
use super::support::steady::{metric, until};
use super::{Lab, MOMENTS, SHOP, WEB, ask_on, connect, quick};

/// So many, and of one caller (`limits.tcpPerClient`).
const MANY: usize = 10_000;
const EACH: usize = 50;
/// What is as many as `limits.tcpConnections` says if nothing else is said.
const DEFAULT: usize = 1000;
/// How long a connection may do nothing (R24).
const IDLE: Duration = Duration::from_secs(10);
/// What the server may need for a connection that does nothing, octets.
const COST: u64 = 4096;

/// Opens them, the first first.
fn open(at: SocketAddr, count: usize) -> Vec<TcpStream> {
    let caller = |n: usize| IpAddr::V4(Ipv4Addr::from(0x7f23_0001 + u32::try_from(n / EACH).expect("few")));
    (0..count).map(|n| connect(caller(n), at)).collect()
}

/// Whether the server has closed it; nothing else can be read from it.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("an option");
    let read = (&*stream).read(&mut [0]);
    stream.set_nonblocking(false).expect("an option");
    match read {
        Ok(0) => true,
        Ok(_) => panic!("an answer to no question"),
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

fn held(server: &Server) -> usize {
    metric(server, "segdns_tcp_connections", &[]) as usize
}

/// Room for one test's connections, whose ends are here: they have their turn. The hard limit is the server's, too.
fn room() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    use nix::sys::resource::{Resource::RLIMIT_NOFILE, getrlimit, setrlimit};
    let want = MANY as u64 + 2000;
    let (_, hard) = getrlimit(RLIMIT_NOFILE).expect("a limit");
    let _ = setrlimit(RLIMIT_NOFILE, hard.max(want), hard.max(want));
    let (_, hard) = getrlimit(RLIMIT_NOFILE).expect("a limit");
    setrlimit(RLIMIT_NOFILE, hard, hard).expect("the soft limit can be raised");
    assert!(hard >= want, "this test needs {want} open files, and {hard} are granted: raise ulimit -Hn");
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn ten_thousand_idle_connections_are_held_if_they_may_be_and_slow_nobody() {
    let _turn = room();
    let lab = Lab::new(&json!({"limits": {"tcpConnections": 20_000}}));
    let server = lab.start();
    let before = server.resident();
    let begun = Instant::now();
    let mut all = open(lab.at, MANY);
    println!("{MANY} connections within {:.1?}", begun.elapsed());
    until("all accepted", MOMENTS, || held(&server) == MANY);
    let cost = server.resident().saturating_sub(before) / MANY as u64;
    println!("a connection costs {cost} octets");
    assert!(cost < COST, "a connection that does nothing costs {cost} octets");
    quick(lab.at, SHOP, WEB, Duration::from_secs(1));
    assert!(begun.elapsed() < IDLE, "this machine is too slow to tell what is idle for too long");
    for stream in all.iter_mut().step_by(MANY / 100) {
        assert_eq!(ask_on(stream, WEB).expect("it is still open"), 0);
    }
    let answered = Instant::now();
    let calm = |n: &usize| !n.is_multiple_of(MANY / 100);
    until("the idle ones closed", IDLE + MOMENTS, || held(&server) <= 100);
    assert!(answered.elapsed() + Duration::from_secs(2) > IDLE.saturating_sub(answered - begun), "too early");
    until("all of them closed", IDLE + MOMENTS, || held(&server) == 0);
    assert!((0..MANY).filter(calm).all(|n| is_closed(&all[n])));
    // The allocator gives back what has been free for 10 s, while it is used.
    let kept = || server.resident().saturating_sub(before);
    until("less than 16 MiB kept of connections that are gone", IDLE + 2 * MOMENTS, || {
        assert_eq!(ask_on(&mut connect(SHOP, lab.at), WEB).expect("an answer"), 0);
        kept() < 16 << 20
    });
    println!("{} octets are kept", kept());
    server.stop().expect("it stops");
}

#[test]
fn at_the_bound_the_longest_idle_connection_makes_room() {
    let _turn = room();
    let lab = Lab::new(&json!({}));
    let server = lab.start();
    let mut all = open(lab.at, MANY);
    until("the bound", MOMENTS, || held(&server) == DEFAULT && is_closed(&all[MANY - DEFAULT - 1]));
    quick(lab.at, SHOP, WEB, Duration::from_secs(1));
    let closed = all.iter().take(MANY - DEFAULT).filter(|stream| is_closed(stream)).count();
    assert_eq!(closed, MANY - DEFAULT, "those that were idle for longest");
    for stream in all.iter_mut().skip(MANY - DEFAULT).step_by(DEFAULT / 50) {
        assert_eq!(ask_on(stream, WEB).expect("it is still open"), 0);
    }
    assert_eq!(held(&server), DEFAULT);
    server.stop().expect("it stops");
}
