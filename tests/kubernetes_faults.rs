//! An API server that goes wrong in every way that was seen of real ones: while it lasts, what was known is answered, and
//! everything else is forwarded; after it, what changed meanwhile is answered soon, and what was deleted is gone.
//!
//! ```text
//! outages    it is away, restarts, breaks connections, says nothing, goes back in time
//! lists      how a list comes, and how often it is asked for
//! refusals   what is missing, forbidden, or asked for with the wrong credentials
//! malformed  objects and events that are not what they should be
//! clock      the node's clock jumps
//! ```

mod support;

#[path = "kubernetes_faults/clock.rs"]
mod clock;
#[path = "kubernetes_faults/lists.rs"]
mod lists;
#[path = "kubernetes_faults/malformed.rs"]
mod malformed;
#[path = "kubernetes_faults/outages.rs"]
mod outages;
#[path = "kubernetes_faults/refusals.rs"]
mod refusals;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::apiserver::ApiServer;
use support::fed::{FAR, Fed, Lab, NXDOMAIN, SHOP};
use support::objects::{namespace, segment, service};
use support::server::Server;
use support::steady::{Steady, Want, until_answered};

const WEB: &str = "web.shop.mesh.acme";
const KEEP: &str = "keep.shop.mesh.acme";
const OUTSIDE: &str = "www.example.com";
/// How soon after an API server is well again all that changed is answered: the longest wait between two attempts is 5 s.
const RECOVERY: Duration = Duration::from_secs(7);
/// Something that happens within moments, on a machine that is busy.
const MOMENTS: Duration = Duration::from_secs(5);

/// A cluster with Services keep and gone besides web.
fn cluster(extra: &Value) -> Fed {
    let fed = Fed::new(Lab::Double, extra);
    fed.api.apply_all([service("shop", "keep", "segment", "10.0.0.9"), service("shop", "gone", "segment", "10.0.0.8")]);
    fed
}

/// Asks for what does not change, by a caller who sees it and by one who does not, and for what is forwarded.
fn steadily(fed: &Fed) -> Steady {
    let wants: [Want<'_>; 3] =
        [(SHOP, KEEP, 0, &["10.0.0.9"]), (FAR, KEEP, NXDOMAIN, &[]), (SHOP, OUTSIDE, 0, &["192.0.2.80"])];
    Steady::start(fed.at, &wants)
}

/// Changes one thing of each sort: a Service moves, one goes, one comes; a Segment comes with its namespace.
fn change(fed: &Fed) {
    fed.api.apply(service("shop", "web", "segment", "10.0.0.2"));
    fed.api.delete("v1", "Service", "shop", "gone");
    fed.api.apply(service("shop", "new", "segment", "10.0.0.3"));
    fed.api.apply(segment("late", "mesh.late"));
    fed.api.apply_all([namespace("late", Some("late")), service("late", "x", "global", "10.0.0.4")]);
}

/// Waits until all of [`change`] is answered; how long after `since` that was.
fn until_changed(fed: &Fed, since: Instant, limit: Duration) -> Duration {
    let wants: [Want<'_>; 4] = [
        (SHOP, WEB, 0, &["10.0.0.2"]),
        (SHOP, "gone.shop.mesh.acme", NXDOMAIN, &[]),
        (SHOP, "new.shop.mesh.acme", 0, &["10.0.0.3"]),
        (SHOP, "x.late.mesh.late", 0, &["10.0.0.4"]),
    ];
    for want in wants {
        // Whatever has been waited for already is over then.
        until_answered(fed.at, want, (since + limit).saturating_duration_since(Instant::now()));
    }
    since.elapsed()
}

/// Ends a test: the answers were right all the time, and the server ends as it should. Prints what was measured, if
/// anything was.
fn well(what: &str, took: Duration, steady: Steady, server: Server) {
    let asked = steady.end();
    if !took.is_zero() {
        eprintln!("{what}: {took:.1?}; {asked} answers were right meanwhile");
    }
    server.stop().unwrap_or_else(|error| panic!("{error}"));
}

/// Waits until watches of Services are open that were asked for after `since`.
fn until_watched(api: &ApiServer, since: Instant) {
    let open = |log: &support::apiserver::Observed| {
        log.of(support::apiserver::Verb::Watch, "services").any(|r| r.at > since && r.open && r.code == Some(200))
    };
    api.wait_for("a new watch of services", RECOVERY, open).unwrap_or_else(|error| panic!("{error}"));
}
