//! Alerts and dashboard: each expression is one that Prometheus reads, of metrics, labels and values that there are; each alert
//! fires for what it is for, and has its page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::pods::{container, spec};
use crate::support::objects::{fragment, list, load, text};
use crate::support::server::Server;
use crate::support::{HERE, free_port};
use crate::{deploy, only, skipped};

/// What others say of pods: kube-state-metrics, and kubelet's cAdvisor.
const FOREIGN: [&str; 6] = [
    "kube_daemonset_status_desired_number_scheduled",
    "kube_daemonset_status_number_ready",
    "kube_pod_container_status_restarts_total",
    "kube_pod_container_resource_limits",
    "container_memory_working_set_bytes",
    "container_cpu_usage_seconds_total",
];
/// What Prometheus adds, by servicemonitor.yaml.
const TARGET: [&str; 3] = ["instance", "node", "job"];

fn rules() -> Value {
    only(&load(&deploy().join("monitoring/prometheus-rules.yaml")), "PrometheusRule")["spec"].clone()
}

fn alerts() -> Vec<Value> {
    list(&rules(), "/groups").iter().flat_map(|group| list(group, "/rules").to_vec()).collect()
}

fn dashboard() -> Value {
    let text = std::fs::read_to_string(deploy().join("monitoring/dashboard.json")).expect("a dashboard");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}"))
}

/// Every expression, by where it is.
fn expressions() -> Vec<(String, String)> {
    let of_alerts =
        alerts().into_iter().map(|rule| (text(&rule, "/alert").to_owned(), text(&rule, "/expr").to_owned()));
    let mut all: Vec<(String, String)> = of_alerts.collect();
    for panel in list(&dashboard(), "/panels") {
        let title = format!("panel {:?}", text(panel, "/title"));
        all.extend(list(panel, "/targets").iter().map(|target| {
            let expr = text(target, "/expr").replace("$__rate_interval", "5m").replace("$instance", ".*");
            (title.clone(), expr)
        }));
    }
    all
}

/// The metrics of a running server: their names as they are asked for, with each label's values.
type Metrics = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn metrics() -> Metrics {
    let manifests = ["acme-east", "acme-west", "acquired"]
        .map(|cluster| json!({"cluster": cluster, "path": deploy().join("demo/flat").join(cluster)}));
    let at = |port: u16| std::net::SocketAddr::new(HERE, port);
    let config = json!({
        "listen": [at(free_port())], "admin": at(free_port()), "sources": {"manifests": manifests},
        "forward": [{"zone": ".", "upstreams": [at(free_port())]}], "drain": {"lameduck": "0s", "deadline": "2s"},
    });
    let server = Server::start(&config).unwrap_or_else(|e| panic!("{e}"));
    let mut metrics = Metrics::new();
    for line in server.get("/metrics").lines() {
        // A family without a series yet has its name, and any label.
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffixes: &[&str] = match kind {
                "counter" if !name.ends_with("_total") => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            for suffix in suffixes {
                metrics.entry(format!("{name}{suffix}")).or_default();
            }
        } else if !line.starts_with('#') {
            let (name, labels) = line.split_once('{').unwrap_or((line.split(' ').next().unwrap_or_default(), ""));
            let known = metrics.entry(name.to_owned()).or_default();
            for (label, _, value) in matchers(labels.split('}').next().unwrap_or_default()) {
                known.entry(label).or_default().insert(value);
            }
        }
    }
    metrics
}

/// `a="1",b=~"2|3"`, taken apart: label, operator, value.
fn matchers(text: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((label, after)) = rest.split_once('"') {
        let (value, after) = after.split_once('"').expect("quotes come in pairs");
        let label = label.trim_matches([',', ' ']);
        let name = label.trim_end_matches(['=', '~', '!']);
        found.push((name.to_owned(), label[name.len()..].to_owned(), value.to_owned()));
        rest = after;
    }
    found
}

/// The metrics of an expression, each with what is between its braces.
fn selectors(expr: &str) -> Vec<(String, String)> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let prefixes = ["segdns_", "kube_", "container_"];
    let mut found: Vec<usize> =
        prefixes.iter().flat_map(|prefix| expr.match_indices(prefix).map(|(at, _)| at)).collect();
    // Not in the middle of a word, nor in quotes.
    found.retain(|at| !expr[..*at].ends_with(|c: char| word(c) || c == '"'));
    let of = |at: usize| {
        let end = expr[at..].find(|c| !word(c)).map_or(expr.len(), |length| at + length);
        let inside =
            expr[end..].strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        (expr[at..end].to_owned(), inside.to_owned())
    };
    found.into_iter().map(of).collect()
}

#[test]
fn every_expression_asks_for_metrics_labels_and_values_that_there_are() {
    let metrics = metrics();
    for (place, expr) in expressions() {
        let selectors = selectors(&expr);
        assert!(!selectors.is_empty() || expr.starts_with("up{"), "{place}: {expr}");
        for (name, inside) in selectors.iter().filter(|(name, _)| name.starts_with("segdns_")) {
            let known = metrics.get(name).unwrap_or_else(|| panic!("{place}: there is no metric {name}"));
            for (label, operator, value) in matchers(inside) {
                if TARGET.contains(&&*label) || known.is_empty() {
                    continue;
                }
                let values = known.get(&label).unwrap_or_else(|| panic!("{place}: {name} has no label {label}"));
                let asked: Vec<&str> = if operator == "=~" { value.split('|').collect() } else { vec![&value] };
                let missing = asked.iter().find(|value| !values.is_empty() && !values.contains(**value));
                assert!(missing.is_none(), "{place}: {name} has no {label} {missing:?}, but {values:?}");
            }
        }
        for (name, _) in selectors.iter().filter(|(name, _)| !name.starts_with("segdns_")) {
            assert!(FOREIGN.contains(&&**name), "{place}: nobody is known to have {name}");
        }
    }
}

/// Runs promtool in a folder; says so if there is none.
fn promtool(dir: &Path, args: &[&str]) -> bool {
    match Command::new("promtool").args(args).current_dir(dir).output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].map(|out| String::from_utf8_lossy(&out).into_owned()).concat();
            assert!(output.status.success(), "promtool {args:?}: {said}");
            true
        }
        Err(error) => {
            skipped(&format!("promtool {args:?}: {error} (Debian's package prometheus has it)"));
            false
        }
    }
}

#[test]
fn prometheus_reads_every_expression() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |file: &str, value: &Value| std::fs::write(dir.path().join(file), value.to_string()).expect("written");
    write("rules.yaml", &rules());
    let all = expressions().into_iter().enumerate();
    let record: Vec<Value> =
        all.map(|(ix, (_, expr))| json!({"record": format!("dashboard:{ix}"), "expr": expr})).collect();
    write("dashboard.yaml", &json!({"groups": [{"name": "dashboard", "rules": record}]}));
    promtool(dir.path(), &["check", "rules", "rules.yaml", "dashboard.yaml"]);
}

#[test]
fn every_alert_fires_for_what_it_is_for_and_for_nothing_else() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/alerts.yaml");
    let tests = fragment(&cases);
    let cases_of = |wanted: bool| -> BTreeSet<String> {
        let all = list(&tests, "/tests").iter().flat_map(|test| list(test, "/alert_rule_test"));
        all.filter(|case| list(case, "/exp_alerts").is_empty() != wanted)
            .map(|c| text(c, "/alertname").to_owned())
            .collect()
    };
    let names: BTreeSet<String> = alerts().iter().map(|rule| text(rule, "/alert").to_owned()).collect();
    assert_eq!(cases_of(true), names, "left: with a case in which it fires; right: all");
    // Without annotations, which a case would have to repeat to the letter.
    let mut rules = rules();
    for group in rules["groups"].as_array_mut().expect("groups") {
        group["rules"].as_array_mut().expect("rules").iter_mut().for_each(|rule| {
            rule.as_object_mut().expect("a rule").remove("annotations");
        });
    }
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("rules.yaml"), rules.to_string()).expect("written");
    std::fs::copy(cases, dir.path().join("alerts.yaml")).expect("copied");
    promtool(dir.path(), &["test", "rules", "alerts.yaml"]);
}

/// The page of the alerts.
fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.md")
}

#[test]
fn every_alert_says_what_to_do_and_has_a_page() {
    let page = std::fs::read_to_string(page()).expect("a page");
    let headings: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let alerts = alerts();
    let names: BTreeSet<&str> = alerts.iter().map(|rule| text(rule, "/alert")).collect();
    assert_eq!(headings, names, "left: the page; right: the alerts");
    for rule in &alerts {
        let name = text(rule, "/alert");
        assert!(["critical", "warning", "info"].contains(&text(rule, "/labels/severity")), "{name}");
        let summary = text(rule, "/annotations/summary");
        assert!(!summary.is_empty() && summary.len() < 160, "{name}: {summary}");
        assert!(text(rule, "/annotations/description").len() > 100, "{name}");
        assert_eq!(text(rule, "/annotations/runbook"), format!("docs/alerts.md#{}", name.to_lowercase()));
    }
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    assert_eq!(text(&dashboard, "/uid"), "segdns");
    let variables: Vec<&str> = list(&dashboard, "/templating/list").iter().map(|v| text(v, "/name")).collect();
    assert_eq!(variables, ["datasource", "instance"]);
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in list(&dashboard, "/panels") {
        let title = text(panel, "/title");
        assert!(!title.is_empty() && ids.insert(panel["id"].as_u64()), "{title}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|at| panel["gridPos"][at].as_u64().expect("a number"));
        assert!(w > 0 && h > 0 && x + w <= 24, "{title}");
        assert!((x..x + w).all(|x| (y..y + h).all(|y| taken.insert((x, y)))), "{title} lies over another panel");
        if text(panel, "/type") == "row" {
            continue;
        }
        assert_eq!(text(panel, "/datasource/uid"), "${datasource}", "{title}");
        let targets = list(panel, "/targets");
        let refs: BTreeSet<&str> = targets.iter().map(|t| text(t, "/refId")).collect();
        assert!(!targets.is_empty() && refs.len() == targets.len(), "{title}");
        assert!(targets.iter().all(|t| text(t, "/datasource/uid") == "${datasource}"), "{title}");
        assert!(!text(panel, "/fieldConfig/defaults/unit").is_empty(), "{title}");
    }
}

#[test]
fn metrics_are_found_where_the_pods_have_them() {
    let monitoring = |file: &str| load(&deploy().join("monitoring").join(file));
    let (services, monitors) = (monitoring("service.yaml"), monitoring("servicemonitor.yaml"));
    let (service, monitor) = (only(&services, "Service"), only(&monitors, "ServiceMonitor"));
    let daemonsets = load(&deploy().join("base/daemonset.yaml"));
    let daemonset = only(&daemonsets, "DaemonSet");
    let within = |part: &Value, whole: &Value| {
        part.as_object().is_some_and(|part| !part.is_empty() && part.iter().all(|(key, value)| whole[key] == *value))
    };
    assert!(within(&monitor["spec"]["selector"]["matchLabels"], &service["metadata"]["labels"]));
    assert!(within(&service["spec"]["selector"], &daemonset["spec"]["template"]["metadata"]["labels"]));
    let label = text(monitor, "/spec/jobLabel");
    assert_eq!(service["metadata"]["labels"][label], "segdns", "the job that alerts ask for");
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    let env = list(container(spec(daemonset), "segdns"), "/env").iter().find(|v| v["name"] == "SEGDNS_ADMIN");
    let admin: std::net::SocketAddr = text(env.expect("SEGDNS_ADMIN"), "/value").parse().expect("ADDRESS:PORT");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], admin.port());
    let annotated = &daemonset["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"];
    assert_eq!(*annotated, admin.port().to_string());
}
