//! Situations, each a type that holds what was measured in it.

pub mod dead;
pub mod first;
pub mod greedy;
pub mod herd;
pub mod lies;
pub mod negative;
pub mod stale;
pub mod truncated;

use std::fmt::Write as _;

use super::client::{Client, Steady};
use super::server::{Program, Running};
use super::upstream::{Manner, Upstream};

/// A situation.
pub trait Scenario: Sized {
    /// What its rows are about.
    const ROWS: &'static [&'static str];

    /// Puts a server into it.
    ///
    /// # Errors
    /// The server or the upstream did not start.
    async fn measure(program: &Program) -> Result<Self, String>;

    /// What is written into its rows.
    fn cells(&self) -> Vec<String>;
}

/// A server with one upstream.
async fn with_one(program: &Program, manner: Manner) -> Result<(Running, Client, Upstream), String> {
    let upstream = Upstream::start(manner).await.map_err(|e| e.to_string())?;
    let server = program.start(&[upstream.address()]).await?;
    let client = Client { server: server.at };
    Ok((server, client, upstream))
}

/// When what was waited for came, and what else came before.
fn when(steady: &Steady, limit: std::time::Duration) -> String {
    let mut words = match steady.after {
        Some(after) => format!("after {after}"),
        None => format!("not within {} s", limit.as_secs()),
    };
    if steady.failed > 0 {
        let _ = write!(words, "; {} of {} failed", steady.failed, steady.asked);
    }
    words
}
