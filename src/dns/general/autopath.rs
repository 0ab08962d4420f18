//! `autopath`: the rest of a pod's search list, walked here, so that its look-up costs it one question.
//!
//! Every name on the way is decided for the same caller as if it had asked for it, so visibility comes first, and the
//! upstream is asked for a hidden name as seldom as for an absent one. What is put together here is never kept: the answers
//! it is made of are, by those who keep any.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::render::Draft;
use super::{Done, Scene};
use crate::dns::query::rcode;
use crate::dns::serve::Server;
use crate::table::autopath::candidates;
use crate::table::decide::{Decision, Forward, Question, Reason, Verdict, decide};
use crate::table::key::Key;

/// After so long no further name is tried: the caller's own search goes on before it loses patience.
const TRY: Duration = Duration::from_secs(2);
/// After so long it ends (R23).
const WHOLE: Duration = Duration::from_secs(4);

impl Server {
    /// Answers a question that may be completed: what was asked, if it exists; else the first name of the search list that
    /// does, behind a CNAME. If none does, or one cannot be told, what was asked does not exist, so that the caller's
    /// resolver goes on by itself.
    pub(super) async fn complete(&self, scene: Scene<'_>, decision: &Decision<'_>, how: Option<Forward>) -> Done {
        let begun = Instant::now();
        let plain = decision.plain();
        let done = match how {
            Some(how) => self.forward(scene, &plain, how).await,
            None => scene.job.decided(scene.table, &plain),
        };
        if !is_bare_nxdomain(&done.reply) {
            return done;
        }
        match timeout_at(begun + WHOLE, self.walk(scene, begun)).await {
            Ok(Some((draft, reason))) => scene.job.render(draft, reason),
            Ok(None) | Err(_) => done,
        }
    }

    /// The first name of the search list that exists, and by what reason.
    async fn walk(&self, scene: Scene<'_>, begun: Instant) -> Option<(Draft, Reason)> {
        let Scene { job, table, caller } = scene;
        let asked = job.asked.query.name(job.asked.packet);
        let mut key = Key::default();
        for name in candidates(table, caller, job.asked.key, asked, &self.resolver.search_domains()) {
            if begun.elapsed() > TRY || key.read(&name).is_none() {
                return None;
            }
            let decision = decide(table, caller, Question::new(table, &key, job.asked.query.rtype)).plain();
            let mut draft =
                Draft { authoritative: !matches!(decision.verdict, Verdict::Forward(_)), ..Draft::default() };
            self.follow(scene, &decision, name.clone(), &mut draft).await;
            match draft.code {
                rcode::NXDOMAIN => {}
                rcode::NOERROR => {
                    draft.lead(table, asked, &name);
                    return Some((draft, decision.reason));
                }
                _ => return None,
            }
        }
        None
    }
}

/// Whether a reply says that nothing at all is there: no such name, and no alias that leads to none.
fn is_bare_nxdomain(reply: &[u8]) -> bool {
    reply.get(3).is_some_and(|code| u16::from(code & 0xf) == rcode::NXDOMAIN) && reply.get(6..8) == Some(&[0, 0])
}
