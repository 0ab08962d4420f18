//! What each file of one cluster holds, which of them counts, and what a change to some of them changes.
//!
//! Of each object only a hash is kept. Where a version counts again because one that hid it is gone, its file is read again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher as _;
use std::path::Path;
use std::sync::Arc;

use foldhash::quality::RandomState;

use crate::mesh::object::{Change, ClusterIx, Fault, Key, Kind, Object};
use crate::mesh::pack::records::Records;
use crate::mesh::pack::{Room, part_len, put_number, put_part, split_number, split_part, text};

/// One object as a file has it.
#[derive(Debug)]
pub struct Entry {
    /// The object and what in it could not be used; `None` if the version that the file had before stays.
    pub object: Option<(Object, Vec<Fault>)>,
    /// The line it starts in, from 1.
    pub line: u64,
}

/// The objects of one file.
pub type Contents = HashMap<Key, Entry, RandomState>;

/// The hashes of the versions that counted.
type Counted = HashMap<Key, u64, RandomState>;
/// A file's place in [`Held::paths`].
type FileIx = u32;

/// The hash of a version that counts, and that was not told: its file has to be read again.
const UNTOLD: u64 = 0;

/// After so many changes at once it is not likely that as many come again.
const MANY: usize = 1_000;

/// A file's version of an object.
#[derive(Clone, Copy, Debug)]
struct Version {
    file: FileIx,
    line: u32,
    /// Of the object and its faults.
    hash: u64,
}

/// All objects of one cluster.
#[derive(Debug, Default)]
pub struct Held {
    hasher: RandomState,
    /// Files that hold, or held, an object.
    files: BTreeMap<Arc<Path>, FileIx>,
    paths: Vec<Arc<Path>>,
    /// How many objects each of `paths` holds.
    counts: Vec<usize>,
    /// Which files have an object: its packed key as a part, and [`versions`].
    owners: Records,
    /// Room to pack one of them in.
    room: Room,
    /// Objects that more than one file has.
    doubles: BTreeSet<Key>,
}

/// What a replacement changes.
#[derive(Debug, Default)]
pub struct Replaced {
    /// In any order.
    pub changes: Vec<Change>,
    /// Files whose versions count now and are not at hand. Those that are not read again stay as they were told.
    pub again: BTreeSet<Arc<Path>>,
}

impl Held {
    /// Whether a file holds anything.
    pub fn holds(&self, file: &Path) -> bool {
        self.files.get(file).is_some_and(|ix| self.counts[*ix as usize] > 0)
    }

    /// Whether a file holds a version of an object.
    pub fn has(&self, file: &Path, key: &Key) -> bool {
        let Some(ix) = self.files.get(file) else { return false };
        self.versions(key).any(|version| version.file == *ix)
    }

    /// Replaces what files hold (`None`: the file is gone), and says what that changes.
    pub fn replace(&mut self, cluster: ClusterIx, mut changed: BTreeMap<Arc<Path>, Option<Contents>>) -> Replaced {
        let (mut before, own) = self.take_out(&changed);
        for key in changed.values().flatten().flat_map(HashMap::keys) {
            // Those that only other files have had.
            if let Some(version) = self.counting(key).filter(|_| !before.contains_key(key)) {
                before.insert(key.clone(), version.hash);
            }
        }
        for (file, contents) in &changed {
            let Some(contents) = contents else { continue };
            let ix = self.index(file);
            for (key, entry) in contents {
                let hash = match &entry.object {
                    // Never that of a version that was not told.
                    Some((object, faults)) => self.hasher.hash_one((object, faults)).max(UNTOLD + 1),
                    None => own.get(&(ix, key)).copied().unwrap_or(UNTOLD),
                };
                let line = u32::try_from(entry.line).unwrap_or(u32::MAX);
                self.put_in(key, Version { file: ix, line, hash });
            }
        }
        drop(own);
        let mut replaced = Replaced::default();
        for (file, contents) in &mut changed {
            let ix = self.index(file);
            for (key, entry) in contents.iter_mut().flatten() {
                let now = self.counting(key).filter(|now| now.file == ix && before.get(key) != Some(&now.hash));
                if now.is_none() {
                    continue;
                }
                if let Some((object, faults)) = entry.object.take() {
                    replaced.changes.push(Change::Apply { cluster, object, faults });
                } else {
                    replaced.again.insert(Arc::clone(file));
                    self.forget_hash(key);
                }
            }
        }
        self.uncovered(cluster, before, &changed, &mut replaced);
        if replaced.changes.len() >= MANY {
            self.owners.trim();
        }
        replaced
    }

    /// What counted before, and is gone or hidden no more: what has come is told already.
    fn uncovered(
        &mut self,
        cluster: ClusterIx,
        before: Counted,
        changed: &BTreeMap<Arc<Path>, Option<Contents>>,
        replaced: &mut Replaced,
    ) {
        for (key, before) in before {
            let Some(now) = self.counting(&key) else {
                replaced.changes.push(Change::Delete { cluster, key });
                continue;
            };
            let path = &self.paths[now.file as usize];
            let told = changed.get(path).and_then(|contents| contents.as_ref()?.get(&key)).is_some();
            if before != now.hash && !told {
                replaced.again.insert(Arc::clone(path));
                self.forget_hash(&key);
            }
        }
    }

    /// Takes out what these files hold. Gives, for each object in them, the hash of the version that counted, and the hashes
    /// of their own versions.
    fn take_out<'c>(
        &mut self,
        changed: &'c BTreeMap<Arc<Path>, Option<Contents>>,
    ) -> (Counted, HashMap<(FileIx, &'c Key), u64>) {
        let (mut before, mut own) = (Counted::default(), HashMap::new());
        let gone: HashMap<FileIx, Option<&Contents>> = changed
            .iter()
            .filter(|(file, _)| self.holds(file))
            .map(|(file, contents)| (self.files[file], contents.as_ref()))
            .collect();
        if gone.is_empty() {
            return (before, own);
        }
        let is_gone = |version: &Version| gone.contains_key(&version.file);
        let theirs = self.owners.iter().filter(|owners| versions(owners).any(|version| is_gone(&version)));
        let theirs: Vec<(Key, Vec<Version>)> =
            theirs.filter_map(|owners| Some((key_of(owners)?, versions(owners).collect()))).collect();
        for (key, mut left) in theirs {
            before.extend(left.last().map(|version| (key.clone(), version.hash)));
            for version in left.extract_if(.., |version| is_gone(version)) {
                let contents = gone.get(&version.file).copied().flatten();
                if let Some((key, _)) = contents.and_then(|contents| contents.get_key_value(&key)) {
                    own.insert((version.file, key), version.hash);
                }
            }
            if left.len() < 2 {
                self.doubles.remove(&key);
            }
            self.put(&key, &left);
        }
        for ix in gone.keys() {
            self.counts[*ix as usize] = 0;
        }
        (before, own)
    }

    fn put_in(&mut self, key: &Key, version: Version) {
        self.counts[version.file as usize] += 1;
        let mut all: Vec<Version> = self.versions(key).collect();
        let path = |version: &Version| &self.paths[version.file as usize];
        all.insert(all.partition_point(|old| path(old) < path(&version)), version);
        if all.len() > 1 {
            self.doubles.insert(key.clone());
        }
        self.put(key, &all);
    }

    /// Notes who has an object from now on.
    fn put(&mut self, key: &Key, all: &[Version]) {
        let packed = pack(key);
        if all.is_empty() {
            self.owners.remove(&packed);
            return;
        }
        let owners = self.room.empty();
        put_part(owners, &packed);
        for version in all {
            owners.extend_from_slice(&version.hash.to_le_bytes());
            put_number(owners, version.file.into());
            put_number(owners, version.line.into());
        }
        self.owners.put(owners);
    }

    fn index(&mut self, file: &Arc<Path>) -> FileIx {
        if let Some(ix) = self.files.get(file) {
            return *ix;
        }
        let ix = FileIx::try_from(self.paths.len()).expect("fewer files than addresses of IPv4");
        self.files.insert(Arc::clone(file), ix);
        self.paths.push(Arc::clone(file));
        self.counts.push(0);
        ix
    }

    /// Who has an object, in the order of their paths; the last one counts.
    fn versions(&self, key: &Key) -> impl Iterator<Item = Version> {
        // A first state asks for each of its objects, and has none yet.
        let owners = if self.owners.is_empty() { None } else { self.owners.get(&pack(key)) };
        owners.into_iter().flat_map(versions)
    }

    fn counting(&self, key: &Key) -> Option<Version> {
        self.versions(key).last()
    }

    fn forget_hash(&mut self, key: &Key) {
        let mut all: Vec<Version> = self.versions(key).collect();
        all.iter_mut().last().into_iter().for_each(|last| last.hash = UNTOLD);
        self.put(key, &all);
    }

    /// A fault for every object that more than one file has, with the file whose version does not count.
    pub fn doubles(&self) -> Vec<(Arc<Path>, Fault)> {
        let mut faults = Vec::new();
        for key in &self.doubles {
            let all: Vec<Version> = self.versions(key).collect();
            let Some((winner, losers)) = all.split_last() else { continue };
            let path = |version: &Version| &self.paths[version.file as usize];
            for loser in losers {
                let text = format!(
                    "{}:{}: {} is also in {}:{}, which sorts last and is used",
                    path(loser).display(),
                    loser.line,
                    title(key),
                    path(winner).display(),
                    winner.line
                );
                faults.push((Arc::clone(path(loser)), Fault { text, remedy: "remove one of the two".to_owned() }));
            }
        }
        faults
    }
}

/// A key, packed: `kind u8 | part (namespace) | name`.
fn pack(key: &Key) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + part_len(key.namespace.len()) + key.name.len());
    bytes.push(key.kind as u8);
    put_part(&mut bytes, key.namespace.as_bytes());
    bytes.extend_from_slice(key.name.as_bytes());
    bytes
}

/// The key of what [`Held::put`] has noted.
fn key_of(owners: &[u8]) -> Option<Key> {
    let (kind, rest) = split_part(owners).0.split_first()?;
    let (namespace, name) = split_part(rest);
    let kind = Kind::ALL.into_iter().find(|of| *of as u8 == *kind)?;
    Some(Key { kind, namespace: text(namespace).into(), name: text(name).into() })
}

/// The versions that [`Held::put`] has noted.
fn versions(owners: &[u8]) -> impl Iterator<Item = Version> {
    let mut rest = split_part(owners).1;
    std::iter::from_fn(move || {
        let (hash, after) = rest.split_first_chunk()?;
        let (file, after) = split_number(after);
        let (line, after) = split_number(after);
        rest = after;
        let fits = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Some(Version { file: fits(file), line: fits(line), hash: u64::from_le_bytes(*hash) })
    })
}

/// An object as an operator names it.
pub fn title(key: &Key) -> String {
    if key.namespace.is_empty() {
        format!("{} {}", key.kind, key.name)
    } else {
        format!("{} {}/{}", key.kind, key.namespace, key.name)
    }
}
