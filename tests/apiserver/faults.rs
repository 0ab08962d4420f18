//! Every fault that a test can switch, and what a client then sees.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::apiserver::{ApiServer, Failure, Observed, Streaming, Times, Verb};
use crate::support::apiserver_client::{Ask, Connection, End, get, watch, word};
use crate::{SOON, segments, service};

const WATCH: &str = "/api/v1/services?watch=true&allowWatchBookmarks=true";
const STREAMING: &str =
    "/api/v1/services?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
/// How long nothing may come before it counts as silence.
const SILENCE: Duration = Duration::from_millis(300);

/// A server with one Service, and a stream that has seen it.
fn watched() -> (ApiServer, Connection) {
    let server = ApiServer::start();
    server.apply(service("web", json!({})));
    let mut stream = watch(&server, WATCH);
    assert_eq!([stream.word(), stream.word()], ["ADDED web", "BOOKMARK end"]);
    (server, stream)
}

fn code(server: &ApiServer, path: &str) -> u16 {
    get(server, path).code
}

fn words(lines: &[Value]) -> Vec<String> {
    lines.iter().map(word).collect()
}

fn from(server: &ApiServer, version: u64) -> Connection {
    watch(server, &format!("/api/v1/services?watch=true&resourceVersion={version}"))
}

fn await_that(server: &ApiServer, what: &str, is_so: impl Fn(&Observed) -> bool) {
    server.wait_for(what, SOON, is_so).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn requests_fail_as_often_as_they_are_told_to() {
    let server = ApiServer::start();
    let all = [
        (Failure::Unauthorized, 401),
        (Failure::Forbidden, 403),
        (Failure::Expired, 410),
        (Failure::Reinitializing, 429),
        (Failure::Internal, 500),
        (Failure::Unavailable, 503),
        (Failure::Timeout, 504),
    ];
    for (failure, wanted) in all {
        server.fail("services", Some(Verb::List), failure, Times::Next(1));
        let others = [
            code(&server, "/api/v1/pods"),
            code(&server, "/api/v1/services?watch=1&timeoutSeconds=1&resourceVersion=1"),
        ];
        assert_eq!(others, [200, 200]);
        assert_eq!([code(&server, "/api/v1/services"), code(&server, "/api/v1/services")], [wanted, 200]);
    }
    server.fail("*", None, Failure::Reinitializing, Times::Always);
    let answer = get(&server, "/api/v1/pods");
    assert_eq!((answer.code, answer.headers["retry-after"].as_str()), (429, "1"));
    assert_eq!(code(&server, "/api/v1/services?watch=1"), 429);
    server.heal();
    assert_eq!(code(&server, "/api/v1/services"), 200);
    let teapot = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "short", "code": 418});
    server.fail("services", None, Failure::Status(teapot), Times::Next(1));
    assert_eq!(code(&server, "/api/v1/services"), 418);
}

#[test]
fn streaming_lists_are_refused_or_broken() {
    let (server, _stream) = watched();
    server.streaming_lists(Streaming::Refused);
    let refused = get(&server, STREAMING);
    let status = refused.json().expect("a Status");
    let message = "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden \
                   for watch unless the WatchList feature gate is enabled";
    assert_eq!((refused.code, &status["reason"], &status["message"]), (422, &json!("Invalid"), &json!(message)));
    assert_eq!(code(&server, "/api/v1/services"), 200);

    server.streaming_lists(Streaming::Broken);
    for _ in 0..2 {
        let (lines, end) = watch(&server, STREAMING).lines();
        assert_eq!((words(&lines), end), (vec!["ERROR 500 InternalError".to_owned()], End::Proper));
    }
    server.streaming_lists(Streaming::On);
    assert_eq!(watch(&server, STREAMING).word(), "ADDED web");
}

#[test]
fn errors_reach_all_open_streams() {
    let (server, mut services) = watched();
    let mut pods = watch(&server, "/api/v1/pods?watch=true");
    server.send_to_watchers("services", &Failure::Internal);
    let (lines, end) = services.lines();
    assert_eq!((words(&lines), end), (vec!["ERROR 500 InternalError".to_owned()], End::Proper));
    server.send_to_watchers("*", &Failure::Expired);
    assert_eq!(pods.word(), "ERROR 410 Expired");
    await_that(&server, "no streams", |seen| seen.open_watches("*") == 0);
}

#[test]
fn connections_are_cut() {
    let (server, mut stream) = watched();
    server.cut();
    assert_eq!(stream.line(), Err(End::Cut(String::new())));
    assert_eq!(server.observed(Observed::connections), 0);

    let mut stream = from(&server, server.version());
    server.hang("services", true);
    let mut list = Connection::send(&server, &Ask::new("/api/v1/services")).expect("a connection");
    await_that(&server, "a list", |seen| seen.of(Verb::List, "services").any(|r| r.open));
    server.cut_mid_line();
    let Err(End::Cut(torn)) = stream.line() else { panic!("not torn") };
    assert!(torn.starts_with(r#"{"type":"#), "{torn}");
    assert_eq!(list.head().expect_err("cut off").kind(), ErrorKind::UnexpectedEof);
    server.hang("services", false);
    assert_eq!(from(&server, 0).word(), "ADDED web");
}

#[test]
fn the_server_stops_and_comes_back_on_its_port() {
    let (server, mut stream) = watched();
    let before = server.version();
    server.stop();
    assert_eq!(stream.line(), Err(End::Cut(String::new())));
    let refused = TcpStream::connect(server.address()).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    server.apply(service("meanwhile", json!({})));
    server.resume();
    assert_eq!(from(&server, before).word(), "ADDED meanwhile");
    server.stop();
    server.compact();
    server.resume();
    assert_eq!(from(&server, before).word(), "ERROR 410 Expired");
}

#[test]
fn a_restart_is_that_of_a_real_server() {
    let (server, mut stream) = watched();
    segments(&server);
    let before = server.version() - 1;
    let (forbidden, reinitializing) = (Duration::from_millis(400), Duration::from_millis(400));
    let start = Instant::now();
    server.restart(forbidden, reinitializing);
    let (lines, end) = stream.lines();
    assert_eq!((words(&lines), end), (vec!["ERROR 410 Expired".to_owned()], End::Proper));
    let mut codes = Vec::new();
    while codes.last() != Some(&200) {
        assert!(start.elapsed() < SOON, "{codes:?}");
        codes.push(code(&server, "/apis/admin.solo.io/v1alpha1/segments"));
        codes.dedup();
    }
    assert_eq!(codes, [403, 429, 200]);
    assert_eq!(code(&server, "/api/v1/services"), 200);
    assert_eq!(from(&server, before).word(), "ERROR 410 Expired");
    await_that(&server, "the end of the old connection", |seen| seen.connections() == 0);
}

#[test]
fn frozen_streams_are_silent_and_thaw() {
    let (server, mut stream) = watched();
    server.bookmarks(Some(Duration::from_millis(50)));
    server.freeze("services");
    let mut late = from(&server, server.version());
    server.apply(service("more", json!({})));
    for stream in [&mut stream, &mut late] {
        stream.patience(SILENCE);
        assert_eq!(stream.line(), Err(End::Silent));
        stream.patience(SOON);
    }
    assert_eq!(code(&server, "/api/v1/services"), 200);
    assert_eq!(server.observed(|seen| seen.open_watches("services")), 2);
    server.thaw("services");
    assert_eq!([stream.word(), late.word()], ["ADDED more", "ADDED more"]);
}

#[test]
fn bookmarks_come_as_often_as_they_are_told_to() {
    let (server, mut without) = watched();
    server.bookmarks(Some(Duration::from_millis(20)));
    let mut with = watch(&server, WATCH);
    assert_eq!(
        [with.word(), with.word(), with.word(), with.word()],
        ["ADDED web", "BOOKMARK end", "BOOKMARK", "BOOKMARK"]
    );
    without.patience(SILENCE);
    assert_eq!(without.line(), Err(End::Silent));
}

#[test]
fn a_slow_server_is_slow_by_line_and_by_page() {
    let server = ApiServer::start();
    server.apply_all(["a", "b", "c"].map(|name| service(name, json!({}))));
    let delay = Duration::from_millis(50);
    server.slow(delay);
    let start = Instant::now();
    assert_eq!(code(&server, "/api/v1/services"), 200);
    assert!(start.elapsed() >= delay);
    let mut stream = watch(&server, STREAMING);
    let words: Vec<String> = (0..4).map(|_| stream.word()).collect();
    assert_eq!(words, ["ADDED a", "ADDED b", "ADDED c", "BOOKMARK end"]);
    assert!(start.elapsed() >= 5 * delay);
}

#[test]
fn a_restored_backup_goes_back_in_time() {
    let (server, mut stream) = watched();
    let backup = server.version();
    let uid = server.get("v1", "Service", "shop", "web").expect("it is there")["metadata"]["uid"].clone();
    server.update("v1", "Service", "shop", "web", |web| web["spec"]["clusterIP"] = "10.96.0.10".into());
    server.apply(service("new", json!({})));
    server.delete("v1", "Service", "shop", "web");
    let future = server.version();
    server.rewind(backup);
    let (lines, end) = stream.lines();
    assert!(matches!(end, End::Cut(_)), "{end:?} after {lines:?}");
    let objects = server.snapshot();
    assert_eq!((objects.len(), &objects[0]["metadata"]["uid"]), (1, &uid));
    assert_eq!(objects[0]["spec"]["clusterIP"], "10.96.0.9");
    let list = get(&server, &format!("/api/v1/services?resourceVersion={future}&resourceVersionMatch=NotOlderThan"));
    assert_eq!(list.code, 504);
    let mut silent = from(&server, future);
    silent.patience(SILENCE);
    assert_eq!(silent.line(), Err(End::Silent));
}

#[test]
fn the_log_knows_who_asked_for_what() {
    let (server, stream) = watched();
    let list = get(&server, "/api/v1/namespaces/shop/services?labelSelector=a%3D1&limit=5");
    let request = server.requests().pop().expect("one");
    assert_eq!((request.verb, request.resource.as_str(), request.code), (Some(Verb::List), "services", Some(200)));
    assert_eq!((request.namespace.as_deref(), request.user_agent.as_str()), (Some("shop"), "test"));
    assert_eq!(request.query["labelSelector"], "a=1");
    assert_eq!(request.octets, u64::try_from(list.body.len()).expect("a short list"));
    assert!(server.observed(|seen| seen.octets("services")) > request.octets);
    assert_eq!(server.observed(|seen| seen.open_watches("services")), 1);
    drop(stream);
    await_that(&server, "the end of the stream", |seen| seen.open_watches("services") == 0 && seen.connections() == 0);
    assert!(server.wait_for("the impossible", Duration::from_millis(1), |seen| seen.accepted > 99).is_err());
}

#[test]
fn a_connection_without_tls_is_dropped() {
    let server = ApiServer::start();
    let mut plain = TcpStream::connect(server.address()).expect("it listens");
    std::io::Write::write_all(&mut plain, b"GET / HTTP/1.1\r\n\r\n").expect("a connection");
    let mut rest = Vec::new();
    // An alert, perhaps, and the end.
    let _ = plain.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP"));
    await_that(&server, "its end", |seen| seen.connections() == 0);
}

/// As many objects as the largest tests load: each is serialized once, and a list is the same octets in pieces.
#[test]
fn many_objects_are_quick() {
    const COUNT: usize = if cfg!(debug_assertions) { 10_000 } else { 100_000 };
    let server = ApiServer::start();
    server.set_managed_fields(true);
    let start = Instant::now();
    server.apply_all((0..COUNT).map(|n| service(&format!("s{n}"), json!({"app": format!("a{n}")}))));
    let loaded = start.elapsed();
    let list = get(&server, "/api/v1/services");
    let listed = start.elapsed();
    assert_eq!(list.json().expect("JSON")["items"].as_array().expect("items").len(), COUNT);
    assert!(list.body.len() > COUNT * 600, "with managedFields");
    let parsed = start.elapsed();
    let mut stream = watch(&server, STREAMING);
    while stream.word() != "BOOKMARK end" {}
    eprintln!("{COUNT}: loaded {loaded:?}, listed {:?}, streamed {:?}", listed - loaded, start.elapsed() - parsed);
    let (version, start) = (server.version(), Instant::now());
    let mut streams: Vec<Connection> = (0..8).map(|_| from(&server, version)).collect();
    for n in 0..100 {
        server.apply(service(&format!("s{n}"), json!({"changed": "yes"})));
    }
    for stream in &mut streams {
        for n in 0..100 {
            assert_eq!(stream.word(), format!("MODIFIED s{n}"));
        }
    }
    eprintln!("100 changes to 8 streams: {:?}", start.elapsed());
}
