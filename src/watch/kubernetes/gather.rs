//! One cluster's objects as its followers tell them: what differs from what was told before becomes [`Change`]s.
//!
//! Of each object only a hash is kept, so that a new list costs nothing where nothing changed. EndpointSlices of Services
//! that are not published decide nothing (R6): they stay here, packed, until their Service is.

mod slices;

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use foldhash::quality::RandomState;
use tokio::sync::{mpsc, watch};

use super::Update;
use super::follow::Sink;
use crate::mesh::object::{Change, ClusterIx, Fault, Key, Kind, Object, Service};
use crate::watch::decode::{Decoded, Problem};
use slices::{Published, Slice};

/// Where updates go.
pub type Out = mpsc::UnboundedSender<Update>;

/// One cluster. Clones share it.
#[derive(Clone, Debug)]
pub struct Gather {
    state: Arc<Mutex<State>>,
    complete: watch::Receiver<bool>,
}

/// What a follower of one kind tells.
#[derive(Clone, Debug)]
pub struct KindSink {
    state: Arc<Mutex<State>>,
    kind: Kind,
}

#[derive(Debug)]
struct State {
    cluster: ClusterIx,
    out: Out,
    phase: Phase,
    kinds: HashMap<Kind, Kept>,
    published: Published,
    hasher: RandomState,
    complete: watch::Sender<bool>,
}

#[derive(Debug)]
enum Phase {
    /// The first complete state is being read. It is given at once, so that a table is built once, and so that a saved
    /// state is replaced as a whole.
    First {
        changes: Vec<Change>,
        /// Kinds whose first list is not complete.
        pending: BTreeSet<Kind>,
        /// [`Gather::release`] has to come, too.
        held: bool,
        /// The changes start from a saved state.
        saved: bool,
    },
    /// Changes are given as they come.
    Following,
    /// Nobody wants to know any more.
    Closed,
}

/// What is known of one kind.
#[derive(Debug, Default)]
struct Kept {
    /// By namespace and name.
    objects: HashMap<Box<str>, HashMap<Box<str>, Known>>,
    /// Counts the lists.
    list: u32,
    /// What is new in the list that is being told, while one is.
    news: Option<Vec<Change>>,
}

/// What is known of one object.
#[derive(Debug)]
struct Known {
    /// Of the object and its faults.
    hash: u64,
    /// The list that told it last.
    list: u32,
    /// Its last version could not be read; the one before is kept.
    broken: bool,
    /// Of an EndpointSlice.
    slice: Option<Slice>,
}

impl Gather {
    /// A cluster of which nothing is known. `held`: its first complete state waits for [`Gather::release`].
    #[must_use]
    pub fn new(cluster: ClusterIx, kinds: &[Kind], held: bool, out: Out) -> Self {
        let (sender, complete) = watch::channel(false);
        let pending = kinds.iter().copied().collect();
        let state = State {
            cluster,
            out,
            phase: Phase::First { changes: Vec::new(), pending, held, saved: false },
            kinds: kinds.iter().map(|kind| (*kind, Kept::default())).collect(),
            published: Published::default(),
            hasher: RandomState::default(),
            complete: sender,
        };
        Self { state: Arc::new(Mutex::new(state)), complete }
    }

    /// Starts from a saved state, which has been told already.
    pub fn seed(&self, objects: &[Object]) {
        let mut state = lock(&self.state);
        for object in objects {
            state.seed(object);
        }
        if let Phase::First { saved, .. } = &mut state.phase {
            *saved = true;
        }
    }

    /// Where the follower of `kind` tells it.
    #[must_use]
    pub fn sink(&self, kind: Kind) -> KindSink {
        KindSink { state: Arc::clone(&self.state), kind }
    }

    /// Returns once the first complete state has been read.
    pub async fn completed(&self) {
        // The sender lives in the state that this handle shares.
        drop(self.complete.clone().wait_for(|complete| *complete).await);
    }

    /// The first complete state need not wait any more.
    pub fn release(&self) {
        let mut state = lock(&self.state);
        if let Phase::First { held, .. } = &mut state.phase {
            *held = false;
        }
        state.try_release();
    }

    /// Nothing is told after this, and nothing is waited for.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        state.phase = Phase::Closed;
        state.complete.send_replace(true);
    }
}

impl Sink<Decoded> for KindSink {
    fn begin(&mut self) {
        let mut state = lock(&self.state);
        let kept = state.kept(self.kind);
        kept.list += 1;
        // What a list told before it broke off is not taken back: it was true then, and the next list corrects it.
        kept.news.get_or_insert_default();
    }

    fn seen(&mut self, object: Decoded) {
        let mut state = lock(&self.state);
        let changes = state.take(object);
        state.emit(self.kind, changes, None);
    }

    fn complete(&mut self) {
        lock(&self.state).complete(self.kind);
    }

    fn applied(&mut self, object: Decoded) {
        let received = Instant::now();
        let mut state = lock(&self.state);
        let changes = state.take(object);
        state.emit(self.kind, changes, Some(received));
    }

    fn deleted(&mut self, namespace: &str, name: &str) {
        let received = Instant::now();
        let mut state = lock(&self.state);
        let key = Key { kind: self.kind, namespace: namespace.into(), name: name.into() };
        let changes = state.forget(key);
        state.emit(self.kind, changes, Some(received));
    }

    fn absent(&mut self) {
        self.begin();
        self.complete();
    }

    fn knows(&self) -> bool {
        lock(&self.state).kinds.get(&self.kind).is_some_and(|kept| !kept.objects.is_empty())
    }
}

impl State {
    fn kept(&mut self, kind: Kind) -> &mut Kept {
        self.kinds.entry(kind).or_default()
    }

    fn seed(&mut self, object: &Object) {
        let key = object.key();
        let slice = matches!(object, Object::EndpointSlice(_)).then_some(Slice::Told);
        self.published.note(object);
        let hash = self.hasher.hash_one((object, NO_FAULTS));
        let known = Known { hash, list: 0, broken: false, slice };
        self.kept(key.kind).objects.entry(key.namespace).or_default().insert(key.name, known);
    }

    /// What an object, as it is now, changes.
    fn take(&mut self, decoded: Decoded) -> Vec<Change> {
        match decoded {
            Decoded::Object(object, problems) => self.take_object(object, &problems),
            Decoded::Broken(Some(key), problems) => self.take_broken(key, &problems),
            // An API server gives no object without a name, and none of another kind than was asked for.
            Decoded::Broken(None, _) | Decoded::Other => Vec::new(),
        }
    }

    fn take_object(&mut self, object: Object, problems: &[Problem]) -> Vec<Change> {
        let key = object.key();
        let place = place_of(&key);
        let faults: Vec<Fault> = problems.iter().map(|problem| problem.fault(&place)).collect();
        let hash = self.hasher.hash_one((&object, &*faults));
        let list = self.kept(key.kind).list;
        let known = self.known(&key);
        let was_broken = known.as_ref().is_some_and(|known| known.broken);
        if let Some(known) = known {
            known.list = list;
            known.broken = false;
            if known.hash == hash && !was_broken {
                return Vec::new();
            }
            known.hash = hash;
        } else {
            let known = Known { hash, list, broken: false, slice: None };
            let kept = self.kept(key.kind);
            kept.objects.entry(key.namespace.clone()).or_default().insert(key.name.clone(), known);
        }
        let cluster = self.cluster;
        let mended = was_broken.then_some(Change::Source { cluster, place, faults: Vec::new() });
        mended.into_iter().chain(self.changes_of(&key, object, faults)).collect()
    }

    fn changes_of(&mut self, key: &Key, object: Object, faults: Vec<Fault>) -> Vec<Change> {
        if let Object::EndpointSlice(slice) = object {
            return self.take_slice(key, slice, faults);
        }
        let flipped = self.published.note(&object);
        let mut changes = vec![Change::Apply { cluster: self.cluster, object, faults }];
        // Those of a list wait for its end: what is put aside with it would be old by then.
        if flipped && self.is_following() && self.kept(key.kind).news.is_none() {
            changes.extend(self.unpack_slices(Some(key)));
        }
        changes
    }

    /// An object that cannot be used: the version before stays.
    fn take_broken(&mut self, key: Key, problems: &[Problem]) -> Vec<Change> {
        let place = place_of(&key);
        let faults = problems.iter().map(|problem| problem.fault(&place)).collect();
        let (cluster, kind) = (self.cluster, key.kind);
        let kept = self.kept(kind);
        let list = kept.list;
        let of_namespace = kept.objects.entry(key.namespace.clone()).or_default();
        // A Service that was never read is there all the same: its names must not count as those of none.
        let unread = (kind == Kind::Service && !of_namespace.contains_key(&key.name)).then(|| Service::unread(&key));
        let known = of_namespace.entry(key.name);
        let known = known.or_insert(Known { hash: 0, list, broken: true, slice: None });
        (known.list, known.broken) = (list, true);
        let apply = |service| Change::Apply { cluster, object: Object::Service(service), faults: Vec::new() };
        unread.map(apply).into_iter().chain([Change::Source { cluster, place, faults }]).collect()
    }

    /// What it changes that an object is gone.
    fn forget(&mut self, key: Key) -> Vec<Change> {
        let Some(of_namespace) = self.kept(key.kind).objects.get_mut(&key.namespace) else { return Vec::new() };
        let Some(known) = of_namespace.remove(&key.name) else { return Vec::new() };
        if of_namespace.is_empty() {
            self.kept(key.kind).objects.remove(&key.namespace);
        }
        let cluster = self.cluster;
        let mut changes = Vec::new();
        if known.broken {
            changes.push(Change::Source { cluster, place: place_of(&key), faults: Vec::new() });
        }
        if matches!(known.slice, Some(Slice::Packed(_))) {
            return changes;
        }
        let flipped = self.published.forget(&key);
        changes.push(Change::Delete { cluster, key: key.clone() });
        if flipped && self.is_following() && self.kept(key.kind).news.is_none() {
            changes.extend(self.unpack_slices(Some(&key)));
        }
        changes
    }

    /// A list is complete: what it did not tell is gone.
    fn complete(&mut self, kind: Kind) {
        let kept = self.kept(kind);
        let mut changes = kept.news.take().unwrap_or_default();
        let list = kept.list;
        let mut gone = Vec::new();
        for (namespace, objects) in &kept.objects {
            let old = objects.iter().filter(|(_, known)| known.list != list);
            gone.extend(old.map(|(name, _)| Key { kind, namespace: namespace.clone(), name: name.clone() }));
        }
        changes.extend(gone.into_iter().flat_map(|key| self.forget(key)));
        if self.is_following() && matches!(kind, Kind::Namespace | Kind::Service) {
            changes.extend(self.unpack_slices(None));
        }
        self.emit(kind, changes, None);
        if let Phase::First { pending, .. } = &mut self.phase {
            pending.remove(&kind);
        }
        self.try_release();
    }

    fn emit(&mut self, kind: Kind, changes: Vec<Change>, received: Option<Instant>) {
        // Before its end a list is not the state of any moment.
        if let Some(news) = &mut self.kept(kind).news {
            news.extend(changes);
            return;
        }
        match &mut self.phase {
            // Mesh zones are to be known as soon as they can be (R22); a saved state has told them already.
            Phase::First { changes: all, saved, .. } if kind != Kind::Segment || *saved => all.extend(changes),
            Phase::First { .. } | Phase::Following => self.send(changes, received),
            Phase::Closed => {}
        }
    }

    fn try_release(&mut self) {
        let Phase::First { changes, pending, held, .. } = &mut self.phase else { return };
        if !pending.is_empty() {
            return;
        }
        self.complete.send_replace(true);
        if *held {
            return;
        }
        let mut changes = std::mem::take(changes);
        self.phase = Phase::Following;
        changes.extend(self.unpack_slices(None));
        changes.push(Change::Synced { cluster: self.cluster });
        self.send(changes, None);
    }

    fn send(&self, changes: Vec<Change>, received: Option<Instant>) {
        if !changes.is_empty() {
            // Whoever took updates is gone: so is the process, soon.
            drop(self.out.send(Update { changes, received }));
        }
    }

    fn is_following(&self) -> bool {
        matches!(self.phase, Phase::Following)
    }

    fn known(&mut self, key: &Key) -> Option<&mut Known> {
        self.kept(key.kind).objects.get_mut(&key.namespace)?.get_mut(&key.name)
    }
}

/// What a saved object counts as: its faults are not saved.
const NO_FAULTS: &[Fault] = &[];

/// As `kubectl` names it: `Service shop/cart`, `Namespace shop`.
fn place_of(key: &Key) -> String {
    if key.namespace.is_empty() {
        format!("{} {}", key.kind, key.name)
    } else {
        format!("{} {}/{}", key.kind, key.namespace, key.name)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
