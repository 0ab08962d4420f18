//! A name that was answered once, and whose upstream is silent after its TTL: what is answered then, and how soon the upstream's
//! new answer is seen by a client that never stops asking.

use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;

use super::{Scenario, when, with_one};
use crate::lab::client::{Saw, Steady};
use crate::lab::server::Program;
use crate::lab::upstream::{Content, Manner, TRUTH};

/// The name's.
const TTL: u32 = 1;
/// Surely after it: CoreDNS keeps whatever it caches for 5 s at least.
const EXPIRED: Duration = Duration::from_millis(6200);
/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long one asks while the upstream is silent.
const SILENCE: Duration = Duration::from_secs(2);
/// How long the new address may take.
const LIMIT: Duration = Duration::from_secs(20);
/// What the upstream says when it is back.
const MOVED: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 0, 2, 2);
/// The name.
const NAME: &str = "web.stale.example";

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Stale {
    /// The first question after the TTL.
    pub first: Saw,
    /// The next one.
    pub next: Saw,
    /// A client that asks all the time, while the upstream is silent.
    pub silent: Steady,
    /// The same, from the upstream's return with another address to the first answer that has it.
    pub fresh: Steady,
}

impl Scenario for Stale {
    const ROWS: &'static [&'static str] = &[
        "a name's TTL is over, its upstream silent: the first query",
        "the same, the next query",
        "the same, asked 50 times a second for 2 s",
        "the upstream is back with another address: it is seen",
    ];

    async fn measure(program: &Program) -> Result<Self, String> {
        let manner = Manner { content: Content::Address(TRUTH, TTL), ..Manner::default() };
        let (_server, client, upstream) = with_one(program, manner).await?;
        let warm = client.ask(NAME, PATIENCE).await;
        if !warm.good() {
            return Err(format!("a name was not even answered at first: {}", warm.words()));
        }
        upstream.set(Manner { silent: true, ..manner });
        sleep(EXPIRED).await;
        let first = client.ask(NAME, PATIENCE).await;
        let next = client.ask(NAME, PATIENCE).await;
        let silent = client.watch(NAME, SILENCE, |_| false).await;
        upstream.set(Manner { content: Content::Address(MOVED, 60), ..Manner::default() });
        let fresh = client.watch(NAME, LIMIT, |answer| answer.addresses == [MOVED]).await;
        Ok(Self { first, next, silent, fresh })
    }

    fn cells(&self) -> Vec<String> {
        vec![self.first.words(), self.next.words(), self.silent.words(), when(&self.fresh, LIMIT)]
    }
}
