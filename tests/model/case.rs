//! One mesh, one caller, some questions: everything that is wrong with what is answered.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::answer::Answer;
use super::ask;
use super::caller::pod_at;
use super::cut::{is_cut, limit};
use super::draw::{self, Dice};
use super::front::{Front, Got, Lab};
use super::judge::{alike, complaints, expected};
use super::live::{self, Round};
use super::mesh::{CLUSTER, Entry, Mesh, Object, is_in};
use super::rules::{Host, Model, Publisher, parent_of};
use super::wire::{CNAME, Query};

/// Questions that the caller of a case asks, and those that another caller asks before.
const QUESTIONS: usize = 20;
const OTHERS: usize = 6;

/// What is tried.
#[derive(Clone, Debug)]
pub struct Case {
    /// The mesh.
    pub mesh: Mesh,
    /// A published hostname that the caller does not see, to be taken out.
    pub hidden: Option<String>,
    /// Who asks.
    pub caller: IpAddr,
    /// Another one, who asks the first of the questions before: what it gets must change nothing.
    pub before: IpAddr,
    /// The questions.
    pub queries: Vec<Query>,
    /// What happens to the mesh after them.
    pub rounds: Vec<Round>,
}

/// What is wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which promise is broken.
    pub kind: Kind,
    /// Who asked; the question, if it is about one.
    pub asked: Option<(IpAddr, Query)>,
    /// In words.
    pub text: String,
}

/// The promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An answer is not the model's.
    Model,
    /// An answer differs without the hidden name.
    Swap,
    /// A name in a mesh zone reached the upstream.
    Leak,
    /// After changes an answer is not the one of a table from nothing.
    Stale,
}

/// What was tried, for those who want to know whether it was worth it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Meshes.
    pub meshes: u64,
    /// Answers that were held against the model's.
    pub answers: u64,
    /// Of these: with addresses, NXDOMAIN of our own, SERVFAIL, from upstreams.
    pub kinds: [u64; 4],
    /// Meshes with a hidden name taken out, and answers compared.
    pub swaps: u64,
    /// Pairs of answers with it and without it.
    pub pairs: u64,
    /// Pairs that may differ, because the rules let it (see [`touched`]), and do.
    pub excused: u64,
    /// Answers of a name further down in the caller's search list (`autopath`).
    pub completed: u64,
    /// Answers that were cut: at 512 octets, at more.
    pub cut: [u64; 2],
    /// Times that a mesh was changed and asked again.
    pub rounds: u64,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.meshes += other.meshes;
        self.answers += other.answers;
        self.swaps += other.swaps;
        self.pairs += other.pairs;
        self.excused += other.excused;
        self.completed += other.completed;
        self.rounds += other.rounds;
        for (all, more) in self.cut.iter_mut().zip(other.cut) {
            *all += more;
        }
        for (all, more) in self.kinds.iter_mut().zip(other.kinds) {
            *all += more;
        }
    }

    fn note(&mut self, want: &Answer) {
        self.answers += 1;
        match (want.rcode, want.aa) {
            (0, true) if !want.answers.is_empty() => self.kinds[0] += 1,
            (3, true) => self.kinds[1] += 1,
            (2, _) => self.kinds[2] += 1,
            (0 | 3, false) => self.kinds[3] += 1,
            _ => {}
        }
    }
}

impl Case {
    /// The case of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mesh = draw::mesh(&mut dice);
        // A caller from whom something is hidden is the better one.
        let mut caller = ask::caller(&mut dice, &mesh);
        let mut hidden = hidden_from(&mesh, caller);
        for _ in 0..3 {
            if hidden.is_empty() {
                caller = ask::caller(&mut dice, &mesh);
                hidden = hidden_from(&mesh, caller);
            }
        }
        let hidden = (!hidden.is_empty()).then(|| dice.pick(&hidden));
        let before = ask::caller(&mut dice, &mesh);
        let known = known(&mesh);
        let home = home(&mesh, caller);
        let mut queries: Vec<Query> = (0..QUESTIONS).map(|_| ask::query(&mut dice, &mesh, &known, home)).collect();
        if let Some(name) = &hidden {
            queries[OTHERS].name.clone_from(name);
            queries[OTHERS + 1].name = format!("{name}.shop.svc.{CLUSTER}");
        }
        let rounds = live::draw(&mut dice, &mesh, caller);
        Self { mesh, hidden, caller, before, queries, rounds }
    }

    /// Everything that is wrong.
    #[must_use]
    pub fn faults(&self, lab: &Lab, tally: &mut Tally) -> Vec<Fault> {
        let mut faults = Vec::new();
        let model = Model::new(&self.mesh);
        tally.meshes += 1;
        let _ = lab.asked();
        let mut front = lab.front(&self.mesh);
        for query in self.queries.iter().take(OTHERS) {
            check(&model, &mut front, self.before, query, tally, &mut faults);
        }
        let mut ask = |query| check(&model, &mut front, self.caller, query, tally, &mut faults);
        let with: Vec<Got> = self.queries.iter().map(&mut ask).collect();
        faults.extend(leaks(&model, lab));
        let mut mesh = self.mesh.clone();
        for round in &self.rounds {
            round.edits.iter().for_each(|edit| edit.apply(&mut mesh));
            live::faults(round, &mesh, lab, &mut front, tally, &mut faults);
        }
        if let Some(host) = self.hidden.as_ref().and_then(|name| hidden_host(&model, self.caller, name)) {
            tally.swaps += 1;
            self.swap(lab, (&model, host), &with, tally, &mut faults);
        }
        faults
    }

    /// The same questions to the mesh without what is hidden.
    fn swap(
        &self,
        lab: &Lab,
        (model, host): (&Model<'_>, &Host<'_>),
        with: &[Got],
        tally: &mut Tally,
        faults: &mut Vec<Fault>,
    ) {
        let mesh = without(&self.mesh, host);
        let model_without = Model::new(&mesh);
        let mut front = lab.front(&mesh);
        // The same history, so that what is in the cache is the same.
        for query in self.queries.iter().take(OTHERS) {
            front.ask(self.before, query, 7);
        }
        for (query, with) in self.queries.iter().zip(with) {
            tally.pairs += 1;
            if touched([model, &model_without], host, self.caller, query) {
                let got = check(&model_without, &mut front, self.caller, query, &mut Tally::default(), faults);
                tally.excused += u64::from(!alike(&got.answer, &with.answer));
                continue;
            }
            let got = front.ask(self.caller, query, 9);
            // What is in the cache others have asked for, and it may have been a hidden name's target. Names in mesh zones
            // take one path whatever is hidden.
            let in_zone = model.zone_of(&query.name.to_lowercase()).is_some();
            if !alike(&got.answer, &with.answer) || (in_zone && got.later != with.later) {
                let text = format!("without {}: {}\nwith it: {}", host.name, shown(&got), shown(with));
                faults.push(Fault { kind: Kind::Swap, asked: Some((self.caller, query.clone())), text });
            }
        }
        faults.extend(leaks(&model_without, lab));
    }
}

/// Asks one question, and tells what is wrong with its answer.
pub fn check(
    model: &Model<'_>,
    front: &mut Front<'_>,
    caller: IpAddr,
    query: &Query,
    tally: &mut Tally,
    faults: &mut Vec<Fault>,
) -> Got {
    let id = 0x1234;
    let got = front.ask(caller, query, id);
    let want = expected(model, caller, query);
    tally.note(&want);
    let forms = model.completions(&model.caller(caller), &query.name.to_lowercase());
    tally.completed += u64::from(want.answers.first().is_some_and(|r| r.rtype == CNAME && forms.contains(&r.data)));
    let mut whole = |over_tcp: &Query| front.ask(caller, over_tcp, id).answer;
    let bad = complaints(query, &query.packet(id), &got.answer, &want, &mut whole);
    if is_cut(&got.answer) {
        tally.cut[usize::from(limit(query) > 512)] += 1;
    }
    if !bad.is_empty() {
        let text = format!("{}\ngot    {}\nwanted {want:?}", bad.join("\n"), shown(&got));
        faults.push(Fault { kind: Kind::Model, asked: Some((caller, query.clone())), text });
    }
    got
}

/// An answer in words and octets.
#[must_use]
pub fn shown(got: &Got) -> String {
    let hex: String = got.answer.iter().map(|o| format!("{o:02x}")).collect();
    format!("{:?} ({}, {hex})", super::wire::parse(&got.answer), if got.later { "general path" } else { "hot path" })
}

/// Names in mesh zones that the upstream was asked for.
#[must_use]
pub fn leaks(model: &Model<'_>, lab: &Lab) -> Vec<Fault> {
    let leaked = lab.asked().into_iter().filter(|(name, _)| model.zone_of(name).is_some());
    let fault =
        |(name, rtype)| Fault { kind: Kind::Leak, asked: None, text: format!("upstream was asked {name} TYPE{rtype}") };
    leaked.map(fault).collect()
}

/// The namespace of the pod that asks.
#[must_use]
pub fn home(mesh: &Mesh, caller: IpAddr) -> Option<&str> {
    pod_at(&mesh.clusters[0], caller).map(|pod| &*pod.namespace)
}

/// Names that some segment sees, whichever.
#[must_use]
pub fn known(mesh: &Mesh) -> Vec<String> {
    let model = Model::new(mesh);
    let hosts = model.hosts.iter().map(|h| &h.name);
    hosts
        .chain(model.aliases.iter().map(|(name, _)| name))
        .chain(model.public.iter().map(|(name, _)| name))
        .cloned()
        .collect()
}

/// The hostnames that this caller does not see.
fn hidden_from(mesh: &Mesh, caller: IpAddr) -> Vec<String> {
    let model = Model::new(mesh);
    let names = model.hosts.iter().map(|h| h.name.clone());
    names.filter(|name| hidden_host(&model, caller, name).is_some()).collect()
}

/// A host, if it is there and hidden from the caller with all that the entries behind it list.
fn hidden_host<'a, 'm>(model: &'a Model<'m>, caller: IpAddr, name: &str) -> Option<&'a Host<'m>> {
    let caller = model.caller(caller);
    let seen = |h: &Host<'_>| caller.segment().is_some_and(|s| model.sees(s, h));
    let host = model.hosts.iter().find(|h| h.name == name && !seen(h))?;
    let listed: BTreeSet<String> = model
        .local()
        .entries()
        .filter(|e| is_behind(e, host))
        .flat_map(|e| &e.hosts)
        .map(|h| h.to_lowercase())
        .collect();
    (!model.hosts.iter().any(|h| listed.contains(&h.name) && seen(h))).then_some(host)
}

/// Whether an entry is of a host: it lists it, or was generated for a Service that publishes it.
fn is_behind(entry: &Entry, host: &Host<'_>) -> bool {
    let Some((_, name, namespace)) = parent_of(entry) else { return false };
    let of = |p: &Publisher<'_>| p.service.namespace == namespace && p.service.name == name;
    entry.hosts.iter().any(|h| h.to_lowercase() == host.name) || host.publishers.iter().any(of)
}

/// The mesh without all that stands behind a hostname: its Services in every cluster, their slices, its entries.
fn without(mesh: &Mesh, host: &Host<'_>) -> Mesh {
    let mut mesh = mesh.clone();
    for (ix, cluster) in mesh.clusters.iter_mut().enumerate() {
        let gone = |namespace: &str, name: &str| {
            let of = |p: &Publisher<'_>| p.service.namespace == namespace && p.service.name == name;
            host.publishers.iter().any(|p| p.cluster == ix && of(p))
        };
        cluster.objects.retain(|object| match object {
            Object::Service(s) => !gone(&s.namespace, &s.name),
            Object::Slice(s) => !gone(&s.namespace, &s.service),
            Object::Entry(e) => ix > 0 || !is_behind(e, host),
            _ => true,
        });
    }
    mesh
}

/// Whether the contract itself lets a hidden Service change what this caller is answered for this name:
///
/// - it is, or is below, the Service's name in the cluster domain, which is no secret but under R16; and even then a Service
///   that is here keeps a peer's label from taking its name over (R19);
/// - it is an alias that the Service asks for, or above one: R9 gives an alias to one Service, whoever asks;
/// - it is the hidden name itself, and another Service wants it as an alias, which R9 forbids as long as it is taken;
/// - it is one of these behind a search domain, or leads to one.
fn touched([with, without]: [&Model<'_>; 2], host: &Host<'_>, caller: IpAddr, query: &Query) -> bool {
    let ix = with.hosts.iter().position(|h| h.name == host.name).expect("it is one of them");
    let own: Vec<String> = with.aliases_of(ix).into_iter().map(|(_, name, _)| name).collect();
    let wanted = (0..with.hosts.len()).flat_map(|h| with.aliases_of(h)).any(|(_, alias, _)| alias == host.name);
    let caller = with.caller(caller);
    let is_touched = |name: &str| {
        let in_cluster = host.publishers.iter().any(|p| {
            let of = format!("{}.{}.svc.{CLUSTER}", p.service.name, p.service.namespace);
            is_in(name, &of) && (!with.mesh.policy.closed || with.is_open(&caller, &of))
        });
        in_cluster || own.iter().any(|alias| is_in(alias, name)) || (wanted && is_in(&host.name, name))
    };
    let name = query.name.to_lowercase();
    if with.taken_over(&caller, &name) != without.taken_over(&caller, &name) {
        return true;
    }
    let answers = [with, without].map(|m| m.answer(&caller, &name, query.rtype).answers);
    let links = answers.iter().flatten().filter(|r| r.rtype == CNAME).map(|r| &*r.data);
    let forms = with.completions(&caller, &name);
    let forms = forms.iter().map(String::as_str).chain(with.search_form(&caller, &name));
    links.chain([&*name]).chain(forms).any(is_touched)
}
