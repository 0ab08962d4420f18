//! Questions that are on their way to an upstream: identical ones become one (R23).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

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
    all: Mutex<HashMap<Route, watch::Receiver<Option<Landed>>, foldhash::quality::RandomState>>,
}

/// Who joins a flight, and who has to start it.
pub(super) enum Boarded {
    /// It is under way.
    Joined(Passenger),
    /// It starts here: the pilot has to land it.
    Starts(Pilot, Passenger),
}

/// Waits for a flight to land.
#[derive(Debug)]
pub(super) struct Passenger(watch::Receiver<Option<Landed>>);

/// Lands a flight; dropped without, the flight has failed.
pub(super) struct Pilot {
    flights: Arc<Flights>,
    route: Option<Route>,
    tell: watch::Sender<Option<Landed>>,
}

impl Flights {
    pub(super) fn board(self: &Arc<Self>, route: Route) -> Boarded {
        match self.all().entry(route) {
            Entry::Occupied(flight) => Boarded::Joined(Passenger(flight.get().clone())),
            Entry::Vacant(free) => {
                let (tell, wait) = watch::channel(None);
                let route = Some(free.key().clone());
                free.insert(wait.clone());
                Boarded::Starts(Pilot { flights: self.clone(), route, tell }, Passenger(wait))
            }
        }
    }

    /// Starts a flight; `None` if one is under way already.
    pub(super) fn start(self: &Arc<Self>, route: Route) -> Option<Pilot> {
        match self.all().entry(route) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                let (tell, wait) = watch::channel(None);
                let route = Some(free.key().clone());
                free.insert(wait);
                Some(Pilot { flights: self.clone(), route, tell })
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Route, watch::Receiver<Option<Landed>>, foldhash::quality::RandomState>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passenger {
    pub(super) async fn wait(&mut self) -> Landed {
        let landed = self.0.wait_for(Option::is_some).await;
        landed.ok().and_then(|landed| landed.clone()).unwrap_or(Err(Failure::Timeout))
    }
}

impl Pilot {
    /// Who asks from now on starts a new flight, or finds in the cache what this one has brought.
    pub(super) fn land(mut self, landed: Landed) {
        self.leave();
        self.tell.send_replace(Some(landed));
    }

    fn leave(&mut self) {
        if let Some(route) = self.route.take() {
            self.flights.all().remove(&route);
        }
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        self.leave();
    }
}
