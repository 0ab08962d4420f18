//! The programs that are compared, as processes: what they are given to read, and how to tell that they are there.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(15);
/// Where Debian puts servers, which is not in everyone's PATH.
const SYSTEM: &str = "/usr/sbin";

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This repository's, with its defaults.
    Segdns,
    /// Unbound as a forwarder, with what its manual recommends for serving expired names and for upstreams that go away.
    Unbound,
    /// Unbound as a forwarder, with its defaults.
    UnboundDefaults,
    /// CoreDNS with the Corefile of NodeLocal DNSCache.
    CoreDns,
}

/// A program to be measured.
#[derive(Clone, Debug)]
pub struct Program {
    /// What it is.
    pub kind: Kind,
    /// The binary.
    pub path: PathBuf,
}

/// A running server; it is killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    dir: TempDir,
    /// Where it answers.
    pub at: SocketAddr,
}

impl Kind {
    /// In the order of columns.
    pub const ALL: [Self; 4] = [Self::Segdns, Self::Unbound, Self::UnboundDefaults, Self::CoreDns];

    /// Its name on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Segdns => "segdns",
            Self::Unbound => "unbound",
            Self::UnboundDefaults => "unbound-defaults",
            Self::CoreDns => "coredns",
        }
    }

    /// The head of its column.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Segdns => "segdns",
            Self::Unbound => "Unbound, set up for this",
            Self::UnboundDefaults => "Unbound, defaults",
            Self::CoreDns => "CoreDNS as NodeLocal DNSCache",
        }
    }

    /// Whether the manual's recommendations are followed.
    fn tuned(self) -> bool {
        self == Self::Unbound
    }
}

impl Program {
    /// An installed Unbound; `None` if there is none.
    #[must_use]
    pub fn unbound(kind: Kind) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::env::split_paths(&path).chain([PathBuf::from(SYSTEM)]);
        let path = dirs.map(|dir| dir.join("unbound")).find(|path| path.is_file())?;
        Some(Self { kind, path })
    }

    /// The first line that it says of its version.
    #[must_use]
    pub fn version(&self) -> String {
        let argument = match self.kind {
            Kind::Segdns => "--version",
            Kind::Unbound | Kind::UnboundDefaults => "-V",
            Kind::CoreDns => "-version",
        };
        let said = Command::new(&self.path).arg(argument).output().map(|o| o.stdout).unwrap_or_default();
        String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
    }

    /// Starts it on a free port of 127.0.0.1, forwarding everything to these, in this order.
    ///
    /// # Errors
    /// Why it does not listen, with the end of what it printed.
    pub async fn start(&self, upstreams: &[SocketAddr]) -> Result<Running, String> {
        let say = |error: io::Error| format!("{}: {error}", self.path.display());
        let dir = tempfile::Builder::new().prefix("segdns-compare-").tempdir().map_err(say)?;
        let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), free_port());
        let config = dir.path().join("config");
        let text = match self.kind {
            Kind::Segdns => segdns(dir.path(), at, upstreams).map_err(say)?,
            Kind::Unbound | Kind::UnboundDefaults => unbound(dir.path(), at, upstreams, self.kind.tuned()),
            Kind::CoreDns => coredns(at, upstreams),
        };
        std::fs::write(&config, text).map_err(say)?;
        let arguments: &[&str] = match self.kind {
            Kind::Segdns => &["serve", "--node", "node1", "--config"],
            Kind::Unbound | Kind::UnboundDefaults => &["-d", "-c"],
            Kind::CoreDns => &["-conf"],
        };
        let log = File::create(dir.path().join("log")).map_err(say)?;
        let child = Command::new(&self.path)
            .args(arguments)
            .arg(&config)
            .current_dir(dir.path())
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(say)?)
            .stderr(log)
            .spawn()
            .map_err(say)?;
        let mut running = Running { child, dir, at };
        running.wait(self.kind).await?;
        Ok(running)
    }
}

impl Running {
    async fn wait(&mut self, kind: Kind) -> Result<(), String> {
        // Without this line its table is not there yet; the others have nothing to read.
        let said = if kind == Kind::Segdns { "ready" } else { "" };
        let end = Instant::now() + START;
        while Instant::now() < end {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended: {status}: {}", self.tail()));
            }
            let ready = said.is_empty() || self.log().lines().any(|line| line.starts_with(said));
            if ready && TcpStream::connect(self.at).await.is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(format!("it does not listen after {START:?}: {}", self.tail()))
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.path().join("log")).unwrap_or_default()).into_owned()
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(3)..].join("; ")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port below the ephemeral range, free for UDP and TCP, and not given out before by this process.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id().wrapping_mul(37);
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 11_000 + u16::try_from(start.wrapping_add(step) % 20_000).expect("below 20000");
        let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        if UdpSocket::bind(at).is_ok() && TcpListener::bind(at).is_ok() {
            return port;
        }
    }
}

/// Its defaults, but for addresses; and no objects.
fn segdns(dir: &Path, at: SocketAddr, upstreams: &[SocketAddr]) -> io::Result<String> {
    let objects = dir.join("objects");
    std::fs::create_dir(&objects)?;
    let config = serde_json::json!({
        "listen": [at],
        "admin": "127.0.0.1:0",
        "sources": {"manifests": [{"cluster": "here", "path": objects}]},
        "forward": [{"zone": ".", "upstreams": upstreams}],
    });
    Ok(format!("{config:#}\n"))
}

/// The first part is what it needs to run beside a system's own, to ask addresses of 127.0.0.0/8, and to believe answers that
/// nobody signed. The second is what unbound.conf(5) recommends, or offers, for the role.
fn unbound(dir: &Path, at: SocketAddr, upstreams: &[SocketAddr], tuned: bool) -> String {
    let (ip, port, dir) = (at.ip(), at.port(), dir.display());
    let mut text = format!(
        "server:\n  interface: {ip}@{port}\n  access-control: 127.0.0.0/8 allow\n  do-not-query-localhost: no\n  \
         directory: \"{dir}\"\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  logfile: \"\"\n  \
         do-daemonize: no\n  module-config: \"iterator\"\n"
    );
    if tuned {
        text += "  num-threads: 2\n  prefetch: yes\n  serve-expired: yes\n  serve-expired-ttl: 86400\n  \
                 serve-expired-client-timeout: 1800\n  serve-expired-reply-ttl: 30\n  ede: yes\n  \
                 ede-serve-expired: yes\n  infra-keep-probing: yes\n";
    }
    text += "remote-control:\n  control-enable: no\nforward-zone:\n  name: \".\"\n";
    for upstream in upstreams {
        text += &format!("  forward-addr: {}@{}\n", upstream.ip(), upstream.port());
    }
    text
}

/// The block for "." of node-local-dns, but for its metrics.
fn coredns(at: SocketAddr, upstreams: &[SocketAddr]) -> String {
    let to: Vec<String> = upstreams.iter().map(SocketAddr::to_string).collect();
    let (ip, port, to) = (at.ip(), at.port(), to.join(" "));
    format!(".:{port} {{\n  errors\n  cache 30\n  reload\n  loop\n  bind {ip}\n  forward . {to}\n}}\n")
}
