//! The cache of what upstreams said (R23).

use std::fmt;

use super::{Writer, signed};
use crate::admin::http::Admin;
use crate::dns::count::Cached;

pub fn cache(out: &mut Writer<'_>, admin: &Admin) -> fmt::Result {
    let stats = admin.resolver.cache().stats();
    out.gauges("cache_entries", "Answers in the cache", vec![([], signed(stats.entries))])?;
    out.gauges("cache_bytes", "Octets that they take, bounded by cache.bytes", vec![([], signed(stats.octets))])?;
    let hits = admin.counts.cache_hits().into_iter().map(|(kind, count)| ([("type", kind.to_owned())], count));
    out.counters("cache_hits", "Questions answered from the cache, within its time", hits.collect())?;
    let count = |what| vec![([], admin.counts.cached(what))];
    out.counters("cache_misses", "Questions that an upstream had to be asked for", count(Cached::Miss))?;
    out.counters("cache_prefetch", "Answers asked for again before their end", count(Cached::Prefetch))?;
    out.counters("cache_served_stale", "Answers given after their end (RFC 8767)", count(Cached::Stale))?;
    let evictions = vec![([], stats.evictions)];
    out.counters("cache_evictions", "Answers that made room for others before their end", evictions)
}
