//! `/metrics` as Prometheus reads it: complete, documented, bounded, in either format, and under CoreDNS's names.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{Client, Proto, next_id};
use support::server::{Server, address_of, http_get, of_files};
use support::steady::{metric, until};
use support::{HERE, free_port, wire};

/// Where the tables of all metrics are, and the relabelling.
const PAGE: &str = "docs/metrics.md";
const OPEN: &str = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

fn start() -> (Server, SocketAddr) {
    let config = of_files(&json!({}));
    (Server::start(&config).expect("a server"), address_of(&config))
}

/// Content type and text of `/metrics` for who accepts that.
fn scrape(server: &Server, accept: &str) -> (String, String) {
    let admin = server.admin();
    let mut stream = TcpStream::connect(admin).expect("a connection");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).expect("a content type");
    (kind.to_owned(), body.to_owned())
}

/// The value of a series, labels in the order of the exposition.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn ask(from: [u8; 4], listen: SocketAddr, proto: Proto, name: &str) -> Vec<u8> {
    let query = wire::query(next_id(), name, 1, false);
    Client::default().ask(IpAddr::from(from), listen, proto, &query).expect("an answer")
}

#[test]
fn openmetrics_is_for_who_names_it_and_all_others_get_the_older_format() {
    let (server, _) = start();
    let (kind, open) = scrape(&server, OPEN);
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    assert!(
        open.contains("# TYPE segdns_panics counter\n") && open.contains("# UNIT segdns_table_build_seconds seconds\n")
    );
    assert!(open.ends_with("# EOF\n"));
    for accept in ["*/*", "text/plain;version=0.0.4", "application/json"] {
        let (kind, classic) = scrape(&server, accept);
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8", "{accept}");
        assert!(classic.contains("# TYPE segdns_panics_total counter\n"), "{classic}");
        assert!(!classic.contains("# UNIT"));
    }
    server.stop().expect("it ends");
}

#[test]
fn how_long_answers_took_and_how_long_messages_are_is_counted_for_each_query() {
    let (server, listen) = start();
    let before = server.get("/metrics");
    for source in ["table", "cache", "stale", "upstream", "none"] {
        let series = format!("segdns_dns_request_duration_seconds_count{{source=\"{source}\"}}");
        assert_eq!(value(&before, &series), Some(0.0), "{series}");
    }
    let mut octets = BTreeMap::new();
    for (proto, word, times) in [(Proto::Udp, "udp", 3), (Proto::Tcp, "tcp", 2)] {
        for _ in 0..times {
            // Hidden from its caller, so that it is answered in place; and one that no upstream answers.
            let answer = ask([127, 10, 1, 11], listen, proto, "web.own.mesh.acquired");
            assert_eq!(answer[3] & 15, 3);
            *octets.entry(word).or_insert(0) += answer.len();
        }
    }
    ask([127, 10, 1, 11], listen, Proto::Udp, "www.example.com");
    // How long it took is known, and counted, after the answer is on its way.
    until("all have their durations", Duration::from_secs(10), || {
        metric(&server, "segdns_dns_request_duration_seconds_count", &[]) >= 6.0
    });
    let text = server.get("/metrics");
    let series = |family: &str, labels: &str| {
        value(&text, &format!("segdns_{family}{{{labels}}}")).unwrap_or_else(|| panic!("{family}{{{labels}}}: {text}"))
    };
    assert_eq!(series("dns_request_duration_seconds_count", "source=\"table\""), 5.0);
    assert_eq!(series("dns_request_duration_seconds_count", "source=\"none\""), 1.0);
    let took = series("dns_request_duration_seconds_sum", "source=\"table\"");
    assert!(took > 0.0 && took < 5.0, "{took} s");
    for (proto, count) in [("udp", 4.0), ("tcp", 2.0)] {
        let label = format!("proto=\"{proto}\"");
        for family in ["dns_request_size_bytes_count", "dns_response_size_bytes_count"] {
            assert_eq!(series(family, &label), count, "{family} {proto}");
        }
        let queries = format!("le=\"100\",{label}");
        assert_eq!(series("dns_request_size_bytes_bucket", &queries), count);
        assert_eq!(series("dns_request_size_bytes_bucket", &format!("le=\"0\",{label}")), 0.0);
    }
    let query = wire::query(0, "web.own.mesh.acquired", 1, false).len();
    assert_eq!(series("dns_request_size_bytes_sum", "proto=\"tcp\""), (2 * query) as f64);
    assert_eq!(series("dns_response_size_bytes_sum", "proto=\"tcp\""), octets["tcp"] as f64);
    // CoreDNS's edges, and finer ones below.
    for edge in ["0.000025", "0.00005", "0.0001", "0.00025", "0.0005", "0.001", "0.002", "4.096", "8.192", "+Inf"] {
        let bucket = series("dns_request_duration_seconds_bucket", &format!("le=\"{edge}\",source=\"table\""));
        assert!((0.0..=5.0).contains(&bucket), "{edge}: {bucket}");
    }
    server.stop().expect("it ends");
}

/// What the page's tables say: kind and labels by name.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).expect("the page");
    let section = page.split("\n## ").find(|section| section.starts_with("Metrics\n")).expect("a section Metrics");
    let mut out = BTreeMap::new();
    for line in section.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (name, rest) = line.split_once("` | ").expect("a name");
        let (kind, meaning) = rest.split_once(" | ").expect("a kind");
        assert!(meaning.len() > 10, "{name} has no meaning");
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).map(str::to_owned);
        let had = out.insert(format!("segdns_{name}"), (kind.to_owned(), labels.collect()));
        assert!(had.is_none(), "{name} twice");
    }
    out
}

/// What a text in the older format has: kind and, where there is a series, labels by name.
fn served(text: &str) -> BTreeMap<String, (String, Option<BTreeSet<String>>)> {
    let mut out = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            assert!(out.insert(name.to_owned(), (kind.to_owned(), None)).is_none(), "{name} twice");
        }
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let parts = ["_bucket", "_sum", "_count"].map(|part| name.strip_suffix(part).unwrap_or_default());
        let family = if out.contains_key(name) { name } else { parts.into_iter().find(|p| !p.is_empty()).expect(line) };
        let labels = labels.split(',').filter_map(|label| label.split_once("=\"")).map(|(name, _)| name.to_owned());
        let labels = labels.filter(|label| label != "le").collect();
        out.get_mut(family).unwrap_or_else(|| panic!("{line} is described nowhere")).1 = Some(labels);
    }
    out
}

#[test]
fn the_page_has_every_metric_and_no_other() {
    let (server, listen) = start();
    ask([127, 10, 1, 11], listen, Proto::Udp, "www.example.com");
    let served = served(&server.get("/metrics"));
    let documented = documented();
    let names = |all: Vec<&String>| all.into_iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(served.keys().collect()), names(documented.keys().collect()));
    for (name, (kind, labels)) in served {
        let (told, with) = &documented[&name];
        assert_eq!(&kind, told, "{name}");
        assert!(labels.as_ref().is_none_or(|labels| labels == with), "{name} has {labels:?}, the page says {with:?}");
    }
    server.stop().expect("it ends");
}

/// The values of a label in a family.
fn labels_of(text: &str, family: &str, label: &str) -> BTreeSet<String> {
    let series = text.lines().filter(|line| line.starts_with(&format!("segdns_{family}{{")));
    let value = |line: &str| Some(line.split_once(&format!("{label}=\""))?.1.split_once('"')?.0.to_owned());
    series.filter_map(value).collect()
}

#[test]
fn what_the_cluster_decides_has_a_bound_beyond_which_it_is_counted_together() {
    const MANY: usize = 70;
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = |n: usize| {
        let path = dir.path().join(n.to_string());
        std::fs::create_dir(&path).expect("a folder");
        json!({"cluster": format!("cluster{n}"), "path": path})
    };
    let clusters: Vec<Value> = (0..MANY).map(cluster).collect();
    let segment = |n: usize| {
        json!({"apiVersion": "admin.solo.io/v1alpha1", "kind": "Segment",
               "metadata": {"name": format!("segment{n}"), "namespace": "istio-system"}, "spec": {"domain": format!("mesh{n}.test")}})
    };
    let segments: Vec<Value> = (0..MANY).map(segment).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": segments});
    std::fs::write(dir.path().join("0/segments.yaml"), list.to_string()).expect("written");
    let port = free_port();
    let upstreams: Vec<String> = (1..=MANY).map(|n| format!("127.77.0.{n}:{port}")).collect();
    let config = json!({
        "listen": [SocketAddr::new(HERE, free_port())], "admin": SocketAddr::new(HERE, free_port()),
        "cluster": {"name": "cluster0"}, "sources": {"manifests": clusters},
        "forward": [{"zone": ".", "upstreams": upstreams}], "drain": {"lameduck": "0s", "deadline": "2s"},
    });
    let server = Server::start(&config).expect("a server");
    let text = server.get("/metrics");
    for (family, label, most) in [
        ("source_synced", "cluster", 65),
        ("source_age_seconds", "cluster", 65),
        ("table_names", "segment", 32),
        ("hidden_total", "caller_segment", 32),
        ("forward_requests_total", "to", 65),
        ("forward_request_duration_seconds_count", "to", 65),
        ("forward_healthy", "to", 65),
    ] {
        let values = labels_of(&text, family, label);
        assert!(values.len() == most && values.contains("other"), "{family}: {} {values:?}", values.len());
    }
    assert_eq!(
        value(&text, "segdns_source_synced{cluster=\"cluster0\",kind=\"manifests\"}"),
        Some(1.0),
        "the local one"
    );
    assert_eq!(value(&text, "segdns_source_synced{cluster=\"other\",kind=\"manifests\"}"), Some(1.0));
    let series: BTreeSet<&str> =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
    assert_eq!(series.len(), text.lines().filter(|line| !line.starts_with('#')).count(), "no series twice");
    server.stop().expect("it ends");
}

/// Says so if a program is not installed.
fn has(program: &str) -> bool {
    let has = Command::new(program).arg("--version").output().is_ok();
    if !has {
        eprintln!("skipped: there is no {program} here (package prometheus)");
    }
    has
}

#[test]
fn promtool_has_nothing_to_say_against_it() {
    if !has("promtool") {
        return;
    }
    let (server, listen) = start();
    ask([127, 10, 1, 11], listen, Proto::Udp, "web.own.mesh.acquired");
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    let text = server.get("/metrics");
    child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.is_empty(), "{said}");
    server.stop().expect("it ends");
}

/// The page's configuration, for this target.
fn relabelling(target: SocketAddr) -> String {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).expect("the page");
    let (_, rest) = page.split_once("```yaml\n").expect("a configuration");
    let (text, _) = rest.split_once("\n```").expect("its end");
    assert!(text.contains("127.0.0.1:9153"));
    format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n{}\n",
        text.replace("127.0.0.1:9153", &target.to_string())
    )
}

/// A Prometheus that is killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    fn start(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("prometheus.yaml");
        std::fs::write(&file, config).expect("written");
        let checked = Command::new("promtool").args(["check", "config"]).arg(&file).output().expect("promtool runs");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        let address = SocketAddr::new(HERE, free_port());
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus runs");
        Self { child, address, _dir: dir }
    }

    /// The labels of what a selector finds, once it finds anything.
    fn until(&self, selector: &str) -> Vec<Value> {
        let end = Instant::now() + Duration::from_secs(30);
        let escaped: String = selector.bytes().map(|octet| format!("%{octet:02x}")).collect();
        loop {
            let found = http_get(self.address, &format!("/api/v1/query?query={escaped}"))
                .ok()
                .filter(|(code, _)| *code == 200)
                .and_then(|(_, body)| serde_json::from_str::<Value>(body.get(body.find('{')?..=body.rfind('}')?)?).ok())
                .and_then(|body| body["data"]["result"].as_array().cloned())
                .unwrap_or_default();
            if !found.is_empty() {
                return found.into_iter().map(|mut series| series["metric"].take()).collect();
            }
            assert!(Instant::now() < end, "{selector} finds nothing");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_reads_it_under_coredns_names_with_coredns_labels() {
    if !has("promtool") || !has("prometheus") {
        return;
    }
    let (server, listen) = start();
    ask([127, 10, 1, 11], listen, Proto::Udp, "web.own.mesh.acquired");
    let prometheus = Prometheus::start(&relabelling(server.admin()));
    prometheus.until("up == 1");
    let dns = json!({"server": "dns://.:53", "zone": "."});
    let cache = json!({"server": "dns://.:53", "zones": "."});
    for (selector, labels) in [
        ("coredns_dns_requests_total{proto=\"udp\",family=\"1\",type=\"A\"} == 1", &dns),
        ("coredns_dns_responses_total{rcode=\"NXDOMAIN\",plugin=\"kubernetes\",reason=\"hidden\"} == 1", &dns),
        ("coredns_dns_request_duration_seconds_bucket{le=\"8.192\",plugin=\"cache\"}", &dns),
        ("coredns_dns_request_size_bytes_bucket{proto=\"udp\",le=~\"100(.0)?\"} == 1", &dns),
        ("coredns_dns_response_size_bytes_sum{proto=\"udp\"} > 50", &dns),
        ("coredns_cache_hits_total{type=\"denial\"}", &cache),
        ("coredns_cache_entries", &cache),
        ("coredns_panics_total", &json!({})),
        ("coredns_build_info", &json!({})),
        ("coredns_forward_healthcheck_broken_total", &json!({"server": "dns://.:53"})),
        ("coredns_proxy_request_duration_seconds_count{proxy_name=\"forward\"}", &json!({"server": "dns://.:53"})),
    ] {
        let found = prometheus.until(selector);
        for (label, want) in labels.as_object().expect("labels") {
            assert!(found.iter().all(|series| &series[label] == want), "{selector}: {found:?}");
        }
    }
    server.stop().expect("it ends");
}
