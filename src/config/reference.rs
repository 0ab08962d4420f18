//! Every key of the file: what it takes, whether a running server takes another value, and what it means.
//!
//! `segdns config reference` prints it, and the tests beside that hold it against what reads the file, in both directions:
//! no key without a row, no row without a key, and what a row says of its values is so.

use std::fmt;

use Applies::{Live, LiveFromManifests, Restart};
use Takes::{
    Address, Boolean, Cidr, Count, Domain, List, Octets, Path, PathOrNone, Queries, Seconds, Text, Time, Upstream,
    Words, Zone,
};

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Where it stands: `policy.crossSegment`; in each element of a list, `callers[].cidr`.
    pub path: &'static str,
    /// Its values.
    pub takes: Takes,
    /// When another value counts.
    pub applies: Applies,
    /// What it is for.
    pub meaning: &'static str,
}

/// When a changed value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// As soon as the file is read again.
    Live,
    /// At the next start.
    Restart,
    /// At once with `sources.manifests`; at the next start with `sources.kubernetes`, since what is watched depends on it.
    LiveFromManifests,
}

/// The values of a key; numbers are the least and the most that are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One of these words.
    Words(&'static [&'static str]),
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Count(u64, u64),
    /// A number of seconds.
    Seconds(u64, u64),
    /// A time with its unit; bounds in milliseconds.
    Time(u64, u64),
    /// A size.
    Octets,
    /// Address and port.
    Address,
    /// An address or a network.
    Cidr,
    /// A DNS name.
    Domain,
    /// A DNS name, or `.`.
    Zone,
    /// Whom to ask.
    Upstream,
    /// Which queries are logged.
    Queries,
    /// Any text.
    Text,
    /// A path.
    Path,
    /// A path, or `null` for none.
    PathOrNone,
    /// A list of the values that others take.
    List(&'static Takes),
}

/// A bound that is none.
const ANY: u64 = u64::MAX;

impl Takes {
    /// Whether the most that is allowed is a bound at all.
    #[must_use]
    pub const fn most(self) -> Option<u64> {
        match self {
            Count(_, most) | Seconds(_, most) | Time(_, most) if most != ANY => Some(most),
            _ => None,
        }
    }
}

/// Milliseconds as the file has them.
#[must_use]
pub fn time(millis: u64) -> String {
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

fn range(f: &mut fmt::Formatter<'_>, least: &impl fmt::Display, most: Option<String>) -> fmt::Result {
    match most {
        Some(most) => write!(f, ", {least} to {most}"),
        None => write!(f, ", from {least}"),
    }
}

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Words(words) => {
                for (ix, word) in words.iter().enumerate() {
                    write!(f, "{}`{word}`", if ix == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Boolean => f.write_str("`true`, `false`"),
            Count(least, _) => {
                f.write_str("number")?;
                range(f, least, self.most().map(|most| most.to_string()))
            }
            Seconds(least, _) => {
                f.write_str("seconds")?;
                range(f, least, self.most().map(|most| most.to_string()))
            }
            Time(least, _) => {
                f.write_str("time")?;
                range(f, &time(*least), self.most().map(time))
            }
            Octets => f.write_str("size: octets, `512KiB`, `16MiB`, `1GiB`"),
            Address => f.write_str("ADDRESS:PORT"),
            Cidr => f.write_str("CIDR or address"),
            Domain => f.write_str("DNS name"),
            Zone => f.write_str("DNS name, `.` for all"),
            Upstream => f.write_str("ADDRESS:PORT, address, path of a resolv.conf"),
            Queries => f.write_str("`none`, `failures`, `all`, a share such as `0.01`"),
            Text => f.write_str("text"),
            Path => f.write_str("path"),
            PathOrNone => f.write_str("path, `null` for none"),
            List(of) => write!(f, "list of: {of}"),
        }
    }
}

const fn key(path: &'static str, takes: Takes, applies: Applies, meaning: &'static str) -> Key {
    Key { path, takes, applies, meaning }
}

/// Every key, in the order of the contract.
pub const KEYS: &[Key] = &[
    key("listen", List(&Address), Restart, "Where DNS is answered, UDP and TCP."),
    key("admin", Address, Restart, "Where metrics, health and debug endpoints are."),
    key(
        "adminSocket",
        PathOrNone,
        Restart,
        "The same endpoints on a Unix socket, for probes that have to reach this very process.",
    ),
    key("cluster.name", Text, Restart, "The local cluster's name, unless `sources.manifests` names it."),
    key("cluster.domain", Domain, Restart, "The cluster domain."),
    key("cluster.rootNamespace", Text, Restart, "The mesh root namespace: where Segments and generated entries are."),
    key("segments.group", Text, Restart, "API group of the Segment resource that is watched."),
    key("segments.version", Text, Restart, "Its version."),
    key("segments.defaultName", Text, Live, "The name of the default segment."),
    key("segments.defaultDomain", Domain, Live, "The mesh zone of the default segment."),
    key("segments.zones", List(&Domain), Live, "Mesh zones that are known before any Segment is (R22)."),
    key(
        "sources.kubernetes.node",
        Text,
        Restart,
        "The node whose pods are callers; `NODE_NAME` where it is not written.",
    ),
    key(
        "sources.kubernetes.watchSilence",
        Time(1000, 600_000),
        Restart,
        "A watch that is silent for so long is opened again.",
    ),
    key("sources.kubernetes.peers.secretsNamespace", Text, Restart, "Where the Secrets with peers' kubeconfigs are."),
    key("sources.kubernetes.peers.selector", Text, Restart, "The label selector of those Secrets."),
    key(
        "sources.kubernetes.peers.wait",
        Time(0, 300_000),
        Restart,
        "How long the first complete state waits for peers at most.",
    ),
    key(
        "sources.kubernetes.events",
        Words(&["auto", "true", "false"]),
        Restart,
        "Whether reports become Kubernetes Events; `auto`: in a cluster.",
    ),
    key("sources.manifests[].cluster", Text, Restart, "A cluster that is read from files; the first is the local one."),
    key("sources.manifests[].path", Path, Restart, "The directory with its objects."),
    key(
        "sources.snapshot",
        PathOrNone,
        Restart,
        "Where the last complete state is kept, for a start without the API server.",
    ),
    key(
        "serviceEntries",
        Words(&["generated", "all"]),
        LiveFromManifests,
        "Which ServiceEntries count: those of the control plane, or hand-written ones too (R10).",
    ),
    key(
        "policy.crossSegment",
        Words(&["scope", "deny"]),
        Live,
        "Whether names of scope `global` are seen by other segments (R11).",
    ),
    key("policy.defaultSegmentVisible", Boolean, Live, "Whether the default segment is seen like any other (R12)."),
    key("policy.namespaceSegments", Boolean, Live, "Whether the segment label counts on namespaces."),
    key(
        "policy.clusterNames",
        Words(&["open", "segment"]),
        Live,
        "Whether names of the cluster domain are hidden from other segments (R16).",
    ),
    key(
        "policy.clusterNamesAlways",
        List(&Text),
        Live,
        "Namespaces whose names in the cluster domain stay visible to all.",
    ),
    key(
        "policy.takeoverFor",
        Words(&["enrolled", "all"]),
        Live,
        "Who gets mesh addresses for services under takeover (R20).",
    ),
    key("policy.identityHold", Time(0, 5000), Live, "How long a query waits for its caller to become known (R15)."),
    key(
        "callers[].cidr",
        Cidr,
        Live,
        "Addresses of no pod that count as a caller; the first line that has an address counts (R15).",
    ),
    key("callers[].segment", Text, Live, "The segment that they are of; either this or `namespace`."),
    key("callers[].namespace", Text, Live, "The namespace that they are of."),
    key(
        "callers[].enrolled",
        Boolean,
        Live,
        "Whether they count as enrolled in the mesh (R20); `false` if it is not written.",
    ),
    key("answers.ttl", Seconds(0, 3600), Live, "TTL of mesh names (R18)."),
    key("answers.negativeTtl", Seconds(0, 3600), Live, "TTL of what does not exist (R18)."),
    key(
        "answers.grace",
        Time(0, 60_000),
        Live,
        "How long a new name without an address is SERVFAIL before it is NODATA (R22).",
    ),
    key(
        "answers.takeover",
        Words(&["flatten", "cname"]),
        Live,
        "Addresses under the asked name, or a CNAME to the mesh name (R19).",
    ),
    key("answers.aaaa", Words(&["auto", "on", "off"]), Live, "Who is answered AAAA (R18)."),
    key("answers.chaos", Boolean, Live, "Whether `version.bind` and the like are answered (R24)."),
    key("forward[].zone", Zone, Live, "Names that are forwarded alike; the longest zone counts (R23)."),
    key("forward[].upstreams", List(&Upstream), Live, "Whom to ask, the preferred one first."),
    key("forward[].tcp", Boolean, Live, "Whether they are asked over persistent TCP always."),
    key("autopath", Boolean, Live, "Whether search lists of pods are walked here."),
    key("cache.bytes", Octets, Restart, "Bound of the cache of upstreams' answers."),
    key(
        "cache.maxTtl",
        Count(0, 4_294_967_295),
        Live,
        "Seconds that an answer is kept at most; counts for answers that come later.",
    ),
    key("cache.maxNegativeTtl", Count(0, 4_294_967_295), Live, "The same for what does not exist."),
    key(
        "cache.serveStale",
        Time(0, ANY),
        Live,
        "For how long an answer over its time is better than none (RFC 8767); `0s` never.",
    ),
    key("cache.prefetch", Boolean, Live, "Whether answers in use are fetched anew before their end."),
    key("limits.workers", Count(0, 1024), Restart, "UDP threads of each address; 0 is one for each core."),
    key("limits.tcpConnections", Count(1, ANY), Live, "TCP connections in all."),
    key("limits.tcpPerClient", Count(1, ANY), Live, "TCP connections of one address."),
    key("limits.inflight", Count(1, ANY), Live, "Questions that wait for upstreams, in all."),
    key("limits.inflightPerClient", Count(1, ANY), Live, "Those of one client."),
    key(
        "drain.lameduck",
        Time(0, ANY),
        Live,
        "How long it goes on answering after SIGTERM while it is no longer ready.",
    ),
    key(
        "drain.deadline",
        Time(1, ANY),
        Live,
        "How long after SIGTERM the process ends at the latest; not before `drain.lameduck`.",
    ),
    key(
        "placement.silence",
        Time(0, 86_400_000),
        Restart,
        "How long an enrolled pod sends no query until ztunnel seems to answer for it, at least `1s`; `0s` looks for nobody.",
    ),
    key("debug", Words(&["loopback", "any"]), Live, "Who may see debug endpoints."),
    key("log.level", Words(&["error", "warn", "info", "debug", "trace", "off"]), Live, "How much is logged."),
    key(
        "log.format",
        Words(&["text", "json"]),
        Restart,
        "For people, or for machines: these could not read both in one stream.",
    ),
    key("log.queries", Queries, Live, "Which queries are logged."),
];
