//! What is under `deploy` for a cluster: every kustomization is built, every object held against its published schema, the
//! pods against what they promise, alerts and dashboard against the metrics that there are; and the DaemonSet's container is
//! run as it is written, with its command, environment, mounts, user and capabilities.
//!
//! ```text
//! built       kustomizations, built by kustomize or kubectl
//! schema      objects as published types have them
//! pods        what a pod spec promises
//! running     the container, by hand
//! monitoring  alerts, dashboard, and how metrics are found
//! real        all of it, applied to a real API server
//! ```

mod support;

#[path = "deploy/built.rs"]
mod built;
#[path = "deploy/monitoring.rs"]
mod monitoring;
#[path = "deploy/pods.rs"]
mod pods;
#[path = "deploy/real.rs"]
mod real;
#[path = "deploy/running.rs"]
mod running;
#[path = "deploy/schema.rs"]
mod schema;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use built::{Kustomize, OVERLAYS};
use serde_json::Value;
use support::objects::{load, text};

/// The folder `deploy`.
fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

/// Says that something was not tested, where the test harness does not keep it to itself.
fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}");
}

/// The one object of this kind.
fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let all: Vec<&Value> = objects.iter().filter(|o| o["kind"] == kind).collect();
    let [one] = all[..] else { panic!("{} objects of kind {kind}", all.len()) };
    one
}

/// Every file of `deploy` with objects of Kubernetes; what kustomize reads itself, and the demo, left out.
fn files() -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![deploy()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() && name != "demo" {
                folders.push(path);
            } else if name.ends_with(".yaml") && name != "kustomization.yaml" && name != "segdns.yaml" {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn every_object_in_every_file_is_as_its_published_schema_wants_it() {
    let mut checked = BTreeSet::new();
    for file in files() {
        for object in load(&file) {
            // JSON patches are lists; what they make is judged when it is built.
            if object.is_object() {
                schema::judge(&object).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
                checked.insert(text(&object, "/kind").to_owned());
            }
        }
    }
    for kind in ["DaemonSet", "Service", "ServiceAccount", "ClusterRole", "Role", "ServiceMonitor", "PrometheusRule"] {
        assert!(checked.contains(kind), "no {kind} among {checked:?}");
    }
}

#[test]
fn every_kustomization_builds_objects_as_their_published_schemas_want_them() {
    let Some(kustomize) = Kustomize::find(built::COMPONENTS) else { return };
    for dir in ["base", "monitoring", "teardown"].into_iter().chain(OVERLAYS) {
        let objects = kustomize.build(dir);
        let mut names = BTreeSet::new();
        for object in &objects {
            schema::judge(object).unwrap_or_else(|e| panic!("{dir}: {e}"));
            let name = ["/kind", "/metadata/namespace", "/metadata/name"].map(|at| text(object, at));
            assert!(names.insert(name), "{dir}: {name:?} is there twice");
            let of_cluster = name[0].starts_with("Cluster");
            assert!(of_cluster || ["kube-system", "istio-system"].contains(&name[1]), "{dir}: {name:?}");
        }
    }
}

#[test]
fn the_base_grants_what_the_files_beside_it_say() {
    for file in ["rbac.yaml", "rbac-events.yaml"] {
        let (beside, inside) = (deploy().join(file), deploy().join("base").join(file));
        // A link, where there is one at all: kustomize reads nothing outside of its folder.
        assert!(!beside.exists() || load(&beside) == load(&inside), "deploy/{file} is not deploy/base/{file}");
        let kustomization = std::fs::read_to_string(deploy().join("base/kustomization.yaml")).expect("a kustomization");
        assert!(kustomization.contains(&format!("  - {file}\n")), "the base leaves {file} out");
    }
}

#[test]
fn pages_that_are_named_are_there() {
    let mut named = BTreeSet::new();
    for file in files() {
        let text = std::fs::read_to_string(&file).expect("a file");
        let words = text.split(|c: char| c.is_whitespace() || "()'\"".contains(c)).filter(|w| w.starts_with("docs/"));
        for word in words {
            let page = word.split('#').next().unwrap_or_default().trim_end_matches(['.', ',', ':', ';']);
            let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(page).is_file();
            assert!(there, "{}: {word}", file.display());
            named.insert(page.to_owned());
        }
    }
    assert!(named.len() >= 2, "{named:?}");
}
