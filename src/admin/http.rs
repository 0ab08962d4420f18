//! The HTTP endpoints of contract section 6.

mod debug;
mod health;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::metrics;
use crate::config::{Config, Level};
use crate::dns::count::Registry;
use crate::dns::forward::Forwarder;
use crate::dns::listen::Stats;
use crate::mesh::object::{Kind, LOCAL};
use crate::table::keeper::Keeper;

/// What the endpoints show.
pub struct Admin {
    /// Objects and table.
    pub keeper: Arc<Keeper>,
    /// What was asked and answered.
    pub counts: Arc<Registry>,
    /// Whom the rest is forwarded to.
    pub forwarder: Arc<Forwarder>,
    /// What the sockets count.
    pub stats: Arc<Stats>,
    /// Where DNS is answered, with the ports really given.
    pub listen: Vec<SocketAddr>,
    /// The effective configuration.
    pub config: Config,
    /// Changes the level of logs; says whether it could.
    pub set_level: fn(Level) -> bool,
    /// The process is on its way out (`/readyz` is 503).
    pub draining: AtomicBool,
    /// Objects are no longer read, because of a defect (`/readyz` is 503).
    pub stalled: AtomicBool,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("listen", &self.listen).finish_non_exhaustive()
    }
}

type Shared = State<Arc<Admin>>;

/// The routes.
pub fn router(admin: Arc<Admin>) -> Router {
    let debug = Router::new()
        .route("/debug/explain", get(debug::explain))
        .route("/debug/table", get(debug::table))
        .route("/debug/reports", get(debug::reports))
        .route("/debug/config", get(debug::config))
        .route("/debug/log", post(debug::log))
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), debug::guard));
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/version", get(version))
        .merge(debug)
        .with_state(admin)
}

/// Off the runtime: a table of many names takes its time, and queries share the runtime's threads.
async fn aside<R: Send + 'static>(admin: Arc<Admin>, look: impl FnOnce(Arc<Admin>) -> R + Send + 'static) -> Option<R> {
    tokio::task::spawn_blocking(move || look(admin)).await.ok()
}

async fn scrape(State(admin): Shared) -> Response {
    match aside(admin, metrics::text).await {
        Some(Ok(text)) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n").into_response(),
    }
}

/// 200 if a query to itself is answered, whatever the answer.
async fn healthy(State(admin): Shared) -> (StatusCode, String) {
    let apex = admin.config.segments.default_domain.clone();
    match health::ask(&admin.listen, &apex).await {
        Ok(()) => (StatusCode::OK, "ok\n".into()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// 200, or 503 and what is pending.
async fn ready(State(admin): Shared) -> (StatusCode, String) {
    if admin.draining.load(Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".into());
    }
    if admin.stalled.load(Relaxed) {
        let why = "objects are no longer read because of a panic, see the log; restart segdns\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why.into());
    }
    if admin.keeper.snapshot().load().synced {
        return (StatusCode::OK, "ok\n".into());
    }
    let pending = admin.keeper.look(|world, _| {
        let mut lines = vec![format!("pending: first complete state of {}", world.pending_clusters().join(", "))];
        let local = &world.settings().clusters[LOCAL];
        let reports = world.reports().into_iter();
        let faults = reports.filter(|r| r.object.kind == Kind::Source && r.object.cluster == *local);
        lines.extend(faults.map(|r| format!("pending: {}; {}", r.text, r.remedy)));
        lines.join("\n")
    });
    (StatusCode::SERVICE_UNAVAILABLE, format!("{pending}\n"))
}

async fn version() -> &'static str {
    concat!("segdns ", env!("CARGO_PKG_VERSION"), "\n")
}
