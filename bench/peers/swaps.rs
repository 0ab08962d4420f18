//! segdns fed by an API server whose objects change ten times a second, under load: what the swap of a table costs a query.
//!
//! The API server is that of the tests. It runs beside the generator, which both kinds of rounds pay for: without swaps, what
//! changes is a Service that is not exported, and so in no table.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::data::{Kind, Numbers};
use crate::fleet::Fleet;
use crate::generate::{self, Pace};
use crate::rounds::{self, Job, Library, Sample, Section};
use crate::servers::{Program, Running};
use crate::support::apiserver::ApiServer;

/// Between two changes of an object.
const CHANGE: Duration = Duration::from_millis(100);
/// After which the last change of a round is taken in.
const SETTLED: Duration = Duration::from_millis(300);

/// Both kinds of rounds, at so many queries a second: half of what segdns can do. Gives how many tables a second were swapped
/// in with and without.
///
/// # Errors
/// The system's, or why segdns does not start.
pub fn run(
    fleet: &Fleet,
    library: &mut Library,
    rate: f64,
    rounds: usize,
    seconds: f64,
    found: &mut Vec<Sample>,
) -> io::Result<[f64; 2]> {
    let job = Job { section: Section::Swaps, program: Program::SegdnsFed, kind: Kind::Visible };
    let (source, server) = start(fleet)?;
    let questions = library.get(&fleet.setting.plan, job.kind);
    generate::warm(&questions, &generate::sockets(&fleet.setting.plan, server.at)?)?;
    let mut swaps = [(0, 0.0); 2];
    let mut numbers = Numbers::new(std::process::id().into());
    for round in 0..rounds {
        let first = numbers.below(2) == 0;
        for exported in [first, !first] {
            let tables = generation(&server)?;
            let sockets = generate::sockets(&fleet.setting.plan, server.at)?;
            let (before, start, stop) = (server.cost(), Instant::now(), AtomicBool::new(false));
            let outcome = thread::scope(|scope| {
                scope.spawn(|| change(&source, exported, &stop));
                let outcome =
                    rounds::udp(&questions, &sockets, Pace::Rate(rate), job.program, Duration::from_secs_f64(seconds));
                stop.store(true, Ordering::Relaxed);
                outcome
            })?;
            let took = start.elapsed();
            let case = if exported { "swapped" } else { "still" };
            found.push(Sample::new(job, case, round, &outcome, &server.cost().since(&before), took));
            let sum = &mut swaps[usize::from(!exported)];
            *sum = (sum.0 + generation(&server)?.saturating_sub(tables), sum.1 + took.as_secs_f64());
            thread::sleep(SETTLED);
        }
    }
    Ok(swaps.map(|(swaps, time)| swaps as f64 / time))
}

/// An API server with the whole world, and a segdns that watches it.
fn start(fleet: &Fleet) -> io::Result<(ApiServer, Running)> {
    let source = ApiServer::start();
    source.install_crd("admin.solo.io", &["v1alpha1"], "segments", "Segment");
    source.apply_all(fleet.setting.plan.objects().chain([true, false].map(|exported| changing(exported, 0))));
    let dir = Program::SegdnsFed.dir(&fleet.setting, 0);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("kubeconfig"), source.kubeconfig())?;
    let server = Program::SegdnsFed.start(&fleet.setting, 0).map_err(io::Error::other)?;
    Ok((source, server))
}

/// Changes one Service until it is told to stop.
fn change(source: &ApiServer, exported: bool, stop: &AtomicBool) {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        source.apply(changing(exported, turn));
        thread::sleep(CHANGE);
    }
}

/// A Service whose address changes with every turn.
fn changing(exported: bool, turn: u32) -> Value {
    let (name, labels) = match exported {
        true => ("exported", json!({"solo.io/service-scope": "global"})),
        false => ("inner", json!({})),
    };
    let address = format!("10.99.0.{}", turn % 2 + 1);
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "ns-000", "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address]}})
}

/// The number of the table that segdns answers from.
fn generation(server: &Running) -> io::Result<u64> {
    let admin = server.admin.ok_or_else(|| io::Error::other("no admin address"))?;
    let read = || ureq::get(format!("http://{admin}/metrics")).call()?.body_mut().read_to_string();
    let text = read().map_err(io::Error::other)?;
    let value = text.lines().find_map(|line| line.strip_prefix("segdns_table_generation "));
    value.and_then(|value| value.trim().parse().ok()).ok_or_else(|| io::Error::other("no segdns_table_generation"))
}
