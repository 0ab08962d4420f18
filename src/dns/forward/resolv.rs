//! The name servers and search domains of a resolv.conf, read again when the file changes.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io};

use super::own::Own;
use crate::table::Name;

/// A resolv.conf that is looked at when it is needed, and then at most once per `check`.
#[derive(Debug)]
pub(super) struct ResolvConf {
    path: PathBuf,
    port: u16,
    check: Duration,
    own: Arc<Own>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    checked: Instant,
    stamp: Option<Stamp>,
    servers: Arc<[SocketAddr]>,
    searches: Arc<[Name]>,
}

/// What tells one state of a file from another: a ConfigMap or kubelet replaces the file, an editor changes it.
type Stamp = (u64, i64, i64, u64);

impl ResolvConf {
    /// Reads the file. A list without usable name servers is taken, with a warning: it may be filled later.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn open(path: &Path, port: u16, check: Duration, own: Arc<Own>) -> io::Result<Self> {
        let stamp = stamp(path)?;
        let text = fs::read_to_string(path)?;
        let servers = usable(&text, port, &own, path);
        if servers.is_empty() {
            tracing::warn!(path = %path.display(), "no usable nameserver in it; names that need it fail until there is");
        }
        let searches = searches(&text);
        let state = State { checked: Instant::now(), stamp: Some(stamp), servers: servers.into(), searches };
        Ok(Self { path: path.to_owned(), port, check, own, state: Mutex::new(state) })
    }

    /// The name servers now. A file that became unreadable or empty changes nothing.
    ///
    /// The file is local and small, so it is read in place although that blocks for some microseconds.
    pub(super) fn servers(&self) -> Arc<[SocketAddr]> {
        self.now().servers.clone()
    }

    /// The search domains now, as with the name servers.
    pub(super) fn searches(&self) -> Arc<[Name]> {
        self.now().searches.clone()
    }

    fn now(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.checked.elapsed() >= self.check {
            state.checked = Instant::now();
            let now = stamp(&self.path).ok();
            if now != state.stamp {
                // Taken before reading: a change in between is seen next time.
                state.stamp = now;
                self.reread(&mut state);
            }
        }
        state
    }

    fn reread(&self, state: &mut State) {
        let path = self.path.display();
        match fs::read_to_string(&self.path) {
            Ok(text) => {
                let servers = usable(&text, self.port, &self.own, &self.path);
                if servers.is_empty() {
                    tracing::warn!(%path, "no usable nameserver in it any more; those from before stay");
                    return;
                }
                state.searches = searches(&text);
                if *servers != *state.servers {
                    tracing::info!(%path, ?servers, "name servers changed");
                    state.servers = servers.into();
                }
            }
            Err(error) => tracing::warn!(%path, %error, "cannot be read; the name servers from before stay"),
        }
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let meta = fs::metadata(path)?;
    Ok((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

fn usable(text: &str, port: u16, own: &Own, path: &Path) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for ip in nameservers(text) {
        let server = SocketAddr::new(ip, port);
        if own.is(server) {
            tracing::warn!(path = %path.display(), %server, "is segdns itself and is left out");
        } else if !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

/// The domains of the last `search` or `domain` line, which the ones before do not count beside (resolv.conf(5)); what is no
/// name cannot be searched.
fn searches(text: &str) -> Arc<[Name]> {
    let mut lines = text.lines().rev().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let most = match words.next() {
            Some("search") => usize::MAX,
            Some("domain") => 1,
            _ => return None,
        };
        Some(words.take_while(|word| !word.starts_with(['#', ';'])).take(most))
    });
    let last = lines.next().into_iter().flatten();
    last.filter_map(|word| Name::parse_service(word.strip_suffix('.').unwrap_or(word)).ok()).collect()
}

/// The addresses of the `nameserver` lines, in order; an IPv6 zone (`%eth0`) is ignored, what is no address too.
fn nameservers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        address.split('%').next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nameserver_lines_with_an_address_count() {
        let text = "# nameserver 9.9.9.9\nsearch a b\n  nameserver\t10.0.0.1 # first\nnameserver fe80::1%eth0\r\n\
                    nameserver\nnameserver x\nnameservers 1.1.1.1\nnameserver 10.0.0.2";
        let found: Vec<String> = nameservers(text).map(|ip| ip.to_string()).collect();
        assert_eq!(found, ["10.0.0.1", "fe80::1", "10.0.0.2"]);
    }

    #[test]
    fn the_last_search_or_domain_line_counts() {
        let of = |text: &str| searches(text).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of("search a.example  B.Example.\nnameserver 10.0.0.1\n"), ["a.example", "b.example"]);
        assert_eq!(of("search a.example\n domain\tb.example c.example\n#search d.example"), ["b.example"]);
        assert_eq!(of("domain a.example\nsearch _x.corp no..name . # b.example"), ["_x.corp"]);
        assert!(of("nameserver 10.0.0.1\nsearches a").is_empty());
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_lost_or_empty_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let own = Arc::new(Own::new(&["127.0.0.53:53".parse().unwrap()]));
        fs::write(&path, "nameserver 10.0.0.1\nnameserver 127.0.0.53\nnameserver 10.0.0.1\n").unwrap();
        let conf = ResolvConf::open(&path, 53, Duration::ZERO, own).unwrap();
        let now = || conf.servers().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(now(), ["10.0.0.1:53"], "our own address is left out");
        assert!(conf.searches().is_empty());
        fs::write(&path, "nameserver 10.0.0.2\nnameserver fd00::53\nsearch corp.example\n").unwrap();
        assert_eq!(now(), ["10.0.0.2:53", "[fd00::53]:53"]);
        assert_eq!(conf.searches()[0].as_str(), "corp.example");
        fs::write(&path, "# nothing\n").unwrap();
        assert_eq!(now(), ["10.0.0.2:53", "[fd00::53]:53"]);
        fs::remove_file(&path).unwrap();
        assert_eq!(now(), ["10.0.0.2:53", "[fd00::53]:53"]);
        fs::write(&path, "nameserver 10.0.0.3\n").unwrap();
        assert_eq!(now(), ["10.0.0.3:53"]);
    }

    #[test]
    fn a_file_is_not_looked_at_twice_within_the_interval() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
        let conf = ResolvConf::open(&path, 53, Duration::from_secs(3600), Arc::new(Own::new(&[]))).unwrap();
        fs::write(&path, "nameserver 10.0.0.2\n").unwrap();
        assert_eq!(conf.servers()[0].to_string(), "10.0.0.1:53");
    }
}
