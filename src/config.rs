//! The configuration (section 5 of the contract): every key with its type and its default.
//!
//! [`Config::read`] takes a file, flags are merged over the public fields elsewhere, and [`Config::validate`] then judges
//! the whole. Every error is one line that names file, line, key and what is allowed.

mod check;
mod convert;
mod live;
pub mod reference;
mod section;
mod tree;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use value::Value;

pub use crate::dns::forward::{Upstream, Zone};
pub use crate::dns::log::Queries;
use crate::mesh::name::Name;
use crate::mesh::settings::{
    Aaaa, CallerRule, ClusterNames, CrossSegment, ServiceEntries, Settings, TakeoverAnswer, TakeoverFor,
};

/// Why a configuration cannot be used, as one line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .0)]
pub struct ConfigError(Box<str>);

impl ConfigError {
    fn new(file: &str, line: Option<u64>, key: &str, what: impl fmt::Display) -> Self {
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
        // A quoted value may hold a line feed, and an error is one line.
        Self(format!("{file}{line}: {key}{what}").replace(['\n', '\r'], " ").into())
    }
}

/// The whole configuration. [`Config::default`] is that of an empty file.
#[derive(Clone, Debug)]
pub struct Config {
    /// `listen`: where DNS is answered, UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// `admin`: metrics and debug endpoints.
    pub admin: SocketAddr,
    /// `adminSocket`: the same on a Unix socket; `None` for none.
    pub admin_socket: Option<PathBuf>,
    /// `cluster`
    pub cluster: Cluster,
    /// `segments`
    pub segments: Segments,
    /// `sources`
    pub sources: Sources,
    /// `serviceEntries` (R10)
    pub service_entries: ServiceEntries,
    /// `policy`
    pub policy: PolicySection,
    /// `callers` (R15), in order.
    pub callers: Vec<CallerRule>,
    /// `answers`
    pub answers: Answers,
    /// `forward` (R23)
    pub forward: Vec<Zone>,
    /// `autopath`: search lists of pods are walked here.
    pub autopath: bool,
    /// `cache` (R23)
    pub cache: Cache,
    /// `limits` (R23, R24)
    pub limits: Limits,
    /// `drain`
    pub drain: Drain,
    /// `debug`
    pub debug: Debug,
    /// `log`
    pub log: Log,
    /// `placement`
    pub placement: Placement,
    /// Where the keys stand, so that a later error can say it.
    pub places: Places,
}

/// The file, and the line of each key in it: `policy.takeoverFor`, `forward[0].upstreams`.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The file's name; empty if there is none.
    pub file: String,
    /// Lines from 1.
    pub lines: BTreeMap<String, u64>,
}

/// `cluster`
#[derive(Clone, Debug)]
pub struct Cluster {
    /// `name`: the local cluster's, unless manifests name it.
    pub name: Box<str>,
    /// `domain`
    pub domain: Name,
    /// `rootNamespace`
    pub root_namespace: Box<str>,
}

/// `segments`
#[derive(Clone, Debug)]
pub struct Segments {
    /// `group`: API group of the Segment resource.
    pub group: Box<str>,
    /// `version`: its version.
    pub version: Box<str>,
    /// `defaultName`
    pub default_name: Box<str>,
    /// `defaultDomain`
    pub default_domain: Name,
    /// `zones`: mesh zones known before any Segment is (R22).
    pub zones: Vec<Name>,
}

/// `sources`
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `kubernetes`: the API server.
    pub kubernetes: Option<Kubernetes>,
    /// `manifests`: directories; the first is the local cluster.
    pub manifests: Vec<ManifestDir>,
    /// `snapshot`: directory of the last complete state; `None` keeps none.
    pub snapshot: Option<PathBuf>,
}

/// `sources.kubernetes`
#[derive(Clone, Debug)]
pub struct Kubernetes {
    /// `node`: whose pods are callers; `None` if neither a flag, the file nor `NODE_NAME` says it.
    pub node: Option<Box<str>>,
    /// `watchSilence`: after so long without a word a watch counts as dead, and is opened again.
    pub watch_silence: Duration,
    /// `peers`: where the secrets with the peers' kubeconfigs are.
    pub peers: Peers,
    /// `events`: whether reports become Kubernetes Events.
    pub events: Events,
}

/// `sources.kubernetes.events`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Events {
    /// In a cluster: where the environment names its API server.
    #[default]
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

impl Events {
    /// Whether they are written.
    #[must_use]
    pub fn are_written(self) -> bool {
        match self {
            Self::Auto => std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
            Self::On => true,
            Self::Off => false,
        }
    }
}

/// `sources.kubernetes.peers`
#[derive(Clone, Debug)]
pub struct Peers {
    /// `secretsNamespace`
    pub secrets_namespace: Box<str>,
    /// `selector`: label selector of those secrets.
    pub selector: Box<str>,
    /// `wait`: how long the first complete state waits for peers.
    pub wait: Duration,
}

/// One of `sources.manifests`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestDir {
    /// `cluster`
    pub cluster: Box<str>,
    /// `path`
    pub path: PathBuf,
}

/// `policy`
#[derive(Clone, Debug)]
pub struct PolicySection {
    /// `crossSegment` (R11)
    pub cross_segment: CrossSegment,
    /// `defaultSegmentVisible` (R12)
    pub default_segment_visible: bool,
    /// `namespaceSegments`
    pub namespace_segments: bool,
    /// `clusterNames` (R16)
    pub cluster_names: ClusterNames,
    /// `clusterNamesAlways` (R16)
    pub cluster_names_always: Vec<Box<str>>,
    /// `takeoverFor` (R20)
    pub takeover_for: TakeoverFor,
    /// `identityHold` (R15)
    pub identity_hold: Duration,
}

/// `answers`
#[derive(Clone, Debug)]
pub struct Answers {
    /// `ttl`, seconds (R18).
    pub ttl: u32,
    /// `negativeTtl`, seconds (R18).
    pub negative_ttl: u32,
    /// `grace` (R22)
    pub grace: Duration,
    /// `takeover` (R19)
    pub takeover: TakeoverAnswer,
    /// `aaaa` (R18)
    pub aaaa: Aaaa,
    /// `chaos` (R24)
    pub chaos: bool,
}

/// `cache` (R23)
#[derive(Clone, Debug)]
pub struct Cache {
    /// `bytes`: bound of the whole cache, octets.
    pub bytes: u64,
    /// `maxTtl`, seconds.
    pub max_ttl: u32,
    /// `maxNegativeTtl`, seconds.
    pub max_negative_ttl: u32,
    /// `serveStale`: how long after its end an entry may still be given; zero never.
    pub serve_stale: Duration,
    /// `prefetch`
    pub prefetch: bool,
}

/// `limits` (R23, R24)
#[derive(Clone, Debug)]
pub struct Limits {
    /// `workers`: UDP threads of each address, and as many again that sleep until a caller floods; 0 is one for each core.
    pub workers: usize,
    /// `tcpConnections`, in all.
    pub tcp_connections: usize,
    /// `tcpPerClient`
    pub tcp_per_client: usize,
    /// `inflight`: forwarded queries, in all.
    pub inflight: usize,
    /// `inflightPerClient`
    pub inflight_per_client: usize,
}

/// `drain`
#[derive(Clone, Debug)]
pub struct Drain {
    /// `lameduck`: not ready, and still answering.
    pub lameduck: Duration,
    /// `deadline`: the end, from SIGTERM on.
    pub deadline: Duration,
}

/// `debug`: who is answered on debug endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Debug {
    /// Loopback addresses.
    #[default]
    Loopback,
    /// Everyone.
    Any,
}

/// `placement`: pods of this node that ztunnel answers for.
#[derive(Clone, Debug)]
pub struct Placement {
    /// `silence`: how long an enrolled pod sends no query until it counts as such; zero looks for nobody.
    pub silence: Duration,
}

/// `log`
#[derive(Clone, Debug)]
pub struct Log {
    /// `level`
    pub level: Level,
    /// `format`
    pub format: Format,
    /// `queries`
    pub queries: Queries,
}

/// `log.level`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs, reason = "the usual five, and none")]
pub enum Level {
    Off,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// `log.format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        let settings = Settings::default();
        let policy = settings.policy;
        Self {
            listen: vec![SocketAddr::from(([169, 254, 20, 10], 53))],
            admin: SocketAddr::from(([127, 0, 0, 1], 9153)),
            admin_socket: None,
            cluster: Cluster {
                name: "cluster1".into(),
                domain: settings.cluster_domain,
                root_namespace: settings.root_namespace,
            },
            segments: Segments::default(),
            sources: Sources { snapshot: Some("/var/lib/segdns".into()), ..Sources::default() },
            service_entries: ServiceEntries::default(),
            policy: PolicySection {
                cross_segment: policy.cross_segment,
                default_segment_visible: policy.default_segment_visible,
                namespace_segments: policy.namespace_segments,
                cluster_names: policy.cluster_names,
                cluster_names_always: policy.cluster_names_always,
                takeover_for: policy.takeover_for,
                identity_hold: Duration::from_millis(300),
            },
            callers: Vec::new(),
            answers: Answers {
                ttl: policy.ttl,
                negative_ttl: policy.negative_ttl,
                grace: Duration::from_millis(settings.grace_ms),
                takeover: policy.takeover,
                aaaa: policy.aaaa,
                chaos: true,
            },
            forward: vec![Zone {
                zone: None,
                upstreams: vec![Upstream::ResolvConf("/etc/resolv.conf".into())],
                tcp: false,
            }],
            autopath: false,
            cache: Cache::default(),
            limits: Limits {
                workers: 0,
                tcp_connections: 1000,
                tcp_per_client: 50,
                inflight: 5000,
                inflight_per_client: 500,
            },
            drain: Drain { lameduck: Duration::from_secs(5), deadline: Duration::from_secs(15) },
            debug: Debug::default(),
            log: Log { level: Level::default(), format: Format::default(), queries: Queries::default() },
            placement: Placement { silence: Duration::from_secs(300) },
            places: Places::default(),
        }
    }
}

impl Default for Segments {
    fn default() -> Self {
        let Settings { default_name, default_domain, zones, .. } = Settings::default();
        Self { group: "admin.solo.io".into(), version: "v1alpha1".into(), default_name, default_domain, zones }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            bytes: 16 << 20,
            max_ttl: 3600,
            max_negative_ttl: 30,
            serve_stale: Duration::from_secs(3600),
            prefetch: true,
        }
    }
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self { node: None, watch_silence: Duration::from_secs(90), peers: Peers::default(), events: Events::default() }
    }
}

impl Default for Peers {
    fn default() -> Self {
        Self {
            secrets_namespace: "istio-system".into(),
            selector: "istio/multiCluster=true".into(),
            wait: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Reads a file. `env` gives the environment's variables.
    ///
    /// # Errors
    /// [`ConfigError`] for a file that cannot be read, and as [`Config::parse`].
    pub fn read(path: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::parse(&Self::text(path)?, &path.display().to_string(), env)
    }

    /// What is in a file.
    ///
    /// # Errors
    /// [`ConfigError`] for a file that cannot be read.
    pub fn text(path: &Path) -> Result<String, ConfigError> {
        std::fs::read_to_string(path).map_err(|error| {
            let what = format_args!("it cannot be read: {error}; give --config a readable file").to_string();
            ConfigError::new(&path.display().to_string(), None, "", what)
        })
    }

    /// Parses a configuration; what is not in it has its default. It is not judged as a whole, see [`Config::validate`].
    ///
    /// # Errors
    /// [`ConfigError`] for bad YAML, an unknown or doubled key, a value that its key does not take, and a variable
    /// (`${NAME}`) that is not set.
    pub fn parse(text: &str, file_name: &str, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        section::config(&tree::parse(text, file_name, &env)?, file_name, &env)
    }

    /// Judges the whole, with flags merged in.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, its line if it is in the file, and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check::check(self)
    }

    /// Judges what only a server needs: with API servers, its node's name.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn validate_to_serve(&self) -> Result<(), ConfigError> {
        check::node(self)
    }
}

/// Reads a value that stands outside of a file, as its key takes it there.
///
/// # Errors
/// What was found and what is allowed, in one line.
pub fn read<T: Value>(key: &str, text: &str) -> Result<T, String> {
    T::read(&tree::Node::Text(text.to_owned())).map_err(|what| format!("{key}: {what}"))
}

#[cfg(test)]
mod tests;
