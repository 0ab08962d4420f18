//! The resolver before a scripted upstream: what is asked, how often, and what is given meanwhile.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message as Theirs, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record};
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::*;
use crate::dns::cache::Options;
use crate::dns::count::Registry;
use crate::dns::forward::{Section, Tuning, Upstream as Address, Zone};
use crate::table::key::Hasher;

/// How the upstream behaves now.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// An address with this last octet and TTL.
    Says(u8, u32),
    Absent,
    Fails,
    Silent,
}

#[derive(Debug)]
struct Upstream {
    address: SocketAddr,
    manner: Mutex<(Manner, Duration)>,
    asked: AtomicUsize,
}

impl Upstream {
    async fn start(manner: Manner) -> Arc<Self> {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = socket.local_addr().unwrap();
        let upstream =
            Arc::new(Self { address, manner: Mutex::new((manner, Duration::ZERO)), asked: AtomicUsize::new(0) });
        let shared = upstream.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
                let query = Theirs::from_vec(&buffer[..length]).unwrap();
                let text = query.queries[0].name.to_ascii();
                if !text.starts_with("segdns-") && !query.queries[0].name.is_root() {
                    shared.asked.fetch_add(1, Relaxed);
                }
                let (manner, after) = *shared.manner.lock().unwrap();
                let Some(answer) = answer(&query, manner) else { continue };
                let socket = socket.clone();
                tokio::spawn(async move {
                    sleep(after).await;
                    socket.send_to(&answer, peer).await.unwrap();
                });
            }
        });
        upstream
    }

    fn set(&self, manner: Manner, after: Duration) {
        *self.manner.lock().unwrap() = (manner, after);
    }

    fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

fn answer(query: &Theirs, manner: Manner) -> Option<Vec<u8>> {
    let mut answer = query.clone();
    answer.metadata.message_type = hickory_proto::op::MessageType::Response;
    let owner = query.queries[0].name.clone();
    match manner {
        Manner::Silent => return None,
        Manner::Fails => answer.metadata.response_code = ResponseCode::ServFail,
        Manner::Says(last, ttl) => {
            answer.answers.push(Record::from_rdata(owner, ttl, RData::A(A(Ipv4Addr::new(192, 0, 2, last)))));
        }
        Manner::Absent => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            let zone = Name::from_ascii("cluster.local.").unwrap();
            let soa = SOA::new(zone.clone(), zone.clone(), 1, 1, 1, 1, 30);
            answer.authorities.push(Record::from_rdata(zone, 30, RData::SOA(soa)));
        }
    }
    answer.to_vec().ok()
}

const LIMITS: Limits = Limits { inflight: 100, per_client: 50 };
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
const NAME: &[u8] = b"\x03www\x07example\x03com\0";

fn resolver(upstreams: &[&Upstream], limits: Limits) -> Arc<Resolver> {
    let upstreams = upstreams.iter().map(|u| Address::Address(u.address)).collect();
    let zones = vec![Zone { zone: None, upstreams, tcp: false }];
    let forwarder = Forwarder::with_tuning(zones, &[], Tuning::default()).unwrap();
    let options = Options { max_ttl: 3600, max_negative_ttl: 30, serve_stale: Duration::from_secs(60), prefetch: true };
    let counts = Registry::default().shared();
    Arc::new(Resolver::new(Arc::new(forwarder), Arc::new(Cache::new(1 << 20, options, Hasher::new(7))), limits, counts))
}

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

/// The last octet of the address, its TTL, and where it came from.
fn told(answer: &Answer) -> (u8, u32, Source) {
    let record = answer.message.records(Section::Answer).next().unwrap();
    (answer.message.wire()[record.data()][3], record.ttl(), answer.source)
}

async fn ask(resolver: &Resolver, name: &[u8]) -> Result<Answer, Failure> {
    resolver.ask(&query(name), CLIENT, None).await
}

#[tokio::test]
async fn a_herd_on_one_cold_name_is_one_question_and_each_gets_the_answer() {
    let upstream = Upstream::start(Manner::Says(1, 60)).await;
    upstream.set(Manner::Says(1, 60), Duration::from_millis(100));
    let resolver = resolver(&[&upstream], Limits { inflight: 1000, per_client: 1000 });
    let spellings: [&[u8]; 2] = [NAME, b"\x03WWW\x07Example\x03com\0"];
    let herd: Vec<_> = (0..200)
        .map(|n| {
            let resolver = resolver.clone();
            tokio::spawn(async move { ask(&resolver, spellings[n % 2]).await })
        })
        .collect();
    for one in herd {
        let (last, _, source) = told(&one.await.unwrap().unwrap());
        assert_eq!((last, source), (1, Source::Upstream));
    }
    assert_eq!(upstream.asked(), 1);
    assert_eq!(told(&ask(&resolver, NAME).await.unwrap()).2, Source::Cache);
    assert_eq!((upstream.asked(), resolver.waiting()), (1, 0));
}

#[tokio::test]
async fn who_started_a_question_may_leave_and_the_others_still_get_the_answer() {
    let upstream = Upstream::start(Manner::Says(1, 60)).await;
    upstream.set(Manner::Says(1, 60), Duration::from_millis(200));
    let resolver = resolver(&[&upstream], LIMITS);
    let spawn = || {
        let resolver = resolver.clone();
        tokio::spawn(async move { ask(&resolver, NAME).await })
    };
    let first = spawn();
    sleep(Duration::from_millis(50)).await;
    let second = spawn();
    sleep(Duration::from_millis(20)).await;
    first.abort();
    assert_eq!(told(&second.await.unwrap().unwrap()).0, 1);
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn what_differs_to_an_upstream_is_asked_by_itself() {
    let upstream = Upstream::start(Manner::Says(1, 0)).await;
    upstream.set(Manner::Says(1, 0), Duration::from_millis(100));
    let resolver = resolver(&[&upstream], LIMITS);
    let base = query(NAME);
    let queries = [
        base,
        Query { edns: Some(false), ..base },
        Query { edns: Some(true), ..base },
        Query { checking_disabled: true, ..base },
        Query { authentic_data: true, ..base },
        Query { recursion_desired: false, ..base },
        Query { rtype: 28, ..base },
    ];
    let all = queries.map(|query| {
        let resolver = resolver.clone();
        tokio::spawn(async move { resolver.ask(&query, CLIENT, None).await })
    });
    for one in all {
        one.await.unwrap().unwrap();
    }
    assert_eq!(upstream.asked(), 6, "only having an OPT makes no difference");
}

#[tokio::test]
async fn after_its_time_an_answer_is_asked_for_first_and_given_if_the_upstream_is_slow_or_fails() {
    let upstream = Upstream::start(Manner::Says(1, 1)).await;
    let resolver = resolver(&[&upstream], LIMITS);
    assert_eq!(told(&ask(&resolver, NAME).await.unwrap()), (1, 1, Source::Upstream));
    sleep(Duration::from_millis(1100)).await;
    upstream.set(Manner::Says(2, 1), Duration::ZERO);
    assert_eq!(told(&ask(&resolver, NAME).await.unwrap()), (2, 1, Source::Upstream), "asked first");
    sleep(Duration::from_millis(1100)).await;
    upstream.set(Manner::Says(3, 60), Duration::from_millis(700));
    let start = Instant::now();
    assert_eq!(told(&ask(&resolver, NAME).await.unwrap()), (2, 30, Source::Stale));
    assert!((PATIENCE..PATIENCE * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
    sleep(Duration::from_millis(600)).await;
    assert_eq!(told(&ask(&resolver, NAME).await.unwrap()).0, 3, "the late answer was kept");
}

#[tokio::test]
async fn a_stale_answer_is_refreshed_under_constant_load_once_the_upstream_is_back() {
    let upstream = Upstream::start(Manner::Says(1, 1)).await;
    let resolver = resolver(&[&upstream], LIMITS);
    ask(&resolver, NAME).await.unwrap();
    sleep(Duration::from_millis(1100)).await;
    upstream.set(Manner::Fails, Duration::ZERO);
    let start = Instant::now();
    assert_eq!(told(&ask(&resolver, NAME).await.unwrap()), (1, 30, Source::Stale));
    assert!(start.elapsed() < PATIENCE, "an error is not waited for");
    upstream.set(Manner::Says(2, 60), Duration::ZERO);
    let back = Instant::now();
    loop {
        // What failed is not asked again for five seconds.
        assert!(back.elapsed() < Duration::from_secs(7), "not refreshed although it is asked all the time");
        if told(&ask(&resolver, NAME).await.unwrap()).0 == 2 {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert!(upstream.asked() < 5, "{} questions", upstream.asked());
}

#[tokio::test]
async fn a_popular_name_is_asked_for_again_before_its_end_and_nobody_waits_for_that() {
    let upstream = Upstream::start(Manner::Says(1, 3)).await;
    let resolver = resolver(&[&upstream], LIMITS);
    for _ in 0..8 {
        ask(&resolver, NAME).await.unwrap();
    }
    upstream.set(Manner::Says(2, 60), Duration::from_millis(200));
    sleep(Duration::from_millis(2200)).await;
    for _ in 0..5 {
        assert_eq!(told(&ask(&resolver, NAME).await.unwrap()), (1, 1, Source::Cache));
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(upstream.asked(), 2, "once, whoever asks");
    sleep(Duration::from_millis(400)).await;
    assert_eq!(told(&ask(&resolver, NAME).await.unwrap()).0, 2);
    assert_eq!(upstream.asked(), 2);
}

#[tokio::test]
async fn one_denial_serves_for_every_name_that_the_table_knows_not_to_exist() {
    let upstream = Upstream::start(Manner::Absent).await;
    let resolver = resolver(&[&upstream], LIMITS);
    let absent = |label: &str| {
        let mut name = vec![label.len() as u8];
        name.extend(label.as_bytes());
        name.extend(b"\x03com\x04shop\x03svc\x07cluster\x05local\0");
        name
    };
    let proof = Some(&b"\x03svc\x07cluster\x05local"[..]);
    for (label, source, asked) in
        [("github", Source::Upstream, 1), ("gitlab", Source::Cache, 1), ("github", Source::Cache, 1)]
    {
        let answer = resolver.ask(&query(&absent(label)), CLIENT, proof).await.unwrap();
        assert_eq!((answer.message.rcode(), answer.source, upstream.asked()), (3, source, asked), "{label}");
        let soa = answer.message.records(Section::Authority).next().unwrap();
        assert_eq!((soa.rtype(), soa.owner()), (6, b"\x07cluster\x05local\0".to_vec()), "{label}");
    }
    let other = resolver.ask(&query(&absent("other")), CLIENT, None).await.unwrap();
    assert_eq!((other.source, upstream.asked()), (Source::Upstream, 2), "without a proof it is asked");
}

#[tokio::test]
async fn a_denial_of_another_zone_proves_nothing() {
    let upstream = Upstream::start(Manner::Absent).await;
    let resolver = resolver(&[&upstream], LIMITS);
    let proof = Some(&b"\x03svc\x05other\x05local"[..]);
    let name = |label: u8| [b"\x01", &[label], &b"\x03svc\x05other\x05local\0"[..]].concat();
    for (label, asked) in [(b'a', 1), (b'b', 2)] {
        resolver.ask(&query(&name(label)), CLIENT, proof).await.unwrap();
        assert_eq!(upstream.asked(), asked);
    }
}

#[tokio::test]
async fn a_client_with_too_many_questions_is_told_so_at_once_and_a_stale_answer_is_better() {
    let upstream = Upstream::start(Manner::Says(1, 1)).await;
    let resolver = resolver(&[&upstream], Limits { inflight: 3, per_client: 2 });
    ask(&resolver, NAME).await.unwrap();
    sleep(Duration::from_millis(1100)).await;
    upstream.set(Manner::Silent, Duration::ZERO);
    let waiting = [b'a', b'b'].map(|label| {
        let resolver = resolver.clone();
        tokio::spawn(async move { ask(&resolver, &[1, label, 0]).await })
    });
    sleep(Duration::from_millis(100)).await;
    assert_eq!(resolver.waiting(), 2);
    assert_eq!(ask(&resolver, b"\x01c\0").await.unwrap_err(), Failure::Busy, "its own limit");
    let start = Instant::now();
    assert_eq!(told(&ask(&resolver, NAME).await.unwrap()).2, Source::Stale);
    assert!(start.elapsed() < PATIENCE);
    let other = IpAddr::from([10, 1, 0, 2]);
    let third = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.ask(&query(b"\x01d\0"), other, None).await }
    });
    sleep(Duration::from_millis(50)).await;
    let last = IpAddr::from([10, 1, 0, 3]);
    assert_eq!(resolver.ask(&query(b"\x01e\0"), last, None).await.unwrap_err(), Failure::Busy, "the limit of all");
    third.abort();
    for one in waiting {
        one.await.unwrap().unwrap_err();
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(resolver.waiting(), 0, "flights end by themselves");
}
