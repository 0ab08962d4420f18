//! Which resources there are, and what discovery says about them.

use serde_json::{Value, json};

use super::object::Form;

/// Group and plural: what a resource is called, whatever version it is asked for in.
pub(super) type Key = (String, String);

/// A kind of object that the server knows.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) group: String,
    pub(super) versions: Vec<String>,
    pub(super) plural: String,
    pub(super) kind: String,
    pub(super) namespaced: bool,
    /// Whether a CRD made it: its items carry their type, and it can go away.
    pub(super) custom: bool,
    /// The fields besides metadata that Go's zero value of the kind has, as they follow the metadata in a bookmark.
    pub(super) zero: &'static str,
}

/// What every cluster has.
pub(super) fn built_in() -> Vec<Resource> {
    let of = |group: &str, plural: &str, kind: &str, namespaced, zero| Resource {
        group: group.to_owned(),
        versions: vec!["v1".to_owned()],
        plural: plural.to_owned(),
        kind: kind.to_owned(),
        namespaced,
        custom: false,
        zero,
    };
    vec![
        of("", "events", "Event", true, ""),
        of("", "namespaces", "Namespace", false, r#","spec":{},"status":{}"#),
        of("", "pods", "Pod", true, r#","spec":{"containers":null},"status":{}"#),
        of("", "secrets", "Secret", true, ""),
        of("", "services", "Service", true, r#","spec":{},"status":{"loadBalancer":{}}"#),
        of("coordination.k8s.io", "leases", "Lease", true, r#","spec":{}"#),
        of(
            "discovery.k8s.io",
            "endpointslices",
            "EndpointSlice",
            true,
            r#","addressType":"","endpoints":null,"ports":null"#,
        ),
    ]
}

impl Resource {
    pub(super) fn key(&self) -> Key {
        (self.group.clone(), self.plural.clone())
    }

    /// The `apiVersion` of its objects in this version.
    pub(super) fn api_version(&self, version: &str) -> String {
        api_version(&self.group, version)
    }

    /// `services`, or `segments.admin.solo.io`.
    pub(super) fn full_name(&self) -> String {
        full_name(&self.group, &self.plural)
    }

    /// How its objects are written one by one: in a watch, by GET.
    pub(super) fn typed(&self, version: &str) -> Form {
        Form::typed(&self.kind, &self.api_version(version))
    }

    /// Its line in `APIResourceList`.
    fn described(&self) -> Value {
        let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
        json!({
            "name": self.plural,
            "singularName": self.kind.to_lowercase(),
            "namespaced": self.namespaced,
            "kind": self.kind,
            "verbs": verbs,
            "storageVersionHash": "qgS0xkrxYAI=",
        })
    }
}

/// `v1`, or `admin.solo.io/v1alpha1`.
pub(super) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// `services`, or `segments.admin.solo.io`.
pub(super) fn full_name(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

/// Whether a test's word for resources (`*`, a plural, or plural.group) means this one.
pub(super) fn is_meant(word: &str, group: &str, plural: &str) -> bool {
    word == "*" || word == plural || word == full_name(group, plural)
}

/// The answer of a path that is none of a resource's; `None` is 404.
pub(super) fn discovery(path: &str, address: &str, known: &[&Resource]) -> Option<Value> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match segments[..] {
        ["version"] => Some(version()),
        ["api"] => Some(json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        })),
        ["apis"] => Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups(known)})),
        ["apis", group] => groups(known).into_iter().find(|g| g["name"] == group).map(|mut found| {
            found["kind"] = "APIGroup".into();
            found["apiVersion"] = "v1".into();
            found
        }),
        ["api", version] => resource_list("", version, known),
        ["apis", group, version] => resource_list(group, version, known),
        _ => None,
    }
}

fn resource_list(group: &str, version: &str, known: &[&Resource]) -> Option<Value> {
    let here = known.iter().filter(|r| r.group == group && r.versions.iter().any(|v| v == version));
    let resources: Vec<Value> = here.map(|r| r.described()).collect();
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": api_version(group, version),
            "resources": resources,
        })
    })
}

fn groups(known: &[&Resource]) -> Vec<Value> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for resource in known.iter().filter(|r| !r.group.is_empty()) {
        let at = found.iter().position(|(group, _)| *group == resource.group).unwrap_or_else(|| {
            found.push((&resource.group, Vec::new()));
            found.len() - 1
        });
        let versions = &mut found[at].1;
        versions.extend(resource.versions.iter().map(String::as_str));
        versions.sort_unstable();
        versions.dedup();
    }
    let versions = |group: &str, all: &[&str]| -> Vec<Value> {
        all.iter().map(|v| json!({"groupVersion": api_version(group, v), "version": v})).collect()
    };
    found
        .into_iter()
        .map(|(group, all)| {
            let versions = versions(group, &all);
            json!({"name": group, "preferredVersion": versions[0], "versions": versions})
        })
        .collect()
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": "v1.36.2",
        "gitCommit": "8e16b12f",
        "gitTreeState": "clean",
        "buildDate": "2026-11-20T00:00:00Z",
        "goVersion": "go1.26.6",
        "compiler": "gc",
        "platform": "linux/amd64",
    })
}
