//! `segdns config`: a file judged without a server, and the reference of every key.

mod schema;

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::args::SourceArgs;
use super::{BAD_CONFIGURATION, fail, print};
use crate::admin::settings::settings;
use crate::config::reference::{Applies, KEYS};
use crate::config::{Config, Kubernetes, Sources};

/// What can be done with a configuration besides serving by it.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Judge a configuration as `serve` would; exit status 2 and one line if it cannot be used
    Check(SourceArgs),
    /// Print every key with its values, its default, and whether a running server takes another value (Markdown)
    Reference,
    /// Print the JSON schema of the file, for editors
    Schema,
}

/// Does it.
pub fn config(command: &ConfigCommand) -> ExitCode {
    match command {
        ConfigCommand::Check(args) => return check(args),
        ConfigCommand::Reference => print::out(&reference()),
        ConfigCommand::Schema => print::out(&format!("{:#}", schema::schema())),
    }
    ExitCode::SUCCESS
}

fn check(args: &SourceArgs) -> ExitCode {
    match args.config().and_then(|config| config.validate()) {
        Ok(()) => {
            print::out("ok");
            ExitCode::SUCCESS
        }
        Err(error) => fail(BAD_CONFIGURATION, error),
    }
}

const HEAD: &str = "\
# Configuration

Every key of the file that `segdns serve --config FILE` reads; `segdns config reference` prints this page. The file is YAML. \
A key that is not written has its default, a key that does not exist is an error, and `${NAME}` in a value is the environment \
variable of that name. Flags override the file (`segdns serve --help`). `segdns config check --config FILE` judges a file \
without a server, and `segdns config schema` prints a JSON schema for editors.

A running server reads the file again on SIGHUP, and by itself some seconds after its content has changed. Keys that are \
*live* count at once; those that need a *restart* are named in the log, and the others are applied without them.

| key | values | default | changes count | meaning |
|-----|--------|---------|---------------|---------|
";

/// The reference as Markdown.
pub fn reference() -> String {
    // With the section that is not there without a file, so that its defaults show.
    let defaults = Config::default();
    let sources = Sources { kubernetes: Some(Kubernetes::default()), ..defaults.sources.clone() };
    let defaults = settings(&Config { sources, ..defaults });
    let mut out = HEAD.to_owned();
    for key in KEYS {
        let default = default(&defaults, key.path);
        let applies = match key.applies {
            Applies::Live => "live",
            Applies::Restart => "at a restart",
            Applies::LiveFromManifests => "live with `sources.manifests`, else at a restart",
        };
        // Writing to a text does not fail.
        let _ = writeln!(out, "| `{}` | {} | {default} | {applies} | {} |", key.path, key.takes, key.meaning);
    }
    out
}

/// What stands at a path in the settings without a file; in the first element of a list, if it has any.
fn default(settings: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(settings, |at, part| match part.strip_suffix("[]") {
        Some(list) => at.get(list)?.get(0),
        None => at.get(part),
    });
    match found {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(value) => format!("`{value}`"),
    }
}

#[cfg(test)]
mod tests;
