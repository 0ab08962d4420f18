//! What was asked and answered, by whom, and what our own sockets saw.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::registry::Unit;

use super::{OTHER, Writer};
use crate::admin::http::Admin;
use crate::histogram::Reading;
use crate::table::decide::Reason;
use crate::table::{SLOTS, Table};

pub fn queries(out: &mut Writer<'_>, admin: &Admin, table: &Table) -> fmt::Result {
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
    durations(out, admin)?;
    let slots = slots(table);
    let pairs = slots.iter().flat_map(|caller| slots.iter().map(move |of| (caller, of)));
    let hidden = pairs.filter(|(caller, of)| caller.0 != of.0).map(|(caller, of)| {
        ([("caller_segment", caller.1.clone()), ("segment", of.1.clone())], admin.counts.hidden(caller.0, of.0))
    });
    out.counters("hidden", "Names hidden from a caller, by its segment and theirs", hidden.collect())
}

fn durations(out: &mut Writer<'_>, admin: &Admin) -> fmt::Result {
    let times = admin.counts.times().map(|(source, times)| ([("source", source.to_owned())], times));
    let help = "How long answers took, by where they came from";
    out.histograms(("dns_request_duration", Unit::Seconds), help, times.into())?;
    let [requests, responses] = admin.counts.sizes();
    let labelled =
        |sizes: [(&str, Reading); 2]| sizes.map(|(proto, sizes)| ([("proto", proto.to_owned())], sizes)).into();
    out.histograms(("dns_request_size", Unit::Bytes), "How long queries are", labelled(requests))?;
    out.histograms(("dns_response_size", Unit::Bytes), "How long answers are", labelled(responses))
}

/// The places of the counters with the segments that have them; beyond a number of segments, the rest share one.
pub fn slots(table: &Table) -> Vec<(u8, String)> {
    // No object can have the name that is taken if one has the usual name.
    let is_taken = table.segments.iter().any(|segment| *segment.name == *OTHER);
    let rest = if is_taken { format!("_{OTHER}") } else { OTHER.to_owned() };
    let mut out: Vec<(u8, String)> = Vec::new();
    for (segment, ix) in table.segments.iter().zip(0..) {
        let slot = table.slot(ix);
        let name = if usize::from(slot) >= SLOTS - 1 { rest.clone() } else { segment.name.to_string() };
        if !out.iter().any(|(have, _)| *have == slot) {
            out.push((slot, name));
        }
    }
    out
}

pub fn sockets(out: &mut Writer<'_>, admin: &Admin) -> fmt::Result {
    let stats = &admin.stats;
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    let now = |counter: &AtomicU64| vec![([], i64::try_from(read(counter)).unwrap_or(i64::MAX))];
    out.gauges("tcp_connections", "TCP connections now", now(&stats.tcp_connections))?;
    out.gauges(
        "callers_apart",
        "Callers that flood and are answered apart from others now",
        now(&stats.callers_apart),
    )?;
    out.counters("floods", "How often a caller was set apart", vec![([], read(&stats.floods))])?;
    let dropped = [
        ("no-query", admin.counts.ignored()),
        ("truncated", read(&stats.udp_truncated)),
        ("port-zero", read(&stats.udp_port_zero)),
        ("send-error", read(&stats.send_errors)),
        ("tcp-refused", read(&stats.tcp_refused)),
    ];
    let dropped = dropped.into_iter().map(|(reason, count)| ([("reason", reason.to_owned())], count));
    out.counters("dropped", "Messages and connections that got no answer", dropped.collect())?;
    let lost = vec![([], (admin.logs.dropped)())];
    out.counters("log_lines_dropped", "Log lines that were lost, because standard error was not read", lost)?;
    let version = vec![([("version", env!("CARGO_PKG_VERSION").to_owned())], 1)];
    out.gauges("build_info", "The version", version)?;
    out.counters("panics", "Panics while answering, each the loss of one query", vec![([], read(&stats.panics))])
}
