//! A mesh that changes while it is asked: after every change each answer is the model's of what the mesh is by now, and the one
//! of a table that was made of that from nothing.

use std::net::IpAddr;

use super::ask;
use super::case::{Fault, Kind, Tally, check, home, known, leaks, shown};
use super::change::{self, Edit};
use super::draw::Dice;
use super::front::{Front, Lab};
use super::judge::alike;
use super::mesh::{CLUSTER, Mesh, Object};
use super::rules::Model;
use super::wire::Query;

/// Meshes of a hundred that change.
const CHANGING: usize = 33;
/// Changes to one of them at most, and questions after each.
const ROUNDS: usize = 3;
const QUESTIONS: usize = 5;

/// Changes that come together, and who asks what after them.
#[derive(Clone, Debug)]
pub struct Round {
    /// The changes.
    pub edits: Vec<Edit>,
    /// Who asks.
    pub caller: IpAddr,
    /// What.
    pub queries: Vec<Query>,
}

/// What happens to a mesh, if anything.
#[must_use]
pub fn draw(dice: &mut Dice, mesh: &Mesh, caller: IpAddr) -> Vec<Round> {
    let (mut rounds, mut mesh) = (Vec::new(), mesh.clone());
    // Within a grace an answer depends on what the name was before (R22), which the model of one state cannot tell.
    if !dice.chance(CHANGING) || mesh.policy.grace {
        return rounds;
    }
    let mut before = known(&mesh);
    for _ in 0..1 + dice.below(ROUNDS) {
        let edits = change::draw(dice, &mesh);
        edits.iter().for_each(|edit| edit.apply(&mut mesh));
        let after = known(&mesh);
        let caller = asker(dice, &mesh, &edits).unwrap_or(caller);
        let home = home(&mesh, caller);
        let mut queries: Vec<Query> = (0..QUESTIONS).map(|_| ask::query(dice, &mesh, &after, home)).collect();
        // What came or went is what may be stale, and the name in the cluster domain of what changed.
        let moved = before.iter().filter(|n| !after.contains(n)).chain(after.iter().filter(|n| !before.contains(n)));
        let mut moved: Vec<String> = moved.map(|n| n.replace("*.", "any.")).collect();
        moved.extend(edits.iter().filter_map(cluster_name));
        for query in queries.iter_mut().take(3).filter(|_| !moved.is_empty()) {
            query.name = dice.pick(&moved);
        }
        before = after;
        rounds.push(Round { edits, caller, queries });
    }
    rounds
}

/// Who asks after these changes, often: a pod that is one of them, or anyone.
fn asker(dice: &mut Dice, mesh: &Mesh, edits: &[Edit]) -> Option<IpAddr> {
    let pod = |edit: &Edit| match edit {
        Edit::Put(_, Object::Pod(pod)) | Edit::Gone(_, Object::Pod(pod)) => pod.addresses.first().copied(),
        _ => None,
    };
    let pod = edits.iter().find_map(pod).filter(|_| dice.chance(80));
    pod.or_else(|| dice.chance(40).then(|| ask::caller(dice, mesh)))
}

fn cluster_name(edit: &Edit) -> Option<String> {
    match edit {
        Edit::Put(_, Object::Service(s)) | Edit::Gone(_, Object::Service(s)) => {
            Some(format!("{}.{}.svc.{CLUSTER}", s.name, s.namespace))
        }
        _ => None,
    }
}

/// Everything that is wrong after some changes to a mesh that answers, which `mesh` is by then.
pub fn faults(
    round: &Round,
    mesh: &Mesh,
    lab: &Lab,
    front: &mut Front<'_>,
    tally: &mut Tally,
    faults: &mut Vec<Fault>,
) {
    tally.rounds += 1;
    front.change(&round.edits);
    let model = Model::new(mesh);
    let mut anew = lab.front(mesh);
    for query in &round.queries {
        let before = faults.len();
        let got = check(&model, front, round.caller, query, tally, faults);
        let other = anew.ask(round.caller, query, 9);
        let in_zone = model.zone_of(&query.name.to_lowercase()).is_some();
        if !alike(&got.answer, &other.answer) || (in_zone && got.later != other.later) {
            let text = format!("after changes: {}\nfrom nothing: {}", shown(&got), shown(&other));
            // The better explanation comes first.
            faults.insert(before, Fault { kind: Kind::Stale, asked: Some((round.caller, query.clone())), text });
        }
    }
    faults.extend(leaks(&model, lab));
}
