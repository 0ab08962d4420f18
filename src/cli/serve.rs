//! `segdns serve`: puts the parts together, says `ready`, and drains at the end.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::args::ServeArgs;
use super::{BAD_CONFIGURATION, fail, log};
use crate::admin::http::{self, Admin};
use crate::config::{Config, Queries, Upstream};
use crate::dns::count::Registry;
use crate::dns::forward::{self, Forwarder};
use crate::dns::listen::{self, Listener};
use crate::dns::serve::{Options, QueryLog, Server};
use crate::table::keeper::Keeper;
use crate::watch::manifests::Manifests;

/// How often manifests are looked at; a change is live within a second (contract section 5).
const POLL: Duration = Duration::from_millis(250);
/// How often the node's own addresses are.
const INTERFACES: Duration = Duration::from_secs(5);
/// How long a TCP connection may be idle (R24).
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Runs until a signal ends it.
pub fn serve(args: &ServeArgs) -> ExitCode {
    let config = match args.config() {
        Ok(config) => config,
        Err(error) => return fail(BAD_CONFIGURATION, error),
    };
    log::start(&config.log);
    match run(args, &config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, error),
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn run(args: &ServeArgs, config: &Config) -> Result<(), Failed> {
    let manifests = open(config)?;
    let mut settings = config.settings();
    settings.node = args.sources.node(config);
    let keeper = Arc::new(Keeper::new(settings));
    let runtime = Runtime::new()?;
    let _entered = runtime.enter();
    let forwarder = Arc::new(forwarder(config)?);
    let registry = Arc::new(Registry::default());
    let server = Server::new(
        Arc::clone(keeper.snapshot()),
        Arc::clone(&forwarder),
        options(args, config),
        Arc::clone(&registry),
    );
    let server = Arc::new(server);
    let listener = Listener::start(listen_options(config), Arc::clone(&server), runtime.handle().clone())?;
    let admin = Arc::new(Admin {
        keeper: Arc::clone(&keeper),
        counts: registry,
        forwarder,
        stats: Arc::clone(listener.stats()),
        listen: listener.addresses().to_vec(),
        config: config.clone(),
        set_level: log::set,
        draining: AtomicBool::new(false),
    });
    runtime.block_on(serve_admin(config, Arc::clone(&admin)))?;
    let stop = Arc::new(AtomicBool::new(false));
    let feeder = feed(manifests, Arc::clone(&keeper), Arc::clone(&stop))?;
    runtime.block_on(async {
        ready(&keeper, &listener).await;
        ended(config, &admin).await
    })?;
    let done = runtime.block_on(listener.stop(config.drain.deadline));
    if !done {
        tracing::warn!(deadline = ?config.drain.deadline, "not every query in flight was answered before drain.deadline");
    }
    stop.store(true, Relaxed);
    drop(feeder.join());
    Ok(())
}

/// Opens the manifests that the configuration names.
pub fn open(config: &Config) -> Result<Manifests, Failed> {
    if config.sources.manifests.is_empty() {
        let what = if config.sources.kubernetes.is_some() {
            "this version reads manifests only, it cannot watch an API server yet: give --manifests DIR instead of --kubernetes"
        } else {
            "no source of objects: give --manifests DIR, or sources.manifests in the configuration"
        };
        return Err(what.into());
    }
    let dirs = config.sources.manifests.iter().enumerate().map(|(ix, dir)| (ix, dir.path.clone())).collect();
    Ok(Manifests::open(dirs)?)
}

/// Whom the configuration forwards to.
///
/// # Errors
/// A mistake in it, or a resolv.conf that cannot be read.
pub fn forwarder(config: &Config) -> Result<Forwarder, forward::ForwardError> {
    let zones = config.forward.iter().map(|f| forward::Zone {
        zone: f.zone.clone(),
        upstreams: f.upstreams.iter().map(upstream).collect(),
        tcp: f.tcp,
    });
    let limits = forward::Limits { inflight: config.limits.inflight, per_client: config.limits.inflight_per_client };
    Forwarder::new(zones.collect(), limits, &config.listen)
}

fn upstream(upstream: &Upstream) -> forward::Upstream {
    match upstream {
        Upstream::Address(address) => forward::Upstream::Address(*address),
        Upstream::ResolvConf(path) => forward::Upstream::ResolvConf(path.clone()),
    }
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

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "one over a share above 0 and at most 1")]
fn options(args: &ServeArgs, config: &Config) -> Options {
    let queries = match config.log.queries {
        Queries::None => QueryLog::None,
        Queries::Failures => QueryLog::Failures,
        Queries::All => QueryLog::All,
        Queries::Sample(share) => QueryLog::Sample((1.0 / share).round() as u32),
    };
    let node = args.sources.node(config).map_or_else(hostname, String::from);
    Options { chaos: config.answers.chaos, node, identity_hold: config.policy.identity_hold, queries }
}

fn hostname() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    read.map(|name| name.trim().to_owned()).unwrap_or_else(|_| "localhost".into())
}

/// Starts the thread that turns manifests into tables. It reads, applies and sleeps; queries never wait for it.
fn feed(
    mut manifests: Manifests,
    keeper: Arc<Keeper>,
    stop: Arc<AtomicBool>,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("feed".into()).spawn(move || {
        let mut looked = None::<Instant>;
        while !stop.load(Relaxed) {
            if looked.is_none_or(|at| at.elapsed() >= INTERFACES) {
                keeper.set_node_addresses(node_addresses());
                looked = Some(Instant::now());
            }
            let changes = manifests.poll();
            if !changes.is_empty() {
                keeper.apply(changes);
            }
            keeper.tick();
            thread::sleep(keeper.next_tick().map_or(POLL, |due| due.min(POLL)));
        }
    })
}

/// The addresses of this node's interfaces (R15).
#[must_use]
pub fn node_addresses() -> Vec<IpAddr> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let mut out: Vec<IpAddr> = all
        .filter_map(|interface| {
            let address = interface.address?;
            let four = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            four.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect();
    out.sort_unstable();
    out.dedup();
    out
}

/// Binds the admin address and serves it in the background.
async fn serve_admin(config: &Config, admin: Arc<Admin>) -> Result<(), Failed> {
    let bound = TcpListener::bind(config.admin).await;
    let bound = bound.map_err(|error| format!("admin address {} cannot be used: {error}", config.admin))?;
    let service = http::router(admin).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(bound, service).await });
    Ok(())
}

/// Waits for the first complete state and says so.
async fn ready(keeper: &Keeper, listener: &Listener) {
    let mut bell = keeper.snapshot().bell();
    while !keeper.snapshot().load().synced {
        if bell.changed().await.is_err() {
            return;
        }
    }
    let addresses: Vec<String> = listener.addresses().iter().map(ToString::to_string).collect();
    println!("ready {}", addresses.join(" "));
}

/// Waits for the signal to end; SIGTERM gives callers `drain.lameduck` to go elsewhere first, SIGINT does not.
async fn ended(config: &Config, admin: &Admin) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => tracing::warn!("SIGHUP: the configuration is not read again in this version; restart instead"),
        }
    }
    admin.draining.store(true, Relaxed);
    tracing::info!(lameduck = ?config.drain.lameduck, "draining");
    tokio::select! {
        () = tokio::time::sleep(config.drain.lameduck) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
