//! Objects as published types have them. Those of Kubernetes are k8s-openapi's, which are generated from the API's own schema:
//! what is lost on the way through a type is a field that the API does not have. Those of the Prometheus operator are written
//! here, field by field as far as they are used (monitoring.coreos.com/v1), and know no other.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::support::objects::text;

/// What is wrong with an object.
pub fn judge(object: &Value) -> Result<(), String> {
    let kind = text(object, "/kind");
    match kind {
        "DaemonSet" => through::<DaemonSet>(object),
        "ConfigMap" => through::<ConfigMap>(object),
        "Service" => through::<Service>(object),
        "ServiceAccount" => through::<ServiceAccount>(object),
        "ClusterRole" => through::<ClusterRole>(object),
        "ClusterRoleBinding" => through::<ClusterRoleBinding>(object),
        "Role" => through::<Role>(object),
        "RoleBinding" => through::<RoleBinding>(object),
        "ServiceMonitor" => through::<Operators<ServiceMonitor>>(object),
        "PrometheusRule" => through::<Operators<PrometheusRule>>(object),
        _ => Err(format!("{kind:?} is no kind that is known here")),
    }
    .map_err(|e| format!("{kind} {}: {e}", text(object, "/metadata/name")))
}

fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Result<(), String> {
    let typed: T = serde_json::from_value(object.clone()).map_err(|e| e.to_string())?;
    let back = serde_json::to_value(typed).map_err(|e| e.to_string())?;
    kept(object, &back, "")
}

/// Whether everything of `object` is in `other`, with the same value; the other may have more.
pub fn kept(object: &Value, other: &Value, at: &str) -> Result<(), String> {
    match (object, other) {
        (Value::Object(map), Value::Object(others)) => map.iter().try_for_each(|(key, value)| {
            let at = format!("{at}/{key}");
            let other = others.get(key).ok_or_else(|| format!("{at}: the API has no such field"))?;
            kept(value, other, &at)
        }),
        (Value::Array(list), Value::Array(others)) if list.len() == others.len() => list
            .iter()
            .zip(others)
            .enumerate()
            .try_for_each(|(ix, (value, other))| kept(value, other, &format!("{at}/{ix}"))),
        _ if object == other => Ok(()),
        _ => Err(format!("{at}: {object} becomes {other}")),
    }
}

/// An object of the Prometheus operator.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Operators<S> {
    api_version: String,
    kind: String,
    metadata: Value,
    spec: S,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ServiceMonitor {
    job_label: String,
    selector: Selector,
    namespace_selector: Names,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selector {
    match_labels: Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Names {
    match_names: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Endpoint {
    port: String,
    path: String,
    interval: String,
    relabelings: Vec<Relabeling>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Relabeling {
    #[serde(skip_serializing_if = "Option::is_none")]
    source_labels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regex: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Replace,
    Keep,
    Drop,
    LabelDrop,
    LabelKeep,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrometheusRule {
    groups: Vec<Group>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    rules: Vec<Rule>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    alert: String,
    expr: String,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    lasting: Option<String>,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
}

#[test]
fn a_field_that_the_api_does_not_have_is_found() {
    let service = |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec});
    assert_eq!(judge(&service(json!({"ports": [{"port": 53, "targetPort": "dns"}]}))), Ok(()));
    let wrong = [
        (json!({"ports": [{"port": 53, "targetport": "dns"}]}), "/spec/ports/0/targetport: the API has no such field"),
        (json!({"port": 53}), "/spec/port: the API has no such field"),
        (json!({"ports": [{"port": "53"}]}), "invalid type"),
    ];
    for (spec, want) in wrong {
        let error = judge(&service(spec)).expect_err(want);
        assert!(error.contains(want), "{error}");
    }
}
