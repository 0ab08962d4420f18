//! No file may be opened any more (EMFILE).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::{Domain, SockAddr, Socket, Type};

use super::support::client::next_id;
use super::support::server::{Server, http_get};
use super::support::steady::{metric, until, until_answered};
use super::support::{HERE, wire};
use super::{Lab, MOMENTS, OUTSIDE, SHOP, WEB, ask_on, connect, is_answered, quick};

/// Questions that go out by one socket before it is replaced, of eight to an upstream.
const A_SOCKET: usize = 512;
/// Within so long it looks for the node's addresses at least once, and for changed manifests many times.
const LOOKED: Duration = Duration::from_millis(5500);
/// Clock ticks a second in `/proc/PID/stat`.
const TICKS: u64 = 100;

/// The numbers of those of its files that stay open, as some are for a moment only; and what they are.
fn open_files(server: &Server) -> BTreeMap<u64, String> {
    let look = || -> BTreeMap<u64, String> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.id())).expect("its files");
        let what = |path: &Path| std::fs::read_link(path).ok().map(|what| what.display().to_string());
        open.filter_map(|file| file.ok())
            .filter_map(|f| Some((f.file_name().to_str()?.parse().ok()?, what(&f.path())?)))
            .collect()
    };
    let mut all = look();
    for _ in 0..20 {
        sleep(Duration::from_millis(10));
        let now = look();
        all.retain(|number, what| now.get(number) == Some(what));
    }
    all
}

/// Knocks where the next segdns asks for the sockets of an address.
fn knock(at: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
    let door = SockAddr::unix(format!("\0segdns/hand-over/{at}")).expect("an address");
    socket.connect(&door).expect("a connection");
    socket
}

/// An address of this machine that is known to be one only as long as its interfaces tell.
fn own_address() -> Option<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().expect("interfaces");
    let addresses = all.filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()));
    addresses.map(IpAddr::V4).find(|address| !address.is_loopback())
}

/// Soft and hard limit of a process's open files.
fn limits(server: &Server) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).expect("its limits");
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a line");
    let mut words = line.split_whitespace().map(|word| word.parse().expect("a number"));
    (words.next().expect("soft"), words.next().expect("hard"))
}

/// Lets a running server have so many files open.
fn limit(server: &Server, soft: u64) {
    let new = libc::rlimit { rlim_cur: soft, rlim_max: limits(server).1 };
    let process = libc::pid_t::try_from(server.id()).expect("a process");
    // SAFETY: the new limit is read from a value that outlives the call, and the old one is not asked for.
    let done = unsafe { libc::prlimit(process, libc::RLIMIT_NOFILE, &raw const new, std::ptr::null_mut()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// The processor time that it has used.
fn used(server: &Server) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).expect("its counters");
    let after = text.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after.split_whitespace().skip(11).take(2).map(|word| word.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Asks for so many names that were never asked for, some at a time; how many were not answered SERVFAIL.
fn unknown_names(lab: &Lab, from: IpAddr, count: usize) -> usize {
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).expect("a socket");
    socket.connect(lab.at).expect("connected");
    socket.set_read_timeout(Some(MOMENTS)).expect("a timeout");
    let (mut good, mut buffer) = (0, [0; 1500]);
    for first in (0..count).step_by(32) {
        for _ in first..count.min(first + 32) {
            let id = next_id();
            socket.send(&wire::query(id, &format!("n{id}-{first}.wild.example.com"), 1, true)).expect("sent");
        }
        for _ in first..count.min(first + 32) {
            socket.recv(&mut buffer).expect("an answer in time");
            good += usize::from(buffer[3] & 15 != 2);
        }
    }
    good
}

#[test]
fn a_start_raises_the_soft_limit_and_keeps_room_for_what_is_not_callers() {
    let lab = Lab::new(&json!({"limits": {"tcpConnections": 20_000, "tcpPerClient": 20_000}}));
    let server = lab.start_by(&["prlimit", "--nofile=128:512"], &[]);
    assert_eq!(limits(&server), (512, 512));
    let log = server.log();
    let said = "512 files may be open, and this configuration takes up to 20297: 215 TCP connections are taken instead of 20000";
    assert!(log.contains(said), "{log}");
    let all: Vec<TcpStream> = (0..600).map(|_| connect(SHOP, lab.at)).collect();
    until("as many as may be", MOMENTS, || metric(&server, "segdns_tcp_connections", &[]) == 215.0);
    assert_eq!(unknown_names(&lab, SHOP, 64), 64);
    lab.move_web("10.0.0.2");
    until_answered(lab.at, (SHOP, WEB, 0, &["10.0.0.2"]), MOMENTS);
    assert!(!server.log().contains("cannot be accepted"), "{}", server.log());
    drop(all);
    server.stop().expect("it stops");

    let lab = Lab::new(&json!({}));
    let server = lab.start_by(&["prlimit", "--nofile=128:4096"], &[]);
    assert_eq!(limits(&server), (4096, 4096));
    assert!(!server.log().contains("files may be open"), "{}", server.log());
    server.stop().expect("it stops");
}

#[test]
fn a_start_without_files_is_one_line_that_says_so() {
    let lab = Lab::new(&json!({}));
    let mut server = Server::spawn_by(&["prlimit", "--nofile=12:12"], &lab.config, None, &[]).expect("a process");
    let status = server.ended_within(MOMENTS).unwrap_or_else(|| panic!("it goes on: {}", server.log()));
    let log = server.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(status.code() == Some(1) && last.starts_with("segdns: ") && last.contains("Too many open files"), "{log}");
    assert!(log.contains("Too many open files"), "{log}");
}

#[test]
fn a_server_that_may_open_no_more_files_answers_forwards_and_recovers() {
    let lab = Lab::new(&json!({}));
    let server = lab.start();
    assert_eq!(unknown_names(&lab, SHOP, 256), 256);
    is_answered(&lab, SHOP, OUTSIDE, "192.0.2.80");
    let node = own_address().unwrap_or(HERE);
    is_answered(&lab, node, WEB, "10.0.0.1");
    let mut idle: Vec<TcpStream> = (0..3).map(|_| connect(SHOP, lab.at)).collect();
    // A limit is one of numbers, so it is none for those that are free below; more connections take these.
    loop {
        until("all accepted", MOMENTS, || metric(&server, "segdns_tcp_connections", &[]) == idle.len() as f64);
        let open = open_files(&server);
        let free = (0..).find(|number| !open.contains_key(number)).expect("not all are taken");
        // Others than sockets may have been left open by whoever runs this test.
        if open.range(free..).all(|(_, what)| !what.starts_with("socket:")) {
            break limit(&server, free);
        }
        assert!(idle.len() < 20, "there is always one free: {open:?}");
        idle.push(connect(SHOP, lab.at));
    }

    // A caller that comes now gets the place of the longest idle one.
    let mut fresh = connect(SHOP, lab.at);
    assert_eq!(ask_on(&mut fresh, WEB).expect("an answer"), 0);
    assert!(ask_on(&mut idle[0], WEB).is_err(), "the longest idle one is closed");
    assert_eq!(ask_on(idle.last_mut().expect("one"), WEB).expect("an answer"), 0);

    // Nobody gets in any more, and nothing spins for it.
    drop((idle, fresh));
    limit(&server, 20);
    let limited = Instant::now();
    let mut waiting: Vec<TcpStream> = (0..5).map(|_| connect(SHOP, lab.at)).collect();
    let newcomer = knock(lab.at);
    sleep(Duration::from_millis(300));
    let (before, begun) = (used(&server), Instant::now());
    sleep(Duration::from_secs(1));
    let share = (used(&server) - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    println!("{:.0} % of a processor for connections that cannot be accepted", 100.0 * share);
    drop(newcomer);
    assert!(share < 0.2, "{share} of a processor for connections that cannot be accepted");
    let said = server.log().matches("TCP connections cannot be accepted").count();
    assert_eq!(said, 1, "once a minute: {}", server.log());

    // Everything else goes on: names of the table for pods and for the node, whose manifests and addresses cannot be read
    // now, what is cached, and what has to be asked for by sockets beyond their time.
    lab.move_web("10.0.0.2");
    quick(lab.at, SHOP, WEB, Duration::from_secs(1));
    let asked = lab.upstream.count();
    assert_eq!(unknown_names(&lab, SHOP, 12 * A_SOCKET), 12 * A_SOCKET);
    assert!(lab.upstream.count() - asked >= 12 * A_SOCKET as u64);
    sleep(LOOKED.saturating_sub(limited.elapsed()));
    is_answered(&lab, SHOP, WEB, "10.0.0.1");
    is_answered(&lab, node, WEB, "10.0.0.1");
    is_answered(&lab, SHOP, OUTSIDE, "192.0.2.80");
    assert!(http_get(server.admin(), "/healthz").is_err(), "the admin side needs a file for each caller");

    limit(&server, limits(&server).1);
    for stream in &mut waiting {
        assert_eq!(ask_on(stream, WEB).expect("an answer"), 0);
    }
    until_answered(lab.at, (SHOP, WEB, 0, &["10.0.0.2"]), MOMENTS);
    until("the admin side", MOMENTS, || http_get(server.admin(), "/healthz").is_ok_and(|(status, _)| status == 200));
    assert_eq!(metric(&server, "segdns_forward_healthy", &[]), 1.0);
    server.stop().expect("it stops");
}
