//! The plain case of forwarding: a query that goes upstream and comes back without a task of its own.
//!
//! What is to be done with the answer was decided when the query came: it is passed on as it is.

use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Job, upstream_query};
use crate::dns::forward::{Departures, Failure};
use crate::dns::listen::{Back, Transport};
use crate::dns::query::Query;
use crate::dns::reply::Asked;
use crate::dns::resolve::{Answer, Waiter};
use crate::dns::serve::{Missed, Server};
use crate::moment::Moment;
use crate::table::decide::Reason;
use crate::table::key::Key;

/// Octets of nearly all queries; longer ones take a piece of memory of their own.
const USUAL: usize = 96;

/// Who asked, and what.
struct Errand {
    server: Arc<Server>,
    packet: SmallVec<[u8; USUAL]>,
    query: Query,
    from: SocketAddr,
    transport: Transport,
    reason: Reason,
    began: Moment,
    back: Back,
}

impl Server {
    /// Sends a query upstream that neither table nor cache could answer; `back` if that takes a task.
    pub(in crate::dns) fn errand(
        self: &Arc<Self>,
        missed: Missed,
        (packet, key): (&[u8], &Key),
        (from, transport): (SocketAddr, Transport),
        back: Back,
        batch: &mut Departures,
    ) -> Result<(), Back> {
        let upstream = upstream_query(&missed.query, missed.query.name(packet));
        let (server, kept) = (Arc::clone(self), SmallVec::from_slice(packet));
        let Missed { query, how, reason, began } = missed;
        let errand = Errand { server, packet: kept, query, from, transport, reason, began, back };
        let departed = self.resolver.depart(&upstream, from.ip(), how.proof(key), (errand, batch));
        departed.map_err(|errand| errand.back)
    }
}

impl Waiter for Errand {
    fn landed(self, landed: Result<Answer, Failure>) {
        let (query, name) = (&self.query, self.query.name(&self.packet));
        let mut key = Key::default();
        // Only the logs want to know it.
        if landed.is_err() || self.server.logs() {
            let _ = key.read(name);
        }
        let asked =
            Asked { packet: &self.packet, query, key: &key, limit: query.limit(self.transport == Transport::Tcp) };
        let job = Job { asked, from: self.from, transport: self.transport, began: self.began };
        let done = match landed {
            Ok(Answer { message, source }) => {
                job.passed_on(&message, &upstream_query(query, name), self.reason, source)
            }
            Err(failure) => job.failed(failure),
        };
        self.back.answer(self.server.finish(&job, done));
    }
}
