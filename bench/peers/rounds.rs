//! What is measured: jobs in short rounds, in random order, so that what disturbs a machine for a second disturbs all alike.

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::data::{Kind, Numbers, Plan};
use crate::fleet::Fleet;
use crate::generate::lane::Lane;
use crate::generate::{self, Outcome, Pace, Questions, tcp};
use crate::servers::cost::Cost;
use crate::servers::{Program, Running};

/// Questions in flight when a server is kept busy.
pub const WINDOW: usize = 200;
/// Questions that one caller sends at once then.
const BURST: usize = 12;
/// Questions a second of the steady load.
pub const STEADY: f64 = 20_000.0;
/// Questions in flight on each TCP connection.
pub const PIPELINED: usize = 4;

/// What a job finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// As fast as it goes.
    Saturated,
    /// At [`STEADY`].
    Steady,
    /// One question at a time.
    Lone,
    /// As fast as it goes, over TCP.
    Tcp,
    /// As fast as it goes, all of it forwarded.
    Forward,
    /// At half of what is possible, with and without changes.
    Swaps,
    /// One caller beside another.
    Fair,
}

/// One thing to be measured again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// How.
    pub section: Section,
    /// Whom.
    pub program: Program,
    /// What is asked of segdns; others are asked what stands in for it.
    pub kind: Kind,
}

/// What one round of a job found.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// How.
    pub section: Section,
    /// Whom.
    pub server: &'static str,
    /// What was asked, or under which circumstances.
    pub case: &'static str,
    /// In which round.
    pub round: usize,
    /// CPU time of the server for each answer, in us.
    pub cpu_us: f64,
    /// The share of it in the server's own code; right over many rounds only.
    pub user: f64,
    /// The share of the time in which the server was busy.
    pub busy: f64,
    /// Answers a second.
    pub qps: f64,
    /// As they should be.
    pub answered: u64,
    /// Not as they should be.
    pub wrong: u64,
    /// Without an answer.
    pub lost: u64,
    /// Latency in us: median, 90 %, 99 %, 99.9 %.
    pub latency_us: [f64; 4],
}

/// Questions by plan and kind, made once.
#[derive(Debug)]
pub struct Library {
    made: HashMap<(usize, Kind), Rc<Questions>>,
    count: usize,
}

impl Library {
    /// An empty one, of so many questions of each kind.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { made: HashMap::new(), count }
    }

    /// Those of a plan and a kind.
    pub fn get(&mut self, plan: &Plan, kind: Kind) -> Rc<Questions> {
        let count = self.count;
        let make = || Rc::new(Questions::new(plan, &plan.questions(kind, count, 1)));
        Rc::clone(self.made.entry((plan.names, kind)).or_insert_with(make))
    }
}

impl Section {
    /// The pace of those over UDP that ask one kind of all callers.
    fn pace(self) -> Pace {
        match self {
            Self::Steady => Pace::Rate(STEADY),
            Self::Lone => Pace::Full { window: 1, burst: 1 },
            // What is forwarded comes back in any order, and one at a time.
            Self::Forward => Pace::Full { window: WINDOW, burst: 3 },
            _ => Pace::Full { window: WINDOW, burst: BURST },
        }
    }
}

impl Sample {
    /// From what came of a load, and what it cost.
    #[must_use]
    pub fn new(job: Job, case: &'static str, round: usize, outcome: &Outcome, cost: &Cost, took: Duration) -> Self {
        let (cpu, ticks) = (cost.total.as_secs_f64(), (cost.user + cost.system).as_secs_f64());
        Self {
            section: job.section,
            server: job.program.word(),
            case,
            round,
            cpu_us: cpu * 1e6 / outcome.answered as f64,
            user: if ticks > 0.0 { cost.user.as_secs_f64() / ticks } else { 0.0 },
            busy: cpu / took.as_secs_f64(),
            qps: outcome.answered as f64 / took.as_secs_f64(),
            answered: outcome.answered,
            wrong: outcome.wrong,
            lost: outcome.lost,
            latency_us: [0.5, 0.9, 0.99, 0.999].map(|share| outcome.latency.percentile(share)),
        }
    }
}

/// Runs every job once in each round, in an order of its own, and hands what it found to `found`.
///
/// # Errors
/// The system's. A job that fails is told of and left out; the others go on.
pub fn run(
    fleet: &Fleet,
    library: &mut Library,
    jobs: &[Job],
    rounds: usize,
    seconds: f64,
    found: &mut Vec<Sample>,
) -> io::Result<()> {
    let mut numbers = Numbers::new(std::process::id().into());
    for round in 0..rounds {
        let mut order: Vec<&Job> = jobs.iter().collect();
        for left in (1..order.len()).rev() {
            order.swap(left, numbers.below(left + 1));
        }
        for job in order {
            match measure(fleet, library, *job, round, Duration::from_secs_f64(seconds)) {
                Ok(sample) => found.push(sample),
                Err(error) => eprintln!("peers: {:?} of {}: {error}", job.section, job.program.word()),
            }
        }
        eprint!("\rpeers: {:?}: round {} of {rounds} ", jobs[0].section, round + 1);
    }
    eprintln!();
    Ok(())
}

fn measure(fleet: &Fleet, library: &mut Library, job: Job, round: usize, duration: Duration) -> io::Result<Sample> {
    let (server, plan, questions) = parts(fleet, library, job)?;
    let before = server.cost();
    let start = Instant::now();
    let outcome = if job.section == Section::Tcp {
        tcp::run(&plan, server.at, &questions, PIPELINED, duration)?
    } else {
        let sockets = generate::sockets(&plan, server.at)?;
        let sockets = if job.section == Section::Lone { &sockets[..1] } else { &sockets[..] };
        udp(&questions, sockets, job.section.pace(), server.program, duration)?
    };
    Ok(Sample::new(job, job.kind.word(), round, &outcome, &server.cost().since(&before), start.elapsed()))
}

/// One load over UDP.
///
/// # Errors
/// The system's.
pub fn udp(
    questions: &Questions,
    sockets: &[UdpSocket],
    pace: Pace,
    program: Program,
    duration: Duration,
) -> io::Result<Outcome> {
    let mut lane = Lane::new(questions, sockets, pace).echoed(program == Program::Echo);
    generate::run(std::slice::from_mut(&mut lane), duration)?;
    Ok(lane.outcome().clone())
}

/// Asks everything that will be asked once before, and says what is answered as it should not be.
///
/// # Errors
/// The system's.
pub fn warm(fleet: &Fleet, library: &mut Library, jobs: &[Job]) -> io::Result<()> {
    for job in jobs.iter().filter(|job| job.program != Program::Echo) {
        let (server, plan, questions) = parts(fleet, library, *job)?;
        let left = generate::warm(&questions, &generate::sockets(&plan, server.at)?)?;
        if left > 0 {
            eprintln!(
                "peers: {}: {left} questions of kind {} are not answered right",
                server.program.word(),
                job.kind.word()
            );
        }
    }
    Ok(())
}

fn parts<'a>(fleet: &'a Fleet, library: &mut Library, job: Job) -> io::Result<(&'a Running, Plan, Rc<Questions>)> {
    let server = fleet.server(job.program, job.kind).ok_or_else(|| io::Error::other("it does not run"))?;
    let plan = job.program.plan(&fleet.setting);
    let asked = if job.kind == Kind::Forwarded { Some(job.kind) } else { job.program.stands_in(job.kind) };
    let questions = library.get(&plan, asked.unwrap_or(job.kind));
    Ok((server, plan, questions))
}
