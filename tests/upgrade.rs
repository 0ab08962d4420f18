//! One process takes the place of another on the same addresses, under load: no query is lost, whatever happens to either.

mod support;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{Client, Proto, next_id};
use support::load::{Ask, Load, Tally};
use support::objects::{namespace, segment, service, slice, write};
use support::server::{Server, http_get};
use support::slow::Slow;
use support::steady::until;
use support::{HERE, free_port, run, wire};
use tempfile::TempDir;

/// A mesh name, and names that an upstream answers after [`SLOW`], another one each time.
const ASKS: [Ask; 3] = [MESH, ("n#.slow.example", [192, 0, 2, 7]), MESH];
const MESH: Ask = ("web.shop.mesh.acme", [10, 0, 0, 1]);
/// So that there are queries in flight at the end of each process.
const SLOW: Duration = Duration::from_millis(400);
/// In which a process is ready or gone. Much less than the lameduck of the configuration, which is not to be waited for.
const SOON: Duration = Duration::from_secs(20);
const LAMEDUCK: Duration = Duration::from_secs(60);
/// What may be lost with a process that is killed: a batch of each worker, and what it had asked upstreams.
const IN_HAND: usize = 400;

/// What all processes of a test share.
struct Lab {
    dir: TempDir,
    upstream: Slow,
    listen: Vec<SocketAddr>,
    admin: SocketAddr,
    started: usize,
}

impl Lab {
    fn new(six: bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let manifests = dir.path().join("manifests");
        std::fs::create_dir(&manifests).expect("a directory");
        write(&manifests, "segments.yaml", &[segment("acme", "mesh.acme")]);
        let spaces = ["istio-system", "shop"].map(|name| namespace(name, Some("acme")));
        write(&manifests, "namespaces.yaml", &spaces);
        let services = [service("shop", "web", "segment", "10.0.0.1"), slice("shop", "web", "10.1.0.1")];
        write(&manifests, "services.yaml", &services);
        let port = free_port();
        let mut listen = vec![SocketAddr::new(HERE, port)];
        listen.extend(six.then(|| SocketAddr::new("::1".parse().expect("an address"), port)));
        let admin = SocketAddr::new(HERE, free_port());
        Self { dir, upstream: Slow::start(Some(SLOW)), listen, admin, started: 0 }
    }

    fn at(&self) -> SocketAddr {
        self.listen[0]
    }

    fn load(&self) -> Load {
        Load::start(&self.listen, &ASKS)
    }

    fn config(&mut self, manifests: &Path, workers: usize) -> (Value, PathBuf) {
        self.started += 1;
        let socket = self.dir.path().join(format!("{}.sock", self.started));
        let config = json!({
            "listen": self.listen,
            "admin": self.admin,
            "adminSocket": socket,
            "sources": {"manifests": [{"cluster": "here", "path": manifests}]},
            "segments": {"zones": ["mesh.acme"]},
            "forward": [{"zone": ".", "upstreams": [self.upstream.address()]}],
            "limits": {"workers": workers},
            "drain": {"lameduck": format!("{}s", LAMEDUCK.as_secs()), "deadline": "90s"},
        });
        (config, socket)
    }

    /// A process, which is ready.
    fn start(&mut self, workers: usize) -> Process {
        let manifests = self.dir.path().join("manifests");
        let (config, socket) = self.config(&manifests, workers);
        let process = Process { server: Server::spawn(&config).expect("a process"), socket };
        process.wait_for("ready 127.0.0.1");
        process
    }

    /// A process that waits for objects which it will never get.
    fn start_waiting(&mut self) -> Process {
        let broken = self.dir.path().join("broken");
        std::fs::create_dir_all(&broken).expect("a directory");
        std::fs::write(broken.join("a.yaml"), "kind: [\n").expect("written");
        let (config, socket) = self.config(&broken, 2);
        let process = Process { server: Server::spawn(&config).expect("a process"), socket };
        until("it answers probes", SOON, || process.probe("ready").1.contains("pending"));
        assert!(!process.server.log().contains("\nready "), "{}", process.server.log());
        process
    }
}

struct Process {
    server: Server,
    socket: PathBuf,
}

impl Process {
    fn wait_for(&self, words: &str) {
        let begun = Instant::now();
        while !self.server.log().contains(words) {
            assert!(begun.elapsed() < SOON, "{words:?} is not said: {}", self.server.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Status and output of a probe of this very process.
    fn probe(&self, what: &str) -> (i32, String) {
        let begun = Instant::now();
        let ran = run(&["probe", what, "--socket", &self.socket.display().to_string()]);
        assert!(begun.elapsed() < Duration::from_secs(4), "a probe takes 2 s at most, and some for a busy machine");
        (ran.status, ran.out + &ran.err)
    }

    /// Ends it with SIGTERM, which must not take as long as its lameduck.
    fn stop(self) {
        let begun = Instant::now();
        self.server.stop().expect("a clean end");
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    }

    fn kill(mut self) {
        self.server.signal(libc::SIGKILL);
        assert!(self.server.ended_within(SOON).is_some(), "it cannot be killed");
    }
}

fn nothing_lost(tally: &Tally) {
    println!("{} asked, {} of them again", tally.asked, tally.again);
    assert!(tally.wrong.is_empty(), "{} wrong, first {}", tally.wrong.len(), tally.wrong[0]);
    assert!(tally.lost.is_empty(), "{} of {} lost: {:#?}", tally.lost.len(), tally.asked, tally.lost);
    assert_eq!(tally.again, 0, "TCP connections are given on, too");
}

#[test]
fn ten_replacements_under_load_lose_nothing() {
    let mut lab = Lab::new(true);
    let mut old = lab.start(2);
    let load = lab.load();
    for workers in [2, 3, 1, 1, 4, 2, 2, 1, 3, 2] {
        let new = lab.start(workers);
        assert_eq!(new.probe("ready"), (0, "ok\n".to_owned()));
        assert_eq!(old.probe("ready").0, 0, "{}", old.server.log());
        old.stop();
        old = new;
    }
    nothing_lost(&load.end());
    until("the last one has the admin port", SOON, || http_get(lab.admin, "/version").is_ok());
    assert!(!old.server.log().contains("cannot be taken over"), "{}", old.server.log());
}

#[test]
fn a_newcomer_that_never_gets_ready_changes_nothing_however_it_ends() {
    let mut lab = Lab::new(false);
    let old = lab.start(2);
    let load = lab.load();
    for signal in [libc::SIGKILL, libc::SIGINT] {
        let new = lab.start_waiting();
        assert_eq!(new.probe("live"), (0, "ok\n".to_owned()));
        assert_eq!(new.probe("ready").0, 1);
        thread::sleep(Duration::from_millis(300));
        new.server.signal(signal);
        old.wait_for("the new process has ended, or given up");
        assert_eq!(old.probe("ready"), (0, "ok\n".to_owned()));
    }
    nothing_lost(&load.end());
    let load = lab.load();
    // At any moment of its start, and it may be that it serves already.
    for after in [1, 5, 10, 20, 30, 50, 80, 120] {
        let manifests = lab.dir.path().join("manifests");
        let (config, socket) = lab.config(&manifests, 1);
        let new = Process { server: Server::spawn(&config).expect("a process"), socket };
        thread::sleep(Duration::from_millis(after));
        if new.server.log().contains("\nready ") {
            break;
        }
        new.kill();
    }
    let tally = load.end();
    println!("{} of {} lost with processes that were killed", tally.lost.len(), tally.asked);
    assert!(tally.wrong.is_empty() && tally.lost.len() <= IN_HAND, "{tally:#?}");
    let new = lab.start(1);
    old.stop();
    drop(new);
}

#[test]
fn when_a_newcomer_is_killed_that_serves_the_old_one_goes_on_and_can_be_replaced() {
    let mut lab = Lab::new(false);
    let old = lab.start(2);
    let load = lab.load();
    for workers in [1, 3] {
        let new = lab.start(workers);
        old.wait_for("the new process serves this address too");
        thread::sleep(Duration::from_millis(300));
        new.kill();
        until("the old one knows", SOON, || {
            old.server.log().matches("the new process has ended").count() == lab.started - 1
        });
    }
    let tally = load.end();
    println!("{} of {} lost with processes that were killed", tally.lost.len(), tally.asked);
    assert!(tally.wrong.is_empty() && tally.lost.len() <= IN_HAND, "{tally:#?}");
    let load = lab.load();
    let new = lab.start(2);
    old.stop();
    thread::sleep(Duration::from_millis(300));
    nothing_lost(&load.end());
    drop(new);
}

#[test]
fn when_the_old_one_is_killed_the_newcomer_serves_at_once_ready_or_not() {
    let mut lab = Lab::new(false);
    let ask = |at, name: &str| {
        let query = wire::query(next_id(), name, 1, false);
        Client::default().ask(HERE, at, Proto::Udp, &query).expect("an answer")
    };
    let old = lab.start(2);
    let waiting = lab.start_waiting();
    old.kill();
    let answer = ask(lab.at(), "killed.example");
    assert_eq!((answer[3] & 15, answer.ends_with(&[192, 0, 2, 7])), (0, true), "others' names are answered");
    assert_eq!(ask(lab.at(), MESH.0)[3] & 15, 2, "its own are not known");
    assert_eq!(waiting.probe("ready").0, 1);

    let ready = lab.start(2);
    waiting.stop();
    assert_eq!(ask(lab.at(), MESH.0)[3] & 15, 0);
    let next = lab.start(1);
    ready.kill();
    let load = lab.load();
    thread::sleep(Duration::from_millis(500));
    nothing_lost(&load.end());
    drop(next);
}

#[test]
fn another_users_process_gets_no_sockets() {
    if !is_root() {
        eprintln!("skipped: needs root, to be another user");
        return;
    }
    let mut lab = Lab::new(false);
    let old = lab.start(1);
    // Where another user may run it.
    let place = tempfile::Builder::new().permissions(mode(0o755)).tempdir().expect("a directory");
    let binary = place.path().join("segdns");
    std::fs::copy(support::binary(), &binary).expect("copied");
    std::fs::create_dir(place.path().join("here")).expect("a directory");
    let ran = Command::new(&binary)
        .args(["serve", "--listen", &lab.at().to_string(), "--admin", "127.0.0.1:0", "--forward", "127.0.0.1:9"])
        .arg("--manifests")
        .arg(place.path().join("here"))
        .uid(65_534)
        .gid(65_534)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("address in use: another program holds UDP {}", lab.at())), "{said}");
    old.wait_for("another user's process asked for the sockets of this address, and got none");
    assert!(old.server.log().contains("65534"), "{}", old.server.log());
    let load = lab.load();
    thread::sleep(Duration::from_millis(200));
    nothing_lost(&load.end());
}

fn is_root() -> bool {
    // SAFETY: takes and returns no pointer, and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn mode(bits: u32) -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}

#[test]
fn an_admin_port_is_waited_for_if_a_segdns_has_it_and_an_error_if_another_program_does() {
    let mut lab = Lab::new(false);
    let foreign = TcpListener::bind(lab.admin).expect("a port");
    let manifests = lab.dir.path().join("manifests");
    let (config, _) = lab.config(&manifests, 1);
    let mut refused = Server::spawn(&config).expect("a process");
    assert_eq!(refused.ended_within(SOON).and_then(|status| status.code()), Some(1), "{}", refused.log());
    let log = refused.log();
    assert!(log.contains(&format!("admin address {} cannot be used: another program holds it", lab.admin)), "{log}");
    drop(foreign);

    let old = lab.start(1);
    let new = lab.start(1);
    new.wait_for("is held by another segdns");
    assert_eq!(new.server.log().matches("is held by another segdns").count(), 1);
    old.stop();
    new.wait_for("is free, and served from now on");
    assert_eq!(http_get(lab.admin, "/readyz").expect("an answer").0, 200);
}

#[test]
fn each_probe_reaches_its_own_process() {
    let mut lab = Lab::new(false);
    let old = lab.start(1);
    let new = lab.start_waiting();
    for (process, ready) in [(&old, 0), (&new, 1), (&old, 0)] {
        assert_eq!((process.probe("ready").0, process.probe("live").0), (ready, 0));
    }
    let ran = run(&["probe", "ready", "--server", &lab.admin.to_string()]);
    assert_eq!((ran.status, &*ran.out), (0, "ok\n"));
    // Nobody serves yet in its place, so that callers get the time to go elsewhere.
    old.server.signal(libc::SIGTERM);
    until("it is draining", SOON, || old.probe("ready") == (1, "draining\n".to_owned()));
    assert_eq!(old.probe("live").0, 0);
    drop(old);
    assert_eq!(new.probe("ready").0, 1);
    let nobody = run(&["probe", "live", "--socket", "/nonexistent/segdns.sock"]);
    assert_eq!((nobody.status, nobody.out.is_empty(), nobody.err.lines().count()), (1, true, 1), "{}", nobody.err);
    let unsaid = run(&["probe", "live"]);
    assert_eq!(unsaid.status, 2, "{}", unsaid.err);
}
