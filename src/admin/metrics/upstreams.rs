//! What upstreams were asked and said, and which of them are left out.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Labels, Writer};
use crate::admin::http::Admin;
use crate::dns::count::{Cached, rcode_word};
use crate::dns::forward::{Reject, Stats};

type All = [(SocketAddr, Arc<Stats>)];

pub fn forwarding(out: &mut Writer<'_>, admin: &Admin) -> fmt::Result {
    let stats = admin.resolver.forwarder().stats();
    requests(out, &stats)?;
    let took = stats.iter().map(|(address, stats)| (to(address), stats.took())).collect();
    out.histograms("forward_request_duration", "How long answered tries with an upstream took", took)?;
    let hedges = stats.iter().map(|(address, stats)| (to(address), stats.hedges())).collect();
    out.counters("forward_hedges", "Questions that came to an upstream too since another took long", hedges)?;
    let probes = stats.iter().flat_map(|(address, stats)| {
        let labels = move |result: &str| [("to", address.to_string()), ("result", result.to_owned())];
        stats.probes().map(move |(result, count)| (labels(result.word()), count))
    });
    out.counters("forward_probes", "Our own questions to an upstream, for health and loops", probes.collect())?;
    let broken = admin.resolver.forwarder().broken() + admin.counts.cached(Cached::Broken);
    let broken = vec![([], broken)];
    out.counters("forward_healthcheck_broken", "Questions that found every upstream of their zone left out", broken)?;
    out.gauges("forward_healthy", "0 while an upstream is left out of a zone", healthy(admin))
}

fn to(address: &SocketAddr) -> Labels<1> {
    [("to", address.to_string())]
}

/// An address that is left out anywhere counts as 0: over one transport of two, for instance.
fn healthy(admin: &Admin) -> Vec<(Labels<1>, i64)> {
    let mut all = BTreeMap::new();
    for condition in admin.resolver.forwarder().conditions() {
        *all.entry(condition.address).or_insert(true) &= condition.left_out.is_none();
    }
    all.iter().map(|(address, healthy)| (to(address), i64::from(*healthy))).collect()
}

fn requests(out: &mut Writer<'_>, stats: &All) -> fmt::Result {
    let mut requests = Vec::new();
    let mut rejects = Reject::ALL.map(|reason| (reason, 0));
    for (address, stats) in stats {
        for (code, count) in (0..).zip(stats.rcodes()) {
            let word = if code == 16 { "other" } else { rcode_word(code) };
            requests.push((address.to_string(), word, count));
        }
        for ((_, sum), (_, count)) in rejects.iter_mut().zip(stats.rejects()) {
            *sum += count;
        }
        requests.push((address.to_string(), "timeout", stats.timeouts()));
        requests.push((address.to_string(), "error", stats.errors()));
    }
    // Codes without a word of their own share one.
    requests.sort();
    requests.dedup_by(|b, a| {
        let same = (&a.0, a.1) == (&b.0, b.1);
        if same {
            a.2 += b.2;
        }
        same
    });
    let requests = requests.into_iter().map(|(to, rcode, count)| ([("to", to), ("rcode", rcode.to_owned())], count));
    let help = "Tries with an upstream, by what came of them: a response code, timeout, or error";
    out.counters("forward_requests", help, requests.collect())?;
    let rejects = rejects.into_iter().map(|(reason, count)| ([("reason", reason.word().to_owned())], count));
    out.counters("forward_rejects", "Messages from upstreams' addresses that were no answer", rejects.collect())
}
