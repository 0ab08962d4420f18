//! Objects as `kubectl apply` and the controllers leave them: with labels, annotations, owners and a status that nobody here
//! reads, but that an API server sends.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// So many Services are in a namespace.
pub const PER_NAMESPACE: u32 = 200;

/// Namespace and name of the nth Service.
#[must_use]
pub fn place(n: u32) -> (String, String) {
    (format!("team-{}", n / PER_NAMESPACE), format!("checkout-{n}"))
}

/// The name of the nth Service in segment acme.
#[must_use]
pub fn mesh_name(n: u32) -> String {
    let (namespace, name) = place(n);
    format!("{name}.{namespace}.mesh.acme")
}

/// An address of the nth Service; `net` tells versions and purposes apart.
#[must_use]
pub fn address(net: u8, n: u32) -> Ipv4Addr {
    let [_, a, b, c] = n.to_be_bytes();
    Ipv4Addr::new(net, a, b, c)
}

/// The nth namespace; with a scope label, its Services are published.
#[must_use]
pub fn namespace(n: u32, scope: Option<&str>) -> Value {
    let name = format!("team-{n}");
    let mut labels = json!({
        "kubernetes.io/metadata.name": name, "istio.io/dataplane-mode": "ambient",
        "pod-security.kubernetes.io/enforce": "baseline",
    });
    if let Some(scope) = scope {
        labels["solo.io/service-scope"] = scope.into();
    }
    json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
    })
}

fn labels(name: &str) -> Value {
    json!({
        "app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "checkout",
        "app.kubernetes.io/version": "1.27.3", "app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "checkout-4.1.0",
    })
}

/// The nth Service, of this ClusterIP; without one it is headless.
#[must_use]
pub fn service(n: u32, ip: Option<Ipv4Addr>) -> Value {
    let (namespace, name) = place(n);
    let ip = ip.map_or("None".to_owned(), |ip| ip.to_string());
    let spec = json!({
        "clusterIP": ip, "clusterIPs": [ip], "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None", "type": "ClusterIP",
        "selector": {"app.kubernetes.io/name": name},
        "ports": [
            {"name": "http", "port": 8080, "protocol": "TCP", "targetPort": 8080, "appProtocol": "http"},
            {"name": "metrics", "port": 9090, "protocol": "TCP", "targetPort": "metrics"},
        ],
    });
    let labels = labels(&name);
    let applied = json!({
        "apiVersion": "v1", "kind": "Service", "spec": spec,
        "metadata": {"annotations": {}, "labels": labels, "name": name, "namespace": namespace},
    });
    json!({
        "apiVersion": "v1", "kind": "Service", "spec": spec, "status": {"loadBalancer": {}},
        "metadata": {
            "name": name, "namespace": namespace, "labels": labels,
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": applied.to_string(),
                "meta.helm.sh/release-name": "checkout", "meta.helm.sh/release-namespace": namespace,
            },
        },
    })
}

/// The slice of the nth Service, with as many endpoints as `nets`: each is an address.
#[must_use]
pub fn slice(n: u32, nets: &[u8]) -> Value {
    let (namespace, name) = place(n);
    let mut labels = labels(&name);
    labels["kubernetes.io/service-name"] = name.as_str().into();
    labels["endpointslice.kubernetes.io/managed-by"] = "endpointslice-controller.k8s.io".into();
    let endpoint = |net: &u8| {
        json!({
            "addresses": [address(*net, n).to_string()], "nodeName": format!("worker-{}", n % 97), "zone": "eu-west-1b",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {
                "kind": "Pod", "namespace": namespace, "name": format!("{name}-7c9f4d5b6-{net:05}"),
                "uid": format!("5b8f6f0c-8a53-4c7e-9f0e-{net:04x}{n:08x}"),
            },
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("{name}-x7k2p"), "generateName": format!("{name}-"), "namespace": namespace, "labels": labels,
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-11-20T12:45:30Z"},
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": name, "controller": true, "blockOwnerDeletion": true,
                "uid": format!("77d4a1f2-53f1-4d0e-8a86-0000{n:08x}"),
            }],
        },
        "endpoints": nets.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [
            {"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"},
            {"name": "metrics", "port": 9090, "protocol": "TCP"},
        ],
    })
}

/// A cluster of `count` Services with a slice of three endpoints each. The first `published` namespaces are of scope
/// segment, and every tenth Service is headless.
pub fn objects(count: u32, published: u32) -> impl Iterator<Item = Value> {
    let namespaces = count.div_ceil(PER_NAMESPACE);
    let scope = move |n: u32| (n < published).then_some("segment");
    let all = (0..namespaces).map(move |n| namespace(n, scope(n)));
    all.chain((0..count).flat_map(|n| {
        let ip = (!is_headless(n)).then(|| address(10, n));
        [service(n, ip), slice(n, &[100, 101, 102])]
    }))
}

/// Whether the nth Service has no ClusterIP.
#[must_use]
pub fn is_headless(n: u32) -> bool {
    n % 10 == 9
}
