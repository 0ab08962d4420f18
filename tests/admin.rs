//! The HTTP endpoints: metrics, health, readiness, debug.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use support::client::{Client, Proto, next_id};
use support::netns::{self, NODE4, Pods};
use support::server::{Server, address_of, http, http_get, of_files};
use support::steady::until;
use support::{free_port, wire};

/// How soon another configuration is in force, on a machine that is busy.
const SOON: Duration = Duration::from_secs(10);

fn start() -> (Server, SocketAddr) {
    let config = of_files(&json!({}));
    (Server::start(&config).expect("a server"), address_of(&config))
}

/// The value of a series, labels in the order of the exposition.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn metrics_start_at_0_rise_with_queries_and_end_properly() {
    let (server, listen) = start();
    let text = server.get("/metrics");
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
    let asked = "segdns_dns_requests_total{proto=\"tcp\",family=\"1\",type=\"A\"}";
    let hidden = "segdns_hidden_total{caller_segment=\"acme-segment\",segment=\"acquired-segment\"}";
    let answered = "segdns_dns_responses_total{rcode=\"NXDOMAIN\",source=\"table\",reason=\"hidden\"}";
    for series in [asked, hidden, answered, "segdns_panics_total", "segdns_dropped_total{reason=\"truncated\"}"] {
        assert_eq!(value(&text, series), Some(0.0), "{series} in\n{text}");
    }
    assert_eq!(value(&text, "segdns_source_synced{cluster=\"cluster1\",kind=\"manifests\"}"), Some(1.0), "{text}");
    for series in ["segdns_callers", "segdns_table_generation", "segdns_table_names{segment=\"acme-segment\"}"] {
        assert!(value(&text, series).is_some_and(|v| v > 0.0), "{series} in\n{text}");
    }
    assert!(value(&text, "segdns_table_build_seconds_count").is_some_and(|v| v > 0.0), "{text}");
    assert!(value(&text, "segdns_table_build_seconds_bucket{le=\"+Inf\"}").is_some_and(|v| v > 0.0), "{text}");
    for series in ["segdns_table_propagation_seconds_count", "segdns_saved_state"] {
        assert_eq!(value(&text, series), Some(0.0), "{series} in\n{text}");
    }
    assert!(value(&text, "segdns_source_age_seconds{cluster=\"cluster1\"}").is_some_and(|v| v < 10.0), "{text}");
    assert_eq!(value(&text, "segdns_reports{kind=\"peer-disabled\"}"), Some(0.0), "{text}");
    assert!(text.contains("segdns_build_info{version="), "{text}");
    let query = wire::query(next_id(), "web.own.mesh.acquired", 1, false);
    let caller = "127.10.1.11".parse().expect("an address");
    Client::default().ask(caller, listen, Proto::Tcp, &query).expect("an answer");
    let text = server.get("/metrics");
    for series in [asked, hidden, answered] {
        assert_eq!(value(&text, series), Some(1.0), "{series} in\n{text}");
    }
    server.stop().expect("it ends");
}

#[test]
fn health_and_version_answer_and_debug_shows_what_is() {
    let (server, _) = start();
    assert_eq!(server.get("/healthz"), "ok\n");
    assert!(server.get("/version").starts_with("segdns "));
    let config: Value = serde_json::from_str(&server.get("/debug/config")).expect("JSON");
    assert_eq!(config["policy"]["crossSegment"], "scope");
    let table: Value = serde_json::from_str(&server.get("/debug/table?as=127.10.1.21")).expect("JSON");
    assert!(table.as_array().is_some_and(|t| t.iter().any(|r| r["name"] == "web.own.mesh.acquired")), "{table}");
    let reports: Value = serde_json::from_str(&server.get("/debug/reports")).expect("JSON");
    assert!(reports.as_array().is_some_and(|r| !r.is_empty()), "{reports}");
    let (code, body) = http_get(server.admin(), "/debug/table?as=nobody").expect("an answer");
    assert_eq!((code, body.contains("segment:NAME")), (400, true), "{body}");
    assert_eq!(http(server.admin(), "POST", "/debug/log?level=debug").expect("an answer").0, 200);
    assert_eq!(http(server.admin(), "POST", "/debug/log?level=loud").expect("an answer").0, 400);
    server.stop().expect("it ends");
}

/// What only this machine may do, unless the configuration says `debug: any`.
const DEBUG: [(&str, &str); 9] = [
    ("GET", "/debug/explain?name=web.own.mesh.acquired&from=127.10.1.21"),
    ("GET", "/debug/table"),
    ("GET", "/debug/reports"),
    ("GET", "/debug/config"),
    ("GET", "/debug/top"),
    ("GET", "/debug/placement"),
    ("GET", "/debug/log"),
    ("POST", "/debug/log?level=info"),
    ("POST", "/debug/flush"),
];

#[test]
fn debug_endpoints_are_for_this_machine_only_unless_the_configuration_says_otherwise() {
    let pods = match Pods::new(&[[10, 99, 1, 1].into()]) {
        Ok(pods) => pods,
        Err(why) if netns::may_skip() => return eprintln!("SKIPPED: {why}"),
        Err(why) => panic!("{why}"),
    };
    // A thread of its own: it moves to another network namespace.
    let looked = std::thread::spawn(move || {
        pods.enter_node().expect("the node's namespace");
        look_from_elsewhere(&pods);
    });
    if let Err(panic) = looked.join() {
        std::panic::resume_unwind(panic);
    }
}

fn look_from_elsewhere(pods: &Pods) {
    let port = free_port();
    let config = of_files(&json!({"admin": format!("0.0.0.0:{port}")}));
    let server = Server::start(&config).expect("a server");
    let from_a_pod = |method: &str, path: &str| {
        let answer = pods.inside(|| http(SocketAddr::new(NODE4, port), method, path)).expect("its namespace");
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    for (method, path) in DEBUG {
        let (code, body) = from_a_pod(method, path);
        assert!(code == 403 && body.contains("debug: any"), "{method} {path}: {code} {body}");
        assert_eq!(http(server.admin(), method, path).expect("an answer").0, 200, "{method} {path} on this machine");
    }
    for path in ["/metrics", "/healthz", "/readyz", "/version"] {
        assert_eq!(from_a_pod("GET", path).0, 200, "{path}");
    }
    server.configure(&of_files(&json!({"admin": config["admin"], "listen": config["listen"], "debug": "any"})));
    server.signal(libc::SIGHUP);
    for (method, path) in DEBUG {
        until("everyone may look", SOON, || from_a_pod(method, path).0 == 200);
    }
    server.stop().expect("it ends");
}
