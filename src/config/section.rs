//! From the tree to [`Config`]: which keys there are, and where each goes.

use std::path::PathBuf;

use serde_saphyr::Spanned;

use super::tree::{self, Node, below};
use super::value::{Bytes, Value, ZoneName, not};
use super::{Config, ConfigError, Kubernetes, ManifestDir, Upstream, Zone};
use crate::mesh::settings::{CallerOf, CallerRule};

/// A mapping while it is read.
struct Section<'t> {
    file: &'t str,
    path: String,
    line: u64,
    entries: &'t [(Spanned<String>, Spanned<Node>)],
}

type Read<T> = Result<T, ConfigError>;

impl<'t> Section<'t> {
    /// Takes a mapping that may have these keys.
    fn new(file: &'t str, path: String, node: &'t Spanned<Node>, keys: &[&str]) -> Read<Self> {
        let line = node.defined.line();
        let entries = match &node.value {
            Node::Null => &[][..],
            Node::Map(entries) => entries,
            other => {
                let want = format!("a mapping with {}", keys.join(", "));
                return not(other, &want).map_err(|what| ConfigError::new(file, Some(line), &path, what));
            }
        };
        for (key, _) in entries {
            if !keys.contains(&key.value.as_str()) {
                let what = unknown(&key.value, keys);
                return Err(ConfigError::new(file, Some(key.defined.line()), &below(&path, &key.value), what));
            }
        }
        Ok(Self { file, path, line, entries })
    }

    fn get(&self, key: &str) -> Option<&'t Spanned<Node>> {
        self.entries.iter().find(|(name, _)| name.value == key).map(|(_, value)| value)
    }

    fn error(&self, key: &str, at: &Spanned<Node>, what: &str) -> ConfigError {
        ConfigError::new(self.file, Some(at.defined.line()), &below(&self.path, key), what)
    }

    /// Sets `slot` if the key is there.
    fn set<T: Value>(&self, key: &str, slot: &mut T) -> Read<()> {
        if let Some(node) = self.get(key) {
            *slot = T::read(&node.value).map_err(|what| self.error(key, node, &what))?;
        }
        Ok(())
    }

    /// A key that has to be there.
    fn need<T: Value>(&self, key: &str) -> Read<T> {
        let Some(node) = self.get(key) else {
            let what = format!("it has no {key}; add one");
            return Err(ConfigError::new(self.file, Some(self.line), &self.path, what));
        };
        T::read(&node.value).map_err(|what| self.error(key, node, &what))
    }

    fn elements(&self, key: &str) -> Read<Option<&'t [Spanned<Node>]>> {
        match self.get(key).map(|node| (node, &node.value)) {
            None => Ok(None),
            Some((_, Node::List(list))) => Ok(Some(list)),
            Some((_, Node::Null)) => Ok(Some(&[])),
            Some((node, other)) => not(other, "a list").map_err(|what| self.error(key, node, &what)),
        }
    }

    fn list<T: Value>(&self, key: &str, slot: &mut Vec<T>) -> Read<()> {
        let Some(elements) = self.elements(key)? else { return Ok(()) };
        let read = |(index, node): (usize, &Spanned<Node>)| {
            T::read(&node.value).map_err(|what| self.error(&format!("{key}[{index}]"), node, &what))
        };
        *slot = elements.iter().enumerate().map(read).collect::<Read<_>>()?;
        Ok(())
    }

    fn sections(&self, key: &str, keys: &[&str]) -> Read<Option<Vec<Section<'t>>>> {
        let Some(elements) = self.elements(key)? else { return Ok(None) };
        let path = below(&self.path, key);
        let section = |(index, node)| Section::new(self.file, format!("{path}[{index}]"), node, keys);
        elements.iter().enumerate().map(section).collect::<Read<_>>().map(Some)
    }

    fn section(&self, key: &str, keys: &[&str]) -> Read<Option<Section<'t>>> {
        let section = |node| Section::new(self.file, below(&self.path, key), node, keys);
        self.get(key).map(section).transpose()
    }
}

/// What to say of a key that does not exist: those that look like it, and all that are allowed.
fn unknown(key: &str, keys: &[&str]) -> String {
    let like = |other: &&str| distance(key, other) <= (key.len() / 3).clamp(1, 3);
    let close: Vec<&str> = keys.iter().copied().filter(like).collect();
    let meant = if close.is_empty() { String::new() } else { format!(" (did you mean {}?)", close.join(" or ")) };
    format!("there is no such key{meant}; allowed here: {}", keys.join(", "))
}

/// How many letters to change, insert or remove (Levenshtein), with case folded.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_ascii_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.to_ascii_lowercase().chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[other.len()]
}

const ROOT: [&str; 18] = [
    "listen",
    "admin",
    "adminSocket",
    "cluster",
    "segments",
    "sources",
    "serviceEntries",
    "policy",
    "callers",
    "answers",
    "forward",
    "autopath",
    "cache",
    "limits",
    "drain",
    "debug",
    "log",
    "placement",
];

/// Reads the whole.
pub fn config(root: &Spanned<Node>, file: &str, env: &dyn Fn(&str) -> Option<String>) -> Read<Config> {
    let mut config = Config::default();
    config.places.file = file.to_owned();
    tree::lines(root, "", &mut config.places.lines);
    let top = Section::new(file, String::new(), root, &ROOT)?;
    top.list("listen", &mut config.listen)?;
    top.set("admin", &mut config.admin)?;
    optional_path(&top, "adminSocket", &mut config.admin_socket)?;
    top.set("serviceEntries", &mut config.service_entries)?;
    top.set("autopath", &mut config.autopath)?;
    top.set("debug", &mut config.debug)?;
    names(&top, &mut config)?;
    sources(&top, &mut config, env)?;
    policy(&top, &mut config)?;
    callers(&top, &mut config)?;
    answers(&top, &mut config)?;
    forward(&top, &mut config)?;
    bounds(&top, &mut config)?;
    Ok(config)
}

fn names(top: &Section<'_>, config: &mut Config) -> Read<()> {
    if let Some(cluster) = top.section("cluster", &["name", "domain", "rootNamespace"])? {
        cluster.set("name", &mut config.cluster.name)?;
        cluster.set("domain", &mut config.cluster.domain)?;
        cluster.set("rootNamespace", &mut config.cluster.root_namespace)?;
    }
    if let Some(segments) = top.section("segments", &["group", "version", "defaultName", "defaultDomain", "zones"])? {
        segments.set("group", &mut config.segments.group)?;
        segments.set("version", &mut config.segments.version)?;
        segments.set("defaultName", &mut config.segments.default_name)?;
        segments.set("defaultDomain", &mut config.segments.default_domain)?;
        segments.list("zones", &mut config.segments.zones)?;
    }
    Ok(())
}

fn sources(top: &Section<'_>, config: &mut Config, env: &dyn Fn(&str) -> Option<String>) -> Read<()> {
    let Some(sources) = top.section("sources", &["kubernetes", "manifests", "snapshot"])? else { return Ok(()) };
    if let Some(kubernetes) = sources.section("kubernetes", &["node", "watchSilence", "peers", "events"])? {
        let node = env("NODE_NAME").filter(|node| !node.is_empty());
        let mut read = Kubernetes { node: node.map(Into::into), ..Kubernetes::default() };
        if kubernetes.get("node").is_some() {
            read.node = Some(kubernetes.need("node")?);
        }
        kubernetes.set("watchSilence", &mut read.watch_silence)?;
        kubernetes.set("events", &mut read.events)?;
        if let Some(peers) = kubernetes.section("peers", &["secretsNamespace", "selector", "wait"])? {
            peers.set("secretsNamespace", &mut read.peers.secrets_namespace)?;
            peers.set("selector", &mut read.peers.selector)?;
            peers.set("wait", &mut read.peers.wait)?;
        }
        config.sources.kubernetes = Some(read);
    }
    for entry in sources.sections("manifests", &["cluster", "path"])?.unwrap_or_default() {
        config.sources.manifests.push(ManifestDir { cluster: entry.need("cluster")?, path: entry.need("path")? });
    }
    optional_path(&sources, "snapshot", &mut config.sources.snapshot)
}

/// A path, or `~` for none.
fn optional_path(section: &Section<'_>, key: &str, path: &mut Option<PathBuf>) -> Read<()> {
    match section.get(key).map(|node| &node.value) {
        None => {}
        Some(Node::Null) => *path = None,
        Some(_) => *path = Some(section.need(key)?),
    }
    Ok(())
}

fn policy(top: &Section<'_>, config: &mut Config) -> Read<()> {
    const KEYS: [&str; 7] = [
        "crossSegment",
        "defaultSegmentVisible",
        "namespaceSegments",
        "clusterNames",
        "clusterNamesAlways",
        "takeoverFor",
        "identityHold",
    ];
    let Some(policy) = top.section("policy", &KEYS)? else { return Ok(()) };
    let into = &mut config.policy;
    policy.set("crossSegment", &mut into.cross_segment)?;
    policy.set("defaultSegmentVisible", &mut into.default_segment_visible)?;
    policy.set("namespaceSegments", &mut into.namespace_segments)?;
    policy.set("clusterNames", &mut into.cluster_names)?;
    policy.list("clusterNamesAlways", &mut into.cluster_names_always)?;
    policy.set("takeoverFor", &mut into.takeover_for)?;
    policy.set("identityHold", &mut into.identity_hold)
}

fn callers(top: &Section<'_>, config: &mut Config) -> Read<()> {
    for entry in top.sections("callers", &["cidr", "segment", "namespace", "enrolled"])?.unwrap_or_default() {
        let of = match (entry.get("segment"), entry.get("namespace")) {
            (Some(_), None) => CallerOf::Segment(entry.need("segment")?),
            (None, Some(_)) => CallerOf::Namespace(entry.need("namespace")?),
            _ => {
                let what = "it needs exactly one of segment and namespace; write one of them";
                return Err(ConfigError::new(entry.file, Some(entry.line), &entry.path, what));
            }
        };
        let mut enrolled = false;
        entry.set("enrolled", &mut enrolled)?;
        config.callers.push(CallerRule { cidr: entry.need("cidr")?, of, enrolled });
    }
    Ok(())
}

fn answers(top: &Section<'_>, config: &mut Config) -> Read<()> {
    let keys = ["ttl", "negativeTtl", "grace", "takeover", "aaaa", "chaos"];
    let Some(answers) = top.section("answers", &keys)? else { return Ok(()) };
    let into = &mut config.answers;
    answers.set("ttl", &mut into.ttl)?;
    answers.set("negativeTtl", &mut into.negative_ttl)?;
    answers.set("grace", &mut into.grace)?;
    answers.set("takeover", &mut into.takeover)?;
    answers.set("aaaa", &mut into.aaaa)?;
    answers.set("chaos", &mut into.chaos)
}

fn forward(top: &Section<'_>, config: &mut Config) -> Read<()> {
    let Some(entries) = top.sections("forward", &["zone", "upstreams", "tcp"])? else { return Ok(()) };
    config.forward.clear();
    for entry in entries {
        let ZoneName(zone) = entry.need("zone")?;
        let (mut upstreams, mut tcp): (Vec<Upstream>, bool) = (Vec::new(), false);
        entry.list("upstreams", &mut upstreams)?;
        entry.set("tcp", &mut tcp)?;
        config.forward.push(Zone { zone, upstreams, tcp });
    }
    Ok(())
}

fn bounds(top: &Section<'_>, config: &mut Config) -> Read<()> {
    if let Some(cache) = top.section("cache", &["bytes", "maxTtl", "maxNegativeTtl", "serveStale", "prefetch"])? {
        let mut bytes = Bytes(config.cache.bytes);
        cache.set("bytes", &mut bytes)?;
        config.cache.bytes = bytes.0;
        cache.set("maxTtl", &mut config.cache.max_ttl)?;
        cache.set("maxNegativeTtl", &mut config.cache.max_negative_ttl)?;
        cache.set("serveStale", &mut config.cache.serve_stale)?;
        cache.set("prefetch", &mut config.cache.prefetch)?;
    }
    let keys = ["workers", "tcpConnections", "tcpPerClient", "inflight", "inflightPerClient"];
    if let Some(limits) = top.section("limits", &keys)? {
        limits.set("workers", &mut config.limits.workers)?;
        limits.set("tcpConnections", &mut config.limits.tcp_connections)?;
        limits.set("tcpPerClient", &mut config.limits.tcp_per_client)?;
        limits.set("inflight", &mut config.limits.inflight)?;
        limits.set("inflightPerClient", &mut config.limits.inflight_per_client)?;
    }
    if let Some(drain) = top.section("drain", &["lameduck", "deadline"])? {
        drain.set("lameduck", &mut config.drain.lameduck)?;
        drain.set("deadline", &mut config.drain.deadline)?;
    }
    if let Some(log) = top.section("log", &["level", "format", "queries"])? {
        log.set("level", &mut config.log.level)?;
        log.set("format", &mut config.log.format)?;
        log.set("queries", &mut config.log.queries)?;
    }
    if let Some(placement) = top.section("placement", &["silence"])? {
        placement.set("silence", &mut config.placement.silence)?;
    }
    Ok(())
}
