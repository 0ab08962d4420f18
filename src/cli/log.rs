//! Logs on standard error: text for people, JSON for machines.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

use crate::admin::settings;
use crate::config::{Format, Level, Log};

type Reload = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

/// How the running log takes another filter.
static RELOAD: OnceLock<Reload> = OnceLock::new();

/// Starts logging; does nothing if it has been started.
pub fn start(log: &Log) {
    let builder = tracing_subscriber::fmt().with_env_filter(filter(log.level)).with_writer(std::io::stderr);
    match log.format {
        Format::Json => {
            let builder = builder.json().with_ansi(false).with_filter_reloading();
            let handle = builder.reload_handle();
            if builder.try_init().is_ok() {
                keep(Box::new(move |filter| handle.reload(filter).is_ok()));
            }
        }
        Format::Text => {
            let colours = std::io::stderr().is_terminal();
            let builder = builder.with_ansi(colours).with_target(false).with_filter_reloading();
            let handle = builder.reload_handle();
            if builder.try_init().is_ok() {
                keep(Box::new(move |filter| handle.reload(filter).is_ok()));
            }
        }
    }
}

/// Changes the level of the running log; false if there is none.
pub fn set(level: Level) -> bool {
    RELOAD.get().is_some_and(|reload| reload(filter(level)))
}

fn keep(reload: Reload) {
    // A second log cannot start, so there is nothing to replace.
    drop(RELOAD.set(reload));
}

/// The libraries speak of each packet at info; only their warnings concern an operator. kube's are about what is told in
/// our own words already, once and with a remedy. The query log is asked for by a
/// key of its own, `log.queries`, whatever the level.
fn filter(level: Level) -> EnvFilter {
    EnvFilter::new(format!("warn,kube_client=off,segdns={},segdns::queries=info", settings::level(level)))
}
