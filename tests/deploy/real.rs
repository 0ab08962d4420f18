//! Everything applied to a real API server, by its kubectl, as `kubectl apply -k` would: it takes each object, and keeps all of it.

use serde_json::{Value, json};

use crate::built::{COMPONENTS, Kustomize, OVERLAYS};
use crate::pods::spec;
use crate::schema::kept;
use crate::support::envtest::{Envtest, RANGE, in_turn};
use crate::support::objects::text;
use crate::{only, skipped};

/// The first minor version whose DaemonSets surge, and the first with native sidecars.
const SURGE: u32 = 22;
const SIDECARS: u32 = 28;

#[test]
fn a_real_api_server_takes_and_keeps_everything() {
    in_turn("deploy", || {
        let Some(kustomize) = Kustomize::find(COMPONENTS) else { return };
        let server = Envtest::bare(RANGE);
        server.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}}));
        let group = "monitoring.coreos.com";
        server.install_crd(group, &["v1"], "servicemonitors", "ServiceMonitor");
        server.install_crd(group, &["v1"], "prometheusrules", "PrometheusRule");
        for dir in ["base"].into_iter().chain(OVERLAYS).chain(["monitoring", "teardown"]) {
            let objects: Vec<Value> =
                kustomize.build(dir).into_iter().map(|object| as_served(object, server.minor())).collect();
            apply(&server, &objects);
            if dir != "monitoring" {
                pod_is_admitted(&server, only(&objects, "DaemonSet"));
            }
        }
    });
}

/// With its validation against the schema that the server publishes, so that an unknown field is refused, not dropped.
fn apply(server: &Envtest, objects: &[Value]) {
    let file = tempfile::Builder::new().suffix(".json").tempfile().expect("a file");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(file.path(), list.to_string()).expect("written");
    let path = file.path().display().to_string();
    server.kubectl(&["apply", "--validate=true", "-f", &path]);
    // Again, and nothing is left to be changed.
    let again = server.kubectl(&["apply", "-f", &path]);
    assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
    for object in objects {
        let [kind, namespace, name] = ["/kind", "/metadata/namespace", "/metadata/name"].map(|at| text(object, at));
        let mut args = vec!["get", kind, name, "-o", "json"];
        if !namespace.is_empty() {
            args.extend(["-n", namespace]);
        }
        let got: Value = serde_json::from_str(&server.kubectl(&args)).expect("JSON");
        kept(object, &got, "").unwrap_or_else(|e| panic!("{kind} {name}: {e}"));
    }
}

/// What a DaemonSet's controller would make of it, with the priority that admission gives it.
fn pod_is_admitted(server: &Envtest, daemonset: &Value) {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "namespace": "kube-system"}});
    pod["spec"] = spec(daemonset).clone();
    let file = tempfile::Builder::new().suffix(".json").tempfile().expect("a file");
    std::fs::write(file.path(), pod.to_string()).expect("written");
    let path = file.path().display().to_string();
    let made = server.kubectl(&["create", "--dry-run=server", "-o", "json", "-f", &path]);
    let made: Value = serde_json::from_str(&made).expect("JSON");
    assert_eq!(made["spec"]["priority"], 2_000_001_000, "system-node-critical");
}

/// Without what this server does not know yet.
fn as_served(mut object: Value, minor: u32) -> Value {
    if object["kind"] == "DaemonSet"
        && minor < SURGE
        && object["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"] == 1
    {
        skipped(&format!("maxSurge, which an API server of 1.{minor} does not know"));
        object["spec"]["updateStrategy"]["rollingUpdate"] = json!({"maxUnavailable": 1});
    }
    let init = object.pointer_mut("/spec/template/spec/initContainers").and_then(Value::as_array_mut);
    for container in init.into_iter().flatten().filter(|_| minor < SIDECARS) {
        container.as_object_mut().expect("a container").remove("restartPolicy");
    }
    object
}
