//! Two hundred clients that ask for one cold name at once, of an upstream that takes its time.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Serialize;

use super::{Scenario, with_one};
use crate::lab::Took;
use crate::lab::server::Program;
use crate::lab::upstream::Manner;

/// How many clients there are.
pub const CLIENTS: u8 = 200;
/// How long the upstream takes.
const UPSTREAM: Duration = Duration::from_millis(300);
/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// The name.
const NAME: &str = "popular.herd.example";

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Herd {
    /// How many queries the upstream had.
    pub asked: usize,
    /// How many clients have the address.
    pub answered: usize,
    /// How long the last of them waited.
    pub last: Took,
}

impl Scenario for Herd {
    const ROWS: &'static [&'static str] = &["200 clients at once, one cold name, an upstream that takes 300 ms"];

    async fn measure(program: &Program) -> Result<Self, String> {
        let (_server, client, upstream) = with_one(program, Manner { after: UPSTREAM, ..Manner::default() }).await?;
        let asks = (1..=CLIENTS).map(|n| (Ipv4Addr::new(127, 78, 0, n), NAME.to_owned())).collect();
        let seen = client.ask_all(asks, PATIENCE).await;
        let good: Vec<_> = seen.iter().filter(|saw| saw.good()).collect();
        let last = good.iter().map(|saw| saw.after.0).max().unwrap_or_default();
        Ok(Self { asked: upstream.asked(NAME).iter().sum(), answered: good.len(), last: Took(last) })
    }

    fn cells(&self) -> Vec<String> {
        let queries = if self.asked == 1 { "query" } else { "queries" };
        vec![format!("{} {queries} upstream; {} answered, the last after {}", self.asked, self.answered, self.last)]
    }
}
