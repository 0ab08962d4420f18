//! What needs more than one stream of questions, or another program: a greedy caller, system calls, dnsperf.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cores;
use crate::data::Kind;
use crate::fleet::Fleet;
use crate::generate::lane::Lane;
use crate::generate::{self, Pace};
use crate::rounds::{self, Job, Library, Sample, Section, WINDOW};
use crate::servers::{Program, find};

/// What the modest caller asks a second.
const MODEST: f64 = 1000.0;
/// How long system calls are counted.
const COUNTED: Duration = Duration::from_secs(1);
/// Sockets of a greedy caller.
const GREEDY_SOCKETS: usize = 40;

/// Calls of a server into the kernel.
#[derive(Clone, Debug, Serialize)]
pub struct Calls {
    /// Whose.
    pub server: &'static str,
    /// Under which load.
    pub section: Section,
    /// For each answer.
    pub per_query: f64,
}

/// What dnsperf says.
#[derive(Clone, Debug, Serialize)]
pub struct Perf {
    /// Of whom.
    pub server: &'static str,
    /// Answers a second, in each round.
    pub qps: Vec<f64>,
}

/// What the greedy caller does meanwhile: the words for it, what it asks, and how much of it is in flight.
type Beside = (&'static str, Option<(Kind, usize)>);

/// What is measured of every server.
pub const BESIDE: [Beside; 3] = [
    ("alone", None),
    ("beside 200 in flight", Some((Kind::Visible, WINDOW))),
    ("beside 1,000 in flight", Some((Kind::Visible, 5 * WINDOW))),
];
/// What segdns is asked as well.
pub const BESIDE_FORWARDED: Beside = ("beside 200 in flight, forwarded", Some((Kind::Forwarded, WINDOW)));

/// A caller that asks a thousand questions a second: alone, and beside one that asks as fast as it can.
///
/// # Errors
/// The system's.
pub fn fairness(
    fleet: &Fleet,
    library: &mut Library,
    programs: &[Program],
    rounds: usize,
    seconds: f64,
    found: &mut Vec<Sample>,
) -> io::Result<()> {
    for round in 0..rounds {
        for program in programs {
            let forwarded = program.knows_callers().then_some(BESIDE_FORWARDED);
            for (number, beside) in BESIDE.into_iter().chain(forwarded).enumerate() {
                found.push(beside_greedy(fleet, library, *program, (round, seconds), beside, number)?);
            }
        }
        eprint!("\rpeers: {:?}: round {} of {rounds} ", Section::Fair, round + 1);
    }
    eprintln!();
    Ok(())
}

/// One round of a case, whose greedy caller is its own (`number`, not 0): no server knows it from the case before.
fn beside_greedy(
    fleet: &Fleet,
    library: &mut Library,
    program: Program,
    (round, seconds): (usize, f64),
    (case, greedy): Beside,
    number: usize,
) -> io::Result<Sample> {
    let job = Job { section: Section::Fair, program, kind: Kind::Visible };
    let server = fleet.server(program, job.kind).ok_or_else(|| io::Error::other("it does not run"))?;
    let (plan, echoed) = (program.plan(&fleet.setting), program == Program::Echo);
    let modest = library.get(&plan, job.kind);
    let sockets = generate::sockets(&plan, server.at)?;
    let asks = modest.by_caller.iter().zip(&sockets).take(1);
    let mut lanes = vec![Lane::of(asks, Pace::Rate(MODEST)).echoed(echoed)];
    let flood = greedy.map(|(kind, window)| (library.get(&plan, kind), window));
    let of_second: Vec<_> =
        (0..GREEDY_SOCKETS).map(|_| generate::socket(plan.caller(number), server.at)).collect::<io::Result<_>>()?;
    if let Some((questions, window)) = &flood {
        let pace = Pace::Full { window: *window, burst: window / GREEDY_SOCKETS };
        let asks = std::iter::repeat(&questions.by_caller[number]).zip(&of_second);
        lanes.push(Lane::of(asks, pace).echoed(echoed).in_short_steps());
    }
    let (before, start) = (server.cost(), Instant::now());
    generate::run(&mut lanes, Duration::from_secs_f64(seconds))?;
    Ok(Sample::new(job, case, round, lanes[0].outcome(), &server.cost().since(&before), start.elapsed()))
}

/// How often these servers call the kernel for each answer, under a load.
pub fn calls(fleet: &Fleet, library: &mut Library, section: Section, programs: &[Program]) -> Vec<Calls> {
    let pace = if section == Section::Lone {
        Pace::Full { window: 1, burst: 1 }
    } else {
        Pace::Full { window: WINDOW, burst: 12 }
    };
    let mut found = Vec::new();
    for program in programs {
        let Some(server) = fleet.server(*program, Kind::Visible) else { continue };
        let plan = program.plan(&fleet.setting);
        let questions = library.get(&plan, Kind::Visible);
        // What a server does unasked, it does in the meantime, too.
        let unasked = count(server.pids(), || {
            thread::sleep(COUNTED);
            Ok(0)
        });
        let counted = count(server.pids(), || {
            let sockets = generate::sockets(&plan, server.at)?;
            let sockets = if section == Section::Lone { &sockets[..1] } else { &sockets[..] };
            Ok(rounds::udp(&questions, sockets, pace, *program, COUNTED)?.answered)
        });
        match counted.and_then(|counted| Ok((unasked?.0, counted))) {
            Ok((unasked, (calls, answered))) => {
                let per_query = (calls - unasked).max(0.0) / answered as f64;
                found.push(Calls { server: program.word(), section, per_query });
            }
            Err(error) => eprintln!("peers: system calls of {}: {error}", program.word()),
        }
    }
    found
}

/// Counts the calls of some processes for two seconds, in which `load` runs; and tells what that gives, too. perf costs little; strace, which
/// serves where perf does not, slows a server down, so that its batches are larger than they would be.
fn count(pids: &[libc::pid_t], load: impl FnOnce() -> io::Result<u64>) -> io::Result<(f64, u64)> {
    let list: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let list = list.join(",");
    let perf = ["perf", "stat", "-x", ";", "-e", "raw_syscalls:sys_enter", "-p", &list, "--", "sleep", "2"];
    let strace = ["timeout", "-s", "INT", "2", "strace", "-c", "-f", "-q", "-p", &list];
    let works = Command::new("perf").args(["stat", "-e", "raw_syscalls:sys_enter", "true"]).output();
    let command: &[&str] = if works.is_ok_and(|o| o.status.success()) { &perf } else { &strace };
    let counter = Command::new("taskset")
        .args(["-c", &cores::GENERATOR.to_string()])
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    thread::sleep(Duration::from_millis(400));
    let answered = load()?;
    let said = ended(counter)?;
    let number = |line: &str, separator| line.split(separator).find_map(|field: &str| field.trim().parse::<f64>().ok());
    let calls = said.lines().find_map(|line| match command[0] {
        "perf" if line.contains("sys_enter") => number(line, ';'),
        "timeout" if line.ends_with("total") => line.split_whitespace().nth(3)?.parse().ok(),
        _ => None,
    });
    let calls = calls.ok_or_else(|| io::Error::other(format!("nothing was counted: {said}")))?;
    Ok((calls, answered))
}

fn ended(child: Child) -> io::Result<String> {
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What users would measure: dnsperf, asking for visible names from one caller's address.
///
/// # Errors
/// The system's.
pub fn dnsperf(fleet: &Fleet, programs: &[Program], rounds: usize) -> io::Result<Vec<Perf>> {
    let Some(binary) = find("dnsperf") else {
        eprintln!("peers: dnsperf is not installed");
        return Ok(Vec::new());
    };
    let mut found: Vec<Perf> = Vec::new();
    for _ in 0..rounds {
        for program in programs {
            let Some(server) = fleet.server(*program, Kind::Visible) else { continue };
            let plan = program.plan(&fleet.setting);
            let file = server.dir.join("queries");
            if !file.exists() {
                let asked = plan.questions(Kind::Visible, plan.callers * 1000, 2);
                let lines: Vec<_> = asked.iter().filter(|q| q.caller == 0).map(|q| format!("{} A\n", q.name)).collect();
                fs::write(&file, lines.concat())?;
            }
            let Some(qps) = perf(&binary, server.at, &plan.caller(0).to_string(), &file)? else { continue };
            match found.iter_mut().find(|perf| perf.server == program.word()) {
                Some(perf) => perf.qps.push(qps),
                None => found.push(Perf { server: program.word(), qps: vec![qps] }),
            }
        }
    }
    Ok(found)
}

fn perf(binary: &Path, server: SocketAddr, from: &str, file: &Path) -> io::Result<Option<f64>> {
    let (ip, port) = (server.ip().to_string(), server.port().to_string());
    let output = Command::new("taskset")
        .args(["-c", &cores::GENERATOR.to_string()])
        .arg(binary)
        .args(["-s", &ip, "-p", &port, "-a", from, "-l", "1", "-c", "16", "-T", "1", "-q", "200", "-d"])
        .arg(file)
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Queries per second:"));
    Ok(line.and_then(|value| value.trim().parse().ok()))
}
