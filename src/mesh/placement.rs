//! Pods whose queries do not come here, because ztunnel takes them first (ambient DNS capture).
//!
//! A captured pod is answered by ztunnel with every ServiceEntry that it knows, whoever asks: names by caller and takeover do not
//! hold for it. Whether a pod is captured is decided where its network is set up, by its own annotation, else by a setting of
//! istio-cni that objects do not show; then only silence tells.

use std::net::IpAddr;

use serde::Serialize;

use super::object::{Capture, LOCAL, Pod};
use super::world::World;

/// By what a pod counts as captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Its annotation asks for it.
    Annotation,
    /// It is enrolled, says nothing of it, and has not asked for a while.
    Silence,
}

/// A pod of this node that is captured, by all that can be seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Captured {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub pod: Box<str>,
    /// Its addresses.
    pub addresses: Box<[IpAddr]>,
    /// By what.
    pub by: By,
}

/// The captured pods of this node, in order. `was_there` says whether a pod has been there for long enough to have asked, and
/// `has_asked` whether an address has.
#[must_use]
pub fn captured(world: &World, was_there: impl Fn(&Pod) -> bool, has_asked: impl Fn(IpAddr) -> bool) -> Vec<Captured> {
    let node = world.settings().node.as_deref();
    let silent = |pod: &Pod| was_there(pod) && !pod.addresses.iter().any(|address| has_asked(*address));
    let by = |pod: &Pod| match pod.capture {
        Capture::On => Some(By::Annotation),
        Capture::Unsaid => silent(pod).then_some(By::Silence),
        Capture::Off => None,
    };
    let mut all: Vec<Captured> = world
        .cluster(LOCAL)
        .pods
        .values()
        .filter(|pod| is_asker(pod, node))
        .filter_map(|pod| {
            let Pod { namespace, name, addresses, .. } = pod;
            let (namespace, pod_name, addresses) = (namespace.clone(), name.clone(), addresses.clone());
            Some(Captured { namespace, pod: pod_name, addresses, by: by(pod)? })
        })
        .collect();
    all.sort();
    all
}

/// Whether a pod's queries would come here if nothing took them: it runs on this node, with a network of its own, and its
/// resolver asks the cluster's DNS.
fn is_asker(pod: &Pod, node: Option<&str>) -> bool {
    let here = node.is_none_or(|node| *pod.node == *node);
    here && !pod.finished
        && !pod.terminating
        && !pod.host_network
        && !pod.addresses.is_empty()
        && pod.searches.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::object::{Change, Object};
    use crate::mesh::settings::Settings;

    fn pod(name: &str, last: u8, capture: Capture) -> Pod {
        Pod {
            namespace: "shop".into(),
            name: name.into(),
            node: "n1".into(),
            addresses: [IpAddr::from([10, 1, 0, last])].into(),
            searches: Some([].into()),
            capture,
            ..Pod::default()
        }
    }

    #[test]
    fn captured_is_who_says_so_or_is_enrolled_and_silent_and_nobody_else() {
        let asked = IpAddr::from([10, 1, 0, 3]);
        let elsewhere = Pod { node: "n2".into(), ..pod("elsewhere", 5, Capture::On) };
        let host = Pod { host_network: true, ..pod("host", 6, Capture::On) };
        let leaving = Pod { terminating: true, ..pod("leaving", 7, Capture::On) };
        let own_dns = Pod { searches: None, ..pod("own-dns", 8, Capture::Unsaid) };
        let young = Pod { created: 100, ..pod("young", 9, Capture::Unsaid) };
        let pods = [
            pod("says-so", 1, Capture::On),
            pod("silent", 2, Capture::Unsaid),
            pod("asks", 3, Capture::Unsaid),
            pod("let-through", 4, Capture::Off),
            elsewhere,
            host,
            leaving,
            own_dns,
            young,
        ];
        let settings = Settings { clusters: vec!["here".into()], node: Some("n1".into()), ..Settings::default() };
        let mut world = World::new(settings);
        let apply = |pod| Change::Apply { cluster: LOCAL, object: Object::Pod(pod), faults: Vec::new() };
        world.apply(pods.map(apply).into(), 0);
        let found = captured(&world, |pod| pod.created < 100, |address| address == asked);
        let found: Vec<_> = found.iter().map(|one| (&*one.pod, one.by)).collect();
        assert_eq!(found, [("says-so", By::Annotation), ("silent", By::Silence)]);
    }
}
