//! Which upstreams a name goes to: the longest zone that is its suffix (R23).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::{ArcSwap, Guard};
use tokio::time::Instant;

use super::loops::Live;
use super::own::Own;
use super::peer::Peer;
use super::resolv::ResolvConf;
use super::stats::Stats;
use super::udp::Receiver;
use super::{Condition, ForwardError, Tuning};
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

/// What forwarders have in common that follow each other: what they know of upstreams, and probes on their way.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By address and whether they are asked over TCP; gone when no zone names them any more.
    peers: Mutex<HashMap<(SocketAddr, bool), Weak<Peer>>>,
    /// By address, for ever.
    stats: Mutex<BTreeMap<SocketAddr, Arc<Stats>>>,
    pub(super) live: Live,
    receiver: Arc<Receiver>,
}

/// The zones, longest first.
#[derive(Debug)]
pub(super) struct Zones {
    entries: Vec<Entry>,
    known: Arc<Known>,
    tuning: Tuning,
}

/// One zone, checked.
#[derive(Debug)]
pub(super) struct Entry {
    /// Wire form in lower case, with the root octet.
    pub(super) suffix: Vec<u8>,
    /// Its name for people, `.` for the root.
    pub(super) text: String,
    tcp: bool,
    sources: Vec<Source>,
    roster: ArcSwap<Roster>,
    changing: Mutex<()>,
}

/// A zone's upstreams as they are now.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// What the sources say, doubles included.
    said: Vec<SocketAddr>,
    seats: Vec<Arc<Seat>>,
}

/// One upstream in one zone.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) peer: Arc<Peer>,
    /// It sends the zone's questions back to us.
    pub(super) looping: AtomicBool,
    probing: Mutex<Probing>,
}

/// When the next probe for a loop is due.
#[derive(Debug)]
struct Probing {
    next: Instant,
    is_new: bool,
}

#[derive(Debug)]
enum Source {
    Address(SocketAddr),
    File(ResolvConf),
}

impl Seat {
    fn new(peer: Arc<Peer>) -> Arc<Self> {
        let probing = Mutex::new(Probing { next: Instant::now(), is_new: true });
        Arc::new(Self { peer, looping: AtomicBool::new(false), probing })
    }

    /// Whether clients' questions may go there.
    #[inline]
    pub(super) fn is_usable(&self) -> bool {
        !self.peer.health.is_down() && !self.is_looping()
    }

    /// Whether it sends the zone's questions back to us.
    #[inline]
    pub(super) fn is_looping(&self) -> bool {
        self.looping.load(Relaxed)
    }

    /// Whether to look for a loop now; then not again for some time. One that was down may be another when it is back.
    pub(super) fn probe_is_due(&self, tuning: &Tuning) -> bool {
        let now = Instant::now();
        let mut probing = self.probing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.peer.health.is_down() {
            *probing = Probing { next: now, is_new: true };
            return false;
        }
        let due = now >= probing.next;
        if due {
            let soon = std::mem::take(&mut probing.is_new) || self.is_looping();
            let pause = if soon { tuning.loop_again } else { tuning.loop_every };
            probing.next = now + pause.mul_f64(rand::random_range(0.8..1.2));
        }
        due
    }

    /// The next probe comes soon, so that what was repaired is used soon.
    pub(super) fn probe_soon(&self, tuning: &Tuning) {
        self.probing.lock().unwrap_or_else(PoisonError::into_inner).next = Instant::now() + tuning.loop_again;
    }
}

impl Entry {
    /// The upstreams now, each once, as far as they have been looked at.
    #[inline]
    pub(super) fn roster(&self) -> Guard<Arc<Roster>> {
        self.roster.load()
    }
}

impl Roster {
    /// For people.
    pub(super) fn conditions(&self) -> Vec<Condition> {
        let condition = |seat: &Arc<Seat>| {
            let looping = || "left out: it sends questions back to segdns, a forwarding loop".to_owned();
            let left_out = seat.is_looping().then(looping).or_else(|| seat.peer.health.why_down());
            Condition { address: seat.peer.address, left_out }
        };
        self.seats.iter().map(condition).collect()
    }

    #[inline]
    pub(super) fn seats(&self) -> &[Arc<Seat>] {
        &self.seats
    }
}

impl Zones {
    /// Checks `zones`; `before` is whom they follow, whose upstreams keep what is known of them.
    pub(super) fn new(
        zones: Vec<Zone>,
        own: Own,
        tuning: Tuning,
        known: &Arc<Known>,
        before: Option<&Self>,
    ) -> Result<Self, ForwardError> {
        let own = Arc::new(own);
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
            let suffix = suffix(zone.zone.as_ref());
            // Its upstreams keep their seats, as where a resolv.conf changes.
            let same = |entry: &&Entry| entry.suffix == suffix && entry.tcp == zone.tcp;
            let old = before.and_then(|zones| zones.entries.iter().find(same));
            let roster = ArcSwap::new(old.map(|entry| entry.roster.load_full()).unwrap_or_default());
            entries.push(Entry { suffix, text, tcp: zone.tcp, sources, roster, changing: Mutex::default() });
        }
        // Longest first also makes the most special zone the one that an upstream of several is probed with.
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.suffix.len()));
        let zones = Self { entries, known: Arc::clone(known), tuning };
        zones.entries.iter().for_each(|entry| zones.refresh(entry));
        Ok(zones)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn live(&self) -> &Live {
        &self.known.live
    }

    /// The zone of a name in uncompressed wire form.
    #[inline]
    pub(super) fn of(&self, name: &[u8]) -> Option<&Entry> {
        self.entries.iter().find(|entry| is_in(name, &entry.suffix))
    }

    /// A zone's upstreams now, each once; files are looked at again.
    pub(super) fn roster(&self, entry: &Entry) -> Arc<Roster> {
        if entry.sources.iter().any(|source| matches!(source, Source::File(_))) {
            self.refresh(entry);
        }
        entry.roster.load_full()
    }

    fn refresh(&self, entry: &Entry) {
        if is_said(&entry.sources, &entry.roster.load().said) {
            return;
        }
        let _alone = entry.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut said = Vec::new();
        for source in &entry.sources {
            match source {
                Source::Address(address) => said.push(*address),
                Source::File(file) => said.extend(file.servers().iter()),
            }
        }
        let old = entry.roster.load();
        let mut seats: Vec<Arc<Seat>> = Vec::with_capacity(said.len());
        for address in &said {
            // A list is a handful, so looking through it beats hashing.
            if seats.iter().any(|seat| seat.peer.address == *address) {
                continue;
            }
            let kept = old.seats.iter().find(|seat| seat.peer.address == *address).map(Arc::clone);
            seats.push(kept.unwrap_or_else(|| Seat::new(self.known.peer(*address, entry, self.tuning))));
        }
        entry.roster.store(Arc::new(Roster { said, seats }));
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

    /// The counters of every upstream that any zone names now or has named, by address.
    pub(super) fn stats(&self) -> Vec<(SocketAddr, Arc<Stats>)> {
        self.entries.iter().for_each(|entry| self.refresh(entry));
        let stats = self.known.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.iter().map(|(address, stats)| (*address, Arc::clone(stats))).collect()
    }
}

impl Known {
    fn peer(&self, address: SocketAddr, entry: &Entry, tuning: Tuning) -> Arc<Peer> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (address, entry.tcp);
        if let Some(peer) = peers.get(&key).and_then(Weak::upgrade) {
            return peer;
        }
        let stats = Arc::clone(self.stats.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default());
        let peer = Arc::new(Peer::new(key, &entry.suffix, stats, Arc::clone(&self.receiver), tuning));
        peers.retain(|_, peer| peer.strong_count() > 0);
        peers.insert(key, Arc::downgrade(&peer));
        peer
    }
}

/// Whether this is what the sources say now; nothing is allocated to find out.
fn is_said(sources: &[Source], said: &[SocketAddr]) -> bool {
    let mut rest = said;
    for source in sources {
        let after = match source {
            Source::Address(address) => rest.strip_prefix(std::slice::from_ref(address)),
            Source::File(file) => rest.strip_prefix(&*file.servers()),
        };
        let Some(after) = after else { return false };
        rest = after;
    }
    rest.is_empty()
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
