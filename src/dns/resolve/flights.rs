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
///
/// The name in lower case, root octet included, then type, class and a bit each for RD, CD, AD and DO, as one run of octets:
/// made, compared and hashed at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Route(Arc<[u8]>);

/// Octets of a [`Route`] after the name.
const TAIL: usize = 5;
/// Of a name.
const LONGEST: usize = 255;

impl Route {
    /// `None` for a name over 255 octets, which is none.
    pub(super) fn of(query: &Query<'_>) -> Option<Self> {
        let mut octets = [0; LONGEST + TAIL];
        let (name, tail) = octets.get_mut(..query.name.len() + TAIL)?.split_at_mut(query.name.len());
        name.copy_from_slice(query.name);
        name.make_ascii_lowercase();
        let ([t, y], [c, l]) = (query.rtype.to_be_bytes(), query.class.to_be_bytes());
        let bits = [query.recursion_desired, query.checking_disabled, query.authentic_data, query.edns == Some(true)];
        let bits = bits.into_iter().fold(0, |all, bit| all << 1 | u8::from(bit));
        tail.copy_from_slice(&[t, y, c, l, bits]);
        Some(Self(octets[..query.name.len() + TAIL].into()))
    }

    /// The name in lower case, without the root octet.
    pub(super) fn name(&self) -> &[u8] {
        self.0.get(..self.0.len().saturating_sub(TAIL + 1)).unwrap_or_default()
    }
}

/// The flights under way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    all: Mutex<UnderWay>,
}

/// With who waits for each, but for the one who started it without a task.
type UnderWay = HashMap<Route, Vec<oneshot::Sender<Landed>>, foldhash::quality::RandomState>;

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
    route: Route,
    landed: bool,
}

impl Flights {
    pub(super) fn board(self: &Arc<Self>, route: Route) -> Boarded {
        let (tell, wait) = oneshot::channel();
        match self.all().entry(route) {
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
        match self.all().entry(route) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                let pilot = self.pilot(free.key());
                free.insert(Vec::new());
                Some(pilot)
            }
        }
    }

    fn pilot(self: &Arc<Self>, route: &Route) -> Pilot {
        Pilot { flights: Arc::clone(self), route: route.clone(), landed: false }
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
    /// What the flight is for.
    pub(super) fn route(&self) -> &Route {
        &self.route
    }

    /// Who asks from now on starts a new flight, or finds in the cache what this one has brought.
    pub(super) fn land(mut self, landed: &Landed) {
        self.landed = true;
        let waiting = self.flights.all().remove(&self.route);
        for one in waiting.unwrap_or_default() {
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
