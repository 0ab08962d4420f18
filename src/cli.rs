//! The command line.

mod args;
mod ask;
mod feed;
mod grants;
mod log;
mod look;
mod print;
pub(crate) mod save;
mod serve;
mod source;

use std::fmt::Display;
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
    }
}

/// One line on standard error, and the exit status.
fn fail(status: u8, what: impl Display) -> ExitCode {
    eprintln!("segdns: {what}");
    ExitCode::from(status)
}
