//! Callers never see a mixed world: while objects change all the time, whatever is put together from several of them in one
//! answer (who asks, the name, where it leads to, its addresses and ports) is of one state or of the other as a whole.

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use serde_json::{Value, json};
use support::client::{read_framed, write_framed};
use support::fed::{FAR, Fed, Lab, SHOP};
use support::objects::{merge, namespace, pod, service};
use support::wire;

/// A pod of a namespace that never changes.
const FIX: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 41, 0, 3));
/// How long the world changes: at least, and at most if that was not enough on a busy machine.
const LASTS: [Duration; 2] = [Duration::from_secs(8), Duration::from_secs(60)];
/// Questions that a caller has in flight.
const WINDOW: usize = 16;
/// Every state has to be seen so often in every answer.
const SEEN: usize = 20;
const SRV: u16 = 33;

/// What is answered: the response code, and all records but OPT, in order of their text.
type Said = (u8, Vec<String>);

/// A question, and what it is answered in either state.
struct Asked {
    from: IpAddr,
    name: &'static str,
    rtype: u16,
    either: [Said; 2],
    seen: [AtomicUsize; 2],
}

impl Asked {
    fn new(from: IpAddr, name: &'static str, rtype: u16, either: [(u8, &[&str]); 2]) -> Self {
        let either = either.map(|(code, records)| (code, sorted(records.iter().map(|&text| text.to_owned()))));
        Self { from, name, rtype, either, seen: Default::default() }
    }

    fn is_seen(&self) -> bool {
        self.seen.iter().all(|seen| seen.load(Relaxed) >= SEEN)
    }

    fn query(&self, id: u16) -> Vec<u8> {
        wire::query(id, self.name, self.rtype, true)
    }

    fn check(&self, answer: &[u8]) {
        let message = Message::from_vec(answer).expect("a message");
        let all = message.answers.iter().chain(&message.additionals);
        let records = all.map(|record| match &record.data {
            RData::SRV(srv) => format!("SRV {} {}", srv.port, srv.target),
            data => format!("{} {data}", record.record_type()),
        });
        let said = (answer[3] & 15, sorted(records));
        let state = self.either.iter().position(|state| *state == said);
        let state = state.unwrap_or_else(|| {
            panic!("{} from {}: {said:?}, which is neither of {:?}", self.name, self.from, self.either)
        });
        self.seen[state].fetch_add(1, Relaxed);
    }
}

fn sorted(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = all.collect();
    all.sort_unstable();
    all
}

fn addresses(state: usize) -> Vec<String> {
    (11..=30).map(|n| format!("10.{}.0.{n}", 2 + state)).collect()
}

/// Everything that is one object, and by which much is answered.
fn objects(state: usize) -> [Value; 3] {
    let mut pair = service("fix", "pair", "segment", ["10.0.1.1", "10.0.1.2"][state]);
    pair["spec"]["ports"][0]["port"] = json!([80, 8080][state]);
    let endpoints: Vec<Value> = addresses(state).iter().map(|address| json!({"addresses": [address]})).collect();
    let many = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints,
        "metadata": {"name": "many-1", "namespace": "fix", "labels": {"kubernetes.io/service-name": "many"}},
    });
    // The segment of its Services and of its pods.
    [namespace("shop", [None, Some("other")][state]), pair, many]
}

/// What does not change.
fn cluster() -> Fed {
    let fed = Fed::new(Lab::Double, &json!({"answers": {"takeover": "cname"}}));
    let mut web = service("shop", "web", "segment", "10.0.0.1");
    merge(&mut web, &json!({"metadata": {"labels": {"solo.io/service-takeover": "true"}}}));
    let mut caller = pod("shop", "a", SHOP);
    merge(&mut caller, &json!({"metadata": {"annotations": {"ambient.istio.io/redirection": "enabled"}}}));
    let mut outward = service("shop", "outward", "segment", "");
    outward["spec"] = json!({"type": "ExternalName", "externalName": "web.shop.mesh.acme"});
    let mut many = service("fix", "many", "segment", "None");
    many["spec"]["clusterIP"] = json!("None");
    fed.api.apply_all([namespace("fix", None), web, caller, outward, many, pod("fix", "c", FIX)]);
    fed.api.apply_all(objects(0));
    fed
}

/// What is asked. The names of `shop` follow its namespace's segment, and so does its pod.
fn questions() -> Vec<Asked> {
    let web = "A 10.0.0.1";
    let [many, more] = [addresses(0), addresses(1)].map(|all| all.iter().map(|a| format!("A {a}")).collect::<Vec<_>>());
    let [many, more]: [Vec<&str>; 2] = [&many, &more].map(|all| all.iter().map(String::as_str).collect());
    let acme = "CNAME web.shop.mesh.acme.";
    vec![
        // Forwarded, if caller and Service were of different moments.
        Asked::new(
            SHOP,
            "web.shop.svc.cluster.local",
            1,
            [(0, &[acme, web]), (0, &["CNAME web.shop.mesh.other.", web])],
        ),
        Asked::new(SHOP, "web.shop.mesh.acme", 1, [(0, &[web]), (3, &[])]),
        Asked::new(SHOP, "web.shop.mesh.acme.shop.svc.cluster.local", 1, [(0, &[acme, web]), (3, &[])]),
        // The chain is followed for the same caller.
        Asked::new(SHOP, "outward.shop.mesh.acme", 1, [(0, &[acme, web]), (3, &[])]),
        Asked::new(FAR, "web.shop.mesh.other", 1, [(3, &[]), (0, &[web])]),
        Asked::new(
            FIX,
            "_http._tcp.pair.fix.mesh.acme",
            SRV,
            [(0, &["A 10.0.1.1", "SRV 80 pair.fix.mesh.acme."]), (0, &["A 10.0.1.2", "SRV 8080 pair.fix.mesh.acme."])],
        ),
        Asked::new(FIX, "many.fix.mesh.acme", 1, [(0, &many), (0, &more)]),
    ]
}

/// Asks all that a caller asks, again and again.
fn ask_over_udp(at: SocketAddr, asked: &[&Asked], ended: &AtomicBool) {
    let socket = UdpSocket::bind(SocketAddr::new(asked[0].from, 0)).expect("a socket");
    socket.connect(at).expect("connected");
    socket.set_read_timeout(Some(Duration::from_secs(6))).expect("a timeout");
    let mut buffer = [0; 1500];
    while !ended.load(Relaxed) {
        for n in 0..WINDOW {
            let which = n % asked.len();
            socket.send(&asked[which].query(u16::try_from(which).expect("few"))).expect("sent");
        }
        for _ in 0..WINDOW {
            let length = socket.recv(&mut buffer).expect("an answer in time");
            asked[usize::from(u16::from_be_bytes([buffer[0], buffer[1]]))].check(&buffer[..length]);
        }
    }
}

fn ask_over_tcp(at: SocketAddr, asked: &[&Asked], ended: &AtomicBool) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(asked[0].from, 0).into()).expect("an address");
    socket.connect(&at.into()).expect("connected");
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(6))).expect("a timeout");
    while !ended.load(Relaxed) {
        for (which, asked) in (0..).zip(asked) {
            write_framed(&mut stream, &asked.query(which)).expect("sent");
        }
        for _ in asked {
            let answer = read_framed(&mut stream).expect("an answer in time");
            asked[usize::from(u16::from_be_bytes([answer[0], answer[1]]))].check(&answer);
        }
    }
}

#[test]
fn every_answer_is_of_one_state_of_the_world_as_a_whole() {
    let fed = cluster();
    let server = fed.start();
    fed.until(SHOP, "web.shop.mesh.acme", 0, &["10.0.0.1"]);
    fed.until(FIX, "many.fix.mesh.acme", 0, &addresses(0).iter().map(String::as_str).collect::<Vec<_>>());
    let all = questions();
    let mut callers: BTreeMap<IpAddr, Vec<&Asked>> = BTreeMap::new();
    all.iter().for_each(|asked| callers.entry(asked.from).or_default().push(asked));
    let ended = AtomicBool::new(false);
    let flips = std::thread::scope(|scope| {
        let asking = callers.values().flat_map(|asked| {
            let over_udp = scope.spawn(|| ask_over_udp(fed.at, asked, &ended));
            [over_udp, scope.spawn(|| ask_over_tcp(fed.at, asked, &ended))]
        });
        let asking: Vec<_> = asking.collect();
        let (begun, mut flips) = (Instant::now(), 0);
        let lasts = || begun.elapsed() < LASTS[usize::from(!all.iter().all(Asked::is_seen))];
        while lasts() && !asking.iter().any(std::thread::ScopedJoinHandle::is_finished) {
            flips += 1;
            objects(flips % 2).into_iter().for_each(|object| fed.api.apply(object));
            // The state is to be seen, not only to pass by.
            std::thread::sleep(Duration::from_micros(500));
        }
        ended.store(true, Relaxed);
        flips
    });
    for asked in &all {
        let Asked { from, name, seen, .. } = asked;
        println!("{name} from {from}: {seen:?} answers of either state");
        assert!(asked.is_seen(), "{name} from {from}: {seen:?}");
    }
    println!("{flips} changes of the world");
    assert!(!fed.upstream.asked("web.shop.svc.cluster.local", 1), "caller and Service were of different moments");
    server.stop().expect("it stops");
}
