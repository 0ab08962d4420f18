//! Whether workers get on with what they have begun: two plain stores a batch, and whoever asks for health reads them.
//!
//! A query to itself tells less: another worker may answer it, or another process that holds the same sockets during an
//! upgrade.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::moment::Moment;

/// Since when a worker has been busy. It has a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Pulse {
    /// [`Moment::nanos`] of the beginning of what is being done; 0 while nothing is.
    began: AtomicU64,
}

impl Pulse {
    /// Something begins now.
    #[inline]
    pub fn begin(&self, now: Moment) {
        self.began.store(now.nanos().max(1), Relaxed);
    }

    /// It is done.
    #[inline]
    pub fn end(&self) {
        self.began.store(0, Relaxed);
    }

    /// How long what is being done has taken so far.
    #[must_use]
    pub fn busy(&self) -> Option<Duration> {
        let began = Some(self.began.load(Relaxed)).filter(|nanos| *nanos != 0)?;
        Some(Moment::of_nanos(began).elapsed())
    }
}

/// A worker that does not get on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hung {
    /// Its thread's name.
    pub worker: String,
    /// Where it answers, if its socket can say.
    pub address: Option<SocketAddr>,
    /// How long it has been at one batch.
    pub busy: Duration,
}

/// The pulses of all workers.
#[derive(Debug, Default)]
pub struct Pulses {
    all: Mutex<Vec<Patient>>,
}

#[derive(Debug)]
struct Patient {
    worker: String,
    address: Option<SocketAddr>,
    pulse: Arc<Pulse>,
}

impl Patient {
    fn hung(&self, longer: Duration) -> Option<Hung> {
        let busy = self.pulse.busy().filter(|busy| *busy > longer)?;
        Some(Hung { worker: self.worker.clone(), address: self.address, busy })
    }
}

impl Pulses {
    /// One more worker.
    pub fn add(&self, worker: &str, address: Option<SocketAddr>) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::default());
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Patient { worker: worker.to_owned(), address, pulse: Arc::clone(&pulse) });
        pulse
    }

    /// Who has been at one batch for longer than that. A worker whose thread has died in the middle of one is among them.
    #[must_use]
    pub fn hung(&self, longer: Duration) -> Vec<Hung> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(|patient| patient.hung(longer)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_begun_and_not_ended_is_busy_and_only_for_long_is_hung() {
        let pulses = Pulses::default();
        let [idle, quick, slow] = ["udp-0", "udp-1", "udp-2"].map(|name| pulses.add(name, None));
        let earlier = |by: u64| Moment::of_nanos(Moment::now().nanos() - by * 1_000_000_000);
        quick.begin(earlier(0));
        slow.begin(earlier(7));
        assert_eq!(idle.busy(), None);
        assert!(quick.busy().is_some_and(|busy| busy < Duration::from_secs(5)));
        let hung = pulses.hung(Duration::from_secs(5));
        assert_eq!(
            hung.iter().map(|hung| (hung.worker.as_str(), hung.busy.as_secs())).collect::<Vec<_>>(),
            [("udp-2", 7)]
        );
        quick.end();
        pulses.all.lock().unwrap()[2].pulse.end();
        assert_eq!((quick.busy(), pulses.hung(Duration::ZERO)), (None, vec![]));
    }
}
