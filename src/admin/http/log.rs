//! `/debug/log`: what is logged, and how that is changed while the server runs.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::Shared;
use super::debug::{Given, allowed, bad, json as shown};
use crate::admin::settings;
use crate::config::{self, Level, Queries};
use crate::dns::log::{QueryLog, Suffix, Switch, Whose};
use crate::table::key::Key;

/// How long queries are logged if nothing is said: who forgets it does not fill disks.
const USUAL: Duration = Duration::from_secs(600);
/// How long at most.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The running log.
pub struct Logs {
    /// Changes the level; says whether it could.
    pub set_level: fn(Level) -> bool,
    /// The level now; `None` if logging was not started.
    pub level: fn() -> Option<Level>,
    /// Lines that were lost, because nobody took them.
    pub dropped: fn() -> u64,
    /// Which queries are logged.
    pub queries: Arc<QueryLog>,
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("queries", &self.queries).finish_non_exhaustive()
    }
}

/// What is logged now.
pub async fn list(State(admin): Shared, Query(given): Query<Given>) -> Response {
    if let Err(what) = allowed(&given, &[]) {
        return bad(&what);
    }
    let now = Instant::now();
    admin.logs.queries.expire(now);
    let (everyone, switches) = admin.logs.queries.list();
    shown(&json!({
        "level": (admin.logs.level)().map(settings::level),
        "queries": settings::queries(everyone),
        "switched": switches.iter().map(|switch| view(switch, now)).collect::<Vec<_>>(),
        "dropped": (admin.logs.dropped)(),
    }))
}

fn view(switch: &Switch, now: Instant) -> Value {
    let Switch { whose, queries, until } = switch;
    let left = until.saturating_duration_since(now);
    let mut out = json!({"queries": settings::queries(*queries), "left": format!("{}s", left.as_secs())});
    let Whose { namespace, pod, from, name } = whose;
    if let Some(pod) = pod {
        out["pod"] = format!("{}/{pod}", namespace.as_deref().unwrap_or_default()).into();
    } else if let Some(namespace) = namespace {
        out["namespace"] = namespace.to_string().into();
    }
    if let Some(from) = from {
        out["from"] = from.to_string().into();
    }
    if let Some(name) = name {
        out["name"] = name.text.to_string().into();
    }
    out
}

/// `level=`, `queries=` with `namespace=`, `pod=`, `from=`, `name=` and `for=`.
pub async fn switch(State(admin): Shared, Query(given): Query<Given>) -> Response {
    let wish = match Wish::read(&given) {
        Ok(wish) => wish,
        Err(what) => return bad(&what),
    };
    let mut said = String::new();
    if let Some(level) = wish.level {
        if !(admin.logs.set_level)(level) {
            return (StatusCode::INTERNAL_SERVER_ERROR, "logging was not started here\n").into_response();
        }
        said.push_str(&format!("level {}\n", settings::level(level)));
    }
    if let Some(queries) = wish.queries {
        let (log, now) = (&admin.logs.queries, Instant::now());
        if let Err(error) = log.switch(&wish.whose, queries, wish.length, now) {
            return bad(&error.to_string());
        }
        let held = log.list().1.iter().any(|switch| switch.whose == wish.whose);
        let until = if held { format!(" for {}s", wish.length.as_secs()) } else { String::new() };
        said.push_str(&format!("queries {}{until}\n", settings::queries(queries).to_string().trim_matches('"')));
        if held {
            let log = Arc::clone(log);
            tokio::spawn(async move {
                tokio::time::sleep_until((now + wish.length).into()).await;
                if log.expire(Instant::now()) > 0 {
                    tracing::info!("queries are no longer logged as was asked for: the time is over");
                }
            });
        }
    }
    said.into_response()
}

/// What is asked for.
struct Wish {
    level: Option<Level>,
    queries: Option<Queries>,
    whose: Whose,
    length: Duration,
}

impl Wish {
    fn read(given: &Given) -> Result<Self, String> {
        allowed(given, &["level", "queries", "namespace", "pod", "from", "name", "for"])?;
        let text = |key: &str| given.get(key).map(String::as_str);
        let level = text("level").map(level).transpose()?;
        let queries = text("queries").map(|text| config::read("queries", text)).transpose()?;
        if queries.is_none() && (level.is_none() || given.len() > 1) {
            return Err(format!(
                "write level=LEVEL, one of {}, or queries=none, failures, all or a share such as 0.01, with \
                 namespace=NAMESPACE, pod=NAMESPACE/POD, from=ADDRESS or name=NAME if it is not about everyone",
                levels()
            ));
        }
        let length = text("for").map(|text| config::read::<Duration>("for", text)).transpose()?.unwrap_or(USUAL);
        if length.is_zero() || length > LONGEST {
            return Err("for: write a time from 1ms to 24h".to_owned());
        }
        Ok(Self { level, queries, whose: whose(given)?, length })
    }
}

fn whose(given: &Given) -> Result<Whose, String> {
    let mut whose = Whose { namespace: given.get("namespace").map(|text| text.as_str().into()), ..Whose::default() };
    if let Some(text) = given.get("pod") {
        let parts = text.split_once('/').filter(|(namespace, pod)| !namespace.is_empty() && !pod.is_empty());
        let (namespace, pod) = parts.ok_or_else(|| format!("pod {text:?}: write NAMESPACE/POD"))?;
        if whose.namespace.as_deref().is_some_and(|other| other != namespace) {
            return Err(format!("pod {text:?} is not in the namespace that is asked for"));
        }
        (whose.namespace, whose.pod) = (Some(namespace.into()), Some(pod.into()));
    }
    if let Some(text) = given.get("from") {
        let address: std::net::IpAddr = text.parse().map_err(|_| format!("from {text:?}: write an IP address"))?;
        whose.from = Some(address.to_canonical());
    }
    if let Some(text) = given.get("name") {
        let key = Key::from_text(text).filter(|key| key.count() > 0);
        let key = key.ok_or_else(|| format!("name {text:?} is no DNS name: labels of 1 to 63 octets, 253 in all"))?;
        whose.name = Some(Suffix::of(&key));
    }
    Ok(whose)
}

fn level(text: &str) -> Result<Level, String> {
    Level::from_str(text, true).map_err(|_| format!("level {text:?}: write one of {}", levels()))
}

fn levels() -> String {
    Level::value_variants().iter().copied().map(settings::level).collect::<Vec<_>>().join(", ")
}
