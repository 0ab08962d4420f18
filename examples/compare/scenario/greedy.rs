//! One pod that asks for new names without end, to which the upstream is silent, and another that wants what can be had.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::time::{interval, sleep};

use super::{Scenario, with_one};
use crate::lab::client::{Client, Steady};
use crate::lab::server::Program;
use crate::lab::upstream::{Manner, SWALLOWED};
use crate::lab::wire;

/// The greedy one.
const GREEDY: Ipv4Addr = Ipv4Addr::new(127, 79, 0, 1);
/// How far apart its questions are.
const PACE: Duration = Duration::from_millis(2);
/// How long it has been asking before anything is measured.
const BEFORE: Duration = Duration::from_secs(1);
/// How long the other one asks.
const MEASURED: Duration = Duration::from_secs(3);
/// How long a client waits for the name that is cached.
const PATIENCE: Duration = Duration::from_secs(5);
/// That name.
const NAME: &str = "cached.greedy.example";

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Greedy {
    /// The other pod, asking for one name that is in the cache.
    pub cached: Steady,
    /// The same, asking for names that the upstream answers at once.
    pub cold: Steady,
}

impl Scenario for Greedy {
    const ROWS: &'static [&'static str] = &[
        "one pod asks 500 new names a second that the upstream is silent to: another pod's cached name",
        "the same: another pod's new names, which the upstream answers",
    ];

    async fn measure(program: &Program) -> Result<Self, String> {
        let (_server, client, _upstream) = with_one(program, Manner::default()).await?;
        let warm = client.ask(NAME, PATIENCE).await;
        if !warm.good() {
            return Err(format!("a name was not even answered at first: {}", warm.words()));
        }
        let flood = tokio::spawn(flood(client));
        sleep(BEFORE).await;
        let cached = client.watch(NAME, MEASURED, |_| false);
        let cold = client.watch_each(|n| format!("cold-{n}.greedy.example"), MEASURED, |_| false);
        let (cached, cold) = tokio::join!(cached, cold);
        flood.abort();
        Ok(Self { cached, cold })
    }

    fn cells(&self) -> Vec<String> {
        vec![self.cached.words(), self.cold.words()]
    }
}

/// Asks, and reads no answer.
async fn flood(client: Client) -> std::io::Result<()> {
    let socket = UdpSocket::bind((GREEDY, 0)).await?;
    socket.connect(client.server).await?;
    let mut pace = interval(PACE);
    for n in 0_u16.. {
        pace.tick().await;
        // Errors are those of a server that is busy, or has ended.
        let _ = socket.send(&wire::query(n, &format!("{SWALLOWED}{n}.greedy.example"), 1, true)).await;
    }
    Ok(())
}
