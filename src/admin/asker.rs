//! CALLER, as `--from`, `--as`, `from=` and `as=` take it: an address, `namespace/pod`, or `segment:NAME`.

use std::net::IpAddr;

use serde::Serialize;
use thiserror::Error;

use crate::mesh::caller::{Caller, CallerBy, Callers};
use crate::mesh::object::{LOCAL, Pod};
use crate::mesh::settings::CallerOf;
use crate::mesh::world::World;
use crate::table::Table;

/// Why a text names no caller, as one line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("caller {caller:?}: {what}")]
pub struct AskerError {
    caller: String,
    what: String,
}

/// A caller, and how it came to be one.
#[derive(Clone, Debug)]
pub struct Asker {
    /// What the decision knows of it.
    pub caller: Caller,
    /// By what it was recognised; `None` for `segment:NAME`.
    pub by: Option<CallerBy>,
    /// Its address, if it has one.
    pub address: Option<IpAddr>,
    /// Namespace and name of its pod.
    pub pod: Option<(Box<str>, Box<str>)>,
}

/// A caller in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AskerView {
    /// Its address.
    pub address: Option<IpAddr>,
    /// Its pod's name.
    pub pod: Option<Box<str>>,
    /// Its pod's namespace, or the one that `callers` says.
    pub namespace: Option<Box<str>>,
    /// Its segment; absent if it has none that is known and valid.
    pub segment: Option<Box<str>>,
    /// R20
    pub enrolled: bool,
}

impl Asker {
    /// Reads a CALLER.
    ///
    /// # Errors
    /// [`AskerError`] says why it is none, and what would be.
    pub fn parse(world: &World, table: &Table, text: &str) -> Result<Self, AskerError> {
        let fail = |what: String| AskerError { caller: text.to_owned(), what };
        if let Some(name) = text.strip_prefix("segment:") {
            let Some(segment) = world.layout().find(name) else {
                let known: Vec<&str> = world.layout().segments.iter().map(|s| &*s.name).collect();
                return Err(fail(format!("there is no valid Segment of that name; there are {}", known.join(", "))));
            };
            let caller = Callers::of_segment(&table.policy, segment);
            return Ok(Self { caller, by: None, address: None, pod: None });
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::at(table, address));
        }
        let Some((namespace, name)) = text.split_once('/').filter(|(ns, n)| !ns.is_empty() && !n.is_empty()) else {
            return Err(fail("write an IP address, namespace/pod, or segment:NAME".into()));
        };
        match table.callers.address_of(namespace, name) {
            Some(address) => Ok(Self::at(table, address)),
            None => Err(fail(why_no_caller(world, table, namespace, name))),
        }
    }

    /// Whoever asks from this address.
    #[must_use]
    pub fn at(table: &Table, address: IpAddr) -> Self {
        let (caller, by) = table.callers.recognise(address);
        let pod = caller.pod.and_then(|ix| table.callers.pods.get(usize::try_from(ix).ok()?));
        let pod = pod.map(|pod| (pod.namespace.clone(), pod.name.clone()));
        Self { caller, by: Some(by), address: Some(address.to_canonical()), pod }
    }

    /// The namespace that its segment comes from.
    #[must_use]
    pub fn namespace(&self, world: &World) -> Option<Box<str>> {
        let rule = || match self.by {
            Some(CallerBy::Rule(ix)) => match &world.settings().callers.get(ix)?.of {
                CallerOf::Namespace(name) => Some(name.clone()),
                CallerOf::Segment(_) => None,
            },
            _ => None,
        };
        self.pod.as_ref().map(|(namespace, _)| namespace.clone()).or_else(rule)
    }

    /// The name of its segment.
    #[must_use]
    pub fn segment_name(&self, world: &World) -> Option<Box<str>> {
        let segment = self.caller.segment.segment()?;
        world.layout().segments.get(usize::from(segment)).map(|s| s.name.clone())
    }

    /// As JSON shows it.
    #[must_use]
    pub fn view(&self, world: &World) -> AskerView {
        AskerView {
            address: self.address,
            pod: self.pod.as_ref().map(|(_, name)| name.clone()),
            namespace: self.namespace(world),
            segment: self.segment_name(world),
            enrolled: self.caller.enrolled,
        }
    }
}

/// R15: why a pod is not a caller here.
fn why_no_caller(world: &World, table: &Table, namespace: &str, name: &str) -> String {
    let settings = world.settings();
    let cluster = &settings.clusters[LOCAL];
    let key = (namespace.into(), name.into());
    let Some(pod) = world.cluster(LOCAL).pods.get(&key) else {
        let same: Vec<String> = world
            .cluster(LOCAL)
            .pods
            .keys()
            .filter(|(ns, pod)| **ns == *namespace && pod.starts_with(name))
            .map(|(ns, pod)| format!("{ns}/{pod}"))
            .take(3)
            .collect();
        let hint = if same.is_empty() { String::new() } else { format!("; did you mean {}?", same.join(" or ")) };
        return format!("cluster {cluster} has no such Pod{hint}");
    };
    let why = |pod: &Pod| {
        if pod.finished {
            return "it has ended (Succeeded or Failed), so its address is nobody's (R15)".to_owned();
        }
        if let Some(node) = settings.node.as_ref().filter(|node| **node != pod.node) {
            let on = if pod.node.is_empty() { "no node yet".to_owned() } else { format!("node {}", pod.node) };
            return format!("it is on {on}, and only pods of this node ({node}) are callers here");
        }
        if pod.host_network {
            return "it uses its node's network, so it is asked as the node; give its IP address instead".to_owned();
        }
        let Some(address) = pod.addresses.first() else { return "it has no address yet".to_owned() };
        let holder = Asker::at(table, *address).pod;
        let holder = holder.map_or("another".to_owned(), |(ns, name)| format!("Pod {ns}/{name}"));
        format!("its address {address} belongs to {holder}, which is newer or not terminating (R15)")
    };
    format!("that Pod of cluster {cluster} is no caller: {}", why(pod))
}
