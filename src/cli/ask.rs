//! `check`, `table` and `explain`: from manifests, from API servers, or from a running server. All give the same views.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::args::{AskArgs, ExplainArgs, Output, TableArgs};
use super::source::Directories;
use super::{BAD_CONFIGURATION, FAILED, fail, look, print, serve};
use crate::admin::asker::Asker;
use crate::admin::explain::{self, Asked, Outside};
use crate::admin::table as names;
use crate::config::{Config, Upstream};
use crate::mesh::object::Change;
use crate::mesh::world::World;
use crate::table::Table;
use crate::table::build::Builder;
use crate::table::key::Key;
use crate::watch::interfaces;

/// The exit status of `check` if a source cannot be read, whatever the reports.
const UNREAD: u8 = 2;
/// How long a server may take.
const WAIT: Duration = Duration::from_secs(30);
/// A moment after which every grace has ended: what is there to be read has not just appeared.
const LATER: u64 = u64::MAX / 2;

/// Why there is nothing to print.
#[derive(Debug, Error)]
enum AskError {
    /// The configuration, or the command line.
    #[error("{0}")]
    Configuration(String),
    /// A source cannot be read.
    #[error("{0}")]
    Source(String),
    /// The server cannot be asked.
    #[error(
        "server {0} cannot be asked: {1}; give --server the admin address of a running segdns (127.0.0.1:9153 unless configured)"
    )]
    Server(SocketAddr, String),
    /// The question is wrong.
    #[error("{0}")]
    Question(String),
}

type Answer = Result<String, AskError>;

/// `segdns check`
pub fn check(args: &AskArgs) -> ExitCode {
    let mut partial = false;
    let answer = match args.server {
        Some(server) => get(server, "/debug/reports", &[]),
        None => scene(args).and_then(|scene| {
            partial = scene.partial;
            json(&scene.world.reports())
        }),
    };
    let (text, value) = match answer.and_then(parsed) {
        Ok(both) => both,
        Err(error) => return fail(BAD_CONFIGURATION, error),
    };
    match args.output {
        Output::Json => print::out(&text),
        Output::Table => {
            print::out(&print::reports(&value));
            eprintln!(
                "Note: scope hides names, it does not block traffic (R17); whoever knows an address reaches it. To forbid \
                 that, use AuthorizationPolicy."
            );
        }
    }
    match value.as_array().is_some_and(Vec::is_empty) {
        _ if partial => ExitCode::from(UNREAD),
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    }
}

/// `segdns table`
pub fn table(args: &TableArgs) -> ExitCode {
    let answer = match args.ask.server {
        Some(server) => {
            let caller = args.caller.as_deref().map(|caller| ("as", caller));
            get(server, "/debug/table", caller.as_slice())
        }
        None => scene(&args.ask).and_then(|Scene { world, table, .. }| {
            let asker = args.caller.as_deref().map(|text| asker(&world, &table, text)).transpose()?;
            json(&names::table(&world, &table, asker.as_ref()))
        }),
    };
    show(answer, args.ask.output, print::names)
}

/// `segdns explain`
pub fn explain(args: &ExplainArgs) -> ExitCode {
    let answer = match args.ask.server {
        Some(server) => {
            get(server, "/debug/explain", &[("name", &*args.name), ("type", &*args.rtype), ("from", &*args.from)])
        }
        None => explain_here(args),
    };
    show(answer, args.ask.output, print::explanation)
}

fn explain_here(args: &ExplainArgs) -> Answer {
    let asked = Asked::parse(&args.name, &args.rtype).map_err(AskError::Question)?;
    let Scene { config, world, table, .. } = scene(&args.ask)?;
    let asker = asker(&world, &table, &args.from)?;
    let forwarder = serve::forwarder(&config).ok();
    let upstreams = |wire: &[u8]| match &forwarder {
        Some(forwarder) => {
            let (zone, all) = forwarder.upstreams_of(wire)?;
            Some((zone, all.iter().map(ToString::to_string).collect()))
        }
        None => configured(&config),
    };
    let searches = forwarder.as_ref().map(|forwarder| forwarder.search_domains()).unwrap_or_default();
    // Nobody has asked anything here.
    let cached = |_: &Key| None;
    let outside = Outside { upstreams: &upstreams, searches: &searches, cached: &cached };
    json(&explain::explain(&world, &table, outside, &asker, &asked))
}

/// Where forwarding to "." would go, if it cannot be set up here: a resolv.conf that only the node has, for instance.
fn configured(config: &Config) -> Option<(String, Vec<String>)> {
    let zone = config.forward.iter().find(|f| f.zone.is_none())?;
    let upstreams = zone.upstreams.iter().map(|upstream| match upstream {
        Upstream::Address(address) => address.to_string(),
        Upstream::ResolvConf(path) => path.display().to_string(),
    });
    Some((".".to_owned(), upstreams.collect()))
}

fn asker(world: &World, table: &Table, text: &str) -> Result<Asker, AskError> {
    Asker::parse(world, table, text).map_err(|error| AskError::Question(error.to_string()))
}

/// Objects and table as `serve` would have them once everything has settled.
struct Scene {
    config: Config,
    world: World,
    table: Table,
    /// Something could not be read, and is not in it.
    partial: bool,
}

fn scene(args: &AskArgs) -> Result<Scene, AskError> {
    let configuration = |error: crate::config::ConfigError| AskError::Configuration(error.to_string());
    let config = args.sources.config().map_err(configuration)?;
    if config.sources.manifests.is_empty() && config.sources.kubernetes.is_none() {
        let what = "nothing to look at: give --manifests DIR, --kubernetes, --config FILE, or --server ADDR:PORT";
        return Err(AskError::Configuration(what.into()));
    }
    config.validate().map_err(configuration)?;
    let (changes, partial) = objects(&config)?;
    let mut settings = config.settings();
    settings.node = args.sources.node(&config);
    let mut world = World::new(settings);
    let mut builder = Builder::new(&world, rand::random());
    for delta in [
        world.set_node_addresses(interfaces::addresses().unwrap_or_default(), 0),
        world.apply(changes, 0),
        world.tick(LATER),
    ] {
        builder.apply(&world, delta);
    }
    let table = Table::clone(&builder.table());
    Ok(Scene { config, world, table, partial })
}

/// What the source tells, and whether something of it could not be read. What an operator should know of the source is
/// printed.
fn objects(config: &Config) -> Result<(Vec<Change>, bool), AskError> {
    let Some(options) = config.watched() else {
        let mut directories = Directories::open(config).map_err(|error| AskError::Source(error.to_string()))?;
        return Ok((directories.poll(), false));
    };
    let seen = look::look(options).map_err(|error| AskError::Source(error.to_string()))?;
    for note in &seen.notes {
        eprintln!("Note: {note}");
    }
    Ok((seen.changes, seen.partial))
}

fn json(value: &impl Serialize) -> Answer {
    serde_json::to_string_pretty(value).map_err(|error| AskError::Source(error.to_string()))
}

fn parsed(text: String) -> Result<(String, Value), AskError> {
    let value = serde_json::from_str(&text).map_err(|error| AskError::Source(error.to_string()))?;
    Ok((text, value))
}

fn show(answer: Answer, output: Output, human: fn(&Value) -> String) -> ExitCode {
    match (answer.and_then(parsed), output) {
        (Ok((text, _)), Output::Json) => print::out(&text),
        (Ok((_, value)), Output::Table) => print::out(&human(&value)),
        (Err(error @ (AskError::Configuration(_) | AskError::Source(_))), _) => return fail(BAD_CONFIGURATION, error),
        (Err(error), _) => return fail(FAILED, error),
    }
    ExitCode::SUCCESS
}

/// Asks a running server.
fn get(server: SocketAddr, path: &str, parameters: &[(&str, &str)]) -> Answer {
    let wrong = |what: String| AskError::Server(server, what);
    let agent =
        ureq::Agent::config_builder().timeout_global(Some(WAIT)).http_status_as_error(false).proxy(None).build();
    let request = ureq::Agent::from(agent).get(format!("http://{server}{path}"));
    let request = parameters.iter().fold(request, |request, (key, value)| request.query(key, value));
    let mut response = request.call().map_err(|error| wrong(error.to_string()))?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(u64::MAX).read_to_string();
    let body = body.map_err(|error| wrong(error.to_string()))?;
    let line = body.lines().next().unwrap_or_default().to_owned();
    match status {
        200 if serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok() => Ok(body.trim_end().to_owned()),
        200 => Err(wrong("it answers, but not as segdns does".into())),
        400 => Err(AskError::Question(line)),
        status => Err(wrong(format!("it answers {status} {line}"))),
    }
}
