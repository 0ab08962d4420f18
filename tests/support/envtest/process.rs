//! A server process: started, killed, started again, and never left behind.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};

/// How much of a log is shown.
const TAIL: usize = 15;

/// What the thread that starts processes is sent.
type Order = (Command, Sender<io::Result<Child>>);

/// A process with a log. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// One that does not run yet.
    pub fn new(program: PathBuf, args: Vec<String>, log: PathBuf) -> Self {
        Self { program, args, log, child: None }
    }

    /// Starts it, with the same arguments each time.
    pub fn start(&mut self) -> io::Result<()> {
        assert!(self.child.is_none(), "{} runs already", self.program.display());
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(spawn(command)?);
        Ok(())
    }

    /// Ends it with SIGKILL, as a node that fails does, and waits until it has ended.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its exit status, if it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// The last lines that it has printed.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        format!("{}:\n{}", self.log.display(), lines[lines.len().saturating_sub(TAIL)..].join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a process that the kernel kills when this one ends, whatever ends it: nobody drops anything after a SIGKILL.
///
/// The kernel goes by the thread that started it, so that is one that ends with the process and not with a test.
fn spawn(mut command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, next) = mpsc::channel::<Order>();
        std::thread::spawn(move || next.iter().for_each(|(mut command, done)| drop(done.send(command.spawn()))));
        orders
    });
    // SAFETY: between fork and exec only this system call is made, which takes no pointer and allocates nothing.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    let (done, child) = mpsc::channel();
    starter.send((command, done)).map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}
