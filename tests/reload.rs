//! Another configuration while queries are answered, through the binary: each key that a running server takes, by SIGHUP and
//! by itself; a file that cannot be used; keys that need a restart (contract section 6, R23).

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use serde_json::{Value, json};
use support::client::{Client, Proto, next_id};
use support::objects::{self, namespace, pod, segment, service};
use support::server::{Server, config_of};
use support::steady::{Steady, metric, readyz, until, until_ready};
use support::upstream::Upstream;
use support::world::World;
use support::{HERE, UPSTREAM, free_port, wire};
use tempfile::TempDir;

/// How soon another configuration has to be in force after SIGHUP.
const SOON: Duration = Duration::from_secs(5);
/// The same where it has to be noticed: two looks of two seconds, and what a busy machine adds.
const NOTICED: Duration = Duration::from_secs(15);

/// Pods of the namespaces shop, far, plain, and of one that nobody has told; and an address of no pod, which is the node's.
const SHOP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 51, 0, 1));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 51, 0, 2));
const PLAIN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 51, 0, 3));
const GHOST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 51, 0, 4));
const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 51, 0, 9));

const A: u16 = 1;
const TXT: u16 = 16;
const AAAA: u16 = 28;

struct Lab {
    _manifests: TempDir,
    at: SocketAddr,
    one: Upstream,
    two: Upstream,
    config: Value,
}

/// A Service with one more label, or another address.
fn with(mut service: Value, pointer: &str, value: Value) -> Value {
    *service.pointer_mut(pointer).expect("it is there") = value;
    service
}

impl Lab {
    fn new(extra: &Value) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let taken = json!({"solo.io/service-scope": "segment", "solo.io/service-takeover": "true"});
        let entry = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "api", "namespace": "shop"},
            "spec": {"hosts": ["api.example.com"], "addresses": ["240.0.0.9"]},
        });
        let all = [
            segment("acme", "mesh.acme"),
            segment("other", "mesh.other"),
            namespace("istio-system", Some("acme")),
            namespace("shop", None),
            namespace("far", Some("other")),
            namespace("plain", Some("default")),
            service("shop", "web", "global", "10.0.0.1"),
            service("shop", "own", "segment", "10.0.0.2"),
            service("plain", "web", "global", "10.0.0.3"),
            with(service("shop", "six", "segment", ""), "/spec/clusterIPs", json!(["10.0.0.4", "fd00::4"])),
            with(service("shop", "taken", "segment", "10.0.0.5"), "/metadata/labels", taken),
            entry,
            pod("shop", "a", SHOP),
            pod("far", "b", FAR),
            pod("plain", "c", PLAIN),
            pod("ghost", "d", GHOST),
        ];
        objects::write(dir.path(), "all.yaml", &all);
        let upstream = |records: &[(&str, &str)]| {
            let mut world = World::outside();
            records.iter().for_each(|(name, address)| world.add(name, "A", address));
            Upstream::start(world, SocketAddr::new(UPSTREAM, free_port())).expect("an upstream")
        };
        let one = upstream(&[
            ("web.shop.svc.cluster.local", "10.0.0.1"),
            ("taken.shop.svc.cluster.local", "10.0.0.99"),
            ("api.example.com", "192.0.2.90"),
            ("moved.example.com", "192.0.2.1"),
        ]);
        let two = upstream(&[("moved.example.com", "192.0.2.2")]);
        let at = SocketAddr::new(HERE, free_port());
        let mut config = config_of(at, ("here", dir.path()), one.address());
        objects::merge(&mut config, &json!({"policy": {"identityHold": "0s"}}));
        objects::merge(&mut config, extra);
        Self { _manifests: dir, at, one, two, config }
    }

    fn start(&self) -> Server {
        Server::start(&self.config).expect("a server")
    }

    /// The configuration with these values in it.
    fn other(&self, extra: &Value) -> Value {
        let mut config = self.config.clone();
        objects::merge(&mut config, extra);
        config
    }

    /// Gives the server another configuration, and tells it so.
    fn apply(&self, server: &Server, extra: &Value) {
        server.configure(&self.other(extra));
        server.signal(libc::SIGHUP);
    }
}

/// A process that does not outlive its test.
struct Own(std::process::Child);

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Response code, data and least TTL of what is answered, as one text.
fn heard(at: SocketAddr, (from, name, rtype): (IpAddr, &str, u16)) -> Result<String, String> {
    let mut query = wire::query(next_id(), name, rtype, false);
    if name == "version.bind" {
        *query.last_mut().expect("a class") = 3;
    }
    let answer = Client::default().ask(from, at, Proto::Udp, &query).map_err(|error| error.to_string())?;
    let message = Message::from_vec(&answer).map_err(|error| error.to_string())?;
    let mut data: Vec<String> = message.answers.iter().map(|record| record.data.to_string()).collect();
    data.sort_unstable();
    let ttl = message.answers.iter().chain(&message.authorities).map(|record| record.ttl).min();
    let ttl = ttl.map_or("no".to_owned(), |ttl| ttl.to_string());
    Ok(format!("{} [{}] {ttl} s", answer[3] & 15, data.join(" ")))
}

/// Waits until this is answered.
fn until_heard(at: SocketAddr, question: (IpAddr, &str, u16), want: &str) {
    let begun = Instant::now();
    loop {
        let heard = heard(at, question);
        if heard.as_deref() == Ok(want) {
            return;
        }
        assert!(begun.elapsed() < SOON, "{question:?}: {heard:?} after {SOON:?} and not {want:?}");
    }
}

/// Somebody who asks one question without a pause, of which each answer has to be one of two.
struct Asker {
    over: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<String>>,
}

impl Asker {
    fn start(at: SocketAddr, (from, name, rtype): (IpAddr, &str, u16), allowed: [&str; 2]) -> Self {
        let (name, allowed) = (name.to_owned(), allowed.map(str::to_owned));
        let over = Arc::new(AtomicBool::new(false));
        let asked = Arc::<AtomicUsize>::default();
        let (end, count) = (Arc::clone(&over), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            let mut wrong = Vec::new();
            while !end.load(Ordering::Relaxed) {
                match heard(at, (from, &name, rtype)) {
                    Ok(text) if allowed.contains(&text) => {}
                    other => wrong.push(format!("{other:?}")),
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            wrong
        });
        Self { over, asked, thread }
    }

    /// Waits until it has asked so often.
    fn until(&self, asked: usize) {
        until("it has asked", SOON, || self.asked.load(Ordering::Relaxed) >= asked);
    }

    /// Ends it, and has what was wrong of so many.
    fn end(self) -> (usize, Vec<String>) {
        self.over.store(true, Ordering::Relaxed);
        let wrong = self.thread.join().expect("it asked to the end");
        (self.asked.load(Ordering::Relaxed), wrong)
    }
}

/// A key, the settings around it, its other value, a question, and what is answered with the default and with that value.
type Case = (&'static str, Value, Value, (IpAddr, &'static str, u16), &'static str, &'static str);

#[rustfmt::skip]
fn policy() -> Vec<Case> {
    let none = || json!({});
    vec![
        ("policy.crossSegment", none(), json!("deny"), (FAR, "web.shop.mesh.acme", A), "0 [10.0.0.1] 5 s", "3 [] 5 s"),
        ("policy.defaultSegmentVisible", none(), json!(true), (SHOP, "web.plain.mesh.internal", A), "3 [] 5 s", "0 [10.0.0.3] 5 s"),
        ("policy.namespaceSegments", none(), json!(false), (FAR, "own.shop.mesh.acme", A), "3 [] 5 s", "0 [10.0.0.2] 5 s"),
        ("policy.clusterNames", none(), json!("segment"), (FAR, "web.shop.svc.cluster.local", A), "0 [10.0.0.1] 30 s", "3 [] 5 s"),
        ("policy.clusterNamesAlways", json!({"policy": {"clusterNames": "segment"}}), json!(["shop"]),
            (FAR, "web.shop.svc.cluster.local", A), "3 [] 5 s", "0 [10.0.0.1] 30 s"),
        ("policy.takeoverFor", none(), json!("all"), (SHOP, "taken.shop.svc.cluster.local", A), "0 [10.0.0.99] 30 s", "0 [10.0.0.5] 5 s"),
        ("callers", none(), json!([{"cidr": "127.51.0.9", "segment": "other"}]), (NODE, "own.shop.mesh.acme", A),
            "0 [10.0.0.2] 5 s", "3 [] 5 s"),
        ("segments.zones", none(), json!(["mesh.extra"]), (SHOP, "x.mesh.extra", A), "3 [] 30 s", "3 [] 5 s"),
        ("segments.defaultDomain", none(), json!("mesh.inside"), (PLAIN, "web.plain.mesh.inside", A), "3 [] 30 s", "0 [10.0.0.3] 5 s"),
        ("segments.defaultName", none(), json!("base"), (PLAIN, "web.plain.mesh.internal", A), "0 [10.0.0.3] 5 s", "2 [] no s"),
        ("serviceEntries", none(), json!("all"), (SHOP, "api.example.com", A), "0 [192.0.2.90] 30 s", "0 [240.0.0.9] 5 s"),
    ]
}

#[rustfmt::skip]
fn answers(lab: &Lab) -> Vec<Case> {
    let none = || json!({});
    let two = json!([{"zone": ".", "upstreams": [lab.two.address()]}]);
    let version = concat!("0 [segdns ", env!("CARGO_PKG_VERSION"), "] 0 s");
    vec![
        ("answers.ttl", none(), json!(9), (SHOP, "web.shop.mesh.acme", A), "0 [10.0.0.1] 5 s", "0 [10.0.0.1] 9 s"),
        ("answers.negativeTtl", none(), json!(9), (SHOP, "absent.shop.mesh.acme", A), "3 [] 5 s", "3 [] 9 s"),
        ("answers.takeover", json!({"policy": {"takeoverFor": "all"}}), json!("cname"), (SHOP, "taken.shop.svc.cluster.local", A),
            "0 [10.0.0.5] 5 s", "0 [10.0.0.5 taken.shop.mesh.acme.] 5 s"),
        ("answers.aaaa", none(), json!("on"), (SHOP, "six.shop.mesh.acme", AAAA), "0 [] 5 s", "0 [fd00::4] 5 s"),
        ("answers.chaos", none(), json!(false), (SHOP, "version.bind", TXT), version, "5 [] no s"),
        ("forward", none(), two, (SHOP, "moved.example.com", A), "0 [192.0.2.1] 30 s", "0 [192.0.2.2] 30 s"),
        ("autopath", none(), json!(true), (SHOP, "www.example.com.shop.svc.cluster.local", A), "3 [] 30 s",
            "0 [192.0.2.80 www.example.com.] 5 s"),
        ("cache.maxTtl", none(), json!(7), (SHOP, "www.example.com", A), "0 [192.0.2.80] 30 s", "0 [192.0.2.80] 7 s"),
        ("cache.maxNegativeTtl", none(), json!(9), (SHOP, "absent.example.com", A), "3 [] 30 s", "3 [] 9 s"),
    ]
}

/// Changes a key and changes it back while its question is asked.
fn change(lab: &Lab, server: &Server, (key, around, value, question, before, after): Case) {
    let mut other = around.clone();
    objects::set_path(&mut other, key, value);
    lab.apply(server, &around);
    until_heard(lab.at, question, before);
    let asker = Asker::start(lab.at, question, [before, after]);
    asker.until(1);
    lab.apply(server, &other);
    until_heard(lab.at, question, after);
    for _ in 0..20 {
        assert_eq!(heard(lab.at, question).as_deref(), Ok(after), "{key}: once it counts, it counts for all");
    }
    lab.apply(server, &around);
    until_heard(lab.at, question, before);
    asker.until(10);
    let (asked, wrong) = asker.end();
    assert!(wrong.is_empty(), "{key}: {} of {asked} were wrong: {:?}", wrong.len(), wrong.first());
}

#[test]
fn what_decides_answers_changes_from_one_query_to_the_next_and_none_is_lost() {
    // Without a cache, so that what is forwarded shows at once what it is answered by.
    let lab = Lab::new(&json!({"cache": {"bytes": 0}}));
    let mut server = lab.start();
    let wants: &[_] = &[(SHOP, "own.shop.mesh.acme", 0, &["10.0.0.2"][..]), (SHOP, "example.com", 0, &["192.0.2.81"])];
    let steady = Steady::start(lab.at, wants);
    let cases: Vec<Case> = policy().into_iter().chain(answers(&lab)).collect();
    let changes = cases.len();
    for case in cases {
        change(&lab, &server, case);
    }
    assert!(steady.end() > changes, "hardly anything was asked meanwhile");
    assert_eq!(server.ended(), None);
    // The last one is counted after it counts.
    let applied = || metric(&server, "segdns_config_reloads_total", &["applied"]);
    until("each change there and back is counted", SOON, || applied() >= 2.0 * changes as f64);
    assert_eq!(metric(&server, "segdns_config_reloads_total", &["refused"]), 0.0);
    assert_eq!(metric(&server, "segdns_panics_total", &[]), 0.0);
    let log = server.log();
    assert!(log.contains("policy.crossSegment: scope -> deny"), "{log}");
    server.stop().expect("it stops");
}

#[test]
fn times_bounds_and_logs_change_while_it_runs() {
    let lab = Lab::new(&json!({"limits": {"tcpPerClient": 1}, "log": {"queries": "none", "level": "warn"}}));
    let server = lab.start();
    let unknown = || {
        let begun = Instant::now();
        assert_eq!(heard(lab.at, (GHOST, "web.shop.mesh.acme", A)).as_deref(), Ok("2 [] no s"));
        begun.elapsed()
    };
    until("nobody is held", SOON, || unknown() < Duration::from_millis(400));
    assert!(!server.log().contains("web.shop.mesh.acme"));
    let drain = json!({"lameduck": "700ms", "deadline": "3s"});
    let limits = json!({"tcpPerClient": 3, "inflight": 7, "inflightPerClient": 3, "tcpConnections": 4});
    let cache = json!({"serveStale": "10m", "prefetch": false});
    lab.apply(
        &server,
        &json!({
            "policy": {"identityHold": "500ms"}, "log": {"queries": "failures", "level": "info"}, "drain": drain,
            "limits": limits, "cache": cache, "debug": "any",
        }),
    );
    until("the hold counts", SOON, || unknown() >= Duration::from_millis(500));
    until("queries are logged", SOON, || {
        unknown();
        server.log().contains("web.shop.mesh.acme")
    });
    until("all of it counts", SOON, || metric(&server, "segdns_config_reloads_total", &["applied"]) == 1.0);
    let shown: Value = serde_json::from_str(&server.get("/debug/config")).expect("JSON");
    for (key, want) in limits.as_object().expect("a mapping").iter().chain(cache.as_object().expect("a mapping")) {
        let found = [&shown["limits"][key], &shown["cache"][key]];
        assert!(found.contains(&&if key == "serveStale" { json!("600s") } else { want.clone() }), "{key}: {found:?}");
    }
    assert_eq!(shown["debug"], "any");
    // One connection of this client would be closed to make room for the next.
    let mut open: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(lab.at).expect("a connection")).collect();
    for stream in &mut open {
        let query = wire::query(next_id(), "web.shop.mesh.acme", A, true);
        support::client::write_framed(stream, &query).expect("written");
        support::client::read_framed(stream).expect("an answer");
    }
    drop(open);
    let begun = Instant::now();
    server.stop().expect("it stops");
    assert!(begun.elapsed() >= Duration::from_millis(700), "it went on answering for drain.lameduck");
}

#[test]
fn a_file_that_cannot_be_used_is_said_once_and_the_one_before_it_stays() {
    let lab = Lab::new(&json!({}));
    let server = lab.start();
    let steady = Steady::start(lab.at, &[(SHOP, "web.shop.mesh.acme", 0, &["10.0.0.1"])]);
    let refused = || metric(&server, "segdns_config_reloads_total", &["refused"]);
    std::fs::write(server.config_path(), "answers: {ttl: 5}\nanswers: {ttl: 6}\n").expect("written");
    until_ready(&server, 200, &["ok", "trouble: ", "segdns.yaml:2: answers: this key is there twice"], NOTICED);
    assert_eq!((refused(), metric(&server, "segdns_config_last_reload_successful", &[])), (1.0, 0.0));
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!((refused(), server.log().matches("this key is there twice").count()), (1.0, 1), "once");
    server.signal(libc::SIGHUP);
    until("it is said again to who asks", SOON, || refused() == 2.0);
    let own = json!({"answers": {"ttl": 9}, "forward": [{"zone": ".", "upstreams": [lab.at]}]});
    lab.apply(&server, &own);
    until_ready(&server, 200, &["forward[0].upstreams[0]", "would ask itself"], SOON);
    assert_eq!(heard(lab.at, (SHOP, "web.shop.mesh.acme", A)).as_deref(), Ok("0 [10.0.0.1] 5 s"), "nothing by half");
    std::fs::remove_file(server.config_path()).expect("removed");
    until_ready(&server, 200, &["it cannot be read"], NOTICED);
    lab.apply(&server, &json!({"answers": {"ttl": 9}}));
    until_heard(lab.at, (SHOP, "web.shop.mesh.acme", A), "0 [10.0.0.1] 9 s");
    until("all is well", SOON, || readyz(&server) == (200, "ok\n".to_owned()));
    assert_eq!(metric(&server, "segdns_config_last_reload_successful", &[]), 1.0);
    steady.end();
}

#[test]
fn keys_that_need_a_restart_are_named_and_the_others_count_without_them() {
    let lab = Lab::new(&json!({}));
    let server = lab.start();
    let later = SocketAddr::new(HERE, free_port());
    let other = json!({
        "listen": [later], "cluster": {"domain": "cluster.other"}, "cache": {"bytes": "1MiB"}, "answers": {"ttl": 9},
    });
    lab.apply(&server, &other);
    until_heard(lab.at, (SHOP, "web.shop.mesh.acme", A), "0 [10.0.0.1] 9 s");
    until_ready(&server, 200, &["ok", "wait for a restart: cache.bytes, cluster.domain, listen"], SOON);
    assert_eq!(metric(&server, "segdns_config_restart_keys", &[]), 3.0);
    let log = server.log();
    assert!(
        log.contains("need a restart") && log.contains(&format!("listen: [\"{}\"] -> [\"{later}\"]", lab.at)),
        "{log}"
    );
    let shown: Value = serde_json::from_str(&server.get("/debug/config")).expect("JSON");
    assert_eq!((&shown["listen"], &shown["answers"]["ttl"]), (&json!([lab.at]), &json!(9)), "the effective one");
    // What cannot be as long as a key waits cannot be now.
    let own = json!({"listen": [later], "forward": [{"zone": ".", "upstreams": [lab.at]}]});
    lab.apply(&server, &own);
    until_ready(&server, 200, &["would ask itself", "as long as listen"], SOON);
    lab.apply(&server, &json!({}));
    until("all is well", SOON, || readyz(&server) == (200, "ok\n".to_owned()));
    assert_eq!(metric(&server, "segdns_config_restart_keys", &[]), 0.0);
}

#[test]
fn a_config_map_that_kubelet_swaps_is_noticed() {
    let lab = Lab::new(&json!({}));
    let server = lab.start();
    let path = server.config_path();
    let dir = path.parent().expect("a directory");
    let hash = || {
        let text = server.get("/metrics");
        text.lines().find(|line| line.starts_with("segdns_config_info{")).expect("the hash").to_owned()
    };
    for (version, ttl) in [("..one", 5), ("..two", 9)] {
        std::fs::create_dir(dir.join(version)).expect("a directory");
        let text = format!("{:#}\n", lab.other(&json!({"answers": {"ttl": ttl}})));
        std::fs::write(dir.join(version).join("segdns.yaml"), text).expect("written");
    }
    let swap = |version: &str| {
        symlink(version, dir.join("..tmp")).expect("a link");
        std::fs::rename(dir.join("..tmp"), dir.join("..data")).expect("swapped");
    };
    swap("..one");
    symlink("..data/segdns.yaml", dir.join("link")).expect("a link");
    std::fs::rename(dir.join("link"), &path).expect("in its place");
    let question = (SHOP, "web.shop.mesh.acme", A);
    let applied = || metric(&server, "segdns_config_reloads_total", &["applied"]);
    let before = hash();
    assert_eq!((heard(lab.at, question).as_deref(), applied()), (Ok("0 [10.0.0.1] 5 s"), 0.0));
    swap("..two");
    until("it is noticed", NOTICED, || heard(lab.at, question).as_deref() == Ok("0 [10.0.0.1] 9 s"));
    until("it is counted", SOON, || applied() == 1.0);
    assert_ne!(hash(), before);
    std::fs::write(&path, "{").expect("half written");
    swap("..two");
    assert!(!server.log().contains("no YAML"), "what is written again at once is never read");
}

#[test]
fn ten_signals_in_a_row_lose_nothing_and_the_cache_goes_on() {
    let lab = Lab::new(&json!({}));
    let mut server = lab.start();
    let wants: &[_] = &[
        (SHOP, "web.shop.mesh.acme", 0, &["10.0.0.1"][..]),
        (SHOP, "moved.example.com", 0, &["192.0.2.1"]),
        (SHOP, "absent.shop.mesh.acme", 3, &[]),
    ];
    assert_eq!(heard(lab.at, (SHOP, "moved.example.com", A)).as_deref(), Ok("0 [192.0.2.1] 30 s"));
    let misses = || metric(&server, "segdns_cache_misses_total", &[]);
    let (before, asked) = (misses(), lab.one.count());
    let steady = Steady::start(lab.at, wants);
    for turn in 0..10 {
        // The other upstream has another answer, which is not asked for while this one is kept.
        let upstream = if turn % 2 == 0 { lab.two.address() } else { lab.one.address() };
        let forward =
            json!([{"zone": ".", "upstreams": [upstream]}, {"zone": "corp", "upstreams": [lab.one.address()]}]);
        lab.apply(&server, &json!({"forward": forward, "answers": {"ttl": 10 + turn}}));
        std::thread::sleep(Duration::from_millis(30));
    }
    until_heard(lab.at, (SHOP, "web.shop.mesh.acme", A), "0 [10.0.0.1] 19 s");
    let hits = || metric(&server, "segdns_cache_hits_total", &["success"]);
    until("the cache is asked all the time", SOON, || hits() > 10.0);
    assert!(steady.end() > 20);
    assert_eq!(misses(), before, "upstreams asked {} times before, {} after", asked, lab.one.count());
    assert_eq!(server.ended(), None);
    server.stop().expect("it stops");
}

#[test]
fn what_came_through_a_pipe_is_not_read_again_and_flags_go_on_to_override() {
    let lab = Lab::new(&json!({}));
    let dir = tempfile::tempdir().expect("a directory");
    let log = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("a log");
    let config = format!("{:#}\n", lab.config);
    std::fs::write(dir.path().join("segdns.yaml"), &config).expect("written");
    let segdns = support::binary();
    let start = |name: &str, script: &str| {
        let out = std::fs::File::create(dir.path().join(name)).expect("a log");
        let mut command = std::process::Command::new("bash");
        command.arg("-c").arg(script).env("SEGDNS", &segdns).env_remove("NODE_NAME").current_dir(dir.path());
        Own(command.stdout(out.try_clone().expect("twice")).stderr(out).spawn().expect("bash"))
    };
    let hangup = |id: u32| {
        // SAFETY: takes no pointer. The child has not been waited for, so its number is still its own.
        unsafe { libc::kill(id.cast_signed(), libc::SIGHUP) };
    };
    let child = start("pipe", "exec \"$SEGDNS\" serve --config <(cat segdns.yaml)");
    until("it is ready", SOON, || log("pipe").contains("ready "));
    hangup(child.0.id());
    until("it says so", SOON, || log("pipe").contains("--config is no regular file"));
    assert_eq!(heard(lab.at, (SHOP, "web.shop.mesh.acme", A)).as_deref(), Ok("0 [10.0.0.1] 5 s"));
    drop(child);
    // The flag names the other upstream.
    let script = format!("exec \"$SEGDNS\" serve --config segdns.yaml --forward {}", lab.two.address());
    let child = start("flags", &script);
    until("it is ready", SOON, || log("flags").contains("ready "));
    assert_eq!(heard(lab.at, (SHOP, "moved.example.com", A)).as_deref(), Ok("0 [192.0.2.2] 30 s"));
    let forward =
        json!([{"zone": ".", "upstreams": ["192.0.2.53"]}, {"zone": "corp", "upstreams": [lab.one.address()]}]);
    let other = lab.other(&json!({"answers": {"ttl": 9}, "forward": forward, "cache": {"maxTtl": 7}}));
    std::fs::write(dir.path().join("segdns.yaml"), format!("{other:#}\n")).expect("written");
    hangup(child.0.id());
    until_heard(lab.at, (SHOP, "web.shop.mesh.acme", A), "0 [10.0.0.1] 9 s");
    // The cache's bounds come after the table.
    let admin = lab.config["admin"].as_str().and_then(|at| at.parse().ok()).expect("an address");
    let shown = || support::server::http_get(admin, "/debug/config").map(|(_, text)| text);
    until("all of it counts", SOON, || shown().is_ok_and(|text| text.contains("\"maxTtl\": 7")));
    assert_eq!(
        heard(lab.at, (SHOP, "www.example.com", A)).as_deref(),
        Ok("0 [192.0.2.80] 7 s"),
        "zone `.` is the flag's"
    );
}
