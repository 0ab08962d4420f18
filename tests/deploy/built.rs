//! Kustomizations, built by whatever kustomize there is: `KUSTOMIZE`, the one in the path, that of the path's kubectl, or
//! that of `KUBEBUILDER_ASSETS`.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::objects::load;
use crate::{deploy, skipped};

/// The placements.
pub const OVERLAYS: [&str; 2] = ["overlays/link-local", "overlays/kube-dns-address"];
/// The first minor version of kubectl whose kustomize knows components.
pub const COMPONENTS: u32 = 21;

/// A program that builds.
#[derive(Debug)]
pub struct Kustomize {
    program: PathBuf,
    /// `kustomize`, if it is not part of kubectl.
    alone: bool,
    /// Of kubectl; a kustomize of its own counts as new.
    minor: u32,
}

impl Kustomize {
    /// One whose kubectl is of this minor version or newer; says so if there is none.
    pub fn find(minor: u32) -> Option<Self> {
        let found = candidates().into_iter().find(|one| one.minor >= minor);
        if found.is_none() {
            skipped(&format!(
                "kustomizations: no kustomize, and no kubectl of 1.{minor} or newer; KUSTOMIZE may name one"
            ));
        }
        found
    }

    /// The objects of a folder of `deploy`.
    pub fn build(&self, dir: &str) -> Vec<Value> {
        let dir = deploy().join(dir);
        let mut command = Command::new(&self.program);
        command.arg(if self.alone { "build" } else { "kustomize" }).arg(&dir);
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", dir.display());
        // Deprecated fields and the like.
        assert!(said.is_empty(), "{}: {said}", dir.display());
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
        std::fs::write(file.path(), &output.stdout).expect("written");
        load(file.path())
    }
}

fn candidates() -> Vec<Kustomize> {
    let asked = std::env::var_os("KUSTOMIZE").map(PathBuf::from);
    let alone =
        asked.into_iter().chain([PathBuf::from("kustomize")]).filter(|program| says(program, &["version"]).is_some());
    let alone = alone.map(|program| Kustomize { program, alone: true, minor: u32::MAX });
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(|dir| PathBuf::from(dir).join("kubectl"));
    let kubectl = [PathBuf::from("kubectl")].into_iter().chain(assets).filter_map(|program| {
        let output = says(&program, &["version", "--client", "-o", "json"])?;
        let version: Value = serde_json::from_slice(&output.stdout).ok()?;
        // 1.32.4-dispatcher has a minor version of "32+".
        let minor = version["clientVersion"]["minor"].as_str()?.trim_end_matches('+').parse().ok()?;
        Some(Kustomize { program, alone: false, minor })
    });
    alone.chain(kubectl).collect()
}

fn says(program: &PathBuf, args: &[&str]) -> Option<Output> {
    Command::new(program).args(args).output().ok().filter(|output| output.status.success())
}
