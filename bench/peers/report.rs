//! What was found, for people (Markdown), programs (JSON) and the eye (SVG).

mod machine;
mod plot;
mod target;

use std::fmt::Write as _;

use serde::Serialize;

use crate::data::Kind;
use crate::fleet::{Fleet, TARGETS};
use crate::rounds::{Sample, Section};
use crate::servers::{self, Program};
use crate::special::{BESIDE, BESIDE_FORWARDED, Calls, Perf};
use crate::stats::Median;
use machine::Machine;

/// segdns, in samples.
const SEGDNS: &str = "segdns";
/// segdns as it is fed by an API server.
const FED: &str = "segdns-fed";
/// The case of most sections.
const VISIBLE: &str = "visible";

/// Everything that a run has found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where, when and by which command.
    machine: Machine,
    /// Names that segdns and the others serve.
    names: [usize; 2],
    servers: Vec<Server>,
    /// What was not measured, and why.
    missing: Vec<(&'static str, String)>,
    /// Of all rounds.
    pub samples: Vec<Sample>,
    /// System calls.
    pub calls: Vec<Calls>,
    /// dnsperf's view.
    pub dnsperf: Vec<Perf>,
    /// Tables a second that were swapped in while an exported Service changed, and while another did.
    pub swap_rates: [f64; 2],
}

/// A server, apart from its answers.
#[derive(Debug, Serialize)]
struct Server {
    name: &'static str,
    version: String,
    started_in_s: f64,
    rss_mib: f64,
    pss_mib: f64,
}

/// What of a sample is looked at.
type Pick = fn(&Sample) -> f64;

fn cpu(sample: &Sample) -> f64 {
    sample.cpu_us
}

impl Report {
    /// An empty one.
    #[must_use]
    pub fn new(fleet: &Fleet, programs: &[Program]) -> Self {
        let missing = programs.iter().filter(|program| !fleet.runs(**program)).map(|program| {
            let why = fleet.missing.iter().find(|(other, _)| other == program).map(|(_, why)| why.clone());
            (program.word(), why.unwrap_or_default())
        });
        Self {
            machine: Machine::here(),
            names: [fleet.setting.plan.names, fleet.setting.small.names],
            servers: Vec::new(),
            missing: missing.collect(),
            samples: Vec::new(),
            calls: Vec::new(),
            dnsperf: Vec::new(),
            swap_rates: [0.0; 2],
        }
    }

    /// Takes down what can be known at the end only.
    pub fn finish(&mut self, fleet: &Fleet) {
        self.machine.finish();
        let echo = fleet.server(Program::Echo, Kind::Visible);
        for server in echo.into_iter().chain(&fleet.servers) {
            let (rss_mib, pss_mib) = server.memory();
            let version = servers::version(server.program, &fleet.setting);
            let started_in_s = server.started_in.as_secs_f64();
            self.servers.push(Server { name: server.program.word(), version, started_in_s, rss_mib, pss_mib });
        }
    }

    /// Half of what segdns answered in a second when it was kept busy.
    #[must_use]
    pub fn half_rate(&self) -> f64 {
        self.median(Section::Saturated, SEGDNS, VISIBLE, |s| s.qps).map_or(50_000.0, |median| median.median / 2.0)
    }

    /// All of it, for programs.
    ///
    /// # Errors
    /// None that could be met: the types have nothing that JSON has not.
    pub fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// A picture of CPU time per query.
    #[must_use]
    pub fn plot(&self) -> String {
        let names = self.names_in(Section::Saturated);
        let bars = names.iter().filter_map(|name| {
            let cpu = self.median(Section::Saturated, name, VISIBLE, cpu)?;
            Some(plot::Bar { name, cpu, user: self.user(name) })
        });
        plot::svg(&bars.collect::<Vec<_>>(), &self.machine.line())
    }

    /// All of it, for people.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = self.machine.text(&self.missing);
        self.write_targets(&mut out);
        self.write_saturated(&mut out);
        self.write_ratios(&mut out, Section::Saturated, "segdns's CPU per query, saturated, divided by that of others");
        self.write_more_kinds(&mut out);
        self.write_steady(&mut out);
        self.write_ratios(
            &mut out,
            Section::Steady,
            "segdns's CPU per query at 20,000 queries/s, divided by that of others",
        );
        self.write_lone(&mut out);
        self.write_tcp_and_forward(&mut out);
        self.write_swaps(&mut out);
        self.write_fairness(&mut out);
        self.write_processes(&mut out);
        self.write_faults(&mut out);
        out
    }

    fn of<'a>(&'a self, section: Section, server: &'a str, case: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |s| s.section == section && s.server == server && s.case == case)
    }

    /// Over all rounds.
    fn median(&self, section: Section, server: &str, case: &str, pick: Pick) -> Option<Median> {
        Median::of(self.of(section, server, case).map(pick))
    }

    /// segdns divided by another in each round.
    fn ratio(&self, section: Section, case: &str, other: &str, pick: Pick) -> Option<Median> {
        self.paired(section, (SEGDNS, case), (other, case), pick)
    }

    /// One divided by the other in each round.
    fn paired(&self, section: Section, one: (&str, &str), other: (&str, &str), pick: Pick) -> Option<Median> {
        let pairs = self.of(section, one.0, one.1).filter_map(|own| {
            let other = self.of(section, other.0, other.1).find(|sample| sample.round == own.round)?;
            Some(pick(own) / pick(other))
        });
        Median::of(pairs)
    }

    /// The share of its own code in a server's CPU time when it is kept busy.
    fn user(&self, server: &str) -> f64 {
        let all = || self.of(Section::Saturated, server, VISIBLE);
        all().map(|s| s.user * s.cpu_us).sum::<f64>() / all().map(|s| s.cpu_us).sum::<f64>()
    }

    /// Servers of a section, in the order of all.
    fn names_in(&self, section: Section) -> Vec<&'static str> {
        let words = Program::ALL.map(Program::word);
        words
            .into_iter()
            .filter(|word| self.samples.iter().any(|s| s.section == section && s.server == *word))
            .collect()
    }

    fn write_targets(&self, out: &mut String) {
        let rows = target::rows(self);
        if rows.is_empty() {
            return;
        }
        out.push_str("\n### Targets\n\n| what | target | measured | |\n|---|---|---|---|\n");
        for row in rows {
            let met = if row.met { "met" } else { "**missed**" };
            let _ = writeln!(out, "| {} | {} | {} | {met} |", row.what, row.target, row.measured);
        }
    }

    fn write_saturated(&self, out: &mut String) {
        out.push_str("\n### Saturated: CPU us per query\n\n| server | queries/s | visible | in its own code |");
        out.push_str(" hidden | takeover | external | p50 us | p99 us | p99.9 us | busy |\n");
        out.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
        for name in self.names_in(Section::Saturated) {
            let of = |case, pick| self.median(Section::Saturated, name, case, pick);
            let case = if of(VISIBLE, cpu).is_some() { VISIBLE } else { Kind::External.word() };
            let user = format!("{:.0} %", 100.0 * self.user(name));
            let cells = [
                thousands(of(case, |s| s.qps)),
                spread(of(VISIBLE, cpu)),
                if case == VISIBLE { user } else { NONE.to_owned() },
                spread(of(Kind::Hidden.word(), cpu)),
                spread(of(Kind::Takeover.word(), cpu)),
                spread(of(Kind::External.word(), cpu)),
                micros(of(case, |s| s.latency_us[0])),
                micros(of(case, |s| s.latency_us[2])),
                micros(of(case, |s| s.latency_us[3])),
                percent(of(case, |s| s.busy)),
            ];
            let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
        }
    }

    fn write_ratios(&self, out: &mut String, section: Section, title: &str) {
        let others: Vec<_> = self.names_in(section).into_iter().filter(|name| *name != SEGDNS).collect();
        if others.is_empty() || !self.names_in(section).contains(&SEGDNS) {
            return;
        }
        let _ = writeln!(out, "\n### {title}\n\nPaired within a round; in brackets the middle half.\n");
        out.push_str("| divided by | visible | hidden | takeover | external |\n|---|---|---|---|---|\n");
        for name in others {
            let cells = TARGETS.map(|kind| spread(self.ratio(section, kind.word(), name, cpu)));
            let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
        }
    }

    fn write_more_kinds(&self, out: &mut String) {
        let kinds: Vec<Kind> = Kind::ALL
            .into_iter()
            .filter(|kind| self.median(Section::Saturated, SEGDNS, kind.word(), cpu).is_some())
            .collect();
        if kinds.is_empty() {
            return;
        }
        out.push_str("\n### segdns: every kind of question, saturated\n\n| | queries/s | CPU us |\n|---|---|---|\n");
        for kind in kinds {
            let of = |pick| self.median(Section::Saturated, SEGDNS, kind.word(), pick);
            let _ = writeln!(out, "| {} | {} | {} |", kind.word(), thousands(of(|s| s.qps)), spread(of(cpu)));
        }
    }

    fn write_steady(&self, out: &mut String) {
        let names = self.names_in(Section::Steady);
        if names.is_empty() {
            return;
        }
        out.push_str("\n### At 20,000 queries/s\n\n| server | CPU us, visible | hidden | takeover | external |");
        out.push_str(" p50 us | p99 us | p99.9 us |\n|---|---|---|---|---|---|---|---|\n");
        for name in names {
            let of = |case, pick| self.median(Section::Steady, name, case, pick);
            let cpus = TARGETS.map(|kind| spread(of(kind.word(), cpu))).join(" | ");
            let case = if of(VISIBLE, cpu).is_some() { VISIBLE } else { Kind::External.word() };
            let picks: [Pick; 3] = [|s| s.latency_us[0], |s| s.latency_us[2], |s| s.latency_us[3]];
            let latency = picks.map(|pick| micros(of(case, pick))).join(" | ");
            let _ = writeln!(out, "| {name} | {cpus} | {latency} |");
        }
    }

    fn write_lone(&self, out: &mut String) {
        let names = self.names_in(Section::Lone);
        if names.is_empty() {
            return;
        }
        out.push_str(
            "\n### One question at a time, and system calls per query\n\n| server | p50 us | p99 us | CPU us |",
        );
        out.push_str(" calls, one at a time | calls, saturated |\n|---|---|---|---|---|---|\n");
        for name in names {
            let of = |pick| self.median(Section::Lone, name, VISIBLE, pick);
            let calls = |section| self.calls(name, section).map_or(NONE.to_owned(), |calls| format!("{calls:.3}"));
            let cells = [
                spread(of(|s| s.latency_us[0])),
                micros(of(|s| s.latency_us[2])),
                spread(of(cpu)),
                calls(Section::Lone),
                calls(Section::Saturated),
            ];
            let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
        }
    }

    fn calls(&self, server: &str, section: Section) -> Option<f64> {
        self.calls.iter().find(|calls| calls.server == server && calls.section == section).map(|calls| calls.per_query)
    }

    fn write_tcp_and_forward(&self, out: &mut String) {
        for (section, case, title) in [
            (Section::Tcp, VISIBLE, "TCP: 64 connections, 4 questions in flight on each"),
            (Section::Forward, Kind::Forwarded.word(), "Forwarding without a cache"),
        ] {
            let names = self.names_in(section);
            if names.is_empty() {
                continue;
            }
            let _ = writeln!(out, "\n### {title}\n");
            out.push_str("| server | queries/s | CPU us | segdns's divided by it | p50 us | p99 us |\n|---|---|---|---|---|---|\n");
            for name in names {
                let of = |pick| self.median(section, name, case, pick);
                let ratio = self.ratio(section, case, name, cpu);
                let cells = [
                    thousands(of(|s| s.qps)),
                    spread(of(cpu)),
                    spread(ratio),
                    micros(of(|s| s.latency_us[0])),
                    micros(of(|s| s.latency_us[2])),
                ];
                let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
            }
        }
    }

    /// One row for each circumstance.
    fn write_swaps(&self, out: &mut String) {
        let mut cases: Vec<&str> = Vec::new();
        for sample in self.samples.iter().filter(|sample| sample.section == Section::Swaps) {
            if !cases.contains(&sample.case) {
                cases.push(sample.case);
            }
        }
        if cases.is_empty() {
            return;
        }
        let [one, other] = self.swap_rates;
        let _ = writeln!(
            out,
            "\n### Table swaps: half of the saturated rate, {one:.1} swaps a second or {other:.1}\n\n| | p50 us | p99 us | \
             p99.9 us | lost of asked |\n|---|---|---|---|---|"
        );
        for case in cases {
            let of = |pick| self.median(Section::Swaps, FED, case, pick);
            let picks: [Pick; 3] = [|s| s.latency_us[0], |s| s.latency_us[2], |s| s.latency_us[3]];
            let latency = picks.map(|pick| spread(of(pick))).join(" | ");
            let [lost, asked] = self.lost(Section::Swaps, FED, case);
            let _ = writeln!(out, "| {case} | {latency} | {lost} of {asked} |");
        }
    }

    /// What was lost of what was asked, in all rounds.
    fn lost(&self, section: Section, server: &str, case: &str) -> [u64; 2] {
        let sum = |of: fn(&Sample) -> u64| self.of(section, server, case).map(of).sum();
        [sum(|s| s.lost), sum(|s| s.lost + s.answered + s.wrong)]
    }

    /// One row for each server, with what the modest caller sees.
    fn write_fairness(&self, out: &mut String) {
        let names = self.names_in(Section::Fair);
        if names.is_empty() {
            return;
        }
        out.push_str("\n### Fairness: a caller with 1,000 queries/s, and what a greedy one does meanwhile\n\n");
        out.push_str("p50 and p99 of the modest caller in us; lost of what it asked.\n\n| server |");
        let cases = || BESIDE.iter().chain([&BESIDE_FORWARDED]).map(|(case, _)| *case);
        cases().for_each(|case| out.push_str(&format!(" {case} |")));
        out.push_str(" lost |\n|---|");
        cases().for_each(|_| out.push_str("---|"));
        out.push_str("---|\n");
        for name in names {
            let _ = write!(out, "| {name} |");
            let (mut lost, mut asked) = (0, 0);
            for case in cases() {
                let of = |pick| self.median(Section::Fair, name, case, pick);
                let (p50, p99) = (of(|s| s.latency_us[0]), of(|s| s.latency_us[2]));
                let _ = match p50 {
                    Some(_) => write!(out, " {}, {} |", micros(p50), micros(p99)),
                    None => write!(out, " {NONE} |"),
                };
                let [of_lost, of_asked] = self.lost(Section::Fair, name, case);
                (lost, asked) = (lost + of_lost, asked + of_asked);
            }
            let _ = writeln!(out, " {lost} of {asked} |");
        }
    }

    fn write_processes(&self, out: &mut String) {
        let _ = writeln!(out, "\n### Memory after all that, start, and what dnsperf says\n");
        let _ =
            writeln!(out, "segdns serves {} names, segdns-small and the others {}.\n", self.names[0], self.names[1]);
        out.push_str(
            "| server | resident MiB | proportional MiB | first answer after s | dnsperf queries/s | version |\n",
        );
        out.push_str("|---|---|---|---|---|---|\n");
        for server in &self.servers {
            let perf = self.dnsperf.iter().find(|perf| perf.server == server.name);
            let perf = thousands(perf.and_then(|perf| Median::of(perf.qps.iter().copied())));
            let Server { name, version, started_in_s, rss_mib, pss_mib } = server;
            let _ = writeln!(out, "| {name} | {rss_mib:.1} | {pss_mib:.1} | {started_in_s:.1} | {perf} | {version} |");
        }
    }

    /// Nothing is left out silently: what was lost or wrong is told of every server.
    fn write_faults(&self, out: &mut String) {
        out.push_str("\n### Lost and wrong answers\n\n| server | answered | lost | wrong |\n|---|---|---|---|\n");
        let counted = |s: &&Sample| s.section != Section::Fair;
        for name in Program::ALL.map(Program::word).into_iter().chain([FED]) {
            let of = |count: fn(&Sample) -> u64| {
                self.samples.iter().filter(counted).filter(|s| s.server == name).map(count).sum::<u64>()
            };
            let (answered, lost, wrong) = (of(|s| s.answered), of(|s| s.lost), of(|s| s.wrong));
            if answered + lost + wrong > 0 {
                let _ = writeln!(out, "| {name} | {answered} | {lost} | {wrong} |");
            }
        }
    }
}

/// A page with a result in the place of the one that it has; `None` if it has no place for one.
#[must_use]
pub fn put_into(page: &str, result: &str) -> Option<String> {
    let (head, rest) = page.split_once("<!-- result -->\n")?;
    let (_, tail) = rest.split_once("<!-- /result -->")?;
    Some(format!("{head}<!-- result -->\n{result}<!-- /result -->{tail}"))
}

/// What was not measured.
const NONE: &str = "-";

fn spread(median: Option<Median>) -> String {
    median.map_or(NONE.to_owned(), |m| format!("{:.2} ({:.2} to {:.2})", m.median, m.low, m.high))
}

fn thousands(median: Option<Median>) -> String {
    median.map_or(NONE.to_owned(), |m| format!("{:.0}k", m.median / 1000.0))
}

fn micros(median: Option<Median>) -> String {
    median.map_or(NONE.to_owned(), |m| format!("{:.0}", m.median))
}

fn percent(median: Option<Median>) -> String {
    median.map_or(NONE.to_owned(), |m| format!("{:.0} %", m.median * 100.0))
}
