//! Pods that ztunnel answers for are named: in `/debug/placement`, `/readyz`, the metric and the log (issue of placement beside
//! ztunnel). Those that ask here, or whose annotation keeps ztunnel away, are not.

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{Client, Proto, next_id};
use support::objects::{namespace, pod};
use support::server::Server;
use support::{HERE, free_port, wire};

const SOON: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_secs(2);

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 51, 0, last).into()
}

/// A pod of this node, which is redirected to ztunnel, with what its annotation says of DNS.
fn ambient(name: &str, last: u8, capture: Option<&str>) -> Value {
    let mut pod = pod("shop", name, address(last));
    pod["spec"]["dnsPolicy"] = "ClusterFirst".into();
    pod["metadata"]["annotations"] = json!({"ambient.istio.io/redirection": "enabled"});
    if let Some(capture) = capture {
        pod["metadata"]["annotations"]["ambient.istio.io/dns-capture"] = capture.into();
    }
    pod
}

#[test]
fn pods_whose_queries_do_not_come_here_are_named_with_the_remedy() {
    let dir = tempfile::tempdir().expect("a directory");
    let objects = [
        namespace("istio-system", None),
        namespace("shop", None),
        ambient("says-so", 1, Some("true")),
        ambient("silent", 2, None),
        ambient("asks", 3, None),
        ambient("let-through", 4, Some("false")),
        pod("shop", "plain", address(5)),
    ];
    let text: Vec<String> = objects.iter().map(|o| format!("{o:#}")).collect();
    std::fs::write(dir.path().join("all.yaml"), text.join("\n---\n")).expect("written");
    let at = SocketAddr::new(HERE, free_port());
    let config = json!({
        "listen": [at], "admin": SocketAddr::new(HERE, free_port()),
        "sources": {"manifests": [{"cluster": "here", "path": dir.path()}]},
        "forward": [{"zone": ".", "upstreams": ["192.0.2.1:53"]}],
        "placement": {"silence": format!("{}s", SILENCE.as_secs())},
        "drain": {"lameduck": "0s", "deadline": "2s"},
    });
    let begun = Instant::now();
    let server = Server::start(&config).expect("a server");
    let client = Client::default();
    let ask = |last: u8| {
        let query = wire::query(next_id(), "web.shop.mesh.internal", 1, false);
        client.ask(address(last), at, Proto::Udp, &query).expect("an answer");
    };
    let named = || -> Vec<(String, String)> {
        let told: Value = serde_json::from_str(&server.get("/debug/placement")).expect("JSON");
        assert!(told["remedy"].as_str().is_some_and(|r| r.contains("dns-capture: \"false\"")), "{told}");
        let text = |one: &Value, key: &str| one[key].as_str().expect("text").to_owned();
        told["pods"].as_array().expect("a list").iter().map(|one| (text(one, "pod"), text(one, "by"))).collect()
    };
    let of = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        all.iter().map(|(pod, by)| ((*pod).to_owned(), (*by).to_owned())).collect()
    };
    let first = named();
    // On a machine that is very busy that time is over before anybody can look.
    if begun.elapsed() < SILENCE {
        assert_eq!(first, of(&[("says-so", "annotation")]), "silence takes its time");
    }
    let until = |want: &[(&str, &str)], asking: &[u8]| {
        let end = Instant::now() + SOON;
        while named() != of(want) {
            asking.iter().for_each(|last| ask(*last));
            assert!(Instant::now() < end, "{:?}", named());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    until(&[("says-so", "annotation"), ("silent", "silence")], &[3]);
    let ready = server.get("/readyz");
    assert!(ready.starts_with("ok\n") && ready.contains("2 pods of this node, shop/says-so first"), "{ready}");
    assert!(server.get("/metrics").contains("segdns_pods_captured 2"), "{}", server.get("/metrics"));
    // The log looks four times within that silence.
    let end = Instant::now() + SOON;
    while !server.log().contains("pod=silent") {
        ask(3);
        assert!(Instant::now() < end, "{}", server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    // It speaks, and the other falls silent.
    until(&[("asks", "silence"), ("says-so", "annotation")], &[2]);
    let log = server.log();
    for name in ["says-so", "silent"] {
        let lines: Vec<&str> = log.lines().filter(|l| l.contains(&format!("pod={name}"))).collect();
        assert!(lines.len() == 1 && lines[0].contains("cni.ambient.dnsCapture=false"), "{name}: {log}");
    }
    assert!(!log.contains("let-through") && !log.contains("pod=plain"), "{log}");
    server.stop().expect("it stops");
}
