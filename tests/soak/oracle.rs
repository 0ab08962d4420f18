//! What may be answered at each moment: every object has a history, and an answer is right if some versions of the objects that it
//! depends on, all of them in force between a little before the question and the answer, give it.
//!
//! Watches of different resources bring changes in any order, so versions of different objects may be mixed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long after a change the former state may still be answered while nothing is wrong. It takes milliseconds; this is a machine
/// that does other things, too.
const LAG: Duration = Duration::from_secs(3);
/// How long after the end of trouble with an API server all watches are there again: they wait up to 5 s.
const SETTLES: Duration = Duration::from_secs(12);

pub const NOERROR: u8 = 0;
pub const SERVFAIL: u8 = 2;
pub const NXDOMAIN: u8 = 3;

/// Namespaces, by number: of the cluster's segment, of the other one, and of one that changes.
pub const NAMESPACES: [&str; 3] = ["shop", "far", "roam"];
/// Domains of segments `acme`, which is the cluster's, and `other`.
pub const DOMAINS: [&str; 2] = ["mesh.acme", "mesh.other"];
/// Services of each namespace.
pub const SERVICES: usize = 20;
/// Addresses that pods have, had or will have.
pub const ADDRESSES: usize = 16;

/// The segment that a namespace's label means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// None: the cluster's.
    Absent,
    /// `other`
    Other,
    /// One that there is not.
    Broken,
}

impl Label {
    pub fn text(self) -> Option<&'static str> {
        match self {
            Self::Absent => None,
            Self::Other => Some("other"),
            Self::Broken => Some("nosuch"),
        }
    }

    /// By number in [`DOMAINS`].
    fn segment(self) -> Option<usize> {
        match self {
            Self::Absent => Some(0),
            Self::Other => Some(1),
            Self::Broken => None,
        }
    }
}

/// A Service: its scope and ClusterIP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    pub scope: &'static str,
    pub ip: String,
}

/// All versions of one object.
#[derive(Debug)]
struct History<T> {
    versions: Vec<Version<T>>,
}

#[derive(Debug)]
struct Version<T> {
    what: T,
    since: Instant,
    until: Option<Instant>,
}

impl<T: Clone + Ord> History<T> {
    fn new(what: T) -> Self {
        Self { versions: vec![Version { what, since: Instant::now(), until: None }] }
    }

    /// What it is from `since` on; the former version ends now.
    fn put(&mut self, what: T, since: Instant) {
        if let Some(last) = self.versions.last_mut() {
            last.until = Some(Instant::now());
        }
        self.versions.push(Version { what, since, until: None });
    }

    fn now(&self) -> &T {
        &self.versions.last().expect("there is a first version").what
    }

    fn between(&self, from: Instant, to: Instant) -> BTreeSet<T> {
        let overlaps = |v: &&Version<T>| v.since <= to && v.until.is_none_or(|until| until >= from);
        self.versions.iter().rev().take(200).filter(overlaps).map(|v| v.what.clone()).collect()
    }
}

/// The world, from its beginning on.
#[derive(Debug)]
pub struct Oracle {
    labels: Vec<History<Label>>,
    services: Vec<Vec<History<Option<Service>>>>,
    /// Which namespace the pod with this address is in.
    pods: Vec<History<Option<usize>>>,
    /// When API servers were in trouble.
    trouble: Vec<(Instant, Option<Instant>)>,
}

impl Oracle {
    pub fn new() -> Self {
        let labels = [Label::Absent, Label::Other, Label::Absent];
        Self {
            labels: labels.into_iter().map(History::new).collect(),
            services: (0..NAMESPACES.len()).map(|_| (0..SERVICES).map(|_| History::new(None)).collect()).collect(),
            pods: (0..ADDRESSES).map(|_| History::new(None)).collect(),
            trouble: Vec::new(),
        }
    }

    pub fn label(&mut self, namespace: usize, label: Label, since: Instant) {
        self.labels[namespace].put(label, since);
    }

    pub fn service(&mut self, namespace: usize, service: usize, what: Option<Service>, since: Instant) {
        self.services[namespace][service].put(what, since);
    }

    pub fn pod(&mut self, address: usize, namespace: Option<usize>, since: Instant) {
        self.pods[address].put(namespace, since);
    }

    pub fn pod_now(&self, address: usize) -> Option<usize> {
        *self.pods[address].now()
    }

    pub fn service_now(&self, namespace: usize, service: usize) -> Option<&Service> {
        self.services[namespace][service].now().as_ref()
    }

    pub fn trouble_begins(&mut self) {
        self.trouble.push((Instant::now(), None));
    }

    pub fn trouble_ends(&mut self) {
        if let Some((_, end)) = self.trouble.last_mut() {
            *end = Some(Instant::now());
        }
    }

    /// From when on versions may be answered to a question that was sent then.
    fn horizon(&self, sent: Instant) -> Instant {
        let mut from = sent.checked_sub(LAG).unwrap_or(sent);
        for (begin, end) in self.trouble.iter().rev() {
            if *begin <= sent && end.is_none_or(|end| end + SETTLES >= from) {
                from = from.min(begin.checked_sub(LAG).unwrap_or(*begin));
            }
        }
        from
    }

    /// Everything that may be answered to a mesh name: response code and address.
    pub fn allowed(&self, question: &Question, sent: Instant, heard: Instant) -> BTreeSet<(u8, Option<String>)> {
        let from = self.horizon(sent);
        let callers = self.pods[question.address].between(from, heard);
        let published = self.labels[question.namespace].between(from, heard);
        let services = self.services[question.namespace][question.service].between(from, heard);
        let mut all = BTreeSet::new();
        for caller in &callers {
            // An address of loopback that no pod has is the node's own, and of the cluster's segment (R15).
            let labels = caller.map_or_else(|| [Label::Absent].into(), |home| self.labels[home].between(from, heard));
            for label in labels {
                let Some(segment) = label.segment() else {
                    all.insert((SERVFAIL, None));
                    continue;
                };
                for label in &published {
                    for service in &services {
                        all.insert(answer(segment, label.segment(), service.as_ref(), question.domain));
                    }
                }
            }
        }
        all
    }
}

/// R1, R11: what a caller of this segment is told of a Service that is published in that one.
fn answer(caller: usize, of: Option<usize>, service: Option<&Service>, domain: usize) -> (u8, Option<String>) {
    match service.filter(|_| of == Some(domain)) {
        Some(Service { scope: "global", ip }) => (NOERROR, Some(ip.clone())),
        Some(Service { scope: "segment", ip }) if caller == domain => (NOERROR, Some(ip.clone())),
        _ => (NXDOMAIN, None),
    }
}

/// Who asks for what, by numbers.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    pub address: usize,
    pub namespace: usize,
    pub service: usize,
    pub domain: usize,
}

impl Question {
    pub fn name(&self) -> String {
        format!("svc-{}.{}.{}", self.service, NAMESPACES[self.namespace], DOMAINS[self.domain])
    }
}
