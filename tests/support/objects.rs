//! Objects as plain JSON values: read from YAML, or made for a test; and fragments of configuration.

use std::net::IpAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

/// All objects of a manifest file: several documents, and `List`s taken apart. An absent file has none.
#[must_use]
pub fn load(path: &Path) -> Vec<Value> {
    let Ok(text) = std::fs::read_to_string(path) else { return Vec::new() };
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut objects = Vec::new();
    for mut document in documents {
        let is_list = document["kind"].as_str().is_some_and(|k| k.ends_with("List"));
        match document.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) if is_list => objects.extend(items),
            _ if is_list || document.is_null() => {}
            _ => objects.push(document),
        }
    }
    objects
}

/// Writes objects into a file of a directory of manifests.
///
/// # Panics
/// It cannot be written.
pub fn write(dir: &Path, file: &str, objects: &[Value]) {
    let text: Vec<String> = objects.iter().map(|o| format!("{o:#}")).collect();
    std::fs::write(dir.join(file), text.join("\n---\n")).expect("written");
}

/// A text of an object by its path, or `""`.
#[must_use]
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A list of an object by its path; empty if absent or null.
#[must_use]
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// One YAML document as a value; an empty one is an empty map.
#[must_use]
pub fn fragment(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    match serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display())) {
        Value::Null => Value::Object(Map::new()),
        value => value,
    }
}

/// Lays `over` on `base`: maps are merged, everything else is replaced.
pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// Sets the value at a dotted path, e.g. `policy.crossSegment`.
pub fn set_path(base: &mut Value, path: &str, value: Value) {
    let mut at = base;
    for key in path.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[key];
    }
    *at = value;
}

/// What a policy column says: `true`, `false`, numbers and flow lists; `on` and `off` stay words, as in the contract.
#[must_use]
pub fn scalar(text: &str) -> Value {
    if ["on", "off", "yes", "no"].contains(&text) {
        return text.into();
    }
    serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("policy value {text}: {e}"))
}

/// A Namespace, with this segment label.
#[must_use]
pub fn namespace(name: &str, segment: Option<&str>) -> Value {
    let labels = segment.map_or(json!({}), |s| json!({"admin.solo.io/segment": s}));
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// A Segment of the mesh root namespace.
#[must_use]
pub fn segment(name: &str, domain: &str) -> Value {
    json!({
        "apiVersion": "admin.solo.io/v1alpha1", "kind": "Segment",
        "metadata": {"name": name, "namespace": "istio-system"}, "spec": {"domain": domain},
    })
}

/// A Service with this scope, and this ClusterIP unless it is empty.
#[must_use]
pub fn service(ns: &str, name: &str, scope: &str, ip: &str) -> Value {
    let ips = if ip.is_empty() { json!([]) } else { json!([ip]) };
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": ns, "labels": {"solo.io/service-scope": scope}},
        "spec": {"clusterIPs": ips, "ports": [{"name": "http", "port": 80}]},
    })
}

/// An EndpointSlice of a Service, with one ready endpoint.
#[must_use]
pub fn slice(ns: &str, service: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "namespace": ns, "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{"addresses": [ip]}],
    })
}

/// A running Pod of node1.
#[must_use]
pub fn pod(ns: &str, name: &str, ip: IpAddr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": ns, "uid": format!("{ns}-{name}")},
        "spec": {"nodeName": "node1"}, "status": {"phase": "Running", "podIPs": [{"ip": ip}]},
    })
}
