//! Logs on standard error: text for people, JSON for machines.
//!
//! ```text
//! fold   what is said again and again becomes one line a minute
//! lines  whoever logs leaves a line behind and goes on; a thread writes them
//! ```

mod fold;
mod lines;

use std::io::IsTerminal;
use std::sync::{Arc, OnceLock, RwLock};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::admin::http::Logs;
use crate::admin::settings;
use crate::config::{Format, Level, Log};
use crate::dns::log::QueryLog;
use fold::{Fold, Folding};
use lines::{Lines, Writing};

/// The running log.
struct Running {
    filter: reload::Handle<EnvFilter, Registry>,
    level: RwLock<Level>,
    lines: Lines,
}

static RUNNING: OnceLock<Running> = OnceLock::new();

/// Writes what is left when it is dropped.
#[derive(Debug)]
pub struct Guard {
    _writing: Option<Writing>,
}

/// Starts logging; does nothing if it has been started.
///
/// # Errors
/// The system grants no thread.
pub fn start(log: &Log) -> std::io::Result<Guard> {
    let fold = Arc::new(Fold::default());
    let lines = Lines::default();
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let layer = match log.format {
        Format::Json => fmt::layer().json().with_ansi(false).with_writer(lines.clone()).boxed(),
        Format::Text => {
            let colours = std::io::stderr().is_terminal();
            fmt::layer().with_ansi(colours).with_target(false).with_writer(lines.clone()).boxed()
        }
    };
    let folded = Folding { fold: Arc::clone(&fold), layer };
    if tracing_subscriber::registry().with(filter).with(folded).try_init().is_err() {
        return Ok(Guard { _writing: None });
    }
    let writing = lines.start(fold)?;
    // A second log cannot start, so there is nothing to replace.
    drop(RUNNING.set(Running { filter: handle, level: RwLock::new(log.level), lines }));
    Ok(Guard { _writing: Some(writing) })
}

/// What the admin endpoints show and change of it.
pub fn logs(queries: Arc<QueryLog>) -> Logs {
    Logs { set_level, level, dropped, queries }
}

fn set_level(level: Level) -> bool {
    let Some(running) = RUNNING.get() else { return false };
    if running.filter.reload(filter(level)).is_err() {
        return false;
    }
    if let Ok(mut current) = running.level.write() {
        *current = level;
    }
    true
}

fn level() -> Option<Level> {
    RUNNING.get()?.level.read().ok().map(|level| *level)
}

fn dropped() -> u64 {
    RUNNING.get().map_or(0, |running| running.lines.dropped())
}

/// The libraries speak of each packet at info; only their warnings concern an operator. kube's are about what is told in
/// our own words already, once and with a remedy. The query log is asked for by a key of its own, `log.queries`, whatever the
/// level.
fn filter(level: Level) -> EnvFilter {
    EnvFilter::new(format!("warn,kube_client=off,segdns={},segdns::queries=info", settings::level(level)))
}
