//! What is known of the objects, and of where they come from.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::answers::slots;
use super::{OTHER, Writer, signed};
use crate::admin::http::Admin;
use crate::admin::sources::{MANIFESTS, SNAPSHOT, is_missing};
use crate::mesh::report::ReportKind;
use crate::table::Table;
use crate::table::node::NodeKind;
use crate::watch::board::{Board, Source, State};

/// So many clusters have series of their own; those of the others are one.
const CLUSTERS: usize = 64;

pub fn names(out: &mut Writer<'_>, admin: &Admin, table: &Table) -> fmt::Result {
    let slots = slots(table);
    let mut counts = vec![0; slots.len()];
    for (_, node) in table.nodes().filter(|(_, node)| node.kind == NodeKind::Mesh) {
        let slot = table.slot(node.segment);
        if let Some(at) = slots.iter().position(|(have, _)| *have == slot) {
            counts[at] += 1;
        }
    }
    let counts = slots.into_iter().zip(counts).map(|((_, segment), count)| ([("segment", segment)], count));
    out.gauges("table_names", "Names of each segment in the table, aliases included", counts.collect())?;
    out.histogram("table_build", "How long tables took to build", admin.keeper.builds())?;
    let help = "From an object's change read off a watch until new queries are answered by it";
    out.histogram("table_propagation", help, &admin.propagation)?;
    let generation = i64::try_from(table.generation).unwrap_or(i64::MAX);
    out.gauges("table_generation", "Counts the tables of this process", vec![([], generation)])
}

pub fn sources(out: &mut Writer<'_>, board: &Board, local: &str) -> fmt::Result {
    let states = folded(board.states(), local);
    let labels = |source: &Source| [("cluster", source.cluster.to_string()), ("kind", source.kind.to_string())];
    let synced = states.iter().map(|(source, state)| (labels(source), i64::from(state.synced)));
    out.gauges("source_synced", "1 once a source's first complete state is in", synced.collect())?;
    let ages = ages(&states).into_iter().map(|(cluster, age)| ([("cluster", cluster.to_owned())], age));
    let help = "Since the source of a cluster that has been quiet for longest last said anything";
    out.seconds("source_age", help, ages.collect())?;
    // What is wrong with files is reports.
    let watched = states.iter().filter(|(source, _)| *source.kind != *MANIFESTS);
    let errors = watched.map(|(source, state)| (labels(source), state.errors));
    out.counters("source_errors", "Failures to read a source", errors.collect())?;
    let troubled = states.iter().filter_map(|(source, state)| Some((source, state.trouble.as_ref()?)));
    let troubles = troubled.map(|(source, trouble)| {
        let [cluster, kind] = labels(source);
        ([cluster, kind, ("reason", trouble.cause.word().to_owned())], 1)
    });
    out.gauges("source_trouble", "1 for what keeps a source from its objects now", troubles.collect())?;
    let saved = i64::from(board.saved().is_some());
    out.gauges("saved_state", "1 while the state that is served is a saved one", vec![([], saved)])
}

/// Clusters beyond the bound as one, of which the worst is told.
fn folded(states: Vec<(Source, State)>, local: &str) -> BTreeMap<Source, State> {
    let peers: BTreeSet<Box<str>> =
        states.iter().map(|(source, _)| &source.cluster).filter(|cluster| ***cluster != *local).cloned().collect();
    let named: BTreeSet<Box<str>> = peers.into_iter().take(CLUSTERS - 1).chain([local.into()]).collect();
    let mut out: BTreeMap<Source, State> = BTreeMap::new();
    for (mut source, state) in states {
        if !named.contains(&source.cluster) {
            source.cluster = OTHER.into();
        }
        match out.entry(source) {
            Entry::Vacant(place) => drop(place.insert(state)),
            Entry::Occupied(mut place) => {
                let all = place.get_mut();
                all.synced &= state.synced;
                all.heard = all.heard.min(state.heard).or(all.heard).or(state.heard);
                all.errors += state.errors;
                all.trouble = all.trouble.take().or(state.trouble);
            }
        }
    }
    out
}

/// By cluster; one that nothing has been heard of has none.
fn ages(states: &BTreeMap<Source, State>) -> BTreeMap<&str, f64> {
    let mut ages = BTreeMap::new();
    for (source, state) in states.iter().filter(|(source, state)| !is_missing(state) && *source.kind != *SNAPSHOT) {
        let Some(heard) = state.heard else { continue };
        let oldest: &mut f64 = ages.entry(&*source.cluster).or_default();
        *oldest = oldest.max(heard.elapsed().as_secs_f64());
    }
    ages
}

pub fn reports(out: &mut Writer<'_>, admin: &Admin, table: &Table) -> fmt::Result {
    let counts = ReportKind::ALL.into_iter().zip(admin.keeper.report_counts());
    let counts = counts.map(|(kind, count)| ([("kind", kind.word().to_owned())], signed(count)));
    out.gauges("reports", "What is wrong with the objects, as `segdns check` tells it", counts.collect())?;
    let captured = signed(admin.placement.latest(&admin.keeper).len());
    out.gauges("pods_captured", "Pods of this node that ztunnel seems to answer for", vec![([], captured)])?;
    out.gauges("callers", "Pod addresses that are known as callers", vec![([], signed(table.callers.len()))])
}

#[cfg(test)]
mod tests {
    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::DescriptorEncoder;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::watch::board::Cause;
    use crate::watch::board::Trouble;

    #[derive(Debug)]
    struct Only(Board);

    impl Collector for Only {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            sources(&mut Writer(encoder), &self.0, "c1")
        }
    }

    #[test]
    fn every_source_has_its_series_and_trouble_only_while_there_is_some() {
        let board = Board::default();
        let source = |cluster: &str, kind: &str| Source { cluster: cluster.into(), kind: kind.into() };
        let trouble = |cause| Trouble { text: String::new(), remedy: String::new(), cause };
        for kind in ["pods", "segments", "services"] {
            board.expect(&source("c1", kind));
        }
        board.complete(&source("c1", "pods"));
        board.failed(&source("c1", "segments"), trouble(Cause::Missing));
        for _ in 0..2 {
            board.failed(&source("c1", "services"), trouble(Cause::Forbidden));
        }
        board.expect(&source("c2", "manifests"));
        let (mut registry, mut text) = (Registry::with_prefix("segdns"), String::new());
        registry.register_collector(Box::new(Only(board)));
        encode(&mut text, &registry).unwrap();
        let series = |prefix: &str| text.lines().filter(|line| line.starts_with(prefix)).collect::<Vec<_>>();
        let errors = [
            "segdns_source_errors_total{cluster=\"c1\",kind=\"pods\"} 0",
            "segdns_source_errors_total{cluster=\"c1\",kind=\"segments\"} 1",
            "segdns_source_errors_total{cluster=\"c1\",kind=\"services\"} 2",
        ];
        assert_eq!(series("segdns_source_errors_total{"), errors);
        let troubles = [
            "segdns_source_trouble{cluster=\"c1\",kind=\"segments\",reason=\"missing\"} 1",
            "segdns_source_trouble{cluster=\"c1\",kind=\"services\",reason=\"forbidden\"} 1",
        ];
        assert_eq!(series("segdns_source_trouble{"), troubles);
        assert_eq!(series("segdns_source_synced{").len(), 4);
        assert!(text.contains("segdns_source_synced{cluster=\"c1\",kind=\"pods\"} 1"), "{text}");
        let ages = series("segdns_source_age_seconds{");
        assert!(ages.len() == 1 && ages[0].starts_with("segdns_source_age_seconds{cluster=\"c1\"} "), "{ages:?}");
        assert_eq!(series("segdns_saved_state "), ["segdns_saved_state 0"]);
    }
}
