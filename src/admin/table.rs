//! All names of the table, with who sees them.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::asker::Asker;
use super::found::{self, Found};
use super::words;
use crate::mesh::address::Answers;
use crate::mesh::name::Name;
use crate::mesh::publish::{Body, Cross, Rank};
use crate::mesh::report::ObjectRef;
use crate::mesh::segment::SegmentIx;
use crate::mesh::visible::{View, view};
use crate::mesh::world::World;
use crate::table::Table;

/// Who sees a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VisibleTo {
    /// Every caller (R10); `"everyone"` in JSON.
    Everyone,
    /// Callers of these segments.
    Segments(Vec<Box<str>>),
}

impl Serialize for VisibleTo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Everyone => serializer.serialize_str("everyone"),
            Self::Segments(names) => names.serialize(serializer),
        }
    }
}

/// One name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The name.
    pub name: String,
    /// Its segment; absent for hosts that are everyone's. Of a cluster name: whose callers it is taken over for.
    pub segment: Option<Box<str>>,
    /// `global`, `segment`, `mixed` where those who publish it differ, `takeover` for cluster names; absent for hosts
    /// that are everyone's.
    pub scope: Option<&'static str>,
    /// What is answered: addresses, or `CNAME target`. To the caller, if one is given, else to callers of its segment.
    pub addresses: Vec<String>,
    /// Who sees it.
    pub visible_to: VisibleTo,
    /// What publishes it.
    pub objects: Vec<ObjectRef>,
}

/// Every name, or those that a caller sees, by name.
#[must_use]
pub fn table(world: &World, table: &Table, asker: Option<&Asker>) -> Vec<Row> {
    let mut all: BTreeMap<Name, Found<'_>> = BTreeMap::new();
    if !table.synced {
        return Vec::new();
    }
    for unit in world.units() {
        for record in world.compiled(&unit).records {
            let service = record.rank == Rank::Service;
            let taken = all.get(&record.name).is_some_and(|have| have.record.rank == Rank::Service);
            if service || (!taken && world.rival_of(&record.name) == Some(&unit)) {
                all.insert(record.name.clone(), found::trace(world, &unit, record));
            }
        }
    }
    all.values().flat_map(|found| rows(world, found, asker)).collect()
}

fn rows(world: &World, found: &Found<'_>, asker: Option<&Asker>) -> Vec<Row> {
    let name = |ix: SegmentIx| world.layout().segments[usize::from(ix)].name.clone();
    let row = |segment: Option<SegmentIx>, scope, answers: &Answers, visible_to| Row {
        name: found.record.name.to_string(),
        segment: segment.map(name),
        scope,
        addresses: addresses(answers, asker),
        visible_to,
        objects: found.objects(world),
    };
    let seen = |asker: &Asker| found.answers(world, &asker.caller);
    match &found.record.body {
        Body::Public(answers) => vec![row(None, None, answers, VisibleTo::Everyone)],
        Body::Mesh { segment, own, cross } => {
            let answers = match asker {
                Some(asker) => seen(asker),
                None => Some(own),
            };
            let sees = |caller: &SegmentIx| match view(&world.settings().policy, *caller, *segment) {
                View::Own => true,
                View::Cross => *cross != Cross::Hidden,
                View::Nothing => false,
            };
            let segments = (0..world.layout().segments.len()).filter_map(|ix| SegmentIx::try_from(ix).ok());
            let visible_to = VisibleTo::Segments(segments.filter(sees).map(name).collect());
            let scope = Some(words::scope_word(&found.scopes()));
            answers.map(|a| row(Some(*segment), scope, a, visible_to)).into_iter().collect()
        }
        Body::Cluster(all) => {
            let mine = |segment: SegmentIx| {
                asker.is_none_or(|a| a.caller.takes_over && a.caller.segment.segment() == Some(segment))
            };
            let to = |segment| VisibleTo::Segments(vec![name(segment)]);
            let taken = all.iter().filter(|t| mine(t.segment));
            taken.map(|t| row(Some(t.segment), Some("takeover"), &t.answers, to(t.segment))).collect()
        }
    }
}

fn addresses(answers: &Answers, asker: Option<&Asker>) -> Vec<String> {
    let six = asker.is_none_or(|a| a.caller.aaaa);
    let v6 = answers.v6.iter().filter(|_| six).map(ToString::to_string);
    let cname = answers.cname.iter().map(|target| format!("CNAME {target}"));
    answers.v4.iter().map(ToString::to_string).chain(v6).chain(cname).collect()
}
