//! What tests at the front door share: a server under test, a scripted upstream, a client that picks its own address.
//!
//! ```text
//! fixture -> rows, objects        which server to start, what to ask
//!         -> server, upstream     the binary, and the world behind it
//!         -> client, netns        a question from a pod's address
//!         -> judge                everything an answer has to satisfy
//! fed     -> apiserver, envtest   a server that watches an API server inside the test, or a real one
//! steady  -> client, server       what is answered while something goes wrong behind it
//! load    -> client               every query of a steady load, and its answer
//! own                             any other process, which a test must not leave behind
//! slow, clock                     an upstream, and a clock, that misbehave
//! ```
//!
//! Nothing here knows the crate's inside: a test must be able to fail for any reason that a user could notice.

#![allow(dead_code, reason = "every test crate uses its own part of this")]

pub mod apiserver;
pub mod client;
pub mod clock;
pub mod envtest;
pub mod fed;
pub mod fixture;
pub mod judge;
pub mod load;
pub mod netns;
pub mod objects;
pub mod own;
pub mod rows;
pub mod server;
pub mod slow;
pub mod steady;
pub mod upstream;
pub mod wire;
pub mod world;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

/// Where servers under test listen.
pub const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Where scripted upstreams listen: not where the server does, so that neither is taken for the other.
pub const UPSTREAM: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 77, 0, 1));
/// The cluster domain of every test.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// The binary under test; `SEGDNS_BIN` names another build of it.
#[must_use]
pub fn binary() -> PathBuf {
    std::env::var_os("SEGDNS_BIN").map_or_else(|| env!("CARGO_BIN_EXE_segdns").into(), PathBuf::from)
}

/// A port that is free for UDP and TCP on [`HERE`] and [`UPSTREAM`], below the ephemeral range, and not given out before
/// by this process.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id().wrapping_mul(37);
    let free = |ip: IpAddr, port: u16| {
        let at = SocketAddr::new(ip, port);
        UdpSocket::bind(at).is_ok() && TcpListener::bind(at).is_ok()
    };
    for _ in 0..20_000 {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 11_000 + u16::try_from(start.wrapping_add(step) % 20_000).expect("below 20000");
        if free(HERE, port) && free(UPSTREAM, port) {
            return port;
        }
    }
    panic!("no free port between 11000 and 31000");
}

/// The variable that tells a process that it is in a cluster, whose API server it then asks, and writes Events to.
pub const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";

/// What the binary printed, and its exit status.
#[derive(Debug)]
pub struct Ran {
    /// Exit status.
    pub status: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Standard output as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("no JSON: {e}: {self:?}"))
    }
}

/// Runs the binary to its end.
#[must_use]
pub fn run(args: &[&str]) -> Ran {
    let output = std::process::Command::new(binary())
        .args(args)
        .env_remove("NODE_NAME")
        .env_remove("KUBECONFIG")
        // Whoever runs the tests may have a cluster, and a kubeconfig at home, or be a pod of one.
        .env("HOME", "/nonexistent")
        .env_remove(IN_CLUSTER)
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// `--manifests` for clusters of a fixture, the first one local.
#[must_use]
pub fn manifests(fixture: &str, clusters: &[&str]) -> Vec<String> {
    let dir = |c: &&str| format!("{c}={}", fixture::root().join(fixture).join(c).display());
    clusters.iter().map(dir).flat_map(|dir| ["--manifests".to_owned(), dir]).collect()
}
