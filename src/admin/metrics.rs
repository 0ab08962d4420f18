//! `/metrics`: what the parts have counted, as OpenMetrics. Everything is read when it is scraped, so that no query pays
//! for it; series of fixed label sets are there at 0 from the start.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::http::Admin;
use crate::dns::count::rcode_word;
use crate::dns::forward::Reject;
use crate::mesh::report::ReportKind;
use crate::table::decide::Reason;
use crate::table::node::NodeKind;
use crate::table::{SLOTS, Table};

/// The content type of OpenMetrics text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Where sources come from, as long as manifests are all there is.
const SOURCE_KIND: &str = "manifests";

/// Everything as text.
///
/// # Errors
/// None that is known: text has room for everything.
pub fn text(admin: Arc<Admin>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("segdns");
    registry.register_collector(Box::new(Scrape(admin)));
    let mut out = String::new();
    encode(&mut out, &registry)?;
    Ok(out)
}

struct Scrape(Arc<Admin>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

type Labels<const N: usize> = [(&'static str, String); N];

/// Writes families of counters and gauges.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn counters<const N: usize>(&mut self, name: &str, help: &str, all: Vec<(Labels<N>, u64)>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in &all {
            let counter = ConstCounter::new(*value);
            if N == 0 {
                return counter.encode(family);
            }
            counter.encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn gauges<const N: usize>(&mut self, name: &str, help: &str, all: Vec<(Labels<N>, i64)>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in &all {
            let gauge = ConstGauge::new(*value);
            if N == 0 {
                return gauge.encode(family);
            }
            gauge.encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}

fn signed(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Writer(encoder);
        let admin = &*self.0;
        let table = admin.keeper.snapshot().load();
        queries(&mut out, admin, &table)?;
        forwarding(&mut out, admin)?;
        names(&mut out, admin, &table)?;
        sources(&mut out, admin, &table)?;
        sockets(&mut out, admin)
    }
}

fn queries(out: &mut Writer<'_>, admin: &Admin, table: &Table) -> fmt::Result {
    let own = |text: &str| text.to_owned();
    let requests = admin.counts.requests().into_iter().map(|([proto, family, rtype], count)| {
        ([("proto", own(proto)), ("family", own(family)), ("type", own(rtype))], count)
    });
    out.counters("dns_requests", "Queries by transport, address family and type", requests.collect())?;
    // The sockets turn queries away by themselves when the general path is full; both are one reason.
    let turned_away = admin.stats.overloaded.load(Relaxed);
    let responses = admin.counts.responses().into_iter().map(|([rcode, source, reason], count)| {
        let extra = if reason == Reason::Overloaded.word() && rcode == "SERVFAIL" { turned_away } else { 0 };
        ([("rcode", own(rcode)), ("source", own(source)), ("reason", own(reason))], count + extra)
    });
    out.counters("dns_responses", "Answers by response code, source and reason", responses.collect())?;
    let slots = slots(table);
    let pairs = slots.iter().flat_map(|caller| slots.iter().map(move |of| (caller, of)));
    let hidden = pairs.filter(|(caller, of)| caller.0 != of.0).map(|(caller, of)| {
        ([("caller_segment", caller.1.clone()), ("segment", of.1.clone())], admin.counts.hidden(caller.0, of.0))
    });
    out.counters("hidden", "Names hidden from a caller, by its segment and theirs", hidden.collect())
}

/// The places of the counters with the segments that have them; beyond a number of segments, the rest share one.
fn slots(table: &Table) -> Vec<(u8, String)> {
    let mut out: Vec<(u8, String)> = Vec::new();
    for (segment, ix) in table.segments.iter().zip(0..) {
        let slot = table.slot(ix);
        let name = if usize::from(slot) >= SLOTS - 1 { "other".to_owned() } else { segment.name.to_string() };
        if !out.iter().any(|(have, _)| *have == slot) {
            out.push((slot, name));
        }
    }
    out
}

fn forwarding(out: &mut Writer<'_>, admin: &Admin) -> fmt::Result {
    let stats = admin.forwarder.stats();
    let mut requests = Vec::new();
    let mut rejects = Reject::ALL.map(|reason| (reason, 0));
    for (address, stats) in &stats {
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

fn names(out: &mut Writer<'_>, admin: &Admin, table: &Table) -> fmt::Result {
    let mut counts: Vec<(String, i64)> = table.segments.iter().map(|s| (s.name.to_string(), 0)).collect();
    for (_, node) in table.nodes().filter(|(_, node)| node.kind == NodeKind::Mesh) {
        if let Some(count) = counts.get_mut(usize::from(node.segment)) {
            count.1 += 1;
        }
    }
    let counts = counts.into_iter().map(|(segment, count)| ([("segment", segment)], count));
    out.gauges("table_names", "Names of each segment in the table, aliases included", counts.collect())?;
    let seconds = admin.keeper.last_build().as_secs_f64();
    let help = "How long the newest table took to build";
    let family = out.0.encode_descriptor("table_build", help, Some(&Unit::Seconds), MetricType::Gauge)?;
    ConstGauge::new(seconds).encode(family)?;
    let generation = i64::try_from(table.generation).unwrap_or(i64::MAX);
    out.gauges("table_generation", "Counts the tables of this process", vec![([], generation)])
}

fn sources(out: &mut Writer<'_>, admin: &Admin, table: &Table) -> fmt::Result {
    let (synced, reports) = admin.keeper.look(|world, _| {
        let synced: Vec<_> = world.clusters().map(|(_, name, cluster)| (name.to_owned(), cluster.synced)).collect();
        let all = world.reports();
        let count = |kind| signed(all.iter().filter(|r| r.kind == kind).count());
        (synced, ReportKind::ALL.map(|kind| (kind.word(), count(kind))))
    });
    let synced = synced
        .into_iter()
        .map(|(cluster, synced)| ([("cluster", cluster), ("kind", SOURCE_KIND.to_owned())], i64::from(synced)));
    out.gauges("source_synced", "1 once a source's first complete state is in", synced.collect())?;
    let reports = reports.into_iter().map(|(kind, count)| ([("kind", kind.to_owned())], count));
    out.gauges("reports", "What is wrong with the objects, as `segdns check` tells it", reports.collect())?;
    out.gauges("callers", "Pod addresses that are known as callers", vec![([], signed(table.callers.len()))])
}

fn sockets(out: &mut Writer<'_>, admin: &Admin) -> fmt::Result {
    let stats = &admin.stats;
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    let connections = i64::try_from(read(&stats.tcp_connections)).unwrap_or(i64::MAX);
    out.gauges("tcp_connections", "TCP connections now", vec![([], connections)])?;
    let dropped = [
        ("no-query", admin.counts.ignored()),
        ("truncated", read(&stats.udp_truncated)),
        ("port-zero", read(&stats.udp_port_zero)),
        ("send-error", read(&stats.send_errors)),
        ("tcp-refused", read(&stats.tcp_refused)),
    ];
    let dropped = dropped.into_iter().map(|(reason, count)| ([("reason", reason.to_owned())], count));
    out.counters("dropped", "Messages and connections that got no answer", dropped.collect())?;
    let version = vec![([("version", env!("CARGO_PKG_VERSION").to_owned())], 1)];
    out.gauges("build_info", "The version", version)?;
    out.counters("panics", "Panics while answering, each the loss of one query", vec![([], read(&stats.panics))])
}
