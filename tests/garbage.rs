//! Garbage at the binary's sockets: what is no query gets its code or no answer, and nothing makes the server panic, grow
//! or answer wrongly afterwards (R24).
//!
//! `SEGDNS_GARBAGE_SECONDS` sets how long random and mutated packets are sent (default 10; a release is tested with 600).
//! `SEGDNS_GARBAGE_SEED` repeats a run; every run prints its seed.

mod support;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::json;
use support::client::{Client, Proto, read_framed, write_framed};
use support::objects;
use support::server::{Server, config_of};
use support::upstream::Upstream;
use support::world::World;
use support::{HERE, UPSTREAM, fixture, free_port, wire};

/// A pod of segment acme-segment in the fixture.
const CALLER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 10, 1, 11));
/// How long an answer to garbage is waited for; most gets none.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long one is that has to come.
const LONG: Duration = Duration::from_secs(6);

struct Target {
    server: Server,
    at: SocketAddr,
    _upstream: Upstream,
}

fn target() -> Target {
    let upstream = Upstream::start(World::outside(), SocketAddr::new(UPSTREAM, free_port())).expect("an upstream");
    let at = SocketAddr::new(HERE, free_port());
    let manifests = fixture::root().join("visibility/cluster1");
    let mut config = config_of(at, ("cluster1", &manifests), upstream.address());
    objects::merge(&mut config, &json!({"answers": {"grace": "0s"}, "limits": {"workers": 1}}));
    let server = Server::start(&config).expect("a server");
    Target { server, at, _upstream: upstream }
}

impl Target {
    /// A name of the caller's segment and one of the world outside are answered, over UDP and TCP.
    fn answers_rightly(&self) {
        for proto in [Proto::Udp, Proto::Tcp] {
            for (name, code, answers) in
                [("g.shop.mesh.acme", 0, 1), ("none.shop.mesh.acme", 3, 0), ("example.com", 0, 1)]
            {
                let query = wire::query(7, name, 1, true);
                let answer = Client::default().ask(CALLER, self.at, proto, &query).expect("an answer");
                assert_eq!((answer[3] & 15, answer[7]), (code, answers), "{name} over {proto:?}");
            }
        }
    }

    fn udp(&self, patience: Duration) -> UdpSocket {
        let socket = UdpSocket::bind((CALLER, 0)).expect("a socket");
        socket.connect(self.at).expect("connected");
        socket.set_read_timeout(Some(patience)).expect("a timeout");
        socket
    }

    fn tcp(&self, patience: Duration) -> TcpStream {
        let stream = TcpStream::connect(self.at).expect("a connection");
        stream.set_read_timeout(Some(patience)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        stream
    }
}

/// An answer has the ID of what was sent and QR set, and is a message.
fn is_an_answer(sent: &[u8], got: &[u8]) {
    assert!(got.len() >= 12, "{} octets to {sent:?}", got.len());
    assert_eq!((&got[..2], got[2] & 0x80), (&sent[..2], 0x80), "{got:?} to {sent:?}");
    let (code, question) = (got[3] & 15, got[5]);
    // A bare refusal needs no decoder; all else has to please one.
    if got.len() > 12 && (code == 0 || code == 3 || question == 0) && got[2] & 2 == 0 {
        Message::from_vec(got).unwrap_or_else(|e| panic!("{e}: {got:?} to {sent:?}"));
    }
}

fn bad_packets() -> Vec<(&'static str, Vec<u8>, Option<u8>)> {
    let edit = |edits: &[(usize, u8)], edns: bool| {
        let mut packet = wire::query(0x5151, "g.shop.mesh.acme", 1, edns);
        edits.iter().for_each(|(at, value)| packet[*at] = *value);
        packet
    };
    let with = |tail: &[u8], edits: &[(usize, u8)]| {
        let mut packet = edit(edits, false);
        packet.extend_from_slice(tail);
        packet
    };
    let typed = |rtype: u16, class: u8| {
        let mut packet = wire::query(0x5151, "g.shop.mesh.acme", rtype, false);
        *packet.last_mut().expect("a class") = class;
        packet
    };
    let two_opt = [wire::opt(), wire::opt()].concat();
    let mut version = wire::opt();
    version[6] = 1;
    let whole = edit(&[], false);
    vec![
        ("a question", whole.clone(), Some(0)),
        ("a response", edit(&[(2, 0x81)], false), None),
        ("a response without a question", edit(&[(2, 0x81), (5, 0)], false), None),
        ("no question", edit(&[(5, 0)], false), Some(1)),
        ("two questions", edit(&[(5, 2)], false), Some(1)),
        ("65,535 questions", edit(&[(4, 255), (5, 255)], false), Some(1)),
        ("65,535 answers", edit(&[(6, 255), (7, 255)], false), Some(1)),
        ("65,535 additional records", edit(&[(10, 255), (11, 255)], true), Some(1)),
        ("a record in authority", with(&wire::record("x", 1, 5, &[1, 2, 3, 4]), &[(9, 1)]), Some(1)),
        ("two OPT", with(&two_opt, &[(11, 2)]), Some(1)),
        ("EDNS version 1", with(&version, &[(11, 1)]), Some(0)),
        ("half a question", whole[..whole.len() - 3].to_vec(), Some(1)),
        ("a header only", whole[..12].to_vec(), Some(1)),
        ("a pointer in the question", edit(&[(12, 0xc0), (13, 12)], false), Some(1)),
        ("NOTIFY", edit(&[(2, 0x20)], false), Some(4)),
        ("UPDATE without a question", edit(&[(2, 0x28), (5, 0)], false), Some(4)),
        ("AXFR", typed(252, 1), Some(5)),
        ("IXFR", typed(251, 1), Some(5)),
        ("class ANY", typed(1, 255), Some(5)),
        ("CHAOS", typed(16, 3), Some(5)),
    ]
}

#[test]
fn bad_packets_get_their_code_over_udp_and_tcp_and_short_ones_none() {
    let target = target();
    for (what, packet, code) in bad_packets() {
        let socket = target.udp(LONG);
        socket.send(&packet).expect("sent");
        let mut stream = target.tcp(LONG);
        write_framed(&mut stream, &packet).expect("written");
        // A good one behind it tells that no answer to the first is coming, without a wait. It may overtake the first.
        let good = wire::query(0x7777, "g.shop.mesh.acme", 1, false);
        socket.send(&good).expect("sent");
        write_framed(&mut stream, &good).expect("written");
        let mut over_udp = || {
            let mut buffer = [0; 2048];
            let size = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{what} over UDP: {e}"));
            buffer[..size].to_vec()
        };
        let mut over_tcp = || read_framed(&mut stream).unwrap_or_else(|e| panic!("{what} over TCP: {e}"));
        let receive: [&mut dyn FnMut() -> Vec<u8>; 2] = [&mut over_udp, &mut over_tcp];
        for next in receive {
            let mut answer = next();
            if code.is_some() && answer[..2] == good[..2] {
                answer = next();
            }
            let (sent, want) = code.map_or((&good, 0), |code| (&packet, code));
            is_an_answer(sent, &answer);
            assert_eq!(answer[3] & 15, want, "{what}");
            let opt =
                what == "EDNS version 1" || what == "two OPT" || (sent[11] != 0 && what != "65,535 additional records");
            if code.is_some() && opt {
                assert_eq!(answer[11], 1, "{what}: an OPT comes back");
            }
            if what == "EDNS version 1" {
                assert_eq!(answer[answer.len() - 6], 1, "BADVERS is 16: its upper bits stand in the OPT");
            }
        }
    }
    for length in 0..12 {
        let socket = target.udp(LONG);
        socket.send(&[0; 12][..length]).expect("sent");
        let good = wire::query(0x7777, "g.shop.mesh.acme", 1, false);
        socket.send(&good).expect("sent");
        let mut buffer = [0; 2048];
        let size = socket.recv(&mut buffer).expect("an answer");
        is_an_answer(&good, &buffer[..size]);
    }
    target.answers_rightly();
    assert!(!target.server.log().contains("panicked"), "{}", target.server.log());
}

/// Random octets, or a query with some of its octets changed, cut off or followed by more.
fn garbage(random: &mut StdRng) -> Vec<u8> {
    if random.random_ratio(1, 4) {
        let length = random.random_range(0..600);
        let mut packet = vec![0; length];
        random.fill_bytes(&mut packet);
        if length > 2 && random.random() {
            packet[2] &= 0x7f;
        }
        return packet;
    }
    const NAMES: [&str; 6] = [
        "g.shop.mesh.acme",
        "_http._tcp.g.shop.mesh.acme",
        "none.far.mesh.acquired",
        "g.shop.mesh.acme.shop.svc.cluster.local",
        "g.shop.svc.cluster.local",
        "version.bind",
    ];
    let types = [1, 28, 33, 16, 255, 6, 5, 252, 65_280];
    let (name, rtype) = (NAMES[random.random_range(0..NAMES.len())], types[random.random_range(0..types.len())]);
    let mut packet = wire::query(random.random(), name, rtype, random.random());
    for _ in 0..random.random_range(0..4) {
        let at = random.random_range(0..packet.len());
        packet[at] = random.random();
    }
    match random.random_range(0..6) {
        0 => packet.truncate(random.random_range(0..packet.len())),
        1 => packet.extend((0..random.random_range(0..40)).map(|_| random.random::<u8>())),
        _ => {}
    }
    packet
}

/// How many packets of earlier rounds are remembered.
const EARLIER: usize = 100_000;

/// Sends a portion over UDP and takes what answers come.
fn over_udp(target: &Target, random: &mut StdRng, earlier: &mut Vec<Vec<u8>>, answered: &mut u64) {
    let socket = target.udp(PATIENCE);
    let sent: Vec<Vec<u8>> = (0..32).map(|_| garbage(random)).collect();
    for packet in &sent {
        socket.send(packet).expect("sent");
    }
    socket.send(&wire::query(0, "g.shop.mesh.acme", 1, false)).expect("sent");
    let mut buffer = [0; 65_535];
    while let Ok(size) = socket.recv(&mut buffer) {
        let got = &buffer[..size];
        assert!(got.len() >= 12 && got[2] & 0x80 != 0, "{got:?}");
        if got.len() > 12 && got[..2] == [0, 0] && got[3] & 15 == 0 {
            break;
        }
        let same = |s: &&Vec<u8>| s.len() >= 12 && s[..2] == got[..2];
        match sent.iter().find(same) {
            Some(to) => is_an_answer(to, got),
            // A forwarded answer may come after the last one of its round, to a later socket that was given the same port.
            None => assert!(earlier.iter().any(|s| same(&s)), "{got:?} answers nothing that was sent"),
        }
        *answered += 1;
    }
    earlier.extend(sent);
    let old = earlier.len().saturating_sub(EARLIER);
    earlier.drain(..old);
}

/// Sends framed garbage, or octets that are no frames, on one connection, and takes what comes until it is answered or closed.
fn over_tcp(target: &Target, random: &mut StdRng, answered: &mut u64) {
    let mut stream = target.tcp(PATIENCE);
    let mut sent = Vec::new();
    for _ in 0..random.random_range(1..12) {
        let packet = garbage(random);
        let written =
            if random.random_ratio(1, 8) { stream.write_all(&packet) } else { write_framed(&mut stream, &packet) };
        if written.is_err() {
            break;
        }
        sent.push(packet);
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    while let Ok(got) = read_framed(&mut stream) {
        assert!(got.len() >= 12 && got[2] & 0x80 != 0, "{got:?}");
        // Behind octets that were no frame anything may have been read as one.
        if let Some(to) = sent.iter().find(|s| s.len() >= 12 && s[..2] == got[..2]) {
            is_an_answer(to, &got);
        }
        *answered += 1;
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn garbage_neither_stops_nor_swells_nor_confuses_the_server() {
    let target = target();
    let seconds = number("SEGDNS_GARBAGE_SECONDS").unwrap_or(10);
    let seed = number("SEGDNS_GARBAGE_SEED").unwrap_or_else(rand::random);
    println!("SEGDNS_GARBAGE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut rounds, mut answered, mut earlier) = (0_u64, 0, Vec::new());
    let mut round = |random: &mut StdRng, answered: &mut u64| {
        over_udp(&target, random, &mut earlier, answered);
        over_tcp(&target, random, answered);
        rounds += 1;
    };
    // Once through everything, so that what is allocated once is.
    for _ in 0..30 {
        round(&mut random, &mut answered);
    }
    target.answers_rightly();
    let before = target.server.resident();
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        round(&mut random, &mut answered);
    }
    target.answers_rightly();
    let after = target.server.resident();
    println!("{rounds} rounds, {answered} answers, resident {before} -> {after}");
    assert!(answered > rounds, "most of it should have been answered: {answered} in {rounds} rounds");
    assert!(before > 0 && after < before + 6 * 1024 * 1024, "resident memory went from {before} to {after}");
    let log = target.server.log();
    assert!(!log.contains("panicked"), "{log}");
    target.server.stop().expect("it stops");
}
