//! What the clock tells a caller of hidden names (R13): through the binary's socket, the medians of a hidden name and of one that
//! never existed are within a hundredth of each other, if the binary is a release build (`cargo test --release --test timing`);
//! a debug build, in which every step costs ten times as much, within a twentieth.
//!
//! In the process they are some nanoseconds apart (`cargo bench --bench micro -- respond`, and `bench/README.md` counts
//! instructions); what a caller sees is a thousand times as long.

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::json;
use support::objects;
use support::server::{Server, config_of};
use support::{HERE, fixture, free_port, wire};

/// A pod of another segment than the hidden name.
const CALLER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 10, 1, 21));
/// Of scope segment, and none; as long as each other.
const NAMES: [&str; 2] = ["s.shop.mesh.acme", "x.shop.mesh.acme"];
/// Questions in all.
const QUESTIONS: usize = 100_000;
/// How far the medians may be apart.
const APART: f64 = if cfg!(debug_assertions) { 0.05 } else { 0.01 };
/// The machine may be busy with something that hits one of the two more often; a difference of ours would show every time.
const ATTEMPTS: usize = 4;

fn server() -> (Server, SocketAddr) {
    let at = SocketAddr::new(HERE, free_port());
    let manifests = fixture::root().join("visibility/cluster1");
    let mut config = config_of(at, ("cluster1", &manifests), SocketAddr::new(HERE, free_port()));
    objects::merge(&mut config, &json!({"answers": {"grace": "0s"}, "limits": {"workers": 1}}));
    (Server::start(&config).expect("a server"), at)
}

/// How long each answer took, of both names in turn, one before the other and the other way round.
fn times(at: SocketAddr) -> [Vec<Duration>; 2] {
    let socket = UdpSocket::bind((CALLER, 0)).expect("a socket");
    socket.connect(at).expect("connected");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let queries = NAMES.map(|name| wire::query(7, name, 1, true));
    let mut times = [Vec::new(), Vec::new()];
    let mut answer = [0; 512];
    for turn in 0..QUESTIONS / 2 {
        for which in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
            let begun = Instant::now();
            socket.send(&queries[which]).expect("sent");
            socket.recv(&mut answer).expect("an answer");
            times[which].push(begun.elapsed());
            assert_eq!(answer[3] & 15, 3, "NXDOMAIN for {}", NAMES[which]);
        }
    }
    times
}

#[test]
fn a_caller_cannot_tell_hidden_from_absent_by_the_clock() {
    let (_server, at) = server();
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let [hidden, absent] = times(at).map(|mut all| {
            all.sort_unstable();
            all[all.len() / 2].as_secs_f64()
        });
        let apart = hidden / absent - 1.0;
        println!("medians: hidden {:.2} us, absent {:.2} us, {:+.2} %", hidden * 1e6, absent * 1e6, apart * 100.0);
        if apart.abs() <= APART {
            return;
        }
        seen.push(apart);
    }
    panic!("the medians are apart by {seen:.4?} in every attempt");
}
