//! Logs, as an operator switches and reads them: the query log at run time, for everyone or for some; a reader that does not
//! read; what is said again and again.

mod support;

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{Client, Proto, next_id};
use support::server::{Server, address_of, http, http_get, of_files};
use support::steady::{metric, until};
use support::{binary, wire};

const SOON: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// A pod of segment acme-segment, and one of acquired-segment.
const ACME: &str = "127.10.1.11";
const ACQUIRED: &str = "127.10.1.21";
/// Seen by the latter only, and what exists for nobody.
const NAME: &str = "web.own.mesh.acquired";
const NONE: &str = "none.own.mesh.acquired";

struct Lab {
    server: Server,
    at: SocketAddr,
    client: Client,
}

impl Lab {
    fn start(log: &Value) -> Self {
        let config = config(log);
        let server = Server::start(&config).expect("a server");
        Self { server, at: address_of(&config), client: Client::default() }
    }

    fn ask(&self, from: &str, name: &str, proto: Proto) {
        let from: IpAddr = from.parse().expect("an address");
        self.client.ask(from, self.at, proto, &wire::query(next_id(), name, 1, false)).expect("an answer");
    }

    fn switch(&self, how: &str) -> (u16, String) {
        http(self.server.admin(), "POST", &format!("/debug/log?{how}")).expect("an answer")
    }

    /// The lines of the query log, once there are so many. What is asked last is in the last one.
    fn lines(&self, count: usize) -> Vec<String> {
        let end = Instant::now() + SOON;
        loop {
            let log = self.server.log();
            let lines: Vec<String> = log.lines().filter(|l| is_query(l)).map(str::to_owned).collect();
            if lines.len() >= count {
                assert_eq!(lines.len(), count, "{log}");
                return lines;
            }
            assert!(Instant::now() < end, "{} of {count} lines: {log}", lines.len());
            std::thread::sleep(LOOK);
        }
    }
}

fn is_query(line: &str) -> bool {
    line.contains(" query from=") || line.contains("\"segdns::queries\"")
}

/// With one worker, so that lines are in the order of the queries.
fn config(log: &Value) -> Value {
    of_files(&json!({"limits": {"workers": 1}, "log": log}))
}

#[test]
fn a_line_for_machines_has_the_words_of_explain() {
    let lab = Lab::start(&json!({"format": "json", "queries": "all"}));
    for (from, name) in [(ACME, NAME), (ACQUIRED, NAME), (ACQUIRED, NONE), (ACME, "mesh.acquired")] {
        lab.ask(from, name, Proto::Tcp);
        let path = format!("/debug/explain?name={name}&from={from}");
        let told: Value = serde_json::from_str(&lab.server.get(&path)).expect("JSON");
        // Not the line of a name that ends like it.
        let field = format!("\"name\":\"{name}\"");
        let line: Value = {
            let end = Instant::now() + SOON;
            loop {
                let log = lab.server.log();
                let found = log.lines().rfind(|l| is_query(l) && l.contains(from) && l.contains(&field));
                if let Some(found) = found {
                    break serde_json::from_str(found).expect("JSON");
                }
                assert!(Instant::now() < end, "{log}");
                std::thread::sleep(LOOK);
            }
        };
        let fields = &line["fields"];
        for word in ["name", "type", "rcode", "source", "reason", "rule"] {
            assert_eq!(fields[word], told[word], "{word} of {name} from {from}: {line}");
        }
        for word in ["namespace", "pod", "segment"] {
            assert_eq!(fields[word], told["caller"][word], "{word} of {name} from {from}: {line}");
        }
        assert!(fields["from"].as_str().is_some_and(|f| f.starts_with(&format!("{from}:"))), "{line}");
        assert_eq!(fields["transport"], "tcp", "{line}");
    }
    lab.server.stop().expect("it ends");
}

#[test]
fn failures_a_sample_and_everything_are_switched_at_run_time_and_end_by_themselves() {
    let lab = Lab::start(&json!({}));
    let both = || {
        lab.ask(ACQUIRED, NAME, Proto::Udp);
        lab.ask(ACQUIRED, NONE, Proto::Udp);
    };
    both();
    assert_eq!(lab.switch("queries=failures"), (200, "queries failures for 600s\n".to_owned()));
    both();
    let lines = lab.lines(1);
    for part in ["pod=", "namespace=", "segment=acquired-segment", "transport=udp", "reason=absent", "rule=R18"] {
        assert!(lines[0].contains(part), "{part} in {}", lines[0]);
    }
    assert_eq!(lab.switch("queries=all&for=3s").0, 200);
    both();
    lab.lines(3);
    let end = Instant::now() + SOON;
    while serde_json::from_str::<Value>(&lab.server.get("/debug/log")).expect("JSON")["queries"] != "none" {
        assert!(Instant::now() < end, "{}", lab.server.get("/debug/log"));
        std::thread::sleep(LOOK);
    }
    both();
    assert_eq!(lab.switch("queries=0.5").0, 200);
    for _ in 0..200 {
        lab.ask(ACQUIRED, NAME, Proto::Udp);
    }
    // Lines come in order: behind this one there is none of them.
    assert_eq!(lab.switch("queries=all").0, 200);
    lab.ask(ACME, NAME, Proto::Udp);
    until("the last line", SOON, || lab.server.log().lines().any(|l| is_query(l) && l.contains(ACME)));
    let count = lab.server.log().lines().filter(|l| is_query(l) && l.contains(ACQUIRED)).count();
    assert!((3 + 50..3 + 150).contains(&count), "{count} lines");
    lab.server.stop().expect("it ends");
}

#[test]
fn one_namespace_pod_caller_or_name_is_logged_and_no_other() {
    let lab = Lab::start(&json!({}));
    let told: Value =
        serde_json::from_str(&lab.server.get(&format!("/debug/explain?name={NAME}&from={ACQUIRED}"))).expect("JSON");
    let word = |w: &str| told["caller"][w].as_str().expect("a pod").to_owned();
    let (namespace, pod) = (word("namespace"), word("pod"));
    let selectors = [
        format!("namespace={namespace}"),
        format!("pod={namespace}/{pod}"),
        format!("from={ACQUIRED}"),
        format!("name={NAME}"),
    ];
    for (at, selector) in selectors.iter().enumerate() {
        assert_eq!(lab.switch(&format!("queries=all&{selector}")).0, 200, "{selector}");
        let view: Value = serde_json::from_str(&lab.server.get("/debug/log")).expect("JSON");
        assert_eq!((&view["queries"], view["switched"].as_array().map(Vec::len)), (&json!("none"), Some(1)), "{view}");
        // Another caller asks for another name.
        lab.ask(ACME, NONE, Proto::Udp);
        lab.ask(ACQUIRED, NAME, Proto::Udp);
        let last = lab.lines(at + 1).pop().expect("a line");
        assert!(last.contains(NAME) && last.contains(ACQUIRED), "{selector}: {last}");
        assert_eq!(lab.switch(&format!("queries=none&{selector}")), (200, "queries none\n".to_owned()));
        lab.ask(ACQUIRED, NAME, Proto::Udp);
    }
    for bad in [
        "",
        "queries=some",
        "queries=all&for=25h",
        "queries=all&for=0s",
        "queries=all&pod=web",
        "queries=all&from=shop",
        "queries=all&name=a..b",
        "namespace=shop",
        "level=info&for=1s",
        "queries=all&nmespace=shop",
    ] {
        let (code, body) = lab.switch(bad);
        assert_eq!((code, body.lines().count()), (400, 1), "{bad}: {body}");
    }
    assert_eq!(lab.switch("level=warn&queries=all&for=5m"), (200, "level warn\nqueries all for 300s\n".to_owned()));
    lab.ask(ACQUIRED, NAME, Proto::Udp);
    lab.lines(selectors.len() + 1);
    assert_eq!(http_get(lab.server.admin(), "/debug/log?level=info").expect("an answer").0, 400);
    lab.server.stop().expect("it ends");
}

#[test]
fn nobody_waits_for_a_reader_of_logs_that_does_not_read() {
    let config = config(&json!({"queries": "all"}));
    let at = address_of(&config);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("segdns.yaml");
    std::fs::write(&path, config.to_string()).expect("written");
    let mut child = Command::new(binary())
        .args(["serve", "--config"])
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut ready = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut ready).expect("a line");
    let client = Client::default();
    let from: IpAddr = ACQUIRED.parse().expect("an address");
    // A full pipe holds 64 KiB, and the queue of lines some thousands.
    let mut slowest = Duration::ZERO;
    for _ in 0..12_000 {
        let begun = Instant::now();
        client.ask(from, at, Proto::Udp, &wire::query(next_id(), NAME, 1, false)).expect("an answer");
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let admin: SocketAddr = config["admin"].as_str().and_then(|a| a.parse().ok()).expect("an address");
    let (_, text) = http_get(admin, "/metrics").expect("an answer");
    let lost = text.lines().find_map(|l| l.strip_prefix("segdns_log_lines_dropped_total ")?.parse::<f64>().ok());
    assert!(lost.is_some_and(|lost| lost > 1000.0), "{lost:?}");
    // As soon as somebody reads, the log says what is missing.
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let (to, said) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lost = lines.map_while(Result::ok).filter(|line| line.contains("log lines are lost"));
        to.send(lost.next())
    });
    let said = said.recv_timeout(SOON).ok().flatten();
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(said.as_ref().is_some_and(|line| line.contains("lost=")), "{said:?}");
}

#[test]
fn what_breaks_again_and_again_is_folded_into_one_line() {
    let server = Server::start(&config(&json!({}))).expect("a server");
    std::fs::write(server.config_path(), "answers: {tll: 5}\n").expect("written");
    let refused = |times: u32| {
        server.signal(libc::SIGHUP);
        until("it is refused once more", SOON, || {
            metric(&server, "segdns_config_reloads_total", &["refused"]) >= f64::from(times)
        });
    };
    (1..=8).for_each(refused);
    let said = || server.log().lines().filter(|l| l.contains("ERROR") && l.contains("answers.tll")).count();
    server.signal(libc::SIGINT);
    until("how often it was said", SOON, || server.log().contains("repeated 3 times in the last"));
    assert_eq!(said(), 5 + 1, "{}", server.log());
}
