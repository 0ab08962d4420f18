//! segdns in this process: one mesh behind the function that answers UDP and TCP, and an upstream that it forwards to.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use segdns::dns::cache::{self, Cache};
use segdns::dns::count::Registry;
use segdns::dns::forward::{self, Forwarder, Zone};
use segdns::dns::listen::{Outcome, Respond, Transport};
use segdns::dns::resolve::{Limits, Resolver};
use segdns::dns::serve::{Options, Server};
use segdns::table::keeper::Keeper;
use segdns::table::key::Hasher;
use tempfile::NamedTempFile;
use tokio::runtime::{Builder, Runtime};

use super::caller::{OWN, SEARCHES};
use super::change::Edit;
use super::feed;
use super::mesh::Mesh;
use super::upstream::Upstream;
use super::wire::Query;

/// Of the hash of names: one cache serves all meshes.
const SEED: u64 = 7;

/// A resolv.conf with the node's search domains, and without a name server.
///
/// # Panics
/// It cannot be written.
#[must_use]
pub fn resolv_conf() -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("search {}\n", SEARCHES.join(" "))).expect("written");
    file
}

/// What meshes that are asked one after the other share: a runtime, an upstream, and the way to it.
pub struct Lab {
    runtime: Runtime,
    upstream: Upstream,
    resolver: Arc<Resolver>,
    _resolv_conf: NamedTempFile,
}

impl Lab {
    /// Starts the upstream.
    ///
    /// # Panics
    /// There is no runtime, or no port.
    #[must_use]
    pub fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let upstream = Upstream::start(SocketAddr::from(([127, 0, 0, 1], 0)));
        let inside = runtime.enter();
        let resolv_conf = resolv_conf();
        let file = forward::Upstream::ResolvConf(resolv_conf.path().to_owned());
        let upstreams = vec![forward::Upstream::Address(upstream.address()), file];
        let zones = vec![Zone { zone: None, upstreams, tcp: false }];
        let forwarder = Arc::new(Forwarder::new(zones, &[]).expect("zones"));
        let stale = Duration::from_secs(3600);
        let options = cache::Options { max_ttl: 3600, max_negative_ttl: 30, serve_stale: stale, prefetch: true };
        let cache = Arc::new(Cache::new(1 << 20, options, Hasher::new(SEED)));
        let limits = Limits { inflight: 100, per_client: 50 };
        let resolver = Arc::new(Resolver::new(forwarder, cache, limits, Registry::default().shared()));
        drop(inside);
        Self { runtime, upstream, resolver, _resolv_conf: resolv_conf }
    }

    /// A server of a mesh, with nothing in its cache.
    #[must_use]
    pub fn front(&self, mesh: &Mesh) -> Front<'_> {
        self.resolver.cache().flush(None);
        let keeper = Keeper::with_seed(feed::settings(mesh), SEED);
        keeper.set_node_addresses(OWN.to_vec());
        keeper.apply(feed::changes(mesh));
        let hold = Duration::ZERO;
        let options = Options { chaos: true, node: "node1".into(), identity_hold: hold, queries: Arc::default() };
        let registry = Arc::new(Registry::default());
        let server = Server::new(Arc::clone(keeper.snapshot()), Arc::clone(&self.resolver), options, registry);
        let worker = server.worker();
        Front { lab: self, keeper, server, worker, out: vec![0; 65_535] }
    }

    /// What upstreams were asked since this was called last.
    #[must_use]
    pub fn asked(&self) -> Vec<(String, u16)> {
        self.upstream.take_asked()
    }
}

/// A mesh that answers.
pub struct Front<'l> {
    lab: &'l Lab,
    keeper: Keeper,
    server: Server,
    worker: <Server as Respond>::Worker,
    out: Vec<u8>,
}

/// An answer, and whether it took the general path.
#[derive(Clone, Debug, PartialEq)]
pub struct Got {
    /// The octets; none if there was no answer.
    pub answer: Vec<u8>,
    /// Whether the hot path left it over.
    pub later: bool,
}

impl Front<'_> {
    /// Changes the mesh, as the watches of one moment would.
    pub fn change(&self, edits: &[Edit]) {
        self.keeper.apply(feed::edits(edits));
    }

    /// Asks as one datagram, or as one frame of a TCP connection.
    pub fn ask(&mut self, caller: IpAddr, query: &Query, id: u16) -> Got {
        let (packet, from) = (query.packet(id), SocketAddr::new(caller, 5353));
        let (transport, room) = if query.tcp { (Transport::Tcp, 65_535) } else { (Transport::Udp, 1536) };
        match self.server.respond(&mut self.worker, &packet, from, transport, &mut self.out[..room]) {
            Outcome::Reply(size) => Got { answer: self.out[..size].to_vec(), later: false },
            Outcome::Drop => Got { answer: Vec::new(), later: false },
            Outcome::Later => {
                let answer = self.lab.runtime.block_on(self.server.later(packet, from, transport));
                Got { answer: answer.unwrap_or_default(), later: true }
            }
        }
    }
}
