//! `/debug/*`: the views as JSON, for loopback only unless `debug: any`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::endpoint::Peer;
use super::{Admin, Shared, aside};
use crate::admin::asker::Asker;
use crate::admin::explain::{self, Asked, Outside, cached};
use crate::admin::{placement, settings, table, top};
use crate::config::Debug;
use crate::table::key::Key;

/// Turns away whoever may not look.
pub async fn guard(
    State(admin): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if admin.config().debug == Debug::Any || peer.is_local() {
        return next.run(request).await;
    }
    (
        StatusCode::FORBIDDEN,
        "debug endpoints answer loopback addresses only, unless the configuration says debug: any\n",
    )
        .into_response()
}

/// The parameters of a request.
pub type Given = HashMap<String, String>;

/// The parameters, if they are among those allowed.
pub fn allowed(given: &Given, names: &[&str]) -> Result<(), String> {
    match given.keys().find(|key| !names.contains(&key.as_str())) {
        Some(key) if names.is_empty() => Err(format!("there is no parameter {key:?} here, nor any other")),
        Some(key) => Err(format!("there is no parameter {key:?}; allowed are {}", names.join(", "))),
        None => Ok(()),
    }
}

/// A view as JSON.
pub fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// What is wrong with the parameters.
pub fn bad(what: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{what}\n")).into_response()
}

/// Runs a view aside, and answers 400 with its line if it has something to say against the parameters.
async fn show<T: Serialize + Send + 'static>(
    admin: Arc<Admin>,
    view: impl FnOnce(&Admin) -> Result<T, String> + Send + 'static,
) -> Response {
    match aside(admin, move |admin| view(&admin)).await {
        Some(Ok(value)) => json(&value),
        Some(Err(what)) => bad(&what),
        None => (StatusCode::INTERNAL_SERVER_ERROR, "the view failed; see the log\n").into_response(),
    }
}

/// `name=&type=&from=`
pub async fn explain(State(admin): Shared, Query(given): Query<Given>) -> Response {
    show(admin, move |admin| {
        allowed(&given, &["name", "type", "from"])?;
        let name = given.get("name").ok_or("name is missing: write name=NAME, type=TYPE (else A) and from=CALLER")?;
        let from = given.get("from").ok_or("from is missing: write an IP address, namespace/pod, or segment:NAME")?;
        let asked = Asked::parse(name, given.get("type").map_or("A", String::as_str))?;
        let upstreams = |wire: &[u8]| {
            let (zone, all) = admin.resolver.forwarder().upstreams_of(wire)?;
            Some((zone, all.iter().map(ToString::to_string).collect()))
        };
        admin.keeper.look(|world, table| {
            let asker = Asker::parse(world, table, from).map_err(|e| e.to_string())?;
            let searches = admin.resolver.search_domains();
            let cached = |key: &Key| cached::look(admin.resolver.cache(), key, asked.rtype());
            let outside = Outside { upstreams: &upstreams, searches: &searches, cached: &cached };
            Ok(explain::explain(world, table, outside, &asker, &asked))
        })
    })
    .await
}

/// `as=`
pub async fn table(State(admin): Shared, Query(given): Query<Given>) -> Response {
    show(admin, move |admin| {
        allowed(&given, &["as"])?;
        admin.keeper.look(|world, table| {
            let asker = given.get("as").map(|text| Asker::parse(world, table, text)).transpose();
            Ok(table::table(world, table, asker.map_err(|e| e.to_string())?.as_ref()))
        })
    })
    .await
}

/// Everything that is wrong.
pub async fn reports(State(admin): Shared, Query(given): Query<Given>) -> Response {
    show(admin, move |admin| {
        allowed(&given, &[])?;
        Ok(admin.keeper.look(|world, _| world.reports()))
    })
    .await
}

/// `n=`: who asks most, and for what.
pub async fn top(State(admin): Shared, Query(given): Query<Given>) -> Response {
    show(admin, move |admin| {
        allowed(&given, &["n"])?;
        let (usual, most) = top::SHOWN;
        let n = given.get("n").map_or(Some(usual), |text| text.parse().ok().filter(|n| (1..=most).contains(n)));
        let shown = n.ok_or_else(|| format!("write n=NUMBER, from 1 to {most}; without it, {usual}"))?;
        let (read, now) = (admin.counts.samples().read(), SystemTime::now());
        Ok(admin.keeper.look(|world, table| top::top(&read, world, table, shown, now)))
    })
    .await
}

/// Pods that ztunnel answers for, and what to do about it.
pub async fn placement(State(admin): Shared, Query(given): Query<Given>) -> Response {
    show(admin, move |admin| {
        allowed(&given, &[])?;
        Ok(serde_json::json!({"pods": *admin.placement.look(&admin.keeper), "remedy": placement::REMEDY}))
    })
    .await
}

/// The effective configuration.
pub async fn config(State(admin): Shared) -> Response {
    json(&settings::settings(&admin.config()))
}

/// `name=`: forgets what upstreams said about a name and everything below it; without it, all.
pub async fn flush(State(admin): Shared, Query(given): Query<Given>) -> Response {
    if let Err(what) = allowed(&given, &["name"]) {
        return bad(&what);
    }
    let name = match given.get("name").filter(|name| *name != ".") {
        None => None,
        Some(text) => match Key::from_text(text).filter(|_| !text.is_empty()) {
            Some(key) => Some(key),
            None => return bad(&format!("name {text:?} is no DNS name: labels of 1 to 63 octets, 253 in all")),
        },
    };
    // Off the runtime: a full cache takes some milliseconds.
    let flushed = aside(admin, move |admin| admin.resolver.cache().flush(name.as_ref().map(|key| key.span(key.all()))));
    match flushed.await {
        Some(count) => format!("flushed {count}\n").into_response(),
        None => (StatusCode::INTERNAL_SERVER_ERROR, "flushing failed; see the log\n").into_response(),
    }
}
