//! Questions that are on their way to an upstream: identical ones become one (R23).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::dns::forward::{Failure, Message, Query};

/// What became of a flight.
pub(super) type Landed = Result<Arc<Message>, Failure>;

/// All that makes two questions different to an upstream but for the spelling of their names.
///
/// Whether there was an OPT is no part of it: it only says how long the answer may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Route {
    name: Box<[u8]>,
    rtype: u16,
    class: u16,
    bits: [bool; 4],
}

impl Route {
    pub(super) fn of(query: &Query<'_>) -> Self {
        Self {
            name: query.name.to_ascii_lowercase().into(),
            rtype: query.rtype,
            class: query.class,
            bits: [query.recursion_desired, query.checking_disabled, query.authentic_data, query.edns == Some(true)],
        }
    }
}

/// The flights under way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    all: Mutex<UnderWay>,
}

/// With who waits for each, but for the one who started it without a task.
type UnderWay = HashMap<Arc<Route>, Vec<oneshot::Sender<Landed>>, foldhash::quality::RandomState>;

/// Who joins a flight, and who has to start it.
pub(super) enum Boarded {
    /// It is under way.
    Joined(Passenger),
    /// It starts here: the pilot has to land it.
    Starts(Pilot, Passenger),
}

/// Waits for a flight to land.
#[derive(Debug)]
pub(super) struct Passenger(oneshot::Receiver<Landed>);

/// Lands a flight; dropped without, the flight has failed.
pub(super) struct Pilot {
    flights: Arc<Flights>,
    route: Arc<Route>,
    landed: bool,
}

impl Flights {
    pub(super) fn board(self: &Arc<Self>, route: Route) -> Boarded {
        let (tell, wait) = oneshot::channel();
        match self.all().entry(Arc::new(route)) {
            Entry::Occupied(mut flight) => {
                let waiting = flight.get_mut();
                // Those who have gone away make room, so that they do not pile up while somebody keeps asking.
                if waiting.len() == waiting.capacity() {
                    waiting.retain(|one| !one.is_closed());
                }
                waiting.push(tell);
                Boarded::Joined(Passenger(wait))
            }
            Entry::Vacant(free) => {
                let pilot = self.pilot(free.key());
                free.insert(vec![tell]);
                Boarded::Starts(pilot, Passenger(wait))
            }
        }
    }

    /// Starts a flight; `None` if one is under way already.
    pub(super) fn start(self: &Arc<Self>, route: Route) -> Option<Pilot> {
        match self.all().entry(Arc::new(route)) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                let pilot = self.pilot(free.key());
                free.insert(Vec::new());
                Some(pilot)
            }
        }
    }

    fn pilot(self: &Arc<Self>, route: &Arc<Route>) -> Pilot {
        Pilot { flights: Arc::clone(self), route: Arc::clone(route), landed: false }
    }

    fn all(&self) -> MutexGuard<'_, UnderWay> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passenger {
    pub(super) async fn wait(self) -> Landed {
        self.0.await.unwrap_or(Err(Failure::Timeout))
    }
}

impl Pilot {
    /// Who asks from now on starts a new flight, or finds in the cache what this one has brought.
    pub(super) fn land(mut self, landed: &Landed) {
        self.landed = true;
        let waiting = self.flights.all().remove(&self.route);
        for one in waiting.into_iter().flatten() {
            // Who has gone away is no error.
            drop(one.send(landed.clone()));
        }
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        if !self.landed {
            self.flights.all().remove(&self.route);
        }
    }
}
