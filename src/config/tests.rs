use super::*;
use crate::mesh::settings::CallerOf;

fn no_env(_: &str) -> Option<String> {
    None
}

const SOURCE: &str = "sources: {manifests: [{cluster: cluster1, path: /m}]}\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    let config = Config::parse(text, "segdns.yaml", no_env)?;
    config.validate()?;
    Ok(config)
}

/// Section 5 of the contract, word for word but for the second kind of source.
const EXAMPLE: &str = r#"
listen: ["169.254.20.10:53"]
admin: "127.0.0.1:9153"
cluster: {name: cluster1, domain: cluster.local, rootNamespace: istio-system}
segments: {group: admin.solo.io, version: v1alpha1, defaultName: default, defaultDomain: mesh.internal, zones: []}
sources:
  kubernetes: {node: "${NODE_NAME}", peers: {secretsNamespace: istio-system, selector: istio/multiCluster=true}}
  snapshot: /var/lib/segdns        # last complete state, for a start without the API server
serviceEntries: generated          # generated | all
policy:
  crossSegment: scope              # scope | deny
  defaultSegmentVisible: false
  namespaceSegments: true
  clusterNames: open               # open | segment
  clusterNamesAlways: [default, kube-system, istio-system]
  takeoverFor: enrolled            # enrolled | all
  identityHold: 300ms
callers:
  - {cidr: 127.0.0.0/8, segment: acme-segment, enrolled: true}     # or namespace: NAME
answers: {ttl: 5, negativeTtl: 5, grace: 2s, takeover: flatten, aaaa: auto, chaos: true}
forward:
  - {zone: cluster.local, upstreams: ["10.96.0.10:53"], tcp: true}
  - {zone: ".", upstreams: ["/etc/resolv.conf"]}
cache: {bytes: 16MiB, maxTtl: 3600, maxNegativeTtl: 30, serveStale: 1h, prefetch: true}
limits: {workers: 0, tcpConnections: 1000, tcpPerClient: 50, inflight: 5000, inflightPerClient: 500}
drain: {lameduck: 5s, deadline: 15s}
debug: loopback                    # loopback | any
log: {level: info, format: text, queries: none}                     # queries: none | failures | all | sample of them
"#;

#[test]
fn the_contracts_example_is_the_default_but_for_sources_callers_and_forward() {
    let env = |name: &str| (name == "NODE_NAME").then(|| "node1".to_owned());
    let mut config = Config::parse(EXAMPLE, "segdns.yaml", env).unwrap();
    config.validate().unwrap();
    let kubernetes = config.sources.kubernetes.take().unwrap();
    assert_eq!(kubernetes.node.as_deref(), Some("node1"));
    assert_eq!(config.callers.remove(0).of, CallerOf::Segment("acme-segment".into()));
    let first = config.forward.remove(0);
    assert_eq!(first.upstreams, [Upstream::Address("10.96.0.10:53".parse().unwrap())]);
    assert!(first.tcp && first.zone == Name::parse("cluster.local").ok());
    config.places = Places::default();
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn what_expect_py_dumps_is_read() {
    let text = "listen:\n- 127.0.0.1:5300\nadmin: 127.0.0.1:5301\ncluster:\n  name: cluster1\n  domain: cluster.local\n  \
                rootNamespace: istio-system\nforward:\n- zone: cluster.local\n  upstreams:\n  - 127.0.0.1:5302\n  tcp: true\n\
                - zone: .\n  upstreams:\n  - 127.0.0.1:5302\ndrain:\n  lameduck: 100ms\n  deadline: 2s\nanswers:\n  aaaa: \
                false\nsources:\n  manifests:\n  - cluster: cluster1\n    path: /fixtures/cluster1\n  - cluster: cluster2\n    \
                path: /fixtures/cluster2\n";
    let config = parse(text).unwrap();
    let settings = config.settings();
    assert_eq!(settings.clusters, ["cluster1".into(), "cluster2".into()]);
    assert_eq!((settings.policy.aaaa, settings.grace_ms), (Aaaa::Off, 2000));
    assert_eq!(config.drain.lameduck, Duration::from_millis(100));
    assert_eq!(config.forward[1].zone, None);
    assert!(parse(SOURCE).is_ok() && Config::parse("", "x", no_env).is_ok());
}

#[test]
fn values_are_read_in_all_their_spellings() {
    let aaaa = |text: &str| Config::parse(&format!("answers: {{aaaa: {text}}}"), "", no_env).map(|c| c.answers.aaaa);
    for (text, want) in
        [("auto", Aaaa::Auto), ("on", Aaaa::On), ("yes", Aaaa::On), ("true", Aaaa::On), ("off", Aaaa::Off)]
    {
        assert_eq!(aaaa(text), Ok(want), "{text}");
        assert_eq!(aaaa(&format!("\"{text}\"")), Ok(want), "{text}");
    }
    let queries = |text: &str| Config::parse(&format!("log: {{queries: {text}}}"), "", no_env).map(|c| c.log.queries);
    let cases = [
        ("failures", Queries::Failures),
        ("all", Queries::All),
        ("0.01", Queries::Sample(0.01)),
        ("1", Queries::Sample(1.0)),
    ];
    for (text, want) in cases {
        assert_eq!(queries(text), Ok(want), "{text}");
    }
    let forward = Config::parse(
        "forward: [{zone: ., upstreams: [10.0.0.1, \"fd00::1\", \"[fd00::1]:5353\", /run/r.conf]}]",
        "",
        no_env,
    );
    let want = ["10.0.0.1:53", "[fd00::1]:53", "[fd00::1]:5353"].map(|text| Upstream::Address(text.parse().unwrap()));
    let upstreams = &forward.unwrap().forward[0].upstreams;
    assert_eq!(upstreams[..3], want);
    assert_eq!(upstreams[3], Upstream::ResolvConf("/run/r.conf".into()));
    let level = Config::parse("log: {level: off}\ncache: {bytes: 512KiB}", "", no_env).unwrap();
    assert_eq!((level.log.level, level.cache.bytes), (Level::Off, 512 << 10));
}

#[test]
fn a_bad_configuration_is_one_line_with_file_line_key_and_what_is_allowed() {
    let cases = [
        (
            "drain: {lameduk: 5s}",
            "segdns.yaml:1: drain.lameduk: there is no such key (did you mean lameduck?); allowed here: lameduck, deadline",
        ),
        (
            "log:\n  colour: red",
            "segdns.yaml:2: log.colour: there is no such key; allowed here: level, format, queries",
        ),
        (
            "policy:\n  crossSegment: open",
            "segdns.yaml:2: policy.crossSegment: \"open\" is not allowed here; write scope or deny",
        ),
        (
            "answers: {grace: 5}",
            "segdns.yaml:1: answers.grace: the number 5 is not allowed here; write a time with its unit: 300ms, 2s, 5m or 1h",
        ),
        (
            "cache: {bytes: 16MB}",
            "segdns.yaml:1: cache.bytes: \"16MB\" is not allowed here; write a size in octets, or with its unit: 512KiB, 16MiB or 1GiB",
        ),
        (
            "cluster: {name: 5}",
            "segdns.yaml:1: cluster.name: the number 5 is not allowed here; write a text, in quotes",
        ),
        (
            "cluster: {domain: a..b}",
            "segdns.yaml:1: cluster.domain: \"a..b\" is no DNS name: it has an empty label (two dots in a row, or a dot at the start or the end); write one such as \"mesh.acme\"",
        ),
        (
            "callers:\n- {cidr: 10.0.0.0/8}",
            "segdns.yaml:2: callers[0]: it needs exactly one of segment and namespace; write one of them",
        ),
        (
            "callers:\n- {cidr: 10.0.0.0/8, segment: a, namespace: b}",
            "segdns.yaml:2: callers[0]: it needs exactly one of segment and namespace; write one of them",
        ),
        (
            "callers:\n- {cidr: x, segment: a}",
            "segdns.yaml:2: callers[0].cidr: \"x\" is not allowed here; write a CIDR, e.g. 10.0.0.0/8 or fd00::/8",
        ),
        (
            "forward: [{zone: ., upstreams: [dns.example]}]",
            "segdns.yaml:1: forward[0].upstreams[0]: \"dns.example\" is not allowed here; write ADDRESS:PORT, an IP address (port 53), or the absolute path of a resolv.conf",
        ),
        ("listen: 5", "segdns.yaml:1: listen: the number 5 is not allowed here; write a list"),
        ("log: 5", "segdns.yaml:1: log: the number 5 is not allowed here; write a mapping with level, format, queries"),
        (
            "log: {queries: 2}",
            "segdns.yaml:1: log.queries: the number 2 is not allowed here; write none, failures, all, or the share to sample, e.g. 0.01",
        ),
        ("sources: {manifests: [{path: /m}]}", "segdns.yaml:1: sources.manifests[0]: it has no cluster; add one"),
        (
            "cluster:\n  name: \"${NOPE}\"",
            "segdns.yaml:2: cluster.name: environment variable \"NOPE\" is not set; set it, or write the value in place of ${NOPE}",
        ),
        (
            "admin: \"127.0.0.1:1\"\nadmin: \"127.0.0.1:2\"",
            "segdns.yaml:2: admin: this key is there twice; remove one of the two",
        ),
        ("listen: []", "segdns.yaml:1: listen: the list is empty; write at least one ADDRESS:PORT"),
        (
            "listen: [\"1.1.1.1:53\", \"1.1.1.1:53\"]",
            "segdns.yaml:1: listen[1]: 1.1.1.1:53 is there twice; remove one of the two",
        ),
        (
            "forward: [{zone: ., upstreams: []}]",
            "segdns.yaml:1: forward[0].upstreams: there is none; write at least one ADDRESS:PORT or resolv.conf",
        ),
        (
            "forward: [{zone: a, upstreams: [/r]}, {zone: A, upstreams: [/r]}]",
            "segdns.yaml:1: forward[1].zone: \"a\" is there twice; put all upstreams under one",
        ),
        (
            "listen: [\"0.0.0.0:53\"]\nforward:\n- zone: .\n  upstreams: [127.0.0.1]",
            "segdns.yaml:4: forward[0].upstreams[0]: segdns listens on 127.0.0.1:53 and would ask itself; write another server",
        ),
        (
            "segments: {zones: [x.cluster.local]}",
            "segdns.yaml:1: segments.zones[0]: x.cluster.local is the cluster domain, or above or below it (cluster.local); write a domain apart from it",
        ),
        (
            "segments: {zones: [10.in-addr.arpa]}",
            "segdns.yaml:1: segments.zones[0]: 10.in-addr.arpa is under arpa; write a domain apart from it",
        ),
        (
            "segments: {defaultDomain: local}",
            "segdns.yaml:1: segments.defaultDomain: local is the cluster domain, or above or below it (cluster.local); write a domain apart from it",
        ),
        ("answers: {ttl: 5000}", "segdns.yaml:1: answers.ttl: 5000 is too long; write seconds from 0 to 3600"),
        ("limits: {inflight: 0}", "segdns.yaml:1: limits.inflight: 0 would let nothing through; write a number from 1"),
        (
            "drain: {lameduck: 20s}",
            "segdns.yaml:1: drain.deadline: it has to be above 0 and not before drain.lameduck ends; write a longer time",
        ),
        (
            "placement: {silence: 10ms}",
            "segdns.yaml:1: placement.silence: 10ms is not from 1s to 86400s; 0s looks for nobody",
        ),
        (
            "sources: {kubernetes: {events: sometimes}}",
            "segdns.yaml:1: sources.kubernetes.events: \"sometimes\" is not allowed here; write auto, true or false",
        ),
        (
            "sources: {kubernetes: {watchSilence: 500ms}}",
            "segdns.yaml:1: sources.kubernetes.watchSilence: 500ms is not from 1s to 600s; a quiet watch is heard of about once a minute, 90s suits that",
        ),
        (
            "sources: {kubernetes: {watchSilence: 11m}}",
            "segdns.yaml:1: sources.kubernetes.watchSilence: 660s is not from 1s to 600s; a quiet watch is heard of about once a minute, 90s suits that",
        ),
        (
            "sources: {kubernetes: {peers: {wait: 1h}}}",
            "segdns.yaml:1: sources.kubernetes.peers.wait: 3600s is too long; write at most 300s",
        ),
        (
            "sources: {kubernetes: {watchSilent: 5s}}",
            "segdns.yaml:1: sources.kubernetes.watchSilent: there is no such key (did you mean watchSilence?); allowed here: node, watchSilence, peers, events",
        ),
    ];
    for (text, want) in cases {
        let text = if text.starts_with("sources") { text.to_owned() } else { format!("{text}\n{SOURCE}") };
        let error = parse(&text).expect_err(&text).to_string();
        assert_eq!(error, want, "{text}");
    }
}

#[test]
fn bad_yaml_and_bad_sources_are_named_with_their_place() {
    let cases = [
        ("listen: [", "segdns.yaml:1: it is no YAML: "),
        ("a: b\n---\nc: d", "segdns.yaml:"),
        ("{}", "segdns.yaml: sources: there is no source of objects"),
        (
            "sources: {kubernetes: {}, manifests: [{cluster: a, path: /m}]}",
            "segdns.yaml:1: sources.manifests: there is sources.kub",
        ),
        (
            "sources:\n  manifests: [{cluster: a, path: /m},\n    {cluster: a, path: /n}]",
            "segdns.yaml:3: sources.manifests[1].cluster: \"a\" is there twice",
        ),
    ];
    for (text, want) in cases {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.starts_with(want) && !error.contains('\n'), "{text}: {error}");
    }
    let error = Config::read(Path::new("/nonexistent/segdns.yaml"), no_env).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/segdns.yaml: it cannot be read: No such file"), "{error}");
}

#[test]
fn a_flag_that_makes_it_bad_is_named_by_its_key() {
    let mut config = Config::parse(SOURCE, "segdns.yaml", no_env).unwrap();
    config.forward[0].upstreams = vec![Upstream::Address("169.254.20.10:53".parse().unwrap())];
    let error = config.validate().unwrap_err().to_string();
    assert!(error.starts_with("segdns.yaml: forward[0].upstreams[0]: segdns listens on"), "{error}");
}

#[test]
fn what_is_watched_comes_from_four_sections() {
    let text = "sources:\n  kubernetes:\n    node: n1\n    watchSilence: 30s\n    peers: {secretsNamespace: s, selector: a=b, \
                wait: 0}\ncluster: {name: c, rootNamespace: r}\nsegments: {group: admin.istio.io, version: v1}\n\
                serviceEntries: all\n";
    let options = parse(text).unwrap().watched().unwrap();
    let want = "Options { cluster: \"c\", root_namespace: \"r\", segment_group: \"admin.istio.io\", segment_version: \"v1\", \
                all_entries: true, node: Some(\"n1\"), secrets_namespace: \"s\", secrets_selector: \"a=b\", peers_wait: 0ns, \
                silence: 30s }";
    assert_eq!(format!("{options:?}"), want);
    let options = parse("sources: {kubernetes: {}}").unwrap().watched().unwrap();
    assert_eq!((options.all_entries, options.node), (false, None));
    assert_eq!((options.silence, options.peers_wait), (Duration::from_secs(90), Duration::from_secs(10)));
    assert!(parse(SOURCE).unwrap().watched().is_none());
}

#[test]
fn only_a_server_needs_a_node_and_an_empty_variable_names_none() {
    let env = |value: &'static str| move |name: &str| (name == "NODE_NAME").then(|| value.to_owned());
    let read = |text: &str, node: &'static str| {
        let config = Config::parse(text, "segdns.yaml", env(node)).unwrap();
        config.validate().unwrap();
        config.validate_to_serve().map_err(|error| error.to_string())
    };
    assert_eq!(read("sources: {kubernetes: {}}", "node1"), Ok(()));
    assert_eq!(read(SOURCE, ""), Ok(()));
    let want = "segdns.yaml:2: sources.kubernetes.node: no node name, and a server reads its own node's pods only; give \
                --node or NODE_NAME (the DaemonSet's fieldRef spec.nodeName)";
    assert_eq!(read("sources:\n  kubernetes: {}", ""), Err(want.into()));
}
