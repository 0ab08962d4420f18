//! Everything changes all the time, API servers restart, a peer comes and goes: at the end the table is what the API servers
//! have, as if it had been read from manifests.
//!
//! `SEGDNS_CHURN_SECONDS=600 cargo test --release --test kubernetes_churn -- --nocapture` is the long one; `cargo test` runs
//! it for some seconds. `SEGDNS_CHURN_SEED` repeats a run.

mod load;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use load::from_env;
use load::meter::{memory, open_files};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use support::apiserver::{ApiServer, Verb};
use support::fed::{Api, Fed, Lab, SHOP, base};
use support::objects::{namespace, pod, segment, service, slice};
use support::{run, server::Server};

const SERVICES: u32 = 1000;
const NAMESPACES: u32 = 20;
/// 20 changes a second.
const EVERY: Duration = Duration::from_millis(50);
/// How long it may take until everything has been read after the last change; the API server's restarts cost seconds.
const QUIET: Duration = Duration::from_secs(60);
const SCOPES: [&str; 4] = ["global", "segment", "cluster", "global-only"];
const SEGMENTS: [&str; 3] = ["acme", "other", "third"];

/// The API servers, and what has been done to them.
struct Churn<'a> {
    fed: &'a Fed,
    there: &'a Api,
    random: StdRng,
    done: BTreeMap<&'static str, u32>,
    joined: bool,
}

/// Namespace and name of a Service that may or may not be there.
fn place(n: u32) -> (String, String) {
    (format!("ns-{}", n % NAMESPACES), format!("svc-{n}"))
}

fn entry(n: u32, net: u8) -> Value {
    let (ns, name) = place(n);
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": {
            "name": format!("{ns}.{name}"), "namespace": "istio-system",
            "labels": {"solo.io/parent-service": name, "solo.io/parent-service-namespace": ns, "admin.solo.io/segment": "acme"},
        },
        "spec": {"hosts": [format!("{name}.{ns}.mesh.acme")], "addresses": [format!("240.240.{net}.{}", n % 250)]},
    })
}

impl Churn<'_> {
    fn fill(&mut self) {
        for api in [&self.fed.api, self.there] {
            api.apply_all(base());
            api.apply_all((0..NAMESPACES).map(|n| namespace(&format!("ns-{n}"), None)));
        }
        for n in 0..SERVICES {
            let api = if n % 4 == 0 { self.there } else { &self.fed.api };
            let (ns, name) = place(n);
            api.apply(service(
                &ns,
                &name,
                SCOPES[usize::try_from(n % 3).unwrap_or(0)],
                &format!("10.1.{}.{}", n / 250, n % 250),
            ));
            api.apply(slice(&ns, &name, &format!("10.2.{}.{}", n / 250, n % 250)));
        }
    }

    /// Either cluster; the local one more often.
    fn api(&mut self) -> &ApiServer {
        if self.random.random_ratio(1, 4) { self.there.double() } else { self.fed.api.double() }
    }

    fn drop(&mut self, api_version: &str, kind: &str, ns: &str, name: &str) {
        let api = self.api();
        if api.get(api_version, kind, ns, name).is_some() {
            api.delete(api_version, kind, ns, name);
        }
    }

    /// One change, of any kind.
    fn change(&mut self) {
        let n = self.random.random_range(0..SERVICES + SERVICES / 10);
        let [a, b]: [u8; 2] = self.random.random();
        let (ns, name) = place(n);
        let what = match self.random.random_range(0..100) {
            0..30 => {
                let scope = SCOPES.choose(&mut self.random).copied().unwrap_or_default();
                self.api().apply(service(&ns, &name, scope, &format!("10.3.{a}.{b}")));
                "Services put"
            }
            30..40 => {
                self.drop("v1", "Service", &ns, &name);
                "Services deleted"
            }
            40..62 => {
                let mut object = slice(&ns, &name, &format!("10.4.{a}.{b}"));
                object["endpoints"][0]["conditions"] = json!({"ready": a % 4 != 0});
                self.api().apply(object);
                "EndpointSlices put"
            }
            62..68 => {
                self.drop("discovery.k8s.io/v1", "EndpointSlice", &ns, &format!("{name}-1"));
                "EndpointSlices deleted"
            }
            68..82 => self.change_pod(a),
            82..88 => self.change_namespace(n),
            88..90 => self.change_segment(a),
            90..98 => {
                if a % 3 == 0 {
                    self.drop("networking.istio.io/v1", "ServiceEntry", "istio-system", &format!("{ns}.{name}"));
                } else {
                    self.fed.api.apply(entry(n, a));
                }
                "ServiceEntries"
            }
            _ => self.join_or_part(),
        };
        *self.done.entry(what).or_default() += 1;
    }

    fn change_pod(&mut self, n: u8) -> &'static str {
        let name = format!("p{n}");
        if self.random.random_ratio(1, 3) {
            self.drop("v1", "Pod", "shop", &name);
        } else {
            // Pods of the other cluster are nobody's business here.
            self.fed.api.apply(pod("shop", &name, IpAddr::V4(Ipv4Addr::new(127, 43, 0, n))));
        }
        "Pods"
    }

    fn change_namespace(&mut self, n: u32) -> &'static str {
        let name = format!("ns-{}", n % NAMESPACES);
        let of = [None, Some("acme"), Some("other"), Some("third"), Some("nosuch")].choose(&mut self.random).copied();
        let mut object = namespace(&name, of.flatten());
        if n.is_multiple_of(5) {
            object["metadata"]["labels"]["solo.io/service-scope"] = "global".into();
        }
        self.api().apply(object);
        "Namespaces"
    }

    fn change_segment(&mut self, n: u8) -> &'static str {
        let name = SEGMENTS.choose(&mut self.random).copied().unwrap_or_default();
        // Acme stays, or there would be little to see for most of the time.
        if name == "third" && n.is_multiple_of(3) {
            self.drop("admin.solo.io/v1alpha1", "Segment", "istio-system", name);
        } else {
            let domain = if name == "acme" { "mesh.acme".to_owned() } else { format!("mesh{}.{name}", n % 2) };
            self.api().apply(segment(name, &domain));
        }
        "Segments"
    }

    fn join_or_part(&mut self) -> &'static str {
        if self.joined {
            self.fed.part("there");
        } else {
            self.fed.join("there", self.there);
        }
        self.joined = !self.joined;
        "peer joined or left"
    }

    /// Changes for so long, 20 a second; three times an API server restarts, each time in another way.
    fn run(&mut self, time: Duration) {
        let begun = Instant::now();
        let mut faults = 0_u32;
        for round in 0.. {
            let due = begun + EVERY * round;
            if due >= begun + time {
                return;
            }
            // As many a second, however long each takes.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if begun.elapsed() > time * (faults + 1) / 4 && faults < 3 {
                self.restart(faults);
                faults += 1;
            }
            self.change();
        }
    }

    fn restart(&mut self, which: u32) {
        for api in [self.fed.api.double(), self.there.double()] {
            match which {
                0 => api.restart(Duration::from_millis(300), Duration::from_millis(300)),
                1 => api.stop(),
                _ => api.cut_mid_line(),
            }
        }
        if which == 1 {
            // While it is away, things happen there, and what was watched before is forgotten.
            for _ in 0..40 {
                self.change();
            }
            for api in [self.fed.api.double(), self.there.double()] {
                api.compact();
                api.resume();
            }
        }
        *self.done.entry("restarts of both API servers").or_default() += 1;
    }
}

/// What there is to be, read from manifests: the API servers' objects, as they are now.
fn expected(dir: &Path, clusters: &[(&str, &Api)], what: &str) -> Value {
    let mut args = vec![what.to_owned(), "-o".to_owned(), "json".to_owned()];
    for (name, api) in clusters {
        let path = dir.join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        let objects: Vec<Value> = api.double().snapshot().into_iter().filter(|o| o["kind"] != "Secret").collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        std::fs::write(path.join("all.yaml"), list.to_string()).expect("a manifest");
        args.extend(["--manifests".to_owned(), format!("{name}={}", path.display())]);
    }
    said(&args)
}

fn said(args: &[String]) -> Value {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ran = run(&args);
    assert!(ran.status < 2, "{args:?}: {ran:?}");
    ran.json()
}

fn told(server: &Server, what: &str) -> Value {
    said(&[what, "-o", "json", "--server", &server.admin().to_string()].map(str::to_owned))
}

/// Rows that only one of the two has, as text.
fn difference(got: &Value, wanted: &Value) -> Vec<String> {
    let rows = |value: &Value| -> BTreeSet<String> {
        let list = value.as_array().or_else(|| value.as_object()?.values().find_map(Value::as_array));
        list.map(|all| all.iter().map(ToString::to_string).collect()).unwrap_or_default()
    };
    let (got, wanted) = (rows(got), rows(wanted));
    let extra = got.difference(&wanted).map(|row| format!("served, but not there: {row}"));
    extra.chain(wanted.difference(&got).map(|row| format!("there, but not served: {row}"))).collect()
}

/// Waits until what is served is what is there.
fn settles(server: &Server, what: &str, wanted: &Value) {
    let end = Instant::now() + QUIET;
    loop {
        let got = told(server, what);
        let difference = difference(&got, wanted);
        if got == *wanted {
            return;
        }
        let first: Vec<&String> = difference.iter().take(5).collect();
        assert!(Instant::now() < end, "{what}: {} rows differ: {first:#?}", difference.len());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn after_churn_and_restarts_the_table_is_what_the_api_servers_have() {
    let seconds = from_env("SEGDNS_CHURN_SECONDS", 15);
    let seed = from_env("SEGDNS_CHURN_SEED", rand::random());
    println!("SEGDNS_CHURN_SEED={seed}, {seconds} s");
    let fed = Fed::empty(Lab::Double, &json!({}));
    let there = Lab::Double.api_server();
    let random = StdRng::seed_from_u64(seed.into());
    let mut churn = Churn { fed: &fed, there: &there, random, done: BTreeMap::new(), joined: false };
    churn.fill();
    fed.api.apply(pod("shop", "a", SHOP));
    churn.join_or_part();
    let server = fed.start();
    settles(&server, "table", &expected(fed.dir.path(), &[("here", &fed.api), ("there", &there)], "table"));
    let cost = |server: &Server| (memory(server, "VmRSS"), open_files(server));
    let before = cost(&server);
    churn.run(Duration::from_secs(seconds.into()));
    if !churn.joined {
        churn.join_or_part();
    }
    println!("{:?}", churn.done);
    let clusters = [("here", &fed.api), ("there", &there)];
    for what in ["table", "check"] {
        settles(&server, what, &expected(fed.dir.path(), &clusters, what));
    }
    let after = cost(&server);
    let names = told(&server, "table");
    let requests = fed.api.double().observed(|o| (o.count(Verb::List, "*"), o.count(Verb::Watch, "*")));
    println!(
        "{} names at the end; resident {} kB -> {} kB, open files {} -> {}; lists and watches {requests:?}",
        names.as_array().map_or(0, Vec::len),
        before.0 / 1024,
        after.0 / 1024,
        before.1,
        after.1
    );
    assert!(after.0 < before.0 + 24 * 1024 * 1024, "resident memory went from {} to {}", before.0, after.0);
    assert!(after.1 <= before.1 + 12, "open files went from {} to {}", before.1, after.1);
    server.stop().expect("it stops");
}
