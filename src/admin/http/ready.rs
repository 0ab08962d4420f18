//! `/readyz`: whether names are answered, what they still wait for, and what an operator should know all the same.
//!
//! A server that is ready stays so whatever happens to its sources: its last table is better than none.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;

use super::{Admin, Shared, aside};
use crate::admin::sources;
use crate::mesh::object::{Kind, LOCAL};
use crate::watch::board::{Board, Source, State as SourceState};

/// The first state of the largest clusters takes seconds.
const SLOW: Duration = Duration::from_secs(60);

fn slow_note(busy: Duration) -> String {
    format!("slow: a change of objects has been worked on for {} s; the table from before is served", busy.as_secs())
}

/// 200 and notes, or 503 and what is pending.
pub async fn ready(State(admin): Shared) -> (StatusCode, String) {
    if admin.draining.load(Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".into());
    }
    if admin.stalled.load(Relaxed) {
        let why = "objects are no longer read because of a defect, see the log; restart segdns\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why.into());
    }
    let (status, lines) = if admin.keeper.snapshot().load().synced {
        let slow = admin.keeper.busy().filter(|busy| *busy > SLOW).map(slow_note);
        let placed = admin.placement.note(&admin.keeper);
        (StatusCode::OK, notes(&admin).into_iter().chain(slow).chain(placed).collect())
    } else {
        let (clusters, faults) = aside(Arc::clone(&admin), |admin| missing(&admin)).await.unwrap_or_default();
        (StatusCode::SERVICE_UNAVAILABLE, pending(&clusters, &faults, &admin.board.states()))
    };
    (status, format!("{}\n", lines.join("\n")))
}

/// Clusters whose first complete state is not in, and what is wrong with the files of the local one. Waits while objects are
/// being applied.
fn missing(admin: &Admin) -> (String, Vec<(String, String)>) {
    admin.keeper.look(|world, _| {
        let local = &world.settings().clusters[LOCAL];
        let reports = world.reports().into_iter();
        let faults = reports.filter(|r| r.object.kind == Kind::Source && r.object.cluster == *local);
        (world.pending_clusters().join(", "), faults.map(|r| (r.text, r.remedy)).collect())
    })
}

fn notes(admin: &Admin) -> Vec<String> {
    let mut lines = notes_of(&admin.config().clusters()[LOCAL], &admin.board);
    lines.extend(admin.reloads.notes());
    lines
}

/// What is awaited: whole clusters, then the sources that keep them waiting.
fn pending(clusters: &str, faults: &[(String, String)], states: &[(Source, SourceState)]) -> Vec<String> {
    let mut lines = vec![format!("pending: first complete state of {clusters}")];
    lines.extend(faults.iter().map(|(text, remedy)| format!("pending: {text}; {remedy}")));
    lines.extend(awaited(states));
    lines.extend(sources::notes(states));
    lines
}

fn awaited(states: &[(Source, SourceState)]) -> impl Iterator<Item = String> {
    sources::pending(states).into_iter().map(|line| format!("pending: {line}"))
}

fn notes_of(local: &str, board: &Board) -> Vec<String> {
    let states = board.states();
    let mut lines = vec!["ok".to_owned()];
    // Rounded down, because nobody asks for nanoseconds.
    let written = board.saved().and_then(|written| Timestamp::try_from(written).ok());
    if let Some(written) = written.and_then(|written| Timestamp::from_second(written.as_second()).ok()) {
        let troubles = states.iter().filter(|(source, state)| *source.cluster == *local && !state.synced);
        let trouble = troubles.filter_map(|(_, state)| state.trouble.as_ref()).find(|trouble| !trouble.is_missing());
        let why = trouble.map_or("its first complete state is not in yet", |trouble| &trouble.text);
        lines.push(format!("saved state of {written} is served; {local}'s API server: {why}"));
    }
    lines.extend(awaited(&states));
    lines.extend(sources::notes(&states));
    lines
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::watch::board::{Cause, Trouble};

    fn source(cluster: &str, kind: &str) -> Source {
        Source { cluster: cluster.into(), kind: kind.into() }
    }

    fn trouble(text: &str, remedy: &str, missing: bool) -> Trouble {
        let cause = if missing { Cause::Missing } else { Cause::Other };
        Trouble { text: text.into(), remedy: remedy.into(), cause }
    }

    fn board() -> Board {
        let board = Board::default();
        for kind in ["pods", "segments", "services"] {
            board.expect(&source("cluster1", kind));
        }
        board
    }

    #[test]
    fn what_is_awaited_is_named_with_what_keeps_it_and_the_remedy() {
        let board = board();
        board.complete(&source("cluster1", "pods"));
        let lines = || pending("cluster1", &[], &board.states());
        let first = "pending: first complete state of cluster1";
        assert_eq!(lines(), [first, "pending: cluster1 segments, services: no complete list yet"]);
        board.failed(&source("cluster1", "services"), trouble("forbidden: no", "apply deploy/rbac.yaml", false));
        board.failed(&source("cluster1", "segments"), trouble("there is no such resource", "install it", true));
        assert_eq!(
            lines(),
            [
                first,
                "pending: cluster1 services: forbidden: no; apply deploy/rbac.yaml",
                "missing: cluster1 segments: there is no such resource; install it"
            ]
        );
    }

    #[test]
    fn a_change_that_takes_too_long_is_named_with_its_time() {
        let want = "slow: a change of objects has been worked on for 75 s; the table from before is served";
        assert_eq!(slow_note(Duration::from_millis(75_900)), want);
    }

    #[test]
    fn files_are_told_by_their_faults() {
        let board = Board::default();
        board.expect(&source("cluster1", "manifests"));
        let lines = pending("cluster1", &[("a.yaml:3: bad".into(), "mend it".into())], &board.states());
        assert_eq!(lines, ["pending: first complete state of cluster1", "pending: a.yaml:3: bad; mend it"]);
    }

    #[test]
    fn a_ready_server_says_ok_first_and_then_what_is_to_be_known() {
        let board = board();
        let (services, peer) = (source("cluster1", "services"), source("cluster2", "pods"));
        for kind in ["pods", "segments", "services"] {
            board.complete(&source("cluster1", kind));
        }
        assert_eq!(notes_of("cluster1", &board), ["ok"]);
        board.expect(&peer);
        board.failed(&services, trouble("connection refused", "start it", false));
        board.failed(&peer, trouble("unauthorized", "renew its Secret", false));
        let want = [
            "ok",
            "pending: cluster2 pods: unauthorized; renew its Secret",
            "trouble: cluster1 services: connection refused; start it",
        ];
        assert_eq!(notes_of("cluster1", &board), want);
    }

    #[test]
    fn a_saved_state_is_named_with_its_time_and_the_reason() {
        let board = Board::default();
        let services = source("cluster1", "services");
        board.expect(&services);
        board.serve_saved(Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_244_400_900)));
        let line = |why: &str| format!("saved state of 2026-11-21T07:00:00Z is served; cluster1's API server: {why}");
        assert_eq!(notes_of("cluster1", &board)[1], line("its first complete state is not in yet"));
        board.failed(&services, trouble("connection refused", "start it", false));
        let pending = "pending: cluster1 services: connection refused; start it".to_owned();
        assert_eq!(notes_of("cluster1", &board), ["ok".to_owned(), line("connection refused"), pending]);
        board.serve_saved(None);
        board.complete(&services);
        assert_eq!(notes_of("cluster1", &board), ["ok"]);
    }
}
