//! Two upstreams, the first of which is no good: what that costs the clients.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::Scenario;
use crate::lab::Took;
use crate::lab::client::{Client, Saw};
use crate::lab::server::Program;
use crate::lab::upstream::{Content, Manner, Upstream};

/// How many names a server has seen before, so that it may have learned.
const WARM_UP: usize = 100;
/// How many are measured.
pub const NAMES: usize = 200;
/// How many are asked at a time.
const AT_A_TIME: usize = 8;
/// How long a client waits for one.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a warm-up may take; what was not asked by then is not asked.
const WARM_UP_LIMIT: Duration = Duration::from_secs(5);
/// How long the measurement may take.
const LIMIT: Duration = Duration::from_secs(12);

/// What was measured.
#[derive(Debug, Serialize)]
pub struct First {
    /// The first one takes a second for every answer.
    pub slow: Spread,
    /// It is silent.
    pub silent: Spread,
    /// It loses every tenth query.
    pub lossy: Spread,
    /// It answers SERVFAIL at once.
    pub failing: Spread,
}

/// How long clients waited for cold names.
#[derive(Debug, Serialize)]
pub struct Spread {
    /// How many names were asked.
    pub asked: usize,
    /// How many of them had an address.
    pub good: usize,
    /// The median.
    pub p50: Took,
    /// 95 of 100 were faster.
    pub p95: Took,
    /// The slowest.
    pub worst: Took,
}

impl Scenario for First {
    const ROWS: &'static [&'static str] = &[
        "two upstreams, the first takes 1 s",
        "the first is silent",
        "the first loses every tenth query",
        "the first answers SERVFAIL",
    ];

    async fn measure(program: &Program) -> Result<Self, String> {
        let good = Manner::default();
        Ok(Self {
            slow: Spread::of(program, Manner { after: Duration::from_secs(1), ..good }).await?,
            silent: Spread::of(program, Manner { silent: true, ..good }).await?,
            lossy: Spread::of(program, Manner { loses: 10, ..good }).await?,
            failing: Spread::of(program, Manner { content: Content::Fails, ..good }).await?,
        })
    }

    fn cells(&self) -> Vec<String> {
        [&self.slow, &self.silent, &self.lossy, &self.failing].map(Spread::words).into()
    }
}

impl Spread {
    /// With a first upstream like this, and a second without fault.
    ///
    /// # Errors
    /// The server or an upstream did not start.
    pub async fn of(program: &Program, manner: Manner) -> Result<Self, String> {
        let say = |e: std::io::Error| e.to_string();
        let first = Upstream::start(manner).await.map_err(say)?;
        let second = Upstream::start(Manner::default()).await.map_err(say)?;
        let server = program.start(&[first.address(), second.address()]).await?;
        let client = Client { server: server.at };
        let _ = each(client, "warm", WARM_UP, WARM_UP_LIMIT).await;
        Ok(Self::from(each(client, "cold", NAMES, LIMIT).await))
    }

    fn from(seen: Vec<Saw>) -> Self {
        let mut times: Vec<Duration> = seen.iter().map(|saw| saw.after.0).collect();
        times.sort_unstable();
        let at = |share: usize| {
            Took(times.get((times.len() * share / 100).min(times.len() - 1)).copied().unwrap_or_default())
        };
        Self {
            asked: seen.len(),
            good: seen.iter().filter(|saw| saw.good()).count(),
            p50: at(50),
            p95: at(95),
            worst: at(100),
        }
    }

    fn words(&self) -> String {
        let Self { asked, good, p50, p95, worst } = self;
        let all = format!("median {p50}, p95 {p95}, worst {worst}");
        if good == asked { all } else { format!("{all}; {} of {asked} failed", asked - good) }
    }
}

/// Asks for so many names, a few at a time.
async fn each(client: Client, what: &str, count: usize, limit: Duration) -> Vec<Saw> {
    let names: VecDeque<String> = (0..count).map(|n| format!("{what}-{n}.first.example")).collect();
    let names = Arc::new(Mutex::new(names));
    let end = Instant::now() + limit;
    let one = |names: Arc<Mutex<VecDeque<String>>>| async move {
        let mut seen = Vec::new();
        while Instant::now() < end {
            let Some(name) = names.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else { break };
            seen.push(client.ask(&name, PATIENCE).await);
        }
        seen
    };
    let tasks: Vec<_> = (0..AT_A_TIME).map(|_| tokio::spawn(one(Arc::clone(&names)))).collect();
    let mut seen = Vec::with_capacity(count);
    for task in tasks {
        seen.extend(task.await.expect("a client does not panic"));
    }
    seen
}
