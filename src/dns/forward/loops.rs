//! Loops: an upstream that sends our questions back to us, directly or through others (R23).
//!
//! Now and then each upstream of each zone gets a question for a name that nobody can guess. If that question comes in at
//! our own door, [`Forwarder::is_probe`](super::Forwarder::is_probe) knows it: it is refused instead of forwarded, and
//! the upstream is left out for this zone until a later probe is answered without coming back. A name is good for one
//! probe and some seconds, and 128 of its bits are random: no client can make an upstream look like a loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::query::Sent;
use super::zones::{Entry, Seat, Zones};
use super::{Tuning, probe};

/// What a person reads in an upstream's log.
const PREFIX: &[u8; 18] = b"segdns-loop-probe-";
/// Octets of the first label: prefix and 32 hexadecimal digits.
const LABEL: usize = PREFIX.len() + 32;
const TXT: u16 = 16;

/// The probes that are on their way. Read without a lock: anyone may send names that look like probes.
#[derive(Debug, Default)]
pub(super) struct Live(ArcSwap<Vec<Arc<Probe>>>);

#[derive(Debug)]
struct Probe {
    number: u128,
    until: Instant,
    came_back: AtomicBool,
    seen: Notify,
}

impl Live {
    /// Whether a name in uncompressed wire form is that of a probe; notes that it came back.
    #[inline]
    pub(super) fn is_probe(&self, name: &[u8]) -> bool {
        name.first() == Some(&(LABEL as u8)) && self.look(name)
    }

    fn look(&self, name: &[u8]) -> bool {
        let Some((prefix, digits)) =
            name.get(1..=LABEL).and_then(|label| label.split_first_chunk::<{ PREFIX.len() }>())
        else {
            return false;
        };
        if !PREFIX.eq_ignore_ascii_case(prefix) {
            return false;
        }
        let digits = str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let Some(number) = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok()) else { return false };
        let live = self.0.load();
        let Some(probe) = live.iter().find(|probe| probe.number == number) else { return false };
        let in_time = Instant::now() < probe.until;
        if in_time {
            probe.came_back.store(true, Relaxed);
            probe.seen.notify_one();
        }
        in_time
    }

    fn add(&self, valid: Duration) -> Arc<Probe> {
        let until = Instant::now() + valid;
        let probe = Probe { number: rand::random(), until, came_back: AtomicBool::new(false), seen: Notify::new() };
        let probe = Arc::new(probe);
        let now = Instant::now();
        self.0.rcu(|live| {
            let old = live.iter().filter(|probe| now < probe.until);
            old.chain([&probe]).map(Arc::clone).collect::<Vec<_>>()
        });
        probe
    }
}

/// Keeps the lists of upstreams fresh and sends the probes, for ever.
pub(super) async fn watch(newest: Arc<ArcSwap<Zones>>, tuning: Tuning) {
    let mut probes = JoinSet::new();
    loop {
        let zones = newest.load_full();
        while probes.try_join_next().is_some() {}
        for (number, entry) in zones.entries().iter().enumerate() {
            for seat in zones.roster(entry).seats().iter().filter(|seat| seat.probe_is_due(&tuning)) {
                let (zones, seat) = (Arc::clone(&zones), Arc::clone(seat));
                probes.spawn(async move { look(&zones, &zones.entries()[number], &seat, &tuning).await });
            }
        }
        drop(zones);
        sleep(tuning.loop_tick).await;
    }
}

/// One probe.
async fn look(zones: &Zones, entry: &Entry, seat: &Seat, tuning: &Tuning) {
    let probe = zones.live().add(tuning.loop_valid);
    let name = name(&probe, &entry.suffix);
    if name.len() > 255 {
        return; // A zone so deep that no such name fits below it.
    }
    let sent = Sent::new(&probe::plain(&name, TXT));
    let start = Instant::now();
    // It may come back after the answer too, through another way that the upstream tried at the same time.
    let (answered, seen) =
        tokio::join!(probe::send(&seat.peer, &sent), timeout(tuning.loop_valid, probe.seen.notified()));
    let came_back = seen.is_ok() || probe.came_back.load(Relaxed);
    if let (false, Err(trouble)) = (came_back, answered) {
        // It has not got there, perhaps; then this is how a dead upstream is found out before anyone asks it.
        return seat.peer.blame(trouble, start);
    }
    if seat.looping.swap(came_back, Relaxed) == came_back {
        return;
    }
    let (upstream, zone) = (seat.peer.address, &entry.text);
    if came_back {
        seat.probe_soon(tuning);
        tracing::error!(
            %upstream, zone,
            "forwarding loop: this upstream sends questions of the zone back to segdns; it is left out for the zone. In \
             forward, give zone {zone:?} upstreams that do not ask this node's DNS (not cluster DNS that forwards to the \
             node's resolv.conf, for instance)"
        );
    } else {
        tracing::info!(%upstream, zone, "forwarding loop is gone; the upstream is asked again");
    }
}

fn name(probe: &Probe, zone: &[u8]) -> Vec<u8> {
    [&[LABEL as u8], PREFIX.as_slice(), format!("{:032x}", probe.number).as_bytes(), zone].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_name_of_a_probe_that_is_on_its_way_is_one() {
        let live = Live::default();
        let probe = live.add(Duration::from_secs(3));
        let sent = name(&probe, b"\x07example\0");
        let with = |at: usize, octet: u8| {
            let mut name = sent.clone();
            name[at] = octet;
            name
        };
        let other_digit = if sent[40] == b'1' { b'2' } else { b'1' };
        for wrong in
            [&b"\0"[..], b"", b"\x03www\0", &sent[..30], &with(40, other_digit), &with(40, b'+'), &with(3, b'x')]
        {
            assert!(!live.is_probe(wrong), "{wrong:?}");
        }
        assert!(!probe.came_back.load(Relaxed));
        // Whoever sends it back may spell it as it likes.
        assert!(live.is_probe(&sent.to_ascii_uppercase()) && probe.came_back.load(Relaxed));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!live.is_probe(&sent), "too late");
        live.add(Duration::from_secs(3));
        assert_eq!(live.0.load().len(), 1, "the old one is forgotten");
    }
}
