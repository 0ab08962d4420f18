//! The HTTP endpoints of contract section 6.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::table::keeper::Keeper;

/// What the endpoints show.
#[derive(Debug)]
pub struct Admin {
    /// Objects and table.
    pub keeper: Arc<Keeper>,
    /// The process is on its way out (`/readyz` is 503).
    pub draining: AtomicBool,
}

/// The routes.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new().route("/readyz", get(ready)).with_state(admin)
}

/// 200, or 503 and what is pending.
async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, String) {
    if admin.draining.load(Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".into());
    }
    if admin.keeper.snapshot().load().synced {
        return (StatusCode::OK, "ok\n".into());
    }
    let pending = admin.keeper.look(|world, _| world.pending_clusters().join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, format!("pending: first complete state of {pending}\n"))
}
