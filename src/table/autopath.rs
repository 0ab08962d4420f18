//! `autopath`: the other names that a pod's search list makes of one, in its order.

use crate::mesh::caller::Caller;
use crate::mesh::name::Name;

use super::Table;
use super::key::{Key, wire_of};

/// Most names that are tried; glibc and musl search fewer.
pub const CANDIDATES: usize = 16;

/// What comes after `<base>.<ns>.svc.<cluster domain>`, which `asked` is, as wire with root octet: the rest of the
/// cluster's search domains, the node's (`node`), those of the pod's `dnsConfig`, and `<base>` itself, each once. The base is
/// spelled as it was asked. `key` is the key of `asked`.
#[must_use]
pub fn candidates(table: &Table, caller: &Caller, key: &Key, asked: &[u8], node: &[Name]) -> Vec<Vec<u8>> {
    let zone = table.zones.get(table.zones.cluster());
    let Some(labels) = key.count().checked_sub(zone.labels + 2) else { return Vec::new() };
    let base = &asked[..key.start(labels)];
    let pod = caller.pod.and_then(|pod| table.callers.pods.get(pod as usize));
    let own = pod.and_then(|pod| pod.searches.as_deref()).unwrap_or_default();
    // The node's file is read where segdns runs: the cluster's search domains in it would be of another namespace.
    let node = node.iter().filter(|name| !name.is_in(&zone.name));
    let others = node.chain(own).filter_map(|name| wire_of(name.as_str()));
    let svc = [b"\x03svc", &*zone.wire].concat();
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut add = |suffix: &[u8]| {
        let name = [base, suffix, &[0]].concat();
        let fits = Key::default().read(&name).is_some();
        if fits && !name.eq_ignore_ascii_case(asked) && !all.iter().any(|had| had.eq_ignore_ascii_case(&name)) {
            all.push(name);
        }
    };
    [svc, zone.wire.to_vec()].into_iter().chain(others).take(CANDIDATES - 1).for_each(|suffix| add(&suffix));
    add(&[]);
    all
}
