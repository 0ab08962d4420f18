//! `explain`: what a caller is answered, by which rule, from which object of which cluster, or what hides it.
//!
//! It takes the decision of the data path ([`decide`]) and tells the reason in sentences, one a line, from the objects
//! that the table was built from. Nothing is asked upstream.

mod absent;
mod answer;
pub mod cached;
mod cluster;
mod mesh;
mod outside;
mod who;

use std::str::FromStr;

use hickory_proto::rr::RecordType;
use serde::Serialize;

use super::asker::{Asker, AskerView};
use super::words::Told;
use crate::dns::count::Source;
use crate::mesh::name::Name;
use crate::mesh::report::ObjectRef;
use crate::mesh::world::World;
use crate::table::Table;
use crate::table::decide::{Decision, Question, Reason, Verdict, decide, rtype};
use crate::table::key::Key;
use crate::table::zone::ZoneKind;
use cached::Remembered;

/// Most links of a chain, as the general path has it.
const LINKS: usize = 8;
/// OPT: no type that can be asked for.
const TYPE_OPT: u16 = 41;

/// Where a name (wire, with root octet) is forwarded to: the zone of `forward`, and its upstreams in order.
pub type Upstreams<'a> = dyn Fn(&[u8]) -> Option<(String, Vec<String>)> + 'a;

/// What the cache holds of the question for a name.
pub type Cached<'a> = dyn Fn(&Key) -> Option<Remembered> + 'a;

/// What the node's files, the configuration and the cache say beside objects.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// Where names are forwarded to.
    pub upstreams: &'a Upstreams<'a>,
    /// The node's search domains.
    pub searches: &'a [Name],
    /// What upstreams have said.
    pub cached: &'a Cached<'a>,
}

/// What is told, as JSON shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The name, folded.
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// Who asks.
    pub caller: AskerView,
    /// The response code; absent if an upstream decides it.
    pub rcode: Option<&'static str>,
    /// RDATA of the answers of the asked type, and `CNAME target` for each link of a chain before them.
    pub answers: Vec<String>,
    /// Seconds that the answer, or its absence, may be kept; absent for failures and what an upstream decides.
    pub ttl: Option<u32>,
    /// `table`, `cache`, `stale`, `upstream` or `none`
    pub source: &'static str,
    /// The rule of the contract that decides.
    pub rule: &'static str,
    /// The word of metrics and logs.
    pub reason: &'static str,
    /// Why, for people: a sentence a line.
    pub text: String,
    /// The objects that decided it.
    pub objects: Vec<ObjectRef>,
}

/// A question.
#[derive(Clone)]
pub struct Asked {
    key: Key,
    rtype: u16,
    word: String,
}

impl Asked {
    /// Reads a name, with or without a trailing dot, and a type (`A`, `SRV`, `TYPE65`, ...).
    ///
    /// # Errors
    /// One line that says what is wrong and what is allowed.
    pub fn parse(name: &str, rtype: &str) -> Result<Self, String> {
        let key = Key::from_text(name).filter(|_| !name.is_empty());
        let key = key.ok_or_else(|| format!("name {name:?} is no DNS name: labels of 1 to 63 octets, 253 in all"))?;
        let upper = rtype.to_ascii_uppercase();
        let number = upper.strip_prefix("TYPE").and_then(|n| n.parse::<u16>().ok());
        let known = || RecordType::from_str(&upper).ok().map(u16::from);
        let rtype = number.or_else(known).ok_or_else(|| {
            format!("type {rtype:?} is no record type: write A, AAAA, SRV, TXT and the like, or TYPE65 for a number")
        })?;
        let word = match RecordType::from(rtype) {
            RecordType::Unknown(number) => format!("TYPE{number}"),
            word => word.to_string(),
        };
        Ok(Self { key, rtype, word })
    }

    /// The type's number.
    #[must_use]
    pub fn rtype(&self) -> u16 {
        self.rtype
    }
}

/// What everything is told from: objects and table of one moment, who asks, and where forwarding goes.
#[derive(Clone, Copy)]
struct Scene<'a> {
    world: &'a World,
    table: &'a Table,
    asker: &'a Asker,
    upstreams: &'a Upstreams<'a>,
    searches: &'a [Name],
    cached: &'a Cached<'a>,
    rtype: u16,
    word: &'a str,
}

/// The telling: sentences and the objects they are about, in order.
#[derive(Debug, Default)]
struct Story {
    lines: Vec<String>,
    objects: Vec<ObjectRef>,
    rule: Option<&'static str>,
}

impl Story {
    fn say(&mut self, line: impl Into<String>) {
        let line = line.into();
        if !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }

    /// The rule that decides; the first one told stays.
    fn rule(&mut self, rule: &'static str) {
        self.rule.get_or_insert(rule);
    }

    fn about(&mut self, objects: impl IntoIterator<Item = ObjectRef>) {
        for object in objects {
            if !self.objects.contains(&object) {
                self.objects.push(object);
            }
        }
    }

    /// Takes a clause's objects, and gives its text.
    fn take(&mut self, told: Told) -> String {
        self.about(told.objects);
        told.text
    }
}

/// Explains. See the module's page.
#[must_use]
pub fn explain(world: &World, table: &Table, outside: Outside<'_>, asker: &Asker, asked: &Asked) -> Explanation {
    let Outside { upstreams, searches, cached } = outside;
    let scene = Scene { world, table, asker, upstreams, searches, cached, rtype: asked.rtype, word: &asked.word };
    let mut out = Explanation {
        name: asked.key.text(asked.key.all()),
        rtype: asked.word.clone(),
        caller: asker.view(world),
        rcode: None,
        answers: Vec::new(),
        ttl: None,
        source: Source::None.word(),
        rule: Reason::Protocol.rule(),
        reason: Reason::Protocol.word(),
        text: String::new(),
        objects: Vec::new(),
    };
    if let Some((code, why)) = protocol(asked.rtype) {
        out.rcode = Some(code);
        out.text = why.to_owned();
        return out;
    }
    let mut story = Story::default();
    chain(scene, asked, &mut out, &mut story);
    out.text = story.lines.join("\n");
    out.objects = story.objects;
    out.rule = story.rule.unwrap_or(out.rule);
    out
}

/// Follows CNAMEs through the decision, as the data path does.
fn chain(scene: Scene<'_>, asked: &Asked, out: &mut Explanation, story: &mut Story) {
    let mut key = asked.key.clone();
    for link in 0..=LINKS {
        let decision = decide(scene.table, &scene.asker.caller, Question::new(scene.table, &key, asked.rtype));
        if link == 0 {
            out.reason = decision.reason.word();
            out.source = Source::of(decision.reason).word();
            out.rule = decision.reason.rule();
        }
        tell(scene, story, &key, &decision);
        let given = answer::answer(scene, &key, &decision);
        (out.rcode, out.ttl) = (given.rcode, given.ttl);
        out.answers.extend(given.answers);
        if link == 0
            && matches!(decision.verdict, Verdict::Forward(how) if !how.exists && !how.filtered)
            && let Some(kept) = (scene.cached)(&key)
        {
            (out.rcode, out.source, out.answers) = (Some(kept.rcode), kept.source.word(), kept.answers);
            out.ttl = Some(kept.ttl);
        }
        if out.rcode == Some("SERVFAIL") {
            out.answers.clear();
        }
        let Some(next) = given.next.and_then(|wire| Key::from_wire(&wire)) else { return };
        key = next;
    }
    story.say(format!("The chain has over {LINKS} links, so it is a loop: SERVFAIL (R6). Correct spec.externalName."));
    (out.rcode, out.ttl) = (Some("SERVFAIL"), None);
    out.answers.clear();
}

/// R24: types that are refused before any name is looked at.
fn protocol(rtype: u16) -> Option<(&'static str, &'static str)> {
    match rtype {
        rtype::AXFR | rtype::IXFR => Some(("REFUSED", "Zones are not transferred: REFUSED for every name (R24).")),
        TYPE_OPT => Some(("FORMERR", "OPT is no type that can be asked for: FORMERR for every name (R24).")),
        _ => None,
    }
}

/// One link of the chain.
fn tell(scene: Scene<'_>, story: &mut Story, key: &Key, decision: &Decision<'_>) {
    let zone = scene.table.classify(key, key.all()).0;
    match zone.map(|z| scene.table.zones.get(z).kind) {
        Some(ZoneKind::Mesh(_)) => mesh::tell(scene, story, &key.text(key.all()), decision),
        Some(ZoneKind::Cluster) => cluster::tell(scene, story, key, decision),
        Some(ZoneKind::Reverse) | None => outside::tell(scene, story, key, decision),
    }
    if let Verdict::Cname(target) = decision.verdict {
        let target = crate::table::key::text_of(target);
        story.say(format!("It is a CNAME to {target}, which is judged for the same caller:"));
    }
}

/// A name as the rules have it; names with octets that no host name has are none.
fn name_of(text: &str) -> Option<Name> {
    Name::parse(text).ok()
}
