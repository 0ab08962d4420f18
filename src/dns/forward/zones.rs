//! Which upstreams a name goes to: the longest zone that is its suffix (R23).

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::own::Own;
use super::resolv::ResolvConf;
use super::stats::Stats;
use super::tcp::Line;
use super::{ForwardError, Tuning};
use crate::table::Name;

/// Names that are forwarded alike: one of `forward` in the configuration (R23).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its name; `None` for the root, which takes what no other zone does.
    pub zone: Option<Name>,
    /// Whom to ask, the preferred one first.
    pub upstreams: Vec<Upstream>,
    /// Ask over persistent TCP always, not only after a truncated answer.
    pub tcp: bool,
}

/// One entry of a zone's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// An address and port.
    Address(SocketAddr),
    /// The `nameserver` lines of a file in resolv.conf(5)'s format, on port 53.
    ResolvConf(PathBuf),
}

/// One upstream address, with all that is known of it; zones that name the same address share it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) stats: Arc<Stats>,
    pub(super) line: Line,
}

/// The zones, longest first, and the upstreams that they have used so far.
#[derive(Debug)]
pub(super) struct Zones {
    entries: Vec<Entry>,
    peers: Mutex<HashMap<SocketAddr, Arc<Peer>>>,
    tuning: Tuning,
}

/// One zone, checked.
#[derive(Debug)]
pub(super) struct Entry {
    /// Wire form in lower case, with the root octet.
    suffix: Vec<u8>,
    /// Its name for people, `.` for the root.
    pub(super) text: String,
    pub(super) tcp: bool,
    sources: Vec<Source>,
}

#[derive(Debug)]
enum Source {
    Address(SocketAddr),
    File(ResolvConf),
}

impl Zones {
    pub(super) fn new(zones: Vec<Zone>, own: Arc<Own>, tuning: Tuning) -> Result<Self, ForwardError> {
        let mut seen = HashSet::new();
        let mut entries = Vec::with_capacity(zones.len());
        for zone in zones {
            let text = zone.zone.as_ref().map_or_else(|| ".".to_owned(), ToString::to_string);
            if !seen.insert(text.clone()) {
                return Err(ForwardError::Double { zone: text });
            }
            if zone.upstreams.is_empty() {
                return Err(ForwardError::NoUpstream { zone: text });
            }
            let open = |upstream| Source::open(upstream, &text, &own, tuning);
            let sources = zone.upstreams.into_iter().map(open).collect::<Result<_, _>>()?;
            entries.push(Entry { suffix: suffix(zone.zone.as_ref()), text, tcp: zone.tcp, sources });
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.suffix.len()));
        Ok(Self { entries, peers: Mutex::default(), tuning })
    }

    /// The zone of a name in uncompressed wire form.
    pub(super) fn of(&self, name: &[u8]) -> Option<&Entry> {
        self.entries.iter().find(|entry| is_in(name, &entry.suffix))
    }

    /// A zone's upstreams now, each once.
    pub(super) fn peers_of(&self, entry: &Entry) -> Vec<Arc<Peer>> {
        let mut addresses = Vec::with_capacity(entry.sources.len());
        // A list is a handful, so looking through it beats hashing.
        let mut add = |address: &SocketAddr| {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        };
        for source in &entry.sources {
            match source {
                Source::Address(address) => add(address),
                Source::File(file) => file.servers().iter().for_each(&mut add),
            }
        }
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.into_iter().map(|at| peers.entry(at).or_insert_with(|| self.peer(at)).clone()).collect()
    }

    /// The search domains of the root zone's file.
    pub(super) fn search_domains(&self) -> Arc<[Name]> {
        let root = self.entries.iter().filter(|entry| entry.suffix == [0]);
        let files = root.flat_map(|entry| &entry.sources).filter_map(|source| match source {
            Source::File(file) => Some(file.searches()),
            Source::Address(_) => None,
        });
        files.last().unwrap_or_default()
    }

    /// Every upstream that any zone names now or has named, by address.
    pub(super) fn all_peers(&self) -> Vec<Arc<Peer>> {
        for entry in &self.entries {
            self.peers_of(entry);
        }
        let mut all: Vec<_> =
            self.peers.lock().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect();
        all.sort_by_key(|peer| peer.address);
        all
    }

    fn peer(&self, address: SocketAddr) -> Arc<Peer> {
        let stats = Arc::<Stats>::default();
        Arc::new(Peer { address, line: Line::new(address, self.tuning.tcp_idle, stats.clone()), stats })
    }
}

impl Source {
    fn open(upstream: Upstream, zone: &str, own: &Arc<Own>, tuning: Tuning) -> Result<Self, ForwardError> {
        match upstream {
            Upstream::Address(address) if address.port() == 0 || address.ip().is_unspecified() => {
                Err(ForwardError::Unusable { zone: zone.to_owned(), address })
            }
            Upstream::Address(address) if own.is(address) => Err(ForwardError::Own { zone: zone.to_owned(), address }),
            Upstream::Address(address) => Ok(Self::Address(address)),
            Upstream::ResolvConf(path) => ResolvConf::open(&path, tuning.resolv_port, tuning.resolv_check, own.clone())
                .map(Self::File)
                .map_err(|error| ForwardError::ResolvConf { zone: zone.to_owned(), path, error }),
        }
    }
}

fn suffix(zone: Option<&Name>) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in zone.iter().flat_map(|zone| zone.as_str().split('.')) {
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// Whether a name is `suffix` or below it; length octets are below 64, so folding letters leaves them alone.
fn is_in(name: &[u8], suffix: &[u8]) -> bool {
    let Some(start) = name.len().checked_sub(suffix.len()) else { return false };
    if !name[start..].eq_ignore_ascii_case(suffix) {
        return false;
    }
    let mut at = 0;
    while at < start {
        at += 1 + usize::from(name[at]);
    }
    at == start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_ends_at_a_label() {
        let name = |text: &str| suffix(Some(&Name::parse(text).unwrap()));
        assert!(is_in(b"\x01a\x07CLUSTER\x05Local\0", &name("cluster.local")));
        assert!(is_in(&name("cluster.local"), &name("cluster.local")));
        assert!(!is_in(&name("xcluster.local"), &name("cluster.local")));
        assert!(!is_in(&name("local"), &name("cluster.local")));
        assert!(is_in(&name("local"), &suffix(None)) && is_in(&[0], &suffix(None)));
        // The octets of "\x05local\0" stand here too, but inside a label.
        assert!(!is_in(b"\x09xxx\x05local\0", &name("local")));
    }
}
