//! A program in a pod: in the pod's network namespace, with a mount namespace of its own that has a pod's /etc.

use std::ffi::OsStr;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program.
const SOURCE: &str = include_str!("ask.c");
/// What the kubelet writes for a pod of namespace shop, on a node with a search domain of its own.
const SEARCH: &str = "shop.svc.cluster.local svc.cluster.local cluster.local example.internal";
/// As in images of containers.
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";
const HOSTS: &str = "127.0.0.1 localhost\n";
/// Lays the files of a folder over the system's, for one program only.
const OVERLAY: &str = "cd \"$1\" && for file in resolv.conf nsswitch.conf hosts; do \
                       mount --bind \"$file\" \"/etc/$file\" || exit 99; done && shift && exec \"$@\"";

/// Whose resolver is linked to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    /// That of most images.
    Glibc,
    /// Alpine's.
    Musl,
}

impl Libc {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Glibc, Self::Musl];

    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
        }
    }

    fn compiler(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Glibc => ("cc", &[]),
            Self::Musl => ("musl-gcc", &["-static"]),
        }
    }
}

/// The program, compiled.
#[derive(Debug)]
pub struct Program {
    dir: PathBuf,
    path: PathBuf,
}

/// Writes what the kubelet writes for a pod of namespace shop whose DNS server is this one.
///
/// # Panics
/// It cannot be written.
pub fn write_etc(dir: &Path, server: IpAddr) {
    let resolv = format!("nameserver {server}\nsearch {SEARCH}\noptions ndots:5\n");
    for (file, text) in [("resolv.conf", resolv.as_str()), ("nsswitch.conf", NSSWITCH), ("hosts", HOSTS)] {
        std::fs::write(dir.join(file), text).expect("a file");
    }
}

/// A program, to be started in a pod's network namespace, that sees the files in this folder in `/etc`.
#[must_use]
pub fn with_etc(dir: &Path, program: &OsStr, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", OVERLAY, "sh"]).arg(dir).arg(program).args(arguments);
    command
}

impl Program {
    /// Compiles it into this folder, where [`write_etc`] has been. `None`: there is no such compiler.
    ///
    /// # Panics
    /// It does not compile.
    #[must_use]
    pub fn compile(libc: Libc, dir: &Path) -> Option<Self> {
        std::fs::write(dir.join("ask.c"), SOURCE).expect("a file");
        let (compiler, flags) = libc.compiler();
        let path = dir.join(libc.word());
        let output = Command::new(compiler).args(flags).arg("-o").arg(&path).arg(dir.join("ask.c")).output().ok()?;
        assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
        Some(Self { dir: dir.to_owned(), path })
    }

    /// Looks a name up in a pod, where `inside` starts it. What it printed: addresses, or why there are none.
    ///
    /// # Panics
    /// It could not be started.
    #[must_use]
    pub fn look_up(&self, inside: impl FnOnce(&mut Command) -> io::Result<Output>, name: &str) -> Vec<String> {
        let output = inside(&mut with_etc(&self.dir, self.path.as_os_str(), &[name])).expect("unshare runs");
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(failed.is_empty() && output.status.code().is_some_and(|code| code < 2), "{name}: {output:?}");
        let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }
}
