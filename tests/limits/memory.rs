//! No memory for the cache.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::support::client::{next_id, read_framed, write_framed};
use super::support::steady::metric;
use super::support::{UPSTREAM, wire};
use super::{Lab, MOMENTS, OUTSIDE, SHOP, WEB, connect, is_answered};

/// What a server that cannot have its whole cache is given, octets.
const GROUP: u64 = 96 << 20;

#[test]
fn without_a_cache_every_question_is_asked_and_answered() {
    let lab = Lab::new(&json!({"cache": {"bytes": 0}}));
    let server = lab.start();
    for _ in 0..3 {
        let before = lab.upstream.count();
        is_answered(&lab, SHOP, OUTSIDE, "192.0.2.80");
        assert!(lab.upstream.count() > before, "nothing was kept to answer it with");
    }
    for series in ["segdns_cache_entries", "segdns_cache_bytes"] {
        assert_eq!(metric(&server, series, &[]), 0.0, "{series}");
    }
    server.stop().expect("it stops");
}

#[test]
fn a_cache_that_does_not_fit_into_the_address_space_is_smaller_and_the_start_says_so() {
    let lab = Lab::new(&json!({"cache": {"bytes": "64GiB"}}));
    let server = lab.start_by(&["prlimit", "--as=1073741824"], &[]);
    let said = "cache.bytes is 68719476736, and the limit of its address space is 1073741824 octets: the cache takes 536870912";
    assert!(server.log().contains(said), "{}", server.log());
    is_answered(&lab, SHOP, OUTSIDE, "192.0.2.80");
    let before = lab.upstream.count();
    is_answered(&lab, SHOP, OUTSIDE, "192.0.2.80");
    assert_eq!(lab.upstream.count(), before, "answered from the cache that there is");
    server.stop().expect("it stops");
}

/// A control group with a limit of memory, taken away when dropped.
struct Group(PathBuf);

impl Group {
    fn new(octets: u64) -> Option<Self> {
        let name = format!("segdns-test-{}", std::process::id());
        let kinds = [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];
        kinds.iter().find_map(|(root, file)| {
            let group = Self(Path::new(root).join(&name));
            std::fs::create_dir(&group.0).ok()?;
            std::fs::OpenOptions::new()
                .write(true)
                .open(group.0.join(file))
                .ok()?
                .write_all(octets.to_string().as_bytes())
                .ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// An upstream over TCP whose every answer has 60 kB, more than a cache of the group's size has room for in all.
fn long_answers() -> SocketAddr {
    let listener = TcpListener::bind((UPSTREAM, 0)).expect("a socket");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer_all(stream));
        }
    });
    address
}

fn answer_all(mut stream: TcpStream) {
    let mut text = vec![0xc0, 12, 0, 16, 0, 1, 0, 0, 14, 16, 0, 240, 239];
    text.extend([b'x'; 239]);
    while let Ok(query) = read_framed(&mut stream) {
        let Some(question) = wire::question_len(&query) else { return };
        let mut answer = query[..12 + question].to_vec();
        answer[2] |= 0x80;
        answer[6..12].copy_from_slice(&[0, 235, 0, 0, 0, 0]);
        (0..235).for_each(|_| answer.extend(&text));
        if write_framed(&mut stream, &answer).is_err() {
            return;
        }
    }
}

#[test]
fn a_cache_that_is_larger_than_the_control_groups_memory_never_ends_the_server() {
    let Some(group) = Group::new(GROUP) else {
        eprintln!("SKIPPED: this test makes a control group with a limit of memory, which this machine does not allow");
        return;
    };
    let upstream = long_answers();
    let forward = json!([{"zone": ".", "upstreams": [upstream], "tcp": true}]);
    let lab = Lab::new(&json!({"cache": {"bytes": "1GiB"}, "forward": forward}));
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.0.display());
    let server = lab.start_by(&["sh", "-c", &enter, "sh"], &[]);
    let said =
        format!("the memory limit of its control group is {GROUP} octets: the cache takes {} at most", GROUP / 2);
    assert!(server.log().contains(&said), "{}", server.log());
    // Twice as much as the group may have: without a bound, the kernel would end the server half-way.
    let socket = UdpSocket::bind((SHOP, 0)).expect("a socket");
    socket.connect(lab.at).expect("connected");
    socket.set_read_timeout(Some(MOMENTS)).expect("a timeout");
    let mut buffer = [0; 1500];
    let names = usize::try_from(2 * GROUP / 60_000).expect("few");
    for n in 0..names {
        socket.send(&wire::query(next_id(), &format!("n{n}.long.example"), 16, true)).expect("sent");
        let length =
            socket.recv(&mut buffer).unwrap_or_else(|error| panic!("question {n}: {error}: {}", server.tail()));
        assert!(length > 12 && buffer[2] & 2 != 0 && buffer[3] & 15 == 0, "truncated: {:?}", &buffer[..12]);
    }
    let kept = metric(&server, "segdns_cache_bytes", &[]);
    println!("{names} answers of 60 kB: {kept} octets are kept, {} resident", server.resident());
    assert!(kept > 0.6 * (GROUP / 2) as f64 && kept <= (GROUP / 2) as f64, "{kept} octets are kept");
    is_answered(&lab, SHOP, WEB, "10.0.0.1");
    let mut whole = connect(SHOP, lab.at);
    write_framed(&mut whole, &wire::query(9, &format!("n{}.long.example", names - 1), 16, true)).expect("sent");
    let mut length = [0; 2];
    whole.read_exact(&mut length).expect("the last answer, whole");
    assert!(u16::from_be_bytes(length) > 59_000);
    whole.shutdown(std::net::Shutdown::Both).expect("closed");
    server.stop().expect("it stops");
    std::thread::sleep(Duration::from_millis(100));
}
