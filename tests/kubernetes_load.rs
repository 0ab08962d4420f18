//! What a node costs the API server and itself, by the number of Services, and how soon a change is answered.
//!
//! `cargo test` does so with a small cluster. The measurements of docs/sources.md, "What it costs", are its output with
//! `SEGDNS_LOAD_SERVICES=100000 SEGDNS_LOAD_CHANGES=3000 cargo test --release --test kubernetes_load -- --nocapture --test-threads 1`,
//! which takes minutes, and gigabytes.

mod load;
mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use load::cluster::{address, is_headless, mesh_name, objects, place, service, slice};
use load::meter::{Asked, Propagation, busy, mb, memory, ready, saved, settled};
use load::wire::{Askers, Caller, Job, Noise, Wanted, ms, times, within};
use load::{cluster, from_env};
use serde_json::{Value, json};
use support::apiserver::{ApiServer, Observed, Request, Streaming, Verb};
use support::fed::{Api, Fed, Lab, SHOP, SOON, base};
use support::objects::pod;
use support::server::Server;

/// What the local cluster is watched for.
const LOCAL: [&str; 8] =
    ["namespaces", "services", "endpointslices", "pods", "segments", "serviceentries", "workloadentries", "secrets"];
/// What a peer is.
const PEER: [&str; 4] = ["namespaces", "services", "endpointslices", "segments"];
/// How soon a change is answered: the goal of a release build, and what a debug build beside other tests must keep.
const GOAL: Duration = if cfg!(debug_assertions) { Duration::from_secs(1) } else { Duration::from_millis(20) };
/// How long the largest cluster may take.
const LONG: Duration = Duration::from_secs(120);

/// A cluster of so many Services, of which those of the first namespaces are published.
fn fill(api: &Api, count: u32, published: u32) {
    api.double().set_managed_fields(true);
    api.apply_all(base());
    for object in objects(count, published) {
        api.apply(object);
    }
}

fn fed(count: u32, published: u32, extra: &Value) -> Fed {
    let fed = Fed::empty(Lab::Double, extra);
    fill(&fed.api, count, published);
    fed.api.apply(pod("shop", "a", SHOP));
    fed
}

fn open(o: &Observed) -> Vec<&str> {
    let mut open: Vec<&str> = o.of(Verb::Watch, "*").filter(|r| r.open).map(|r| r.resource.as_str()).collect();
    open.sort_unstable();
    open
}

fn sorted<const N: usize>(mut words: [&str; N]) -> Vec<&str> {
    words.sort_unstable();
    words.into()
}

#[test]
fn a_node_asks_for_each_object_once_and_then_for_changes_only() {
    let fed = fed(200, 1, &json!({}));
    let there = Lab::Double.api_server();
    fill(&there, 200, 1);
    fed.join("there", &there);
    let (here, there) = (fed.api.double(), there.double());
    for api in [here, there] {
        api.bookmarks(Some(Duration::from_millis(50)));
    }
    let server = fed.start();
    let watched = |o: &Observed| open(o) == sorted(PEER);
    there.wait_for("the peer's watches", SOON, watched).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(here.observed(|o| open(o).join(" ")), sorted(LOCAL).join(" "));
    for api in [here, there] {
        let asked = Asked::until_now(api);
        // Each object once: 200 Services of about 3 kB, 200 slices of about 2.8 kB, and a little beside.
        assert!(asked.lists == 0 && asked.octets < 1_400_000, "{asked:?}");
        // One connection for each watch, and one that listed or was refused.
        let connections = api.observed(Observed::connections);
        assert!(connections <= asked.watches + 1, "{connections} connections for {} watches", asked.watches);
    }
    quiet_costs_bookmarks_only(here);
    a_change_costs_one_event(&fed, here);
    server.stop().expect("it stops");
}

/// While nothing changes, nothing is asked.
fn quiet_costs_bookmarks_only(api: &ApiServer) -> u64 {
    let before = Asked::until_now(api);
    let each = |o: &Observed| -> u64 { o.of(Verb::Watch, "*").filter(|r| r.open).map(|r| r.octets).min().unwrap_or(0) };
    let start = api.observed(each);
    // Some bookmarks on every watch.
    api.wait_for("bookmarks", SOON, |o| each(o) > start + 500).unwrap_or_else(|e| panic!("{e}"));
    let cost = Asked::until_now(api).since(&before);
    assert_eq!((cost.lists, cost.watches), (0, 0), "nothing is asked while nothing changes");
    cost.octets
}

fn a_change_costs_one_event(fed: &Fed, api: &ApiServer) {
    let of = |resource: &str| api.observed(|o| o.octets(resource));
    let before = (Asked::until_now(api), of("services"));
    fed.api.apply(service(7, Some(Ipv4Addr::new(10, 200, 0, 7))));
    fed.until(SHOP, &mesh_name(7), 0, &["10.200.0.7"]);
    let cost = Asked::until_now(api).since(&before.0);
    assert_eq!((cost.lists, cost.watches), (0, 0));
    let octets = of("services") - before.1;
    assert!((1000..10_000).contains(&octets), "{octets} octets for a change of one Service");
}

#[test]
fn without_lists_in_streams_each_resource_is_read_in_pages_once() {
    let fed = fed(600, 3, &json!({}));
    let api = fed.api.double();
    api.streaming_lists(Streaming::Refused);
    let server = fed.start();
    let watched = |o: &Observed| {
        let open = o.of(Verb::Watch, "*").filter(|r| r.open && r.code == Some(200)).count();
        open == LOCAL.len()
    };
    api.wait_for("all watches", SOON, watched).unwrap_or_else(|e| panic!("{e}"));
    let requests = api.requests();
    let pages = |plural: &str| {
        requests.iter().filter(|r: &&Request| r.verb == Some(Verb::List) && r.resource == plural).count()
    };
    assert_eq!(LOCAL.map(pages), [1, 2, 2, 1, 1, 1, 1, 1], "of {LOCAL:?}");
    server.stop().expect("it stops");
}

/// One line of the table in docs/sources.md.
struct Measured {
    services: u32,
    published: String,
    streamed: Asked,
    start: Duration,
    processor: Duration,
    after_start: u64,
    most: u64,
    after_relist: u64,
    saved: u64,
}

impl Measured {
    /// A Service and its EndpointSlice are some 5 kB to read and 2.5 kB to hold; twice that is too much.
    fn bounded(self) -> Self {
        let services = u64::from(self.services);
        assert!(self.streamed.octets < services * 10_000, "{} octets were read", self.streamed.octets);
        let resident = (64 << 20) + services * 5_000;
        assert!(self.most < resident, "{} MB were resident", mb(self.most));
        assert!(self.after_relist < resident, "{} MB are resident after a relist", mb(self.after_relist));
        assert!(self.saved < services * 1_000, "{} MB were saved", mb(self.saved));
        self
    }

    fn row(&self) -> String {
        let Self { services, published, streamed, start, processor, after_start, most, after_relist, saved } = self;
        format!(
            "| {services} | {published} | {} | {} MB | {:.1} s | {:.1} s | {} MB | {} MB | {} MB | {} MB |",
            streamed.lists + streamed.watches,
            mb(streamed.octets),
            start.as_secs_f64(),
            processor.as_secs_f64(),
            mb(*after_start),
            mb(*most),
            mb(*after_relist),
            mb(*saved),
        )
    }
}

fn measure(services: u32, published: u32, streaming: Streaming) -> Measured {
    let fed = fed(services, published, &json!({}));
    let api = fed.api.double();
    api.streaming_lists(streaming);
    let mut server = fed.spawn();
    let start = ready(&mut server, Instant::now(), LONG);
    let saved = saved(fed.dir.path(), LONG);
    let (streamed, processor) = (Asked::until_now(api), busy(&server));
    let (after_start, most) = (settled(&server), memory(&server, "VmHWM"));
    let relisted = relist(&fed, api);
    eprintln!("{services} Services: read again in {:.1} s", relisted.as_secs_f64());
    let whole = cluster::PER_NAMESPACE * published >= services;
    let share = if whole { "all".to_owned() } else { (published * cluster::PER_NAMESPACE).to_string() };
    let measured = Measured {
        services,
        published: share,
        streamed,
        start,
        processor,
        after_start,
        most,
        after_relist: settled(&server),
        saved,
    };
    server.stop().expect("it stops");
    measured
}

/// The API server restarts and has forgotten what was watched: everything is read again. Ends when that is done.
fn relist(fed: &Fed, api: &ApiServer) -> Duration {
    let (begun, old) = (Instant::now(), api.observed(|o| o.requests.len()));
    api.restart(Duration::ZERO, Duration::ZERO);
    let again = |o: &Observed| {
        let open = |plural: &&str| {
            o.requests[old..].iter().any(|r| r.open && r.resource == **plural && r.verb == Some(Verb::Watch))
        };
        LOCAL.iter().all(open)
    };
    api.wait_for("all watches again", LONG, again).unwrap_or_else(|e| panic!("{e}"));
    // A change is answered only when the list before it has been read.
    let probe = Caller::new(SHOP, fed.at);
    fed.api.apply(service(3, Some(Ipv4Addr::new(10, 201, 0, 3))));
    probe.until(&mesh_name(3), Wanted::Address(Ipv4Addr::new(10, 201, 0, 3)));
    begun.elapsed()
}

#[test]
fn what_a_cluster_costs_grows_with_its_objects() {
    let largest = from_env("SEGDNS_LOAD_SERVICES", 1_000);
    let mut rows = Vec::new();
    for services in [1_000, 10_000, 100_000].into_iter().filter(|n| *n <= largest) {
        let namespaces = services.div_ceil(cluster::PER_NAMESPACE);
        for published in [namespaces, namespaces.div_ceil(100)] {
            let measured = measure(services, published, Streaming::On);
            assert_eq!(measured.streamed.lists, 0, "lists come in watches");
            rows.push(measured.bounded().row());
        }
        let paged = measure(services, namespaces, Streaming::Refused).bounded();
        rows.push(paged.row().replacen("| all |", "| all, in pages |", 1));
    }
    println!(
        "| Services | published | requests | read | ready after | processor | resident | at most | after a relist | saved |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    rows.iter().for_each(|row| println!("{row}"));
    costs_of_quiet_and_change();
}

fn costs_of_quiet_and_change() {
    let fed = fed(200, 1, &json!({}));
    let api = fed.api.double();
    api.bookmarks(Some(Duration::from_millis(50)));
    let server = fed.start();
    let watches = api.observed(|o| o.of(Verb::Watch, "*").filter(|r| r.open).count());
    let octets = |api: &ApiServer| api.observed(|o| o.octets("*"));
    let (begun, before) = (Instant::now(), octets(api));
    quiet_costs_bookmarks_only(api);
    let rounds = begun.elapsed().as_millis() / 50;
    let one = (octets(api) - before) / u64::try_from(rounds).unwrap_or(1).max(1);
    // The API server sends a bookmark about once a minute, and each watch is asked for again after 240 to 300 s.
    println!(
        "{watches} watches: {one} octets for a bookmark on each, {} kB an hour, {} requests",
        one * 60 / 1000,
        watches * 3600 / 270
    );
    for (what, object, net) in
        [("Service", service(7, Some(address(20, 7))), 20), ("EndpointSlice", slice(9, &[30]), 30)]
    {
        let (plural, n) = if what == "Service" { ("services", 7) } else { ("endpointslices", 9) };
        // Bookmarks would count, too.
        api.freeze("secrets");
        let before = api.observed(|o| o.octets(plural));
        fed.api.apply(object);
        Caller::new(SHOP, fed.at).until(&mesh_name(n), Wanted::Address(address(net, n)));
        println!("a change of one {what}: {} octets", api.observed(|o| o.octets(plural)) - before);
    }
    server.stop().expect("it stops");
}

/// Pods that come and go, as callers.
fn caller(n: u32) -> IpAddr {
    let [_, _, a, b] = n.to_be_bytes();
    Ipv4Addr::new(127, 42, a, b).into()
}

/// The kinds of changes, in turn: what is changed in the API server, and who is to be answered what.
fn change(api: &ApiServer, round: u32, count: u32) -> (Vec<Value>, Job) {
    let [_, _, _, low] = round.to_be_bytes();
    let net = 20 + low % 50;
    // Each kind has a tenth of the Services, and every Service its time to settle.
    let nth = |kind: u32| (round / 10 * 10 % count) + kind;
    let job = |what, n: u32, wanted| Job { what, made: Instant::now(), from: SHOP, name: mesh_name(n), wanted };
    match round % 10 {
        kind @ (0..=3 | 8) => {
            let n = nth(kind);
            (vec![service(n, Some(address(net, n)))], job("ClusterIP", n, Wanted::Address(address(net, n))))
        }
        4..=6 => {
            let n = (round % (count / 10)) * 10 + 9;
            assert!(is_headless(n), "its endpoints are its addresses");
            (vec![slice(n, &[net])], job("endpoints", n, Wanted::Address(address(net, n))))
        }
        7 => {
            let n = nth(7);
            let (ns, name) = place(n);
            let mut object = api.get("v1", "Service", &ns, &name).expect("a Service");
            let hide = object["metadata"]["labels"]["solo.io/service-scope"].is_null();
            let labels = object["metadata"]["labels"].as_object_mut().expect("labels");
            if hide {
                labels.insert("solo.io/service-scope".to_owned(), "cluster".into());
            } else {
                labels.remove("solo.io/service-scope");
            }
            (vec![object], job("scope", n, Wanted::Code(if hide { 3 } else { 0 })))
        }
        _ => {
            let from = caller(round);
            let name = mesh_name(4);
            let job = Job { what: "Pod", made: Instant::now(), from, name, wanted: Wanted::Code(0) };
            (vec![pod("shop", &format!("p{round}"), from)], job)
        }
    }
}

/// Makes 100 changes a second, and prints how soon they were answered.
fn propagation(count: u32, rounds: u32, extra: &Value) -> (Propagation, Vec<Duration>) {
    let fed = fed(count, count.div_ceil(cluster::PER_NAMESPACE), extra);
    let mut server = fed.spawn();
    let _ = ready(&mut server, Instant::now(), LONG);
    if !extra["sources"]["snapshot"].is_null() || extra["sources"].is_null() {
        let _ = saved(fed.dir.path(), LONG);
    }
    let before = Propagation::read(&server);
    let steady: Vec<String> = (0..20).map(|n| mesh_name(n * 10 + 5)).collect();
    let noise = Noise::start(SHOP, fed.at, steady);
    let mut askers = Askers::start(3, fed.at);
    let (api, begun) = (fed.api.double(), Instant::now());
    for round in 0..rounds {
        let (objects, mut job) = change(api, round, count);
        // As many a second, however long each takes.
        let at = begun + Duration::from_millis(10) * round;
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        job.made = Instant::now();
        objects.into_iter().for_each(|object| fed.api.apply(object));
        askers.give(job);
        if round >= 100 && round % 10 == 9 {
            fed.api.delete("v1", "Pod", "shop", &format!("p{}", round - 100));
        }
    }
    let lasted = begun.elapsed();
    let kinds = askers.finish();
    let took = times(&kinds, None);
    let others = noise.stop();
    let own = Propagation::read(&server).since(&before);
    println!(
        "{count} Services, {rounds} changes in {:.1} s\n  on the wire: p50 {} ms, p99 {} ms, worst {} ms\n  \
         segdns_table_propagation_seconds: mean {:.2} ms, p50 <= {} ms, p99 <= {} ms\n  \
         other names meanwhile, {} answers: p50 {} ms, p99 {} ms, worst {} ms",
        lasted.as_secs_f64(),
        ms(within(&took, 500)),
        ms(within(&took, 990)),
        ms(within(&took, 1000)),
        own.mean(),
        own.within(500),
        own.within(990),
        others.len(),
        ms(within(&others, 500)),
        ms(within(&others, 990)),
        ms(within(&others, 1000)),
    );
    for what in ["ClusterIP", "endpoints", "scope", "Pod"] {
        let took = times(&kinds, Some(what));
        println!("  {what}: p50 {} ms, p99 {} ms", ms(within(&took, 500)), ms(within(&took, 990)));
    }
    burst(&fed, &server, count);
    server.stop().expect("it stops");
    (own, took)
}

/// A thousand changes at once: the first is answered while the others come.
fn burst(fed: &Fed, server: &Server, count: u32) {
    let burst = (count / 2).min(1000);
    let before = Propagation::read(server);
    // Names in the order in which the API server tells them.
    let all: Vec<u32> =
        (0..count).filter(|n| !is_headless(*n) && n % 10 != 7).take(usize::try_from(burst).unwrap_or(0)).collect();
    let objects: Vec<Value> = all.iter().map(|n| service(*n, Some(address(90, *n)))).collect();
    let mut askers = Askers::start(2, fed.at);
    let made = Instant::now();
    fed.api.double().apply_all(objects);
    for n in [all[0], all[all.len() - 1]] {
        askers.give(Job {
            what: "burst",
            made,
            from: SHOP,
            name: mesh_name(n),
            wanted: Wanted::Address(address(90, n)),
        });
    }
    let took = times(&askers.finish(), None);
    let own = Propagation::read(server).since(&before);
    println!(
        "  {burst} changes at once: on the wire, the first {} ms, the last {} ms; by segdns's own count, {} within {} ms",
        ms(took[0]),
        ms(took[1]),
        own.count(),
        own.within(1000)
    );
    assert!(took[1] < SOON, "the last of a burst took {:?}", took[1]);
}

#[test]
fn a_hundred_changes_a_second_are_answered_soon() {
    let count = from_env("SEGDNS_LOAD_SERVICES", 2_000);
    let rounds = from_env("SEGDNS_LOAD_CHANGES", 300);
    for (what, extra) in [("state is saved", json!({})), ("nothing is saved", json!({"sources": {"snapshot": null}}))] {
        println!("{what}:");
        let (own, took) = propagation(count, rounds, &extra);
        // Several changes may be told by one event, and never one by none.
        assert!(own.count() >= u64::from(rounds), "{own:?}");
        assert_eq!(took.len(), rounds as usize);
        let p99 = within(&took, 990);
        assert!(p99 <= GOAL, "p99 {p99:?}");
        // It counts up to the next edge, which is at most twice as far.
        assert!(own.within(990) <= 2e3 * GOAL.as_secs_f64(), "{own:?}");
    }
}
