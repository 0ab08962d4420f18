//! User-space instructions a query, counted by callgrind: the same on every run, so that a change which costs any is seen.
//!
//! ```text
//! cargo bench --bench instructions              prints the table
//! cargo bench --bench instructions -- --check   compares it with bench/instructions/counts.tsv; fails if more than 3 % over
//! cargo bench --bench instructions -- --write   makes it the table that is compared with
//! ```
//!
//! Another compiler makes other code: beside counts of another one, 15 % are allowed.
//!
//! What is counted is a UDP worker's whole thread, from `recvmmsg` to `sendmmsg`, while a client in the same process asks
//! it over loopback: each kind of query has a listener with one worker of its own, and callgrind tells its threads apart.

#[path = "../hot/mod.rs"]
mod hot;

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hot::Kind;
use segdns::dns::listen::{Listener, Options};
use segdns::dns::serve::Server;
use socket2::SockRef;

/// Queries to each worker.
const QUERIES: u16 = 25_600;
/// Queries that are sent before an answer is awaited, when they come in batches. As many as a worker takes at once.
const BATCH: u16 = 64;
/// How far a count may be over the committed one, percent.
const SLACK: f64 = 3.0;
/// The same if another compiler made what was counted then.
const SLACK_OF_COMPILERS: f64 = 15.0;
/// What the process that is measured is told.
const INSIDE: &str = "--inside";
/// Threads before the first worker: the main one, that of the runtime, which answers nothing here, and those that sleep.
const OTHERS: usize = 2 + SLEEPERS;
/// Threads that sleep in the places of those that built the table, whose files callgrind goes on with for the next ones.
const SLEEPERS: usize = 8;
/// A thread with fewer instructions for each of [`QUERIES`] answered none of them.
const IDLE: f64 = 50.0;

/// How queries come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Batched,
    Single,
}

type Failed = Box<dyn std::error::Error>;
/// Instructions a query by kind and mode.
type Counts = BTreeMap<(String, String), f64>;

fn rows() -> impl Iterator<Item = (Kind, Mode)> {
    Kind::ALL.into_iter().flat_map(|kind| [(kind, Mode::Batched), (kind, Mode::Single)])
}

fn main() -> ExitCode {
    let told: Vec<String> = std::env::args().skip(1).collect();
    let told = |word: &str| told.iter().any(|arg| arg == word);
    let done = if told(INSIDE) { inside().map(|()| true) } else { outside(told("--check"), told("--write")) };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the process that is measured below callgrind, and shows what was counted. Whether that may be.
fn outside(check: bool, write: bool) -> Result<bool, Failed> {
    let counted = count()?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/instructions/counts.tsv");
    let compiler = compiler()?;
    if write {
        std::fs::write(&file, format!("{compiler}\n{}", table(&counted)))?;
    }
    let text = if check { std::fs::read_to_string(&file)? } else { format!("{compiler}\n") };
    let (by, known) = text.split_once('\n').ok_or("counts.tsv is empty")?;
    let known = read(known)?;
    let slack = if by == compiler { SLACK } else { SLACK_OF_COMPILERS };
    if by != compiler {
        println!("Compared with counts of {by}; this is {compiler}: {slack} % more are allowed.");
    }
    let mut fine = true;
    println!("| query | batched | single |\n|---|---|---|");
    for kind in Kind::ALL {
        let of = |mode: Mode| counted[&key(kind, mode)];
        println!("| {} | {:.0} | {:.0} |", kind.word(), of(Mode::Batched), of(Mode::Single));
    }
    for (row, count) in &counted {
        let Some(was) = known.get(row).filter(|was| **was * (1.0 + slack / 100.0) < *count) else { continue };
        fine = false;
        let (kind, mode) = row;
        println!("{kind} {mode}: {count:.0} instructions a query, {was:.0} in {}", file.display());
    }
    if !fine {
        println!("If that is worth it, say why in the commit that runs `cargo bench --bench instructions -- --write`.");
    }
    Ok(fine)
}

/// The compiler in use, as it names itself.
fn compiler() -> Result<String, Failed> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("--version").output().map_err(|e| format!("rustc --version: {e}"))?;
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

fn key(kind: Kind, mode: Mode) -> (String, String) {
    (kind.word().to_owned(), format!("{mode:?}").to_lowercase())
}

fn table(counts: &Counts) -> String {
    counts.iter().map(|((kind, mode), count)| format!("{kind}\t{mode}\t{count:.0}\n")).collect()
}

fn read(text: &str) -> Result<Counts, Failed> {
    let row = |line: &str| {
        let [kind, mode, count] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(format!("counts.tsv: {line:?}").into());
        };
        Ok(((kind.to_owned(), mode.to_owned()), count.parse()?))
    };
    text.lines().map(row).collect()
}

fn count() -> Result<Counts, Failed> {
    let dir = tempfile::tempdir()?;
    let out = |suffix: &str| format!("{}{suffix}", dir.path().join("callgrind.out").display());
    // On one processor, and without preemption by who was woken, a batch is there as a whole before a worker runs.
    let status = Command::new("taskset")
        .args(["-c", "0", "chrt", "-b", "0", "valgrind", "--tool=callgrind", "--separate-threads=yes", "-q"])
        .arg(format!("--callgrind-out-file={}", out("")))
        .arg(std::env::current_exe()?)
        .arg(INSIDE)
        .stdin(Stdio::null())
        .status()
        .map_err(|e| format!("taskset, chrt and valgrind are needed (apt-get install util-linux valgrind): {e}"))?;
    if !status.success() {
        return Err(format!("the measured process failed: {status}").into());
    }
    let mut workers = Vec::new();
    for thread in OTHERS + 1.. {
        let Ok(text) = std::fs::read_to_string(out(&format!("-{thread:02}"))) else { break };
        workers.push(total(&text)? / f64::from(QUERIES));
    }
    workers.retain(|count| *count > IDLE);
    if workers.len() != rows().count() {
        return Err(format!("{} threads answered, {} were expected", workers.len(), rows().count()).into());
    }
    Ok(rows().map(|(kind, mode)| key(kind, mode)).zip(workers).collect())
}

/// The instructions of a thread, by callgrind's file of it.
fn total(text: &str) -> Result<f64, Failed> {
    let line = text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    Ok(line.ok_or("callgrind told no total")?.trim().parse()?)
}

fn inside() -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let keeper = hot::keeper();
    let server = Arc::new(hot::server(&keeper));
    for _ in 0..SLEEPERS {
        std::thread::spawn(std::thread::park);
    }
    let mut listeners = Vec::new();
    for _ in rows() {
        let options = Options {
            addresses: vec!["127.0.0.1:0".parse()?],
            workers: 1,
            tcp_connections: 1,
            tcp_per_client: 1,
            tcp_idle: Duration::from_secs(1),
            later_inflight: 1,
        };
        let server: Arc<Server> = Arc::clone(&server);
        listeners.push(Listener::start(options, server, runtime.handle().clone())?);
    }
    for ((kind, mode), listener) in rows().zip(&listeners) {
        ask(kind, mode, listener.addresses()[0])?;
    }
    for listener in listeners {
        runtime.block_on(listener.stop(Duration::from_secs(5)));
    }
    Ok(())
}

/// Asks one worker, and looks at what it says.
fn ask(kind: Kind, mode: Mode, at: SocketAddr) -> Result<(), Failed> {
    let size = if mode == Mode::Batched { BATCH } else { 1 };
    let sockets: Vec<UdpSocket> = (0..hot::CALLERS)
        .map(|n| {
            let socket = UdpSocket::bind((hot::caller(n), 0))?;
            socket.connect(at)?;
            socket.set_read_timeout(Some(Duration::from_secs(20)))?;
            SockRef::from(&socket).set_recv_buffer_size(1 << 20)?;
            Ok(socket)
        })
        .collect::<Result<_, Failed>>()?;
    let mut answer = [0; 1500];
    for first in (0..QUERIES).step_by(usize::from(size)) {
        let of = |n: u16| &sockets[usize::from(n) % sockets.len()];
        for n in first..first + size {
            of(n).send(&kind.packet(n))?;
        }
        for n in first..first + size {
            let length = of(n).recv(&mut answer).map_err(|e| format!("{} {n}: no answer: {e}", kind.name(n)))?;
            let (code, records) = (answer[3] & 15, answer[7]);
            if length < 12 || (code, records) != kind.answer() {
                return Err(format!("{}: {code}, {records} records", kind.name(n)).into());
            }
        }
    }
    Ok(())
}
