//! The binary under test, as a process.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{HERE, UPSTREAM, free_port, objects};

/// How long a server may take to be ready.
const READY: Duration = Duration::from_secs(20);
/// How long it may take to end after SIGTERM.
const STOP: Duration = Duration::from_secs(15);
/// How long an admin endpoint may take to answer, on a machine that is busy.
const ANSWER: Duration = Duration::from_secs(5);

/// Set, configurations and logs are kept, in /tmp/segdns-test-*.
const KEEP: &str = "SEGDNS_KEEP";

/// A running `segdns serve`. It is killed when dropped; [`Server::stop`] ends it properly.
#[derive(Debug)]
pub struct Server {
    child: Child,
    admin: SocketAddr,
    dir: TempDir,
}

/// The configuration of a server of one cluster of manifests, which listens here, forwards everything to this upstream, and
/// ends at once when it is told to.
#[must_use]
pub fn config_of(at: SocketAddr, (cluster, manifests): (&str, &Path), upstream: SocketAddr) -> Value {
    json!({
        "listen": [at],
        "admin": SocketAddr::new(HERE, free_port()),
        "cluster": {"name": cluster},
        "sources": {"manifests": [{"cluster": cluster, "path": manifests}]},
        "forward": [{"zone": ".", "upstreams": [upstream]}],
        "drain": {"lameduck": "0s", "deadline": "2s"},
    })
}

/// That of a server of the fixture `namespace-segments`, which has nobody to forward to, with `extra` merged into it.
#[must_use]
pub fn of_files(extra: &Value) -> Value {
    let files = super::fixture::root().join("namespace-segments/cluster1");
    let nobody = SocketAddr::new(UPSTREAM, free_port());
    let mut config = config_of(SocketAddr::new(HERE, free_port()), ("cluster1", &files), nobody);
    objects::merge(&mut config, extra);
    config
}

/// The first address that a configuration listens on.
///
/// # Panics
/// There is none.
#[must_use]
pub fn address_of(config: &Value) -> SocketAddr {
    config["listen"][0].as_str().and_then(|at| at.parse().ok()).expect("an address")
}

impl Server {
    /// Starts a server with this configuration (JSON is YAML, too) and waits until `/readyz` says 200. The configuration
    /// needs an `admin` address.
    ///
    /// # Errors
    /// Why it is not ready, with the end of its log.
    pub fn start(config: &Value) -> Result<Self, String> {
        let mut server = Self::spawn(config)?;
        server.wait_ready()?;
        Ok(server)
    }

    /// As [`Server::start`], but does not wait: for what happens before it is ready, or while it never is.
    ///
    /// # Errors
    /// Why there is no process.
    pub fn spawn(config: &Value) -> Result<Self, String> {
        Self::spawn_fed(config, None)
    }

    /// As [`Server::spawn`], with this KUBECONFIG.
    ///
    /// # Errors
    /// Why there is no process.
    pub fn spawn_fed(config: &Value, kubeconfig: Option<&Path>) -> Result<Self, String> {
        Self::spawn_in(config, kubeconfig, &[])
    }

    /// As [`Server::spawn_fed`], with these variables in its environment.
    ///
    /// # Errors
    /// Why there is no process.
    pub fn spawn_in(config: &Value, kubeconfig: Option<&Path>, env: &[(&str, &Path)]) -> Result<Self, String> {
        Self::spawn_by(&[], config, kubeconfig, env)
    }

    /// As [`Server::spawn_in`], by a command that becomes it: `prlimit --nofile=64`.
    ///
    /// # Errors
    /// Why there is no process.
    pub fn spawn_by(
        launcher: &[&str],
        config: &Value,
        kubeconfig: Option<&Path>,
        env: &[(&str, &Path)],
    ) -> Result<Self, String> {
        let say = |e: io::Error| format!("cannot be started: {e}");
        let admin =
            config["admin"].as_str().and_then(|a| a.parse().ok()).ok_or("the test's configuration has no admin")?;
        let mut dir = tempfile::Builder::new().prefix("segdns-test-").tempdir().map_err(say)?;
        dir.disable_cleanup(std::env::var_os(KEEP).is_some());
        let path = dir.path().join("segdns.yaml");
        std::fs::write(&path, format!("{config:#}\n")).map_err(say)?;
        let log = File::create(dir.path().join("log")).map_err(say)?;
        let binary = super::binary();
        let mut words = launcher.iter().map(AsRef::as_ref).chain([binary.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        match kubeconfig {
            Some(path) => command.env("KUBECONFIG", path),
            None => command.env_remove("KUBECONFIG"),
        };
        let child = command
            .args(["serve", "--node", "node1", "--config"])
            .arg(&path)
            .env("NODE_NAME", "node1")
            .env_remove(super::IN_CLUSTER)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(say)?)
            .stderr(log)
            .spawn()
            .map_err(say)?;
        Ok(Self { child, admin, dir })
    }

    /// Its configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("segdns.yaml")
    }

    /// Gives it another configuration, which it reads again when it looks or is told to. It is moved into place as a whole.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn configure(&self, config: &Value) {
        let draft = self.dir.path().join("draft");
        std::fs::write(&draft, format!("{config:#}\n")).expect("written");
        std::fs::rename(draft, self.config_path()).expect("moved");
    }

    /// All that it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// How much of it is in memory, octets.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) * 1024
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The address of its admin endpoints.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What an admin endpoint says.
    ///
    /// # Panics
    /// It does not say 200.
    #[must_use]
    pub fn get(&self, path: &str) -> String {
        let (status, body) = http_get(self.admin, path).expect("an answer");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Empties its cache.
    ///
    /// # Panics
    /// It does not say that it did.
    pub fn flush(&self) {
        let (status, body) = http(self.admin, "POST", "/debug/flush").expect("an answer");
        assert_eq!(status, 200, "{body}");
    }

    /// The last lines it printed.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = std::fs::read(self.dir.path().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(3)..].join(" | ")
    }

    /// Its exit status, if it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end, at most so long.
    pub fn ended_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        loop {
            let status = self.ended();
            if status.is_some() || begun.elapsed() >= limit {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal, e.g. `libc::SIGHUP`.
    pub fn signal(&self, signal: i32) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // SAFETY: takes no pointer. The child has not been waited for, so its number is still its own.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Ends it with SIGTERM.
    ///
    /// # Errors
    /// It had ended by itself before, or does not end in time.
    pub fn stop(mut self) -> Result<(), String> {
        if let Some(status) = self.ended() {
            return Err(format!("the server ended by itself: {status}: {}", self.tail()));
        }
        self.signal(libc::SIGTERM);
        let ended = self.ended_within(STOP);
        ended.map(drop).ok_or_else(|| format!("the server did not end within {STOP:?} of SIGTERM: {}", self.tail()))
    }

    /// Waits until `/readyz` says 200.
    ///
    /// # Errors
    /// Why it does not, with the end of its log.
    pub fn wait_ready(&mut self) -> Result<(), String> {
        let end = Instant::now() + READY;
        let mut last = String::new();
        while Instant::now() < end {
            if let Some(status) = self.ended() {
                return Err(format!("it ended: {status}: {}", self.tail()));
            }
            match http_get(self.admin, "/readyz") {
                Ok((200, _)) => return Ok(()),
                Ok((code, body)) => last = format!("{code} {}", body.trim()),
                Err(e) => last = e.to_string(),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("not ready after {READY:?}: {last}: {}", self.tail()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body of a plain HTTP GET.
///
/// # Errors
/// The connection's, or an answer that is no HTTP.
pub fn http_get(addr: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    http(addr, "GET", path)
}

/// Status and body of a plain HTTP request without a body.
///
/// # Errors
/// The connection's, or an answer that is no HTTP.
pub fn http(addr: SocketAddr, method: &str, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&addr, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    let text = String::from_utf8_lossy(&raw);
    let bad = || io::Error::other("no HTTP answer");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(bad)?;
    let code = head.split(' ').nth(1).and_then(|c| c.parse().ok()).ok_or_else(bad)?;
    Ok((code, body.to_owned()))
}
