//! The HTTP endpoints of contract section 6.

mod debug;
pub mod endpoint;
mod health;
mod log;
mod ready;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::metrics::{self, Format};
use super::placement::Placement;
use super::reloads::Reloads;
use crate::config::Config;
use crate::dns::count::Registry;
use crate::dns::listen::Stats;
use crate::dns::resolve::Resolver;
use crate::histogram::Histogram;
use crate::table::keeper::Keeper;
use crate::watch::board::Board;

/// What the endpoints show.
pub struct Admin {
    /// Objects and table.
    pub keeper: Arc<Keeper>,
    /// What was asked and answered.
    pub counts: Arc<Registry>,
    /// What the sources of objects are doing.
    pub board: Arc<Board>,
    /// From an event read off a watch until new queries are answered by it.
    pub propagation: Arc<Histogram>,
    /// What the table does not hold: upstreams and the cache.
    pub resolver: Arc<Resolver>,
    /// What the sockets count.
    pub stats: Arc<Stats>,
    /// Where DNS is answered, with the ports really given.
    pub listen: Vec<SocketAddr>,
    /// Pods that ztunnel answers for.
    pub placement: Placement,
    /// The effective configuration, as it is now: see [`Admin::config`].
    pub config: ArcSwap<Config>,
    /// What became of configurations that were read again.
    pub reloads: Reloads,
    /// What is logged.
    pub logs: Logs,
    /// The process is on its way out (`/readyz` is 503).
    pub draining: AtomicBool,
    /// Objects are no longer read, because of a defect (`/readyz` is 503).
    pub stalled: AtomicBool,
}

impl Admin {
    /// The effective configuration, as it is now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("listen", &self.listen).finish_non_exhaustive()
    }
}

pub use log::Logs;

type Shared = State<Arc<Admin>>;

/// The routes.
pub fn router(admin: Arc<Admin>) -> Router {
    let debug = Router::new()
        .route("/debug/explain", get(debug::explain))
        .route("/debug/table", get(debug::table))
        .route("/debug/reports", get(debug::reports))
        .route("/debug/config", get(debug::config))
        .route("/debug/top", get(debug::top))
        .route("/debug/placement", get(debug::placement))
        .route("/debug/log", get(log::list).post(log::switch))
        .route("/debug/flush", post(debug::flush))
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), debug::guard));
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready::ready))
        .route("/version", get(version))
        .merge(debug)
        .with_state(admin)
}

/// Off the runtime: a table of many names takes its time, and queries share the runtime's threads.
async fn aside<R: Send + 'static>(admin: Arc<Admin>, look: impl FnOnce(Arc<Admin>) -> R + Send + 'static) -> Option<R> {
    tokio::task::spawn_blocking(move || look(admin)).await.ok()
}

async fn scrape(State(admin): Shared, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::of(accept.unwrap_or_default());
    match aside(admin, move |admin| metrics::text(admin, format)).await {
        Some(Ok(text)) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n").into_response(),
    }
}

/// 200 if a query to itself is answered, whatever the answer, and no worker is stuck.
async fn healthy(State(admin): Shared) -> (StatusCode, String) {
    let apex = admin.config().segments.default_domain.clone();
    let asked = health::ask(&admin.listen, &apex).await;
    let why: Vec<String> = health::hung(&admin.stats.pulses).into_iter().chain(asked.err()).collect();
    if why.is_empty() {
        return (StatusCode::OK, "ok\n".into());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", why.join("\n")))
}

async fn version() -> &'static str {
    concat!("segdns ", env!("CARGO_PKG_VERSION"), "\n")
}
