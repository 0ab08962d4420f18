//! What a server costs: itself, and the API servers that it follows.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::support::apiserver::{ApiServer, Verb};
use super::super::support::server::{Server, http_get};

/// What was asked of an API server up to a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// Lists, each page for itself.
    pub lists: usize,
    /// Watches.
    pub watches: usize,
    /// Octets of bodies.
    pub octets: u64,
}

impl Asked {
    /// Until now.
    #[must_use]
    pub fn until_now(api: &ApiServer) -> Self {
        api.observed(|o| Self {
            lists: o.count(Verb::List, "*"),
            watches: o.count(Verb::Watch, "*"),
            octets: o.octets("*"),
        })
    }

    /// Since then.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            lists: self.lists - before.lists,
            watches: self.watches - before.watches,
            octets: self.octets - before.octets,
        }
    }
}

/// Octets in MB, as text.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "for people")]
pub fn mb(octets: u64) -> String {
    format!("{:.1}", octets as f64 / 1e6)
}

/// Waits until `/readyz` says 200; how long that took.
#[must_use]
pub fn ready(server: &mut Server, since: Instant, limit: Duration) -> Duration {
    loop {
        if let Ok((200, _)) = http_get(server.admin(), "/readyz") {
            return since.elapsed();
        }
        assert!(server.ended().is_none(), "it has ended: {}", server.tail());
        assert!(since.elapsed() < limit, "not ready after {limit:?}: {}", server.tail());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until there is a saved state, and gives its size.
#[must_use]
pub fn saved(dir: &Path, limit: Duration) -> u64 {
    let begun = Instant::now();
    loop {
        if let Ok(file) = fs::metadata(dir.join("saved/state")) {
            return file.len();
        }
        assert!(begun.elapsed() < limit, "nothing is saved after {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Open files of a process.
#[must_use]
pub fn open_files(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.id())).map_or(0, Iterator::count)
}

/// A field of `/proc/PID/status`, octets: `VmHWM` is the most that was resident.
#[must_use]
pub fn memory(server: &Server, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) * 1024
}

/// What is resident when it has been the same for a while: a saver that has just written still holds what it wrote.
#[must_use]
pub fn settled(server: &Server) -> u64 {
    let (mut last, mut same) = (memory(server, "VmRSS"), 0);
    while same < 10 {
        std::thread::sleep(Duration::from_millis(50));
        let now = memory(server, "VmRSS");
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

/// Processor time that it has used.
#[must_use]
pub fn busy(server: &Server) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap_or_default();
    // Its name, in parentheses, may hold blanks.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |ix: usize| fields.get(ix).and_then(|t| t.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// How long changes took from the watch to the table, as the server itself counts.
#[derive(Clone, Debug, Default)]
pub struct Propagation {
    /// Upper edges, and how many were within.
    buckets: Vec<(f64, u64)>,
    sum: f64,
}

impl Propagation {
    /// Until now.
    #[must_use]
    pub fn read(server: &Server) -> Self {
        let (_, text) = http_get(server.admin(), "/metrics").expect("metrics");
        let lines = text.lines().filter_map(|l| l.strip_prefix("segdns_table_propagation_seconds_"));
        let mut read = Self::default();
        for (name, value) in lines.filter_map(|l| l.split_once(' ')) {
            let value = value.split(' ').next().unwrap_or_default().parse().unwrap_or(0.0);
            if let Some(edge) = name.strip_prefix("bucket{le=\"").and_then(|n| n.strip_suffix("\"}")) {
                let edge = edge.trim_start_matches('+').to_lowercase().parse().expect("an edge");
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
                read.buckets.push((edge, value as u64));
            } else if name == "sum" {
                read.sum = value;
            }
        }
        assert!(!read.buckets.is_empty(), "no segdns_table_propagation_seconds in /metrics");
        read
    }

    /// Since then.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let buckets = self.buckets.iter().zip(&before.buckets).map(|((edge, now), (_, then))| (*edge, now - then));
        Self { buckets: buckets.collect(), sum: self.sum - before.sum }
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.last().map_or(0, |(_, count)| *count)
    }

    /// The edge that this share of them is within, in milliseconds.
    #[must_use]
    pub fn within(&self, per_mille: u64) -> f64 {
        let wanted = (self.count() * per_mille).div_ceil(1000);
        self.buckets.iter().find(|(_, count)| *count >= wanted).map_or(f64::INFINITY, |(edge, _)| edge * 1e3)
    }

    /// Their mean, in milliseconds.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a count")]
    pub fn mean(&self) -> f64 {
        self.sum / self.count().max(1) as f64 * 1e3
    }
}
