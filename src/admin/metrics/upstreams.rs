//! What upstreams were asked and said, and which of them are left out.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::registry::Unit;

use super::{Labels, OTHER, Writer};
use crate::admin::http::Admin;
use crate::dns::count::{Cached, rcode_word};
use crate::dns::forward::{Reject, Stats};
use crate::histogram::Reading;

/// So many upstreams are counted by name. A resolv.conf that names others again and again does not make more of them.
const UPSTREAMS: usize = 64;

/// An upstream, or all those that are too many.
struct Upstream {
    to: String,
    stats: Vec<Arc<Stats>>,
}

impl Upstream {
    fn label(&self) -> Labels<1> {
        [("to", self.to.clone())]
    }

    fn sum(&self, of: impl Fn(&Stats) -> u64) -> u64 {
        self.stats.iter().map(|stats| of(stats)).sum()
    }

    fn took(&self) -> Reading {
        let mut took = self.stats.iter().map(|stats| stats.took());
        let first = took.next().unwrap_or_else(|| Reading::of_times([], 0));
        took.fold(first, Reading::and)
    }
}

/// Those that are asked now come first, so that it is others that share a place.
fn upstreams(admin: &Admin) -> Vec<Upstream> {
    let forwarder = admin.resolver.forwarder();
    let asked: Vec<SocketAddr> = forwarder.conditions().iter().map(|condition| condition.address).collect();
    let mut all = forwarder.stats();
    all.sort_by_key(|(address, _)| (!asked.contains(address), *address));
    let rest = all.split_off(all.len().min(UPSTREAMS));
    let named = all.into_iter().map(|(address, stats)| Upstream { to: address.to_string(), stats: vec![stats] });
    let rest: Vec<Arc<Stats>> = rest.into_iter().map(|(_, stats)| stats).collect();
    let other = (!rest.is_empty()).then(|| Upstream { to: OTHER.into(), stats: rest });
    named.chain(other).collect()
}

pub fn forwarding(out: &mut Writer<'_>, admin: &Admin) -> fmt::Result {
    let all = upstreams(admin);
    requests(out, &all)?;
    let took = all.iter().map(|one| (one.label(), one.took())).collect();
    out.histograms(("forward_request_duration", Unit::Seconds), "How long answered tries with an upstream took", took)?;
    let hedges = all.iter().map(|one| (one.label(), one.sum(Stats::hedges))).collect();
    out.counters("forward_hedges", "Questions that came to an upstream too since another took long", hedges)?;
    let probes = all.iter().flat_map(|one| {
        let results = one.stats.iter().flat_map(|stats| stats.probes());
        let sums = results.fold(BTreeMap::new(), |mut sums, (result, count)| {
            *sums.entry(result.word()).or_default() += count;
            sums
        });
        sums.into_iter().map(|(result, count)| ([("to", one.to.clone()), ("result", result.to_owned())], count))
    });
    out.counters("forward_probes", "Our own questions to an upstream, for health and loops", probes.collect())?;
    let broken = admin.resolver.forwarder().broken() + admin.counts.cached(Cached::Broken);
    let broken = vec![([], broken)];
    out.counters("forward_healthcheck_broken", "Questions that found every upstream of their zone left out", broken)?;
    out.gauges("forward_healthy", "0 while an upstream is left out of a zone", healthy(admin, &all))
}

/// An address that is left out anywhere counts as 0: over one transport of two, for instance.
fn healthy(admin: &Admin, all: &[Upstream]) -> Vec<(Labels<1>, i64)> {
    let mut healthy = BTreeMap::new();
    for condition in admin.resolver.forwarder().conditions() {
        let to = condition.address.to_string();
        let to = if all.iter().any(|one| one.to == to) { to } else { OTHER.into() };
        *healthy.entry(to).or_insert(true) &= condition.left_out.is_none();
    }
    healthy.into_iter().map(|(to, healthy)| ([("to", to)], i64::from(healthy))).collect()
}

fn requests(out: &mut Writer<'_>, all: &[Upstream]) -> fmt::Result {
    // Codes without a word of their own share one.
    let mut requests: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut rejects = Reject::ALL.map(|reason| (reason, 0));
    for one in all {
        for stats in &one.stats {
            let codes = (0..).zip(stats.rcodes());
            let codes = codes.map(|(code, count)| (if code == 16 { OTHER } else { rcode_word(code) }, count));
            for (word, count) in codes.chain([("timeout", stats.timeouts()), ("error", stats.errors())]) {
                *requests.entry((&one.to, word)).or_default() += count;
            }
            for ((_, sum), (_, count)) in rejects.iter_mut().zip(stats.rejects()) {
                *sum += count;
            }
        }
    }
    let requests =
        requests.into_iter().map(|((to, rcode), count)| ([("to", to.to_owned()), ("rcode", rcode.to_owned())], count));
    let help = "Tries with an upstream, by what came of them: a response code, timeout, or error";
    out.counters("forward_requests", help, requests.collect())?;
    let rejects = rejects.into_iter().map(|(reason, count)| ([("reason", reason.word().to_owned())], count));
    out.counters("forward_rejects", "Messages from upstreams' addresses that were no answer", rejects.collect())
}
