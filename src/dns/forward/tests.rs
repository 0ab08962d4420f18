//! The forwarder against upstreams on loopback that behave and misbehave.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;

use super::wire::{self, HEADER};
use super::*;
use crate::mesh::name::Name;

mod errands;
mod health;
mod hedges;
mod loops;
mod sockets;

const NAME: &[u8] = b"\x03Www\x07example\0";
const SERVFAIL: u8 = 2;
const REFUSED: u8 = 5;

fn query(name: &[u8]) -> Query<'_> {
    Query {
        name,
        rtype: 1,
        class: 1,
        recursion_desired: true,
        checking_disabled: false,
        authentic_data: false,
        edns: None,
    }
}

/// The answer to a query: its ID and question, and the address 10.0.0.`last` unless `rcode` says otherwise.
fn answer(query: &[u8], rcode: u8, last: u8) -> Vec<u8> {
    let question_end = wire::skip_name(query, HEADER).unwrap() + 4;
    let records = u8::from(rcode == 0);
    let mut wire = [&query[..2], &[0x80, rcode, 0, 1, 0, records, 0, 0, 0, 0], &query[HEADER..question_end]].concat();
    if records == 1 {
        wire.extend([0xC0, 0x0C, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, last]);
    }
    wire
}

/// The last octet of the address in an answer.
fn last(message: &Message) -> u8 {
    message.wire()[message.records(Section::Answer).next().unwrap().data()][3]
}

/// An upstream that sends, for each query, the datagrams that `reply` makes of its number (from 0) and its octets.
fn serve(socket: UdpSocket, reply: impl Fn(usize, &[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let address = socket.local_addr().unwrap();
    tokio::spawn(served(socket, reply));
    address
}

/// The same for as long as somebody waits for its end.
async fn served(socket: UdpSocket, reply: impl Fn(usize, &[u8]) -> Vec<Vec<u8>>) {
    let mut buffer = [0; 1500];
    for number in 0.. {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        for datagram in reply(number, &buffer[..length]) {
            socket.send_to(&datagram, from).await.unwrap();
        }
    }
}

async fn udp(reply: impl Fn(usize, &[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    serve(UdpSocket::bind("127.0.0.1:0").await.unwrap(), reply)
}

/// An upstream that always says the same.
async fn says(rcode: u8, last: u8) -> SocketAddr {
    udp(move |_, query| vec![answer(query, rcode, last)]).await
}

async fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let length = stream.read_u16().await.unwrap();
    let mut frame = vec![0; length.into()];
    stream.read_exact(&mut frame).await.unwrap();
    frame
}

async fn write_frame(stream: &mut TcpStream, frame: &[u8]) {
    stream.write_all(&[&(frame.len() as u16).to_be_bytes(), frame].concat()).await.unwrap();
}

fn zone(name: Option<&str>, upstreams: &[SocketAddr], tcp: bool) -> Zone {
    let zone = name.map(|name| Name::parse(name).unwrap());
    Zone { zone, upstreams: upstreams.iter().copied().map(Upstream::Address).collect(), tcp }
}

/// Times that tests can wait for.
fn quick() -> Tuning {
    Tuning { one_try: Duration::from_millis(300), in_all: Duration::from_millis(800), ..Tuning::default() }
}

/// Times that no test waits for: what passes with them did not pass by time-out.
fn patient() -> Tuning {
    let long = Duration::from_secs(60);
    Tuning { one_try: long, in_all: 2 * long, silence: long, hedge_start: long, hedge_floor: long, ..Tuning::default() }
}

fn forwarder(upstreams: &[SocketAddr], tcp: bool, tuning: Tuning) -> Forwarder {
    Forwarder::with_tuning(vec![zone(None, upstreams, tcp)], &[], tuning).unwrap()
}

/// Times in which an upstream is found out, and found again, while a test waits.
fn alert() -> Tuning {
    let ms = Duration::from_millis;
    Tuning { silence: ms(60), verdict: ms(400), probe_every: ms(40), ..patient() }
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn rejects(forwarder: &Forwarder) -> Vec<(&'static str, u64)> {
    let stats = forwarder.stats();
    stats[0].1.rejects().filter(|(_, count)| *count > 0).map(|(reason, count)| (reason.word(), count)).collect()
}

#[tokio::test]
async fn wrong_answers_are_passed_over_until_the_right_one_comes() {
    let upstream = udp(|_, query| {
        let with = |at: usize, to: u8| {
            let mut wrong = answer(query, 0, 66);
            wrong[at] ^= to;
            wrong
        };
        let type_at = wire::skip_name(query, HEADER).unwrap();
        let mut lower = answer(query, 0, 1);
        lower[13..16].make_ascii_lowercase();
        vec![
            with(0, 1),           // ID
            with(2, 0x80),        // no response
            with(2, 0x08),        // opcode
            with(5, 3),           // QDCOUNT 2
            with(14, 1),          // name
            with(type_at + 1, 1), // type
            with(type_at + 3, 2), // class
            with(7, 2),           // more records than there are
            query[..5].to_vec(),
            Vec::new(),
            lower,
        ]
    })
    .await;
    let forwarder = forwarder(&[upstream], false, patient());
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 1);
    assert_eq!(rejects(&forwarder), [("id", 1), ("question", 4), ("no-answer", 2), ("malformed", 3)]);
    assert_eq!(forwarder.stats()[0].1.rcodes()[0], 1);
}

#[tokio::test]
async fn an_answer_from_another_address_is_ignored() {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let forger = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let forwarder = forwarder(&[socket.local_addr().unwrap()], false, patient());
    let upstream = async {
        let mut buffer = [0; 512];
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        forger.send_to(&answer(&buffer[..length], 0, 66), from).await.unwrap();
        socket.send_to(&answer(&buffer[..length], 0, 1), from).await.unwrap();
    };
    let asked = query(NAME);
    let (got, ()) = tokio::join!(forwarder.ask(&asked), upstream);
    assert_eq!(last(&got.unwrap()), 1);
}

#[tokio::test]
async fn the_query_is_built_anew_with_the_askers_bits() {
    let (seen, mut queries) = mpsc::unbounded_channel();
    let upstream = udp(move |_, query| {
        seen.send(query.to_vec()).unwrap();
        vec![answer(query, 0, 1)]
    })
    .await;
    let forwarder = forwarder(&[upstream], false, patient());
    let opt = |flags: u8| [0, 0, 41, 4, 0xD0, 0, 0, flags, 0, 0, 0];
    let plain = query(NAME);
    let cases = [
        (plain, [1, 0], Vec::new()),
        (Query { recursion_desired: false, checking_disabled: true, ..plain }, [0, 0x10], Vec::new()),
        (Query { authentic_data: true, edns: Some(false), ..plain }, [1, 0x20], opt(0).to_vec()),
        (Query { edns: Some(true), ..plain }, [1, 0], opt(0x80).to_vec()),
    ];
    for (asked, flags, opt) in cases {
        forwarder.ask(&asked).await.unwrap();
        let sent = queries.recv().await.unwrap();
        let additional = u8::from(!opt.is_empty());
        let rest = [&[0, 1, 0, 0, 0, 0, 0, additional], NAME, &[0, 1, 0, 1], opt.as_slice()].concat();
        assert_eq!((&sent[2..4], &sent[4..]), (flags.as_slice(), rest.as_slice()));
    }
}

#[tokio::test]
async fn a_truncated_answer_is_asked_again_over_tcp() {
    let listener = TcpListener::bind("127.0.0.3:0").await.unwrap();
    let socket = UdpSocket::bind(listener.local_addr().unwrap()).await.unwrap();
    let upstream = serve(socket, |_, query| {
        let mut cut = answer(query, 0, 66);
        cut[2] |= 2;
        cut.truncate(cut.len() - 3);
        vec![cut]
    });
    let forwarder = forwarder(&[upstream], false, patient());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            let query = read_frame(&mut stream).await;
            write_frame(&mut stream, &answer(&query, 0, 1)).await;
        }
        stream
    };
    let asks = async {
        for _ in 0..2 {
            assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 1);
        }
    };
    tokio::join!(server, asks);
}

#[tokio::test]
async fn a_silent_upstream_is_followed_by_the_next() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let second = says(0, 2).await;
    let forwarder = forwarder(&[silent.local_addr().unwrap(), second], false, quick());
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 2);
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again() {
    let upstream = udp(|number, query| if number == 0 { vec![] } else { vec![answer(query, 0, 1)] }).await;
    assert_eq!(last(&forwarder(&[upstream], false, quick()).ask(&query(NAME)).await.unwrap()), 1);
}

#[tokio::test]
async fn an_upstream_that_says_no_is_followed_by_the_next_and_the_last_no_counts() {
    let (good, servfail, refused) = (says(0, 1).await, says(SERVFAIL, 0).await, says(REFUSED, 0).await);
    let cases = [
        (vec![servfail, refused, good], 0),
        (vec![refused, servfail], SERVFAIL),
        (vec![servfail, refused], REFUSED),
        (vec![servfail], SERVFAIL),
    ];
    for (upstreams, rcode) in cases {
        let got = forwarder(&upstreams, false, patient()).ask(&query(NAME)).await.unwrap();
        assert_eq!(got.rcode(), u16::from(rcode), "{upstreams:?}");
    }
}

#[tokio::test]
async fn nxdomain_is_an_answer() {
    let got = forwarder(&[says(3, 0).await, says(0, 1).await], false, patient()).ask(&query(NAME)).await;
    assert_eq!(got.unwrap().rcode(), 3);
}

#[tokio::test]
async fn a_refused_connection_fails_at_once() {
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for tcp in [false, true] {
        let forwarder = forwarder(&[closed], tcp, patient());
        assert_eq!(forwarder.ask(&query(NAME)).await.unwrap_err(), Failure::Unreachable);
        assert_eq!(forwarder.stats()[0].1.errors(), 1);
    }
    let got = forwarder(&[closed, says(0, 2).await], false, patient()).ask(&query(NAME)).await;
    assert_eq!(last(&got.unwrap()), 2);
}

#[tokio::test]
async fn when_all_are_silent_the_time_for_all_tries_is_kept() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (upstream, tcp) in [(silent.local_addr().unwrap(), false), (mute.local_addr().unwrap(), true)] {
        let forwarder = forwarder(&[upstream], tcp, quick());
        let start = Instant::now();
        assert_eq!(forwarder.ask(&query(NAME)).await.unwrap_err(), Failure::Timeout);
        let took = start.elapsed();
        assert!(took >= quick().in_all && took < 3 * quick().in_all, "{took:?}");
        assert_eq!(forwarder.stats()[0].1.timeouts(), 3);
    }
}

#[tokio::test]
async fn tcp_answers_may_come_in_any_order_on_one_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let forwarder = forwarder(&[listener.local_addr().unwrap()], true, patient());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (first, second) = (read_frame(&mut stream).await, read_frame(&mut stream).await);
        assert_ne!(first[..2], second[..2], "IDs differ");
        // Each is told by its name's first letter; a wrong question with a known ID is passed over.
        let mut mixed = answer(&second, 0, 66);
        mixed[..2].copy_from_slice(&first[..2]);
        write_frame(&mut stream, &mixed).await;
        write_frame(&mut stream, &[]).await;
        write_frame(&mut stream, &answer(&second, 0, second[13])).await;
        // In two pieces, as a slow network would.
        let frame = answer(&first, 0, first[13]);
        let frame = [&(frame.len() as u16).to_be_bytes(), frame.as_slice()].concat();
        stream.write_all(&frame[..1]).await.unwrap();
        stream.flush().await.unwrap();
        stream.write_all(&frame[1..]).await.unwrap();
        stream
    };
    let (one, two) = (query(b"\x01a\x07example\0"), query(b"\x01b\x07example\0"));
    let (one, two, _stream) = tokio::join!(forwarder.ask(&one), forwarder.ask(&two), server);
    assert_eq!((last(&one.unwrap()), last(&two.unwrap())), (b'a', b'b'));
    assert_eq!(rejects(&forwarder), [("question", 1), ("malformed", 1)]);
}

#[tokio::test]
async fn a_question_on_a_connection_that_closes_is_asked_once_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let forwarder = forwarder(&[listener.local_addr().unwrap()], true, patient());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_frame(&mut stream).await;
        drop(stream);
        let (mut stream, _) = listener.accept().await.unwrap();
        let query = read_frame(&mut stream).await;
        write_frame(&mut stream, &answer(&query, 0, 1)).await;
        read_frame(&mut stream).await;
        drop(stream);
        let (mut stream, _) = listener.accept().await.unwrap();
        read_frame(&mut stream).await;
    };
    let asks = async {
        assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 1);
        assert_eq!(forwarder.ask(&query(NAME)).await.unwrap_err(), Failure::Unreachable, "twice is enough");
    };
    tokio::join!(server, asks);
}

#[tokio::test]
async fn a_connection_that_fell_silent_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let forwarder = forwarder(&[listener.local_addr().unwrap()], true, quick());
    let server = async {
        let (_silent, _) = listener.accept().await.unwrap();
        // A probe may come too.
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let query = read_frame(&mut stream).await;
            write_frame(&mut stream, &answer(&query, 0, 1)).await;
        }
    };
    let asked = query(NAME);
    tokio::select! {
        got = forwarder.ask(&asked) => assert_eq!(last(&got.unwrap()), 1),
        () = server => {}
    }
}

#[tokio::test]
async fn an_idle_connection_closes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tuning = Tuning { tcp_idle: Duration::from_millis(400), ..patient() };
    let forwarder = forwarder(&[listener.local_addr().unwrap()], true, tuning);
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let query = read_frame(&mut stream).await;
        write_frame(&mut stream, &answer(&query, 0, 1)).await;
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    };
    let asked = query(NAME);
    let (got, ()) = tokio::join!(forwarder.ask(&asked), server);
    got.unwrap();
}

#[tokio::test]
async fn the_longest_zone_takes_a_name() {
    let [root, local, cluster] = [says(0, 1).await, says(0, 2).await, says(0, 3).await];
    let zones = vec![
        zone(None, &[root], false),
        zone(Some("local"), &[local], false),
        zone(Some("cluster.local"), &[cluster, cluster], false),
    ];
    let forwarder = Forwarder::with_tuning(zones, &[], patient()).unwrap();
    let cases: [(&[u8], &str, u8); 4] = [
        (b"\x01a\x07CLUSTER\x05local\0", "cluster.local", 3),
        (b"\x08xcluster\x05local\0", "local", 2),
        (NAME, ".", 1),
        (b"\0", ".", 1),
    ];
    for (name, text, octet) in cases {
        assert_eq!(last(&forwarder.ask(&query(name)).await.unwrap()), octet, "{text}");
        let (zone, upstreams) = forwarder.upstreams_of(name).unwrap();
        let upstreams: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
        assert_eq!((&*zone, upstreams), (text, vec![[root, local, cluster][usize::from(octet) - 1]]));
    }
    let only = Forwarder::new(vec![zone(Some("local"), &[local], false)], &[]).unwrap();
    assert_eq!(only.ask(&query(NAME)).await.unwrap_err(), Failure::NoUpstream);
    assert!(only.upstreams_of(NAME).is_none());
}

#[tokio::test]
async fn a_changed_resolv_conf_is_followed() {
    let first = says(0, 1).await;
    let second = UdpSocket::bind(("127.0.0.2", first.port())).await.unwrap();
    serve(second, |_, query| vec![answer(query, 0, 2)]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    std::fs::write(&path, "nameserver 127.0.0.1\n").unwrap();
    let zones = vec![Zone { zone: None, upstreams: vec![Upstream::ResolvConf(path.clone())], tcp: false }];
    let tuning = Tuning { resolv_port: first.port(), resolv_check: Duration::ZERO, ..patient() };
    let forwarder = Forwarder::with_tuning(zones, &[], tuning).unwrap();
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 1);
    std::fs::write(&path, "nameserver 127.0.0.2 # moved\n").unwrap();
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 2);
    assert_eq!(forwarder.stats().len(), 2, "counters of the old one stay");
}

#[test]
fn mistakes_in_the_configuration_are_told() {
    let at: SocketAddr = "127.0.0.1:53".parse().unwrap();
    let missing = Upstream::ResolvConf(PathBuf::from("/nonexistent/resolv.conf"));
    let cases = [
        (vec![zone(None, &[at], false), zone(None, &[at], false)], "forward: zone . stands there twice"),
        (vec![zone(Some("a"), &[], false)], "forward: zone a has no upstreams"),
        (
            vec![zone(None, &["127.0.0.9:53".parse().unwrap()], false)],
            "forward: upstream 127.0.0.9:53 of zone . is segdns itself, which would be a loop",
        ),
        (
            vec![zone(None, &["127.0.0.1:0".parse().unwrap()], false)],
            "forward: upstream 127.0.0.1:0 of zone . is no address that can be asked",
        ),
        (
            vec![Zone { zone: None, upstreams: vec![missing], tcp: false }],
            "forward: zone .: cannot read /nonexistent/resolv.conf: No such file or directory (os error 2)",
        ),
    ];
    for (zones, want) in cases {
        let own = ["127.0.0.9:53".parse().unwrap()];
        assert_eq!(Forwarder::new(zones, &own).unwrap_err().to_string(), want);
    }
}
