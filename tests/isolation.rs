//! Hidden equals nonexistent (R13), in meshes by chance: every answer is the one of a model that was written from the contract
//! alone; a hidden name that is taken out changes no octet of any answer; no name in a mesh zone reaches the upstream.
//!
//! `SEGDNS_MESHES` sets how many meshes are tried (default 10,000), `SEGDNS_SEED` from which seed on; a failure names its own,
//! and `SEGDNS_MESHES=1 SEGDNS_SEED=n` repeats it. A mesh that fails is made as small as can be, and printed as manifests.

mod model;
mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use model::case::{Case, Fault, Tally};
use model::feed;
use model::front::{Lab, resolv_conf};
use model::judge::{alike, complaints, expected};
use model::mesh::Mesh;
use model::rules::Model;
use model::shrink::{shown, shrink};
use model::upstream::Upstream;
use model::wire::Query;
use support::client::{Client, Proto};
use support::objects::merge;
use support::server::Server;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

#[test]
fn every_answer_is_the_models_and_what_is_hidden_changes_no_octet() {
    let (meshes, seed) = (setting("SEGDNS_MESHES", 10_000), setting("SEGDNS_SEED", 1));
    let most = usize::try_from(setting("SEGDNS_FAULTS", 1)).expect("few");
    let next = AtomicU64::new(seed);
    let tally = Mutex::new(Tally::default());
    let failed: Mutex<Vec<(u64, Case, Fault)>> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|s| {
        for _ in 0..workers {
            s.spawn(|| {
                let lab = Lab::new();
                let mut own = Tally::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= meshes + setting("SEGDNS_SEED", 1) || failed.lock().unwrap().len() >= most {
                        break;
                    }
                    let case = Case::draw(seed);
                    if let Some(fault) = case.faults(&lab, &mut own).into_iter().next() {
                        failed.lock().unwrap().push((seed, case, fault));
                    }
                }
                tally.lock().unwrap().add(&own);
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let lab = Lab::new();
    let texts: Vec<String> = failed
        .iter()
        .map(|(seed, case, fault)| {
            let (least, fault) = shrink(&lab, case, fault);
            format!("seed {seed}: {}", shown(&least, &fault))
        })
        .collect();
    let tally = tally.into_inner().unwrap();
    println!("{tally:?}");
    assert!(texts.is_empty(), "{}", texts.join("\n==========\n"));
    // What is drawn has to be worth it: each kind of answer often enough, and something to be hidden.
    let some = tally.kinds.iter().all(|n| n * 20 > tally.answers) && tally.swaps * 2 > tally.meshes;
    assert!(some || meshes < 500, "{tally:?}");
    let drawn = tally.completed > 0 && tally.cut.iter().all(|n| *n > 0) && tally.rounds > 0;
    assert!(drawn || meshes < 500, "{tally:?}");
    assert!(tally.excused * 200 < tally.pairs || meshes < 500, "{tally:?}");
}

/// The same meshes behind the binary's sockets, with objects from manifests: what is shown in process holds there, too.
#[test]
fn through_sockets_every_answer_is_the_models_and_the_one_given_in_process() {
    let (meshes, seed) = (setting("SEGDNS_SOCKET_MESHES", 200), setting("SEGDNS_SEED", 1));
    let next = AtomicU64::new(seed);
    let faults: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                let lab = Lab::new();
                let upstream = Upstream::start(SocketAddr::new(support::UPSTREAM, 0));
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= meshes + setting("SEGDNS_SEED", 1) {
                        break;
                    }
                    let case = over_sockets(Case::draw(seed));
                    let found = through_sockets(&case, &lab, &upstream);
                    faults.lock().unwrap().extend(found.into_iter().map(|f| format!("seed {seed}: {f}")));
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(
        faults.is_empty(),
        "{} faults, the first of them:\n{}",
        faults.len(),
        faults[..faults.len().min(3)].join("\n")
    );
}

/// What a server on loopback can show of a case: a mesh that is read to its end, and callers of 127.0.0.0/8.
fn over_sockets(mut case: Case) -> Case {
    case.mesh.clusters.iter_mut().for_each(|c| c.synced = true);
    for caller in [&mut case.caller, &mut case.before] {
        if !matches!(caller, IpAddr::V4(four) if four.is_loopback()) {
            *caller = Ipv4Addr::LOCALHOST.into();
        }
    }
    case
}

/// Everything that is wrong with the answers of a server of a case's mesh.
fn through_sockets(case: &Case, lab: &Lab, upstream: &Upstream) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a directory");
    let at = SocketAddr::new(support::HERE, support::free_port());
    let resolv_conf = resolv_conf();
    let forward = serde_json::json!([{"zone": ".", "upstreams": [upstream.address(), resolv_conf.path()]}]);
    let mut config = configuration(&case.mesh, dir.path(), at);
    merge(&mut config, &serde_json::json!({"forward": forward}));
    let server = match Server::start(&config) {
        Ok(server) => server,
        Err(e) => return vec![format!("{e}\n{config:#}")],
    };
    let model = Model::new(&case.mesh);
    let (client, mut front, mut faults) = (Client::default(), lab.front(&case.mesh), Vec::new());
    let _ = upstream.take_asked();
    for (caller, query) in case.queries.iter().flat_map(|q| [(case.before, q), (case.caller, q)]) {
        let id = support::client::next_id();
        let packet = query.packet(id);
        let proto = if query.tcp { Proto::Tcp } else { Proto::Udp };
        let got = match client.ask(caller, at, proto, &packet) {
            Ok(got) => got,
            Err(e) => {
                faults.push(format!("{query:?} from {caller}: {e}"));
                continue;
            }
        };
        let mut whole = |_: &Query| client.ask(caller, at, Proto::Tcp, &packet).unwrap_or_default();
        let mut bad = complaints(query, &packet, &got, &expected(&model, caller, query), &mut whole);
        let inside = front.ask(caller, query, id).answer;
        if !alike(&got, &inside) {
            bad.push(format!("in process it is {:?}, not {:?}", model::wire::parse(&inside), model::wire::parse(&got)));
        }
        if !bad.is_empty() {
            faults.push(format!("{query:?} from {caller}: {}\n{config:#}", bad.join("\n")));
        }
    }
    let leaked = upstream.take_asked().into_iter().filter(|(name, _)| model.zone_of(name).is_some());
    faults.extend(leaked.map(|(name, rtype)| format!("upstream was asked {name} TYPE{rtype}")));
    drop(server);
    faults
}

/// Writes a mesh as manifests; the configuration of a server that reads them.
fn configuration(mesh: &Mesh, dir: &std::path::Path, at: SocketAddr) -> serde_json::Value {
    let mut manifests = Vec::new();
    for (ix, cluster) in mesh.clusters.iter().enumerate() {
        let name = feed::cluster_name(ix);
        let path = dir.join(&name);
        std::fs::create_dir(&path).expect("a directory");
        let objects: Vec<_> = cluster.objects.iter().flat_map(feed::manifests).collect();
        support::objects::write(&path, "objects.yaml", &objects);
        manifests.push(serde_json::json!({"cluster": name, "path": path}));
    }
    let mut config = serde_json::json!({
        "listen": [at],
        "admin": SocketAddr::new(support::HERE, support::free_port()),
        "cluster": {"name": "cluster1"},
        "sources": {"manifests": manifests},
        "limits": {"workers": 1},
    });
    merge(&mut config, &feed::config(mesh));
    config
}
