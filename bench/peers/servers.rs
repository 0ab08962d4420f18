//! The servers as processes: each on one core, with what it needs to know, and what it costs.

pub mod config;
pub mod cost;

use std::fs::File;
use std::io::{self, Error};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::cores;
use crate::data::{Kind, Plan};
use crate::generate;
use cost::Cost;

/// How long a server may take until it answers: 100,000 manifests on a busy machine.
const START: Duration = Duration::from_secs(90);
/// How long it may take to end before it is killed.
const STOP: Duration = Duration::from_secs(3);
/// Where Debian puts servers, which is not in everyone's PATH.
const SYSTEM: [&str; 2] = ["/usr/sbin", "/sbin"];

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Program {
    /// This repository's, with its whole world.
    Segdns,
    /// The same, with as many names as the peers.
    SegdnsSmall,
    /// The same as the first, fed by an API server.
    SegdnsFed,
    /// The floor.
    Echo,
    /// hickory-server with a `HashMap`.
    Hickory,
    /// NSD.
    Nsd,
    /// Knot DNS.
    Knot,
    /// Unbound with local data and a cache.
    Unbound,
    /// dnsmasq with hosts and a cache.
    Dnsmasq,
    /// dnsdist with its packet cache.
    Dnsdist,
    /// dnsdist without it.
    DnsdistForward,
    /// CoreDNS with the plugin `hosts`.
    CoreDns,
    /// CoreDNS with the Corefile of NodeLocal DNSCache.
    NodeLocal,
}

/// What all servers are told.
#[derive(Clone, Debug)]
pub struct Setting {
    /// segdns's world.
    pub plan: Plan,
    /// The world of the others.
    pub small: Plan,
    /// Who knows what is external.
    pub upstream: SocketAddr,
    /// segdns's binary.
    pub segdns: PathBuf,
    /// That of segdns-small, if it is another.
    pub small_segdns: Option<PathBuf>,
    /// Where files may be made.
    pub dir: PathBuf,
}

/// A running server; it is ended when dropped.
#[derive(Debug)]
pub struct Running {
    /// What it is.
    pub program: Program,
    /// Where it answers.
    pub at: SocketAddr,
    /// segdns's admin address.
    pub admin: Option<SocketAddr>,
    /// Its folder.
    pub dir: PathBuf,
    /// From its start to its first answer.
    pub started_in: Duration,
    child: Child,
    /// Its own process and those that it has started.
    pids: Vec<libc::pid_t>,
}

impl Program {
    /// Those that are compared with others, in the order of tables.
    pub const ALL: [Self; 12] = [
        Self::Echo,
        Self::Segdns,
        Self::SegdnsSmall,
        Self::Nsd,
        Self::Knot,
        Self::Unbound,
        Self::Dnsmasq,
        Self::Dnsdist,
        Self::DnsdistForward,
        Self::Hickory,
        Self::CoreDns,
        Self::NodeLocal,
    ];

    /// As on the command line and in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Segdns => "segdns",
            Self::SegdnsSmall => "segdns-small",
            Self::SegdnsFed => "segdns-fed",
            Self::Echo => "echo",
            Self::Hickory => "hickory",
            Self::Nsd => "nsd",
            Self::Knot => "knot",
            Self::Unbound => "unbound",
            Self::Dnsmasq => "dnsmasq",
            Self::Dnsdist => "dnsdist",
            Self::DnsdistForward => "dnsdist-forward",
            Self::CoreDns => "coredns",
            Self::NodeLocal => "nodelocal",
        }
    }

    /// Whether it is segdns, and so knows callers.
    #[must_use]
    pub fn knows_callers(self) -> bool {
        matches!(self, Self::Segdns | Self::SegdnsSmall | Self::SegdnsFed)
    }

    /// The world that it serves.
    #[must_use]
    pub fn plan(self, setting: &Setting) -> Plan {
        if matches!(self, Self::Segdns | Self::SegdnsFed | Self::Echo) { setting.plan } else { setting.small }
    }

    /// The question that it is asked where segdns is asked one of this kind; `None` if it has no such thing. Nothing is
    /// hidden where callers are not known, so a name that is not there stands for one that is hidden.
    #[must_use]
    pub fn stands_in(self, kind: Kind) -> Option<Kind> {
        use Kind::{Absent, External, Hidden, Takeover, Visible};
        match (self, kind) {
            (Self::Segdns | Self::SegdnsSmall | Self::SegdnsFed, kind) => Some(kind),
            (Self::Dnsdist | Self::DnsdistForward, External) => Some(External),
            (Self::Dnsdist | Self::DnsdistForward, _) => None,
            (_, Hidden) => Some(Absent),
            (_, Visible | Takeover | External) => Some(kind),
            _ => None,
        }
    }

    fn binary(self, setting: &Setting) -> Result<PathBuf, String> {
        let name = match self {
            Self::Nsd => "nsd",
            Self::Knot => "knotd",
            Self::Unbound => "unbound",
            Self::Dnsmasq => "dnsmasq",
            Self::Dnsdist | Self::DnsdistForward => "dnsdist",
            Self::CoreDns | Self::NodeLocal => {
                let named = std::env::var_os("COREDNS").filter(|name| !name.is_empty());
                return named.map(PathBuf::from).ok_or_else(|| "COREDNS names no binary".to_owned());
            }
            Self::Echo | Self::Hickory => return std::env::current_exe().map_err(|e| e.to_string()),
            Self::SegdnsSmall => return Ok(setting.small_segdns.as_ref().unwrap_or(&setting.segdns).clone()),
            Self::Segdns | Self::SegdnsFed => return Ok(setting.segdns.clone()),
        };
        find(name).ok_or_else(|| format!("{name} is not installed"))
    }

    /// Where its files are.
    #[must_use]
    pub fn dir(self, setting: &Setting, append: usize) -> PathBuf {
        setting.dir.join(format!("{}-{append}", self.word()))
    }

    /// Starts it and waits until it answers. `append` is for the echo: how much longer an answer is than its query.
    ///
    /// # Errors
    /// Why there is none, with the end of what it printed.
    pub fn start(self, setting: &Setting, append: usize) -> Result<Running, String> {
        let say = |error: Error| format!("{}: {error}", self.word());
        let binary = self.binary(setting)?;
        let dir = self.dir(setting, append);
        std::fs::create_dir_all(&dir).map_err(say)?;
        let at = free_port().map_err(say)?;
        let admin = if self.knows_callers() { Some(free_port().map_err(say)?) } else { None };
        let arguments = config::write(self, setting, &dir, at, admin, append).map_err(say)?;
        let log = File::create(dir.join("log")).map_err(say)?;
        let begun = Instant::now();
        // setpriv: it ends with the bench, however that ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "taskset", "-c", &cores::SERVER.to_string()])
            .arg(&binary)
            .args(arguments)
            .current_dir(&dir)
            .env("KUBECONFIG", dir.join("kubeconfig"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(say)?)
            .stderr(log)
            .spawn()
            .map_err(say)?;
        let mut running =
            Running { program: self, at, admin, dir, started_in: Duration::ZERO, pids: vec![child.id() as i32], child };
        running.wait(setting)?;
        running.started_in = begun.elapsed();
        running.pids = cost::family(running.child.id() as libc::pid_t);
        Ok(running)
    }
}

impl Running {
    /// Waits until it answers the first question of its world.
    fn wait(&mut self, setting: &Setting) -> Result<(), String> {
        let plan = self.program.plan(setting);
        let kind = if self.program.stands_in(Kind::Visible).is_some() { Kind::Visible } else { Kind::External };
        let question = plan.questions(kind, 1, 1).remove(0);
        let end = Instant::now() + START;
        while Instant::now() < end {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} ended: {status}: {}", self.program.word(), self.tail()));
            }
            let patience = Duration::from_millis(300);
            match generate::ask(plan.caller(question.caller), self.at, &question.wire, patience) {
                Ok(answer) if self.is_ready_by(&answer) => return Ok(()),
                _ => thread::sleep(Duration::from_millis(50)),
            }
        }
        Err(format!("{} does not answer after {START:?}: {}", self.program.word(), self.tail()))
    }

    /// Whether this answers a name that exists. Before its table is there, segdns forwards; only what is its own is
    /// authoritative.
    fn is_ready_by(&self, answer: &[u8]) -> bool {
        let flags = if self.program.knows_callers() { 0x84 } else { 0x80 };
        let [_, _, high, low, _, _, 0, 1, ..] = *answer else { return self.program == Program::Echo };
        high & flags == flags && low & 15 == 0
    }

    /// What all its processes have used so far.
    #[must_use]
    pub fn cost(&self) -> Cost {
        Cost::of(&self.pids)
    }

    /// Resident and proportional memory of all its processes, in MiB.
    #[must_use]
    pub fn memory(&self) -> (f64, f64) {
        cost::memory(&self.pids)
    }

    /// Its processes.
    #[must_use]
    pub fn pids(&self) -> &[libc::pid_t] {
        &self.pids
    }

    /// The end of what it printed.
    fn tail(&self) -> String {
        let log = std::fs::read(self.dir.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(3)..].join("; ")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        cost::signal(self.child.id() as libc::pid_t, libc::SIGTERM);
        let end = Instant::now() + STOP;
        while Instant::now() < end {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        // Its children are known by number; one that has ended since may not be signalled, so only those that are its own.
        for pid in cost::family(self.child.id() as libc::pid_t) {
            cost::signal(pid, libc::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// Where a program is, in PATH or where Debian puts servers.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(SYSTEM.map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// The first line that a program says of its version.
#[must_use]
pub fn version(program: Program, setting: &Setting) -> String {
    let arguments: &[&str] = match program {
        Program::Nsd => &["-v"],
        Program::Knot | Program::Unbound => &["-V"],
        Program::CoreDns | Program::NodeLocal => &["-version"],
        Program::Echo => return String::new(),
        Program::Hickory => return "hickory-server 0.26".to_owned(),
        _ => &["--version"],
    };
    let Ok(Ok(said)) = program.binary(setting).map(|binary| Command::new(binary).args(arguments).output()) else {
        return String::new();
    };
    let said = [said.stdout, said.stderr].concat();
    String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
}

/// A port of 127.0.0.1 that is free for UDP and TCP.
fn free_port() -> io::Result<SocketAddr> {
    for _ in 0..100 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let at = udp.local_addr()?;
        if TcpListener::bind(at).is_ok() {
            return Ok(at);
        }
    }
    Err(Error::other("no port is free for UDP and TCP"))
}
