//! What the steps of a query take: `cargo bench --bench micro`, with `-- NAME` for some of them.
//!
//! On a noisy machine these say which step costs what; whether a change costs anything is what `bench/instructions` says.

#[path = "../hot/mod.rs"]
mod hot;

use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use hot::Kind;
use segdns::dns::forward::{Query, Upstream, Zone};
use segdns::dns::listen::{Outcome, Respond, Transport};
use segdns::dns::query::{Read, read};
use segdns::dns::reply::{self, Asked};
use segdns::dns::serve::Server;
use segdns::table::Table;
use segdns::table::decide::{Question, decide};
use segdns::table::keeper::Keeper;
use segdns::table::key::Key;

static KEEPER: LazyLock<Keeper> = LazyLock::new(hot::keeper);
static SERVER: LazyLock<Server> = LazyLock::new(|| hot::server(&KEEPER));
/// Packets of each kind; a power of two.
const PACKETS: usize = 1024;

fn main() {
    divan::main();
}

fn packets(kind: Kind) -> Vec<Vec<u8>> {
    (0..PACKETS).map(|n| kind.packet(u16::try_from(n).expect("few"))).collect()
}

/// The next of them each time.
fn turns() -> impl Fn() -> usize {
    let turn = Cell::new(0);
    move || turn.replace((turn.get() + 1) % PACKETS)
}

fn table() -> Arc<Table> {
    KEEPER.snapshot().load()
}

const KINDS: [&str; 6] = ["visible", "visible+edns", "hidden", "absent", "takeover", "cached"];

fn kind(word: &str) -> Kind {
    Kind::ALL.into_iter().find(|kind| kind.word() == word).expect("a kind")
}

/// A packet to a question.
#[divan::bench(args = ["visible", "visible+edns"])]
fn parse(bencher: Bencher<'_, '_>, word: &str) {
    let (packets, turn, mut key) = (packets(kind(word)), turns(), Key::default());
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        let asked = read(black_box(&packets[turn()]), &mut key);
        assert!(matches!(asked, Read::Ask(_)));
    });
}

/// A question and a caller's address to a decision.
#[divan::bench(args = KINDS)]
fn decision(bencher: Bencher<'_, '_>, word: &str) {
    let (table, turn) = (table(), turns());
    let keys: Vec<Key> = packets(kind(word))
        .iter()
        .map(|packet| {
            let mut key = Key::default();
            key.read(&packet[12..]).expect("a name");
            key
        })
        .collect();
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        let at = turn();
        let caller = table.callers.find(hot::caller(u8::try_from(at % 64).expect("few")));
        black_box(decide(&table, &caller, Question::new(&table, &keys[at], 1)).reason)
    });
}

/// A decision to an answer.
#[divan::bench(args = ["visible", "visible+edns", "hidden", "takeover"])]
fn write(bencher: Bencher<'_, '_>, word: &str) {
    let (table, packet, mut key, mut out) = (table(), kind(word).packet(7), Key::default(), vec![0; 1536]);
    let Read::Ask(query) = read(&packet, &mut key) else { panic!("a question") };
    let caller = table.callers.find(hot::caller(1));
    let decision = decide(&table, &caller, Question::new(&table, &key, 1));
    let asked = Asked { packet: &packet, query: &query, key: &key, limit: query.limit(false) };
    bencher
        .counter(ItemsCount::new(1_u32))
        .bench_local(|| reply::decided(&table, black_box(&decision), &asked, 3, &mut out).expect("an answer"));
}

/// All of it: a packet to an answer, counted.
#[divan::bench(args = KINDS)]
fn respond(bencher: Bencher<'_, '_>, word: &str) {
    let (packets, turn, mut worker, mut out) = (packets(kind(word)), turns(), SERVER.worker(), vec![0; 1536]);
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        let at = turn();
        let from = SocketAddr::new(hot::caller(u8::try_from(at % 64).expect("few")), 5353);
        let outcome = SERVER.respond(&mut worker, black_box(&packets[at]), from, Transport::Udp, &mut out);
        assert!(matches!(outcome, Outcome::Reply(_)));
    });
}

/// A question of a name that is never the same, through flights, limits, upstream's health and sockets to an upstream in
/// this process that answers at once, and back through the checks into the cache: 64 of them at a time.
#[divan::bench]
fn forward(bencher: Bencher<'_, '_>) {
    const AT_ONCE: u32 = 64;
    let upstream = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let at = upstream.local_addr().expect("an address");
    std::thread::spawn(move || answer_all(&upstream));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let zone = Zone { zone: None, upstreams: vec![Upstream::Address(at)], tcp: false };
    let server = Arc::new(hot::server_for(&KEEPER, vec![zone]));
    let turn = Cell::new(0_u32);
    bencher.counter(ItemsCount::new(AT_ONCE)).bench_local(|| {
        let first = turn.replace(turn.get().wrapping_add(AT_ONCE));
        let tasks: Vec<_> = (first..first.wrapping_add(AT_ONCE))
            .map(|n| {
                let server = Arc::clone(&server);
                runtime.spawn(async move { ask_once(&server, n).await })
            })
            .collect();
        runtime.block_on(async {
            for task in tasks {
                task.await.expect("an answer");
            }
        });
    });
}

async fn ask_once(server: &Server, n: u32) {
    let packet = hot::query(&format!("host-{n}.example.org"), 1, false);
    let query = Query {
        name: &packet[12..packet.len() - 4],
        rtype: 1,
        class: 1,
        recursion_desired: true,
        checking_disabled: false,
        authentic_data: false,
        edns: None,
    };
    let from = hot::caller(u8::try_from(n % 64).expect("few"));
    server.resolver().ask(&query, from, None).await.expect("an answer");
}

/// Answers every question with one address, until the socket is silent for long.
fn answer_all(socket: &UdpSocket) {
    let mut buffer = [0; 512];
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let mut end = 12;
        while buffer[end] != 0 {
            end += 1 + usize::from(buffer[end]);
        }
        end += 5;
        buffer[2..4].copy_from_slice(&[0x81, 0x80]);
        buffer[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
        buffer[end..end + record.len()].copy_from_slice(&record);
        debug_assert!(length >= end);
        let _ = socket.send_to(&buffer[..end + record.len()], from);
    }
}
