//! Objects of tests as a real API server takes them: their paths, and what it insists on that tests leave out.

use serde_json::{Map, Value, json};

use super::super::objects::text;

/// Kinds without a namespace.
const OF_THE_CLUSTER: [&str; 5] =
    ["Namespace", "Node", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"];
/// Kinds whose status is written apart.
const WITH_STATUS: [&str; 2] = ["Pod", "Service"];
/// What only an API server decides.
const NOT_OURS: [&str; 6] = ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink"];

/// The URL's path of all objects of a kind; without a namespace, `namespace` does not matter.
pub fn collection(api_version: &str, kind: &str, namespace: &str) -> String {
    let mut path = if api_version.contains('/') { "/apis/" } else { "/api/" }.to_owned() + api_version;
    if in_namespace(kind) {
        path = format!("{path}/namespaces/{namespace}");
    }
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) => format!("{path}/{stem}ies"),
        None => format!("{path}/{kind}s"),
    }
}

/// Whether objects of this kind have a namespace.
pub fn in_namespace(kind: &str) -> bool {
    !OF_THE_CLUSTER.contains(&kind)
}

/// The version that a server of this minor version serves.
pub fn served(api_version: &str, minor: u32) -> &str {
    match api_version {
        "discovery.k8s.io/v1" if minor < 21 => "discovery.k8s.io/v1beta1",
        other => other,
    }
}

/// An object as it is created, and its status if that is written apart.
pub fn prepare(mut object: Value, minor: u32) -> (Value, Option<Value>) {
    let kind = text(&object, "/kind").to_owned();
    object["apiVersion"] = served(text(&object, "/apiVersion"), minor).into();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        NOT_OURS.iter().for_each(|key| drop(metadata.remove(*key)));
    }
    match &*kind {
        "Pod" => fill_pod(&mut object),
        "Service" => fill_service(&mut object),
        _ => {}
    }
    let apart = WITH_STATUS.contains(&&*kind);
    let status = if apart { object.as_object_mut().and_then(|o| o.remove("status")) } else { None };
    (object, status.filter(|status| status.as_object().is_some_and(|s| !s.is_empty())))
}

/// Makes `object` the next version of `old`, which the server has.
pub fn succeed(object: &mut Value, old: &Value) {
    object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
    // A Pod stays as it was made, with what the server has filled in; where it runs decides whether it is the same one.
    let same = |path: &str| object.pointer(path).unwrap_or(&Value::Null) == old.pointer(path).unwrap_or(&Value::Null);
    if text(object, "/kind") == "Pod" && same("/spec/nodeName") && same("/spec/hostNetwork") {
        object["spec"] = old["spec"].clone();
    }
}

fn fill_pod(pod: &mut Value) {
    fill(&mut pod["spec"], "containers", json!([{"name": "main", "image": "none.invalid/none"}]));
    if let Some(first) = pod.pointer("/status/podIPs/0/ip").cloned() {
        fill(&mut pod["status"], "podIP", first);
    }
}

/// The server wants both, and the same in both.
fn fill_service(service: &mut Value) {
    if let Some(first) = service.pointer("/spec/clusterIPs/0").cloned() {
        fill(&mut service["spec"], "clusterIP", first);
    }
}

fn fill(at: &mut Value, key: &str, value: Value) {
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    if at[key].is_null() {
        at[key] = value;
    }
}

/// A namespaced custom resource that keeps whatever its objects hold; the last version is the one that is stored.
pub fn crd(group: &str, versions: &[&str], plural: &str, kind: &str) -> Value {
    let stored = versions.len().saturating_sub(1);
    let version = |(at, name): (usize, &&str)| {
        json!({
            "name": name, "served": true, "storage": at == stored,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")},
            "versions": versions.iter().enumerate().map(version).collect::<Vec<_>>(),
        },
    })
}
