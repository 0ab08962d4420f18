//! segdns beside other servers: CPU time, latency, system calls and memory, measured in one run. `bench/run` starts it;
//! `bench/README.md` says what is measured, and how.
//!
//! ```text
//! data     -> world        the plan: a mesh, its callers, and what is asked; for servers that know no callers
//! servers  -> config, cost processes, what they are told, and what they cost; `fleet` is all of them
//! generate -> lane, tcp    questions and answers; `mmsg` below it, `upstream` beside it
//! rounds, swaps, special   what is measured; `support` is the API server of the tests
//! report   -> plot         what is printed
//! echo, hickory            two servers that are this very program
//! ```

mod cores;
mod data;
mod echo;
mod fleet;
mod generate;
mod hickory;
mod mmsg;
mod report;
mod rounds;
mod servers;
mod special;
mod stats;
#[path = "../../tests/support"]
mod support {
    #![allow(dead_code, reason = "the bench needs no faults")]
    pub mod apiserver;
}
mod swaps;
mod upstream;
mod world;

use std::error::Error;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use data::{Kind, Plan};
use fleet::{Fleet, TARGETS};
use report::Report;
use rounds::{Job, Library, Section};
use servers::{Program, Setting};

/// Compares DNS servers.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    serve: Option<Serve>,
    /// Few rounds, some servers, and what is most telling only: under 90 seconds
    #[arg(long)]
    quick: bool,
    /// Measures these servers only: echo, segdns, segdns-small, nsd, knot, unbound, dnsmasq, dnsdist, dnsdist-forward,
    /// hickory, coredns, nodelocal
    #[arg(long, value_delimiter = ',', value_parser = program)]
    servers: Vec<Program>,
    /// Measures this only, and system calls and dnsperf not at all; those that --quick leaves out, too
    #[arg(long, value_delimiter = ',')]
    sections: Vec<Section>,
    /// Rounds of each job
    #[arg(long)]
    rounds: Option<usize>,
    /// How long a job runs in each round, in seconds
    #[arg(long)]
    seconds: Option<f64>,
    /// Names that segdns serves
    #[arg(long, default_value_t = 100_000)]
    names: usize,
    /// Names that the others serve
    #[arg(long, default_value_t = 10_000)]
    peer_names: usize,
    /// Servers and generator go before everything else that runs, for a machine that is not idle
    #[arg(long)]
    urgent: bool,
    /// Where result.md, result.json and result.svg are written
    #[arg(long)]
    out: Option<PathBuf>,
    /// A page whose part between the lines `<!-- result -->` and `<!-- /result -->` becomes result.md
    #[arg(long)]
    page: Option<PathBuf>,
    /// segdns's binary; without it, that of this build
    #[arg(long, default_value = env!("CARGO_BIN_EXE_segdns"))]
    segdns: PathBuf,
    /// segdns-small's binary, if another: with as many names for both, two versions are compared in one run
    #[arg(long)]
    small_segdns: Option<PathBuf>,
    /// `cargo bench` says it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What this program is when it measures itself.
#[derive(Debug, Subcommand)]
enum Serve {
    /// Sends back what comes, and so many octets more
    #[command(hide = true)]
    Echo { at: SocketAddr, append: usize },
    /// hickory-server with so many names
    #[command(hide = true)]
    Hickory { at: SocketAddr, names: usize },
}

type Failed = Box<dyn Error>;

/// Those that are asked by a modest caller and a greedy one.
const FAIR: [Program; 5] = [Program::Echo, Program::Segdns, Program::Nsd, Program::Knot, Program::Unbound];

/// Questions of each kind that are asked before: every external name is among them.
const WARM: usize = 16_384;

fn program(word: &str) -> Result<Program, String> {
    let words = Program::ALL.map(Program::word).join(", ");
    Program::ALL.into_iter().find(|program| program.word() == word).ok_or_else(|| format!("one of {words}"))
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.serve {
        Some(Serve::Echo { at, append }) => udp(*at).and_then(|socket| Ok(echo::serve(&socket, *append)?)),
        Some(Serve::Hickory { at, names }) => {
            udp(*at).and_then(|socket| Ok(hickory::serve(&Plan::of(*names), socket, TcpListener::bind(at)?)?))
        }
        None => compare(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn udp(at: SocketAddr) -> Result<UdpSocket, Failed> {
    let socket = UdpSocket::bind(at)?;
    generate::widen(&socket);
    Ok(socket)
}

fn compare(args: &Args) -> Result<(), Failed> {
    // First of all, so that no server is started that would have to share its core.
    if args.urgent {
        cores::go_before_others();
    }
    let upstream = upstream::start()?;
    let dir = tempfile::Builder::new().prefix("segdns-bench-").tempdir()?;
    let setting = Setting {
        plan: Plan::of(args.names),
        small: Plan::of(args.peer_names),
        upstream,
        segdns: args.segdns.clone(),
        small_segdns: args.small_segdns.clone(),
        dir: dir.path().to_owned(),
    };
    let programs = if args.servers.is_empty() { default_programs(args.quick) } else { args.servers.clone() };
    let fleet = Fleet::start(setting, &programs);
    cores::pin(cores::GENERATOR);
    let mut report = Report::new(&fleet, &programs);
    measure(args, &fleet, &programs, &mut report)?;
    report.finish(&fleet);
    let text = report.markdown();
    print!("{text}");
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out)?;
        std::fs::write(out.join("result.md"), &text)?;
        std::fs::write(out.join("result.json"), report.json()?)?;
        std::fs::write(out.join("result.svg"), report.plot())?;
    }
    if let Some(page) = &args.page {
        let before = std::fs::read_to_string(page)?;
        let after = report::put_into(&before, &text).ok_or_else(|| format!("{}: no such lines", page.display()))?;
        std::fs::write(page, after)?;
    }
    Ok(())
}

fn default_programs(quick: bool) -> Vec<Program> {
    if quick {
        vec![Program::Echo, Program::Segdns, Program::Nsd, Program::Unbound, Program::Hickory]
    } else {
        Program::ALL.to_vec()
    }
}

fn measure(args: &Args, fleet: &Fleet, programs: &[Program], report: &mut Report) -> Result<(), Failed> {
    let rounds = args.rounds.unwrap_or(if args.quick { 3 } else { 15 });
    let seconds = args.seconds.unwrap_or(if args.quick { 0.3 } else { 0.6 });
    let mut library = Library::new(if args.quick { 16_384 } else { 65_536 });
    let running: Vec<Program> = programs.iter().copied().filter(|program| fleet.runs(*program)).collect();
    let every = |section| jobs(&running, section, args.quick);
    let saturated = every(Section::Saturated);
    rounds::warm(fleet, &mut Library::new(WARM), &saturated)?;
    let mut run = |section, rounds, report: &mut Report| -> Result<(), Failed> {
        let jobs = every(section);
        if !jobs.is_empty() {
            rounds::run(fleet, &mut library, &jobs, rounds, seconds, &mut report.samples)?;
        }
        Ok(())
    };
    use Section::{Fair, Forward, Lone, Saturated, Steady, Swaps, Tcp};
    let wanted = |section| {
        if args.sections.is_empty() {
            !args.quick || matches!(section, Saturated | Steady | Lone)
        } else {
            args.sections.contains(&section)
        }
    };
    for section in [Saturated, Steady, Lone, Tcp, Forward].into_iter().filter(|section| wanted(*section)) {
        run(section, rounds, report)?;
    }
    if args.sections.is_empty() {
        // It takes 5 s a server.
        let counted: Vec<Program> =
            running.iter().copied().filter(|program| !args.quick || program.knows_callers()).collect();
        for section in [Saturated, Lone] {
            report.calls.extend(special::calls(fleet, &mut library, section, &counted));
        }
        if !args.quick {
            report.dnsperf = special::dnsperf(fleet, &running, rounds.min(5))?;
        }
    }
    if wanted(Swaps) && running.contains(&Program::Segdns) {
        let rate = report.half_rate();
        report.swap_rates = swaps::run(fleet, &mut library, rate, rounds, 2.0, &mut report.samples)?;
    }
    if wanted(Fair) {
        let programs: Vec<Program> = running.iter().copied().filter(|program| FAIR.contains(program)).collect();
        special::fairness(fleet, &mut library, &programs, rounds, 1.0, &mut report.samples)?;
    }
    Ok(())
}

/// What is asked of whom in a section.
fn jobs(running: &[Program], section: Section, quick: bool) -> Vec<Job> {
    let all: Vec<Kind> = match section {
        Section::Saturated if !quick => Kind::ALL.to_vec(),
        Section::Saturated | Section::Steady => TARGETS.to_vec(),
        Section::Forward => vec![Kind::Forwarded],
        _ => vec![Kind::Visible],
    };
    let fits = |program: Program, kind: Kind| match section {
        Section::Forward => {
            use Program::{DnsdistForward, Dnsmasq, NodeLocal, Segdns, Unbound};
            matches!(program, Segdns | DnsdistForward | Dnsmasq | Unbound | NodeLocal)
        }
        // dnsmasq makes a process of each connection, and no more than 20.
        Section::Tcp => !matches!(program, Program::Echo | Program::Dnsmasq) && program.stands_in(kind).is_some(),
        _ => program != Program::DnsdistForward && program.stands_in(kind).is_some(),
    };
    let jobs = running.iter().flat_map(|program| all.iter().map(move |kind| (*program, *kind)));
    jobs.filter(|(program, kind)| fits(*program, *kind)).map(|(program, kind)| Job { section, program, kind }).collect()
}
