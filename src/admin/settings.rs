//! `/debug/config`: the effective configuration, flags and defaults included, in the keys of the file.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{Config, Debug, Events, Format, Level, Queries, Upstream};
use crate::mesh::settings::{CallerOf, CallerRule};

/// The whole.
#[must_use]
pub fn settings(config: &Config) -> Value {
    let Config { cluster, segments, policy, answers, cache, limits, drain, .. } = config;
    json!({
        "listen": config.listen,
        "admin": config.admin,
        "adminSocket": config.admin_socket,
        "cluster": {"name": cluster.name, "domain": cluster.domain.as_str(), "rootNamespace": cluster.root_namespace},
        "segments": {
            "group": segments.group,
            "version": segments.version,
            "defaultName": segments.default_name,
            "defaultDomain": segments.default_domain.as_str(),
            "zones": segments.zones.iter().map(|z| z.as_str()).collect::<Vec<_>>(),
        },
        "sources": sources(config),
        "serviceEntries": config.service_entries,
        "policy": {
            "crossSegment": policy.cross_segment,
            "defaultSegmentVisible": policy.default_segment_visible,
            "namespaceSegments": policy.namespace_segments,
            "clusterNames": policy.cluster_names,
            "clusterNamesAlways": policy.cluster_names_always,
            "takeoverFor": policy.takeover_for,
            "identityHold": time(policy.identity_hold),
        },
        "callers": config.callers.iter().map(caller).collect::<Vec<_>>(),
        "answers": {
            "ttl": answers.ttl,
            "negativeTtl": answers.negative_ttl,
            "grace": time(answers.grace),
            "takeover": answers.takeover,
            "aaaa": answers.aaaa,
            "chaos": answers.chaos,
        },
        "forward": config.forward.iter().map(|f| {
            let upstreams: Vec<String> = f.upstreams.iter().map(upstream).collect();
            json!({"zone": f.zone.as_ref().map_or(".", |z| z.as_str()), "upstreams": upstreams, "tcp": f.tcp})
        }).collect::<Vec<_>>(),
        "autopath": config.autopath,
        "cache": {
            "bytes": cache.bytes,
            "maxTtl": cache.max_ttl,
            "maxNegativeTtl": cache.max_negative_ttl,
            "serveStale": time(cache.serve_stale),
            "prefetch": cache.prefetch,
        },
        "limits": {
            "workers": limits.workers,
            "tcpConnections": limits.tcp_connections,
            "tcpPerClient": limits.tcp_per_client,
            "inflight": limits.inflight,
            "inflightPerClient": limits.inflight_per_client,
        },
        "drain": {"lameduck": time(drain.lameduck), "deadline": time(drain.deadline)},
        "debug": match config.debug { Debug::Loopback => "loopback", Debug::Any => "any" },
        "log": log(config),
        "placement": {"silence": time(config.placement.silence)},
    })
}

fn caller(rule: &CallerRule) -> Value {
    let (key, name) = match &rule.of {
        CallerOf::Segment(name) => ("segment", name),
        CallerOf::Namespace(name) => ("namespace", name),
    };
    json!({"cidr": rule.cidr.to_string(), key: name, "enrolled": rule.enrolled})
}

fn sources(config: &Config) -> Value {
    let manifests = config.sources.manifests.iter().map(|dir| json!({"cluster": dir.cluster, "path": dir.path}));
    let manifests: Vec<Value> = manifests.collect();
    let mut out = json!({"snapshot": config.sources.snapshot});
    if !manifests.is_empty() {
        out["manifests"] = manifests.into();
    }
    if let Some(kubernetes) = &config.sources.kubernetes {
        let peers = &kubernetes.peers;
        out["kubernetes"] = json!({
            "node": kubernetes.node,
            "watchSilence": time(kubernetes.watch_silence),
            "events": match kubernetes.events {
                Events::Auto => json!("auto"),
                Events::On => json!(true),
                Events::Off => json!(false),
            },
            "peers": {
                "secretsNamespace": peers.secrets_namespace,
                "selector": peers.selector,
                "wait": time(peers.wait),
            },
        });
    }
    out
}

fn log(config: &Config) -> Value {
    let queries = queries(config.log.queries);
    let format = match config.log.format {
        Format::Text => "text",
        Format::Json => "json",
    };
    json!({"level": level(config.log.level), "format": format, "queries": queries})
}

/// The word for which queries are logged, or the share of them.
#[must_use]
pub fn queries(queries: Queries) -> Value {
    match queries {
        Queries::None => json!("none"),
        Queries::Failures => json!("failures"),
        Queries::All => json!("all"),
        Queries::Sample(share) => json!(share),
    }
}

/// The word for a level.
#[must_use]
pub const fn level(level: Level) -> &'static str {
    match level {
        Level::Off => "off",
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn upstream(upstream: &Upstream) -> String {
    match upstream {
        Upstream::Address(address) => address.to_string(),
        Upstream::ResolvConf(path) => path.display().to_string(),
    }
}

/// As the file has it: whole seconds as `5s`, anything else as `300ms`.
fn time(time: Duration) -> String {
    if time.subsec_nanos() == 0 { format!("{}s", time.as_secs()) } else { format!("{}ms", time.as_millis()) }
}
