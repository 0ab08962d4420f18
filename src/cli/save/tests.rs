//! The saver through its own interface, with a keeper and a board in this process.

mod cost;

use std::fs;
use std::path::Path;
use std::time::Instant;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::mesh::object::{Change, LOCAL, Namespace, Object};
use crate::mesh::settings::Settings;
use crate::watch::board::State;
use crate::watch::saved::{NAME, Saved, read};

/// Quick enough for a test; what does not happen within [`QUIET`] does not happen.
const QUICK: Pace = Pace { gather: Duration::from_millis(20), share: 1 };
const QUIET: Duration = Duration::from_millis(300);
/// Does not save twice within a test.
const SLOW: Pace = Pace { gather: Duration::from_secs(3600), share: 1 };

struct Rig {
    keeper: Arc<Keeper>,
    board: Arc<Board>,
    dir: TempDir,
    saver: Option<Saver>,
}

fn identity() -> Identity {
    Identity { cluster: "cluster1".into(), node: None }
}

fn namespace(name: &str) -> Change {
    let object = Object::Namespace(Namespace { name: name.into(), ..Namespace::default() });
    Change::Apply { cluster: LOCAL, object, faults: Vec::new() }
}

fn synced(cluster: usize) -> Change {
    Change::Synced { cluster }
}

impl Rig {
    /// With a peer that is not complete.
    fn new() -> Self {
        let settings = Settings { clusters: vec!["cluster1".into(), "peer".into()], ..Settings::default() };
        let (keeper, board) = (Arc::new(Keeper::new(settings)), Arc::default());
        Self { keeper, board, dir: tempdir().unwrap(), saver: None }
    }

    fn started(pace: Pace) -> Self {
        let mut rig = Self::new();
        rig.start(pace);
        rig
    }

    fn start(&mut self, pace: Pace) {
        let (keeper, board) = (Arc::clone(&self.keeper), Arc::clone(&self.board));
        self.saver = Some(Saver::at_pace(self.path().into(), identity(), keeper, board, pace).unwrap());
    }

    fn stop(&mut self) {
        self.saver.take().unwrap().stop();
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn saved(&self) -> Option<Saved> {
        read(self.path(), &identity()).unwrap()
    }

    /// Names of the clusters, and how many objects the local one has.
    fn contents(&self) -> Option<(Vec<String>, usize)> {
        let saved = self.saved()?;
        Some((saved.clusters.iter().map(|c| c.name.to_string()).collect(), saved.clusters[0].objects.len()))
    }

    fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{what}: {:?}, {:?}", self.contents(), self.state());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn holds(&self, objects: usize) {
        self.until("saved", || self.contents().is_some_and(|(_, have)| have == objects));
    }

    fn state(&self) -> State {
        let mut states = self.board.states();
        assert_eq!(states.len(), 1);
        let (source, state) = states.remove(0);
        assert_eq!((&*source.cluster, &*source.kind), ("cluster1", "snapshot"));
        state
    }
}

#[test]
fn nothing_is_saved_before_the_first_complete_state_and_then_every_change() {
    let rig = Rig::started(QUICK);
    rig.keeper.apply(vec![namespace("a")]);
    thread::sleep(QUIET);
    assert!(rig.saved().is_none() && !rig.state().synced);
    rig.keeper.apply(vec![synced(LOCAL)]);
    rig.holds(1);
    assert_eq!(rig.contents(), Some((vec!["cluster1".into()], 1)));
    rig.until("said", || rig.state().synced);
    rig.keeper.apply(vec![namespace("b"), synced(1)]);
    rig.holds(2);
    assert_eq!(rig.contents(), Some((vec!["cluster1".into(), "peer".into()], 2)));
    rig.saver.unwrap().stop();
}

#[test]
fn the_saved_state_itself_is_not_saved() {
    let mut rig = Rig::new();
    rig.board.serve_saved(Some(SystemTime::UNIX_EPOCH));
    rig.keeper.apply(vec![namespace("a"), synced(LOCAL)]);
    rig.start(QUICK);
    rig.keeper.apply(vec![namespace("b")]);
    thread::sleep(QUIET);
    assert!(rig.saved().is_none());
    rig.board.serve_saved(None);
    rig.holds(2);
    rig.stop();
    rig.board.serve_saved(Some(SystemTime::UNIX_EPOCH));
    let mut rig = Rig { dir: tempdir().unwrap(), ..rig };
    rig.start(QUICK);
    rig.stop();
    assert!(rig.saved().is_none());
}

#[test]
fn the_first_state_is_saved_at_once_later_ones_together_and_the_last_at_the_end() {
    let mut rig = Rig::started(SLOW);
    rig.keeper.apply(vec![namespace("a")]);
    rig.keeper.apply(vec![synced(LOCAL)]);
    rig.holds(1);
    rig.keeper.apply(vec![namespace("b")]);
    rig.keeper.apply(vec![namespace("c")]);
    thread::sleep(QUIET);
    assert_eq!(rig.contents().unwrap().1, 1);
    rig.stop();
    assert_eq!(rig.contents().unwrap().1, 3);
}

#[test]
fn the_same_objects_are_not_written_again() {
    let rig = Rig::started(QUICK);
    rig.keeper.apply(vec![namespace("a"), synced(LOCAL)]);
    rig.holds(1);
    let written = rig.saved().unwrap().written;
    rig.keeper.set_node_addresses(vec!["10.0.0.1".parse().unwrap()]);
    thread::sleep(QUIET);
    rig.saver.unwrap().stop();
    assert_eq!(read(rig.dir.path(), &identity()).unwrap().unwrap().written, written);
}

#[test]
fn what_fails_is_on_the_board_and_is_tried_again() {
    let rig = Rig::started(QUICK);
    let blocked = rig.path().join(NAME);
    fs::create_dir_all(blocked.join("full")).unwrap();
    rig.keeper.apply(vec![namespace("a"), synced(LOCAL)]);
    rig.until("failed twice", || rig.state().errors > 1);
    let trouble = rig.state().trouble.unwrap();
    assert!(trouble.text.contains("cannot write it: Is a directory"), "{trouble:?}");
    assert!(!trouble.is_missing() && trouble.remedy.contains("sources.snapshot"), "{trouble:?}");
    fs::remove_dir_all(blocked).unwrap();
    rig.until("saved", || rig.state().trouble.is_none());
    rig.holds(1);
    rig.saver.unwrap().stop();
}

#[test]
fn a_panic_ends_the_saving_only() {
    let rig = Rig::new();
    let (keeper, board) = (Arc::clone(&rig.keeper), Arc::clone(&rig.board));
    let source = Source { cluster: "cluster1".into(), kind: "snapshot".into() };
    board.expect(&source);
    let bell = keeper.snapshot().bell();
    let dir = rig.path().into();
    let mut work = Work {
        dir,
        identity: identity(),
        keeper,
        board,
        source,
        pace: QUICK,
        bell,
        changed: true,
        due: tokio::time::Instant::now(),
        // A capacity that no allocator gives panics.
        last: Some(Written { sha256: String::new(), bytes: usize::MAX / 2 }),
    };
    rig.keeper.apply(vec![namespace("a"), synced(LOCAL)]);
    assert!(!work.turn());
    let trouble = rig.state().trouble.unwrap();
    assert!(trouble.text.contains("because of a panic: capacity overflow"), "{trouble:?}");
    rig.keeper.apply(vec![namespace("b")]);
    assert_eq!(rig.keeper.look(|world, _| world.cluster(LOCAL).objects().count()), 2);
}
