//! `cargo run --release --example compare`: what clients see of segdns, Unbound and CoreDNS when upstreams misbehave, as a
//! markdown table. Loopback only; it needs no root, and takes up to four minutes.
//!
//! `--only segdns,unbound,unbound-defaults,coredns` measures these only, `--json` prints the figures. CoreDNS is measured if
//! `COREDNS` names its binary.

#[path = "compare/lab.rs"]
mod lab;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;
use lab::column::{self, Column};
use lab::server::{Kind, Program};

/// Compares DNS servers whose upstreams misbehave.
#[derive(Debug, Parser)]
struct Args {
    /// Measures these only: segdns, unbound, unbound-defaults, coredns
    #[arg(long, value_delimiter = ',', value_parser = kind)]
    only: Vec<Kind>,
    /// Prints figures instead of a table; times are in milliseconds
    #[arg(long)]
    json: bool,
}

fn kind(word: &str) -> Result<Kind, String> {
    let words = Kind::ALL.map(Kind::word).join(", ");
    Kind::ALL.into_iter().find(|k| k.word() == word).ok_or_else(|| format!("one of {words}"))
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let wanted = |kind: &Kind| args.only.is_empty() || args.only.contains(kind);
    let mut columns = Vec::new();
    for kind in Kind::ALL.into_iter().filter(wanted) {
        columns.push(match program(kind) {
            Ok(program) => Column::of(&program).await,
            Err(why) => Column::missing(kind, &why).await,
        });
    }
    if args.json {
        println!("{:#}", column::json(&columns));
    } else {
        print!("{}", column::markdown(&columns));
    }
    ExitCode::SUCCESS
}

fn program(kind: Kind) -> Result<Program, String> {
    match kind {
        Kind::Segdns => segdns(),
        Kind::Unbound | Kind::UnboundDefaults => Program::unbound(kind).ok_or_else(|| "not installed".to_owned()),
        Kind::CoreDns => {
            let path = std::env::var_os("COREDNS").map(PathBuf::from).ok_or("not measured here")?;
            Ok(Program { kind, path })
        }
    }
}

/// The binary of the same build, two folders up. Cargo makes no binaries for an example, so it is asked to: an old one must not
/// be measured instead of what is here.
fn segdns() -> Result<Program, String> {
    let example = std::env::current_exe().map_err(|e| e.to_string())?;
    let folder = example.ancestors().nth(2).ok_or("this example is not where cargo puts it")?;
    let path = folder.join("segdns");
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "--bin", "segdns"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            command.arg("--release");
        }
        if !command.status().is_ok_and(|status| status.success()) {
            return Err("segdns could not be built".to_owned());
        }
    }
    if path.is_file() {
        return Ok(Program { kind: Kind::Segdns, path });
    }
    Err(format!("{} is missing: cargo build --bin segdns makes it", path.display()))
}
