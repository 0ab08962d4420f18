//! What is made of the command line itself: completions and manual pages.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::args::Args;
use super::fail;

/// Prints the completions of a shell.
pub fn completions(shell: Shell) -> ExitCode {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "segdns", &mut out);
    print(&out)
}

/// Prints the manual page, or writes one for each command into a directory.
pub fn man(dir: Option<&Path>) -> ExitCode {
    let command = Args::command();
    if let Some(dir) = dir {
        return match clap_mangen::generate_to(command, dir) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(super::FAILED, format_args!("cannot write manual pages to {}: {error}", dir.display())),
        };
    }
    let mut out = Vec::new();
    match Man::new(command).render(&mut out) {
        Ok(()) => print(&out),
        Err(error) => fail(super::FAILED, error),
    }
}

/// A reader who has seen enough, as `head`, is no failure.
fn print(text: &[u8]) -> ExitCode {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(super::FAILED, error),
        _ => ExitCode::SUCCESS,
    }
}
