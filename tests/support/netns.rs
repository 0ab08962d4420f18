//! Network namespaces for callers that must not be the node's own addresses, as all of 127.0.0.0/8 may be (R15).
//!
//! ```text
//! node namespace: lo, node0 10.99.0.1/16, fd00:10:1::1/64 -- veth -- pods namespace: pods0, the callers' addresses
//! ```
//!
//! The server under test and its upstream run in the node's, questions come from the pods'. A namespace belongs to a thread,
//! not to the process, so tests on loopback go on beside it. It is gone when its file is closed.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc;

/// The node's end of the wire, IPv4.
pub const NODE4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));
/// The node's end of the wire, IPv6.
pub const NODE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 1, 0, 0, 0, 0, 1));
/// Set to 1, tests that need namespaces are skipped in CI, too.
pub const SKIP: &str = "SEGDNS_SKIP_NETNS";

/// Whether a machine that grants no namespaces may do without such tests: not CI, unless it says so.
pub fn may_skip() -> bool {
    std::env::var_os("CI").is_none() || std::env::var_os(SKIP).is_some_and(|v| v == "1")
}

/// Two network namespaces, joined by a veth pair.
#[derive(Debug)]
pub struct Pods {
    node: File,
    pods: File,
}

impl Pods {
    /// Makes the namespaces, with these addresses on the pods' side.
    ///
    /// # Errors
    /// What is missing, in words: usually root.
    pub fn new(callers: &[IpAddr]) -> Result<Self, String> {
        let callers = callers.to_vec();
        // The thread that makes the pods' namespace lives until the wire is plugged in: `ip` names a namespace by thread.
        let (told, tell) = mpsc::channel();
        let (done, wait) = mpsc::channel::<()>();
        let inner = std::thread::spawn(move || {
            let _ = told.send(unshare());
            let _ = wait.recv();
        });
        let made = tell.recv().map_err(|e| e.to_string()).and_then(|r| r);
        let result = made.and_then(|(pods, thread)| {
            let node = in_new_thread(move || wire(thread, &callers))?;
            let pods_side = pods.try_clone().map_err(|e| e.to_string())?;
            Ok(Self { node, pods: pods_side })
        });
        drop(done);
        let _ = inner.join();
        result.map_err(|e| {
            format!("network namespaces: {e} (needs root and `ip`; with CI set, {SKIP}=1 skips such fixtures)")
        })
    }

    /// Moves the calling thread, and whatever it starts from now on, to the node's namespace, for good.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter_node(&self) -> io::Result<()> {
        enter(&self.node)
    }

    /// Runs `f`, which makes a socket, in the pods' namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|s| {
            s.spawn(|| enter(&self.pods).map(|()| f())).join().unwrap_or_else(|_| Err(io::Error::other("panicked")))
        })
    }
}

/// One network namespace, with nothing but loopback at first.
#[derive(Debug)]
pub struct Place {
    file: File,
}

impl Place {
    /// A new one.
    ///
    /// # Errors
    /// What is missing, in words: usually root.
    pub fn new() -> Result<Self, String> {
        let made = in_new_thread(|| unshare().and_then(|(file, _)| ip("link set lo up").map(|()| file)));
        made.map(|file| Self { file }).map_err(|e| format!("network namespace: {e} (needs root and `ip`)"))
    }

    /// Moves the calling thread, and whatever it starts from now on, there for good.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter(&self) -> io::Result<()> {
        enter(&self.file)
    }

    /// Runs `f` there: sockets that it makes, and programs that it starts, stay.
    ///
    /// # Errors
    /// The kernel's.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|s| {
            let run = s.spawn(|| self.enter().map(|()| f())).join();
            run.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `ip` there, with these words.
    ///
    /// # Panics
    /// It fails.
    pub fn ip(&self, words: &str) {
        self.inside(|| ip(words)).expect("a namespace").unwrap_or_else(|error| panic!("{error}"));
    }

    /// Lays a wire from here, where its end is called `near`, to `other`, where it is called `far`.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn plug(&self, near: &str, other: &Self, far: &str) {
        let file = format!("/proc/{}/fd/{}", std::process::id(), other.file.as_raw_fd());
        self.ip(&format!("link add {near} type veth peer name {far} netns {file}"));
        self.ip(&format!("link set {near} up"));
        other.ip(&format!("link set {far} up"));
    }
}

/// Moves the calling thread, and whatever it starts from now on, to a new namespace that has nothing but loopback.
///
/// # Errors
/// What is missing, in words: usually root.
pub fn alone() -> Result<(), String> {
    unshare()?;
    ip("link set lo up")
}

/// A new namespace for this thread: its file and the thread's number.
fn unshare() -> Result<(File, i32), String> {
    // SAFETY: takes no pointer; it only moves the calling thread to a new, empty network namespace.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(format!("unshare: {}", io::Error::last_os_error()));
    }
    let file = File::open("/proc/thread-self/ns/net").map_err(|e| e.to_string())?;
    // SAFETY: takes and returns no pointer.
    Ok((file, unsafe { libc::gettid() }))
}

fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `namespace` is borrowed; only the calling thread is moved.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn in_new_thread(f: impl FnOnce() -> Result<File, String> + Send + 'static) -> Result<File, String> {
    std::thread::spawn(f).join().unwrap_or_else(|_| Err("panicked".to_owned()))
}

/// In a thread of its own: makes the node's namespace, and the wire to that of thread `pods`.
fn wire(pods: i32, callers: &[IpAddr]) -> Result<File, String> {
    let (node, _) = unshare()?;
    let pods_ns = File::open(format!("/proc/{pods}/ns/net")).map_err(|e| e.to_string())?;
    ip("link set lo up")?;
    ip("link add node0 type veth peer name pods0")?;
    ip(&format!("addr add {NODE4}/16 dev node0"))?;
    ip(&format!("addr add {NODE6}/64 dev node0 nodad"))?;
    ip("link set node0 up")?;
    ip(&format!("link set pods0 netns {pods}"))?;
    enter(&pods_ns).map_err(|e| format!("setns: {e}"))?;
    ip("link set lo up")?;
    for caller in callers {
        let rest = if caller.is_ipv6() { "/64 dev pods0 nodad" } else { "/16 dev pods0" };
        ip(&format!("addr add {caller}{rest}"))?;
    }
    ip("link set pods0 up")?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    Ok(node)
}

fn ip(words: &str) -> Result<(), String> {
    let out = Command::new("ip").args(words.split(' ')).output().map_err(|e| format!("ip: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("ip {words}: {}", String::from_utf8_lossy(&out.stderr).trim()))
}
