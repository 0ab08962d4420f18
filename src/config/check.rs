//! What single values cannot show: whether the configuration as a whole makes sense.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Config, ConfigError, Upstream};
use crate::mesh::name::Name;

/// A longer TTL would keep names alive after they are hidden.
const MAX_TTL: u32 = 3600;
/// Resolvers give a question up after 5 s.
const MAX_HOLD: Duration = Duration::from_secs(5);
/// Longer, and a service that is down is a failure rather than empty for too long.
const MAX_GRACE: Duration = Duration::from_secs(60);
/// Bookmarks come about once a minute: much shorter, and a quiet watch is opened again and again; longer, and a dead one
/// passes for a quiet one.
const SILENCE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
/// Shorter, and every pod that has nothing to ask counts as captured; longer than a day, and nobody ever does.
const QUIET: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// Longer, and one peer that is away keeps a node's mesh names closed for too long.
const MAX_WAIT: Duration = Duration::from_secs(300);

impl Config {
    /// An error with a key, and its line or its nearest container's.
    fn bad(&self, key: &str, what: impl fmt::Display) -> ConfigError {
        let mut near = key;
        let line = loop {
            if let Some(line) = self.places.lines.get(near) {
                break Some(*line);
            }
            match near.rfind(['.', '[']) {
                Some(at) => near = &near[..at],
                None => break None,
            }
        };
        let file = if self.places.file.is_empty() { "configuration" } else { &self.places.file };
        ConfigError::new(file, line, key, what)
    }
}

type Check = Result<(), ConfigError>;

pub fn check(config: &Config) -> Check {
    addresses(config)?;
    domains(config)?;
    sources(config)?;
    forward(config)?;
    placement(config)?;
    numbers(config)
}

fn placement(config: &Config) -> Check {
    let silence = config.placement.silence;
    if silence.is_zero() || QUIET.contains(&silence) {
        return Ok(());
    }
    let what = format!("{silence:?} is not from {:?} to {:?}; 0s looks for nobody", QUIET.start(), QUIET.end());
    Err(config.bad("placement.silence", what))
}

fn addresses(config: &Config) -> Check {
    if config.listen.is_empty() {
        return Err(config.bad("listen", "the list is empty; write at least one ADDRESS:PORT"));
    }
    for (index, address) in config.listen.iter().enumerate() {
        let key = format!("listen[{index}]");
        if config.listen[..index].contains(address) {
            return Err(config.bad(&key, format_args!("{address} is there twice; remove one of the two")));
        }
        if *address == config.admin && address.port() != 0 {
            return Err(config.bad("admin", format_args!("{address} is also in listen; give it another port")));
        }
    }
    Ok(())
}

fn domains(config: &Config) -> Check {
    let arpa = Name::parse("arpa").map_err(|error| config.bad("segments", error))?;
    let (cluster, default) = (&config.cluster.domain, &config.segments.default_domain);
    if cluster.is_in(&arpa) {
        return Err(
            config.bad("cluster.domain", format_args!("{cluster} is under arpa; write the cluster's own domain"))
        );
    }
    let apart = |key: &str, zone: &Name| {
        if zone.is_in(cluster) || cluster.is_in(zone) {
            let what = "is the cluster domain, or above or below it";
            return Err(config.bad(key, format_args!("{zone} {what} ({cluster}); write a domain apart from it")));
        }
        if zone.is_in(&arpa) {
            return Err(config.bad(key, format_args!("{zone} is under arpa; write a domain apart from it")));
        }
        Ok(())
    };
    apart("segments.defaultDomain", default)?;
    for (index, zone) in config.segments.zones.iter().enumerate() {
        apart(&format!("segments.zones[{index}]"), zone)?;
    }
    Ok(())
}

fn sources(config: &Config) -> Check {
    let manifests = &config.sources.manifests;
    match (&config.sources.kubernetes, manifests.is_empty()) {
        (None, true) => {
            let what = "there is no source of objects; write sources.kubernetes or sources.manifests, or give --kubernetes \
                        or --manifests";
            return Err(config.bad("sources", what));
        }
        (Some(_), false) => {
            return Err(config.bad("sources.manifests", "there is sources.kubernetes as well; remove one of the two"));
        }
        _ => {}
    }
    for (index, dir) in manifests.iter().enumerate() {
        if manifests[..index].iter().any(|other| other.cluster == dir.cluster) {
            let key = format!("sources.manifests[{index}].cluster");
            return Err(
                config.bad(&key, format_args!("{:?} is there twice; give each cluster its own name", dir.cluster))
            );
        }
    }
    let Some(kubernetes) = &config.sources.kubernetes else { return Ok(()) };
    if !SILENCE.contains(&kubernetes.watch_silence) {
        let what = format!("{:?} is not from {:?} to {:?}", kubernetes.watch_silence, SILENCE.start(), SILENCE.end());
        let what = format!("{what}; a quiet watch is heard of about once a minute, 90s suits that");
        return Err(config.bad("sources.kubernetes.watchSilence", what));
    }
    if kubernetes.peers.wait > MAX_WAIT {
        let what = format!("{:?} is too long; write at most {MAX_WAIT:?}", kubernetes.peers.wait);
        return Err(config.bad("sources.kubernetes.peers.wait", what));
    }
    Ok(())
}

/// Every node that read the pods of all nodes would be more than an API server bears.
pub fn node(config: &Config) -> Check {
    match &config.sources.kubernetes {
        Some(kubernetes) if kubernetes.node.is_none() => {
            let what = "no node name, and a server reads its own node's pods only; give --node or NODE_NAME (the \
                        DaemonSet's fieldRef spec.nodeName)";
            Err(config.bad("sources.kubernetes.node", what))
        }
        _ => Ok(()),
    }
}

fn forward(config: &Config) -> Check {
    for (index, entry) in config.forward.iter().enumerate() {
        let key = |field: &str| format!("forward[{index}].{field}");
        if config.forward[..index].iter().any(|other| other.zone == entry.zone) {
            let zone = entry.zone.as_ref().map_or(".", Name::as_str);
            return Err(config.bad(&key("zone"), format_args!("{zone:?} is there twice; put all upstreams under one")));
        }
        if entry.upstreams.is_empty() {
            return Err(config.bad(&key("upstreams"), "there is none; write at least one ADDRESS:PORT or resolv.conf"));
        }
        for (at, upstream) in entry.upstreams.iter().enumerate() {
            let Upstream::Address(address) = upstream else { continue };
            let own = config.listen.iter().any(|listen| {
                let same = listen.ip() == address.ip() || (listen.ip().is_unspecified() && address.ip().is_loopback());
                same && listen.port() == address.port()
            });
            if own {
                let key = key(&format!("upstreams[{at}]"));
                return Err(config.bad(
                    &key,
                    format_args!("segdns listens on {address} and would ask itself; write another server"),
                ));
            }
        }
    }
    Ok(())
}

fn numbers(config: &Config) -> Check {
    let (answers, limits, drain) = (&config.answers, &config.limits, &config.drain);
    for (key, ttl) in [("answers.ttl", answers.ttl), ("answers.negativeTtl", answers.negative_ttl)] {
        if ttl > MAX_TTL {
            return Err(config.bad(key, format_args!("{ttl} is too long; write seconds from 0 to {MAX_TTL}")));
        }
    }
    for (key, time, max) in
        [("answers.grace", answers.grace, MAX_GRACE), ("policy.identityHold", config.policy.identity_hold, MAX_HOLD)]
    {
        if time > max {
            return Err(config.bad(key, format_args!("{time:?} is too long; write at most {max:?}")));
        }
    }
    let counts = [
        ("limits.tcpConnections", limits.tcp_connections),
        ("limits.tcpPerClient", limits.tcp_per_client),
        ("limits.inflight", limits.inflight),
        ("limits.inflightPerClient", limits.inflight_per_client),
    ];
    for (key, count) in counts {
        if count == 0 {
            return Err(config.bad(key, "0 would let nothing through; write a number from 1"));
        }
    }
    if limits.workers > 1024 {
        return Err(config.bad("limits.workers", "that is too many; write a number up to 1024, or 0 for one a core"));
    }
    if drain.deadline.is_zero() || drain.lameduck > drain.deadline {
        let what = "it has to be above 0 and not before drain.lameduck ends; write a longer time";
        return Err(config.bad("drain.deadline", what));
    }
    Ok(())
}
