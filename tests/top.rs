//! `/debug/top`: who asks most, for what, and what comes of it.

mod support;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};
use support::client::next_id;
use support::server::{Server, address_of, http_get, of_files};
use support::wire;

/// The pod `own/web-0` of the fixture, by its namespace; and one of the cluster's own segment.
const MIGRANT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 10, 1, 21));
const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 10, 1, 11));
/// Of no pod.
const NOBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 99, 9, 9));

/// The number of a core that may be used here.
fn a_core() -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("our own status");
    let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("cores");
    cores.trim().chars().take_while(char::is_ascii_digit).collect()
}

fn start() -> (Server, SocketAddr) {
    let config = of_files(&json!({"limits": {"workers": 1}}));
    // The more cores there are, the fewer queries each worker looks at.
    let launcher = ["taskset", "--cpu-list", &a_core()];
    let mut server = Server::spawn_by(&launcher, &config, None, &[]).expect("a process");
    server.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    (server, address_of(&config))
}

/// Asks this often, each after the answer to the one before; the response code of the last.
fn ask(from: IpAddr, listen: SocketAddr, name: &str, times: u32) -> u8 {
    let socket = UdpSocket::bind((from, 0)).expect("a socket");
    socket.connect(listen).expect("connected");
    socket.set_read_timeout(Some(Duration::from_secs(6))).expect("a timeout");
    let mut answer = [0; 1500];
    for _ in 0..times {
        socket.send(&wire::query(next_id(), name, 1, false)).expect("sent");
        socket.recv(&mut answer).expect("an answer");
    }
    answer[3] & 15
}

fn top(server: &Server, path: &str) -> Value {
    serde_json::from_str(&server.get(path)).expect("JSON")
}

fn row<'t>(rows: &'t Value, key: &str, value: &Value) -> &'t Value {
    let rows = rows.as_array().expect("rows");
    rows.iter().find(|row| &row[key] == value).unwrap_or_else(|| panic!("{key} {value} in {rows:?}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn the_busiest_namespaces_callers_and_names_come_first_with_what_came_of_them() {
    let (server, listen) = start();
    assert_eq!(top(&server, "/debug/top")["all"]["samples"], 0);
    let (hidden, own) = ("web.own.mesh.acquired", "none.own.mesh.acquired");
    // So few that every one is looked at.
    assert_eq!(ask(LOCAL, listen, hidden, 9), 3);
    assert_eq!(ask(LOCAL, listen, "WWW.example.com", 1), 2, "nobody can be asked");
    assert_eq!(ask(MIGRANT, listen, own, 3), 3);
    assert_eq!(ask(MIGRANT, listen, hidden, 2), 0);
    assert_eq!(ask(NOBODY, listen, "www.example.com", 1), 2);
    let seen = top(&server, "/debug/top");
    assert_eq!(seen["all"]["samples"], 16, "{seen:#}");
    assert!(number(&seen["window"]["seconds"]) < 60.0 && seen["window"]["since"].is_string());
    assert_eq!(seen["names"][0]["name"], hidden, "hidden or not, it is asked for: {seen:#}");
    assert_eq!(seen["names"][0]["samples"], 11);
    let nxdomain = number(&seen["names"][0]["nxdomain"]);
    assert!((nxdomain - 9.0 / 11.0).abs() < 0.01, "{nxdomain}");
    let external = row(&seen["names"], "name", &json!("www.example.com"));
    assert_eq!((&external["samples"], &external["servfail"]), (&json!(2), &json!(1.0)));
    let callers = &seen["callers"];
    assert_eq!(callers[0]["address"], json!(LOCAL));
    assert!(callers[0]["pod"].as_str().is_some_and(|pod| pod.contains('/')), "{callers:#}");
    assert_eq!(row(callers, "address", &json!(NOBODY))["pod"], Value::Null);
    let pod = callers[0]["pod"].as_str().expect("a pod");
    let namespace = json!(pod.split('/').next());
    assert_eq!(row(&seen["namespaces"], "namespace", &namespace)["samples"], 10);
    let nobody = row(&seen["namespaces"], "namespace", &Value::Null);
    assert_eq!(nobody["samples"], 1);
    let shares: f64 = seen["namespaces"].as_array().expect("rows").iter().map(|row| number(&row["share"])).sum();
    assert!((shares - 1.0).abs() < 1e-6, "{shares}");
    let first = top(&server, "/debug/top?n=1");
    assert!(["namespaces", "callers", "names"].iter().all(|list| first[list].as_array().is_some_and(|l| l.len() == 1)));
    server.stop().expect("it ends");
}

#[test]
fn under_load_a_part_is_looked_at_and_the_figures_are_still_about_right() {
    const OFTEN: u32 = 6000;
    let (server, listen) = start();
    for _ in 0..4 {
        ask(LOCAL, listen, "web.own.mesh.acquired", OFTEN / 4 / 2);
        ask(LOCAL, listen, "none.own.mesh.acquired", OFTEN / 4 / 2);
    }
    let seen = top(&server, "/debug/top");
    let samples = number(&seen["all"]["samples"]);
    assert!((30.0..f64::from(OFTEN) / 2.0).contains(&samples), "{seen:#}");
    let asked = number(&seen["all"]["queries_per_second"]) * number(&seen["window"]["seconds"]).max(1.0);
    assert!((f64::from(OFTEN) / 3.0..f64::from(OFTEN) * 3.0).contains(&asked), "{asked} of {OFTEN}: {seen:#}");
    for name in ["web.own.mesh.acquired", "none.own.mesh.acquired"] {
        let share = number(&row(&seen["names"], "name", &json!(name))["share"]);
        assert!((0.15..0.85).contains(&share), "{name}: {share}");
    }
    server.stop().expect("it ends");
}

#[test]
fn what_it_cannot_show_it_says() {
    let (server, _) = start();
    for bad in ["/debug/top?n=0", "/debug/top?n=1001", "/debug/top?n=many", "/debug/top?m=1"] {
        let (code, body) = http_get(server.admin(), bad).expect("an answer");
        assert_eq!(code, 400, "{bad}: {body}");
        assert!(body.contains("n=NUMBER, from 1 to 1000") || body.contains("allowed are n"), "{body}");
    }
    server.stop().expect("it ends");
}
