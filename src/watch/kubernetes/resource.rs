//! What is watched, where, by which selector.
//!
//! This list and `deploy/rbac.yaml` say the same; [`rules`] is for the test that holds them together.

use super::Options;
use crate::mesh::object::Kind;

/// What a watch needs to be granted.
pub const VERBS: [&str; 2] = ["list", "watch"];

/// The resource that names peers.
pub const SECRETS: &str = "secrets";

/// What the objects of a resource are read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Objects of the mesh.
    Object(Kind),
    /// Secrets with kubeconfigs.
    Secret,
}

/// One resource of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// What its objects are read as.
    pub content: Content,
    /// API group; empty is the core group.
    pub group: Box<str>,
    /// Versions that are read alike. The first one that exists is used.
    pub versions: Vec<Box<str>>,
    /// As `kubectl api-resources` names it.
    pub plural: Box<str>,
    /// Only this namespace's; `None` is the whole cluster.
    pub namespace: Option<Box<str>>,
    /// Label selector.
    pub labels: Option<Box<str>>,
    /// Field selector.
    pub fields: Option<Box<str>>,
    /// Only `metadata` is asked for.
    pub metadata_only: bool,
    /// It may not exist there: it needs a CustomResourceDefinition.
    pub optional: bool,
    /// Lists are read in pages, from what is stored; else in one piece, from the API server's memory.
    pub paged: bool,
}

impl Resource {
    /// All objects of a built-in resource, in pages.
    #[must_use]
    pub fn new(content: Content, group: &str, version: &str, plural: &str) -> Self {
        Self {
            content,
            group: group.into(),
            versions: vec![version.into()],
            plural: plural.into(),
            namespace: None,
            labels: None,
            fields: None,
            metadata_only: false,
            optional: false,
            paged: true,
        }
    }

    /// The URL's path, in one of its versions.
    #[must_use]
    pub fn path(&self, version: usize) -> String {
        let version = self.versions.get(version).map_or("", |version| version);
        let mut path =
            if self.group.is_empty() { format!("/api/{version}") } else { format!("/apis/{}/{version}", self.group) };
        if let Some(namespace) = &self.namespace {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        path.push('/');
        path.push_str(&self.plural);
        path
    }

    /// Its name for operators: `services`, `segments.admin.solo.io`.
    #[must_use]
    pub fn name(&self) -> String {
        if self.group.is_empty() { self.plural.to_string() } else { format!("{}.{}", self.plural, self.group) }
    }
}

/// What an account has to be granted, with [`VERBS`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// API group; empty is the core group.
    pub group: Box<str>,
    /// The resource.
    pub plural: Box<str>,
    /// Only in this namespace; `None` is the whole cluster.
    pub namespace: Option<Box<str>>,
}

/// What is watched of the local cluster.
#[must_use]
pub fn local(options: &Options) -> Vec<Resource> {
    let mut all = peer(options);
    all.push(pods(options));
    all.push(Resource {
        namespace: (!options.all_entries).then(|| options.root_namespace.clone()),
        ..istio(Kind::ServiceEntry, "serviceentries", options)
    });
    all.push(istio(Kind::WorkloadEntry, "workloadentries", options));
    all
}

/// What is watched of a peer.
#[must_use]
pub fn peer(options: &Options) -> Vec<Resource> {
    vec![
        Resource { metadata_only: true, ..Resource::new(Content::Object(Kind::Namespace), "", "v1", "namespaces") },
        Resource::new(Content::Object(Kind::Service), "", "v1", "services"),
        Resource {
            // One without the label belongs to no Service.
            labels: Some("kubernetes.io/service-name".into()),
            // Clusters before 1.21 have the older one only, which reads alike.
            versions: vec!["v1".into(), "v1beta1".into()],
            ..Resource::new(Content::Object(Kind::EndpointSlice), "discovery.k8s.io", "v1", "endpointslices")
        },
        Resource {
            // Segments count in the root namespace only (R2), so no account needs to read others.
            namespace: Some(options.root_namespace.clone()),
            optional: true,
            ..Resource::new(
                Content::Object(Kind::Segment),
                &options.segment_group,
                &options.segment_version,
                "segments",
            )
        },
    ]
}

/// The Secrets with the peers' kubeconfigs.
#[must_use]
pub fn secrets(options: &Options) -> Resource {
    Resource {
        namespace: Some(options.secrets_namespace.clone()),
        labels: Some(options.secrets_selector.clone()),
        ..Resource::new(Content::Secret, "", "v1", SECRETS)
    }
}

/// What the account in the local cluster has to be granted, the peers' Secrets included.
#[must_use]
pub fn rules(options: &Options) -> Vec<Rule> {
    rules_of(&local(options).into_iter().chain([secrets(options)]).collect::<Vec<_>>())
}

/// What a peer's account has to be granted there.
#[must_use]
pub fn peer_rules(options: &Options) -> Vec<Rule> {
    rules_of(&peer(options))
}

fn rules_of(resources: &[Resource]) -> Vec<Rule> {
    let rule = |resource: &Resource| Rule {
        group: resource.group.clone(),
        plural: resource.plural.clone(),
        namespace: resource.namespace.clone(),
    };
    let mut rules: Vec<Rule> = resources.iter().map(rule).collect();
    rules.sort_unstable();
    rules
}

fn pods(options: &Options) -> Resource {
    let all = Resource::new(Content::Object(Kind::Pod), "", "v1", "pods");
    match &options.node {
        None => all,
        // The index by node is in the API server's memory: a list in pages, which comes from what is stored, would read
        // every Pod of the cluster, on behalf of every node.
        Some(node) => Resource { fields: Some(format!("spec.nodeName={node}").into()), paged: false, ..all },
    }
}

fn istio(kind: Kind, plural: &str, options: &Options) -> Resource {
    Resource {
        // Istio serves v1 since 1.22, and v1beta1 before and, so far, after.
        versions: vec!["v1".into(), "v1beta1".into()],
        namespace: Some(options.root_namespace.clone()),
        optional: true,
        ..Resource::new(Content::Object(kind), "networking.istio.io", "v1", plural)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn options() -> Options {
        Options {
            cluster: "local".into(),
            root_namespace: "istio-system".into(),
            segment_group: "admin.solo.io".into(),
            segment_version: "v1alpha1".into(),
            all_entries: false,
            node: Some("n1".into()),
            secrets_namespace: "peers".into(),
            secrets_selector: "istio/multiCluster=true".into(),
            peers_wait: Duration::ZERO,
            silence: Duration::ZERO,
        }
    }

    fn paths(resources: &[Resource]) -> Vec<String> {
        resources.iter().map(|resource| resource.path(0)).collect()
    }

    #[test]
    fn each_resource_has_its_path() {
        let local = local(&options());
        assert_eq!(
            paths(&local),
            [
                "/api/v1/namespaces",
                "/api/v1/services",
                "/apis/discovery.k8s.io/v1/endpointslices",
                "/apis/admin.solo.io/v1alpha1/namespaces/istio-system/segments",
                "/api/v1/pods",
                "/apis/networking.istio.io/v1/namespaces/istio-system/serviceentries",
                "/apis/networking.istio.io/v1/namespaces/istio-system/workloadentries",
            ]
        );
        assert_eq!(local[5].path(1), "/apis/networking.istio.io/v1beta1/namespaces/istio-system/serviceentries");
        assert_eq!(paths(&peer(&options())), paths(&local[..4]));
        assert_eq!(secrets(&options()).path(0), "/api/v1/namespaces/peers/secrets");
        assert_eq!(local[3].name(), "segments.admin.solo.io");
    }

    #[test]
    fn options_decide_what_of_a_resource_is_read() {
        let pods = |options: &Options| local(options).swap_remove(4);
        let node = pods(&options());
        assert_eq!((node.fields.as_deref(), node.paged), (Some("spec.nodeName=n1"), false));
        let all = pods(&Options { node: None, ..options() });
        assert_eq!((all.fields, all.paged), (None, true));
        let entries = local(&Options { all_entries: true, ..options() }).swap_remove(5);
        assert_eq!(entries.path(0), "/apis/networking.istio.io/v1/serviceentries");
    }

    #[test]
    fn only_custom_resources_may_be_missing() {
        for resource in local(&options()).iter().chain([&secrets(&options())]) {
            let custom = ["segments", "serviceentries", "workloadentries"].contains(&&*resource.plural);
            assert_eq!(resource.optional, custom, "{}", resource.name());
        }
    }

    #[test]
    fn rules_name_each_resource_once() {
        let rule = |group: &str, plural: &str, namespace: Option<&str>| Rule {
            group: group.into(),
            plural: plural.into(),
            namespace: namespace.map(Into::into),
        };
        assert_eq!(
            rules(&options()),
            [
                rule("", "namespaces", None),
                rule("", "pods", None),
                rule("", "secrets", Some("peers")),
                rule("", "services", None),
                rule("admin.solo.io", "segments", Some("istio-system")),
                rule("discovery.k8s.io", "endpointslices", None),
                rule("networking.istio.io", "serviceentries", Some("istio-system")),
                rule("networking.istio.io", "workloadentries", Some("istio-system")),
            ]
        );
        assert_eq!(peer_rules(&options()).len(), 4);
    }
}
