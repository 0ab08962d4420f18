//! The general path: what the hot path does not write from prebuilt parts, on tokio and hickory.
//!
//! It takes the same decisions over the same table as the hot path, after waiting for a newer one where the decision
//! says so, and writes the same octets wherever both could answer.

mod autopath;
mod chase;
mod errand;
mod filter;
mod render;

use std::net::SocketAddr;

use hickory_server::proto::rr::rdata::TXT;
use hickory_server::proto::rr::{DNSClass, RData, Record};
use tokio::time::Instant as Deadline;

use crate::moment::Moment;
use crate::table::Caller;
use crate::table::Table;
use crate::table::decide::{Decision, Forward, Question, Reason, Verdict, decide};
use crate::table::key::Key;
use crate::table::zone::ZoneKind;

use super::count::Source;
use super::forward::{self, Asker, Failure, Message};
use super::listen::Transport;
use super::log::Line;
use super::query::{self, Query, Read, flag, rcode};
use super::reply::{self, Asked, ede};
use super::resolve::Answer;
use super::serve::{Server, asked_name, code_of, count_hidden, holds};

use render::{Draft, name_of};

/// The type of the records that name what has an address.
const PTR: u16 = 12;

/// One query on the general path.
pub(super) struct Job<'p> {
    pub(super) asked: Asked<'p>,
    pub(super) from: SocketAddr,
    pub(super) transport: Transport,
    /// When it came.
    pub(super) began: Moment,
}

/// A query, the world it is answered in, and who asks.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    job: &'a Job<'a>,
    table: &'a Table,
    caller: &'a Caller,
}

/// A query's question as it goes upstream under some name.
fn upstream_query<'n>(query: &Query, name: &'n [u8]) -> forward::Query<'n> {
    let set = |bit: u16| query.flags & bit != 0;
    forward::Query {
        name,
        rtype: query.rtype,
        class: query.class,
        recursion_desired: set(flag::RD),
        checking_disabled: set(flag::CD),
        authentic_data: set(flag::AD),
        edns: query.edns.map(|e| e.dnssec_ok),
    }
}

/// Why a reverse name is not asked for as it was asked (R16).
enum Reverse {
    /// It does not exist for the caller.
    Nothing(Source),
    /// What its PTR records name cannot be told.
    Unreadable(Source),
    /// They could not be had.
    Failed(Failure),
}

/// What became of a query.
struct Done {
    reply: Vec<u8>,
    reason: Reason,
    source: Source,
}

impl Done {
    fn new(reply: Vec<u8>, reason: Reason) -> Self {
        Self { reply, reason, source: Source::of(reason) }
    }

    /// What an upstream's answer decided.
    fn from(self, source: Source) -> Self {
        Self { source, ..self }
    }
}

impl Server {
    /// Answers a packet that the hot path left over. `None` if it gets no answer.
    pub(super) async fn general(&self, packet: Vec<u8>, from: SocketAddr, transport: Transport) -> Option<Vec<u8>> {
        let (began, mut key) = (Moment::now(), Key::default());
        let read = query::read(&packet, &mut key);
        let (Read::Ask(query) | Read::Chaos(query) | Read::Refuse(query, _)) = &read else { return None };
        let asked = Asked { packet: &packet, query, key: &key, limit: query.limit(transport == Transport::Tcp) };
        let job = Job { asked, from, transport, began };
        let done = match read {
            Read::Refuse(_, code) => job.bare(code, None, Reason::Protocol),
            Read::Chaos(_) => self.chaos(&job),
            Read::Ask(_) | Read::Ignore => self.ask(&job).await,
        };
        self.finish(&job, done)
    }

    fn finish(&self, job: &Job<'_>, done: Done) -> Option<Vec<u8>> {
        let code = code_of(&done.reply);
        self.general.response(job.transport, code, done.source, done.reason, done.reply.len());
        let now = Moment::now();
        self.general.took(done.source, 1, now.nanos_since(job.began));
        self.sample(job, now, code, done.reason);
        if self.logs() {
            self.log(&Line {
                asked: &job.asked,
                from: job.from,
                transport: job.transport,
                code,
                source: done.source,
                reason: done.reason,
                took: Some(now - job.began),
            });
        }
        Some(done.reply).filter(|reply| !reply.is_empty())
    }

    /// Of two at the same moment one is not looked at: nobody waits for a sample.
    fn sample(&self, job: &Job<'_>, now: Moment, code: u16, reason: Reason) {
        let Ok(mut sampler) = self.sampler.try_lock() else { return };
        sampler.tick(now);
        if sampler.counts_down() {
            let mut key = Key::default();
            // Whoever has only passed it on has not read it.
            let _ = key.read(job.asked.query.name(job.asked.packet));
            let asked = Asked { key: &key, ..job.asked };
            sampler.take(asked_name(&asked, reason), job.from.ip(), code as u8);
        }
    }

    async fn ask(&self, job: &Job<'_>) -> Done {
        let deadline = Deadline::now() + self.options.load().identity_hold;
        let mut bell = self.snapshot.bell();
        loop {
            bell.borrow_and_update();
            let table = self.snapshot.load();
            let caller = table.callers.find(job.from.ip());
            let question = Question::new(&table, job.asked.key, job.asked.query.rtype);
            let decision = decide(&table, &caller, question);
            if holds(&decision.verdict)
                && tokio::time::timeout_at(deadline, bell.changed()).await.is_ok_and(|r| r.is_ok())
            {
                continue;
            }
            count_hidden(&self.general, &table, &caller, &decision);
            return self.answer(Scene { job, table: &table, caller: &caller }, &decision).await;
        }
    }

    async fn answer(&self, scene: Scene<'_>, decision: &Decision<'_>) -> Done {
        let Scene { job, table, .. } = scene;
        match decision.verdict {
            Verdict::Forward(how) => {
                let name = job.asked.query.name(job.asked.packet);
                match self.reverse(scene, decision, name, how).await {
                    None => self.forward(scene, decision, how).await,
                    Some(Reverse::Nothing(source)) => job.nothing(table, decision).from(source),
                    Some(Reverse::Unreadable(source)) => job.unreadable(source),
                    Some(Reverse::Failed(failure)) => job.failed(failure),
                }
            }
            Verdict::HoldThenForward => self.forward(scene, decision, Forward::of(table)).await,
            Verdict::Complete(how) => self.complete(scene, decision, how).await,
            Verdict::HoldThenFail => job.bare(rcode::SERVFAIL, reply::explains(decision.reason), decision.reason),
            Verdict::Addresses(_) | Verdict::NoData | Verdict::NxDomain | Verdict::ServFail => {
                job.decided(table, decision)
            }
            Verdict::Chain(..) | Verdict::Cname(_) | Verdict::Services(_) | Verdict::Apex | Verdict::Any => {
                let draft = self.draft(scene, decision).await;
                job.render(draft, decision.reason)
            }
        }
    }

    /// R23; with what R16 and R19 make of the upstream's answer.
    async fn forward(&self, scene: Scene<'_>, decision: &Decision<'_>, how: Forward) -> Done {
        let Scene { job, table, .. } = scene;
        let query = job.upstream_query(job.asked.query.name(job.asked.packet));
        let Answer { message, source } = match self.resolver.ask(&query, job.from.ip(), how.proof(job.asked.key)).await
        {
            Ok(answer) => answer,
            Err(failure) => return job.failed(failure),
        };
        let nxdomain = message.rcode() == rcode::NXDOMAIN;
        if how.exists && nxdomain {
            return job.decided(table, &Decision { verdict: Verdict::NoData, ..*decision }).from(source);
        }
        if how.filtered {
            match filter::judge(scene, decision, &message) {
                filter::Judged::Whole => {}
                filter::Judged::Nothing => return job.nothing(table, decision).from(source),
                filter::Judged::Part(draft) => return job.render(draft, decision.reason).from(source),
                filter::Judged::Unreadable => return job.unreadable(source),
            }
        }
        job.passed_on(&message, &query, decision.reason, source)
    }

    /// R16: whether a reverse name exists for the caller is told by its PTR records only, so these are asked for first,
    /// whatever the type. `None` if what was asked may be asked for, too.
    async fn reverse(&self, scene: Scene<'_>, decision: &Decision<'_>, name: &[u8], how: Forward) -> Option<Reverse> {
        let Scene { job, table, .. } = scene;
        let zone = decision.zone.filter(|_| how.filtered && job.asked.query.rtype != PTR)?;
        if table.zones.get(zone).kind != ZoneKind::Reverse {
            return None;
        }
        let query = forward::Query { rtype: PTR, ..job.upstream_query(name) };
        let Answer { message, source } = match self.resolver.ask(&query, job.from.ip(), None).await {
            Ok(answer) => answer,
            Err(failure) => return Some(Reverse::Failed(failure)),
        };
        match filter::judge_reverse(scene, decision, &message) {
            filter::Judged::Nothing => Some(Reverse::Nothing(source)),
            filter::Judged::Unreadable => Some(Reverse::Unreadable(source)),
            filter::Judged::Whole | filter::Judged::Part(_) => None,
        }
    }

    /// `version.bind` and the like (R24); everything else of that class is refused.
    fn chaos(&self, job: &Job<'_>) -> Done {
        let name = job.asked.key.text(job.asked.key.all());
        let text = match name.as_str() {
            "version.bind" => format!("segdns {}", env!("CARGO_PKG_VERSION")),
            "hostname.bind" | "id.server" => self.options.load().node.clone(),
            _ => String::new(),
        };
        let wanted = matches!(job.asked.query.rtype, 16 | 255);
        let owner = name_of(job.asked.query.name(job.asked.packet));
        let Some(owner) = owner.filter(|_| self.options.load().chaos && wanted && !text.is_empty()) else {
            return job.bare(rcode::REFUSED, None, Reason::Protocol);
        };
        let mut record = Record::from_rdata(owner, 0, RData::TXT(TXT::new(vec![text])));
        record.dns_class = DNSClass::CH;
        job.render(Draft { answers: vec![record], ..Draft::default() }, Reason::Protocol)
    }
}

impl Job<'_> {
    fn failed(&self, failure: Failure) -> Done {
        if failure == Failure::Loop {
            return self.bare(rcode::REFUSED, None, Reason::Loop);
        }
        tracing::debug!(name = %self.asked.key.text(self.asked.key.all()), %failure, "not forwarded");
        let reason = if failure == Failure::Busy { Reason::Overloaded } else { Reason::UpstreamFailed };
        self.bare(rcode::SERVFAIL, Some(ede::NO_REACHABLE_AUTHORITY), reason)
    }

    /// An upstream's answer that cannot be judged, and so is not passed on (R16).
    fn unreadable(&self, source: Source) -> Done {
        self.bare(rcode::SERVFAIL, Some(ede::NO_REACHABLE_AUTHORITY), Reason::UpstreamFailed).from(source)
    }

    /// No such name, whatever was decided.
    fn nothing(&self, table: &Table, decision: &Decision<'_>) -> Done {
        self.decided(table, &Decision { verdict: Verdict::NxDomain, ..*decision })
    }

    fn bare(&self, code: u16, ede: Option<u16>, reason: Reason) -> Done {
        let mut reply = vec![0; 512];
        let size = reply::bare(&self.asked, code, ede, &mut reply);
        reply.truncate(size);
        Done::new(reply, reason)
    }

    fn decided(&self, table: &Table, decision: &Decision<'_>) -> Done {
        let mut reply = vec![0; self.asked.limit];
        match reply::decided(table, decision, &self.asked, usize::from(rand::random::<u16>()), &mut reply) {
            Some(size) => {
                reply.truncate(size);
                Done::new(reply, decision.reason)
            }
            None => self.bare(rcode::SERVFAIL, None, decision.reason),
        }
    }

    fn render(&self, draft: Draft, reason: Reason) -> Done {
        match render::render(self, draft) {
            Some(reply) => Done::new(reply, reason),
            None => self.bare(rcode::SERVFAIL, None, reason),
        }
    }

    /// The question as it goes upstream under some name.
    fn upstream_query<'n>(&self, name: &'n [u8]) -> forward::Query<'n> {
        upstream_query(self.asked.query, name)
    }

    fn passed_on(&self, message: &Message, query: &forward::Query<'_>, reason: Reason, source: Source) -> Done {
        let id = u16::from_be_bytes([self.asked.packet[0], self.asked.packet[1]]);
        let error = (source == Source::Stale).then_some((ede::STALE, ""));
        let asker = Asker { id, limit: self.asked.limit, query, error };
        let mut reply = Vec::new();
        message.write(&asker, &mut reply);
        Done { reply, reason, source }
    }
}
