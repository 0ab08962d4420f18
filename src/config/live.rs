//! What a running server can take of another configuration.

use super::Config;

impl Config {
    /// This configuration with what needs a restart as it is in the running one. Which keys those are, and why, stands in
    /// [`super::reference`]; a test holds the two together.
    #[must_use]
    pub fn kept(mut self, running: &Self) -> Self {
        let Self { listen, admin, admin_socket, cluster, sources, segments, service_entries, cache, .. } =
            running.clone();
        let Self { limits, placement, log, .. } = running.clone();
        self.listen = listen;
        self.admin = admin;
        self.admin_socket = admin_socket;
        self.placement = placement;
        self.cluster = cluster;
        self.sources = sources;
        self.segments.group = segments.group;
        self.segments.version = segments.version;
        self.cache.bytes = cache.bytes;
        self.limits.workers = limits.workers;
        self.log.format = log.format;
        if self.sources.kubernetes.is_some() {
            self.service_entries = service_entries;
        }
        self
    }
}
