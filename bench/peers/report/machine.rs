//! Where and when was measured, and how busy the machine was with other things.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde::Serialize;

/// The circumstances of a run.
#[derive(Debug, Serialize)]
pub struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    date: String,
    command: String,
    commit: String,
    /// Of what else ran: the load average before, and at the end, when the bench itself makes up to 2 of it.
    load: [String; 2],
}

impl Machine {
    /// This one, now.
    #[must_use]
    pub fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
        Self {
            processor: processor.map(|(_, name)| name.to_owned()).unwrap_or_default(),
            cores: cpuinfo.matches("processor\t").count(),
            kernel: said("uname", &["-sr"]),
            date: said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            command: ["bench/run".to_owned()].into_iter().chain(arguments).collect::<Vec<_>>().join(" "),
            commit: said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]),
            load: [load(), String::new()],
        }
    }

    /// Takes down what can be known at the end only.
    pub fn finish(&mut self) {
        self.load[1] = load();
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{}, {} cores, {}, {}, {}", self.processor, self.cores, self.kernel, self.date, self.commit)
    }

    /// In some.
    #[must_use]
    pub fn text(&self, missing: &[(&str, String)]) -> String {
        let mut out = format!(
            "`{}` on {}. Load average before: {}; at the end: {}.\n",
            self.command,
            self.line(),
            self.load[0],
            self.load[1]
        );
        for (name, why) in missing {
            let _ = write!(out, "\nNot measured: {name} ({why}).");
        }
        if !missing.is_empty() {
            out.push('\n');
        }
        out
    }
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}
