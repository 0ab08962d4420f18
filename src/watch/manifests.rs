//! Manifests on disk: directories of YAML files, one directory for each cluster, read again as they change.
//!
//! A file that does not parse keeps what it held before, because it may be half written. One that has never parsed and may
//! hold policy keeps its cluster from being complete: answering without it could show names that it hides.

mod held;
mod policy;
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::hash::BuildHasher as _;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use foldhash::quality::RandomState;
use thiserror::Error;

use super::yaml::{self, Content, Found};
use crate::mesh::object::{Change, ClusterIx, Fault};
use held::{Contents, Entry, Held};
use scan::{Scan, Stamp, scan};

/// A larger file is refused.
const MAX_FILE: u64 = 1024 * 1024 * 1024;
/// So much text is held at once while reading.
const MAX_BATCH: u64 = 512 * 1024 * 1024;

/// Why manifests cannot be read at all.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The directory is not there, is no directory, or may not be read.
    #[error(
        "manifests directory {path:?}: {error}; create it and let segdns's user read it, or correct sources.manifests or --manifests"
    )]
    Directory {
        /// As configured.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// Directories of manifests, and what they held when last looked at.
#[derive(Debug)]
pub struct Manifests {
    clusters: Vec<Cluster>,
}

#[derive(Debug)]
struct Cluster {
    index: ClusterIx,
    root: PathBuf,
    files: BTreeMap<Arc<Path>, Known>,
    held: Held,
    /// What was last reported of each place.
    reported: BTreeMap<String, Vec<Fault>>,
    synced: bool,
}

/// One file, as last read.
#[derive(Debug)]
struct Known {
    /// `None`: to be read again whatever its stamp.
    stamp: Option<Stamp>,
    read_at: SystemTime,
    /// Of what was last read.
    digest: Option<u64>,
    /// Size and time of an empty state that replaced objects and is believed only when it is seen a second time.
    emptied: Option<Stamp>,
    faults: Vec<Fault>,
    parsed: bool,
    /// It has never parsed and may hold policy.
    blocks: bool,
}

impl Manifests {
    /// Takes the directories; nothing is read before the first [`Manifests::poll`]. One directory belongs to one cluster.
    ///
    /// # Errors
    /// [`SourceError`] if a directory cannot be listed.
    pub fn open(dirs: Vec<(ClusterIx, PathBuf)>) -> Result<Self, SourceError> {
        let mut clusters = Vec::with_capacity(dirs.len());
        for (index, root) in dirs {
            fs::read_dir(&root).map_err(|error| SourceError::Directory { path: root.clone(), error })?;
            clusters.push(Cluster {
                index,
                root,
                files: BTreeMap::new(),
                held: Held::default(),
                reported: BTreeMap::new(),
                synced: false,
            });
        }
        Ok(Self { clusters })
    }

    /// What has changed since the last time; the first time, everything. Takes a `stat` for each file that did not change,
    /// so that it can be called every 250 ms.
    pub fn poll(&mut self) -> Vec<Change> {
        self.clusters.iter_mut().flat_map(Cluster::poll).collect()
    }
}

impl Cluster {
    fn poll(&mut self) -> Vec<Change> {
        let scan = scan(&self.root);
        let mut changes = Vec::new();
        let gone = self.gone(&scan);
        let mut again = BTreeSet::new();
        if !gone.is_empty() {
            self.files.retain(|file, _| !gone.contains(file));
            again = self.replace(gone.into_iter().map(|file| (file, None)).collect(), &mut changes);
        }
        for batch in self.batches(&scan) {
            again.extend(self.read(&batch, &mut changes));
        }
        self.read_again(again, &scan, &mut changes);
        // Before the faults are told: they say whether names stay closed.
        let complete = scan.unseen.is_empty() && !self.files.values().any(|known| known.blocks);
        let sync = complete && !self.synced;
        self.synced |= sync;
        changes.extend(self.report(&scan));
        if sync {
            changes.push(Change::Synced { cluster: self.index });
        }
        changes
    }

    /// Files that were there and are no more; what lies below a place that cannot be seen is not gone.
    fn gone(&self, scan: &Scan) -> BTreeSet<Arc<Path>> {
        let unseen = |file: &Path| scan.unseen.iter().any(|(place, _)| file.starts_with(place));
        self.files.keys().filter(|file| !scan.files.contains_key(*file) && !unseen(file)).cloned().collect()
    }

    /// Files to read, in portions of bounded size.
    fn batches(&self, scan: &Scan) -> Vec<Vec<(Arc<Path>, Stamp)>> {
        let mut batches = Vec::new();
        let (mut batch, mut size) = (Vec::new(), 0);
        for (file, stamp) in &scan.files {
            let current = |known: &Known| known.stamp == Some(*stamp) && !stamp.is_fresh_at(known.read_at);
            if self.files.get(file).is_some_and(current) {
                continue;
            }
            if size + stamp.size > MAX_BATCH && !batch.is_empty() {
                batches.push(std::mem::take(&mut batch));
                size = 0;
            }
            size += stamp.size;
            batch.push((file.clone(), *stamp));
        }
        if !batch.is_empty() {
            batches.push(batch);
        }
        batches
    }

    /// Replaces what files hold; gives those that have to be read again.
    fn replace(
        &mut self,
        changed: BTreeMap<Arc<Path>, Option<Contents>>,
        changes: &mut Vec<Change>,
    ) -> BTreeSet<Arc<Path>> {
        let replaced = self.held.replace(self.index, changed);
        changes.extend(replaced.changes);
        replaced.again
    }

    /// Reads files whose objects count now that others are gone. What one cannot tell now stays as it was told.
    fn read_again(&mut self, mut again: BTreeSet<Arc<Path>>, scan: &Scan, changes: &mut Vec<Change>) {
        while let Some(file) = again.pop_first() {
            if let Some(known) = self.files.get_mut(&file) {
                (known.stamp, known.digest) = (None, None);
            }
            if let Some(stamp) = scan.files.get(&file) {
                again.extend(self.read(&[(file, *stamp)], changes));
            }
        }
    }

    /// Reads files; gives others that have to be read again.
    fn read(&mut self, batch: &[(Arc<Path>, Stamp)], changes: &mut Vec<Change>) -> BTreeSet<Arc<Path>> {
        let mut texts: Vec<(Arc<Path>, String, String)> = Vec::new();
        for (file, stamp) in batch {
            let read_at = SystemTime::now();
            let known = self.files.entry(file.clone()).or_insert_with(|| Known::new(read_at));
            known.read_at = read_at;
            match load(file, stamp) {
                Ok(bytes) => {
                    let holds = self.held.holds(file);
                    if let Some(text) = known.take(*stamp, bytes, holds, file) {
                        texts.push((file.clone(), file.display().to_string(), text));
                    }
                }
                Err(error) => {
                    // Tried again each time: permission may come back without a trace in the file's own stamp.
                    (known.stamp, known.digest) = (None, None);
                    known.fail(unreadable(file, &error), true);
                }
            }
        }
        let files: Vec<(&str, &str)> = texts.iter().map(|(_, place, text)| (&**place, &**text)).collect();
        let results = yaml::read(&files);
        let mut changed = BTreeMap::new();
        for ((file, _, text), result) in texts.iter().zip(results) {
            let Some(known) = self.files.get_mut(file) else { continue };
            match result {
                Ok(found) => {
                    let (contents, faults) = contents(file, found, &self.held);
                    (known.faults, known.parsed, known.blocks) = (faults, true, false);
                    changed.insert(file.clone(), Some(contents));
                }
                Err(fault) => {
                    known.fail(fault, policy::may_hold_policy(text.as_bytes()));
                }
            }
        }
        drop(texts);
        self.replace(changed, changes)
    }

    /// Faults of files and directories, as far as they differ from what was last told.
    fn report(&mut self, scan: &Scan) -> Vec<Change> {
        let mut now: BTreeMap<String, Vec<Fault>> = BTreeMap::new();
        let closed = |fault: &Fault, blocks: bool| {
            let mut fault = fault.clone();
            if blocks && !self.synced {
                fault.text.push_str("; mesh names stay closed until it parses");
            }
            fault
        };
        for (place, fault) in &scan.unseen {
            now.entry(place.display().to_string()).or_default().push(closed(fault, true));
        }
        for (file, known) in self.files.iter().filter(|(_, known)| !known.faults.is_empty()) {
            let faults = known.faults.iter().map(|fault| closed(fault, known.blocks));
            now.entry(file.display().to_string()).or_default().extend(faults);
        }
        for (file, fault) in self.held.doubles() {
            now.entry(file.display().to_string()).or_default().push(fault);
        }
        let cluster = self.index;
        let mut changes = Vec::new();
        for place in self.reported.keys().filter(|place| !now.contains_key(*place)) {
            changes.push(Change::Source { cluster, place: place.clone(), faults: Vec::new() });
        }
        for (place, faults) in now.iter().filter(|(place, faults)| self.reported.get(*place) != Some(faults)) {
            changes.push(Change::Source { cluster, place: place.clone(), faults: faults.clone() });
        }
        self.reported = now;
        changes
    }
}

impl Known {
    fn new(read_at: SystemTime) -> Self {
        Self { stamp: None, read_at, digest: None, emptied: None, faults: Vec::new(), parsed: false, blocks: false }
    }

    /// Notes what was read; gives the text if it has to be parsed.
    fn take(&mut self, stamp: Stamp, bytes: Vec<u8>, holds: bool, file: &Path) -> Option<String> {
        // A writer empties a file before it fills it; only what stays empty is meant so.
        if bytes.is_empty() && holds && self.emptied != Some(stamp) {
            (self.stamp, self.emptied) = (None, Some(stamp));
            return None;
        }
        self.emptied = None;
        let digest = foldhash::fast::FixedState::default().hash_one(&bytes);
        if self.stamp.is_some() && self.digest == Some(digest) {
            self.stamp = Some(stamp);
            return None;
        }
        (self.stamp, self.digest) = (Some(stamp), Some(digest));
        match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let line = error.as_bytes()[..at].iter().filter(|c| **c == b'\n').count() + 1;
                let policy = policy::may_hold_policy(error.as_bytes());
                let fault = Fault {
                    text: format!("{}:{line}: it is not UTF-8 text; what it held before stays", file.display()),
                    remedy: "save it as UTF-8, or move it out of the directory".to_owned(),
                };
                self.fail(fault, policy);
                None
            }
        }
    }

    fn fail(&mut self, fault: Fault, policy: bool) {
        self.faults = vec![fault];
        self.blocks = policy && !self.parsed;
    }
}

fn load(file: &Path, stamp: &Stamp) -> io::Result<Vec<u8>> {
    if stamp.size > MAX_FILE {
        return Err(io::Error::other(format!("it has {} octets, and at most {MAX_FILE} are read", stamp.size)));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stamp.size).unwrap_or_default() + 1);
    File::open(file)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(file: &Path, error: &io::Error) -> Fault {
    Fault {
        text: format!("{}: the file cannot be read: {error}; what it held before stays", file.display()),
        remedy: "let segdns's user read it, or move it out of the directory".to_owned(),
    }
}

/// What a file holds now, and the faults that are the file's rather than an object's.
fn contents(file: &Path, found: Vec<Found>, held: &Held) -> (Contents, Vec<Fault>) {
    let mut contents = Contents::with_capacity_and_hasher(found.len(), RandomState::default());
    let mut faults = Vec::new();
    for Found { line, content, faults: own } in found {
        let (key, entry) = match content {
            Content::Object(object) => (object.key(), Entry { object: Some((object, own)), line }),
            Content::Broken(key) => {
                faults.extend(own);
                let Some(key) = key.filter(|key| held.has(file, key)) else { continue };
                (key, Entry { object: None, line })
            }
        };
        if let Some(first) = contents.get(&key) {
            let text = format!(
                "{}:{}: {} stands in this file twice; the one in line {line} is used",
                file.display(),
                first.line,
                held::title(&key)
            );
            faults.push(Fault { text, remedy: "remove one of the two".to_owned() });
        }
        contents.insert(key, entry);
    }
    (contents, faults)
}

#[cfg(test)]
mod tests;
