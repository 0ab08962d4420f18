//! `segdns serve`: puts the parts together, says `ready`, and drains at the end.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::args::ServeArgs;
use super::feed::Feeder;
use super::reload::{self, Reloader};
use super::save::Saver;
use super::source::Source;
use super::{BAD_CONFIGURATION, fail, grants, log, print};
use crate::admin::http::endpoint::{Endpoint, EndpointError, Place};
use crate::admin::http::{self, Admin};
use crate::admin::placement::Placement;
use crate::admin::reloads::Reloads;
use crate::config::Config;
use crate::dns::cache::{self, Cache};
use crate::dns::count::Registry;
use crate::dns::forward::{self, Forwarder};
use crate::dns::listen::{self, Listener};
use crate::dns::log::QueryLog;
use crate::dns::resolve::{self, Resolver};
use crate::dns::serve::{Options, Server};
use crate::mesh::settings::Settings;
use crate::table::keeper::Keeper;
use crate::table::key::Hasher;
use crate::watch::saved::{self, Identity, Saved};

/// How long a TCP connection may be idle (R24).
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Runs until a signal ends it.
pub fn serve(args: &ServeArgs) -> ExitCode {
    let config = match args.config() {
        Ok(config) => config,
        Err(error) => return fail(BAD_CONFIGURATION, error),
    };
    let log = match log::start(&config.log) {
        Ok(log) => log,
        Err(error) => return fail(1, format_args!("the thread that writes logs cannot be started: {error}")),
    };
    let ended = run(args, &config);
    // What was logged comes before the last word.
    drop(log);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, error),
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn run(args: &ServeArgs, config: &Config) -> Result<(), Failed> {
    grants::raise_files();
    let keeper = Arc::new(Keeper::new(settings(args, config)));
    let runtime = Runtime::new().map_err(|error| format!("the runtime cannot be started: {error}"))?;
    let _entered = runtime.enter();
    // One that comes during the start must not end the process; the file is looked at once more after it.
    let _hangup = signal(SignalKind::hangup())?;
    let registry = Arc::new(Registry::default());
    let resolver = Arc::new(resolver(config, &registry, keeper.snapshot().load().hasher())?);
    let queries = Arc::new(QueryLog::new(config.log.queries));
    let options = options(args, config, Arc::clone(&queries));
    let server = Server::new(Arc::clone(keeper.snapshot()), Arc::clone(&resolver), options, Arc::clone(&registry));
    let (seen, server) = (Arc::clone(server.seen()), Arc::new(server));
    let listener = Listener::start(listen_options(config), Arc::clone(&server), runtime.handle().clone())?;
    resolver.forwarder().start();
    let endpoints = runtime.block_on(endpoints(config, &listener))?;
    // After everything else that may prevent the start, so that nobody is asked for nothing.
    let snapshot = snapshot(config);
    let saved = snapshot.as_ref().and_then(|(dir, identity)| last_saved(dir, identity));
    let source = Source::open(config, saved)?;
    let admin = Arc::new(Admin {
        keeper: Arc::clone(&keeper),
        counts: registry,
        board: Arc::clone(source.board()),
        propagation: Arc::default(),
        resolver,
        stats: Arc::clone(listener.stats()),
        listen: listener.addresses().to_vec(),
        config: ArcSwap::from_pointee(config.clone()),
        reloads: Reloads::default(),
        logs: log::logs(queries),
        placement: Placement::new(seen, config.placement.silence),
        draining: AtomicBool::new(false),
        stalled: AtomicBool::new(false),
    });
    show(&runtime, endpoints, &admin);
    let start = |(dir, identity)| Saver::start(dir, identity, Arc::clone(&keeper), Arc::clone(&admin.board));
    let saver = snapshot.map(start).transpose()?;
    let feeder = Feeder::start(source, Arc::clone(&keeper), Arc::clone(&admin))?;
    let (orders, bounds, handle) = (feeder.orders(), Arc::clone(listener.bounds()), runtime.handle().clone());
    let parts = reload::Parts { orders, server, bounds, admin: Arc::clone(&admin), runtime: handle };
    let reloader = Reloader::start(args.clone(), parts)?;
    let left = runtime.block_on(async {
        tokio::select! {
            failed = ready(&admin, &listener) => failed,
            left = ended(&admin, &reloader, listener.succeeded()) => left.map_err(Failed::from),
        }
    })?;
    let done = runtime.block_on(listener.stop(left));
    if !done {
        let deadline = admin.config().drain.deadline;
        tracing::warn!(?deadline, "not every query in flight was answered before drain.deadline");
    }
    let source = feeder.stop();
    if let Some(saver) = saver {
        saver.stop();
    }
    drop(source);
    Ok(())
}

/// Serves the admin endpoints, and looks after pods that ztunnel answers for.
fn show(runtime: &Runtime, endpoints: Vec<Endpoint>, admin: &Arc<Admin>) {
    for endpoint in endpoints {
        runtime.spawn(endpoint.serve(http::router(Arc::clone(admin))));
    }
    let admin = Arc::clone(admin);
    runtime.spawn(async move { admin.placement.run(&admin.keeper).await });
}

/// Where the complete state is saved, and whose it is. What comes from manifests is on disk already.
fn snapshot(config: &Config) -> Option<(PathBuf, Identity)> {
    let node = config.sources.kubernetes.as_ref()?.node.clone();
    let identity = Identity { cluster: config.cluster.name.clone(), node };
    config.sources.snapshot.clone().map(|dir| (dir, identity))
}

/// What was saved. One that cannot be used is as good as none, and said.
fn last_saved(dir: &Path, identity: &Identity) -> Option<Saved> {
    saved::read(dir, identity).unwrap_or_else(|error| {
        tracing::warn!("{error}");
        None
    })
}

/// Whom the configuration forwards to.
///
/// # Errors
/// A mistake in it, or a resolv.conf that cannot be read.
pub fn forwarder(config: &Config) -> Result<Forwarder, forward::ForwardError> {
    Forwarder::new(config.forward.clone(), &config.listen)
}

/// What keeps answers, and within which bounds upstreams are asked.
fn resolver(config: &Config, registry: &Registry, hasher: Hasher) -> Result<Resolver, forward::ForwardError> {
    let cache = Cache::new(grants::cache_octets(config), cache_options(config), hasher);
    let (forwarder, cache) = (Arc::new(forwarder(config)?), Arc::new(cache));
    Ok(Resolver::new(forwarder, cache, limits(config), registry.shared()))
}

/// How long answers are kept.
pub fn cache_options(config: &Config) -> cache::Options {
    cache::Options {
        max_ttl: config.cache.max_ttl,
        max_negative_ttl: config.cache.max_negative_ttl,
        serve_stale: config.cache.serve_stale,
        prefetch: config.cache.prefetch,
    }
}

/// How many questions may wait for upstreams.
pub fn limits(config: &Config) -> resolve::Limits {
    resolve::Limits { inflight: config.limits.inflight, per_client: config.limits.inflight_per_client }
}

/// What the rules need.
pub fn settings(args: &ServeArgs, config: &Config) -> Settings {
    Settings { node: args.sources.node(config), ..config.settings() }
}

/// Where to listen, and within which bounds.
pub fn listen_options(config: &Config) -> listen::Options {
    listen::Options {
        addresses: config.listen.clone(),
        workers: config.limits.workers,
        tcp_connections: grants::tcp_connections(config),
        tcp_per_client: config.limits.tcp_per_client,
        tcp_idle: TCP_IDLE,
        later_inflight: config.limits.inflight,
    }
}

/// What the server says of itself, and which queries it logs.
pub fn options(args: &ServeArgs, config: &Config, queries: Arc<QueryLog>) -> Options {
    let node = args.sources.node(config).map_or_else(hostname, String::from);
    Options { chaos: config.answers.chaos, node, identity_hold: config.policy.identity_hold, queries }
}

fn hostname() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    read.map(|name| name.trim().to_owned()).unwrap_or_else(|_| "localhost".into())
}

/// The admin address, and the admin socket if there is to be one.
async fn endpoints(config: &Config, listener: &Listener) -> Result<Vec<Endpoint>, EndpointError> {
    let mut endpoints = vec![Endpoint::open(Place::Port(config.admin), listener.is_inherited()).await?];
    if let Some(path) = &config.admin_socket {
        endpoints.push(Endpoint::open(Place::Path(path.clone()), listener.is_inherited()).await?);
    }
    Ok(endpoints)
}

/// Begins to serve what was taken over from another process, and says so, when the first complete state is in; returns only if
/// that fails.
async fn ready(admin: &Admin, listener: &Listener) -> Result<Duration, Failed> {
    let snapshot = admin.keeper.snapshot();
    let mut bell = snapshot.bell();
    while !snapshot.load().synced {
        if bell.changed().await.is_err() {
            break;
        }
    }
    listener.serve()?;
    let addresses: Vec<String> = admin.listen.iter().map(ToString::to_string).collect();
    print::out(&format!("ready {} admin {}", addresses.join(" "), admin.config().admin));
    std::future::pending().await
}

/// Waits for the signal to end; SIGTERM gives callers `drain.lameduck` to go elsewhere first, unless another process has
/// `succeeded` this one, so that nobody has to; SIGINT does not. Returns what is left of `drain.deadline`.
async fn ended(admin: &Admin, reloader: &Reloader, mut succeeded: watch::Receiver<bool>) -> std::io::Result<Duration> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => return Ok(admin.config().drain.deadline),
            _ = hangup.recv() => reloader.now(),
        }
    }
    let since = Instant::now();
    let drain = admin.config().drain.clone();
    admin.draining.store(true, Relaxed);
    tracing::info!(lameduck = ?drain.lameduck, "draining");
    tokio::select! {
        Ok(_) = succeeded.wait_for(|succeeded| *succeeded) => tracing::info!("another process serves: no lameduck is needed"),
        () = tokio::time::sleep(drain.lameduck) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(drain.deadline.saturating_sub(since.elapsed()))
}
