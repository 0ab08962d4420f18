//! What the other parts need of the configuration, in their own words.

use super::Config;
use crate::mesh::settings::{Policy, ServiceEntries, Settings};
use crate::watch::kubernetes::Options;

impl Config {
    /// The clusters that it names, the local one first.
    #[must_use]
    pub fn clusters(&self) -> Vec<Box<str>> {
        let mut clusters: Vec<Box<str>> = self.sources.manifests.iter().map(|dir| dir.cluster.clone()).collect();
        if clusters.is_empty() {
            clusters.push(self.cluster.name.clone());
        }
        clusters
    }

    /// What the rules need of it.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            clusters: self.clusters(),
            cluster_domain: self.cluster.domain.clone(),
            root_namespace: self.cluster.root_namespace.clone(),
            default_name: self.segments.default_name.clone(),
            default_domain: self.segments.default_domain.clone(),
            zones: self.segments.zones.clone(),
            node: self.sources.kubernetes.as_ref().and_then(|kubernetes| kubernetes.node.clone()),
            service_entries: self.service_entries,
            policy: Policy {
                cross_segment: self.policy.cross_segment,
                default_segment_visible: self.policy.default_segment_visible,
                namespace_segments: self.policy.namespace_segments,
                cluster_names: self.policy.cluster_names,
                cluster_names_always: self.policy.cluster_names_always.clone(),
                takeover_for: self.policy.takeover_for,
                takeover: self.answers.takeover,
                aaaa: self.answers.aaaa,
                ttl: self.answers.ttl,
                negative_ttl: self.answers.negative_ttl,
                autopath: self.autopath,
            },
            callers: self.callers.clone(),
            forwarded: self.forward.iter().filter_map(|zone| zone.zone.clone()).collect(),
            grace_ms: u64::try_from(self.answers.grace.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// What to watch, if API servers are the source.
    #[must_use]
    pub fn watched(&self) -> Option<Options> {
        let kubernetes = self.sources.kubernetes.as_ref()?;
        Some(Options {
            cluster: self.cluster.name.clone(),
            root_namespace: self.cluster.root_namespace.clone(),
            segment_group: self.segments.group.clone(),
            segment_version: self.segments.version.clone(),
            all_entries: self.service_entries == ServiceEntries::All,
            node: kubernetes.node.clone(),
            secrets_namespace: kubernetes.peers.secrets_namespace.clone(),
            secrets_selector: kubernetes.peers.selector.clone(),
            peers_wait: kubernetes.peers.wait,
            silence: kubernetes.watch_silence,
        })
    }
}
