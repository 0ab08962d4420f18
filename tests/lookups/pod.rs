//! A program in a pod: in the pods' network namespace, with a mount namespace of its own that has a pod's /etc.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::netns::{NODE4, Pods};

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

impl Program {
    /// Compiles it into this folder, and writes what the pod reads beside it. `None`: there is no such compiler.
    ///
    /// # Panics
    /// It does not compile.
    #[must_use]
    pub fn compile(libc: Libc, dir: &Path) -> Option<Self> {
        let resolv = format!("nameserver {NODE4}\nsearch {SEARCH}\noptions ndots:5\n");
        for (file, text) in [("ask.c", SOURCE), ("resolv.conf", &resolv), ("nsswitch.conf", NSSWITCH), ("hosts", HOSTS)]
        {
            std::fs::write(dir.join(file), text).expect("a file");
        }
        let (compiler, flags) = libc.compiler();
        let path = dir.join(libc.word());
        let output = Command::new(compiler).args(flags).arg("-o").arg(&path).arg(dir.join("ask.c")).output().ok()?;
        assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
        Some(Self { dir: dir.to_owned(), path })
    }

    /// Looks a name up in a pod. What it printed: addresses, or why there are none.
    ///
    /// # Panics
    /// It could not be started.
    #[must_use]
    pub fn look_up(&self, pods: &Pods, name: &str) -> Vec<String> {
        let run = || {
            let arguments = ["--mount", "sh", "-c", OVERLAY, "sh"].map(OsStr::new);
            let program = [self.dir.as_os_str(), self.path.as_os_str(), OsStr::new(name)];
            Command::new("unshare").args(arguments).args(program).output()
        };
        let output = pods.inside(run).and_then(|output| output).expect("unshare runs");
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(failed.is_empty() && output.status.code().is_some_and(|code| code < 2), "{name}: {output:?}");
        let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }
}
