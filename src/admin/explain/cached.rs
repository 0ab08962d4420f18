//! What the cache holds of a name that is forwarded (R23): looked at, not used.

use hickory_proto::op::Message;

use super::{Scene, Story};
use crate::dns::cache::{Cache, Look, Question, STALE_TTL, State};
use crate::dns::count::{Source, rcode_word};
use crate::table::key::Key;

/// An answer in the cache, as one without DO and CD would be given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// [`Source::Cache`], or [`Source::Stale`] for one that is over its time.
    pub source: Source,
    /// The response code.
    pub rcode: &'static str,
    /// Type and RDATA of the answer section where they are not of the type asked for; only RDATA where they are.
    pub answers: Vec<String>,
    /// Seconds that it may be kept by who gets it now.
    pub ttl: u32,
}

/// What the cache holds of a question; nothing is counted as a use.
#[must_use]
pub fn look(cache: &Cache, key: &Key, rtype: u16) -> Option<Remembered> {
    let question = Question { name: key.span(key.all()), rtype, dnssec_ok: false, checking_disabled: false };
    let loaded = cache.load(&question, false, cache.now(), Look::Peek)?;
    let found = loaded.found();
    let stale = matches!(found.state, State::Stale { .. });
    let name = [key.span(key.all()), &[0]].concat();
    let message = found.message(&name, rtype, stale).and_then(|message| Message::from_vec(message.wire()).ok());
    let answers = message.map(|message| {
        let told = |record: &hickory_proto::rr::Record| match u16::from(record.record_type()) {
            own if own == rtype => record.data.to_string(),
            _ => format!("{} {}", record.record_type(), record.data),
        };
        message.answers.iter().map(told).collect()
    });
    Some(Remembered {
        source: if stale { Source::Stale } else { Source::Cache },
        rcode: rcode_word(found.rcode()),
        answers: answers.unwrap_or_default(),
        ttl: if stale { STALE_TTL } else { u32::try_from(found.remaining().as_secs()).unwrap_or(u32::MAX) },
    })
}

/// Tells what the cache holds of a question.
pub(super) fn tell(scene: Scene<'_>, story: &mut Story, key: &Key) {
    let Some(Remembered { source, rcode, answers, ttl }) = (scene.cached)(key) else { return };
    let what = if answers.is_empty() { String::new() } else { format!(" {}", answers.join(", ")) };
    story.say(match source {
        Source::Stale => format!(
            "The cache holds {rcode}{what}, which is over its time: an upstream is asked first, and this is given if none \
             answers soon (R23)."
        ),
        _ => format!("The cache holds {rcode}{what}, for another {ttl} s (R23)."),
    });
}
