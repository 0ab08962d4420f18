//! `/healthz` when one thread that answers is stuck while everything else, HTTP included, lives on.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::json;
use support::client::next_id;
use support::server::{Server, address_of, http_get, of_files};
use support::{HERE, wire};

/// A worker counts as stuck after 5 s; the node may be busy.
const NAMED: Duration = Duration::from_secs(20);
const WELL: Duration = Duration::from_secs(10);

/// Asks what workers answer themselves, from a new port each time, so that every one gets some; nobody waits for the answers.
struct Asker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Asker {
    fn start(listen: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !ended.load(Relaxed) {
                let socket = UdpSocket::bind((HERE, 0)).expect("a socket");
                let query = wire::query(next_id(), "none.mesh.internal", 1, false);
                socket.send_to(&query, listen).expect("a query is sent");
                thread::sleep(Duration::from_millis(5));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// A thread of another process that is held where it wants to send answers. The thread that stops it has to let it go.
struct Stopped(Pid);

impl Stopped {
    /// Holds the thread of this name; `None` if the system does not let us.
    fn in_a_batch(server: &Server, name: &str) -> Option<Self> {
        let tasks = PathBuf::from(format!("/proc/{}/task", server.id()));
        let task = std::fs::read_dir(tasks).expect("its threads").filter_map(Result::ok).map(|entry| entry.path());
        let is_named =
            |task: &PathBuf| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
        let task = task.into_iter().find(is_named).expect("a thread of that name");
        let id = task.file_name().and_then(|id| id.to_str()?.parse().ok()).expect("a number");
        let thread = Pid::from_raw(id);
        match ptrace::seize(thread, Options::PTRACE_O_TRACESYSGOOD) {
            Err(Errno::EPERM | Errno::ENOSYS) => return None,
            seized => seized.expect("ptrace"),
        }
        let stopped = Self(thread);
        ptrace::interrupt(thread).expect("it is interrupted");
        // From one system call to the next: it is in the middle of a batch when it wants to send.
        loop {
            wait_for(thread);
            let call = std::fs::read_to_string(task.join("syscall")).expect("its system call");
            if call.split(' ').next().and_then(|number| number.parse().ok()) == Some(libc::SYS_sendmmsg) {
                return Some(stopped);
            }
            ptrace::syscall(thread, None).expect("it goes on");
        }
    }
}

/// Waits until a thread that is traced stops.
fn wait_for(thread: Pid) {
    let end = Instant::now() + NAMED;
    let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
    while waitpid(thread, Some(flags)).expect("it can be waited for") == WaitStatus::StillAlive {
        assert!(Instant::now() < end, "nothing came to this worker");
        thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        ptrace::detach(self.0, None).expect("it is let go");
    }
}

/// Asks for health until it is as wanted.
fn until(server: &Server, wanted: impl Fn(u16, &str) -> bool, limit: Duration) -> String {
    let end = Instant::now() + limit;
    loop {
        let (code, body) = http_get(server.admin(), "/healthz").expect("HTTP lives");
        if wanted(code, &body) {
            return body;
        }
        assert!(Instant::now() < end, "{code} {body}");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_worker_that_is_stuck_is_named_and_health_returns_once_it_gets_on() {
    let config = of_files(&json!({"limits": {"workers": 4}}));
    let listen = address_of(&config);
    let server = Server::start(&config).expect("a server");
    assert_eq!(server.get("/healthz"), "ok\n");
    let asker = Asker::start(listen);
    let Some(stopped) = Stopped::in_a_batch(&server, "udp-1") else {
        eprintln!("skipped: the system does not allow ptrace");
        return;
    };
    let since = Instant::now();
    let (_, body) = http_get(server.admin(), "/healthz").expect("HTTP lives");
    assert!(!body.contains("worker"), "not stuck for long yet: {body}");
    let named = format!("worker udp-1 of {listen} has been busy for ");
    let body = until(&server, |code, body| code == 503 && body.starts_with(&named), NAMED);
    assert!(since.elapsed() >= Duration::from_secs(5), "{body}");
    let busy = body[named.len()..].split(' ').next().and_then(|seconds| seconds.parse::<u64>().ok());
    assert!(busy.is_some_and(|seconds| (5..=since.elapsed().as_secs() + 1).contains(&seconds)), "{body}");
    assert_eq!(body.matches("worker").count(), 1, "the others get on: {body}");
    drop(stopped);
    until(&server, |code, body| code == 200 && body == "ok\n", WELL);
    drop(asker);
    server.stop().expect("it ends");
}
