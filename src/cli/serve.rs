//! `segdns serve`: puts the parts together, says `ready`, and drains at the end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::args::ServeArgs;
use super::feed::Feeder;
use super::save::Saver;
use super::source::Source;
use super::{BAD_CONFIGURATION, fail, log};
use crate::admin::http::{self, Admin};
use crate::admin::placement::Placement;
use crate::config::Config;
use crate::dns::cache::{self, Cache};
use crate::dns::count::Registry;
use crate::dns::forward::{self, Forwarder};
use crate::dns::listen::{self, Listener};
use crate::dns::log::QueryLog;
use crate::dns::resolve::{self, Resolver};
use crate::dns::serve::{Options, Server};
use crate::table::keeper::Keeper;
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
    let mut settings = config.settings();
    settings.node = args.sources.node(config);
    let keeper = Arc::new(Keeper::new(settings));
    let runtime = Runtime::new()?;
    let _entered = runtime.enter();
    let registry = Arc::new(Registry::default());
    let resolver = Arc::new(resolver(config, &registry)?);
    let queries = Arc::new(QueryLog::new(config.log.queries));
    let options = options(args, config, Arc::clone(&queries));
    let server = Server::new(Arc::clone(keeper.snapshot()), Arc::clone(&resolver), options, Arc::clone(&registry));
    let (seen, server) = (Arc::clone(server.seen()), Arc::new(server));
    let listener = Listener::start(listen_options(config), Arc::clone(&server), runtime.handle().clone())?;
    resolver.forwarder().start();
    let bound = runtime.block_on(bind_admin(config))?;
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
        config: config.clone(),
        logs: log::logs(queries),
        placement: Placement::new(seen, config.placement.silence),
        draining: AtomicBool::new(false),
        stalled: AtomicBool::new(false),
    });
    let service = http::router(Arc::clone(&admin)).into_make_service_with_connect_info::<SocketAddr>();
    runtime.spawn(async move { axum::serve(bound, service).await });
    let looking = Arc::clone(&admin);
    runtime.spawn(async move { looking.placement.run(&looking.keeper).await });
    let start = |(dir, identity)| Saver::start(dir, identity, Arc::clone(&keeper), Arc::clone(&admin.board));
    let saver = snapshot.map(start).transpose()?;
    let feeder = Feeder::start(source, Arc::clone(&keeper), Arc::clone(&admin))?;
    let left = runtime.block_on(async {
        tokio::select! {
            () = ready(&admin) => Ok(Duration::ZERO),
            left = ended(config, &admin) => left,
        }
    })?;
    let done = runtime.block_on(listener.stop(left));
    if !done {
        tracing::warn!(deadline = ?config.drain.deadline, "not every query in flight was answered before drain.deadline");
    }
    let source = feeder.stop();
    if let Some(saver) = saver {
        saver.stop();
    }
    drop(source);
    Ok(())
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
fn resolver(config: &Config, registry: &Registry) -> Result<Resolver, forward::ForwardError> {
    let cache = cache::Options {
        max_ttl: config.cache.max_ttl,
        max_negative_ttl: config.cache.max_negative_ttl,
        serve_stale: config.cache.serve_stale,
        prefetch: config.cache.prefetch,
    };
    let limits = resolve::Limits { inflight: config.limits.inflight, per_client: config.limits.inflight_per_client };
    let (forwarder, cache) = (Arc::new(forwarder(config)?), Arc::new(Cache::new(config.cache.bytes, cache)));
    Ok(Resolver::new(forwarder, cache, limits, registry.register(true)))
}

fn listen_options(config: &Config) -> listen::Options {
    listen::Options {
        addresses: config.listen.clone(),
        workers: config.limits.workers,
        tcp_connections: config.limits.tcp_connections,
        tcp_per_client: config.limits.tcp_per_client,
        tcp_idle: TCP_IDLE,
        later_inflight: config.limits.inflight,
    }
}

fn options(args: &ServeArgs, config: &Config, queries: Arc<QueryLog>) -> Options {
    let node = args.sources.node(config).map_or_else(hostname, String::from);
    Options { chaos: config.answers.chaos, node, identity_hold: config.policy.identity_hold, queries }
}

fn hostname() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    read.map(|name| name.trim().to_owned()).unwrap_or_else(|_| "localhost".into())
}

async fn bind_admin(config: &Config) -> Result<TcpListener, Failed> {
    let bound = TcpListener::bind(config.admin).await;
    Ok(bound.map_err(|error| format!("admin address {} cannot be used: {error}", config.admin))?)
}

/// Says so when the first complete state is in; never returns.
async fn ready(admin: &Admin) {
    let snapshot = admin.keeper.snapshot();
    let mut bell = snapshot.bell();
    while !snapshot.load().synced {
        if bell.changed().await.is_err() {
            break;
        }
    }
    let addresses: Vec<String> = admin.listen.iter().map(ToString::to_string).collect();
    println!("ready {} admin {}", addresses.join(" "), admin.config.admin);
    std::future::pending::<()>().await;
}

/// Waits for the signal to end; SIGTERM gives callers `drain.lameduck` to go elsewhere first, SIGINT does not. Returns
/// what is left of `drain.deadline`.
async fn ended(config: &Config, admin: &Admin) -> std::io::Result<Duration> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => return Ok(config.drain.deadline),
            _ = hangup.recv() => tracing::warn!("SIGHUP: the configuration is not read again in this version; restart instead"),
        }
    }
    let since = Instant::now();
    admin.draining.store(true, Relaxed);
    tracing::info!(lameduck = ?config.drain.lameduck, "draining");
    tokio::select! {
        () = tokio::time::sleep(config.drain.lameduck) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(config.drain.deadline.saturating_sub(since.elapsed()))
}
