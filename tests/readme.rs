//! The README, run as a reader would: every command block, in order, and what it says of itself.
//!
//! The convention is in a comment at the top of README.md. The blocks run in a network namespace of their own, so that they
//! find their ports free and no way out; where the system grants none, the ports of the README have to be free. Blocks that need `dig` are
//! skipped, visibly, where it is not installed; with `CI` set they fail instead.

mod support;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use segdns::config::Config;
use segdns::table::decide::Reason;
use support::netns;
use tempfile::TempDir;

/// What the demo listens on.
const PORTS: [u16; 2] = [5300, 9253];
/// How long the demo may take to be ready: it may have to be built first.
const READY: Duration = Duration::from_secs(900);
/// How long it may take to end.
const STOP: Duration = Duration::from_secs(15);
/// How long an answer may lag behind the page on a busy machine.
const LAG: Duration = Duration::from_secs(5);

#[test]
fn every_command_block_does_what_the_readme_says() {
    // A thread of its own: it moves to another network namespace, if it may.
    let walk = thread::spawn(|| {
        if let Err(why) = netns::alone() {
            if may_be_root_elsewhere() {
                return again_as_root("every_command_block_does_what_the_readme_says");
            }
            say(&format!("the README's ports are used as they are, not in a network namespace ({why})"));
            ports_are_free();
        }
        walk();
    });
    if let Err(panic) = walk.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn ci_runs_the_readmes_test_command() {
    let blocks = blocks();
    let block = blocks.iter().find(|b| b.directive == "the one of CI").expect("a block of that kind");
    let ci = std::fs::read_to_string(root().join(".ci/run")).expect(".ci/run");
    assert!(ci.lines().any(|line| line == block.text), ".ci/run has no line {:?}", block.text);
}

#[test]
fn the_configuration_that_may_be_copied_is_the_default_one() {
    let file = "docs/segdns.yaml";
    let text = std::fs::read_to_string(root().join(file)).expect(file);
    let read = Config::parse(&text, file, |_| None).unwrap_or_else(|e| panic!("{e}"));
    read.validate().unwrap_or_else(|e| panic!("{e}"));
    let mut expected = Config { places: read.places.clone(), ..Config::default() };
    expected.sources.manifests.clone_from(&read.sources.manifests);
    assert_eq!(format!("{read:#?}"), format!("{expected:#?}"));
}

/// A link to a file that is not there helps nobody.
#[test]
fn links_between_pages_lead_to_files() {
    let docs = std::fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let pages = docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
    for page in
        pages.chain(["README.md", "SECURITY.md", "bench/README.md", "bench/SCALE.md"].map(|page| root().join(page)))
    {
        let text = std::fs::read_to_string(&page).expect("a page");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let there = file.is_empty() || file.contains("://") || page.parent().expect("a folder").join(file).exists();
            assert!(there, "{}: {link}", page.display());
        }
    }
}

#[test]
fn every_reason_is_in_the_readme() {
    let text = text();
    for reason in Reason::ALL {
        let row = format!("| `{}` | {} | ", reason.word(), reason.rule());
        assert!(text.contains(&row), "README.md has no row {row:?}");
    }
    let rows = text.lines().skip_while(|l| *l != "## Reasons").skip(1).take_while(|l| !l.starts_with("## "));
    assert_eq!(rows.filter(|l| l.starts_with("| `")).count(), Reason::ALL.len(), "rows under Reasons");
}

/// A fenced block, and what is said about it.
struct Block {
    line: usize,
    language: String,
    directive: String,
    text: String,
    output: Option<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text() -> String {
    std::fs::read_to_string(root().join("README.md")).expect("README.md")
}

/// A line that libtest does not capture.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "readme: {what}");
}

fn blocks() -> Vec<Block> {
    let text = text();
    let mut lines = text.lines().enumerate();
    let mut blocks: Vec<Block> = Vec::new();
    let (mut directive, mut follows) = (String::new(), false);
    while let Some((ix, line)) = lines.next() {
        if let Some(words) = line.strip_prefix("<!-- test: ") {
            directive = words.trim_end_matches("-->").trim().to_owned();
        } else if let Some(language) = line.strip_prefix("```") {
            let inner: Vec<&str> = lines.by_ref().map(|(_, l)| l).take_while(|l| *l != "```").collect();
            match blocks.last_mut().filter(|_| follows && language == "text") {
                Some(command) => command.output = Some(inner.join("\n")),
                None => blocks.push(Block {
                    line: ix + 1,
                    language: language.to_owned(),
                    directive: std::mem::take(&mut directive),
                    text: inner.join("\n"),
                    output: None,
                }),
            }
            follows = language == "sh";
        } else if !line.is_empty() {
            follows = false;
        }
    }
    blocks
}

fn walk() {
    let dir = tempfile::Builder::new().prefix("segdns-readme-").tempdir().expect("a directory");
    let dig = Command::new("dig").arg("-v").output().is_ok();
    let mut running = Vec::new();
    for block in blocks().into_iter().filter(|b| b.language == "sh") {
        let at = format!("README.md:{}", block.line);
        match block.directive.as_str() {
            "the one of CI" => continue,
            "background" => running.push(Background::start(&block, &at, &dir)),
            "" if !dig && block.text.contains("dig ") => {
                let what = "dig is not installed (Debian: apt-get install dnsutils)";
                assert!(std::env::var_os("CI").is_none(), "{at}: {what}");
                say(&format!("{at}: SKIPPED: {what}"));
            }
            "" => run(&block, &at, &dir),
            other => panic!("{at}: no such directive: {other}"),
        }
    }
    for server in running {
        server.stop();
    }
}

/// Runs a block to its end and compares what it prints. One that only asks is asked again for a while.
fn run(block: &Block, at: &str, dir: &TempDir) {
    let end = Instant::now() + LAG;
    loop {
        let out = bash(&block.text, dir).output().expect("bash");
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        let as_said = block.output.as_ref().is_none_or(|expected| squeeze(expected) == squeeze(&stdout));
        if out.status.success() && as_said {
            return;
        }
        let again = block.output.is_some() && Instant::now() < end;
        let expected = block.output.as_deref().unwrap_or("(anything)");
        assert!(
            again,
            "{at}: {}\n$ {}\n--- prints\n{stdout}--- README says\n{expected}\n--- standard error\n{stderr}",
            out.status, block.text
        );
        thread::sleep(Duration::from_millis(200));
    }
}

/// A shell in the repository, as a reader's is: without what `cargo test` adds to the environment.
fn bash(text: &str, dir: &TempDir) -> Command {
    const CARGOS: [&str; 5] = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", text]).current_dir(root()).stdin(Stdio::null());
    bash.env("SEGDNS_DEMO_DIR", dir.path().join("demo"))
        .env_remove("CARGO_TARGET_TMPDIR")
        .env_remove("LD_LIBRARY_PATH");
    for (name, _) in std::env::vars_os() {
        if CARGOS.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            bash.env_remove(name);
        }
    }
    bash
}

/// Lines with single blanks between words, and without empty lines at the end.
fn squeeze(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    lines.join("\n").trim().to_owned()
}

/// Whether a user namespace can be made, in which this user is root.
fn may_be_root_elsewhere() -> bool {
    let tried = Command::new("unshare").args(["--map-root-user", "--net", "ip", "link", "set", "lo", "up"]).output();
    tried.is_ok_and(|out| out.status.success())
}

/// Runs one test of this program again, as root of a user namespace.
fn again_as_root(test: &str) {
    let this = std::env::current_exe().expect("this program");
    let mut again = Command::new("unshare");
    again.arg("--map-root-user").arg(this).args(["--exact", test, "--nocapture"]);
    assert!(again.status().expect("unshare").success(), "see above");
}

fn ports_are_free() {
    for port in PORTS {
        let free = UdpSocket::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok();
        assert!(
            free,
            "port {port}, which the README uses, is taken: end what listens there (the demo?), or test as root"
        );
    }
}

/// What a block started, with all its children in one process group.
struct Background {
    child: Child,
    at: String,
}

impl Background {
    /// Starts it and waits until it says `ready`.
    fn start(block: &Block, at: &str, dir: &TempDir) -> Self {
        let log = dir.path().join("stderr");
        let mut bash = bash(&block.text, dir);
        bash.process_group(0).stdout(Stdio::piped()).stderr(File::create(&log).expect("a log"));
        let mut child = bash.spawn().expect("bash");
        let stdout = child.stdout.take().expect("a pipe");
        let started = Self { child, at: at.to_owned() };
        let (told, tell) = mpsc::channel();
        thread::spawn(move || {
            // It goes on reading, so that the other end never finds the pipe full or closed.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = told.send(line);
            }
        });
        let end = Instant::now() + READY;
        loop {
            match tell.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with("ready ") => return started,
                Ok(_) => {}
                Err(_) => panic!("{at}: it is not ready:\n{}", std::fs::read_to_string(log).unwrap_or_default()),
            }
        }
    }

    fn signal(&self, signal: i32) {
        let group = i32::try_from(self.child.id()).expect("a process number");
        // SAFETY: takes no pointer. The child leads its own group and has not been waited for, so the number is still its own.
        unsafe { libc::kill(-group, signal) };
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Ends it as Ctrl-C does.
    fn stop(mut self) {
        assert_eq!(self.ended(), None, "{}: it has ended by itself", self.at);
        self.signal(libc::SIGINT);
        let end = Instant::now() + STOP;
        while Instant::now() < end {
            if let Some(status) = self.ended() {
                assert!(status.success(), "{}: Ctrl-C: {status}", self.at);
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{}: it does not end within {STOP:?} of Ctrl-C", self.at);
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
