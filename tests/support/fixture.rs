//! Runs a fixture: one server per local cluster and policy, every row over UDP and TCP, without and with EDNS.
//!
//! The server reads the fixture's directories, or watches API servers that hold the same objects.

mod clusters;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, Proto, next_id};
use super::fed::Lab;
use super::netns::{self, NODE4, NODE6, Pods};
use super::rows::{self, Row, searched, twins, zone_of};
use super::server::Server;
use super::upstream::Upstream;
use super::world::World;
use super::{CLUSTER_DOMAIN, HERE, UPSTREAM, free_port, judge, objects, wire};
use clusters::Fed;

/// Set to anything, objects come in another order of chance.
const SEED: &str = "SEGDNS_SEED";
/// What is waited after ready beyond `answers.grace` (R22).
const SETTLE: Duration = Duration::from_millis(300);
/// How every row is asked.
const VARIANTS: [(Proto, bool, &str); 4] = [
    (Proto::Udp, false, "udp"),
    (Proto::Tcp, false, "tcp"),
    (Proto::Udp, true, "udp+edns"),
    (Proto::Tcp, true, "tcp+edns"),
];

/// Where the fixtures are.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Names of the fixtures' directories.
///
/// # Panics
/// They cannot be read.
#[must_use]
pub fn directories() -> Vec<String> {
    let entries = std::fs::read_dir(root()).expect("tests/fixtures").map(|e| e.expect("an entry"));
    let mut found: Vec<String> =
        entries.filter(|e| e.path().is_dir()).map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    found.sort_unstable();
    found
}

/// Defines a test for each directory of `tests/fixtures`, with the objects from this [`fixture::Source`], and one that none
/// is forgotten.
#[macro_export]
macro_rules! every_fixture {
    ($source:expr) => {
        $crate::every_fixture! {
            @ $source;
            addresses => "addresses",
            aliases => "aliases",
            answers => "answers",
            bookinfo_flat => "bookinfo-flat",
            bookinfo_segments => "bookinfo-segments",
            bookinfo_standalone_flat => "bookinfo-standalone-flat",
            bookinfo_standalone_segments => "bookinfo-standalone-segments",
            callers => "callers",
            cluster_invalid => "cluster-invalid",
            cluster_names => "cluster-names",
            entries => "entries",
            external_names => "external-names",
            forwarding => "forwarding",
            httpbin_global => "httpbin-global",
            httpbin_segment_scope => "httpbin-segment-scope",
            httpbin_takeover => "httpbin-takeover",
            namespace_segments => "namespace-segments",
            peers => "peers",
            renamed => "renamed",
            search_paths => "search-paths",
            search_paths_one_label => "search-paths-one-label",
            segment_validity => "segment-validity",
            service_entries_all => "service-entries-all",
            takeover => "takeover",
            unknown_callers => "unknown-callers",
            visibility => "visibility",
            zone_collision => "zone-collision",
        }
    };
    (@ $source:expr; $($test:ident => $directory:literal,)+) => {
        $(#[test]
        fn $test() {
            $crate::support::fixture::run($directory, $source);
        })+

        #[test]
        fn every_directory_has_a_test() {
            assert_eq!($crate::support::fixture::directories(), [$($directory),+], "directories of tests/fixtures");
        }
    };
}

/// Where the server under test has the objects from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// The fixture's directories.
    Manifests,
    /// An API server for each of them.
    ApiServers(Lab),
}

/// A fixture's directory, read.
struct Fixture {
    name: String,
    source: Source,
    dir: PathBuf,
    rows: Vec<Row>,
    /// What is merged over the configuration.
    extra: Value,
    /// `expect:` of config.yaml.
    expect: Value,
    client: Client,
}

/// One server and the rows that are asked of it.
struct Group<'a> {
    fixture: &'a Fixture,
    local: &'a str,
    policy: &'a str,
    rows: Vec<&'a Row>,
    zones: Vec<String>,
    port: u16,
}

/// Runs one fixture; the test fails with a line for every row that does.
///
/// # Panics
/// A row fails, or the fixture cannot be run.
pub fn run(name: &str, source: Source) {
    let mut fixture = Fixture::read(name, source);
    let far = fixture.far_callers();
    if !far.is_empty() {
        match Pods::new(&far) {
            Ok(pods) => fixture.client.pods = Some(Arc::new(pods)),
            Err(e) if netns::may_skip() => {
                // Not by eprintln!, which the test harness would keep to itself.
                let _ = writeln!(std::io::stderr(), "SKIPPED fixture {name}: {e}");
                return;
            }
            Err(e) => panic!("fixture {name} cannot be run: {e}"),
        }
    }
    let groups = fixture.groups();
    let failures: Vec<String> = std::thread::scope(|s| {
        let running: Vec<_> = groups.iter().map(|g| s.spawn(|| g.run())).collect();
        running.into_iter().flat_map(|r| r.join().unwrap_or_else(|_| vec!["the runner panicked".to_owned()])).collect()
    });
    let total = fixture.rows.len();
    assert!(failures.is_empty(), "{name}: {} failures in {total} rows\n{}", failures.len(), failures.join("\n"));
}

impl Fixture {
    fn read(name: &str, source: Source) -> Self {
        let dir = root().join(name);
        let mut extra = objects::fragment(&dir.join("config.yaml"));
        let expect = extra.as_object_mut().and_then(|m| m.remove("expect")).unwrap_or_default();
        let rows = rows::read(&dir.join("expect.tsv"));
        assert!(!rows.is_empty(), "{}: no rows", dir.display());
        Self { name: name.to_owned(), source, dir, rows, extra, expect, client: Client::default() }
    }

    /// Callers that need a network namespace.
    fn far_callers(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = self.rows.iter().map(|r| address(&r.caller)).filter(|a| !a.is_loopback()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Rows by server, in the order of the file within each.
    fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
        for row in &self.rows {
            groups.entry((&row.local, &row.policy)).or_default().push(row);
        }
        let made = groups.into_iter().map(|((local, policy), rows)| Group {
            fixture: self,
            local,
            policy,
            rows,
            zones: self.zones(local),
            port: free_port(),
        });
        made.collect()
    }

    /// The mesh zones that a local cluster has, by config.yaml.
    fn zones(&self, local: &str) -> Vec<String> {
        let zones = objects::list(&self.expect, &format!("/zones/{local}")).iter().filter_map(Value::as_str);
        let zones: Vec<String> = zones.map(str::to_lowercase).collect();
        assert!(!zones.is_empty(), "{}: config.yaml has no expect.zones.{local}", self.dir.display());
        zones
    }

    /// Names of the clusters' directories.
    fn clusters(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.dir).expect("the fixture's directory").filter_map(Result::ok);
        let dirs = entries.filter(|e| e.path().is_dir());
        let mut names: Vec<String> = dirs.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }

    /// `answers.grace` of config.yaml; a policy column may make it longer, to ask within it.
    fn settle(&self) -> Duration {
        let text = objects::text(&self.extra, "/answers/grace");
        let millis = |t: &str| t.strip_suffix("ms").and_then(|n| n.parse().ok()).map(Duration::from_millis);
        let seconds = |t: &str| t.strip_suffix('s').and_then(|n| n.parse().ok()).map(Duration::from_secs);
        millis(text).or_else(|| seconds(text)).unwrap_or(Duration::from_secs(2)) + SETTLE
    }
}

impl Group<'_> {
    /// All complaints of this server's rows.
    fn run(&self) -> Vec<String> {
        let whole =
            |text: String| vec![format!("FAIL all {} rows of {} {}: {text}", self.rows.len(), self.local, self.policy)];
        if let Some(pods) = &self.fixture.client.pods
            && let Err(e) = pods.enter_node()
        {
            return whole(format!("setns: {e}"));
        }
        let up = match Upstream::start(self.world(), SocketAddr::new(UPSTREAM, free_port())) {
            Ok(up) => up,
            Err(e) => return whole(format!("no upstream: {e}")),
        };
        let (server, fed) = match self.start(&up) {
            Ok(started) => started,
            Err(e) => return whole(format!("no server: {e}")),
        };
        std::thread::sleep(self.fixture.settle());
        let mut failures = Vec::new();
        for row in &self.rows {
            // So that no row is answered by what another has found.
            server.flush();
            let bad = self.row(row, &up);
            if !bad.is_empty() {
                let Row { no, local, caller, policy, name, rtype, rcode, answers, rules, .. } = row;
                let what = bad.join("; ");
                failures.push(format!(
                    "FAIL row {no} {local} from {caller} {policy} {name} {rtype}: want {rcode} {answers} ({rules}): {what}"
                ));
            }
        }
        if let Some(fed) = fed {
            failures.extend(fed.differences(&server, &self.rows).unwrap_or_else(whole));
        }
        let leaked = |n: &String| zone_of(n, &self.zones).is_some() || searched(n, &self.zones).is_some();
        let leaks: Vec<String> = up.names().into_iter().filter(leaked).collect();
        let run = format!("FAIL run {} {}", self.local, self.policy);
        if !leaks.is_empty() {
            failures.push(format!("{run}: names in mesh zones reached the upstream (R13): {}", leaks.join(", ")));
        }
        if let Err(e) = server.stop() {
            failures.push(format!("{run}: {e}"));
        }
        failures
    }

    /// A server that knows all objects.
    fn start(&self, up: &Upstream) -> Result<(Server, Option<Fed>), String> {
        let config = self.configuration(up);
        match self.fixture.source {
            Source::Manifests => Ok((Server::start(&config)?, None)),
            Source::ApiServers(lab) => {
                let other = std::env::var(SEED).unwrap_or_default();
                let seed = format!("{} {} {}{other}", self.fixture.name, self.local, self.policy);
                Fed::start(lab, &config, &seed).map(|(server, fed)| (server, Some(fed)))
            }
        }
    }

    fn world(&self) -> World {
        let mut world = World::outside();
        if self.fixture.expect["clusterNames"] != false {
            world.add_cluster(&self.fixture.dir.join(self.local));
        }
        world.add_tsv(&self.fixture.dir.join("upstream.tsv"));
        world
    }

    fn configuration(&self, up: &Upstream) -> Value {
        let mut listen = vec![SocketAddr::new(HERE, self.port)];
        if self.fixture.client.pods.is_some() {
            listen.extend([SocketAddr::new(NODE4, self.port), SocketAddr::new(NODE6, self.port)]);
        }
        let upstream = [up.address()];
        let mut config = json!({
            "listen": listen,
            "admin": SocketAddr::new(HERE, free_port()),
            "cluster": {"name": self.local, "domain": CLUSTER_DOMAIN, "rootNamespace": "istio-system"},
            "forward": [
                {"zone": CLUSTER_DOMAIN, "upstreams": upstream, "tcp": true},
                {"zone": ".", "upstreams": upstream},
            ],
            "drain": {"lameduck": "100ms", "deadline": "2s"},
        });
        objects::merge(&mut config, &self.fixture.extra);
        let mut peers: Vec<String> = self.fixture.clusters().into_iter().filter(|c| c != self.local).collect();
        for item in self.policy.split(';').filter(|p| *p != "-") {
            match item.split_once('=') {
                None => objects::set_path(&mut config, "policy.takeoverFor", item.into()),
                Some(("peers", "none")) => peers.clear(),
                Some(("peers", some)) => peers = some.split('+').map(str::to_owned).collect(),
                Some((key, value)) => objects::set_path(&mut config, key, objects::scalar(value)),
            }
        }
        let clusters = std::iter::once(self.local.to_owned()).chain(peers);
        let manifests: Vec<Value> =
            clusters.map(|c| json!({"path": self.fixture.dir.join(&c), "cluster": c})).collect();
        config["sources"] = json!({"manifests": manifests});
        config
    }

    /// Asks one row in every way; complaints that several ways share are told once.
    fn row(&self, row: &Row, up: &Upstream) -> Vec<String> {
        let mut bad: Vec<(String, Vec<&str>)> = Vec::new();
        for (proto, edns, tag) in VARIANTS {
            for complaint in self.variant(row, proto, edns, up) {
                match bad.iter_mut().find(|(text, _)| *text == complaint) {
                    Some((_, tags)) => tags.push(tag),
                    None => bad.push((complaint, vec![tag])),
                }
            }
        }
        bad.into_iter().map(|(text, tags)| format!("{text} [{}]", tags.join(" "))).collect()
    }

    fn variant(&self, row: &Row, proto: Proto, edns: bool, up: &Upstream) -> Vec<String> {
        let qtype = wire::type_number(&row.rtype);
        let (query, answer) = match self.ask(row, &row.name, qtype, proto, edns) {
            Ok(exchange) => exchange,
            Err(e) => return vec![e],
        };
        let mut bad = judge::judge(row, &query, &answer, edns, &self.zones, up);
        let in_mesh = zone_of(&row.name, &self.zones).is_some() || searched(&row.name, &self.zones).is_some();
        let negative = row.rcode == "NXDOMAIN" && row.answers == "-" && in_mesh;
        if !negative && !row.also.iter().any(|t| t == "twin") {
            return bad;
        }
        for twin in twins(&row.name, &self.zones) {
            match self.ask(row, &twin, qtype, proto, edns) {
                Ok((_, other)) if wire::core(&other) == wire::core(&answer) => {}
                Ok((_, other)) => {
                    let (ours, theirs) = (hex(&wire::core(&answer)), hex(&wire::core(&other)));
                    bad.push(format!("differs from {twin} (R13): {ours} / {theirs}"));
                }
                Err(e) => bad.push(format!("twin {twin}: {e}")),
            }
        }
        bad
    }

    /// The query and its answer.
    fn ask(&self, row: &Row, name: &str, qtype: u16, proto: Proto, edns: bool) -> Result<(Vec<u8>, Vec<u8>), String> {
        let src = address(&row.caller);
        let here = match src {
            src if src.is_loopback() => HERE,
            IpAddr::V4(_) => NODE4,
            IpAddr::V6(_) => NODE6,
        };
        let query = wire::query(next_id(), name, qtype, edns);
        let answer = self.fixture.client.ask(src, SocketAddr::new(here, self.port), proto, &query);
        answer.map(|a| (query, a)).map_err(|e| format!("no answer: {e}"))
    }
}

fn address(caller: &str) -> IpAddr {
    if caller == "-" { HERE } else { caller.parse().unwrap_or_else(|e| panic!("caller {caller}: {e}")) }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|o| format!("{o:02x}")).collect()
}
