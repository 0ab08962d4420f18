//! The table is swapped as fast as a processor can, under the hands of workers and of tasks on the general path: whatever a
//! query needs of it is of one table. `tests/one_world.rs` sees the same from outside, a thousand times slower.

mod inside;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use inside::{
    ROOT, SCOPE, SEGMENT, TAKEOVER, here, ip, labels, namespace, pod, query, segment, server, service, settings,
};
use segdns::dns::listen::{Outcome, Respond, Transport};
use segdns::dns::serve::Server;
use segdns::mesh::object::{Change, Object, Port, Protocol};
use segdns::mesh::settings::TakeoverAnswer;
use segdns::table::keeper::Keeper;

/// How long tables are swapped: at least, and at most if that was not enough on a busy machine.
const LASTS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];
/// Every state has to be seen so often in every answer.
const SEEN: usize = 20;
const SRV: u16 = 33;

/// What is answered: the response code, and all records but OPT, in order of their text.
type Said = (u8, Vec<String>);

struct Asked {
    from: IpAddr,
    packet: Vec<u8>,
    name: &'static str,
    either: [Said; 2],
    seen: [AtomicUsize; 2],
}

fn sorted(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = all.collect();
    all.sort_unstable();
    all
}

fn said(answer: &[u8]) -> Said {
    let message = Message::from_vec(answer).expect("a message");
    let records = message.answers.iter().chain(&message.additionals).map(|record| match &record.data {
        RData::SRV(srv) => format!("SRV {} {}", srv.port, srv.target),
        data => format!("{} {data}", record.record_type()),
    });
    (answer[3] & 15, sorted(records))
}

impl Asked {
    fn new(from: &str, name: &'static str, rtype: u16, either: [(u8, &[String]); 2]) -> Self {
        let either = either.map(|(code, records)| (code, sorted(records.iter().cloned())));
        Self { from: ip(from), packet: query(name, rtype, true), name, either, seen: Default::default() }
    }

    fn is_seen(&self) -> bool {
        let [one, other] = [&self.seen[0], &self.seen[1]].map(|seen| seen.load(Relaxed));
        one >= SEEN && (other >= SEEN || self.either[0] == self.either[1])
    }

    /// Asks as a socket does: in place, and if that does not answer, in a task.
    async fn ask(&self, server: &Server, worker: &mut <Server as Respond>::Worker, out: &mut [u8]) {
        let answer = match inside::respond(server, worker, &self.packet, self.from, out) {
            Outcome::Reply(length) => out[..length].to_vec(),
            Outcome::Later => {
                let from = SocketAddr::new(self.from, 5353);
                server.later(self.packet.clone(), from, Transport::Udp).await.expect("an answer")
            }
            Outcome::Drop => panic!("no answer"),
        };
        let said = said(&answer);
        let state = self.either.iter().position(|state| *state == said);
        let Some(state) = state else { panic!("{}: {said:?}, which is neither of {:?}", self.name, self.either) };
        self.seen[state].fetch_add(1, Relaxed);
    }
}

fn addresses(state: u8) -> Vec<IpAddr> {
    (11..=30).map(|n| IpAddr::from([10, 2 + state, 0, n])).collect()
}

/// What differs: the segment of a namespace, with its Services and its pod; addresses and port of a Service.
fn changes(state: u8) -> Vec<Change> {
    let own: &[(&str, &str)] = if state == 0 { &[] } else { &[(SEGMENT, "other")] };
    let mut many = service("fix", "many", &addresses(state), &[(SCOPE, "segment")]);
    many.ports = Box::new([Port { name: "http".into(), number: 80 + u16::from(state), protocol: Protocol::Tcp }]);
    vec![here(namespace("shop", own)), here(Object::Service(many))]
}

fn keeper(takeover: TakeoverAnswer) -> Keeper {
    let mut settings = settings();
    settings.policy.takeover = takeover;
    let keeper = Keeper::new(settings);
    let mut web = service("shop", "web", &[ip("10.0.0.1")], &[]);
    web.labels = labels(&[(SCOPE, "segment"), (TAKEOVER, "true")]);
    let mut all = vec![
        here(segment("acme", "mesh.acme", &[])),
        here(segment("other", "mesh.other", &[])),
        here(namespace(ROOT, &[(SEGMENT, "acme")])),
        here(namespace("fix", &[])),
        here(Object::Service(web)),
        here(pod("shop", "a", &[ip("10.9.0.1")])),
        here(pod("fix", "b", &[ip("10.9.0.2")])),
    ];
    all.extend(changes(0));
    all.extend((0..2).map(|cluster| Change::Synced { cluster }));
    keeper.apply(all);
    keeper
}

fn questions(takeover: TakeoverAnswer) -> [Asked; 5] {
    let texts = |all: &[IpAddr]| all.iter().map(|address| format!("A {address}")).collect::<Vec<_>>();
    let (web, many) = (texts(&[ip("10.0.0.1")]), [0, 1].map(|state| texts(&addresses(state))));
    let chained = |to: &str| [&[format!("CNAME web.shop.mesh.{to}.")], &web[..]].concat();
    let srv = |state: usize| [&[format!("SRV {} many.fix.mesh.acme.", 80 + state)], &many[state][..]].concat();
    let taken_over = |to: &str| if takeover == TakeoverAnswer::Flatten { web.clone() } else { chained(to) };
    [
        // Forwarded, to nobody, if caller and Service were of two.
        Asked::new("10.9.0.1", "web.shop.svc.cluster.local", 1, [(0, &taken_over("acme")), (0, &taken_over("other"))]),
        Asked::new("10.9.0.1", "web.shop.mesh.acme", 1, [(0, &web), (3, &[])]),
        Asked::new("10.9.0.1", "web.shop.mesh.acme.shop.svc.cluster.local", 1, [(0, &chained("acme")), (3, &[])]),
        Asked::new("10.9.0.2", "many.fix.mesh.acme", 1, [(0, &many[0]), (0, &many[1])]),
        Asked::new("10.9.0.2", "_http._tcp.many.fix.mesh.acme", SRV, [(0, &srv(0)), (0, &srv(1))]),
    ]
}

#[test]
fn whatever_a_query_needs_of_the_table_is_of_one_table() {
    swap(TakeoverAnswer::Flatten);
}

#[test]
fn whatever_a_task_needs_of_the_table_is_of_one_table() {
    swap(TakeoverAnswer::Cname);
}

fn swap(takeover: TakeoverAnswer) {
    let keeper = keeper(takeover);
    let snapshot = keeper.snapshot();
    let first = snapshot.load();
    keeper.apply(changes(1));
    let tables = [first, snapshot.load()];
    assert!(!Arc::ptr_eq(&tables[0], &tables[1]) && tables[0].synced);
    let (all, over, server) =
        (questions(takeover), AtomicBool::new(false), server(&keeper, Duration::ZERO, Vec::new()));
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (mut worker, mut out) = (server.worker(), [0; 1536]);
        while !over.load(Relaxed) {
            for asked in &all {
                runtime.block_on(asked.ask(&server, &mut worker, &mut out));
            }
        }
    };
    let swaps = std::thread::scope(|scope| {
        let asking = [scope.spawn(ask), scope.spawn(ask)];
        let (begun, mut swaps) = (Instant::now(), 0_usize);
        let lasts = || begun.elapsed() < LASTS[usize::from(!all.iter().all(Asked::is_seen))];
        while lasts() && !asking.iter().any(ScopedJoinHandle::is_finished) {
            (0..100).for_each(|n| snapshot.put(tables[n % 2].clone()));
            swaps += 100;
        }
        over.store(true, Relaxed);
        swaps
    });
    for asked in &all {
        let Asked { name, seen, .. } = asked;
        println!("{name}: {seen:?} answers of either state");
        assert!(asked.is_seen(), "{name}: {seen:?}");
    }
    println!("{swaps} swaps");
}
