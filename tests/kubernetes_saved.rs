//! The saved state (R22): a start while API servers are away is as good as the last one was, and what was saved never
//! stands in the way of what is so now.

mod support;

#[path = "kubernetes_saved/disk.rs"]
mod disk;
#[path = "kubernetes_saved/restarts.rs"]
mod restarts;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use support::fed::{Api, Fed, Lab, base};
use support::objects::{service, slice};
use support::server::Server;
use support::steady::until;

const WEB: &str = "web.shop.mesh.acme";
/// Of the peer only.
const ONLY: &str = "only.shop.mesh.acme";
const OUTSIDE: &str = "www.example.com";
/// Not Ready (RFC 8914).
const NOT_READY: u16 = 14;
/// Something that happens within moments, on a machine that is busy.
const MOMENTS: Duration = Duration::from_secs(5);
/// How soon after an API server is back all that changed is answered: the longest wait between two attempts is 5 s.
const RECOVERY: Duration = Duration::from_secs(7);

/// A cluster with a peer; both have to be up for a complete state.
fn clusters(extra: &Value) -> (Fed, Api) {
    let fed = Fed::new(Lab::Double, extra);
    let there = Lab::Double.api_server();
    there.apply_all(base());
    there.apply_all([service("shop", "only", "segment", "10.99.0.1"), slice("shop", "only", "10.5.0.1")]);
    fed.join("there", &there);
    (fed, there)
}

/// The file that is saved.
fn state(fed: &Fed) -> PathBuf {
    fed.dir.path().join("saved/state")
}

/// The second line of what is saved: when, whose, how much.
fn head(fed: &Fed) -> Option<Value> {
    let bytes = std::fs::read(state(fed)).ok()?;
    serde_json::from_slice(bytes.split(|byte| *byte == b'\n').nth(1)?).ok()
}

/// Waits until this many clusters are saved.
fn until_saved(fed: &Fed, clusters: u64) {
    let saved = || head(fed).is_some_and(|head| head["clusters"] == json!(clusters));
    until("a saved state", MOMENTS, saved);
}

/// A state on disk, of a server that was killed: this happened to be the state.
fn saved(extra: &Value) -> (Fed, Api) {
    let (fed, there) = clusters(extra);
    let server = fed.start();
    until_saved(&fed, 2);
    // SIGKILL
    drop(server);
    (fed, there)
}

/// The log's line on the file that is refused, without what quotes its quotes.
fn refusal(server: &Server) -> Option<String> {
    server.log().lines().find(|line| line.contains("is ignored")).map(|line| line.replace('\\', ""))
}
