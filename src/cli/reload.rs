//! SIGHUP, and a configuration file that changes: it is read again, and what a running server can take of it counts at once.
//!
//! ```text
//! Reloader (a thread that looks at the file) -> change (key by key) -> apply: upstreams, table, bounds, log
//! ```
//!
//! A file that cannot be used changes nothing. What decides answers is swapped with the table, as one; the cache and what is
//! known of upstreams stay (R23).

pub mod change;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use tokio::runtime::Handle;

use super::args::ServeArgs;
use super::feed::Orders;
use super::serve;
use crate::admin::http::Admin;
use crate::admin::reloads::Outcome;
use crate::config::{Config, ConfigError};
use crate::dns::listen::Bounds;
use crate::dns::serve::Server;
use change::Changed;

/// How often the file is looked at. What is new counts once two looks in a row have shown the same.
const LOOK: Duration = Duration::from_secs(2);

/// What takes other settings.
pub struct Parts {
    /// Tables.
    pub orders: Orders,
    /// What the server says of itself.
    pub server: Arc<Server>,
    /// How much there may be at a time.
    pub bounds: Arc<Bounds>,
    /// Upstreams and cache, and what is shown.
    pub admin: Arc<Admin>,
    /// Where upstreams are asked.
    pub runtime: Handle,
}

/// The thread that looks at the file; it ends when this is dropped.
pub struct Reloader(Sender<()>);

impl Reloader {
    /// Starts it.
    ///
    /// # Errors
    /// The system grants no thread.
    pub fn start(args: ServeArgs, parts: Parts) -> io::Result<Self> {
        let (wake, woken) = mpsc::channel();
        let reload = Reload { args, parts };
        thread::Builder::new().name("reload".into()).spawn(move || reload.run(&woken))?;
        Ok(Self(wake))
    }

    /// Has the file read again now.
    pub fn now(&self) {
        if self.0.send(()).is_err() {
            tracing::error!("the configuration is no longer read again, because of a panic; restart segdns");
        }
    }
}

/// What is in the file, or why it cannot be read.
type Content = Result<String, ConfigError>;

/// A file that is looked at: its content, not its times, since a ConfigMap's is a link to a link that is swapped.
struct Watched {
    path: PathBuf,
    /// What was handled last.
    handled: Option<Content>,
    /// What the last look has shown, if that is something else.
    seen: Option<Content>,
}

impl Watched {
    fn new(path: PathBuf) -> Self {
        Self { path, handled: None, seen: None }
    }

    /// What is there now; it is handled with that.
    fn take(&mut self) -> Content {
        let now = Config::text(&self.path);
        (self.handled, self.seen) = (Some(now.clone()), None);
        now
    }

    /// What is there now if it is new and was there at the last look, too: nobody is writing it.
    fn look(&mut self) -> Option<Content> {
        let now = Some(Config::text(&self.path));
        if self.handled == now {
            self.seen = None;
            return None;
        }
        if self.seen != now {
            self.seen = now;
            return None;
        }
        (self.handled, self.seen) = (now.clone(), None);
        now
    }
}

/// Why the file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// It was just read at the start, but by others.
    Start,
    /// It has changed.
    Changed,
    /// SIGHUP.
    Asked,
}

struct Reload {
    args: ServeArgs,
    parts: Parts,
}

impl Reload {
    fn run(&self, woken: &Receiver<()>) {
        let Some(path) = self.args.sources.config.clone() else {
            return self.without_a_file("all settings are flags, give --config", woken);
        };
        if !path.is_file() {
            // What came through a pipe cannot be had again.
            return self.without_a_file("--config is no regular file", woken);
        }
        let mut file = Watched::new(path);
        // It may have changed while everything else was started.
        self.read(file.take(), Why::Start);
        loop {
            match woken.recv_timeout(LOOK) {
                Ok(()) => self.read(file.take(), Why::Asked),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(content) = file.look() {
                        self.read(content, Why::Changed);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn without_a_file(&self, why: &str, woken: &Receiver<()>) {
        while woken.recv().is_ok() {
            self.parts.admin.reloads.count(Outcome::Unchanged);
            tracing::warn!("SIGHUP: there is no configuration file to read again: {why}");
        }
    }

    /// Applies what is in the file, or says why not.
    fn read(&self, content: Content, why: Why) {
        let read = content.and_then(|text| Ok((hash(&text), self.args.config_of(&text)?)));
        match read.map_err(|error| error.to_string()).and_then(|(hash, wanted)| self.take(hash, &wanted, why)) {
            Ok(Outcome::Unchanged) if why == Why::Start => {}
            Ok(outcome) => self.parts.admin.reloads.count(outcome),
            Err(error) => {
                tracing::error!("{error}; the configuration before it stays in force");
                self.parts.admin.reloads.count(Outcome::Refused);
                self.parts.admin.reloads.refuse(error);
            }
        }
    }

    fn take(&self, hash: String, wanted: &Config, why: Why) -> Result<Outcome, String> {
        let admin = &*self.parts.admin;
        let running = admin.config();
        let next = wanted.clone().kept(&running);
        let changed = change::between(&running, &next);
        let waiting = change::between(&next, wanted);
        let judged = next.validate().and_then(|()| next.validate_to_serve());
        judged.map_err(|error| format!("{error} (as long as {} waits for a restart)", list(&keys(&waiting))))?;
        if !changed.is_empty() {
            self.apply(&running, &next)?;
            tracing::info!(changed = %list(&changed), "configuration applied");
        }
        let news = *admin.reloads.waiting() != keys(&waiting);
        if !waiting.is_empty() && (news || why == Why::Asked) {
            let keys = list(&waiting);
            tracing::warn!(%keys, "these keys need a restart; until then they stay as they were");
        }
        admin.config.store(Arc::new(next));
        admin.reloads.accept(hash, keys(&waiting));
        if !changed.is_empty() {
            return Ok(Outcome::Applied);
        }
        if why != Why::Start && waiting.is_empty() {
            tracing::info!("configuration unchanged");
        }
        Ok(Outcome::Unchanged)
    }

    /// Has all parts take `next`: first what may fail, so that nothing is taken by half.
    fn apply(&self, running: &Config, next: &Config) -> Result<(), String> {
        let Parts { orders, server, bounds, admin, runtime } = &self.parts;
        if admin.stalled.load(Relaxed) {
            return Err("objects are no longer read because of a defect, see above; restart segdns".into());
        }
        let forwarder = admin.resolver.forwarder();
        if running.forward != next.forward {
            // Before the table, which says what is to be forwarded: the answers of whom else would be asked are kept.
            let _entered = runtime.enter();
            forwarder.set_zones(next.forward.clone(), &next.listen).map_err(|error| error.to_string())?;
        }
        let settings = serve::settings(&self.args, next);
        if settings != serve::settings(&self.args, running) && !orders.set(settings) {
            let _entered = runtime.enter();
            drop(forwarder.set_zones(running.forward.clone(), &running.listen));
            return Err("no table can be built by it because of a defect, see above; restart segdns".into());
        }
        admin.resolver.cache().set_options(serve::cache_options(next));
        admin.resolver.set_limits(serve::limits(next));
        bounds.set(&serve::listen_options(next));
        let queries = &admin.logs.queries;
        server.set_options(serve::options(&self.args, next, Arc::clone(queries)));
        if running.log.queries != next.log.queries {
            queries.configure(next.log.queries);
        }
        // Only a new level ends what `POST /debug/log` has set.
        if running.log.level != next.log.level {
            (admin.logs.set_level)(next.log.level);
        }
        Ok(())
    }
}

fn keys(changed: &[Changed]) -> Vec<String> {
    changed.iter().map(|changed| changed.key.clone()).collect()
}

fn list(all: &[impl ToString]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// As `sha256sum` prints it.
fn hash(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests;
