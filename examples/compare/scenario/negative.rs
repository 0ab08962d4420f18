//! Answers that say no: how long SERVFAIL and NXDOMAIN outlive their cause while a client keeps asking.

use std::time::Duration;

use serde::Serialize;

use super::{Scenario, when, with_one};
use crate::lab::client::{Answer, Steady};
use crate::lab::server::Program;
use crate::lab::upstream::{Content, Manner};

/// The SOA's TTL and MINIMUM.
const TTL: u32 = 2;
/// How long the upstream says SERVFAIL.
const FAILING: Duration = Duration::from_secs(2);
/// How long the name may take.
const LIMIT: Duration = Duration::from_secs(20);

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Negative {
    /// How often the upstream was asked while it said SERVFAIL to a name asked 50 times a second for 2 s.
    pub failing: usize,
    /// From its recovery to the first address.
    pub recovered: Steady,
    /// From the moment that a name exists, which was NXDOMAIN with a TTL of 2 s a moment before, to its first address.
    pub appeared: Steady,
}

impl Scenario for Negative {
    const ROWS: &'static [&'static str] = &[
        "SERVFAIL from upstream, asked 50 times a second for 2 s: queries upstream",
        "the upstream has recovered: the name is seen",
        "a name appears whose NXDOMAIN had a TTL of 2 s, asked 50 times a second: it is seen",
    ];

    async fn measure(program: &Program) -> Result<Self, String> {
        let (_server, client, upstream) =
            with_one(program, Manner { content: Content::Fails, ..Manner::default() }).await?;
        let name = "fails.negative.example";
        client.watch(name, FAILING, |_| false).await;
        let failing = upstream.asked(name).iter().sum();
        upstream.set(Manner::default());
        let recovered = client.watch(name, LIMIT, Answer::good).await;
        upstream.set(Manner { content: Content::Absent(TTL), ..Manner::default() });
        let name = "appears.negative.example";
        let absent = client.ask(name, LIMIT).await;
        if absent.answer.as_ref().is_none_or(|a| a.rcode != "NXDOMAIN") {
            return Err(format!("an absent name was answered {}", absent.words()));
        }
        upstream.set(Manner::default());
        let appeared = client.watch(name, LIMIT, Answer::good).await;
        Ok(Self { failing, recovered, appeared })
    }

    fn cells(&self) -> Vec<String> {
        // That SERVFAIL is answered until then is no news.
        let bare = |steady: &Steady| when(&Steady { failed: 0, ..steady.clone() }, LIMIT);
        vec![self.failing.to_string(), bare(&self.recovered), bare(&self.appeared)]
    }
}
