//! The image, built by hand: no container engine, but the Dockerfile's own lines.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::dockerfile::{Instruction, Stage};

/// A clean directory that stands for the file systems of both stages.
#[derive(Debug)]
pub struct Build {
    dir: TempDir,
    /// Beside those of the stages: variables of commands.
    env: Vec<(String, String)>,
    arch: &'static str,
}

impl Build {
    /// For this architecture, in Docker's words, with these more variables.
    #[must_use]
    pub fn new(arch: &'static str, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("segdns-image-").tempdir().expect("a directory");
        // The image's user has to be able to enter its root.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("permissions");
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self { dir, env, arch }
    }

    /// The root of the image.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("src")
    }

    /// Does what the stages say, but for installing compilers.
    ///
    /// # Panics
    /// Something of it fails.
    pub fn run(&self, build: &Stage, image: &Stage) {
        self.make(build, |_| true);
        for instruction in image.instructions.iter().filter(|i| i.word == "COPY") {
            self.copy_stage(instruction);
        }
    }

    /// Does what the stage that builds says, as far as these commands go; gives where it puts the image's files.
    ///
    /// # Panics
    /// Something of it fails.
    pub fn make(&self, build: &Stage, wanted: impl Fn(&str) -> bool) -> PathBuf {
        for dir in [self.source(), self.root()] {
            std::fs::create_dir_all(dir).expect("a directory");
        }
        for instruction in &build.instructions {
            match instruction.word.as_str() {
                "COPY" => copy_context(&instruction.rest, &self.source()),
                "RUN" if installs(&instruction.rest) || !wanted(&instruction.rest) => {}
                "RUN" => self.sh(&instruction.rest, build),
                "WORKDIR" => assert_eq!(instruction.rest, "/src", "this test takes /src for the working directory"),
                _ => {}
            }
        }
        self.dir.path().join("out/root")
    }

    /// As `RUN` does, in `/src`, with `ARG`s in the environment; what it puts into `/out` comes to our own.
    fn sh(&self, command: &str, stage: &Stage) {
        let out = self.dir.path().join("out");
        let text = command.replace("/out", out.to_str().expect("a path"));
        let defaults = stage.all("ARG").into_iter().filter_map(|arg| arg.split_once('='));
        let output = Command::new("sh")
            .args(["-c", &text])
            .current_dir(self.source())
            .envs(defaults)
            .env("TARGETARCH", self.arch)
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .output()
            .expect("sh runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "RUN {command}\n{}",
            said.lines().rev().take(30).collect::<Vec<_>>().join("\n")
        );
    }

    /// `COPY --from=build`: owner and capabilities as BuildKit has them.
    fn copy_stage(&self, instruction: &Instruction) {
        assert_eq!(instruction.flag("from"), Some("build"));
        let (from, to) = instruction.rest.split_once(' ').expect("two paths");
        let from = self.dir.path().join(from.trim_start_matches('/'));
        let to = self.root().join(to.trim_start_matches('/'));
        std::fs::create_dir_all(&to).expect("a directory");
        let done = Command::new("cp").arg("-a").arg(from.join(".")).arg(&to).status().expect("cp runs");
        assert!(done.success(), "{instruction:?}");
        if let Some(owner) = instruction.flag("chown") {
            let done = Command::new("chown").args(["-R", owner]).arg(&to).status().expect("chown runs");
            assert!(done.success(), "{instruction:?}");
        }
    }
}

/// Whether a `RUN` installs what the machine has to have already.
pub fn installs(command: &str) -> bool {
    ["apt-get", "rustup", "cargo install --locked cargo-"].iter().any(|tool| command.contains(tool))
}

/// `COPY` from the repository, as far as `.dockerignore` lets it.
fn copy_context(rest: &str, to: &Path) {
    let words: Vec<&str> = rest.split(' ').collect();
    let (last, sources) = words.split_last().expect("two paths");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignore = std::fs::read_to_string(repository.join(".dockerignore")).expect(".dockerignore");
    let rules: Vec<&str> = ignore.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rules.first(), Some(&"*"), "this test takes .dockerignore for a list of exceptions");
    for source in sources {
        assert!(rules.contains(&format!("!{source}").as_str()), "COPY {source}: .dockerignore keeps it away");
        let done = Command::new("cp").arg("-R").arg(repository.join(source)).arg(to.join(last)).status();
        assert!(done.expect("cp runs").success(), "COPY {source}");
    }
    for rule in rules.iter().filter(|rule| !rule.starts_with(['*', '!'])) {
        drop(std::fs::remove_dir_all(to.join(rule)));
    }
}
