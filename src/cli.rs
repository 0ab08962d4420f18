//! The command line.

mod args;
mod ask;
mod config;
mod docs;
mod feed;
mod grants;
mod log;
mod look;
mod print;
mod probe;
mod reload;
pub(crate) mod save;
mod serve;
mod setup;
mod source;

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

/// What prevents the work.
const FAILED: u8 = 1;
/// A bad configuration.
const BAD_CONFIGURATION: u8 = 2;

/// Runs the command line: exit status 0, 1 for what prevents the work, 2 for a bad configuration or command line.
#[must_use]
pub fn main() -> ExitCode {
    match Args::parse().command {
        Command::Serve(args) => serve::serve(&args),
        Command::Check(args) => ask::check(&args),
        Command::Table(args) => ask::table(&args),
        Command::Explain(args) => ask::explain(&args),
        Command::Probe(args) => probe::probe(&args),
        Command::Setup(args) => setup::setup(&args),
        Command::Teardown(args) => setup::teardown(&args),
        Command::Config(command) => config::config(&command),
        Command::Completions { shell } => docs::completions(shell),
        Command::Man { dir } => docs::man(dir.as_deref()),
    }
}

/// One line on standard error, and the exit status.
fn fail(status: u8, what: impl Display) -> ExitCode {
    // Nobody may be reading it, and the status is said all the same.
    drop(writeln!(io::stderr(), "segdns: {what}"));
    ExitCode::from(status)
}
