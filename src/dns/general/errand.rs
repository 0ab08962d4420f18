//! The plain case of forwarding: a query that goes upstream and comes back without a task of its own.
//!
//! What is to be done with the answer was decided when the query came: it is passed on as it is.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Job, upstream_query};
use crate::dns::forward::Failure;
use crate::dns::listen::{Back, Transport};
use crate::dns::query::{self, Read};
use crate::dns::reply::Asked;
use crate::dns::resolve::{Answer, Waiter};
use crate::dns::serve::{Missed, Server};
use crate::table::decide::Reason;
use crate::table::key::Key;

/// Who asked, and what.
struct Errand {
    server: Arc<Server>,
    packet: Vec<u8>,
    from: SocketAddr,
    transport: Transport,
    reason: Reason,
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
    ) -> Result<(), Back> {
        let upstream = upstream_query(&missed.query, missed.query.name(packet));
        let (server, kept) = (Arc::clone(self), packet.to_vec());
        let errand = Errand { server, packet: kept, from, transport, reason: missed.reason, back };
        let departed = self.resolver.depart(&upstream, from.ip(), missed.how.proof(key), errand);
        departed.map_err(|errand| errand.back)
    }
}

impl Waiter for Errand {
    fn landed(self, landed: Result<Answer, Failure>) {
        let mut key = Key::default();
        let Read::Ask(query) = query::read(&self.packet, &mut key) else { return self.back.answer(None) };
        let limit = query.limit(self.transport == Transport::Tcp);
        let asked = Asked { packet: &self.packet, query: &query, key: &key, limit };
        let job = Job { asked, from: self.from, transport: self.transport };
        let done = match landed {
            Ok(Answer { message, source }) => {
                job.passed_on(&message, &upstream_query(&query, query.name(&self.packet)), self.reason, source)
            }
            Err(failure) => job.failed(failure),
        };
        self.back.answer(self.server.finish(&job, done));
    }
}
