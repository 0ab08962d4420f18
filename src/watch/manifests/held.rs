//! What each file of one cluster holds, which of them counts, and what a change to some of them changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use crate::mesh::object::{Change, ClusterIx, Fault, Key, Object};

/// One object as a file has it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The object.
    pub object: Object,
    /// What in it could not be used.
    pub faults: Vec<Fault>,
    /// The line it starts in, from 1.
    pub line: u64,
}

/// The objects of one file.
pub type Contents = HashMap<Key, Entry>;

/// All objects of one cluster.
#[derive(Debug, Default)]
pub struct Held {
    files: BTreeMap<Arc<Path>, Contents>,
    /// Which files have an object, in order; the last one counts.
    owners: HashMap<Key, Vec<Arc<Path>>>,
    /// Objects that more than one file has.
    doubles: BTreeSet<Key>,
}

impl Held {
    /// What a file holds.
    pub fn get(&self, file: &Path) -> Option<&Contents> {
        self.files.get(file)
    }

    /// Replaces what files hold (`None`: the file is gone), and says what that changes.
    pub fn replace(&mut self, cluster: ClusterIx, changed: BTreeMap<Arc<Path>, Option<Contents>>) -> Vec<Change> {
        let mut before: HashMap<Key, Option<Entry>> = HashMap::new();
        // From the last file to the first, so that the one that counted is seen while it still is the last owner.
        for file in changed.keys().rev() {
            for (key, entry) in self.files.remove(file).unwrap_or_default() {
                let counted = self.disown(&key, file);
                let slot = before.entry(key).or_default();
                if counted && slot.is_none() {
                    *slot = Some(entry);
                }
            }
        }
        // An object whose counting version is in a file that did not change is compared with that one.
        for (key, slot) in before.iter_mut().filter(|(_, slot)| slot.is_none()) {
            *slot = self.counting(key).cloned();
        }
        for (file, contents) in changed {
            let Some(contents) = contents else { continue };
            for key in contents.keys() {
                if !before.contains_key(key) {
                    before.insert(key.clone(), self.counting(key).cloned());
                }
            }
            for key in contents.keys() {
                self.own(key, &file);
            }
            self.files.insert(file, contents);
        }
        self.differences(cluster, before)
    }

    fn counting(&self, key: &Key) -> Option<&Entry> {
        let file = self.owners.get(key)?.last()?;
        self.files.get(file)?.get(key)
    }

    /// Takes a file from an object's owners; true if it was the one that counted.
    fn disown(&mut self, key: &Key, file: &Arc<Path>) -> bool {
        let Some(owners) = self.owners.get_mut(key) else { return false };
        let counted = owners.last() == Some(file);
        owners.retain(|owner| owner != file);
        if owners.len() < 2 {
            self.doubles.remove(key);
        }
        if owners.is_empty() {
            self.owners.remove(key);
        }
        counted
    }

    fn own(&mut self, key: &Key, file: &Arc<Path>) {
        if let Some(owners) = self.owners.get_mut(key) {
            let at = owners.partition_point(|owner| owner < file);
            owners.insert(at, file.clone());
            self.doubles.insert(key.clone());
        } else {
            self.owners.insert(key.clone(), vec![file.clone()]);
        }
    }

    fn differences(&self, cluster: ClusterIx, before: HashMap<Key, Option<Entry>>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, before) in before {
            match (before, self.counting(&key)) {
                (Some(_), None) => changes.push(Change::Delete { cluster, key }),
                (before, Some(now)) => {
                    let same = before.is_some_and(|old| old.object == now.object && old.faults == now.faults);
                    if !same {
                        let (object, faults) = (now.object.clone(), now.faults.clone());
                        changes.push(Change::Apply { cluster, object, faults });
                    }
                }
                (None, None) => {}
            }
        }
        changes
    }

    /// A fault for every object that more than one file has, with the file whose version does not count.
    pub fn doubles(&self) -> Vec<(Arc<Path>, Fault)> {
        let mut faults = Vec::new();
        for key in &self.doubles {
            let Some((winner, losers)) = self.owners.get(key).and_then(|owners| owners.split_last()) else { continue };
            let line = |file: &Path| self.files.get(file).and_then(|c| c.get(key)).map_or(0, |entry| entry.line);
            for loser in losers {
                let text = format!(
                    "{}:{}: {} is also in {}:{}, which sorts last and is used",
                    loser.display(),
                    line(loser),
                    title(key),
                    winner.display(),
                    line(winner)
                );
                faults.push((loser.clone(), Fault { text, remedy: "remove one of the two".to_owned() }));
            }
        }
        faults
    }
}

/// An object as an operator names it.
pub fn title(key: &Key) -> String {
    if key.namespace.is_empty() {
        format!("{} {}", key.kind, key.name)
    } else {
        format!("{} {}/{}", key.kind, key.namespace, key.name)
    }
}
