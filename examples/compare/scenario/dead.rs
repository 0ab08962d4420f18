//! One upstream, silent from the start: how long clients wait for nothing, and how soon it is used again.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;

use super::{Scenario, when, with_one};
use crate::lab::client::{Answer, How, Saw, Steady};
use crate::lab::server::Program;
use crate::lab::upstream::Manner;

/// How long a client waits in the end: more than any stub resolver's single try.
const PATIENCE: Duration = Duration::from_secs(8);
/// How many questions are asked in between, and how far apart.
const BETWEEN: (usize, Duration) = (100, Duration::from_millis(10));
/// How long those wait.
const BETWEEN_PATIENCE: Duration = Duration::from_secs(5);
/// How long an upstream that is back may stay unused.
const LIMIT: Duration = Duration::from_secs(20);

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Dead {
    /// The first question of all.
    pub first: Saw,
    /// One asked a hundred questions later.
    pub later: Saw,
    /// From the upstream's return to the first answer from it, asked for other names all the time.
    pub back: Steady,
}

impl Scenario for Dead {
    const ROWS: &'static [&'static str] = &[
        "the only upstream is silent: the first query",
        "the same, a hundred queries later",
        "the upstream is back: its first answer comes",
    ];

    async fn measure(program: &Program) -> Result<Self, String> {
        let (_server, client, upstream) = with_one(program, Manner { silent: true, ..Manner::default() }).await?;
        let first = client.ask("first.dead.example", PATIENCE).await;
        let mut between = Vec::new();
        for n in 0..BETWEEN.0 {
            between.push(tokio::spawn(async move {
                let name = format!("between-{n}.dead.example");
                client.ask_as(Ipv4Addr::LOCALHOST, How::Edns, &name, BETWEEN_PATIENCE).await
            }));
            sleep(BETWEEN.1).await;
        }
        for task in between {
            let _ = task.await;
        }
        let later = client.ask("later.dead.example", PATIENCE).await;
        upstream.set(Manner::default());
        let back = client.watch_each(|n| format!("back-{n}.dead.example"), LIMIT, Answer::good).await;
        Ok(Self { first, later, back })
    }

    fn cells(&self) -> Vec<String> {
        vec![self.first.words(), self.later.words(), when(&self.back, LIMIT)]
    }
}
