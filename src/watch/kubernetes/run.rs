//! Puts the parts together: the local cluster, the saved state, the peers, and what waits for what.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::connect::Connection;
use super::follow::{Secret, Sink, Timing, Watched, follow};
use super::gather::{Gather, Out};
use super::peers::{Context, Peers, SecretSink};
use super::resource::{self, Content, Resource, SECRETS};
use super::{Options, Update};
use crate::mesh::object::{Change, ClusterIx, Kind, LOCAL};
use crate::watch::board::{Board, Cause, Source, Trouble};
use crate::watch::decode::Decoded;
use crate::watch::saved::{Saved, SavedCluster};

/// How long the API server has for the first complete state before a saved one counts.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether it is away.
const LOOK: Duration = Duration::from_millis(20);
/// How long something has to be forbidden until that is believed: right after its start an API server forbids everything.
const DENIED: Duration = Duration::from_secs(2);
/// How long a follower rests after a defect.
const REST: Duration = Duration::from_secs(5);

/// Follows the local cluster and the peers; never returns.
pub async fn run(context: Context, connection: Connection, saved: Option<Saved>) {
    let Context { options, out, board } = &context;
    let resources = resource::local(options);
    let local = Gather::new(LOCAL, &kinds(&resources), true, out.clone());
    let restored = saved.as_ref().map(|saved| saved.written);
    let saved = saved.map(|saved| restore(&context, &local, saved)).unwrap_or_default();
    let peers = Peers::new(context.clone(), saved);
    let _followers = follow_all(&connection, resources, &options.cluster, options, board, &local);
    let (sink, told) = SecretSink::new();
    let all = sink.clone();
    let secrets = supervise::<Secret>(
        connection,
        resource::secrets(options),
        options.cluster.clone(),
        Timing::new(options.silence),
        Arc::clone(board),
        sink,
    );
    let settled = peers.settled();
    let first = async {
        let mut served = false;
        if let Some(restored) = restored {
            tokio::select! {
                biased;
                () = local.completed() => {}
                () = away(board, &options.cluster) => {
                    // Before the local cluster, or peers' names would not exist for a moment.
                    all.waited().await;
                    serve_saved(&context, restored);
                    served = true;
                }
            }
        }
        local.completed().await;
        // Once a saved state is served, peers count as they were saved: to wait for them would only keep what is old.
        if !served {
            wait_for_peers(options, board, settled).await;
        }
        all.waited().await;
        local.release();
        board.serve_saved(None);
        tell_whole(&options.cluster, board, out).await;
    };
    tokio::join!(first, secrets, peers.run(told));
}

/// Follows every one of these resources of one cluster, as long as what is returned lives.
pub fn follow_all(
    connection: &Connection,
    resources: Vec<Resource>,
    cluster: &str,
    options: &Options,
    board: &Arc<Board>,
    gather: &Gather,
) -> JoinSet<()> {
    let mut followers = JoinSet::new();
    for resource in resources {
        let Content::Object(kind) = resource.content else { continue };
        followers.spawn(supervise::<Decoded>(
            connection.clone(),
            resource,
            cluster.into(),
            Timing::new(options.silence),
            Arc::clone(board),
            gather.sink(kind),
        ));
    }
    followers
}

/// Starts a follower, and starts it again after a panic: a defect in one kind must not stop the others, nor be silent.
async fn supervise<T: Watched>(
    connection: Connection,
    resource: Resource,
    cluster: Box<str>,
    timing: Timing,
    board: Arc<Board>,
    sink: impl Sink<T> + Clone + 'static,
) {
    let source = Source { cluster, kind: resource.plural.clone() };
    loop {
        let (connection, resource, timing) = (connection.clone(), resource.clone(), timing.clone());
        let mut follower = JoinSet::new();
        follower.spawn(follow(connection, resource, source.clone(), Arc::clone(&board), timing, sink.clone()));
        let Some(Err(error)) = follower.join_next().await else { continue };
        if !error.is_panic() {
            return;
        }
        tracing::error!(cluster = %source.cluster, kind = %source.kind, "following it panicked, see above; it starts over");
        let text = "segdns panicked while it followed this resource, see the log".to_owned();
        let remedy = "report the panic; the last state is served meanwhile".to_owned();
        board.failed(&source, Trouble { text, remedy, cause: Cause::Other });
        sleep(REST).await;
    }
}

/// What these resources hold.
pub fn kinds(resources: &[Resource]) -> Vec<Kind> {
    let kind = |resource: &Resource| match resource.content {
        Content::Object(kind) => Some(kind),
        Content::Secret => None,
    };
    resources.iter().filter_map(kind).collect()
}

/// Until the peers' first complete states are in, as long as that makes sense.
async fn wait_for_peers(options: &Options, board: &Board, settled: impl Future<Output = ()>) {
    let secrets = Source { cluster: options.cluster.clone(), kind: SECRETS.into() };
    let waited = async {
        tokio::select! {
            () = settled => {}
            () = denied(board, &secrets) => {
                tracing::warn!("the Secrets that name peers may not be read; the local cluster does not wait for peers");
            }
        }
    };
    if timeout(options.peers_wait, waited).await.is_err() {
        tracing::warn!(waited = ?options.peers_wait, "peers are not complete; the local cluster does not wait for them any longer");
    }
}

/// Returns when a source is forbidden, and stays so.
async fn denied(board: &Board, source: &Source) {
    let mut since: Option<Instant> = None;
    while since.is_none_or(|since| since.elapsed() < DENIED) {
        sleep(LOOK).await;
        let forbidden = board.cause(source) == Some(Cause::Forbidden);
        since = forbidden.then(|| since.unwrap_or_else(Instant::now));
    }
}

/// Returns when the local cluster's API server turns out to be away.
async fn away(board: &Board, cluster: &str) {
    let in_trouble = || {
        let here = |source: &Source| *source.cluster == *cluster;
        board
            .states()
            .iter()
            .any(|(source, state)| here(source) && state.trouble.as_ref().is_some_and(|t| !t.is_missing()))
    };
    let watching = async {
        while !in_trouble() {
            sleep(LOOK).await;
        }
    };
    // Silence for that long is as good as a failure.
    drop(timeout(PATIENCE, watching).await);
}

/// Tells whether all Services and Namespaces of the local cluster are known, whenever that changes; never returns. In doubt
/// they are not: then a name that may exist after all is asked for.
async fn tell_whole(cluster: &str, board: &Board, out: &Out) {
    let sources = ["namespaces", "services"].map(|kind| Source { cluster: cluster.into(), kind: kind.into() });
    let mut said = false;
    loop {
        let all = sources.iter().all(|source| board.is_whole(source));
        if all != said {
            said = all;
            drop(out.send(Update { changes: vec![Change::Told { all }], received: None }));
        }
        board.changed().await;
    }
}

/// From now on the saved state counts.
fn serve_saved(context: &Context, written: SystemTime) {
    context.board.serve_saved(Some(written));
    tracing::warn!(
        saved = %jiff::Timestamp::try_from(written).unwrap_or_default(),
        "the API server gives no complete state; the saved one is served until it does"
    );
    let changes = vec![Change::Synced { cluster: LOCAL }];
    drop(context.out.send(Update { changes, received: None }));
}

/// Gives out a saved state, so that mesh zones are known (R22), and makes it what the followers' news are compared with.
fn restore(context: &Context, local: &Gather, saved: Saved) -> Vec<(Box<str>, ClusterIx, Gather)> {
    let kinds = kinds(&resource::peer(&context.options));
    let mut peers = Vec::new();
    let mut changes = Vec::new();
    for (cluster, SavedCluster { name, objects }) in saved.clusters.into_iter().enumerate() {
        if cluster == LOCAL {
            local.seed(&objects);
        } else {
            let gather = Gather::new(cluster, &kinds, false, context.out.clone());
            gather.seed(&objects);
            changes.push(Change::Joined { cluster, name: name.clone() });
            peers.push((name, cluster, gather));
        }
        changes.extend(objects.into_iter().map(|object| Change::Apply { cluster, object, faults: Vec::new() }));
    }
    drop(context.out.send(Update { changes, received: None }));
    peers
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn services_and_namespaces_are_told_to_be_whole_as_long_as_nothing_keeps_them() {
        let (board, (out, mut updates)) = (Arc::new(Board::default()), mpsc::unbounded_channel());
        let of = |kind: &str| Source { cluster: "here".into(), kind: kind.into() };
        let (services, namespaces, pods) = (of("services"), of("namespaces"), of("pods"));
        for source in [&services, &namespaces, &pods] {
            board.expect(source);
        }
        let shared = Arc::clone(&board);
        let telling = tokio::spawn(async move { tell_whole("here", &shared, &out).await });
        let trouble = || Trouble { text: "no".into(), remedy: String::new(), cause: Cause::Forbidden };
        board.complete(&services);
        board.complete(&namespaces);
        assert_eq!(updates.recv().await.unwrap().changes, [Change::Told { all: true }]);
        board.failed(&pods, trouble());
        board.failed(&services, trouble());
        assert_eq!(updates.recv().await.unwrap().changes, [Change::Told { all: false }]);
        board.failed(&services, trouble());
        board.complete(&namespaces);
        board.complete(&services);
        assert_eq!(updates.recv().await.unwrap().changes, [Change::Told { all: true }]);
        assert!(updates.try_recv().is_err(), "nothing twice");
        telling.abort();
    }
}
