//! The table of targets, as far as serving is concerned, and whether a run has met it.

use super::{FED, Pick, Report, SEGDNS, VISIBLE, cpu};
use crate::data::Kind;
use crate::fleet::TARGETS;
use crate::rounds::Section;
use crate::stats::Median;

/// At most so much of others' CPU time per query when both are kept busy.
const SATURATED: [(&str, f64); 7] = [
    ("echo", 1.08),
    ("nsd", 0.90),
    ("knot", 0.85),
    ("unbound", 0.75),
    ("hickory", 0.60),
    ("coredns", 0.38),
    ("nodelocal", 0.26),
];
/// The same at 20,000 queries a second.
const STEADY: [(&str, f64); 2] = [("echo", 1.08), ("coredns", 0.55)];
/// System calls per query, when kept busy and one at a time.
const CALLS: [(Section, f64, &str); 2] = [(Section::Saturated, 0.07, "saturated"), (Section::Lone, 2.0, "lone")];
/// Resident, in MiB, with 100,000 names.
const RESIDENT: f64 = 48.0;

/// One line.
pub struct Row {
    /// What is measured.
    pub what: String,
    /// What it has to be.
    pub target: String,
    /// What it is.
    pub measured: String,
    /// Whether that is so.
    pub met: bool,
}

impl Row {
    fn at_most(what: String, limit: f64, measured: Median) -> Self {
        let Median { median, low, high } = measured;
        Self {
            what,
            target: format!("at most {limit:.2}"),
            measured: format!("{median:.2} ({low:.2} to {high:.2})"),
            met: median <= limit,
        }
    }
}

/// All that were measured.
#[must_use]
pub fn rows(report: &Report) -> Vec<Row> {
    let mut rows = Vec::new();
    for (section, targets, how) in
        [(Section::Saturated, &SATURATED[..], "saturated"), (Section::Steady, &STEADY[..], "at 20,000 queries/s")]
    {
        for (other, limit) in targets {
            for kind in TARGETS.map(Kind::word) {
                let ratio = report.ratio(section, kind, other, cpu);
                let row = |ratio| Row::at_most(format!("CPU per query, {how}, {kind}, to {other}"), *limit, ratio);
                rows.extend(ratio.map(row));
            }
        }
    }
    for (section, limit, how) in CALLS {
        let row = |calls| Row {
            what: format!("system calls per query, {how}"),
            target: format!("at most {limit}"),
            measured: format!("{calls:.3}"),
            // The bench connects and asks for CPU times meanwhile: a thousandth is not a call of the server's.
            met: calls <= limit * 1.005,
        };
        rows.extend(report.calls(SEGDNS, section).map(row));
    }
    let lone = report.ratio(Section::Lone, VISIBLE, "echo", |s| s.latency_us[0]);
    rows.extend(lone.map(|ratio| Row::at_most("lone query latency, to echo".to_owned(), 1.1, ratio)));
    let picks: [(Pick, &str); 2] = [(|s| s.latency_us[2], "p99"), (|s| s.latency_us[3], "p99.9")];
    for (pick, name) in picks {
        let ratio = report.paired(Section::Swaps, (FED, "swapped"), (FED, "still"), pick);
        let what = format!("{name} at half load with {:.1} swaps/s, to without", report.swap_rates[0]);
        rows.extend(ratio.map(|ratio| Row::at_most(what, 1.1, ratio)));
    }
    let forwarded = Kind::Forwarded.word();
    let forward = report.ratio(Section::Forward, forwarded, "dnsdist-forward", cpu);
    rows.extend(forward.map(|ratio| Row::at_most("forwarding without cache, to dnsdist".to_owned(), 0.85, ratio)));
    let tcp = report.ratio(Section::Tcp, VISIBLE, "hickory", cpu);
    rows.extend(tcp.map(|ratio| Row::at_most("TCP, CPU per query, to hickory-server".to_owned(), 1.0, ratio)));
    if let Some(server) = report.servers.iter().find(|server| server.name == SEGDNS) {
        rows.push(Row {
            what: format!("resident memory with {} names, MiB", report.names[0]),
            target: format!("at most {RESIDENT}"),
            measured: format!("{:.1}", server.rss_mib),
            met: server.rss_mib <= RESIDENT,
        });
    }
    rows
}
