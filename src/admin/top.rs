//! `/debug/top`: which namespaces and names are asked most, from samples of the last minute's queries.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Serialize;

use super::asker::Asker;
use crate::dns::count::sample::Samples;
use crate::dns::query::rcode;
use crate::mesh::world::World;
use crate::table::Table;
use crate::table::key::text_of;

/// How many are shown unless asked otherwise, and at most.
pub const SHOWN: (usize, usize) = (20, 1000);

/// Rates are of this time at least: of the first query nobody knows how many a second it is.
const LEAST: Duration = Duration::from_secs(1);

/// What is asked most. Figures are estimates: what counts is how many samples they come from.
#[derive(Debug, Serialize)]
pub struct Top {
    /// What it is of.
    pub window: Window,
    /// All together.
    pub all: Share,
    /// By the caller's namespace, busiest first; null is who has none: the node's own programs, and the unknown.
    pub namespaces: Vec<Row<Namespace>>,
    /// By the caller's address.
    pub callers: Vec<Row<Caller>>,
    /// By the name that was asked; null is what was no readable question.
    pub names: Vec<Row<Asked>>,
}

/// The time that the samples are of.
#[derive(Debug, Serialize)]
pub struct Window {
    /// Its length. A worker under a sudden load may remember less.
    pub seconds: f64,
    /// Its beginning.
    pub since: String,
}

/// How much of all queries something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Share {
    /// Queries a second.
    pub queries_per_second: f64,
    /// Of all queries, 0 to 1.
    pub share: f64,
    /// Of these, how many were answered NXDOMAIN, 0 to 1.
    pub nxdomain: f64,
    /// Of these, how many were answered SERVFAIL, 0 to 1.
    pub servfail: f64,
    /// How many samples say so.
    pub samples: u64,
}

/// One line.
#[derive(Debug, Serialize)]
pub struct Row<K> {
    /// What it is about.
    #[serde(flatten)]
    pub of: K,
    /// How much.
    #[serde(flatten)]
    pub share: Share,
}

/// A caller's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Namespace {
    /// Its name.
    pub namespace: Option<Box<str>>,
}

/// A caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Caller {
    /// Its address.
    pub address: IpAddr,
    /// `namespace/name` of the pod that has it now.
    pub pod: Option<String>,
}

/// A name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Asked {
    /// As text.
    pub name: Option<String>,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    rate: f64,
    nxdomain: f64,
    servfail: f64,
    samples: u64,
}

impl Sum {
    fn add(&mut self, rate: f64, code: u16) {
        self.rate += rate;
        self.samples += 1;
        match code {
            rcode::NXDOMAIN => self.nxdomain += rate,
            rcode::SERVFAIL => self.servfail += rate,
            _ => {}
        }
    }

    fn share(&self, all: f64) -> Share {
        let of = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        Share {
            queries_per_second: self.rate,
            share: of(self.rate, all),
            nxdomain: of(self.nxdomain, self.rate),
            servfail: of(self.servfail, self.rate),
            samples: self.samples,
        }
    }
}

/// The `shown` busiest of each; `now` is when the samples were read.
#[must_use]
pub fn top(read: &[Samples], world: &World, table: &Table, shown: usize, now: SystemTime) -> Top {
    let mut all = Sum::default();
    let mut namespaces: HashMap<Namespace, Sum> = HashMap::new();
    let mut callers: HashMap<IpAddr, Sum> = HashMap::new();
    let mut names: HashMap<&[u8], Sum> = HashMap::new();
    let mut known: HashMap<IpAddr, Namespace> = HashMap::new();
    for ring in read {
        let seconds = ring.of.max(LEAST).as_secs_f64();
        for sample in &ring.samples {
            let (rate, code) = (sample.weight / seconds, u16::from(sample.rcode));
            let namespace = known
                .entry(sample.from)
                .or_insert_with(|| Namespace { namespace: Asker::at(table, sample.from).namespace(world) });
            namespaces.entry(namespace.clone()).or_default().add(rate, code);
            callers.entry(sample.from).or_default().add(rate, code);
            names.entry(&sample.name).or_default().add(rate, code);
            all.add(rate, code);
        }
    }
    let of = read.iter().map(|ring| ring.of).max().unwrap_or_default();
    let since = now.checked_sub(of).and_then(|since| Timestamp::try_from(since).ok()).unwrap_or_default();
    let since = Timestamp::from_second(since.as_second()).unwrap_or_default().to_string();
    let pod = |address| Asker::at(table, address).pod.map(|(namespace, name)| format!("{namespace}/{name}"));
    let name = |wire: &[u8]| Asked { name: Some(text_of(wire)).filter(|text| !text.is_empty()) };
    Top {
        window: Window { seconds: of.as_secs_f64(), since },
        all: all.share(all.rate),
        namespaces: busiest(namespaces, all.rate, shown, |namespace| namespace),
        callers: busiest(callers, all.rate, shown, |address| Caller { address, pod: pod(address) }),
        names: busiest(names, all.rate, shown, name),
    }
}

fn busiest<K: Hash + Eq + Ord, V>(sums: HashMap<K, Sum>, all: f64, shown: usize, show: impl Fn(K) -> V) -> Vec<Row<V>> {
    let mut sums: Vec<(K, Sum)> = sums.into_iter().collect();
    // Those that are equal stand in an order that does not change with each look.
    sums.sort_by(|(a, one), (b, other)| other.rate.total_cmp(&one.rate).then_with(|| a.cmp(b)));
    sums.into_iter().take(shown).map(|(key, sum)| Row { of: show(key), share: sum.share(all) }).collect()
}

#[cfg(test)]
mod tests;
