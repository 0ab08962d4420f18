//! What changes on disk while the server runs is live within a second, through the binary: manifests edited, copied, broken
//! and removed, callers that appear, graces that end (R3, R15, R22, contract section 5).

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::Client;
use support::objects::{self, namespace, pod, segment, service, slice};
use support::server::{Server, http_get};
use support::upstream::Upstream;
use support::world::World;
use support::{HERE, UPSTREAM, free_port};
use tempfile::TempDir;

/// How soon a change is to be live (contract section 5), and what a busy machine adds.
const LIVE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 1 });
/// How long a process may take until it has read its files.
const START: Duration = Duration::from_secs(20);
/// How often a test looks.
const LOOK: Duration = Duration::from_millis(20);

/// A pod of namespace shop.
const SHOP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 31, 0, 1));
/// A pod of namespace far.
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 31, 0, 2));
/// The server's own address, where no pod is.
const NODE: IpAddr = HERE;

struct Live {
    dir: TempDir,
    at: SocketAddr,
    upstream: Upstream,
    config: Value,
}

/// Writes a file as a careful writer does: whole, under another name, then moved into place.
fn write(dir: &Path, cluster: &str, file: &str, objects: &[Value]) {
    let text: Vec<String> = objects.iter().map(|o| format!("{o:#}")).collect();
    write_text(dir, cluster, file, &text.join("\n---\n"));
}

fn write_text(dir: &Path, cluster: &str, file: &str, text: &str) {
    let draft = dir.join(format!("{file}.draft"));
    std::fs::write(&draft, text).expect("written");
    std::fs::rename(&draft, dir.join(cluster).join(file)).expect("moved");
}

impl Live {
    /// Two clusters of segment acme, with a namespace of another segment, and a server that is not started yet.
    fn new(extra: &Value) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let upstream = Upstream::start(World::outside(), SocketAddr::new(UPSTREAM, free_port())).expect("an upstream");
        for cluster in ["here", "there"] {
            std::fs::create_dir(dir.path().join(cluster)).expect("a directory");
            let segments = [segment("acme", "mesh.acme"), segment("other", "mesh.other")];
            write(dir.path(), cluster, "segments.yaml", &segments);
            let all =
                [namespace("istio-system", Some("acme")), namespace("shop", None), namespace("far", Some("other"))];
            write(dir.path(), cluster, "namespaces.yaml", &all);
        }
        write(dir.path(), "here", "services.yaml", &[service("shop", "web", "segment", "10.0.0.1")]);
        write(dir.path(), "here", "pods.yaml", &[pod("shop", "a", SHOP), pod("far", "b", FAR)]);
        let at = SocketAddr::new(HERE, free_port());
        let manifests: Vec<Value> =
            ["here", "there"].iter().map(|c| json!({"cluster": c, "path": dir.path().join(c)})).collect();
        let mut config = json!({
            "listen": [at],
            "admin": SocketAddr::new(HERE, free_port()),
            "cluster": {"name": "here"},
            "sources": {"manifests": manifests},
            "forward": [{"zone": ".", "upstreams": [upstream.address()]}],
            "drain": {"lameduck": "0s", "deadline": "2s"},
        });
        objects::merge(&mut config, extra);
        Self { dir, at, upstream, config }
    }

    fn start(&self) -> Server {
        Server::start(&self.config).expect("a server")
    }

    fn write(&self, cluster: &str, file: &str, objects: &[Value]) {
        write(self.dir.path(), cluster, file, objects);
    }

    /// Response code and addresses, in order.
    fn ask(&self, from: IpAddr, name: &str) -> (u8, Vec<String>) {
        Client::default().addresses(from, self.at, name)
    }

    /// Waits until this is answered; it has to be within [`LIVE`].
    fn until(&self, from: IpAddr, name: &str, code: u8, addresses: &[&str]) {
        Client::default().until(from, self.at, name, (code, addresses), LIVE);
    }
}

/// Waits until the log says something, at most so long.
fn logged(server: &Server, text: &str, limit: Duration) {
    let end = Instant::now() + limit;
    while !server.log().contains(text) {
        assert!(Instant::now() < end, "no {text:?} in the log:\n{}", server.log());
        std::thread::sleep(LOOK);
    }
}

const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;

#[test]
fn a_changed_manifest_is_answered_within_a_second() {
    let live = Live::new(&json!({"answers": {"grace": "0s"}}));
    let server = live.start();
    let web = "web.shop.mesh.acme";
    live.until(SHOP, web, 0, &["10.0.0.1"]);
    live.until(FAR, web, NXDOMAIN, &[]);

    live.write("here", "services.yaml", &[service("shop", "web", "global", "10.0.0.2")]);
    live.until(SHOP, web, 0, &["10.0.0.2"]);
    live.until(FAR, web, 0, &["10.0.0.2"]);

    // Another segment for the namespace: its names move, and its pods with them.
    let root = || namespace("istio-system", Some("acme"));
    let far = || namespace("far", Some("other"));
    live.write("here", "namespaces.yaml", &[root(), namespace("shop", Some("other")), far()]);
    live.until(FAR, "web.shop.mesh.other", 0, &["10.0.0.2"]);
    live.until(SHOP, web, NXDOMAIN, &[]);

    // A segment that does not exist closes it; the Segment's arrival opens it.
    live.write("here", "namespaces.yaml", &[root(), namespace("shop", Some("late")), far()]);
    live.until(SHOP, web, SERVFAIL, &[]);
    live.until(FAR, "web.shop.mesh.other", NXDOMAIN, &[]);
    live.until(SHOP, "example.com", 0, &["192.0.2.81"]);
    live.write("here", "late.yaml", &[segment("late", "mesh.late")]);
    live.until(SHOP, "web.shop.mesh.late", 0, &["10.0.0.2"]);
    std::fs::remove_file(live.dir.path().join("here/late.yaml")).expect("removed");
    live.until(SHOP, "web.shop.mesh.acme", SERVFAIL, &[]);

    live.write("here", "namespaces.yaml", &[root(), namespace("shop", None), far()]);
    live.until(SHOP, web, 0, &["10.0.0.2"]);
    std::fs::remove_file(live.dir.path().join("here/services.yaml")).expect("removed");
    live.until(SHOP, web, NXDOMAIN, &[]);
    assert!(!live.upstream.names().iter().any(|n| n.ends_with("mesh.acme")), "R13: no mesh name goes upstream");
    server.stop().expect("it stops");
}

#[test]
fn a_file_that_breaks_keeps_what_it_held_and_is_named_with_its_line() {
    let live = Live::new(&json!({"answers": {"grace": "0s"}}));
    let server = live.start();
    let web = "web.shop.mesh.acme";
    live.until(SHOP, web, 0, &["10.0.0.1"]);
    write_text(live.dir.path(), "here", "services.yaml", "kind: Service\nmetadata: {name: web\n  broken: [\n");
    logged(&server, "services.yaml", LIVE);
    live.until(SHOP, web, 0, &["10.0.0.1"]);
    // Others go on changing meanwhile.
    live.write("here", "more.yaml", &[service("shop", "more", "segment", "10.0.0.7")]);
    live.until(SHOP, "more.shop.mesh.acme", 0, &["10.0.0.7"]);
    live.until(SHOP, web, 0, &["10.0.0.1"]);
    live.write("here", "services.yaml", &[service("shop", "web", "segment", "10.0.0.3")]);
    live.until(SHOP, web, 0, &["10.0.0.3"]);
    server.stop().expect("it stops");
}

#[test]
fn a_peers_file_and_a_pods_move_are_followed() {
    let live = Live::new(&json!({"answers": {"grace": "0s"}}));
    let server = live.start();
    let only = "only.shop.mesh.acme";
    live.until(SHOP, only, NXDOMAIN, &[]);
    let peers = |ip: &str| [service("shop", "only", "segment", "10.99.0.1"), slice("shop", "only", ip)];
    live.write("there", "services.yaml", &peers("10.5.0.1"));
    live.until(SHOP, only, 0, &["10.5.0.1"]);
    live.write("there", "services.yaml", &peers("10.5.0.2"));
    live.until(SHOP, only, 0, &["10.5.0.2"]);
    // R4: another domain there, and nothing of that peer counts.
    live.write("there", "segments.yaml", &[segment("acme", "mesh.elsewhere"), segment("other", "mesh.other")]);
    live.until(SHOP, only, NXDOMAIN, &[]);
    live.write("there", "segments.yaml", &[segment("acme", "mesh.acme"), segment("other", "mesh.other")]);
    live.until(SHOP, only, 0, &["10.5.0.2"]);
    // The address of a pod of `shop` goes to one of `far`.
    live.write("here", "pods.yaml", &[pod("far", "b", FAR), pod("far", "c", SHOP)]);
    live.until(SHOP, "web.shop.mesh.acme", NXDOMAIN, &[]);
    live.write("here", "pods.yaml", &[pod("shop", "a", SHOP)]);
    live.until(SHOP, "web.shop.mesh.acme", 0, &["10.0.0.1"]);
    server.stop().expect("it stops");
}

#[test]
fn namespaces_that_do_not_parse_at_start_keep_mesh_names_closed_while_others_are_answered() {
    let live = Live::new(&json!({"answers": {"grace": "0s"}}));
    write_text(live.dir.path(), "here", "namespaces.yaml", "kind: Namespace\nmetadata: {name: [\n");
    let server = Server::spawn(&live.config).expect("a process");
    logged(&server, "namespaces.yaml", START);
    live.until(NODE, "web.shop.mesh.acme", SERVFAIL, &[]);
    live.until(SHOP, "web.shop.mesh.internal", SERVFAIL, &[]);
    live.until(SHOP, "example.com", 0, &["192.0.2.81"]);
    assert_eq!(http_get(server.admin(), "/readyz").expect("an answer").0, 503);
    let all = [namespace("istio-system", Some("acme")), namespace("shop", None)];
    live.write("here", "namespaces.yaml", &all);
    live.until(SHOP, "web.shop.mesh.acme", 0, &["10.0.0.1"]);
    assert_eq!(http_get(server.admin(), "/readyz").expect("an answer").0, 200);
    server.stop().expect("it stops");
}

#[test]
fn a_query_of_a_pod_that_is_not_known_yet_waits_for_it() {
    // An address that is none of the node's own would need a network namespace; the hold is the same for a pod whose
    // Namespace is not known yet.
    let live = Live::new(&json!({"answers": {"grace": "0s"}, "policy": {"identityHold": "5s"}}));
    let early = IpAddr::V4(Ipv4Addr::new(127, 31, 0, 9));
    live.write("here", "early.yaml", &[pod("fresh", "p", early)]);
    let server = live.start();
    let asked = Instant::now();
    let answer = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| live.ask(early, "web.shop.mesh.acme"));
        live.write("here", "fresh.yaml", &[namespace("fresh", None)]);
        waiting.join().expect("an answer")
    });
    assert_eq!(answer, (0, vec!["10.0.0.1".to_owned()]));
    assert!(asked.elapsed() < LIVE, "answered when the namespace was there, after {:?}", asked.elapsed());
    server.stop().expect("it stops");

    let live = Live::new(&json!({"answers": {"grace": "0s"}, "policy": {"identityHold": "300ms"}}));
    live.write("here", "early.yaml", &[pod("fresh", "p", early)]);
    let server = live.start();
    let asked = Instant::now();
    assert_eq!(live.ask(early, "web.shop.mesh.acme"), (SERVFAIL, Vec::new()));
    assert!(asked.elapsed() >= Duration::from_millis(290), "held for identityHold, not {:?}", asked.elapsed());
    server.stop().expect("it stops");
}

#[test]
fn a_name_that_appears_without_an_address_fails_for_its_grace_and_is_empty_then() {
    let live = Live::new(&json!({"answers": {"grace": "2s"}}));
    let server = live.start();
    let late = "late.shop.mesh.acme";
    live.until(SHOP, late, NXDOMAIN, &[]);
    let written = Instant::now();
    live.write("here", "late.yaml", &[service("shop", "late", "segment", "")]);
    live.until(SHOP, late, SERVFAIL, &[]);
    let grace = Duration::from_secs(2);
    let end = Instant::now() + grace + LIVE;
    loop {
        let (code, addresses) = live.ask(SHOP, late);
        assert!(addresses.is_empty());
        if code == 0 {
            break;
        }
        assert_eq!(code, SERVFAIL);
        assert!(Instant::now() < end, "still SERVFAIL");
        std::thread::sleep(LOOK);
    }
    // It cannot have begun before the file was there.
    assert!(written.elapsed() + LOOK >= grace, "the grace lasted only {:?}", written.elapsed());
    live.write("here", "late.yaml", &[service("shop", "late", "segment", "10.0.0.9")]);
    live.until(SHOP, late, 0, &["10.0.0.9"]);
    server.stop().expect("it stops");
}

/// The grace is for a first address: who has lost what it had is empty, and says so at once.
#[test]
fn a_name_that_loses_its_address_within_its_grace_is_empty_at_once() {
    let live = Live::new(&json!({"answers": {"grace": "60s"}}));
    let server = live.start();
    for (name, had) in [("had", "10.0.0.9"), ("never", "")] {
        live.write("here", &format!("{name}.yaml"), &[service("shop", name, "segment", had)]);
    }
    live.until(SHOP, "never.shop.mesh.acme", SERVFAIL, &[]);
    live.until(SHOP, "had.shop.mesh.acme", 0, &["10.0.0.9"]);
    live.write("here", "had.yaml", &[service("shop", "had", "segment", "")]);
    live.until(SHOP, "had.shop.mesh.acme", 0, &[]);
    live.until(SHOP, "never.shop.mesh.acme", SERVFAIL, &[]);
    server.stop().expect("it stops");
}
