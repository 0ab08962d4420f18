//! What upstreams know, asked for as seldom as R23 allows.
//!
//! ```text
//! Resolver::ask -> Inflight (bounds) -> Forwarder (whom, how long)
//! ```
//!
//! Everything that is not in the table comes through here; nothing here depends on who asks but the bounds.

mod inflight;

use std::net::IpAddr;
use std::sync::Arc;

use super::count::Source;
use super::forward::{Failure, Forwarder, Message, Query};
use crate::table::Name;

use inflight::Inflight;

/// How many questions may wait for upstreams at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of all clients together (`limits.inflight`).
    pub inflight: usize,
    /// Of one client address (`limits.inflightPerClient`).
    pub per_client: usize,
}

/// What upstreams say to a question.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The message, from which the reply of each asker is made.
    pub message: Message,
    /// Where it came from.
    pub source: Source,
}

/// Asks for what the table does not hold. Shared by all who ask; must be used inside a tokio runtime.
#[derive(Debug)]
pub struct Resolver {
    forwarder: Arc<Forwarder>,
    inflight: Inflight,
}

impl Resolver {
    /// Asks through `forwarder`, within these limits.
    #[must_use]
    pub fn new(forwarder: Arc<Forwarder>, limits: Limits) -> Self {
        Self { forwarder, inflight: Inflight::new(limits) }
    }

    /// The answer to one question of a client. Dropping the future gives up its place.
    ///
    /// # Errors
    /// [`Failure`], at once where waiting would not help.
    pub async fn ask(&self, query: &Query<'_>, client: IpAddr) -> Result<Answer, Failure> {
        let _place = self.inflight.enter(client).ok_or(Failure::Busy)?;
        let message = self.forwarder.ask(query).await?;
        Ok(Answer { message, source: Source::Upstream })
    }

    /// The node's search domains, see [`Forwarder::search_domains`].
    #[must_use]
    pub fn search_domains(&self) -> Arc<[Name]> {
        self.forwarder.search_domains()
    }

    /// How many questions wait for upstreams now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inflight.total()
    }
}
